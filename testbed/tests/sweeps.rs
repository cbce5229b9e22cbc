//! Packets of every size around each boundary, with DF and without, both ways: each arrives whole, or its sender is told what
//! fits, by its own gateway. Nothing is lost on the quiet. They need root.

mod common;

use std::net::IpAddr;

use common::echo::{Echo, Fate};
use common::world::{B1, GW_A, GW_B, Node, Way, manifests};
use common::{Options, TestLab};
use margay_testbed::ip::Batch;
use margay_testbed::lab::Lab;
use margay_testbed::topology::{POD_GATEWAY, POD_GATEWAY6};

/// Of pods' links: more than any way between nodes takes.
const LINK: usize = 1600;
const UPLINK: usize = 1500;

/// How far a sweep goes to either side: IP fragments have a multiple of 8 bytes.
const AROUND: usize = 8;

/// The ends of a way, and the largest packet on it.
const WAYS: [(Node, Node, Way, bool, usize); 7] = [
    (GW_A, B1, Way::Vxlan, false, UPLINK - 50),
    (GW_A, GW_B, Way::Vxlan, false, UPLINK - 50),
    (GW_A, GW_B, Way::Ipip, false, UPLINK - 20),
    (GW_A, B1, Way::Plain, false, UPLINK),
    (GW_A, GW_B, Way::Plain, false, UPLINK),
    (GW_A, B1, Way::Plain, true, UPLINK),
    (GW_A, GW_B, Way::Plain, true, UPLINK),
];

/// Gives pods wider links than nodes have.
fn widen(lab: &Lab) -> anyhow::Result<()> {
    for pod in lab.topology.pods.values() {
        let device = format!("link set {} mtu {LINK}", pod.device);
        Batch::new().extend([device]).run(Some(&lab.topology.nodes[&pod.node].netns))?;
        Batch::new().extend([format!("link set eth0 mtu {LINK}")]).run(Some(&pod.netns))?;
    }
    Ok(())
}

/// Has the pod send no larger packets than these. IPv4 learns no other MTU then, and sends without DF what may be split.
fn hold_mtu(lab: &TestLab, node: Node, way: Way, is_ipv6: bool, mtu: usize) {
    let via: IpAddr = if is_ipv6 { POD_GATEWAY6.into() } else { POD_GATEWAY.into() };
    let place = lab.place(&node.pod(way));
    let route = Batch::new().extend([format!("route replace default via {via} dev eth0 mtu lock {mtu}")]);
    if is_ipv6 { route.run_ipv6(Some(&place.netns)) } else { route.run(Some(&place.netns)) }.unwrap();
}

/// Sizes on both sides of each.
fn around(boundaries: &[usize]) -> impl Iterator<Item = usize> {
    let mut sizes: Vec<usize> =
        boundaries.iter().flat_map(|boundary| boundary - AROUND..=boundary + AROUND).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes.into_iter()
}

/// Bytes of the packet of IPv4 whose first fragment fills the MTU.
fn first_fragment(mtu: usize) -> usize {
    20 + (mtu - 20) / 8 * 8
}

#[test]
fn every_size_arrives_or_is_told() {
    let ways = [Way::Vxlan, Way::Ipip, Way::Plain];
    let world = manifests(&[GW_A, GW_B, B1], &ways);
    let lab = TestLab::own_after(Options { extra: vec![("world.yaml", world)], ..Options::default() }, widen);
    for (here, there, way, is_ipv6, most) in WAYS {
        for (from, to) in [(here, there), (there, here)] {
            for end in [from, to] {
                hold_mtu(&lab, end, way, is_ipv6, LINK);
            }
            let place = |node: Node| {
                if is_ipv6 { lab.place6(&node.pod(way)) } else { lab.place(&node.pod(way)) }
            };
            let mut echo = Echo::new(&place(from), &place(to));
            let gateway = from.underlay(is_ipv6);
            let what = format!("{} to {} {way:?}", from.pod(way), place(to).address);
            let too_big = Fate::TooBig { from: gateway, mtu: most as u32 };
            let mut told = 0;
            for size in around(&[100, 1288, most, LINK - AROUND]) {
                let fate = echo.send(size, true);
                told += usize::from(fate == too_big);
                // Of IPv6 the sender remembers what it was told, and splits.
                let is_whole = size <= most || is_ipv6 && fate == Fate::Whole;
                let expected = if is_whole { &Fate::Whole } else { &too_big };
                assert_eq!(fate, *expected, "{what}: {size} bytes with DF");
            }
            assert!(told > 0 || is_ipv6 && from.name != here.name, "{what}: {told} told");
            // IPv6 is split by its sender alone, who knows by now.
            let link = if is_ipv6 { most } else { LINK };
            for end in [from, to] {
                hold_mtu(&lab, end, way, is_ipv6, link);
            }
            let (of_link, of_way) = (first_fragment(link), first_fragment(most));
            let second = of_link - 20;
            let boundaries =
                [most, of_way, link, of_link, of_link + of_way - 20, of_link + second, 4460, 9000];
            for size in around(&boundaries).chain([20_000, 40_000, 60_000, 65_535]) {
                assert_eq!(echo.send(size, false), Fate::Whole, "{what}: {size} bytes without DF");
            }
        }
    }
}
