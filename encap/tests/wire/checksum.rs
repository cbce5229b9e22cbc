//! Checksums against their definitions.

use margay_encap::checksum::{Sum, is_partial, pseudo_header_v4, pseudo_header_v6, update_u16, update_u32};
use margay_encap::sctp;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::packets::hex;

/// RFC 1071 1, word by word.
fn by_definition(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0_u16, |sum, word| {
        let word = u16::from_be_bytes([word[0], *word.get(1).unwrap_or(&0)]);
        let (sum, carry) = sum.overflowing_add(word);
        sum + u16::from(carry)
    })
}

#[test]
fn known_answers() {
    assert_eq!(Sum::of(&hex("0001 f203 f4f5 f6f7")).fold(), 0xddf2, "RFC 1071 3");
    assert_eq!(update_u16(0xdd2f, 0x5555, 0x3285), 0x0000, "RFC 1624 4");
    assert_eq!(Sum::of(&[]).fold(), 0);
    assert_eq!(Sum::of(&[0xff; 2]).fold(), 0xffff);
}

/// RFC 3720 B.4: 32 bytes of zeros have `CRC32c` aa 36 91 8a.
#[test]
fn known_crc32c() {
    assert_eq!(sctp::checksum(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
    let mut packet = [0; 32];
    packet[8..12].fill(0xee);
    assert_eq!(sctp::checksum(&packet), [0xaa, 0x36, 0x91, 0x8a], "the field counts as zero");
}

proptest! {
    #[test]
    fn sum_is_the_definition(bytes in vec(any::<u8>(), 0..2000)) {
        prop_assert_eq!(Sum::of(&bytes).fold(), by_definition(&bytes));
    }

    #[test]
    fn parts_add_up(bytes in vec(any::<u8>(), 0..100), at in 0..50_usize) {
        let (front, back) = bytes.split_at((at * 2).min(bytes.len() & !1));
        prop_assert_eq!(Sum::of(front).add(Sum::of(back)).fold(), by_definition(&bytes));
    }

    #[test]
    fn saturated_sums_fold(words in 16_000..17_000_usize, odd in any::<bool>()) {
        let bytes = vec![0xff; words * 4 + usize::from(odd)];
        prop_assert_eq!(Sum::of(&bytes).fold(), by_definition(&bytes));
    }

    /// RFC 1624: the update gives what a computation from scratch gives, 0x0000 and 0xffff included.
    #[test]
    fn update_is_recomputation(
        mut bytes in vec(prop_oneof![Just(0), Just(0xff), any::<u8>()], 20),
        at in 0..8_usize,
        new in prop_oneof![Just(0), Just(0xffff_ffff), any::<u32>()],
    ) {
        // Words that never are all zero, as no header's are.
        bytes[19] = 1;
        let at = at * 2;
        let before = !by_definition(&bytes);
        let old = u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());

        let [high, low, ..] = new.to_be_bytes();
        let mut word_changed = bytes.clone();
        word_changed[at..at + 2].copy_from_slice(&[high, low]);
        let updated = update_u16(before, (old >> 16).try_into().unwrap(), u16::from_be_bytes([high, low]));
        prop_assert_eq!(updated, !by_definition(&word_changed));

        bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
        prop_assert_eq!(update_u32(before, old, new), !by_definition(&bytes));
    }

    #[test]
    fn pseudo_headers_are_their_bytes(v4 in any::<(u32, u32, u8, u16)>(), v6 in any::<(u128, u128, u8, u32)>()) {
        let (src, dst, protocol, len) = v4;
        let bytes = [&src.to_be_bytes()[..], &dst.to_be_bytes(), &[0, protocol], &len.to_be_bytes()].concat();
        prop_assert_eq!(pseudo_header_v4(src, dst, protocol, len).fold(), by_definition(&bytes));
        prop_assert!(is_partial(by_definition(&bytes), pseudo_header_v4(src, dst, protocol, len)));

        let (src, dst, next_header, len) = v6;
        let bytes =
            [&src.to_be_bytes()[..], &dst.to_be_bytes(), &len.to_be_bytes(), &[0, 0, 0, next_header]].concat();
        prop_assert_eq!(pseudo_header_v6(src, dst, next_header, len).fold(), by_definition(&bytes));
    }
}
