//! Which packets are Margay's: the decision of the XDP program (`bpf/margay.bpf.c`) over plain data, for replay and
//! to test the program against. By destination, and for what a policed pod sends to its node by who began; what
//! becomes of a packet that is taken is the pipeline's.

mod exchange;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use margay_flowtable::{Fib, NextHopId};

pub use self::exchange::Exchange;
use self::exchange::{Part, read4, read6};

/// The side of the node that a port is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// Takes tunnel packets to this node, and what Margay routes.
    Uplink = 0,
    /// Takes every IP packet but those to the node itself.
    Pod = 1,
    /// Takes nothing: packets leave there for the node's own kernel.
    Host = 2,
}

/// What the decision needs to know of the port that a frame came in by.
#[derive(Clone, Copy, Debug)]
pub struct SteerPort {
    pub kind: Kind,
    /// The port's own, which an uplink takes frames for; `None` stands for whatever unicast address the frame has:
    /// captures come from elsewhere.
    pub mac: Option<[u8; 6]>,
    /// Of a pod: whether policy is asked about its packets to the node as well.
    pub is_policed: bool,
    /// Of an uplink: the VLAN whose frames are its own, `None` where untagged ones are.
    pub vlan: Option<u16>,
}

/// Whose the addresses of a prefix are. Prefixes that are none of these are not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Destination {
    /// Routed by Margay: a block, or a pod's address.
    Owned = 1,
    /// An address of this node: the kernel's.
    Local = 2,
    /// An address of this node where tunnels end: tunnel packets are Margay's, the rest is the kernel's.
    TunnelEnd = 3,
}

/// Prefixes (address without host bits, length) and whose they are. The longest that holds an address counts.
pub type Routes = BTreeMap<(IpAddr, u8), Destination>;

/// What becomes of prefixes: another destination, or none any more.
pub type RouteChanges = BTreeMap<(IpAddr, u8), Option<Destination>>;

/// What the decision is made by.
#[derive(Debug)]
pub struct SteerTables {
    routes: Fib,
    vxlan_port: u16,
    /// What the node has begun with pods of its own.
    pub begun_by_node: BTreeSet<Exchange>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steer {
    /// To the `AF_XDP` socket of the queue.
    Redirect,
    /// To the kernel, untouched.
    Pass,
    /// Nowhere.
    Drop,
}

const ETHERNET: usize = 14;
const TAG: usize = 4;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;

/// As many extension headers as a worker reads: it drops what has more.
const MOST_EXTENSIONS: usize = 8;

impl SteerTables {
    pub fn new(routes: &Routes, vxlan_port: u16) -> Self {
        let hops = routes
            .iter()
            .map(|(&(address, length), &destination)| (address, length, NextHopId(destination as u32)));
        Self { routes: Fib::build(hops), vxlan_port, begun_by_node: BTreeSet::new() }
    }

    fn destination(&self, address: IpAddr) -> Option<Destination> {
        self.routes.lookup(address).map(|NextHopId(number)| match number {
            1 => Destination::Owned,
            2 => Destination::Local,
            _ => Destination::TunnelEnd,
        })
    }

    /// Whether the kernel may have this packet of a policed pod: one that is part of what the node began.
    fn is_of_node(&self, part: Part) -> bool {
        match part {
            Part::Beside => true,
            Part::Of(exchange) => self.begun_by_node.contains(&exchange),
            Part::None | Part::Opens => false,
        }
    }

