//! IPPool, BlockAffinity and IPAMBlock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::Resource;
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::{self, shown};
use crate::state::{BlockAffinity, IpPool, IpamBlock, TunnelMode};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct IpPoolSpec {
    cidr: String,
    ipip_mode: Option<String>,
    vxlan_mode: Option<String>,
    disabled: Option<bool>,
}

#[derive(Debug, Deserialize)]
pub(in crate::manifest) struct BlockAffinitySpec {
    cidr: String,
    node: String,
    state: Option<String>,
    /// `host`, or `virtual` for what is no node.
    #[serde(rename = "type")]
    kind: Option<String>,
    deleted: Option<Flag>,
}

/// A boolean that `crd.projectcalico.org/v1` writes as a string.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Flag {
    Bool(bool),
    Text(String),
}

#[derive(Debug, Deserialize)]
pub(in crate::manifest) struct IpamBlockSpec {
    cidr: String,
    affinity: Option<String>,
    /// By position of the address in the block: the index of its attributes, or null where it is free.
    #[serde(default)]
    allocations: Vec<Option<usize>>,
    #[serde(default)]
    attributes: Vec<AllocationAttribute>,
    /// A block on its way out, which counts for nothing.
    deleted: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct AllocationAttribute {
    /// `node`, `namespace`, `pod` and others.
    secondary: Option<BTreeMap<String, String>>,
}

pub(in crate::manifest) fn ip_pool(object: &Resource<IpPoolSpec>) -> Result<IpPool, Invalid> {
    let spec = &object.spec;
    let field = Field::Root.key("spec");
    let cidr = validate::cidr(&field.key("cidr"), &spec.cidr)?;
    let ipip = tunnel_mode(&field.key("ipipMode"), spec.ipip_mode.as_deref())?;
    let vxlan = tunnel_mode(&field.key("vxlanMode"), spec.vxlan_mode.as_deref())?;
    if ipip != TunnelMode::Never && vxlan != TunnelMode::Never {
        return Err(field.key("vxlanMode").invalid("ipipMode is set too: one of them must be Never"));
    }
    if ipip != TunnelMode::Never && cidr.addr().is_ipv6() {
        return Err(field
            .key("ipipMode")
            .invalid("IP-in-IP carries IPv4 alone: must be Never for an IPv6 pool"));
    }
    Ok(IpPool { cidr, ipip, vxlan, disabled: spec.disabled.unwrap_or(false) })
}

fn tunnel_mode(field: &Field<'_>, text: Option<&str>) -> Result<TunnelMode, Invalid> {
    match text {
        None | Some("" | "Never") => Ok(TunnelMode::Never),
        Some("Always") => Ok(TunnelMode::Always),
        Some("CrossSubnet") => Ok(TunnelMode::CrossSubnet),
        Some(other) => Err(field.invalid(format!("{} is none of Never, Always, CrossSubnet", shown(other)))),
    }
}

pub(in crate::manifest) fn block_affinity(
    object: Resource<BlockAffinitySpec>,
) -> Result<BlockAffinity, Invalid> {
    let spec = object.spec;
    let deleted = match &spec.deleted {
        Some(Flag::Bool(deleted)) => *deleted,
        Some(Flag::Text(text)) => text == "true",
        None => false,
    };
    // Calico always writes the state; one written by hand without it is meant as it stands.
    let is_confirmed = matches!(spec.state.as_deref(), None | Some("" | "confirmed"));
    let is_host = matches!(spec.kind.as_deref(), None | Some("" | "host"));
    Ok(BlockAffinity {
        cidr: validate::cidr(&Field::Root.key("spec").key("cidr"), &spec.cidr)?,
        node: spec.node,
        void: deleted || !is_confirmed || !is_host,
    })
}

pub(in crate::manifest) fn ipam_block(object: &Resource<IpamBlockSpec>) -> Result<IpamBlock, Invalid> {
    let spec = &object.spec;
    let field = Field::Root.key("spec");
    let cidr = validate::cidr(&field.key("cidr"), &spec.cidr)?;
    if spec.deleted == Some(true) {
        return Ok(IpamBlock { cidr, affinity: None, allocations: Vec::new() });
    }
    let list = field.key("allocations");
    let mut allocations = Vec::new();
    for (ordinal, attribute) in spec.allocations.iter().enumerate() {
        let Some(attribute) = attribute else { continue };
        let field = list.index(ordinal);
        let address = nth_address(cidr, ordinal)
            .ok_or_else(|| field.invalid(format!("lies outside of the block {cidr}")))?;
        let attribute = spec.attributes.get(*attribute).ok_or_else(|| {
            let known = spec.attributes.len();
            field.invalid(format!("names attributes[{attribute}], but there are {known}"))
        })?;
        let node = attribute.secondary.as_ref().and_then(|secondary| secondary.get("node"));
        allocations.push((address, node.cloned()));
    }
    let host = spec.affinity.as_deref().and_then(|affinity| affinity.strip_prefix("host:"));
    Ok(IpamBlock { cidr, affinity: host.map(str::to_owned), allocations })
}

fn nth_address(cidr: IpNet, ordinal: usize) -> Option<IpAddr> {
    let address = match cidr.network() {
        IpAddr::V4(base) => IpAddr::V4(base.to_bits().checked_add(u32::try_from(ordinal).ok()?)?.into()),
        IpAddr::V6(base) => IpAddr::V6(base.to_bits().checked_add(ordinal as u128)?.into()),
    };
    cidr.contains(&address).then_some(address)
}
