//! Fields of a header, big-endian or as they are, whose length the type carries: with a constant offset the bounds check folds away.

#[inline]
pub(crate) fn be16<const N: usize>(header: &[u8; N], at: usize) -> u16 {
    u16::from_be_bytes([header[at], header[at + 1]])
}

#[inline]
pub(crate) fn be32<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

#[inline]
pub(crate) fn mac<const N: usize>(header: &[u8; N], at: usize) -> [u8; 6] {
    *header[at..].first_chunk().expect("a field lies in its header")
}

#[inline]
pub(crate) fn put16<const N: usize>(header: &mut [u8; N], at: usize, value: u16) {
    [header[at], header[at + 1]] = value.to_be_bytes();
}

/// Four bytes as a native word: what it holds is in network order.
#[inline]
pub(crate) fn ne32<const N: usize>(header: &[u8; N], at: usize) -> u32 {
    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
}

/// Eight bytes as a native word: what it holds is in network order.
#[inline]
pub(crate) fn ne64<const N: usize>(header: &[u8; N], at: usize) -> u64 {
    u64::from_ne_bytes(*header[at..].first_chunk().expect("a field lies in its header"))
}
