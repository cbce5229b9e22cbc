//! One object's JSON to the object, whatever brought it: a manifest or the API server.

use serde_json::Value;

use super::object::{Id, Kind, Object};
use super::problem::{Field, Invalid};
use super::yaml;
use super::{calico, kubernetes_policy, node, pod, service, validate};
use crate::state::Name;
use crate::state::policy::{Policy, PolicyKind};

/// The object, and what of it is not in force as written.
pub(crate) type Read = (Object, Vec<Invalid>);

/// What tells the object from others. `text` gives the string at a path, if there is one.
pub(crate) fn identify<'a>(kind: Kind, text: impl Fn(&[&str]) -> Option<&'a str>) -> Result<Id, Invalid> {
    let metadata = Field::Root.key("metadata");
    let name =
        text(&["metadata", "name"]).ok_or_else(|| metadata.key("name").invalid("is required, a string"))?;
    validate::name(&metadata.key("name"), name)?;
    let name = if is_tiered(kind) {
        let annotation = text(&["metadata", "annotations", calico::METADATA_ANNOTATION]);
        calico::policy_name(name, text(&["apiVersion"]), annotation, text(&["spec", "tier"]))?
    } else {
        name.to_owned()
    };
    if !kind.is_namespaced() {
        return Ok(Id { kind, name: Name::new("", name) });
    }
    let namespace = text(&["metadata", "namespace"]).unwrap_or("default");
    validate::name(&metadata.key("namespace"), namespace)?;
    Ok(Id { kind, name: Name::new(namespace, name) })
}

/// Whether the kind's names may begin with the tier's.
pub(crate) fn is_tiered(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Policy(
            PolicyKind::CalicoNetworkPolicy
                | PolicyKind::GlobalNetworkPolicy
                | PolicyKind::StagedNetworkPolicy
                | PolicyKind::StagedGlobalNetworkPolicy
        )
    )
}

/// Reads an object of the kind and the name that `id` says.
pub(crate) fn read(value: Value, id: &Id) -> Result<Read, Invalid> {
    let object = match id.kind {
        Kind::Policy(kind) => return read_policy(value, kind, &id.name),
        Kind::NetworkSet | Kind::GlobalNetworkSet => {
            let (set, in_part) = calico::network_set(yaml::read(value)?)?;
            return Ok((Object::NetworkSet(set.into()), in_part));
        }
        Kind::Namespace => Object::Namespace(node::namespace(yaml::read(value)?)?.into()),
        Kind::Node => Object::Node(node::node(yaml::read(value)?)?.into()),
        Kind::Pod => Object::Pod(pod::pod(yaml::read(value)?)?.into()),
        Kind::Service => Object::Service(service::service(yaml::read(value)?)?.into()),
        Kind::EndpointSlice => Object::EndpointSlice(service::endpoint_slice(yaml::read(value)?)?.into()),
        Kind::ServiceAccount => Object::ServiceAccount(node::service_account(yaml::read(value)?)?.into()),
        Kind::Tier => Object::Tier(calico::tier(&yaml::read(value)?, &id.name.name)?.into()),
        Kind::HostEndpoint => Object::HostEndpoint(calico::host_endpoint(yaml::read(value)?)?.into()),
        Kind::IpPool => Object::IpPool(calico::ip_pool(&yaml::read(value)?)?.into()),
        Kind::BlockAffinity => Object::BlockAffinity(calico::block_affinity(yaml::read(value)?)?.into()),
        Kind::FelixConfiguration => {
            Object::FelixConfiguration(calico::felix_configuration(&yaml::read(value)?)?.into())
        }
        Kind::IpamBlock => Object::IpamBlock(calico::ipam_block(&yaml::read(value)?)?.into()),
    };
    Ok((object, Vec::new()))
}

fn read_policy(value: Value, kind: PolicyKind, name: &Name) -> Result<Read, Invalid> {
    let namespace = name.namespace.as_str();
    let (policy, in_part) = match kind {
        PolicyKind::NetworkPolicy => whole(kubernetes_policy::network_policy(yaml::read(value)?, namespace)?),
        PolicyKind::ClusterNetworkPolicy => kubernetes_policy::cluster_network_policy(&yaml::read(value)?)?,
        PolicyKind::AdminNetworkPolicy => kubernetes_policy::admin_network_policy(&yaml::read(value)?)?,
        PolicyKind::BaselineAdminNetworkPolicy => {
            kubernetes_policy::baseline_admin_network_policy(&yaml::read(value)?, &name.name)?
        }
        PolicyKind::CalicoNetworkPolicy => whole(calico::network_policy(&yaml::read(value)?, namespace)?),
        PolicyKind::GlobalNetworkPolicy => whole(calico::global_network_policy(&yaml::read(value)?)?),
        PolicyKind::StagedNetworkPolicy => {
            whole(calico::staged_network_policy(&yaml::read(value)?, namespace)?)
        }
        PolicyKind::StagedGlobalNetworkPolicy => {
            whole(calico::staged_global_network_policy(&yaml::read(value)?)?)
        }
        PolicyKind::StagedKubernetesNetworkPolicy => {
            whole(calico::staged_kubernetes_network_policy(&yaml::read(value)?, namespace)?)
        }
    };
    Ok((Object::Policy(kind, policy.into()), in_part))
}

fn whole(policy: Policy) -> (Policy, Vec<Invalid>) {
    (policy, Vec::new())
}
