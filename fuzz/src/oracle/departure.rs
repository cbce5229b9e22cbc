//! A packet that came in, as it has to leave by the route to its destination.

use std::net::IpAddr;
use std::ops::Range;

use margay_fastpath::Gso;
use margay_flowtable::{Adjacency, NextHop, Tunnel};

use super::arrival::Arrival;
use super::{Sent, tunnel};
use crate::packet::mend;
use crate::view::{Sum, TCP, View, be16, options};
use crate::world::{HOST, PODS, World};

const SYN: u8 = 2;

/// The part of the arrival's payload that the frame sent holds; `None` where it is not of this arrival.
pub(super) fn part(world: &World, arrival: &Arrival, sent: &Sent) -> Option<Range<usize>> {
    let (adjacency, tunnel, hops) = way(world, arrival)?;
    let ttl = arrival.view.ttl.checked_sub(hops).filter(|ttl| hops == 0 || *ttl > 0)?;
    if sent.port != adjacency.port {
        return None;
    }
    let packet = tunnel::open(&adjacency, tunnel.as_ref(), &sent.frame)?;
    let view = View::of(packet)?;
    let want = forwarded(arrival, ttl, None);
    let most = clamped_mss(world, arrival, &adjacency, tunnel.as_ref());
    match arrival.gso.0 {
        Gso::Tcp => {
            let wants = [most, None].map(|most| forwarded(arrival, ttl, most));
            return wants.iter().find_map(|want| segment(arrival, want, packet, &view));
        }
        Gso::Udp | Gso::UdpInTunnel => return datagram(arrival, &want, packet, &view),
        Gso::Never | Gso::Untold | Gso::One | Gso::Other => {}
    }
    if let Some(segment) = segment(arrival, &want, packet, &view) {
        return Some(segment);
    }
    [most, None].into_iter().find_map(|most| {
        let want = forwarded(arrival, ttl, most);
        let is_clamped = want[arrival.view.transport..] != arrival.packet[arrival.view.transport..];
        let matches = Matches { arrival, want: &want, is_clamped };
        if view.end == arrival.view.end { matches.whole(packet, &view) } else { matches.part(packet, &view) }
    })
}

/// By what it has to leave, and how many hops that is.
fn way(world: &World, arrival: &Arrival) -> Option<(Adjacency, Option<Tunnel>, u8)> {
    match world.next_hop(arrival.view.dst)? {
        NextHop::Forward { adjacency, tunnel } => Some((adjacency, tunnel, 1)),
        // What is for the node itself comes from its pods alone.
        NextHop::Host if PODS.contains(&arrival.port) && world.has_entrance() => {
            Some((world.config.adjacency(HOST), None, 0))
        }
        NextHop::Host | NextHop::Blackhole | NextHop::Unresolved => None,
    }
}

/// What no MSS of the packet may be above.
fn clamped_mss(
    world: &World,
    arrival: &Arrival,
    adjacency: &Adjacency,
    tunnel: Option<&Tunnel>,
) -> Option<u16> {
    let View { protocol, transport, .. } = arrival.view;
    let is_syn = protocol == TCP
        && !arrival.view.is_later_part()
        && arrival.packet.get(transport + 13).is_some_and(|flags| flags & SYN != 0);
    let there = adjacency.mtu.saturating_sub(tunnel::overhead(tunnel));
    let back = match world.next_hop(arrival.view.src) {
        Some(NextHop::Forward { adjacency, tunnel }) => {
            adjacency.mtu.saturating_sub(tunnel::overhead(tunnel.as_ref()))
        }
        _ => u16::MAX,
    };
    let headers = if arrival.view.is_ipv6() { 60 } else { 40 };
    (is_syn && world.config.clamps_mss).then(|| there.min(back).saturating_sub(headers))
}

/// The packet as it leaves but for the transport's checksum.
fn forwarded(arrival: &Arrival, ttl: u8, most: Option<u16>) -> Vec<u8> {
    let mut packet = arrival.packet.clone();
    packet[if arrival.view.is_ipv6() { 7 } else { 8 }] = ttl;
    if let Some(most) = most {
        clamp(&mut packet[arrival.view.transport..arrival.view.end], most);
    }
    mend(&mut packet);
    packet
}

fn clamp(segment: &mut [u8], most: u16) {
    let end = usize::from(segment[12] >> 4) * 4;
    let Some(header) = segment.get(20..end) else { return };
    let mut at = 20;
    for option in options(&header.to_vec()) {
        if let [2, 4, _, _] = option
            && be16(option, 2) > most
        {
            segment[at + 2..at + 4].copy_from_slice(&most.to_be_bytes());
        }
        at += option.len();
    }
}

/// What stands behind the fixed part of a header, as a later fragment of its packet has it (RFC 791 3.1).
fn copied(all: &[u8]) -> Vec<u8> {
    let mut copied = Vec::new();
    for option in options(all) {
        let is_copied = option.first().is_none_or(|kind| kind & 0x80 != 0 || *kind == 0);
        if is_copied { copied.extend(option) } else { copied.extend(option.iter().map(|_| 1)) }
    }
    copied.extend(&all[copied.len()..]);
    copied
}

