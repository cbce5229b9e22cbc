//! Whether who sent a tunnel packet may send from the address that the packet inside comes from.
//!
//! It is asked of every packet, so what was found is remembered: a pair of addresses that went together goes together
//! for as long as the snapshot stands.

use std::array;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use margay_encap::Headers;
use margay_flowtable::{Key, Snapshot};

use super::ingress::{Input, own_key};
use super::martian::check_source;
use crate::drop::DropReason;

/// Pairs remembered, each at the place that its inner source has.
const PAIRS: usize = 1 << 12;

/// Pairs of an inner source and a tunnel end, both of IPv4. (One worker's: atomic only so that it can be shared with who works on a
/// burst.)
#[derive(Debug)]
pub(super) struct KnownSenders {
    pairs: [AtomicU64; PAIRS],
    generation: AtomicU32,
}

impl Default for KnownSenders {
    fn default() -> Self {
        Self { pairs: array::from_fn(|place| AtomicU64::new(nobody(place))), generation: AtomicU32::new(0) }
    }
}

/// What is at a place where no pair is: the source is one that has another place.
fn nobody(place: usize) -> u64 {
    u64::from((!(place as u32)).to_be())
}

/// Addresses as they stand in the headers.
#[inline]
fn pair(sender: u32, inner: &Headers) -> (usize, u64) {
    let src = inner.addresses_ne() as u32;
    let place = u32::from_be(src) as usize % PAIRS;
    (place, u64::from(sender) << 32 | u64::from(src))
}

impl KnownSenders {
    /// Forgets what another snapshot than this said.
    #[inline]
    pub(super) fn begin(&self, generation: u32) {
        if self.generation.load(Relaxed) != generation {
            self.forget(generation);
        }
    }

    #[cold]
    fn forget(&self, generation: u32) {
        for (place, pair) in self.pairs.iter().enumerate() {
            pair.store(nobody(place), Relaxed);
        }
        self.generation.store(generation, Relaxed);
    }

    /// Whether the two were found to go together.
    #[inline(always)]
    pub(super) fn know(&self, outer: &Headers, inner: &Headers) -> bool {
        self.has(outer.addresses_ne() as u32, inner)
    }

    #[inline(always)]
    fn has(&self, sender: u32, inner: &Headers) -> bool {
        let (place, pair) = pair(sender, inner);
        self.pairs[place].load(Relaxed) == pair
    }

    fn remember(&self, sender: u32, inner: &Headers) {
        let (place, pair) = pair(sender, inner);
        self.pairs[place].store(pair, Relaxed);
    }
}

/// Whether tunnel packets are taken from there: it is a known node's.
pub(super) fn check_tunnel_source(snapshot: &Snapshot, sender: IpAddr) -> Result<(), DropReason> {
    let is_known = snapshot.tunnel_sources.contains(&sender);
    if is_known { Ok(()) } else { Err(DropReason::UnknownTunnelSource) }
}

/// Whether the sender of the tunnel packet, a known node, may send what is inside, a packet of IPv4.
#[cold]
pub(super) fn check_inner_source(
    snapshot: &Snapshot,
    input: &Input<'_>,
    sender: IpAddr,
    inner: &Headers,
) -> Result<(), DropReason> {
    let IpAddr::V4(end) = sender else {
        return check_sender_of(snapshot, input, sender, &own_key(inner));
    };
    let end = u32::from_ne_bytes(end.octets());
    if !input.senders.has(end, inner) {
        check_sender_of(snapshot, input, sender, &own_key(inner))?;
        input.senders.remember(end, inner);
    }
    Ok(())
}

/// The same of a packet with this key, which is not remembered.
pub(super) fn check_sender_of(
    snapshot: &Snapshot,
    input: &Input<'_>,
    sender: IpAddr,
    inner: &impl Key,
) -> Result<(), DropReason> {
    if snapshot.inner_sources.admits(inner.src(), sender) {
        return Ok(());
    }
    // What nobody may send from has a reason of its own.
    check_source(snapshot, input, inner)?;
    Err(DropReason::InnerSource)
}
