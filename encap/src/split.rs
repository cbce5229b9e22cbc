//! A packet without DF that is longer than an MTU, split into fragments (RFC 791 3.2).

use core::ops::Range;

use crate::bytes::put16;
use crate::checksum::Sum;
use crate::ipv4::{self, FRAGMENT_OFFSET, Ipv4, MAX_HEADER_LEN, MORE_FRAGMENTS};
use crate::options;

/// Bytes in a unit of the fragment offset.
const UNIT: usize = 8;

/// The fragments of one packet, which may itself be one.
#[derive(Clone, Copy, Debug)]
pub struct Split {
    header: [u8; MAX_HEADER_LEN],
    header_len: usize,
    payload: usize,
    /// Bytes of payload in each fragment but the last.
    step: usize,
}

/// A fragment: its header, and which part of the packet's payload follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    header: [u8; MAX_HEADER_LEN],
    header_len: usize,
    pub payload: Range<usize>,
}

impl Fragment {
    pub fn header(&self) -> &[u8] {
        &self.header[..self.header_len]
    }
}

impl Split {
    /// Of `packet`, whose options are sound, into fragments of at most `mtu` bytes, header included, that leave with this
    /// TTL. `None`: the MTU has no room for a unit of payload, or an offset would be beyond what its field holds.
    pub fn new(packet: &[u8], ttl: u8, mtu: u16) -> Option<Self> {
        let ip = Ipv4::new(packet)?;
        let header_len = Some(ip.header_len()).filter(|len| *len >= ipv4::HEADER_LEN)?;
        let mut header = [0; MAX_HEADER_LEN];
        header[..header_len].copy_from_slice(packet.get(..header_len)?);
        header[8] = ttl;
        let payload = packet.len() - header_len;
        let step = usize::from(mtu).checked_sub(header_len)? / UNIT * UNIT;
        let begins = usize::from(ip.fragment_offset()) * UNIT;
        let fits = begins + payload <= usize::from(FRAGMENT_OFFSET) * UNIT + UNIT;
        (step > 0 && fits).then_some(Self { header, header_len, payload, step })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.payload.div_ceil(self.step)
    }

    /// In order. The identification stays, and with it that they belong together; only the last may be the packet's end.
    pub fn fragments(self) -> impl Iterator<Item = Fragment> {
        let starts = (0..self.payload).step_by(self.step);
        starts.map(move |start| self.fragment(start..self.payload.min(start + self.step)))
    }

    fn fragment(&self, payload: Range<usize>) -> Fragment {
        let Self { mut header, header_len, .. } = *self;
        if payload.start > 0 {
            options::blank_uncopied(&mut header[ipv4::HEADER_LEN..header_len]);
        }
        let flags = u16::from_be_bytes([header[6], header[7]]);
        let more = if payload.end < self.payload { MORE_FRAGMENTS } else { 0 };
        // Adding to the offset alone: `new` has seen that it does not run over.
        put16(&mut header, 6, (flags | more) + (payload.start / UNIT) as u16);
        put16(&mut header, 2, (header_len + payload.len()) as u16);
        put16(&mut header, 10, 0);
        // What lies behind a shorter header is 0.
        let checksum = Sum::of(&header).finish();
        put16(&mut header, 10, checksum);
        Fragment { header, header_len, payload }
    }
}
