//! Datagrams larger than any MTU, in the fragments that the kernel makes of them, and in others. They need root.

mod common;

use common::traffic::{arrives_in_pieces, blob, udp_echoes};
use common::{Options, TestLab};

#[test]
fn large_datagrams_arrive_whole_both_ways() {
    let lab = TestLab::two_zones(Options::default());
    let (here, there) = (lab.place("far/client"), lab.place("shop/bench"));
    let datagrams: Vec<_> =
        [1423, 2845, 9000, 60_000].iter().map(|&length| blob(length, length as u64)).collect();
    for (from, to) in [(&here, &there), (&there, &here)] {
        assert_eq!(udp_echoes(from, to, &datagrams), datagrams.len(), "{from:?} to {to:?}");
        assert!(from.pings_with(to, 60_000), "{from:?} to {to:?}");
        // The order that they come in makes no difference.
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            assert!(arrives_in_pieces(from, to, &datagrams[1], order), "{order:?}");
        }
        assert!(!arrives_in_pieces(from, to, &datagrams[1], [1, 2, 2]), "without the first one");
    }
    let (web, datagram) = (lab.place("shop/web"), &datagrams[3..]);
    assert_eq!(udp_echoes(&here, &web.at(53), datagram), 1);
    assert_eq!(udp_echoes(&here, &web.at(54), datagram), 0, "policy denies it");
    assert!(!here.pings_with(&web, 60_000), "policy denies it");
    let status = lab.status("gw-a");
    let drops = |reason: &str| -> u64 {
        let of = |port: &serde_json::Value| port["traffic"]["drops"][reason].as_u64();
        status["ports"].as_array().unwrap().iter().filter_map(of).sum()
    };
    assert!(drops("policy-deny") > 80, "later fragments are denied as the first one");
    // Of the two that came without their first each direction; one of them twice.
    assert_eq!(drops("fragment-unmatched") + drops("fragment-overlap"), 6, "{status:#}");
}
