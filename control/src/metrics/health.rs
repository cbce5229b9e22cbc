//! What keeps a gateway from being ready, in words.

use crate::admin::{PortState, Status};

/// Why packets are not forwarded as the source says. Nothing where they are.
pub fn lacking(status: &Status) -> Vec<String> {
    if status.ready {
        return Vec::new();
    }
    let mut lacking = Vec::new();
    if status.snapshot.is_none() {
        lacking.push(format!("{} has not delivered a whole first state", status.source.name));
        let troubles = status.source.troubles.iter();
        lacking.extend(troubles.map(|trouble| format!("{}: {}", trouble.what, trouble.why)));
    }
    for port in &status.ports {
        match (port.state, &port.error) {
            (PortState::Failed, Some(error)) => lacking.push(format!("port {}: {error}", port.name)),
            (PortState::Missing, _) if port.pod.is_none() => {
                lacking.push(format!("port {}: device {} is not there, or not up", port.name, port.device));
            }
            _ => {}
        }
    }
    if lacking.is_empty() {
        lacking.push("ports are being opened".to_owned());
    }
    lacking
}
