//! The other ends of veths: a packet that is sent there is received by the peer's own stack.

use super::{At, Facts, Finding, Peer};

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut elsewhere = 0;
    for (name, device) in facts.devices() {
        let at = At { check: "peer", place: name };
        match &device.peer {
            Some(Peer::Here { name: peer, gro, has_program }) if *gro == Some(false) && !has_program => {
                findings.push(at.note(
                    format!("its peer {peer} has no NAPI"),
                    "segments of TCP are not put together there, and XDP redirects do not reach it",
                    format!("ethtool -K {peer} gro on"),
                ));
            }
            Some(Peer::Here { name: peer, .. }) => findings.push(at.ok(format!("its peer {peer} has NAPI"))),
            Some(Peer::Elsewhere) => elsewhere += 1,
            None => {}
        }
    }
    if elsewhere > 0 {
        let at = At { check: "peer", place: super::MACHINE };
        findings.push(at.note(
            format!("{elsewhere} peers of veths are in other network namespaces, and not looked at"),
            "where a peer has no NAPI, segments of TCP are not put together there",
            "in the namespace, for more throughput: ethtool -K eth0 gro on",
        ));
    }
    findings
}
