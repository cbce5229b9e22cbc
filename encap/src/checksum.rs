//! The Internet checksum (RFC 1071), its incremental update (RFC 1624), and the pseudo headers of transports.
//!
//! Ones' complement addition does not care for byte order (RFC 1071 2 (B)), so bytes are summed as the machine loads
//! them, eight at a time, and only the folded result is turned round.

/// An unfolded ones' complement sum of 16-bit words. 64 bits hold the sum of 16 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum(u64);

impl Sum {
    /// The sum of `bytes`; an odd last byte counts as the high half of a word.
    #[inline]
    pub fn of(bytes: &[u8]) -> Self {
        let (words, tail) = bytes.as_chunks::<8>();
        let mut sum: u64 = words.iter().map(|word| halves(*word)).sum();
        if !tail.is_empty() {
            let mut word = [0; 8];
            word[..tail.len()].copy_from_slice(tail);
            sum += halves(word);
        }
        Self(sum)
    }

    /// The sum of four bytes, as the machine loads them.
    #[inline]
    pub(crate) const fn of_words(words: u32) -> Self {
        Self(words as u64)
    }

    /// Adds four bytes, as the machine loads them.
    #[inline]
    pub(crate) const fn and(self, words: u32) -> Self {
        Self(self.0 + words as u64)
    }

    /// Adds the sum of more bytes. What came before must be of even length: words keep their places.
    #[inline]
    #[must_use]
    pub const fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    #[inline]
    #[must_use]
    pub const fn add_u16(self, word: u16) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    #[inline]
    #[must_use]
    pub const fn add_u32(self, words: u32) -> Self {
        Self(self.0 + words.to_be() as u64)
    }

    /// Folds the carries in: 16 bits, in host order. Of the two forms of zero it is 0xffff, unless all words were 0.
    #[inline]
    pub const fn fold(self) -> u16 {
        u16::from_be(self.fold_ne())
    }

    /// Whether the words sum up to all ones, as those of a header with a sound checksum do.
    #[inline]
    pub const fn is_ones(self) -> bool {
        // The ones look the same in any byte order.
        self.fold_ne() == 0xffff
    }

    #[inline]
    const fn fold_ne(self) -> u16 {
        // 64 bits to 32 with the carry, and 32 to 16: the high half then has the sum of both.
        let sum = self.0.wrapping_add(self.0.rotate_left(32));
        let sum = (sum >> 32) as u32;
        let sum = sum.wrapping_add(sum.rotate_left(16));
        (sum >> 16) as u16
    }

    /// The checksum: the complement of the folded sum.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }
}

/// Both halves of a word: so the compiler makes vectors of whole loads, and a packet takes two thirds of the time that it
/// takes by words of four bytes.
#[inline(always)]
const fn halves(word: [u8; 8]) -> u64 {
    let word = u64::from_ne_bytes(word);
    (word >> 32) + (word & 0xffff_ffff)
}

/// Sum of the IPv4 pseudo header (RFC 768, RFC 9293 3.1). `len`: bytes of the transport header and its data.
#[inline]
pub const fn pseudo_header_v4(src: u32, dst: u32, protocol: u8, len: u16) -> Sum {
    Sum(0).add_u32(src).add_u32(dst).add_u16(protocol as u16).add_u16(len)
}

/// Sum of the IPv6 pseudo header (RFC 8200 8.1). `len`: bytes of the transport header and its data.
#[inline]
pub const fn pseudo_header_v6(src: u128, dst: u128, next_header: u8, len: u32) -> Sum {
    add_u128(add_u128(Sum(0), src), dst).add_u16(next_header as u16).add_u32(len)
}

#[inline]
const fn add_u128(sum: Sum, address: u128) -> Sum {
    sum.add_u32((address >> 96) as u32)
        .add_u32((address >> 64) as u32)
        .add_u32((address >> 32) as u32)
        .add_u32(address as u32)
}

/// The checksum after a 16-bit field that it covers went from `old` to `new` (RFC 1624 3, equation 3).
///
/// For a UDP checksum the caller sees to zero: 0 before means none and stays, 0 after is sent as 0xffff.
#[inline]
#[must_use]
pub const fn update_u16(checksum: u16, old: u16, new: u16) -> u16 {
    Sum(0).add_u16(!checksum).add_u16(!old).add_u16(new).finish()
}

/// The checksum after a 32-bit field at an even offset went from `old` to `new`: an address, say.
#[inline]
#[must_use]
pub const fn update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    Sum(0).add_u16(!checksum).add_u32(!old).add_u32(new).finish()
}

/// Whether a TCP or UDP checksum field holds what Linux leaves there for the device to complete
/// (`CHECKSUM_PARTIAL`): the pseudo header's folded sum, not complemented.
///
/// A finished checksum of that value is possible, and harmless: completing it again yields the same bytes.
#[inline]
pub const fn is_partial(field: u16, pseudo_header: Sum) -> bool {
    field.to_be() == pseudo_header.fold_ne()
}