    fn is_vxlan(&self, udp: &[u8]) -> bool {
        udp.len() >= UDP && u16::from_be_bytes([udp[2], udp[3]]) == self.vxlan_port
    }
}

/// Decides on a frame that came in by this port.
pub fn steer(tables: &SteerTables, port: &SteerPort, frame: &[u8]) -> Steer {
    let Some((header, packet)) = frame.split_at_checked(ETHERNET) else {
        return Steer::Pass;
    };
    let kind = port.kind;
    if kind == Kind::Host {
        return Steer::Drop;
    }
    let is_ours = kind == Kind::Pod || port.mac.map_or(header[0] & 1 == 0, |mac| header[..6] == mac);
    let is_policed = kind == Kind::Pod && port.is_policed;
    let mut ethertype = u16::from_be_bytes([header[12], header[13]]);
    let mut packet = packet;
    if let Some(vlan) = port.vlan {
        match packet.split_first_chunk::<TAG>() {
            Some((tag, rest))
                if ethertype == 0x8100 && u16::from_be_bytes([tag[0], tag[1]]) & 0xfff == vlan =>
            {
                (ethertype, packet) = (u16::from_be_bytes([tag[2], tag[3]]), rest);
            }
            _ => return Steer::Pass,
        }
    }
    let taken = match ethertype {
        0x0800 => is_ours && takes4(tables, kind, packet) || is_policed && !tables.is_of_node(read4(packet)),
        0x86dd => is_ours && takes6(tables, kind, packet) || is_policed && !tables.is_of_node(read6(packet)),
        // The kernel would take a pod's packet behind a priority tag (VLAN 0) for an untagged one.
        0x8100 | 0x88a8 => kind == Kind::Pod,
        _ => false,
    };
    if taken { Steer::Redirect } else { Steer::Pass }
}

fn takes4(tables: &SteerTables, kind: Kind, packet: &[u8]) -> bool {
    let Some(header) = packet.first_chunk::<IPV4>() else {
        return kind == Kind::Pod;
    };
    let to = Ipv4Addr::from([header[16], header[17], header[18], header[19]]);
    let header_len = usize::from(header[0] & 15) * 4;
    let is_later_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x1fff != 0;
    let is_tunnel = match header[9] {
        4 => true,
        17 if header_len >= IPV4 && !is_later_fragment => {
            packet.get(header_len..).is_some_and(|udp| tables.is_vxlan(udp))
        }
        _ => false,
    };
    let others = kind == Kind::Pod && to != Ipv4Addr::BROADCAST;
    takes(kind, tables.destination(to.into()), is_tunnel, others)
}

fn takes6(tables: &SteerTables, kind: Kind, packet: &[u8]) -> bool {
    let Some((header, payload)) = packet.split_first_chunk::<IPV6>() else {
        return kind == Kind::Pod;
    };
    let to: [u8; 16] = std::array::from_fn(|i| header[24 + i]);
    let to = Ipv6Addr::from(to);
    let is_tunnel = is_tunnel6(tables, header[6], payload);
    let others = kind == Kind::Pod && !to.is_multicast() && !to.is_unicast_link_local();
    takes(kind, tables.destination(to.into()), is_tunnel, others)
}

/// The kernel finds the ports behind extension headers, and those of a fragmented packet in its first fragment.
fn is_tunnel6(tables: &SteerTables, first: u8, payload: &[u8]) -> bool {
    let (mut next, mut rest) = (first, Some(payload));
    for _ in 0..=MOST_EXTENSIONS {
        let header = rest.and_then(|rest| rest.first_chunk::<8>());
        let length = match (next, header) {
            (17, _) => return rest.is_some_and(|udp| tables.is_vxlan(udp)),
            // What is cut off here may go on in another buffer.
            (0 | 43 | 44 | 51 | 60, None) => return true,
            (44, Some(header)) if u16::from_be_bytes([header[2], header[3]]) & 0xfff8 != 0 => return false,
            (44, Some(_)) => 8,
            (51, Some(header)) => (usize::from(header[1]) + 2) * 4,
            (0 | 43 | 60, Some(header)) => (usize::from(header[1]) + 1) * 8,
            _ => return false,
        };
        next = header.map_or(next, |header| header[0]);
        rest = rest.and_then(|rest| rest.get(length..));
    }
    true
}

fn takes(kind: Kind, destination: Option<Destination>, is_tunnel: bool, others: bool) -> bool {
    match destination {
        Some(Destination::Owned) => true,
        // A pod's tunnel packets never reach a tunnel device of the kernel's: policy would not see what is in them.
        Some(Destination::Local) => kind == Kind::Pod && is_tunnel,
        Some(Destination::TunnelEnd) => is_tunnel,
        None => others,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: [u8; 4] = [172, 20, 1, 10];

    /// VXLAN to the node, with this destination MAC.
    fn vxlan(mac: [u8; 6]) -> Vec<u8> {
        let mut frame = [&mac[..], &[2; 6], &[8, 0, 0x45], &[0; 8], &[17], &[0; 6], &NODE].concat();
        frame.extend_from_slice(&[0x12, 0x34, 0x12, 0xb5, 0, 8, 0, 0]);
        frame
    }

    #[test]
    fn pod_finds_no_way_round_by_addresses_of_the_link() {
        let routes = Routes::from([((IpAddr::from(NODE), 32), Destination::TunnelEnd)]);
        let tables = SteerTables::new(&routes, 4789);
        let mac = [2, 0, 0, 0, 0, 7];
        let mut tagged = vxlan(mac);
        tagged.splice(12..12, [0x81, 0, 0, 0]);
        for (frame, from_pod, from_uplink) in [
            (vxlan(mac), Steer::Redirect, Steer::Redirect),
            (vxlan([0xff; 6]), Steer::Redirect, Steer::Pass),
            (vxlan([2, 0, 0, 0, 0, 8]), Steer::Redirect, Steer::Pass),
            (tagged, Steer::Redirect, Steer::Pass),
        ] {
            for (kind, expected) in [(Kind::Pod, from_pod), (Kind::Uplink, from_uplink)] {
                let port = SteerPort { kind, mac: Some(mac), is_policed: false, vlan: None };
                assert_eq!(steer(&tables, &port, &frame), expected, "{kind:?}: {frame:02x?}");
            }
        }
    }

    #[test]
    fn an_uplink_on_a_vlan_takes_what_has_its_tag_alone() {
        let routes = Routes::from([((IpAddr::from(NODE), 32), Destination::TunnelEnd)]);
        let tables = SteerTables::new(&routes, 4789);
        let mac = [2, 0, 0, 0, 0, 7];
        let port = |vlan| SteerPort { kind: Kind::Uplink, mac: Some(mac), is_policed: false, vlan };
        for (tag, expected) in [
            (&[][..], Steer::Pass),
            (&[0x81, 0, 0, 100], Steer::Redirect),
            (&[0x81, 0, 0xe0, 100], Steer::Redirect),
            (&[0x81, 0, 0, 101], Steer::Pass),
            (&[0x88, 0xa8, 0, 100], Steer::Pass),
            (&[0x81, 0, 0, 100, 0x81, 0, 0, 100], Steer::Pass),
        ] {
            let mut frame = vxlan(mac);
            frame.splice(12..12, tag.iter().copied());
            assert_eq!(steer(&tables, &port(Some(100)), &frame), expected, "{tag:02x?}");
            let untagged = if tag.is_empty() { Steer::Redirect } else { Steer::Pass };
            assert_eq!(steer(&tables, &port(None), &frame), untagged, "{tag:02x?}");
        }
        let other = vxlan([2, 0, 0, 0, 0, 8]);
        let tagged = [&other[..12], &[0x81, 0, 0, 100], &other[12..]].concat();
        assert_eq!(steer(&tables, &port(Some(100)), &tagged), Steer::Pass, "another station's");
    }

    #[test]
    fn pod_hides_no_tunnel_packet_behind_extension_headers() {
        let node = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
        let routes = Routes::from([((IpAddr::from(node), 128), Destination::Local)]);
        let tables = SteerTables::new(&routes, 4789);
        let port = SteerPort { kind: Kind::Pod, mac: None, is_policed: false, vlan: None };
        let udp = [0x12, 0x34, 0x12, 0xb5, 0, 8, 0, 0];
        let (options, first, later) =
            ([17, 0, 0, 0, 0, 0, 0, 0], [17, 0, 0, 1, 0, 0, 0, 9], [17, 0, 0, 9, 0, 0, 0, 9]);
        for (next, header, expected) in [
            (17, &[][..], Steer::Redirect),
            (60, &options[..], Steer::Redirect),
            (44, &first[..], Steer::Redirect),
            // Nothing without its first.
            (44, &later[..], Steer::Pass),
            (6, &[][..], Steer::Pass),
        ] {
            let ip = [&[0x60, 0, 0, 0, 0, 0, next, 64][..], &[0xfd; 16], &node].concat();
            let frame = [&[2; 12][..], &[0x86, 0xdd], &ip, header, &udp].concat();
            assert_eq!(steer(&tables, &port, &frame), expected, "{next} {header:?}");
        }
    }
}
