//! The stamp that every packet of a trial carries at the start of its UDP payload, as `bpf/stamp.h` has it:
//!
//! ```text
//! 0  "Mgy"       marks packets of the lab
//! 3  trial       of which trial; of 0, the sink sends the packet back
//! 4  number      from 0 in each trial, network order
//! 8  departure   CLOCK_MONOTONIC in nanoseconds, network order
//! ```

use crate::lab::world::VXLAN_PORT;

const MARK: [u8; 3] = *b"Mgy";

/// Bytes of a stamp: they fit a frame of 64 bytes.
pub const LENGTH: usize = 16;

/// Not of a trial: connection trackers are to see both directions of each flow, so the sink answers.
pub const PRIME: u8 = 0;

/// The first four bytes of a trial's stamps, as a number in network order.
pub(super) fn mark(trial: u8) -> u32 {
    let [m, g, y] = MARK;
    u32::from_be_bytes([m, g, y, trial])
}

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const VXLAN: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub trial: u8,
    pub number: u32,
    pub departure: u64,
}

impl Stamp {
    #[must_use]
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..3].copy_from_slice(&MARK);
        bytes[3] = self.trial;
        bytes[4..8].copy_from_slice(&self.number.to_be_bytes());
        bytes[8..].copy_from_slice(&self.departure.to_be_bytes());
        bytes
    }

    /// The stamp that these bytes begin with.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (&bytes, _) = bytes.split_first_chunk::<LENGTH>()?;
        let [m, g, y, trial, n0, n1, n2, n3, departure @ ..] = bytes;
        ([m, g, y] == MARK).then_some(Self {
            trial,
            number: u32::from_be_bytes([n0, n1, n2, n3]),
            departure: u64::from_be_bytes(departure),
        })
    }

    /// The stamp of a frame, plain, in VXLAN or in IP-in-IP.
    #[must_use]
    pub fn find(frame: &[u8]) -> Option<Self> {
        Self::read(frame.get(offset(frame)?..)?)
    }
}

/// Where the stamp stands in a frame of the lab; none of them has IP options.
fn offset(frame: &[u8]) -> Option<usize> {
    const TYPE_IPV4: [u8; 2] = [8, 0];
    const IPIP: u8 = 4;
    if frame.get(12..ETHERNET)? != TYPE_IPV4 {
        return None;
    }
    let port = [*frame.get(ETHERNET + IPV4 + 2)?, *frame.get(ETHERNET + IPV4 + 3)?];
    let outer = if frame[ETHERNET + 9] == IPIP {
        IPV4
    } else if u16::from_be_bytes(port) == VXLAN_PORT {
        IPV4 + UDP + VXLAN + ETHERNET
    } else {
        0
    };
    Some(outer + ETHERNET + IPV4 + UDP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_as_written() {
        let stamp = Stamp { trial: 3, number: 0x0102_0304, departure: 0x0506_0708_090a_0b0c };
        let bytes = stamp.to_bytes();
        assert_eq!(bytes, *b"Mgy\x03\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c");
        assert_eq!(Stamp::read(&bytes), Some(stamp));
        assert_eq!(Stamp::read(&bytes[..15]), None);
        assert_eq!(Stamp::read(&[0; LENGTH]), None);
    }

    #[test]
    fn no_frame_is_too_short_to_look_for_one() {
        let mut frame = [0; 64];
        frame[12] = 8;
        for protocol in [4, 17] {
            frame[23] = protocol;
            for length in 0..frame.len() {
                assert_eq!(Stamp::find(&frame[..length]), None);
            }
        }
    }
}
