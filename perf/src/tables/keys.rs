//! Flow keys to fill tables with and to ask them for.

use fastrand::Rng;
use margay_encap::protocol;
use margay_flowtable::FlowKey;

/// Where the numbers of keys begin that no table holds, and of those that are inserted while measured.
const ABSENT: u64 = 1 << 40;
const FRESH: u64 = 1 << 41;

pub(super) struct FlowKeys {
    pub(super) entries: u32,
    pub(super) workers: Vec<WorkerKeys>,
}

/// What one worker asks for, laid out in the order of asking.
pub(super) struct WorkerKeys {
    pub(super) hits: Vec<FlowKey>,
    pub(super) misses: Vec<FlowKey>,
    /// Inserted and removed; no other worker has them.
    pub(super) fresh: Vec<FlowKey>,
}

impl FlowKeys {
    pub(super) fn new(entries: u32, workers: u32) -> Self {
        let (fresh, lookups) = ((u64::from(entries) / 8).clamp(256, 1 << 16), lookups(entries));
        let worker = |worker: u32| {
            let mut rng = Rng::with_seed(worker.into());
            let first = FRESH + u64::from(worker) * fresh;
            WorkerKeys {
                hits: (0..lookups).map(|_| key(rng.u64(..u64::from(entries)))).collect(),
                misses: (0..lookups).map(|_| key(ABSENT + rng.u64(..u64::from(entries)))).collect(),
                fresh: (first..first + fresh).map(key).collect(),
            }
        };
        Self { entries, workers: (0..workers).map(worker).collect() }
    }

    /// What the table holds. Keys are random, so their order is not that in which they are asked for.
    pub(super) fn entries(&self) -> impl Iterator<Item = FlowKey> {
        (0..u64::from(self.entries)).map(key)
    }

    /// Entries that a table is made for: a quarter more than it ever holds, so that none grows while it is measured, and
    /// none of fixed size refuses an entry because others crowd about its place.
    pub(super) fn capacity(&self) -> u32 {
        let held = self.entries + self.workers.iter().map(|worker| worker.fresh.len() as u32).sum::<u32>();
        held + held / 4
    }
}

/// Lookups of one run and worker: all entries in turn or, of a large table, more than a cache holds.
pub(super) fn lookups(entries: u32) -> usize {
    (entries as usize * 8).clamp(1 << 16, 1 << 20)
}

/// Key `number`: random, and of no other number, for the mixing is a bijection.
fn key(number: u64) -> FlowKey {
    let (addresses, ports) = (mix(number), mix(!number));
    FlowKey {
        src: (addresses >> 32) as u32,
        dst: addresses as u32,
        sport: (ports >> 16) as u16,
        dport: ports as u16,
        protocol: protocol::UDP,
    }
}

/// The finalizer of `SplitMix64`.
const fn mix(number: u64) -> u64 {
    let z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
