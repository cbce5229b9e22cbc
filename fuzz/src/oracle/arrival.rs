//! What of a frame may go on, if anything may: the packet itself, or the one in its tunnel.

use std::net::IpAddr;

use margay_fastpath::Gso;
use margay_flowtable::{InnerSource, PortId};

use super::packet;
use crate::frame::Told;
use crate::packet::mend;
use crate::view::{self, Sum, TCP, UDP, View, be16};
use crate::world::{NODE, NODE6, PEERS, PEERS6, PODS, UPLINKS, VNI, VTEP, VTEP6, VXLAN_PORT, World};

const NEVER: (Gso, u16) = (Gso::Never, 0);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub port: PortId,
    /// As it came in, but for a congestion mark that its tunnel's header had.
    pub packet: Vec<u8>,
    pub view: View,
    pub in_tunnel: bool,
    /// What the port says of whether it is several in one, and bytes of payload in each.
    pub gso: (Gso, u16),
}

impl Arrival {
    pub fn of(world: &World, port: PortId, frame: &[u8]) -> Option<Self> {
        if !world.is_open(port) || frame.first()? & 1 != 0 {
            return None;
        }
        let mut packet = packet(frame)?.to_vec();
        let mut view = View::of(&packet)?;
        if !is_passable(&view, &packet) {
            return None;
        }
        let is_tunnel = is_in_tunnel_protocol(&view, &packet);
        if PODS.contains(&port) {
            let is_forbidden = is_tunnel && is_node(view.dst) && !world.config.tunnels_from_pods;
            let is_own = world.addresses(port).contains(&view.src);
            return (is_own && !is_forbidden).then_some(Self {
                port,
                packet,
                view,
                in_tunnel: false,
                gso: NEVER,
            });
        }
        if !UPLINKS.contains(&port) {
            return None;
        }
        let in_tunnel = is_tunnel && is_here(view.dst);
        if in_tunnel {
            (packet, view) = open(world, &view, &packet)?;
        }
        (!is_from_nobody(view.src) && !is_from_here(world, view.src)).then_some(Self {
            port,
            packet,
            view,
            in_tunnel,
            gso: NEVER,
        })
    }

    /// Bytes behind its transport header.
    fn payload(&self) -> usize {
        let View { transport, end, protocol, .. } = self.view;
        let header = match protocol {
            TCP => usize::from(self.packet.get(transport + 12).map_or(5, |offset| offset >> 4)) * 4,
            _ => 8,
        };
        (end - transport).saturating_sub(header)
    }

    /// As its port says so. Several datagrams have DF here: each of them is else split by itself. What is no longer than one
    /// of them is one.
    pub fn told(self, told: Told) -> Self {
        let is_one =
            self.view.part.is_some() || matches!(told, Told::Size(size) if self.payload() <= size.into());
        let gso = match (told, self.view.protocol) {
            (Told::Never, _) => NEVER,
            (Told::Nothing, _) => (Gso::Untold, 0),
            (Told::Size(size), TCP) if !is_one => (Gso::Tcp, size),
            (Told::Size(size), UDP) if !is_one && self.view.dont_fragment => {
                (if self.in_tunnel { Gso::UdpInTunnel } else { Gso::Udp }, size)
            }
            (Told::Size(_), _) => (Gso::One, 0),
        };
        Self { gso, ..self }
    }
}

/// What lies in a tunnel packet to this node, if its sender may send that.
fn open(world: &World, outer: &View, packet: &[u8]) -> Option<(Vec<u8>, View)> {
    let is_known = is_peer(outer.src);
    if outer.part.is_some() || !is_known {
        return None;
    }
    let inner = if outer.protocol == UDP { vxlan(world, outer, packet)? } else { outer.segment(packet) };
    let view = View::of(inner)?;
    let mut inner = inner[..view.end].to_vec();
    let is_nested = is_in_tunnel_protocol(&view, &inner) && is_here(view.dst);
    if !is_passable(&view, &inner) || is_nested || !admits(world, outer.src, view.src) {
        return None;
    }
    // RFC 6040 4.2, figure 4.
    let mark = match (view.tos & 3, outer.tos & 3) {
        (0, 3) => return None,
        (1 | 2, 3) => 3,
        (2, 1) => 1,
        (own, _) => own,
    };
    if view.is_ipv6() {
        inner[1] = inner[1] & !0x30 | mark << 4;
    } else if mark != view.tos & 3 {
        inner[1] = inner[1] & !3 | mark;
        mend(&mut inner);
    }
    let view = View::of(&inner)?;
    Some((inner, view))
}

