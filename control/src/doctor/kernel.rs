//! Whether the kernel is recent enough, and built with what a gateway takes.

use super::{At, Facts, Finding, MACHINE};

const OLDEST: (u32, u32) = (5, 18);
const WITH_BTF: (u32, u32) = (6, 2);

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let at = At { check: "kernel", place: MACHINE };
    let mut findings = Vec::new();
    if facts.version < OLDEST {
        findings.push(at.error(
            format!("Linux {}", facts.release),
            "Margay takes 5.18 or newer: its XDP programs and the neighbours that the kernel keeps resolved for it",
            "install a newer kernel",
        ));
    } else if facts.version < WITH_BTF || !facts.has_btf {
        let lacks = if facts.has_btf { "" } else { " without BTF" };
        findings.push(at.note(
            format!("Linux {}{lacks}", facts.release),
            "ports in skb mode do not learn where UDP is to be cut that comes several in one (udp-gso): it is dropped there",
            "use Linux 6.2 or newer with CONFIG_DEBUG_INFO_BTF, or ports in native mode (xdp.mode)",
        ));
    } else {
        findings.push(at.ok(format!("Linux {}", facts.release)));
    }
    if let Some(error) = &facts.xdp_socket {
        findings.push(at.error(
            format!("no socket of AF_XDP can be made: {error}"),
            "every port receives and sends by such sockets",
            "CAP_NET_RAW for `Operation not permitted`, a kernel with CONFIG_XDP_SOCKETS for `Address family not supported`",
        ));
    }
    findings
}
