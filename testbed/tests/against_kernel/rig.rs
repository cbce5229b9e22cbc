//! A gateway of either kind between wires: what goes in, and what comes out of it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, thread};

use margay_testbed::ip::{Batch, in_netns};
use margay_testbed::lab::Lab;
use margay_testbed::netns;
use margay_testbed::topology::Dataplane;

use super::outcome::{Outcome, tag};
use super::packet::{Packet, Port};
use crate::common::wire::Wire;
use crate::common::world::{B1, GW_A, Way, manifests};
use crate::common::{EVENTUALLY, Options, TestLab};

/// Of every device: what fits goes into no tunnel, and out of it, but by being told or split.
const MTU: u32 = 1500;
/// Packets on their way at a time. A gateway may answer each, and so many errors Margay sends at once.
const BATCH: usize = 40;
/// What a batch takes at least, so that errors are not sent more often than Margay sends them (1000 a second).
const PACE: Duration = Duration::from_millis(45);

/// Errors of the kernel's are as frequent as what causes them, and have nothing that only the kernel would know.
const KERNEL_SETTINGS: [(&str, &str); 5] = [
    ("ipv4/icmp_ratelimit", "0"),
    ("ipv4/icmp_msgs_per_sec", "100000"),
    ("ipv4/icmp_msgs_burst", "100000"),
    ("ipv6/icmp/ratelimit", "0"),
    ("ipv6/auto_flowlabels", "0"),
];

/// The gateway's device, and its neighbours' addresses there.
fn place(lab: &Lab, port: Port) -> (String, Vec<IpAddr>) {
    let way = match port {
        Port::Uplink => {
            let segment = &lab.topology.segments[lab.topology.nodes[GW_A.name].segment];
            return (
                "uplink0".to_owned(),
                [false, true].into_iter().filter_map(|is_ipv6| segment.router(is_ipv6)).collect(),
            );
        }
        Port::VxlanPod => Way::Vxlan,
        Port::PlainPod => Way::Plain,
    };
    let (_, pod) = lab.topology.pod_at(GW_A.pod_address(way).into()).unwrap();
    (pod.device.clone(), pod.addresses.clone())
}

/// Gives the gateway's devices the addresses that packets are for, and tells it of neighbours, who answer nothing.
fn prepare(lab: &Lab) -> anyhow::Result<()> {
    let node = lab.node(GW_A.name)?;
    let mac = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
    let mut batch = Batch::new();
    for port in Port::ALL {
        let (device, neighbours) = place(lab, port);
        batch.line(format!("link set {device} address {} mtu {MTU}", mac(port.mac())));
        for address in neighbours {
            let lladdr = mac(port.neighbour_mac());
            batch.line(format!("neigh replace {address} lladdr {lladdr} dev {device} nud permanent"));
        }
    }
    batch.run(Some(&node.netns))?;
    for (_, pod) in lab.topology.pods_on(GW_A.name) {
        Batch::new().extend([format!("link set eth0 mtu {MTU}")]).run(Some(&pod.netns))?;
    }
    // What a device would fill in is not on the wire yet.
    let offloads = in_netns(&node.netns, "ethtool").args(["-K", "uplink0", "tx", "off"]).output()?;
    anyhow::ensure!(offloads.status.success(), "{offloads:?}");
    let alone = Batch::new().extend([format!("link set {} nomaster", node.router_port)]);
    alone.run(Some(&lab.topology.router()))?;
    netns::within(&node.netns, || {
        for (key, value) in KERNEL_SETTINGS {
            fs::write(Path::new("/proc/sys/net").join(key), value)?;
        }
        Ok(())
    })?
}

/// What became of each packet on a gateway of this kind, by its number.
pub fn run(dataplane: Dataplane, packets: &[Packet], proofs: &[Packet]) -> BTreeMap<u16, Outcome> {
    let options = Options {
        dataplanes: vec![(GW_A.name, dataplane)],
        extra: vec![("world.yaml", manifests(&[GW_A, B1], &[Way::Vxlan, Way::Plain]))],
        ..Options::default()
    };
    let lab = TestLab::own_after(options, prepare);
    let wires = wires(&lab);
    let mut outcomes: BTreeMap<u16, Outcome> = BTreeMap::new();
    for batch in packets.chunks(BATCH) {
        let started = Instant::now();
        for packet in batch.iter().chain(proofs) {
            let is_margay = dataplane == Dataplane::Margay;
            let frame = if is_margay { &packet.frame } else { &packet.frame_for_kernel };
            wires[packet.port as usize].send(frame);
        }
        let mut missing: Vec<u16> = proofs.iter().map(|proof| proof.number).collect();
        while !missing.is_empty() || started.elapsed() < PACE {
            assert!(started.elapsed() < EVENTUALLY, "{dataplane:?} does not forward {missing:?}");
            thread::sleep(Duration::from_millis(2));
            for (wire, port) in wires.iter().zip(Port::ALL) {
                for frame in wire.received() {
                    let Some(number) = tag(&frame) else { continue };
                    missing.retain(|missing| *missing != number);
                    outcomes.entry(number).or_default().add(port, frame);
                }
            }
        }
    }
    outcomes
}

/// The other ends of the gateway's devices.
fn wires(lab: &TestLab) -> [Wire; Port::ALL.len()] {
    let Lab { topology, .. } = &lab.lab;
    Port::ALL.map(|port| match port {
        Port::Uplink => Wire::open(&topology.router(), &topology.nodes[GW_A.name].router_port),
        Port::VxlanPod => Wire::open(&lab.place(&GW_A.pod(Way::Vxlan)).netns, "eth0"),
        Port::PlainPod => Wire::open(&lab.place(&GW_A.pod(Way::Plain)).netns, "eth0"),
    })
}
