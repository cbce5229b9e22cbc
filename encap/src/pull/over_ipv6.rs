//! VXLAN over IPv6: the UDP checksum counts, for IPv6 has none of its own.

use super::{PullError, VxlanInner, ZeroChecksum, vxlan_at};
use crate::checksum::{Sum, pseudo_header_v6};
use crate::ethernet::{self, Ethernet, ethertype};
use crate::parse::{Headers, addresses6, parse_ip, parse_ip6};
use crate::protocol;
use crate::tcp;
use crate::udp::{self, Udp};
use crate::vxlan;

/// From the UDP header to the inner Ethernet header.
const TO_ETHERNET: usize = udp::HEADER_LEN + vxlan::HEADER_LEN;

/// The inner packet of a VXLAN packet over IPv6, as [`vxlan`](super::vxlan) over IPv4, and the checksum verified.
///
/// `outer` is of protocol UDP and no fragment, parsed from `frame`.
pub fn vxlan_over_ipv6(
    frame: &[u8],
    outer: &Headers,
    zero_checksum: ZeroChecksum,
) -> Result<VxlanInner, PullError> {
    debug_assert!(outer.protocol() == protocol::UDP && outer.is_ipv6());
    let l4 = usize::from(outer.transport());
    let payload = frame.get(l4..outer.end() as usize).ok_or(PullError::Truncated)?;
    let udp = Udp::new(payload).ok_or(PullError::Truncated)?;
    let datagram = payload.get(..usize::from(udp.datagram_len())).ok_or(PullError::Truncated)?;
    match (udp.checksum(), zero_checksum) {
        (0, ZeroChecksum::Refused) => return Err(PullError::NoChecksum),
        (0, ZeroChecksum::Accepted) => {}
        // A sender on this machine has left it to the device.
        _ if outer.checksum_partial() => {}
        _ => verify(frame, outer, datagram)?,
    }
    vxlan_at(frame, outer.transport(), outer.end())
}

fn verify(frame: &[u8], outer: &Headers, datagram: &[u8]) -> Result<(), PullError> {
    let [src, dst] = addresses6(frame, outer);
    let (len, l4) = (datagram.len(), usize::from(outer.transport()));
    let pseudo_header = pseudo_header_v6(src.to_bits(), dst.to_bits(), protocol::UDP, len as u32);
    let holds = pseudo_header.add(Sum::of(datagram)).is_ones()
        || with_inner_completed(&frame[..l4 + len], l4).is_some_and(|sum| pseudo_header.add(sum).is_ones());
    if holds { Ok(()) } else { Err(PullError::BadChecksum) }
}

/// The sum of a datagram at `l4`, at the frame's end, as it will be when the device has filled in the checksum of the
/// inner packet. That is what Linux sums where it leaves that one to the device (`lco_csum`); `None` where it has not.
#[cold]
fn with_inner_completed(frame: &[u8], l4: usize) -> Option<Sum> {
    let ethernet = Ethernet::new(frame.get(l4 + TO_ETHERNET..)?)?;
    let l3 = (l4 + TO_ETHERNET + ethernet::HEADER_LEN) as u16;
    let inner = match ethernet.ethertype() {
        ethertype::IPV4 => parse_ip(frame, l3),
        _ => parse_ip6(frame, l3),
    };
    let inner = inner.ok().filter(Headers::checksum_partial)?;
    let at = match inner.protocol() {
        protocol::TCP => tcp::CHECKSUM_OFFSET,
        protocol::UDP => udp::CHECKSUM_OFFSET,
        _ => return None,
    };
    let segment = usize::from(inner.transport());
    let [high, low] = *frame.get(segment + at..)?.first_chunk()?;
    // A segment with its checksum adds up to the complement of its pseudo header, whose sum stands there now.
    Some(Sum::of(&frame[l4..segment]).add_u16(!u16::from_be_bytes([high, low])))
}
