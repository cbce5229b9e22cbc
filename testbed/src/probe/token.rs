//! The bytes by which a probe knows its own packets.

/// A magic number and the probe's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    bytes: [u8; Self::LEN],
}

impl Token {
    pub(super) const LEN: usize = 12;
    const MAGIC: [u8; 8] = *b"margay-p";
    const ICMP_HEADER: usize = 8;

    pub(super) fn new(number: u32) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&Self::MAGIC);
        bytes[8..].copy_from_slice(&number.to_be_bytes());
        Self { bytes }
    }

    pub(super) fn bytes(&self) -> &[u8; Self::LEN] {
        &self.bytes
    }

    /// The probe's number, if `payload` begins with a token.
    pub(super) fn number_in(payload: &[u8]) -> Option<u32> {
        let (bytes, _) = payload.split_first_chunk::<{ Self::LEN }>()?;
        let (magic, number) = bytes.split_first_chunk::<8>()?;
        (*magic == Self::MAGIC).then(|| number.try_into().map(u32::from_be_bytes).ok())?
    }

    /// An ICMP message that carries the token (RFC 792); as an echo request each token has an identifier and sequence
    /// number of its own.
    pub(super) fn icmp_message(&self, kind: u8, code: u8) -> Vec<u8> {
        let mut message = vec![kind, code, 0, 0];
        message.extend([self.bytes[10], self.bytes[11], self.bytes[8], self.bytes[9]]);
        message.extend(self.bytes);
        let sum = internet_checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        message
    }

    /// Type of an ICMP message and the number of the token in it.
    pub(super) fn in_icmp_message(message: &[u8]) -> Option<(u8, u32)> {
        Some((*message.first()?, Self::number_in(message.get(Self::ICMP_HEADER..)?)?))
    }
}

/// RFC 1071.
fn internet_checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_carries_its_token() {
        let message = Token::new(70_000).icmp_message(8, 0);
        assert_eq!(Token::in_icmp_message(&message), Some((8, 70_000)));
        assert_eq!(internet_checksum(&message), 0);
        assert_eq!(Token::in_icmp_message(&message[..12]), None);
        assert_eq!(Token::number_in(b"other bytes altogether"), None);
    }
}
