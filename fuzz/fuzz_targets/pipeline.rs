//! Whatever the frames: the packet function neither panics nor loses a chunk, and counts every frame out once.
//!
//! Input: frames one after another, each as port (1 byte), length (1 byte), bytes.

#![no_main]

use std::net::Ipv4Addr;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use margay_encap::checksum::Sum;
use margay_fastpath::egress::Egress;
use margay_fastpath::pipeline::{Pipeline, Turn};
use margay_fastpath::{Burst, Counters, FramePool, Layout, Umem};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::snapshot::Local;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{
    Adjacency, Fib, NextHop, NextHopId, PortId, PortKind, PortState, Snapshot, Tunnel,
};

const LAYOUT: Layout = Layout { chunk_size: 2048, chunks: 64 };
const PORTS: u16 = 3;

fuzz_target!(|input: &[u8]| {
    let snapshot = snapshot();
    let (umem, frames) = Umem::heap(LAYOUT);
    let mut pool = FramePool::with_capacity(frames.len());
    pool.extend(frames);
    let mut egress = Egress::default();
    (0..PORTS).for_each(|port| egress.open(PortId(port)));
    let counters = Arc::new(Counters::default());
    let table = Arc::new(FlowTable::new(16, [1, 2, 3, 4], Timeouts::default()));
    let mut pipeline = Pipeline::new(table, Arc::clone(&counters));

    let mut rest = input;
    let mut now = 0;
    while let [port, length, tail @ ..] = rest {
        let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = tail;
        now += 1000 * u64::from(*port >> 4);
        let mut frame = pool.get().expect("every chunk is back");
        assert!(umem.fill(&mut frame, &mended(bytes)));
        frame.port = PortId(u16::from(*port) % PORTS);
        let mut burst = Burst::default();
        burst.push(frame);
        let turn = Turn { snapshot: &snapshot, umem: &umem, now };
        pipeline.process(&turn, &mut burst, &mut pool, &mut egress);
        egress.flush(|_, burst| pool.extend(burst.drain_front(burst.len())));
        assert_eq!(pool.len(), LAYOUT.chunks as usize, "a chunk leaked");
    }
    for port in (0..PORTS).map(PortId) {
        let port = counters.port(port);
        let dropped: u64 = port.drops.iter().map(|drop| drop.get()).sum();
        assert_eq!(port.rx.get(), port.forwarded.get() + dropped);
    }
});

/// With right IP header checksums, outside and behind a VXLAN or IP-in-IP header: random ones would all end there.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut frame = bytes.to_vec();
    for l3 in [64, 34, 14] {
        if let Some(header) = frame.get_mut(l3..l3 + 20)
            && header[0] == 0x45
        {
            header[10..12].fill(0);
            let checksum = Sum::of(header).finish();
            header[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
    }
    frame
}

/// An uplink and two pods; 10/8 splits into VXLAN, IP-in-IP and plain routes. Addresses have few bits that count, so
/// that a fuzzer finds them.
fn snapshot() -> Snapshot {
    let node = Ipv4Addr::new(1, 1, 1, 1);
    let peer = Ipv4Addr::new(2, 2, 2, 2);
    let adjacency = |port| Adjacency { port: PortId(port), dst_mac: [2; 6], src_mac: [4; 6], mtu: 300 };
    let vxlan = Tunnel::Vxlan {
        src: node,
        dst: peer,
        vni: 4096,
        udp_port: 4789,
        inner_src_mac: [6; 6],
        inner_dst_mac: [8; 6],
    };
    let forward = |port, tunnel| NextHop::Forward { adjacency: adjacency(port), tunnel };
    let next_hops = vec![
        NextHop::Host,
        forward(1, None),
        forward(2, None),
        forward(0, Some(vxlan)),
        forward(0, Some(Tunnel::Ipip { src: node, dst: peer })),
        forward(0, None),
        NextHop::Blackhole,
    ];
    let routes = [
        (node, 32, 0),
        (Ipv4Addr::new(10, 1, 0, 0), 16, 1),
        (Ipv4Addr::new(10, 2, 0, 0), 16, 2),
        (Ipv4Addr::new(10, 64, 0, 0), 10, 3),
        (Ipv4Addr::new(10, 128, 0, 0), 10, 4),
        (Ipv4Addr::new(10, 192, 0, 0), 10, 5),
        (Ipv4Addr::new(10, 0, 0, 0), 16, 6),
    ];
    let port = |kind| Some(PortState { name: "port".into(), kind, mac: [4; 6], mtu: 300 });
    let pod = |third: u8| PortKind::Pod { addresses: vec![Ipv4Addr::new(10, third, 0, 1).into()] };
    Snapshot {
        fib: Fib::build(routes.map(|(net, length, id)| (net.into(), length, NextHopId(id)))),
        next_hops,
        ports: vec![port(PortKind::Uplink), port(pod(1)), port(pod(2))],
        local: Local {
            tunnel_ends: vec![node],
            icmp_source: Some(node),
            vtep_mac: [6; 6],
            ..Local::default()
        },
        tunnel_sources: [peer].into_iter().collect(),
        ..Snapshot::default()
    }
}
