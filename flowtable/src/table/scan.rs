//! The search of one bucket for a tag: all its words at once, in the widest instructions that the processor has.
//!
//! The portable search is the meaning; the others are checked against it.

use super::burst::Query;
use super::index::{Bucket, Index, Word};
use crate::isa::{Isa, Set};

impl Isa {
    /// Searches the home bucket of each query.
    #[inline]
    pub(super) fn search<Q: AsMut<Query>>(self, index: &Index, queries: &mut [Q]) {
        match self.0 {
            Set::Portable => {
                for query in queries {
                    let query = query.as_mut();
                    query.found(portable(index.home_bucket(query.hash()), query.hash()));
                }
            }
            #[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
            Set::Avx2 => avx2::search(index, queries),
        }
    }
}

/// The first valid word of the bucket with the tag of the hash.
#[inline]
fn portable(bucket: &Bucket, hash: u64) -> Word {
    bucket.words().map(|word| word.if_valid(hash)).find(|word| word.is_valid()).unwrap_or(Word::NONE)
}

#[cfg(all(target_arch = "x86_64", not(any(loom, miri))))]
mod avx2 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m256i, _mm256_and_si256, _mm256_castsi256_pd, _mm256_cmpeq_epi64, _mm256_movemask_pd,
        _mm256_set1_epi64x,
    };

    use super::{Bucket, Index, Query, Word};

    #[allow(unsafe_code)]
    pub(super) fn search<Q: AsMut<Query>>(index: &Index, queries: &mut [Q]) {
        // SAFETY: there is an `Isa` of this set only where the processor has these (`Isa::best`).
        unsafe { search_avx2(index, queries) }
    }

    #[target_feature(enable = "avx2,bmi1")]
    fn search_avx2<Q: AsMut<Query>>(index: &Index, queries: &mut [Q]) {
        for query in queries {
            let query = query.as_mut();
            let bucket = index.home_bucket(query.hash());
            let mut places = matches(bucket, query.hash());
            let mut word = Word::NONE;
            // The first place nearly always. What has gone since does not hide what stands behind it.
            while places != 0 && !word.is_valid() {
                word = bucket.word(places.trailing_zeros() as usize);
                places &= places - 1;
            }
            query.found(word);
        }
    }

    /// The places whose words seem to be valid and have the hash's tag, a bit each.
    #[inline]
    #[target_feature(enable = "avx2,bmi1")]
    fn matches(bucket: &Bucket, hash: u64) -> u32 {
        let [low, high] = halves(bucket);
        let (mask, wanted) = Word::pattern(hash);
        let mask = _mm256_set1_epi64x(mask.cast_signed());
        let wanted = _mm256_set1_epi64x(wanted.cast_signed());
        let equal = |words| {
            let equal = _mm256_cmpeq_epi64(_mm256_and_si256(words, mask), wanted);
            _mm256_movemask_pd(_mm256_castsi256_pd(equal)).cast_unsigned()
        };
        // The eighth word is no word but the count.
        equal(low) | (equal(high) & 0b111) << 4
    }

    /// The bucket as it is in memory, words that others change meanwhile and all.
    #[inline]
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    fn halves(bucket: &Bucket) -> [__m256i; 2] {
        let (low, high): (__m256i, __m256i);
        // SAFETY: the loads lie in the bucket, which is 64 bytes and so aligned. They are the processor's own, outside
        // the language's memory model, in which a plain load would race with the stores of other threads; what they
        // see is only a hint where to look, and is loaded again as an atomic before anything follows from it.
        unsafe {
            asm!(
                "vmovdqa {low}, [{bucket}]",
                "vmovdqa {high}, [{bucket} + 32]",
                bucket = in(reg) bucket,
                low = out(ymm_reg) low,
                high = out(ymm_reg) high,
                options(nostack, readonly, preserves_flags),
            );
        }
        [low, high]
    }
}
