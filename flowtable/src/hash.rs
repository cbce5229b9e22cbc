//! The keyed hash of flow keys.
//!
//! Whoever sends packets chooses keys, and whoever finds keys that fall on one bucket, or on neighbours, fills these and
//! no more. So the hash has to be one that cannot be steered without its secret: four rounds of AES where the processor
//! has them, `SipHash` elsewhere. (A multiplication under secret constants is as quick and too regular: keys in
//! arithmetic progression, as ports are, came out as neighbours.) What no packet chooses is mixed without a secret.

use std::fmt;
use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::isa::Isa;
#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
use crate::isa::Set;
use crate::key::KeyWords;

/// Spreads what nobody outside chooses: the finalizer of splitmix64, by which every bit of the input reaches every bit of
/// the output.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

/// Hashes flow keys under a secret seed. A key and its reverse have the same hash: both directions of a connection are
/// found from one place, on whichever core they arrive. One seed means another hash with another [`Isa`].
#[derive(Clone)]
pub struct KeyHash {
    key: [u64; 2],
    #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
    rounds: Option<aes::RoundKeys>,
}

impl fmt::Debug for KeyHash {
    /// Nothing of the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHash").finish_non_exhaustive()
    }
}

impl KeyHash {
    pub(crate) fn new([a, b, c, d]: [u64; 4], isa: Isa) -> Self {
        Self::of_key([sip([a, b], c, d), sip([a, b], d, c)], isa)
    }

    #[cfg_attr(not(all(target_arch = "x86_64", not(any(loom, miri)))), expect(unused_variables))]
    fn of_key(key: [u64; 2], isa: Isa) -> Self {
        Self {
            key,
            #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
            rounds: (isa.0 == Set::Avx2).then(|| aes::RoundKeys::new(|n| sip(key, n, 0))),
        }
    }

    /// The same secret, for other instructions.
    pub(crate) fn with_isa(&self, isa: Isa) -> Self {
        Self::of_key(self.key, isa)
    }

    /// 32 bits of an IPv6 address. Who does not know the secret finds no two addresses that have the same.
    pub(crate) fn fold(&self, address: u128) -> u32 {
        let (high, low) = ((address >> 64) as u64, address as u64);
        #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
        if let Some(rounds) = &self.rounds {
            return rounds.hash(high, low) as u32;
        }
        sip(self.key, high, low) as u32
    }

    /// The hash, and whether the key is ascending, which is known on the way.
    #[inline(always)]
    pub(crate) fn hash_words(&self, key: KeyWords) -> (u64, bool) {
        let (addresses, ports, is_ascending) = key.ends();
        #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
        if let Some(rounds) = &self.rounds {
            return (rounds.hash(addresses, ports), is_ascending);
        }
        (sip(self.key, addresses, ports), is_ascending)
    }
}

#[inline(never)]
fn sip([a, b]: [u64; 2], first: u64, second: u64) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(a, b);
    hasher.write_u64(first);
    hasher.write_u64(second);
    hasher.finish()
}

#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
mod aes {
    use std::arch::asm;

    /// What is added before the first round and in each of four.
    #[derive(Clone)]
    #[repr(align(16))]
    pub(super) struct RoundKeys([[u64; 2]; 5]);

    impl RoundKeys {
        /// `word` gives independent secret words by number. To be made only where the processor has AES.
        pub(super) fn new(word: impl Fn(u64) -> u64) -> Self {
            Self(std::array::from_fn(|round| [word(2 * round as u64), word(2 * round as u64 + 1)]))
        }

        /// Written as assembly so that it stands in line: a function with more features than its caller is called.
        #[inline(always)]
        #[allow(unsafe_code)]
        pub(super) fn hash(&self, first: u64, second: u64) -> u64 {
            let hash;
            // SAFETY: the loads lie in the five keys, which are aligned to 16 bytes; the processor has AES, or there
            // would be no `Isa` to make these keys for.
            unsafe {
                asm!(
                    "movq {state}, {first}",
                    "movq {high}, {second}",
                    "punpcklqdq {state}, {high}",
                    "pxor {state}, [{keys}]",
                    "aesenc {state}, [{keys} + 16]",
                    "aesenc {state}, [{keys} + 32]",
                    "aesenc {state}, [{keys} + 48]",
                    "aesenc {state}, [{keys} + 64]",
                    "movq {hash}, {state}",
                    first = in(reg) first,
                    second = in(reg) second,
                    keys = in(reg) &raw const self.0,
                    state = out(xmm_reg) _,
                    high = out(xmm_reg) _,
                    hash = lateout(reg) hash,
                    options(pure, readonly, nostack, preserves_flags),
                );
            }
            hash
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::FlowKey;

    impl KeyHash {
        fn hash(&self, key: &FlowKey) -> u64 {
            self.hash_words(key.words()).0
        }
    }

    const KEY: FlowKey = FlowKey { src: 0x0a00_0001, dst: 0x0a00_0002, sport: 4000, dport: 80, protocol: 6 };

    #[test]
    fn hash_is_symmetric_and_sees_every_field() {
        for isa in [Isa::PORTABLE, Isa::best()] {
            let hash = KeyHash::new([1, 2, 3, 4], isa);
            assert_eq!(hash.hash(&KEY), hash.hash(&KEY.reversed()));
            let others = [
                FlowKey { src: 0x0a00_0003, ..KEY },
                FlowKey { dst: 0x0a00_0003, ..KEY },
                FlowKey { sport: 4001, ..KEY },
                FlowKey { dport: 81, ..KEY },
                FlowKey { protocol: 17, ..KEY },
                // The ports swapped without the addresses is another connection.
                FlowKey { sport: 80, dport: 4000, ..KEY },
            ];
            for other in others {
                assert_ne!(hash.hash(&KEY), hash.hash(&other), "{other:?}");
            }
            for seed in [[5, 2, 3, 4], [1, 5, 3, 4], [1, 2, 5, 4], [1, 2, 3, 5]] {
                assert_ne!(
                    hash.hash(&KEY),
                    KeyHash::new(seed, isa).hash(&KEY),
                    "every part of the seed matters"
                );
            }
        }
    }

    /// Keys that differ by a step in one field, for steps that a sender may choose: no bucket of 4096 gets much more
    /// than its share. (A Poisson variable of mean 16 exceeds 48 once in 10^9.)
    #[test]
    fn progressions_spread() {
        for isa in [Isa::PORTABLE, Isa::best()] {
            let hash = KeyHash::new([0x1234, 0x5678, 3, 4], isa);
            for step in [1u32, 2, 3, 7, 64, 251, 256, 1000, 4093, 65_536] {
                let mut buckets = [0u32; 4096];
                for n in 0..65_536u32 {
                    let key = FlowKey { src: 0x0a00_0000u32.wrapping_add(n.wrapping_mul(step)), ..KEY };
                    buckets[(hash.hash(&key) >> 52) as usize] += 1;
                }
                let most = buckets.iter().max().expect("buckets");
                assert!(*most <= 48, "step {step}: {most} in a bucket ({})", isa.name());
            }
        }
    }
}
