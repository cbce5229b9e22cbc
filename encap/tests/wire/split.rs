//! Fragments: put together again they are the packet, and none is longer than it may be. The later ones have the options that
//! are copied.

use margay_encap::checksum::Sum;
use margay_encap::ipv4::Ipv4;
use margay_encap::split::{Fragment, Split};
use proptest::collection::vec;
use proptest::prelude::*;

/// A packet of this payload whose flags word is `flags`.
fn packet(flags: u16, payload: &[u8]) -> Vec<u8> {
    let [high, low] = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let [flags_high, flags_low] = flags.to_be_bytes();
    let mut header =
        [0x45, 0xb8, high, low, 0x12, 0x34, flags_high, flags_low, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
    let sum = Sum::of(&header).finish().to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    [&header[..], payload].concat()
}

/// The fragments as packets of their own.
fn split(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let split = Split::new(packet, 63, mtu).expect("room for a unit");
    let header_len = Ipv4::new(packet).unwrap().header_len();
    let payload = |fragment: &Fragment| &packet[header_len..][fragment.payload.clone()];
    let whole = |fragment: Fragment| [fragment.header(), payload(&fragment)].concat();
    let fragments: Vec<_> = split.fragments().map(whole).collect();
    assert_eq!(fragments.len(), split.count());
    fragments
}

/// Where the fragment begins, in bytes, and whether more follow.
fn place(fragment: &[u8]) -> (usize, bool) {
    let ip = Ipv4::new(fragment).unwrap();
    (usize::from(ip.fragment_offset()) * 8, fragment[6] & 0x20 != 0)
}

/// Puts the payload together, whatever the order; nothing may be missing or there twice.
fn reassembled(mut fragments: Vec<Vec<u8>>, begins: usize) -> Vec<u8> {
    fragments.sort_by_key(|fragment| place(fragment).0);
    let mut payload = Vec::new();
    for fragment in &fragments {
        assert_eq!(place(fragment).0, begins + payload.len());
        payload.extend_from_slice(&fragment[20..]);
    }
    payload
}

proptest! {
    /// Any packet, a fragment of a longer one too, by any MTU, and once more by a smaller one, as two routers do.
    #[test]
    fn what_was_split_comes_together(
        payload in vec(any::<u8>(), 1..3000), begins in 0..600u16, more in any::<bool>(),
        mtu in 28..2000u16, smaller in 28..600u16,
    ) {
        // Only a last fragment may end within a unit.
        let payload = &payload[..if more { payload.len() / 8 * 8 } else { payload.len() }];
        prop_assume!(!payload.is_empty());
        let whole = packet(if more { 0x2000 } else { 0 } | begins, payload);
        let once = split(&whole, mtu);
        let twice: Vec<_> = once.iter().flat_map(|fragment| split(fragment, smaller)).collect();
        for (fragments, mtu) in [(once, mtu), (twice, smaller)] {
            for (i, fragment) in fragments.iter().enumerate() {
                let ip = Ipv4::new(fragment).unwrap();
                prop_assert!(ip.checksum_holds());
                prop_assert!(fragment.len() <= usize::from(mtu) && usize::from(ip.total_len()) == fragment.len());
                prop_assert_eq!((ip.ident(), ip.ttl(), ip.tos(), ip.protocol()), (0x1234, 63, 0xb8, 17));
                prop_assert_eq!((ip.src(), ip.dst(), ip.dont_fragment()), (0x0a00_0001, 0x0a00_0002, false));
                let is_last = i + 1 == fragments.len();
                prop_assert_eq!(place(fragment).1, !is_last || more);
                prop_assert!(is_last || fragment.len() % 8 == 4, "a unit is 8 bytes, the header 20");
            }
            prop_assert_eq!(reassembled(fragments, usize::from(begins) * 8), payload);
        }
    }
}

#[test]
fn what_fits_is_one_fragment_and_the_boundary_is_exact() {
    for (payload, mtu, count) in
        [(8, 28, 1), (9, 28, 2), (1480, 1500, 1), (1481, 1500, 2), (1430, 1450, 2), (1424, 1450, 1)]
    {
        assert_eq!(split(&packet(0, &vec![7; payload]), mtu).len(), count, "{payload} bytes by {mtu}");
    }
}

#[test]
fn options_that_are_not_copied_are_the_first_one_s() {
    // Record Route, Router Alert, and an end.
    let options = [7, 7, 4, 10, 0, 0, 9, 148, 4, 0, 0, 0];
    let mut whole = [&packet(0, &[7; 100])[..20], &options, &[7; 100]].concat();
    (whole[0], whole[3]) = (0x48, 132);
    let fragments = split(&whole, 80);
    assert_eq!(fragments.iter().map(Vec::len).collect::<Vec<_>>(), [80, 80, 36]);
    for fragment in &fragments {
        assert_eq!((fragment[0], Sum::of(&fragment[..32]).fold()), (0x48, 0xffff));
        assert_eq!(fragment[32..], whole[32..][..fragment.len() - 32]);
    }
    assert_eq!(fragments[0][20..32], options);
    for later in &fragments[1..] {
        assert_eq!(later[20..32], [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0]);
    }
    let again = split(&fragments[1], 56);
    assert_eq!((place(&again[0]), place(&again[1])), ((48, true), (72, true)));
}

#[test]
fn what_cannot_be_split_is_refused() {
    let whole = packet(0, &[7; 100]);
    assert!(Split::new(&whole, 63, 27).is_none(), "no room for 8 bytes of payload");
    assert!(Split::new(&whole, 63, 0).is_none());
    assert!(Split::new(&whole[..19], 63, 1500).is_none());
    assert!(Split::new(&[&[0x4f][..], &whole[1..50]].concat(), 63, 1500).is_none(), "a header cut off");
    let beyond = packet(0x1fff, &[7; 9]);
    assert!(Split::new(&beyond, 63, 28).is_none(), "the second half begins beyond the largest offset");
    assert!(Split::new(&packet(0x1fff, &[7; 8]), 63, 28).is_some());
}
