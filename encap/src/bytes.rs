//! Big-endian fields of a header whose length the type carries: with a constant offset the bounds check folds away.

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
    core::array::from_fn(|i| header[at + i])
}