/// The packet in VXLAN (RFC 7348 5).
fn vxlan<'p>(world: &World, outer: &View, packet: &'p [u8]) -> Option<&'p [u8]> {
    let datagram = outer.segment(packet);
    let len = usize::from(be16(datagram.get(..8)?, 4));
    let (header, frame) = datagram.get(8..len)?.split_at_checked(8)?;
    let vni = u32::from(header[4]) << 16 | u32::from(header[5]) << 8 | u32::from(header[6]);
    let vtep = if outer.is_ipv6() { VTEP6 } else { VTEP };
    let is_for_us = frame.get(..6)? == vtep || frame[..6] == [0xff; 6];
    let inner = self::packet(frame)?;
    let is_summed = !outer.is_ipv6() || is_summed(world, outer.sum(packet), inner);
    (header[0] & 8 != 0 && vni == VNI && is_for_us && is_summed).then_some(inner)
}

/// Whether a datagram of this sum over IPv6 is taken (RFC 6936). Where the inner checksum is left to the device, so may
/// the outer one be that goes with it.
fn is_summed(world: &World, outer: Sum, inner: &[u8]) -> bool {
    match outer {
        Sum::Absent => world.config.takes_zero_checksum,
        Sum::Wrong => View::of(inner).is_some_and(|view| view.sum(inner) == Sum::Partial),
        Sum::Right | Sum::Partial | Sum::Unknown => true,
    }
}

/// Whether the IP header is sound and has no source route.
fn is_passable(view: &View, packet: &[u8]) -> bool {
    let is_sound = |options: &[u8]| {
        view::options(options).all(|option| match option {
            [0 | 1] => true,
            [kind, _, ..] => !matches!(kind, 131 | 137),
            _ => false,
        })
    };
    view.header_sum_holds(packet) && (view.is_ipv6() || is_sound(&packet[20..view.transport]))
}

fn is_in_tunnel_protocol(view: &View, packet: &[u8]) -> bool {
    let is_vxlan = view.protocol == UDP && view.ports(packet).is_some_and(|(_, dport)| dport == VXLAN_PORT);
    is_vxlan || !view.is_ipv6() && view.protocol == 4
}

fn is_here(address: IpAddr) -> bool {
    address == NODE || address == NODE6
}

fn is_peer(address: IpAddr) -> bool {
    PEERS.iter().any(|peer| address == *peer) || PEERS6.iter().any(|peer| address == *peer)
}

fn is_node(address: IpAddr) -> bool {
    is_here(address) || is_peer(address)
}

/// Whether a node may send packets from there.
fn admits(world: &World, sender: IpAddr, src: IpAddr) -> bool {
    let is_home = world.is_behind_tunnels(src);
    match world.config.inner_source {
        InnerSource::Strict => is_home && (sender == PEERS[0] || sender == PEERS6[0]),
        InnerSource::Loose => is_home,
        InnerSource::Off => true,
    }
}

/// Whether no packet has this source (RFC 1812 5.3.7).
fn is_from_nobody(src: IpAddr) -> bool {
    let is_reserved = matches!(src, IpAddr::V4(src) if src.octets()[0] == 0 || src.octets()[0] >= 224);
    is_reserved || src.is_multicast() || src.is_loopback() || src.is_unspecified()
}

fn is_from_here(world: &World, src: IpAddr) -> bool {
    is_here(src) || PODS.into_iter().any(|pod| world.addresses(pod).contains(&src))
}
