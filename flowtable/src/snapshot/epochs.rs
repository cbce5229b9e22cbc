//! When each address, and each pair of addresses, was last touched by a change.
//!
//! A flow remembers the generation that it was last judged or confirmed at. It is still right if neither of its ends,
//! nor the two together, were touched after that. So a change costs a re-evaluation only to the flows that it touches
//! (and, one in 65,536, to those that share a slot with one), however many snapshots lie between.

use std::net::IpAddr;

const SLOT_BITS: u32 = 16;
const SLOTS: usize = 1 << SLOT_BITS;

/// Generations by hash of what they touched.
#[derive(Clone, Debug)]
pub struct Epochs {
    slots: Box<[u32]>,
}

impl Default for Epochs {
    fn default() -> Self {
        Self { slots: vec![0; SLOTS].into_boxed_slice() }
    }
}

impl Epochs {
    /// Whether no change touched flows between the two addresses after `generation` (a serial number, RFC 1982).
    pub fn current4(&self, src: u32, dst: u32, generation: u32) -> bool {
        let not_after = |hash: u64| generation.wrapping_sub(self.slots[slot(hash)]).cast_signed() >= 0;
        let (src, dst) = (u64::from(src), u64::from(dst));
        not_after(hash(src)) && not_after(hash(dst)) && not_after(pair(hash(src), hash(dst)))
    }

    /// Touches all flows of the address.
    pub(super) fn stamp(&mut self, address: IpAddr, generation: u32) {
        self.slots[slot(hash_of(address))] = generation;
    }

    /// Touches the flows between the two addresses, in either direction.
    pub(super) fn stamp_pair(&mut self, a: IpAddr, b: IpAddr, generation: u32) {
        self.slots[slot(pair(hash_of(a), hash_of(b)))] = generation;
    }
}

fn hash_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(a) => hash(u64::from(a.to_bits())),
        IpAddr::V6(a) => hash((a.to_bits() >> 64) as u64 ^ hash(a.to_bits() as u64)),
    }
}

/// The finalizer of splitmix64: every bit of the input reaches every bit of the output.
fn hash(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// The same for both orders of the ends.
fn pair(a: u64, b: u64) -> u64 {
    hash(a.wrapping_add(b))
}

fn slot(hash: u64) -> usize {
    (hash >> (64 - SLOT_BITS)) as usize
}
