//! Of which pods policy is asked when they send to their own node: the packets of all others go straight to its kernel.

use margay_flowtable::{Entrance, PortId, PortKind, ProgramId, Snapshot};

/// Whether policy, or the configuration, has something to say about what the pod of this port sends to its own node.
pub fn is_policed(snapshot: &Snapshot, port: PortId) -> bool {
    let Some(PortKind::Pod { addresses }) = snapshot.port(port).map(|port| &port.kind) else { return false };
    if matches!(snapshot.entrance, Entrance::Closed) {
        return true;
    }
    let policies = &snapshot.policies;
    addresses.iter().any(|address| {
        let holder = policies.addresses.get(*address).filter(|holder| holder.endpoint.is_some());
        let obeys = holder.and_then(|holder| policies.obeys.get(holder.identity.0));
        obeys.is_some_and(|obeys| obeys.to_node != ProgramId::NONE)
    })
}
