//! The MSS option: lowered where it says too much, and the checksum is that of the segment from scratch.

use margay_encap::checksum::{self, Sum};
use margay_encap::tcp::{self, clamp_mss};
use proptest::collection::vec;
use proptest::prelude::*;

const SRC: u32 = 0x0a00_0001;
const DST: u32 = 0x0a00_0002;

/// A SYN with these options, padded to a whole word, and its right checksum.
fn syn(options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len().next_multiple_of(4);
    let mut segment = vec![0; header_len];
    segment[..4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
    segment[12] = u8::try_from(header_len / 4 * 16).unwrap();
    segment[13] = tcp::flags::SYN;
    segment[20..20 + options.len()].copy_from_slice(options);
    segment.extend_from_slice(payload);
    let checksum = sum(&segment);
    segment[16..18].copy_from_slice(&checksum.to_be_bytes());
    segment
}

/// The checksum of the segment as it is: 0 if it is right.
fn sum(segment: &[u8]) -> u16 {
    let len = segment.len().try_into().unwrap();
    checksum::pseudo_header_v4(SRC, DST, 6, len).add(Sum::of(segment)).finish()
}

#[test]
fn only_an_option_that_says_more_is_lowered() {
    let cases: [(&str, &[u8], &[u8]); 10] = [
        ("too much", &[2, 4, 5, 180], &[2, 4, 5, 120]),
        ("just right", &[2, 4, 5, 120], &[2, 4, 5, 120]),
        ("less", &[2, 4, 2, 24], &[2, 4, 2, 24]),
        ("none", &[1, 1, 4, 2], &[1, 1, 4, 2]),
        ("at an odd offset", &[1, 2, 4, 5, 180], &[1, 2, 4, 5, 120]),
        (
            "behind others",
            &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 5, 180],
            &[4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 2, 4, 5, 120],
        ),
        ("behind the end", &[0, 2, 4, 5, 180], &[0, 2, 4, 5, 180]),
        ("of another length", &[2, 3, 5, 2, 4, 5, 180], &[2, 3, 5, 2, 4, 5, 120]),
        ("cut off", &[1, 1, 2, 4], &[1, 1, 2, 4]),
        ("behind an option without length", &[9, 0, 2, 4, 5, 180], &[9, 0, 2, 4, 5, 180]),
    ];
    for (name, options, expected) in cases {
        let mut segment = syn(options, b"data");
        clamp_mss(&mut segment, 1400);
        assert_eq!(segment[20..20 + expected.len()], *expected, "{name}");
        assert_eq!(sum(&segment), 0, "{name}");
    }
}

proptest! {
    /// Whatever stands where options do: nothing but sizes changes, and the checksum stays right.
    #[test]
    fn option_soup_is_safe(
        soup in vec(prop_oneof![Just(0u8), Just(1), Just(2), Just(4), any::<u8>()], 0..=40),
        payload in vec(any::<u8>(), 0..30),
        most in any::<u16>(),
    ) {
        let before = syn(&soup, &payload);
        let mut after = before.clone();
        clamp_mss(&mut after, most);
        prop_assert_eq!(sum(&after), 0);
        prop_assert_eq!(&after[..16], &before[..16]);
        let end = 20 + soup.len().next_multiple_of(4);
        prop_assert_eq!(&after[end..], &before[end..]);
        let mut once_more = after.clone();
        clamp_mss(&mut once_more, most);
        prop_assert_eq!(once_more, after, "once is enough");
    }

    #[test]
    fn any_bytes_are_safe(mut segment in vec(any::<u8>(), 0..80), most in any::<u16>()) {
        clamp_mss(&mut segment, most);
    }
}