/// The part that a segment holds of a packet that is several in one, and whose checksum is therefore left to who cuts it.
fn segment(arrival: &Arrival, want: &[u8], packet: &[u8], view: &View) -> Option<Range<usize>> {
    let (came, at) = (&arrival.view, arrival.view.transport);
    let is_several = match arrival.gso.0 {
        Gso::Tcp => true,
        Gso::Untold => came.protocol == TCP && came.sum(want) == Sum::Partial,
        _ => false,
    };
    if !is_several || view.transport != at || packet.len() < at + 20 {
        return None;
    }
    let payload = at + usize::from(want[at + 12] >> 4) * 4;
    let sequence =
        |packet: &[u8]| u32::from_be_bytes([packet[at + 4], packet[at + 5], packet[at + 6], packet[at + 7]]);
    let start = payload + sequence(packet).wrapping_sub(sequence(want)) as usize;
    let end = start + packet.len().checked_sub(payload)?;
    if arrival.gso.0 == Gso::Tcp && end - start > arrival.gso.1.into() {
        return None;
    }
    // FIN and PSH are the last one's, CWR the first one's.
    let flags = if end < came.end { !0x09 } else { !0 } & if start > payload { !0x80 } else { !0 };
    let is_between =
        (view.src, view.dst, view.tos, view.ttl) == (came.src, came.dst, came.tos, want_ttl(want));
    let is_header_same = packet[at..at + 4] == want[at..at + 4]
        && packet[at + 8..at + 13] == want[at + 8..at + 13]
        && packet[at + 13] == want[at + 13] & flags
        && packet[at + 18..payload] == want[at + 18..payload];
    let is_right = view.sum(packet) == Sum::Right && view.header_sum_holds(packet);
    let is_it = is_between && is_header_same && is_right && want.get(start..end)? == &packet[payload..];
    is_it.then(|| if start == payload { 0..end - at } else { start - at..end - at })
}

/// The part that a datagram holds of a packet that is several in one; of two that are the same, both.
fn datagram(arrival: &Arrival, want: &[u8], packet: &[u8], view: &View) -> Option<Range<usize>> {
    let (came, at, size) = (&arrival.view, arrival.view.transport, usize::from(arrival.gso.1));
    let held = packet.get(at + 8..)?;
    let ident = |packet: &[u8]| be16(packet, 4);
    let is_it = |(index, part): &(usize, &[u8])| {
        let is_its_own = view.is_ipv6() || ident(packet) == ident(want).wrapping_add(*index as u16);
        *part == held && is_its_own
    };
    let is_sound = (view.src, view.dst, view.tos, view.ttl) == (came.src, came.dst, came.tos, want_ttl(want))
        && (view.transport, view.end) == (at, packet.len())
        && packet[at..at + 4] == want[at..at + 4]
        && usize::from(be16(packet, at + 4)) == packet.len() - at
        && view.sum(packet) == Sum::Right
        && view.header_sum_holds(packet);
    let payload = &want[at + 8..came.end];
    // One without payload is one.
    let none = payload.is_empty().then_some(payload);
    let parts = || payload.chunks(size).chain(none).enumerate().filter(is_it).map(|(index, _)| index);
    let (first, last) = (parts().next()?, parts().last()?);
    let start = if first == 0 { 0 } else { 8 + first * size };
    is_sound.then(|| start..(8 + (last + 1) * size).min(came.end - at))
}

fn want_ttl(packet: &[u8]) -> u8 {
    packet[if packet[0] >> 4 == 6 { 7 } else { 8 }]
}

/// A packet that leaves, beside one that should.
struct Matches<'a> {
    arrival: &'a Arrival,
    want: &'a [u8],
    is_clamped: bool,
}

impl Matches<'_> {
    fn whole(&self, packet: &[u8], view: &View) -> Option<Range<usize>> {
        let came = &self.arrival.view;
        let (mut packet_but_sum, mut want_but_sum) = (packet.to_vec(), self.want.to_vec());
        if let Some(field) = came.sum_field() {
            packet_but_sum[field.clone()].fill(0);
            want_but_sum[field].fill(0);
        }
        let is_sum_right = match came.sum(&self.arrival.packet) {
            Sum::Right | Sum::Partial => view.sum(packet) == Sum::Right,
            Sum::Absent | Sum::Wrong | Sum::Unknown => self.is_clamped || packet == self.want,
        };
        let is_it = without_header_sum(packet_but_sum) == without_header_sum(want_but_sum);
        (is_it && is_sum_right && view.header_sum_holds(packet)).then(|| 0..came.end - came.transport)
    }

    /// Of IPv4, and without DF: RFC 791 3.2.
    fn part(&self, packet: &[u8], view: &View) -> Option<Range<usize>> {
        let came = &self.arrival.view;
        let (IpAddr::V4(_), false) = (came.src, came.dont_fragment) else { return None };
        let (part, whole) = (view.part?, came.part.map_or(0, |part| part.offset));
        let start = part.offset.checked_sub(whole)?;
        let end = start + (view.end - view.transport);
        let payload = came.end - came.transport;
        let is_last = end == payload;
        let had_more = came.part.is_some_and(|part| part.has_more);
        let same = |at: Range<usize>| packet[at.clone()] == self.want[at];
        let at = came.transport;
        let options = &self.want[20..at];
        let options = if start == 0 { options.to_vec() } else { copied(options) };
        if view.transport != at {
            return None;
        }
        let is_header_same =
            same(0..2) && same(4..6) && same(8..10) && same(12..20) && packet[20..at] == options;
        let more_is_right = part.has_more == (!is_last || had_more);
        let mut held = view.segment(packet).to_vec();
        let mut want = self.want.get(at + start..at + end)?.to_vec();
        // The checksum covers more than is here; `prepare` has completed it, or the MSS has changed it.
        if let Some(field) = came.sum_field() {
            for byte in field.filter(|byte| (at + start..at + end).contains(byte)) {
                (held[byte - at - start], want[byte - at - start]) = (0, 0);
            }
        }
        (is_header_same && more_is_right && held == want && view.header_sum_holds(packet))
            .then_some(start..end)
    }
}

/// Either form of zero may stand there.
fn without_header_sum(mut packet: Vec<u8>) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        packet[10..12].fill(0);
    }
    packet
}
