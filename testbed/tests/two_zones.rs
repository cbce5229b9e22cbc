//! The demonstration's world on Margay: every probe, streams and datagrams through the kernel's VXLAN with each byte
//! checked. They need root.

mod common;

use std::time::Duration;

use common::traffic::{blob, tcp_transfer, udp_echoes};
use common::{Options, TestLab, assert_agree, two_zones};
use margay_testbed::measure;

/// The only probe that no Margay can decide: two pods of one Linux node.
const BEYOND_MARGAY: [(&str, &str); 1] = [("far/client", "far/batch")];

/// Pairs of pods in different zones that may exchange anything: by VXLAN from the kernel of b1 to a pod behind gw-a, and
/// by IP-in-IP between the two Margays.
const PAIRS: [(&str, &str); 2] = [("far/client", "shop/bench"), ("shop/cache", "far/audit")];

#[test]
fn every_probe_of_the_demonstration_agrees() {
    let lab = TestLab::two_zones(Options::default());
    assert_agree(&lab.probe_file(&two_zones().join("probes.yaml")), &BEYOND_MARGAY);
}

#[test]
fn streams_and_datagrams_arrive_whole_both_ways() {
    let lab = TestLab::two_zones(Options::default());
    let stream = blob(8 << 20, 1);
    // Lengths around those where headers, padding and the MTU (1450, less 28 of IP and UDP) matter.
    let datagrams: Vec<_> =
        [1, 17, 18, 19, 100, 1000, 1421, 1422].iter().map(|&length| blob(length, length as u64)).collect();
    for (here, there) in PAIRS {
        let (here, there) = (lab.place(here), lab.place(there));
        for (from, to) in [(&here, &there), (&there, &here)] {
            let arrived = tcp_transfer(from, to, &stream).unwrap();
            assert!(arrived == stream, "{from:?} to {to:?}: {} of {} bytes", arrived.len(), stream.len());
            assert_eq!(udp_echoes(from, to, &datagrams), datagrams.len(), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn iperf3_streams_both_ways() {
    let lab = TestLab::two_zones(Options::default());
    let (here, there) = (lab.place("far/client"), lab.place("shop/bench"));
    for (from, to) in [(&here, &there), (&there, &here)] {
        let address = to.address.to_string();
        let bits = measure::tcp_throughput(&from.netns, &to.netns, &address, Duration::from_secs(2)).unwrap();
        assert!(bits > 0.0, "{from:?} to {to:?}");
    }
}
