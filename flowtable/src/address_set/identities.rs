//! Sets of identities: a few in place, many as a sorted list or, where they are dense, as a bitmap.

use std::fmt;

use crate::IdentityId;

/// Identities that are kept without memory of their own.
const FEW: usize = 5;
const BITS: u32 = u64::BITS;
/// How many times as large as a list a bitmap may be, for it is asked by one load.
const BITMAP_FACTOR: usize = 4;

#[derive(Clone)]
pub struct IdentitySet {
    members: Members,
}

#[derive(Clone)]
enum Members {
    /// Ascending; the first so many.
    Few(u8, [u32; FEW]),
    Sorted(Box<[u32]>),
    Bitmap(Bitmap),
}

#[derive(Clone)]
struct Bitmap {
    /// The number of the first bit.
    base: u32,
    len: u32,
    words: Box<[u64]>,
}

impl IdentitySet {
    #[inline]
    pub fn contains(&self, identity: IdentityId) -> bool {
        match &self.members {
            Members::Few(len, few) => few[..usize::from(*len)].contains(&identity.0),
            Members::Sorted(sorted) => sorted.binary_search(&identity.0).is_ok(),
            Members::Bitmap(bitmap) => bitmap.contains(identity.0),
        }
    }

    pub fn len(&self) -> usize {
        match &self.members {
            Members::Few(len, _) => usize::from(*len),
            Members::Sorted(sorted) => sorted.len(),
            Members::Bitmap(bitmap) => bitmap.len as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Ascending.
    pub fn iter(&self) -> impl Iterator<Item = IdentityId> {
        let (listed, bitmap) = match &self.members {
            Members::Few(len, few) => (&few[..usize::from(*len)], None),
            Members::Sorted(sorted) => (&**sorted, None),
            Members::Bitmap(bitmap) => ([].as_slice(), Some(bitmap)),
        };
        let set = bitmap.into_iter().flat_map(Bitmap::iter);
        listed.iter().copied().chain(set).map(IdentityId)
    }

    #[must_use]
    pub fn with(&self, identity: IdentityId) -> Self {
        if self.contains(identity) {
            return self.clone();
        }
        if let Members::Bitmap(bitmap) = &self.members
            && let Some(bitmap) = bitmap.with(identity.0)
        {
            return Self { members: Members::Bitmap(bitmap) };
        }
        let mut sorted: Vec<u32> = self.iter().map(|member| member.0).collect();
        sorted.insert(sorted.partition_point(|member| *member < identity.0), identity.0);
        Self::of_sorted(sorted)
    }

    #[must_use]
    pub fn without(&self, identity: IdentityId) -> Self {
        if !self.contains(identity) {
            return self.clone();
        }
        if let Members::Bitmap(bitmap) = &self.members
            && Bitmap::pays(bitmap.len as usize - 1, bitmap.words.len())
        {
            return Self { members: Members::Bitmap(bitmap.without(identity.0)) };
        }
        Self::of_sorted(self.iter().filter(|member| *member != identity).map(|member| member.0).collect())
    }

    fn of_sorted(sorted: Vec<u32>) -> Self {
        let len = sorted.len();
        if len <= FEW {
            let mut few = [0; FEW];
            few[..len].copy_from_slice(&sorted);
            return Self { members: Members::Few(len as u8, few) };
        }
        let (first, last) = (sorted[0] / BITS, sorted[len - 1] / BITS);
        let words = (last - first) as usize + 1;
        let members = if Bitmap::pays(len, words) {
            Members::Bitmap(Bitmap::of(&sorted, first * BITS, words))
        } else {
            Members::Sorted(sorted.into())
        };
        Self { members }
    }
}

impl Bitmap {
    fn pays(len: usize, words: usize) -> bool {
        len > FEW && words * size_of::<u64>() <= len * size_of::<u32>() * BITMAP_FACTOR
    }

    fn of(members: &[u32], base: u32, words: usize) -> Self {
        let mut bitmap = Self { base, len: members.len() as u32, words: vec![0; words].into() };
        for member in members {
            bitmap.flip(*member);
        }
        bitmap
    }

    #[inline]
    fn contains(&self, number: u32) -> bool {
        // Below the base it wraps to beyond the last word.
        let at = number.wrapping_sub(self.base);
        self.words.get((at / BITS) as usize).is_some_and(|word| word >> (at % BITS) & 1 != 0)
    }

    fn flip(&mut self, number: u32) {
        let at = number - self.base;
        self.words[(at / BITS) as usize] ^= 1 << (at % BITS);
    }

    /// `None` where a bitmap is no longer the form for them.
    fn with(&self, number: u32) -> Option<Self> {
        let first = self.base.min(number / BITS * BITS);
        let below = ((self.base - first) / BITS) as usize;
        let words = ((number - first) / BITS) as usize + 1;
        let words = words.max(below + self.words.len());
        if !Self::pays(self.len as usize + 1, words) {
            return None;
        }
        let mut grown = vec![0; words];
        grown[below..below + self.words.len()].copy_from_slice(&self.words);
        let mut bitmap = Self { base: first, len: self.len + 1, words: grown.into() };
        bitmap.flip(number);
        Some(bitmap)
    }

    fn without(&self, number: u32) -> Self {
        let mut bitmap = self.clone();
        bitmap.flip(number);
        bitmap.len -= 1;
        bitmap
    }

    fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.words.iter().zip((self.base..).step_by(BITS as usize));
        words.flat_map(|(word, base)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                rest &= rest - 1;
                Some(base + bit)
            })
        })
    }
}

impl Default for IdentitySet {
    fn default() -> Self {
        Self { members: Members::Few(0, [0; FEW]) }
    }
}

impl FromIterator<IdentityId> for IdentitySet {
    fn from_iter<I: IntoIterator<Item = IdentityId>>(identities: I) -> Self {
        let mut numbers: Vec<u32> = identities.into_iter().map(|identity| identity.0).collect();
        numbers.sort_unstable();
        numbers.dedup();
        Self::of_sorted(numbers)
    }
}

impl PartialEq for IdentitySet {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl Eq for IdentitySet {}

impl fmt::Debug for IdentitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|identity| identity.0)).finish()
    }
}
