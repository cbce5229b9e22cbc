//! Addresses that a packet cannot have, here or anywhere.

use std::net::IpAddr;

use margay_flowtable::snapshot::Local;
use margay_flowtable::{Key, Snapshot};

use super::ingress::Input;
use crate::drop::DropReason;

/// Sources that a packet cannot have (RFC 1812 5.3.7; RFC 3927 7; RFC 4291 2.5.2, 2.5.3, 2.5.5.2, 2.5.6 and 2.7), or not by this port.
pub(super) fn check_source(snapshot: &Snapshot, input: &Input<'_>, key: &impl Key) -> Result<(), DropReason> {
    let (src, local) = (key.src(), &snapshot.local);
    if is_this_host(src) || is_no_source(src) || is_link_local4(src) || is_own(local, src) {
        return Err(DropReason::MartianSource);
    }
    if input.is_pod() {
        return Ok(());
    }
    // A node reaches its own pods without crossing a gateway: whoever has its address here does not own it.
    let receiver = snapshot.policies.endpoint(key.dst());
    let as_its_node = receiver.is_some_and(|endpoint| endpoint.node_addresses.contains(&src));
    if as_its_node || local.pods.contains(&src) {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// What a router does not forward to (RFC 1812 5.3.7; RFC 4291).
pub(super) fn check_destination(dst: IpAddr) -> Result<(), DropReason> {
    let is_broadcast = matches!(dst, IpAddr::V4(dst) if dst.is_broadcast());
    if dst.is_multicast() || is_broadcast {
        return Err(DropReason::Multicast);
    }
    if is_this_host(dst) || is_no_source(dst) {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

fn is_this_host(address: IpAddr) -> bool {
    let is_this_net = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    is_this_net || address.is_loopback() || address.is_unspecified()
}

/// Multicast and reserved addresses, and those that do not leave their link or, standing for addresses of IPv4, their host.
fn is_no_source(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] >= 224,
        IpAddr::V6(address) => {
            address.is_multicast() || address.is_unicast_link_local() || address.to_ipv4_mapped().is_some()
        }
    }
}

/// As a destination such an address is forwarded to, as Linux does: clouds answer there.
fn is_link_local4(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if address.is_link_local())
}

/// Whether it is an address of this node.
pub(super) fn is_own(local: &Local, address: IpAddr) -> bool {
    local.addresses.contains(&address) || local.tunnel_ends.contains(&address)
}
