//! The short way through the parser: what nearly every packet is, in as few steps as it takes, or nothing.

use super::Headers;
use crate::bytes::{be16, ne32};
use crate::checksum::{self, Sum};
use crate::ethernet;
use crate::ipv4;
use crate::protocol;
use crate::tcp::{self, Tcp};
use crate::udp;

const L3: usize = ethernet::HEADER_LEN;
const L4: usize = L3 + ipv4::HEADER_LEN;

/// The protocol in the header's third word: a 16-bit word of its own, as in the pseudo header.
const PROTOCOL: u32 = u32::from_ne_bytes([0, 0xff, 0, 0]);

/// Parses what nearly every packet is, in as few steps as it takes: behind 14 bytes, whatever these are, an IPv4
/// header without options, whole, and TCP or UDP. `None`: something else, or something wrong; [`parse_ip`] tells.
#[inline(always)]
pub fn parse_plain(frame: &[u8]) -> Option<Headers> {
    // The shortest that there is: UDP without data. With so many bytes there, no field needs a check of its own.
    let bytes: &[u8; L4 + udp::HEADER_LEN] = frame.first_chunk()?;
    let (mut headers, addresses) = header(bytes, frame.len())?;
    let total_len = be16(bytes, L3 + 2);
    let (len, checksum) = match headers.protocol() {
        protocol::UDP => {
            let len = be16(bytes, L4 + 4);
            if usize::from(len) < udp::HEADER_LEN
                || usize::from(len) + ipv4::HEADER_LEN > usize::from(total_len)
            {
                return None;
            }
            (len, be16(bytes, L4 + udp::CHECKSUM_OFFSET))
        }
        protocol::TCP => {
            let tcp = Tcp::from_array(frame[L4..].first_chunk()?);
            let len = tcp.header_len();
            if len < tcp::HEADER_LEN || len + ipv4::HEADER_LEN > usize::from(total_len) {
                return None;
            }
            headers.tcp_flags = tcp.flags();
            (total_len - ipv4::HEADER_LEN as u16, tcp.checksum())
        }
        _ => return None,
    };
    headers.ports = ne32(bytes, L4);
    let pseudo_header = addresses.and(headers.third & PROTOCOL).add_u16(len);
    headers.set_partial(checksum::is_partial(checksum, pseudo_header));
    Some(headers)
}

/// Parses behind 14 bytes, whatever these are, an IPv4 header without options of a whole packet, and nothing that
/// follows: the outer header of a tunnel packet. `None`: something else, or something wrong; [`parse_ip`] tells.
#[inline(always)]
pub fn parse_outer(frame: &[u8]) -> Option<Headers> {
    let bytes: &[u8; L4] = frame.first_chunk()?;
    let (headers, _) = header(bytes, frame.len())?;
    (usize::from(headers.total_len()) >= ipv4::HEADER_LEN).then_some(headers)
}

/// A sound header without options, and the sum of its addresses, which the pseudo header has too. `len`: the frame's.
#[inline(always)]
fn header<const N: usize>(bytes: &[u8; N], len: usize) -> Option<(Headers, Sum)> {
    let headers = Headers::load(bytes, L3);
    let addresses = Sum::of_words(headers.addresses as u32).and((headers.addresses >> 32) as u32);
    let sum = addresses.and(headers.first).and(headers.second).and(headers.third);
    let end = L3 + usize::from(be16(bytes, L3 + 2));
    let usual = bytes[L3] == 0x45 && headers.second & u32::from(ipv4::FRAGMENT).to_be() == 0;
    (usual && end <= len && sum.is_ones()).then_some((headers, addresses))
}
