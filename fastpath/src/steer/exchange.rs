//! What a packet of a pod is to what it and its node exchange: as `bpf/began.h` reads it, for who began.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{IPV4, IPV6};

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const FRAGMENT: u8 = 44;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

const ICMP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const FRAGMENT_HEADER: usize = 8;

const SYN: u8 = 2;
const ACK: u8 = 16;

/// What a node and a pod of its own have to say to each other, as a key. Ports are 0 where there are none; an ICMP echo
/// has its identifier as the node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Exchange {
    pub node: IpAddr,
    pub pod: IpAddr,
    pub node_port: u16,
    pub pod_port: u16,
    pub protocol: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Of no exchange that can be told.
    None,
    /// Neighbour discovery, or a fragment that is nothing without its first one, which has the ports.
    Beside,
    /// Sent only by who begins.
    Opens,
    /// Part of what has begun: an ICMP error of what it quotes.
    Of(Exchange),
}

/// Reads an IPv4 packet that a pod has sent to its node.
pub(super) fn read4(packet: &[u8]) -> Part {
    read4_if_whole(packet).unwrap_or(Part::None)
}

pub(super) fn read6(packet: &[u8]) -> Part {
    read6_if_whole(packet).unwrap_or(Part::None)
}

fn read4_if_whole(packet: &[u8]) -> Option<Part> {
    let header = packet.first_chunk::<IPV4>()?;
    let len = header_len4(header)?;
    if is_later_fragment4(header) {
        return Some(Part::Beside);
    }
    let (pod, node) = addresses4(header);
    let (pod, node, l4) = (pod.into(), node.into(), packet.get(len..).unwrap_or_default());
    if header[9] != ICMP {
        return transport(node, pod, header[9], l4);
    }
    let icmp = *l4.first_chunk::<ICMP_HEADER>()?;
    match icmp[0] {
        0 => Some(Part::Of(echo(node, pod, ICMP, icmp))),
        8 => Some(Part::Opens),
        3 | 4 | 11 | 12 => quoted4(node, pod, &l4[ICMP_HEADER..]).map(Part::Of),
        _ => None,
    }
}

fn read6_if_whole(packet: &[u8]) -> Option<Part> {
    let (header, mut l4) = packet.split_first_chunk::<IPV6>()?;
    let (pod, node) = addresses6(header);
    let (pod, node) = (pod.into(), node.into());
    let mut next = header[6];
    let is_whole = next != FRAGMENT;
    if !is_whole {
        let (fragment, rest) = l4.split_first_chunk::<FRAGMENT_HEADER>()?;
        if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
            return Some(Part::Beside);
        }
        (next, l4) = (fragment[0], rest);
    }
    if next != ICMPV6 {
        return transport(node, pod, next, l4);
    }
    let icmp = *l4.first_chunk::<ICMP_HEADER>()?;
    match icmp[0] {
        129 => Some(Part::Of(echo(node, pod, ICMPV6, icmp))),
        128 => Some(Part::Opens),
        1..=4 => quoted6(node, pod, &l4[ICMP_HEADER..]).map(Part::Of),
        133..=136 if is_whole => Some(Part::Beside),
        _ => None,
    }
}

/// What no ICMP message is.
fn transport(node: IpAddr, pod: IpAddr, protocol: u8, l4: &[u8]) -> Option<Part> {
    let (pod_port, node_port) = ports(protocol, l4)?;
    let exchange = Exchange { node, pod, node_port, pod_port, protocol };
    if protocol != TCP {
        return Some(Part::Of(exchange));
    }
    let flags = l4.first_chunk::<TCP_HEADER>()?[13];
    let opens = flags & (SYN | ACK) == SYN;
    Some(if opens { Part::Opens } else { Part::Of(exchange) })
}

fn echo(node: IpAddr, pod: IpAddr, protocol: u8, icmp: [u8; ICMP_HEADER]) -> Exchange {
    Exchange { node, pod, node_port: u16::from_be_bytes([icmp[4], icmp[5]]), pod_port: 0, protocol }
}

/// The exchange of a packet of the node's that the pod quotes.
fn quoted4(node: IpAddr, pod: IpAddr, packet: &[u8]) -> Option<Exchange> {
    let header = packet.first_chunk::<IPV4>()?;
    let len = header_len4(header)?;
    let (src, dst) = addresses4(header);
    let protocol = header[9];
    if is_later_fragment4(header) || (IpAddr::V4(src), IpAddr::V4(dst)) != (node, pod) {
        return None;
    }
    let (node_port, pod_port) = ports(protocol, packet.get(len..).unwrap_or_default())?;
    Some(Exchange { node, pod, node_port, pod_port, protocol })
}

fn quoted6(node: IpAddr, pod: IpAddr, packet: &[u8]) -> Option<Exchange> {
    let (header, l4) = packet.split_first_chunk::<IPV6>()?;
    let (src, dst) = addresses6(header);
    let protocol = header[6];
    if (IpAddr::V6(src), IpAddr::V6(dst)) != (node, pod) {
        return None;
    }
    let (node_port, pod_port) = ports(protocol, l4)?;
    Some(Exchange { node, pod, node_port, pod_port, protocol })
}

/// Source and destination.
fn ports(protocol: u8, l4: &[u8]) -> Option<(u16, u16)> {
    if !matches!(protocol, TCP | UDP | DCCP | SCTP | UDPLITE) {
        return Some((0, 0));
    }
    let [a, b, c, d] = *l4.first_chunk::<4>()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

fn header_len4(header: &[u8; IPV4]) -> Option<usize> {
    Some(usize::from(header[0] & 15) * 4).filter(|len| *len >= IPV4)
}

fn is_later_fragment4(header: &[u8; IPV4]) -> bool {
    u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0
}

fn addresses4(header: &[u8; IPV4]) -> (Ipv4Addr, Ipv4Addr) {
    let at = |i: usize| Ipv4Addr::from([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    (at(12), at(16))
}

fn addresses6(header: &[u8; IPV6]) -> (Ipv6Addr, Ipv6Addr) {
    let at = |start: usize| Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| header[start + i]));
    (at(8), at(24))
}
