//! The steps of a packet, of what its worker told.

use margay_fastpath::tap::{Leaving, Steps, carried};
use margay_flowtable::{CtState, Hit, Interface, Key};

use super::{TraceStep, has_left, words};
use crate::capture::named;
use crate::tap::{Names, Packet, Seen, fate};

/// A connection's protocol, as a header has it.
const TCP: u8 = 6;

pub(super) fn steps(packet: &Packet, names: &Names) -> Vec<TraceStep> {
    let told = packet.end.map(|end| end.steps).unwrap_or_default();
    let mut steps = Vec::new();
    let mut say = |step: &str, said: String| steps.push(TraceStep { step: step.to_owned(), said });
    match &packet.came {
        Some(came) => arrival(came, names, &mut say),
        None => say("in", "did not match as it came in, but as it left".to_owned()),
    }
    if told.key.is_some() {
        say("tunnel", taken_off(told.tunnel).to_owned());
        say("source", "may send from that address here".to_owned());
        say("flow", flow(&told));
        if let Some(said) = policy(&told, names) {
            say("policy", said);
        }
    }
    if let Some(next_hop) = told.next_hop {
        say("route", format!("next hop {} of generation {}", next_hop.0, told.generation));
    }
    if has_left(packet) {
        let left = packet.left.iter().find(|(leaving, _)| *leaving != Leaving::Answer);
        if let (Some(came), Some((_, left))) = (&packet.came, left) {
            say("rewrite", rewritten(came, left, names));
        }
    }
    for (leaving, seen) in &packet.left {
        let step = if *leaving == Leaving::Answer { "answer" } else { "out" };
        say(step, departure(seen, names));
    }
    say("end", end(packet));
    steps
}

fn arrival(came: &Seen, names: &Names, say: &mut impl FnMut(&str, String)) {
    let mode = names.mode(came.image.port).map(|mode| format!(" ({mode} mode)")).unwrap_or_default();
    say("in", format!("{}{mode}, {} bytes", names.port(came.image.port), came.image.len));
    say("parse", words::of_frame(&came.bytes).unwrap_or_else(|wrong| format!("not taken: {wrong}")));
    if let Some(inner) = carried(&came.bytes, names.vxlan_port()) {
        let bytes = [inner.front, inner.rest].concat();
        let said = words::of_frame(&bytes).unwrap_or_else(|wrong| format!("nothing that is taken: {wrong}"));
        say("parse", format!("carries {said}"));
    }
}

fn taken_off(tunnel: Option<Interface>) -> &'static str {
    match tunnel {
        Some(Interface::Ipip) => "taken out of IP-in-IP, from a known node",
        Some(Interface::Vxlan) => "taken out of VXLAN, from a known node",
        _ => "none",
    }
}

/// What the flow table had of the packet's connection, and has now.
fn flow(told: &Steps) -> String {
    let is_error = told.key != told.flow;
    let of = if is_error { "of the packet that it quotes: " } else { "" };
    let said = match (&told.found, &told.entry) {
        (Some(found), _) => entry(found, told),
        (None, Some(_)) => "no entry; entered as a new connection".to_owned(),
        (None, None) => "no entry, and none made".to_owned(),
    };
    format!("{of}{said}")
}

fn entry(hit: &Hit, told: &Steps) -> String {
    let protocol = told.flow.map_or(0, |key| key.protocol());
    let age = told.now.saturating_sub(hit.state.last_seen);
    let judged = if hit.is_current { "as of the snapshot in force" } else { "of an earlier snapshot" };
    format!(
        "entry, {} direction, {}, last packet {age} s ago, judged {judged}",
        format!("{:?}", hit.direction).to_lowercase(),
        state(hit.state, protocol),
    )
}

fn state(state: CtState, protocol: u8) -> &'static str {
    match (protocol == TCP, state.is_closed(), state.is_established()) {
        (true, true, _) => "closed",
        (true, false, true) => "established",
        (true, false, false) => "opening",
        (false, ..) if state.is_assured(protocol) => "going on",
        (false, ..) => "begun",
    }
}

fn policy(told: &Steps, names: &Names) -> Option<String> {
    let judges = names.judges(told);
    let is_asked = told.found.is_none_or(|found| !found.is_current);
    let how = if is_asked { "asked" } else { "not asked again" };
    match (told.denial, judges.is_empty()) {
        (Some(_), _) => Some(format!("asked: denied by {}", named(&judges))),
        (None, false) => Some(format!("{how}: {}", named(&judges))),
        (None, true) if told.next_hop.is_some() => Some(format!("{how}: no rule decides, allowed")),
        (None, true) => None,
    }
}

/// How the first frame that leaves differs from what came.
fn rewritten(came: &Seen, left: &Seen, names: &Names) -> String {
    let vxlan_port = names.vxlan_port();
    let inner =
        |seen: &Seen| carried(&seen.bytes, vxlan_port).map(|inner| [inner.front, inner.rest].concat());
    let (was, is) = (inner(came), inner(left));
    let ttl = |seen: &Seen, inner: &Option<Vec<u8>>| {
        words::parsed(inner.as_deref().unwrap_or(&seen.bytes)).map(|headers| headers.ttl()).ok()
    };
    let said = match (ttl(came, &was), ttl(left, &is)) {
        (Some(was), Some(is)) if was != is => format!("TTL {was} to {is}"),
        _ => "TTL kept".to_owned(),
    };
    let outer = is.and_then(|_| words::parsed(&left.bytes).ok()).map(|outer| {
        let [src, dst] = words::addresses(&left.bytes, &outer);
        let kind = if outer.dport() == vxlan_port { "VXLAN" } else { "IP-in-IP" };
        format!(", into {kind} from {src} to {dst}")
    });
    let grown = i64::from(left.image.len) - i64::from(came.image.len);
    format!("{said}{}, {grown:+} bytes", outer.unwrap_or_default())
}

fn departure(seen: &Seen, names: &Names) -> String {
    let said = words::of_frame(&seen.bytes).unwrap_or_else(|wrong| wrong);
    format!("{}, {} bytes: {said}", names.port(seen.image.port), seen.image.len)
}

fn end(packet: &Packet) -> String {
    match fate(packet) {
        (word, Some(reason)) => format!("{word}: {}. {}", reason.word(), reason.meaning().trim()),
        ("split", None) => format!("split: left in {} pieces", packet.left.len()),
        (word, None) => word.to_owned(),
    }
}
