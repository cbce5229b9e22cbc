//! What is said of a frame: what became of its packet, why, and who decided.

use margay_fastpath::DropReason;
use margay_fastpath::tap::Leaving;
use margay_flowtable::PolicyType;

use crate::tap::{Judge, Names, Packet, fate as fate_of};

/// Of a frame that came in.
pub(super) fn fate(packet: &Packet, names: &Names) -> String {
    let steps = packet.end.map(|end| end.steps).unwrap_or_default();
    let judges = names.judges(&steps);
    let output = steps.output.map(|port| format!(" by {}", names.port(port))).unwrap_or_default();
    let answered = if is_answered(packet) { "; answered by an ICMP error" } else { "" };
    match fate_of(packet) {
        (_, Some(reason)) => format!("{}{answered}", dropped(reason, &judges)),
        ("waiting", _) => "waiting: a fragment, for the first one of its datagram".to_owned(),
        (word @ "split", _) => format!("{word}: left in {} pieces{}", packet.left.len(), admitted(&judges)),
        (word, _) => format!("{word}{output}{}", admitted(&judges)),
    }
}

/// Of a frame that leaves.
pub(super) fn leaving(packet: &Packet, leaving: Leaving, names: &Names) -> String {
    let from =
        packet.came.as_ref().map(|came| format!(" from {}", names.port(came.image.port))).unwrap_or_default();
    let steps = packet.end.map(|end| end.steps).unwrap_or_default();
    let admitted = || admitted(&names.judges(&steps));
    match (leaving, fate_of(packet).1) {
        (Leaving::Whole, _) => format!("forwarded{from}{}", admitted()),
        (Leaving::Piece, _) => format!("a piece of a packet{from}{}", admitted()),
        (Leaving::Answer, Some(reason)) => format!("answers a packet{from}, dropped: {}", reason.word()),
        (Leaving::Answer, None) => format!("answers a packet{from}"),
    }
}

fn is_answered(packet: &Packet) -> bool {
    packet.left.iter().any(|(leaving, _)| *leaving == Leaving::Answer)
}

fn dropped(reason: DropReason, judges: &[Judge]) -> String {
    let by = if reason == DropReason::PolicyDeny && !judges.is_empty() {
        format!(" by {}", named(judges))
    } else {
        String::new()
    };
    format!("dropped: {}{by} ({})", reason.word(), reason.meaning().trim())
}

fn admitted(judges: &[Judge]) -> String {
    if judges.is_empty() { String::new() } else { format!("; admitted by {}", named(judges)) }
}

/// The rules, and whose they are.
pub(crate) fn named(judges: &[Judge]) -> String {
    let name = |judge: &Judge| {
        let whose = match (judge.is_of_host, judge.direction) {
            (true, _) => ", of a host endpoint",
            (false, PolicyType::Egress) => ", of the sender",
            (false, PolicyType::Ingress) => ", of the receiver",
        };
        format!("{}{whose}", judge.rule)
    };
    judges.iter().map(name).collect::<Vec<_>>().join("; ")
}
