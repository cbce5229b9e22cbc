//! Addresses that a packet cannot have, here or anywhere.

use std::net::{IpAddr, Ipv4Addr};

use margay_encap::Headers;
use margay_flowtable::Snapshot;
use margay_flowtable::snapshot::Local;

use super::ingress::Input;
use crate::drop::DropReason;

/// Sources that a packet cannot have (RFC 1812 5.3.7), or not by this port.
pub(super) fn check_source(
    snapshot: &Snapshot,
    input: &Input<'_>,
    headers: &Headers,
) -> Result<(), DropReason> {
    let src = Ipv4Addr::from_bits(headers.src());
    let local = &snapshot.local;
    if is_this_host(src) || src.octets()[0] >= 224 || is_own(local, src) {
        return Err(DropReason::MartianSource);
    }
    if input.is_pod() {
        return Ok(());
    }
    // A node reaches its own pods without crossing a gateway: whoever has its address here does not own it.
    let receiver = snapshot.policies.endpoint(Ipv4Addr::from_bits(headers.dst()).into());
    let as_its_node = receiver.is_some_and(|endpoint| endpoint.node_addresses.contains(&IpAddr::V4(src)));
    if as_its_node || local.pods.contains(&src) {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// What RFC 1812 5.3.7 does not let a router forward to.
pub(super) fn check_destination(dst: u32) -> Result<(), DropReason> {
    let dst = Ipv4Addr::from_bits(dst);
    if dst.is_multicast() || dst.is_broadcast() {
        return Err(DropReason::Multicast);
    }
    if is_this_host(dst) || dst.octets()[0] >= 240 {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

fn is_this_host(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.is_loopback()
}

/// Whether it is an address of this node.
pub(super) fn is_own(local: &Local, address: Ipv4Addr) -> bool {
    local.addresses.contains(&IpAddr::V4(address)) || local.tunnel_ends.contains(&address)
}
