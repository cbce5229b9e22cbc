//! Pod.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1 as core;

use super::problem::{Field, Invalid};
use super::validate;
use crate::state::{Pod, PodPort};

type Annotations = BTreeMap<String, String>;

/// Prefix of the annotations that Calico's CNI plugin writes, before the kubelet reports anything.
pub(crate) const CNI_PREFIX: &str = "cni.projectcalico.org/";
/// The pod's address as a CIDR; empty once the plugin has taken it back.
const CNI_ADDRESS: &str = "cni.projectcalico.org/podIP";
/// All its addresses, with commas between.
const CNI_ADDRESSES: &str = "cni.projectcalico.org/podIPs";

pub(super) fn pod(object: core::Pod) -> Result<Pod, Invalid> {
    let metadata = object.metadata;
    let status = object.status.unwrap_or_default();
    let spec = object.spec.unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    let terminating = metadata.deletion_timestamp.is_some();
    validate::labels(&Field::Root.key("metadata").key("labels"), &labels)?;
    Ok(Pod {
        labels: labels.into(),
        service_account: service_account(&spec),
        finished: has_ended(&status) || terminating && is_given_back(&annotations),
        terminating,
        created: metadata.creation_timestamp.map_or(0, |time| time.0.as_second()),
        addresses: addresses(&status, &annotations)?,
        ports: ports(&spec)?,
        host_network: spec.host_network.unwrap_or(false),
        node: spec.node_name.unwrap_or_default(),
    })
}

/// The API server's default; `serviceAccount` is the field's old name.
fn service_account(spec: &core::PodSpec) -> String {
    let mut named = [&spec.service_account_name, &spec.service_account].into_iter().flatten();
    named.find(|name| !name.is_empty()).map_or_else(|| "default".to_owned(), Clone::clone)
}

/// Calico knows a phase more than Kubernetes has (`IsFinished` in libcalico-go's `conversion.go`).
fn has_ended(status: &core::PodStatus) -> bool {
    matches!(status.phase.as_deref(), Some("Succeeded" | "Failed" | "Completed"))
}

/// Whether the address went back to its pool while the pod was still ending: another may have it.
fn is_given_back(annotations: &Annotations) -> bool {
    annotations.get(CNI_ADDRESS).is_some_and(String::is_empty)
}

/// What the kubelet reports, else what the CNI plugin has noted: its pod sends before the kubelet has said anything.
fn addresses(status: &core::PodStatus, annotations: &Annotations) -> Result<Vec<IpAddr>, Invalid> {
    let field = Field::Root.key("status");
    let mut addresses = Vec::new();
    let list = field.key("podIPs");
    for (i, entry) in status.pod_ips.iter().flatten().enumerate() {
        addresses.push(validate::address(&list.index(i).key("ip"), &entry.ip)?);
    }
    if let (true, Some(ip)) = (addresses.is_empty(), status.pod_ip.as_ref().filter(|ip| !ip.is_empty())) {
        addresses.push(validate::address(&field.key("podIP"), ip)?);
    }
    if addresses.is_empty() { noted(annotations) } else { Ok(addresses) }
}

fn noted(annotations: &Annotations) -> Result<Vec<IpAddr>, Invalid> {
    let written = |key: &'static str| Some((key, annotations.get(key).filter(|text| !text.is_empty())?));
    let Some((key, text)) = written(CNI_ADDRESSES).or_else(|| written(CNI_ADDRESS)) else {
        return Ok(Vec::new());
    };
    let field = Field::Root.key("metadata");
    let field = field.key("annotations");
    let address = |text: &str| {
        let net = text.trim().parse::<IpNet>().map(|net| net.addr());
        net.map_err(|_| {
            field.key(key).invalid(format!("{} is no address with a prefix length", validate::shown(text)))
        })
    };
    text.split(',').map(address).collect()
}

/// Ports of the containers, then of the init containers that go on running (sidecars, `restartPolicy: Always`).
fn ports(spec: &core::PodSpec) -> Result<Vec<PodPort>, Invalid> {
    let field = Field::Root.key("spec");
    let mut ports = Vec::new();
    for (i, container) in spec.containers.iter().enumerate() {
        declared(&field.key("containers").index(i), container, &mut ports)?;
    }
    for (i, container) in spec.init_containers.iter().flatten().enumerate() {
        if container.restart_policy.as_deref() == Some("Always") {
            declared(&field.key("initContainers").index(i), container, &mut ports)?;
        }
    }
    Ok(ports)
}

fn declared(field: &Field<'_>, container: &core::Container, ports: &mut Vec<PodPort>) -> Result<(), Invalid> {
    let list = field.key("ports");
    for (i, port) in container.ports.iter().flatten().enumerate() {
        let field = list.index(i);
        let name = port.name.clone().unwrap_or_default();
        if !name.is_empty() {
            validate::port_name(&field.key("name"), &name)?;
        }
        let protocol = validate::protocol(&field.key("protocol"), port.protocol.as_deref())?;
        let port = validate::port(&field.key("containerPort"), port.container_port)?;
        ports.push(PodPort { name, protocol, port });
    }
    Ok(())
}
