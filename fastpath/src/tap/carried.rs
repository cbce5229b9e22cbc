//! What a tunnel packet carries, for filters: as its bytes say, whoever sent it and whether it will be taken out.

use margay_encap::ethernet::{self, ethertype};
use margay_encap::{parse, parse_ip6, protocol, udp, vxlan};

use super::program::Packet;

/// The Ethernet header that stands before a packet of IPv4 that has none.
const BARE: [u8; ethernet::HEADER_LEN] = {
    let [high, low] = ethertype::IPV4.to_be_bytes();
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low]
};

/// What is in a frame of IP-in-IP, or of VXLAN at this UDP port. `None` for every other frame, and for fragments.
pub fn carried(frame: &[u8], vxlan_port: u16) -> Option<Packet<'_>> {
    let l3 = ethernet::HEADER_LEN as u16;
    let is_ipv6 = frame.get(12..ethernet::HEADER_LEN)? == ethertype::IPV6.to_be_bytes();
    let headers = if is_ipv6 { parse_ip6(frame, l3) } else { parse(frame) }.ok()?;
    if headers.is_fragment() {
        return None;
    }
    let end = headers.end() as usize;
    match headers.protocol() {
        protocol::IPIP if !headers.is_ipv6() => {
            Some(Packet { front: &BARE, rest: frame.get(headers.transport().into()..end)? })
        }
        protocol::UDP if headers.dport() == vxlan_port => {
            let inner = usize::from(headers.transport()) + udp::HEADER_LEN + vxlan::HEADER_LEN;
            Some(frame.get(inner..end)?.into())
        }
        _ => None,
    }
}
