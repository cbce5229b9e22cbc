//! Checksums word by word, as their standards put them.

/// The checksum of 16-bit words (RFC 1071). Each part but the last is of even length.
pub fn internet(parts: &[&[u8]]) -> u16 {
    !parts.iter().fold(0, |sum, part| add(sum, part))
}

/// Whether words that hold their own checksum are as they were sent.
pub fn holds(parts: &[&[u8]]) -> bool {
    internet(parts) == 0
}

fn add(sum: u16, part: &[u8]) -> u16 {
    part.chunks(2).fold(sum, |sum, word| {
        let word = u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or_default()]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

/// The checksum of SCTP, as it stands in the packet (RFC 9260 6.8); the field itself counts as zero.
pub fn sctp(packet: &[u8]) -> [u8; 4] {
    let bytes = packet.iter().enumerate().map(|(at, byte)| if (8..12).contains(&at) { 0 } else { *byte });
    let crc = bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    });
    (!crc).to_le_bytes()
}
