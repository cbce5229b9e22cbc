//! When each address, each pair of addresses, and each interface was last touched by a change.
//!
//! A flow remembers the generation that it was last judged or confirmed at. It is still right if neither of its ends,
//! nor the two together, were touched after that. So a change costs a re-evaluation only to the flows that it touches
//! (and, one in 65,536, to those that share a slot with one), however many snapshots lie between.

use std::iter::repeat_n;
use std::net::IpAddr;
use std::sync::Arc;

use crate::Interface;
use crate::hash::mix;

const SLOT_BITS: u32 = 16;
const PAGE_BITS: u32 = 8;
const PAGE: usize = 1 << PAGE_BITS;

/// Generations by hash of what they touched. Clones share pages.
#[derive(Clone, Debug)]
pub struct Epochs {
    /// Of the snapshot that it belongs to.
    generation: u32,
    /// When the last interface was touched, whichever it was.
    interfaces: u32,
    pages: Box<[Arc<[u32; PAGE]>]>,
}

impl Default for Epochs {
    fn default() -> Self {
        let untouched = Arc::new([0; PAGE]);
        let pages = repeat_n(untouched, 1 << (SLOT_BITS - PAGE_BITS)).collect();
        Self { generation: 0, interfaces: 0, pages }
    }
}

impl Epochs {
    /// The same for the snapshot of this generation.
    pub(super) fn succeed(&self, generation: u32) -> Self {
        Self { generation, interfaces: self.interfaces, pages: self.pages.clone() }
    }

    /// Whether no change touched flows between the two addresses after `generation` (a serial number, RFC 1982).
    pub fn is_current(&self, src: IpAddr, dst: IpAddr, generation: u32) -> bool {
        let not_after = |hash| self.is_not_after(hash, generation);
        let (src, dst) = (hash_of(src), hash_of(dst));
        not_after(src) && not_after(dst) && not_after(pair(src, dst))
    }

    /// Whether no change touched flows through the interface after `generation`.
    pub fn is_current_at(&self, interface: Interface, generation: u32) -> bool {
        self.are_interfaces_current(generation) || self.is_not_after(interface_hash(interface), generation)
    }

    /// The same of all interfaces.
    #[inline]
    pub fn are_interfaces_current(&self, generation: u32) -> bool {
        generation.wrapping_sub(self.interfaces).cast_signed() >= 0
    }

    #[inline]
    fn is_not_after(&self, hash: u64, generation: u32) -> bool {
        let (page, slot) = place(hash);
        generation.wrapping_sub(self.pages[page][slot]).cast_signed() >= 0
    }

    /// Touches all flows that come in or leave by the interface.
    pub fn touch_interface(&mut self, interface: Interface) {
        self.interfaces = self.generation;
        self.stamp(interface_hash(interface));
    }

    /// Touches all flows of the address.
    pub fn touch(&mut self, address: IpAddr) {
        self.stamp(hash_of(address));
    }

    /// Touches the flows between the two addresses, in either direction.
    pub fn touch_pair(&mut self, a: IpAddr, b: IpAddr) {
        self.stamp(pair(hash_of(a), hash_of(b)));
    }

    fn stamp(&mut self, hash: u64) {
        let (page, slot) = place(hash);
        // A page that is as it should be is left shared.
        if self.pages[page][slot] != self.generation {
            Arc::make_mut(&mut self.pages[page])[slot] = self.generation;
        }
    }
}

fn hash_of(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(a) => mix(u64::from(a.to_bits())),
        IpAddr::V6(a) => mix((a.to_bits() >> 64) as u64 ^ mix(a.to_bits() as u64)),
    }
}

fn interface_hash(interface: Interface) -> u64 {
    // Beyond the addresses of IPv4.
    mix(1 << 32 | u64::from(interface.code()))
}

/// The same for both orders of the ends.
fn pair(a: u64, b: u64) -> u64 {
    mix(a.wrapping_add(b))
}

/// Page, and slot in it.
fn place(hash: u64) -> (usize, usize) {
    let slot = (hash >> (u64::BITS - SLOT_BITS)) as usize;
    (slot >> PAGE_BITS, slot & (PAGE - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 0x0a00_0001;
    const B: u32 = 0x0a00_0002;
    const C: u32 = 0x0a00_0003;

    impl Epochs {
        fn current4(&self, src: u32, dst: u32, generation: u32) -> bool {
            let [src, dst] = [src, dst].map(|address| IpAddr::V4(address.into()));
            self.is_current(src, dst, generation)
        }
    }

    #[test]
    fn touch_is_of_an_address_or_of_a_pair_either_way() {
        let before = Epochs::default().succeed(5);
        let (mut address, mut both) = (before.succeed(6), before.succeed(6));
        address.touch(IpAddr::V4(A.into()));
        both.touch_pair(IpAddr::V4(A.into()), IpAddr::V4(B.into()));
        for (src, dst, of_address, of_pair) in [
            (A, B, false, false),
            (B, A, false, false),
            (A, C, false, true),
            (C, A, false, true),
            (B, C, true, true),
        ] {
            assert_eq!(address.current4(src, dst, 5), of_address, "{src:x} {dst:x}");
            assert_eq!(both.current4(src, dst, 5), of_pair, "{src:x} {dst:x}");
            assert!(
                before.current4(src, dst, 5) && address.current4(src, dst, 6) && both.current4(src, dst, 6)
            );
        }
    }
}
