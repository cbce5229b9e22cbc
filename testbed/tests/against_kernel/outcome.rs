//! What a gateway makes of a packet, without what no two gateways need have alike.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::packet::{Port, hex};
use crate::common::world::GW_A;

/// The frames that a packet became, with the wires that they came out of; none: it was dropped.
#[derive(Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    frames: Vec<(Port, Vec<u8>)>,
}

impl Outcome {
    pub fn add(&mut self, port: Port, mut frame: Vec<u8>) {
        mask(&mut frame);
        self.frames.push((port, frame));
        self.frames.sort();
    }
}

impl Outcome {
    /// The same with errors of the gateway's own that can carry no congestion mark.
    pub fn with_errors_unmarked(&self) -> Self {
        let mut unmarked = self.clone();
        for (_, frame) in &mut unmarked.frames {
            let l3 = 14 + vxlan(frame);
            if is_own_error(frame, l3) && frame[l3] >> 4 == 4 {
                // Also what a tunnel's outer header has of it.
                for ip in [14, l3] {
                    frame[ip + 1] &= !3;
                }
            }
        }
        unmarked
    }

    /// The same with congestion marked on outer headers.
    pub fn with_outer_ce(&self) -> Self {
        let mut marked = self.clone();
        // What the packet is answered by has no mark.
        let is_it = |frame: &[u8]| vxlan(frame) > 0 && !is_own_error(frame, 14 + vxlan(frame));
        for (_, frame) in marked.frames.iter_mut().filter(|(_, frame)| is_it(frame)) {
            // Where ECN is in a header of either family.
            frame[15] |= if frame[14] >> 4 == 6 { 0x30 } else { 3 };
        }
        marked
    }
}

impl fmt::Debug for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (port, frame) in &self.frames {
            writeln!(f, "by {port:?}, {} bytes: {}", frame.len(), hex(frame))?;
        }
        if self.frames.is_empty() { writeln!(f, "nothing") } else { Ok(()) }
    }
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// RFC 1071: 0 where the bytes have the right checksum in them.
fn folded(bytes: &[u8]) -> u16 {
    let sum: u32 =
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from)).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !((sum & 0xffff) + (sum >> 16)) as u16
}

/// Bytes of the VXLAN headers that the frame has around another; none where it has none.
fn vxlan(frame: &[u8]) -> usize {
    let udp = match (word(frame, 12), frame.get(20), frame.get(23)) {
        (0x0800, _, Some(17)) => 34,
        (0x86dd, Some(17), _) => 54,
        _ => return 0,
    };
    if frame.len() > udp + 50 && word(frame, udp + 2) == 4789 { udp + 16 } else { 0 }
}

/// Whether an ICMP error of the gateway's is at the offset.
fn is_own_error(frame: &[u8], l3: usize) -> bool {
    let own: [IpAddr; 2] = [GW_A.address().into(), Ipv4Addr::new(10, 65, 10, 1).into()];
    match frame[l3] >> 4 {
        4 if frame[l3 + 9] == 1 => {
            let src = Ipv4Addr::new(frame[l3 + 12], frame[l3 + 13], frame[l3 + 14], frame[l3 + 15]);
            own.contains(&src.into()) && matches!(frame[l3 + 20], 3 | 11 | 12)
        }
        // Nobody else sends any.
        6 => frame[l3 + 6] == 58 && frame[l3 + 40] < 128,
        _ => false,
    }
}

/// Number of the packet that this is, carries or speaks of.
pub fn tag(frame: &[u8]) -> Option<u16> {
    let l3 = 14 + vxlan(frame);
    if !matches!(word(frame, l3 - 2), 0x0800 | 0x86dd) || frame.len() < l3 + 48 {
        return None;
    }
    let is_ipv6 = frame[l3] >> 4 == 6;
    let at = if is_own_error(frame, l3) { l3 + if is_ipv6 { 48 } else { 28 } } else { l3 };
    Some(if frame[at] >> 4 == 6 { word(frame, at + 2) } else { word(frame, at + 4) })
}

/// Blanks what is of no account, after a look at whether it is right.
fn mask(frame: &mut [u8]) {
    let tunnel = vxlan(frame);
    if tunnel > 0 {
        let udp = tunnel - 16;
        let is_right = has_right_checksum(frame, udp);
        blank_ident(frame, 14);
        // Each hashes flows in its own way, and Linux fills in UDP's checksum.
        frame[udp..udp + 2].fill(0);
        frame[udp + 6..udp + 8].fill(if is_right { 0 } else { 0xff });
    }
    let l3 = 14 + tunnel;
    if is_own_error(frame, l3) {
        blank_ident(frame, l3);
        if frame[l3] >> 4 == 6 {
            blank_source6(frame, l3);
        }
    }
}

/// Of IPv4.
fn blank_ident(frame: &mut [u8], l3: usize) {
    if frame[l3] >> 4 == 4 {
        let is_right = folded(&frame[l3..l3 + 20]) == 0;
        frame[l3 + 4..l3 + 6].fill(0);
        frame[l3 + 10..l3 + 12].fill(if is_right { 0 } else { 0xff });
    }
}

/// Of an ICMPv6 error, with the checksum that it is in: of its addresses Linux takes the tunnel device's, Margay the underlay's.
fn blank_source6(frame: &mut [u8], l3: usize) {
    let length = &frame[l3 + 4..l3 + 6];
    let pseudo = [&frame[l3 + 8..l3 + 40], length, &[0, 58], &frame[l3 + 40..]].concat();
    let is_right = folded(&pseudo) == 0;
    frame[l3 + 8..l3 + 24].fill(0);
    frame[l3 + 42..l3 + 44].fill(if is_right { 0 } else { 0xff });
}

/// Of the outer UDP header, which may have none over IPv4.
fn has_right_checksum(frame: &[u8], udp: usize) -> bool {
    let is_ipv4 = frame[14] >> 4 == 4;
    let addresses = if is_ipv4 { &frame[26..34] } else { &frame[22..54] };
    let length = &frame[udp + 4..udp + 6];
    let pseudo = [addresses, &[0, 17], length, &frame[udp..]].concat();
    is_ipv4 && word(frame, udp + 6) == 0 || folded(&pseudo) == 0
}
