//! ICMP errors of the gateway's own: about what came in and could not leave, to who sent it.

use std::net::IpAddr;

use margay_flowtable::{NextHop, Tunnel};

use super::arrival::Arrival;
use super::{Sent, tunnel};
use crate::view::{ICMP, ICMPV6, Sum, View};
use crate::world::{NODE, NODE_IN_TUNNELS, NODE6, World};

const UNREACHABLE: u8 = 3;
const TIME_EXCEEDED: u8 = 11;
const UNREACHABLE6: u8 = 1;
const TOO_BIG6: u8 = 2;
const TIME_EXCEEDED6: u8 = 3;

/// Whether the frame is an error that may be sent about the arrival.
pub(super) fn is_about(world: &World, arrival: &Arrival, sent: &Sent) -> bool {
    checked(world, arrival, sent).is_some_and(|is_right| is_right)
}

fn checked(world: &World, arrival: &Arrival, sent: &Sent) -> Option<bool> {
    let about = &arrival.view;
    let NextHop::Forward { adjacency, tunnel } = world.next_hop(about.src)? else { return None };
    let packet = tunnel::open(&adjacency, tunnel.as_ref(), &sent.frame)?;
    let view = View::of(packet)?;
    let (header, quote) = view.segment(packet).split_at_checked(8)?;
    let (protocol, longest) = if about.is_ipv6() { (ICMPV6, 1280) } else { (ICMP, 576) };
    let is_sound = sent.port == adjacency.port
        && view.protocol == protocol
        && view.sum(packet) == Sum::Right
        && view.header_sum_holds(packet)
        && packet.len() <= longest;
    let is_between = view.dst == about.src && is_source(world, view.src, tunnel.as_ref());
    // RFC 1122 3.2.2, RFC 4443 2.4 e.
    let may_be = !about.is_icmp_error(&arrival.packet) && (about.is_ipv6() || !about.is_later_part());
    let is_due = is_due(world, arrival, [header[0], header[1]], [header[4], header[5], header[6], header[7]]);
    Some(is_sound && is_between && may_be && is_due && arrival.packet.starts_with(quote))
}

fn is_source(world: &World, src: IpAddr, tunnel: Option<&Tunnel>) -> bool {
    let in_tunnel = tunnel.is_some() && world.config.has_icmp_source_in_tunnels;
    src == if src.is_ipv6() {
        IpAddr::V6(NODE6)
    } else {
        if in_tunnel { NODE_IN_TUNNELS } else { NODE }.into()
    }
}

/// Whether there is reason for an error of this type and code, and it says what it has to.
fn is_due(world: &World, arrival: &Arrival, kind: [u8; 2], word: [u8; 4]) -> bool {
    let about = &arrival.view;
    let next_hop = world.next_hop(about.dst);
    let says_unreachable = world.config.answers_unreachable;
    let mtu = match &next_hop {
        Some(NextHop::Forward { adjacency, tunnel }) => {
            Some(adjacency.mtu.saturating_sub(tunnel::overhead(tunnel.as_ref())))
        }
        _ => None,
    };
    let is_too_big = |least: u16| {
        mtu.is_some_and(|mtu| about.end > usize::from(mtu) && word == u32::from(mtu.max(least)).to_be_bytes())
    };
    let (is_nowhere, is_blackhole) = (next_hop.is_none(), next_hop == Some(NextHop::Blackhole));
    match (about.is_ipv6(), kind) {
        (false, [TIME_EXCEEDED, 0]) | (true, [TIME_EXCEEDED6, 0]) => about.ttl <= 1,
        (false, [UNREACHABLE, 4]) => about.dont_fragment && is_too_big(0),
        (true, [TOO_BIG6, 0]) => is_too_big(1280),
        (false, [UNREACHABLE, 0]) | (true, [UNREACHABLE6, 0]) => says_unreachable && is_nowhere,
        (false, [UNREACHABLE, 1]) | (true, [UNREACHABLE6, 3]) => says_unreachable && is_blackhole,
        _ => false,
    }
}
