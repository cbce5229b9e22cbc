//! Streams through a gateway and a tunnel with every combination of offloads at the pods' ends, and at those of the Linux node:
//! all bytes arrive, and no checksum is wrong where they do. They need root.

mod common;

use std::fs;

use common::traffic::{Place, blob, tcp_transfer, udp_echoes};
use common::world::{B1, GW_A, Way, manifests};
use common::{Options, TestLab};
use margay_testbed::ip::in_netns;
use margay_testbed::{measure, netns};

/// As bits of a combination. What Linux refuses of one (TSO without checksums) it leaves off: that is a combination too.
const OFFLOADS: [&str; 4] = ["tx", "tso", "gso", "gro"];

const IPERF_BYTES: u64 = 1 << 20;

/// Switches a device's offloads by the bits of `on`.
fn set_offloads(netns: &str, device: &str, on: usize) {
    let mut ethtool = in_netns(netns, "ethtool");
    ethtool.args(["-K", device]);
    for (bit, offload) in OFFLOADS.iter().enumerate() {
        ethtool.args([*offload, if on >> bit & 1 == 1 { "on" } else { "off" }]);
    }
    // It fails where something was asked for that cannot be; what is so in the end is asked of the device.
    ethtool.output().unwrap();
}

/// Whether the device's offloads are those of the bits of `on`. TSO is not asked for: it depends on others and on the veth's
/// other end, where a native XDP program keeps it off.
fn has_offloads(netns: &str, device: &str, on: usize) -> bool {
    let said = in_netns(netns, "ethtool").args(["-k", device]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let is_on = |name: &str| said.lines().any(|line| line.starts_with(&format!("{name}: on")));
    let [tx, gso, gro] = [0, 2, 3].map(|bit| on >> bit & 1 == 1);
    is_on("tx-checksumming") == tx
        && is_on("generic-segmentation-offload") == gso
        && is_on("generic-receive-offload") == gro
}

/// Packets that were thrown away in the namespace for their checksum.
fn checksum_errors(place: &Place) -> u64 {
    let read =
        || ["snmp", "snmp6"].map(|file| fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap());
    let [four, six] = netns::within(&place.netns, read).unwrap();
    let mut errors = 0;
    for protocol in ["Tcp:", "Udp:"] {
        let mut lines = four.lines().filter(|line| line.starts_with(protocol)).map(|line| line.split(' '));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let value = names.zip(values).find(|(name, _)| *name == "InCsumErrors").unwrap().1;
        errors += value.parse::<u64>().unwrap();
    }
    let six = six.lines().find_map(|line| line.strip_prefix("Udp6InCsumErrors")).unwrap();
    errors + six.trim().parse::<u64>().unwrap()
}

#[test]
fn streams_arrive_whole_whatever_is_left_to_devices() {
    let world = manifests(&[GW_A, B1], &[Way::Vxlan]);
    let lab = TestLab::own(Options { extra: vec![("world.yaml", world)], ..Options::default() });
    let ends = [GW_A, B1].map(|node| node.pod(Way::Vxlan));
    let (here, there) = (lab.place(&ends[0]), lab.place(&ends[1]));
    let (here6, there6) = (lab.place6(&ends[0]), lab.place6(&ends[1]));
    let linux = &lab.lab.topology.nodes[B1.name];
    let (_, pod) = lab.lab.topology.pod_at(there.address).unwrap();
    let (stream, datagrams) = (blob(300_000, 5), [blob(1, 6), blob(1380, 7), blob(9000, 8)]);
    for on in 0..1 << OFFLOADS.len() {
        for place in [&here, &there] {
            set_offloads(&place.netns, "eth0", on);
            assert!(has_offloads(&place.netns, "eth0", on), "{on:04b} of {}", place.address);
        }
        // The node's own devices go with every other one.
        for device in [&pod.device, "uplink0", "vxlan.calico"] {
            set_offloads(&linux.netns, device, if on & 2 == 0 { 0 } else { 15 });
        }
        for (from, to) in [(&here, &there), (&there, &here), (&here6, &there6), (&there6, &here6)] {
            let what = format!("offloads {on:04b}, {} to {}", from.address, to.address);
            assert!(tcp_transfer(from, to, &stream).unwrap() == stream, "{what}");
            assert_eq!(udp_echoes(from, to, &datagrams), datagrams.len(), "{what}");
        }
        for (from, to) in [(&here, &there), (&there, &here)] {
            let address = to.address.to_string();
            measure::tcp_bytes(&from.netns, &to.netns, &address, IPERF_BYTES)
                .unwrap_or_else(|error| panic!("offloads {on:04b}: {error:#}"));
        }
        assert_eq!([&here, &there].map(checksum_errors), [0, 0], "offloads {on:04b}");
    }
}
