//! Whatever the frames: the packet function neither panics nor loses a chunk, and counts every frame out once.
//!
//! Input: frames one after another, each as port, template and length (a byte each), and so many bytes: see `packet`.

#![no_main]

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use margay_encap::Outer;
use margay_encap::checksum::Sum;
use margay_fastpath::egress::Egress;
use margay_fastpath::pipeline::{Pipeline, Turn};
use margay_fastpath::{Burst, Counters, FramePool, Layout, Umem};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::snapshot::Local;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{Adjacency, Fib, InnerSources, NextHop, NextHopId, PortId, PortKind, PortState, Snapshot, Tunnel};

const LAYOUT: Layout = Layout { chunk_size: 2048, chunks: 128 };
const PORTS: u16 = 3;
const NODE: [u8; 4] = [1, 1, 1, 1];
const PEER_NODE: [u8; 4] = [2, 2, 2, 2];
const MAC: [u8; 6] = [4; 6];

/// What is the same for every input; the flow table is new for each.
struct Gateway {
    snapshot: Snapshot,
    umem: Arc<Umem>,
    pool: FramePool,
    egress: Egress,
}

thread_local! {
    static GATEWAY: RefCell<Gateway> = RefCell::new(Gateway::new());
}

fuzz_target!(|input: &[u8]| GATEWAY.with_borrow_mut(|gateway| gateway.run(input)));

impl Gateway {
    fn new() -> Self {
        let (umem, frames) = Umem::heap(LAYOUT);
        let mut pool = FramePool::with_capacity(frames.len());
        pool.extend(frames);
        let mut egress = Egress::default();
        (0..PORTS).for_each(|port| egress.open(PortId(port)));
        Self { snapshot: snapshot(), umem, pool, egress }
    }

    fn run(&mut self, input: &[u8]) {
        let Self { snapshot, umem, pool, egress } = self;
        let counters = Arc::new(Counters::default());
        let table = Arc::new(FlowTable::new(16, [1, 2, 3, 4], Timeouts::default()).with_ipv6());
        let mut pipeline = Pipeline::new(table, Arc::clone(&counters));
        let mut rest = input;
        let mut now = 0;
        while let [port, template, length, tail @ ..] = rest {
            let (bytes, tail) = tail.split_at(usize::from(*length).min(tail.len()));
            rest = tail;
            now += 1000 * u64::from(*port >> 4);
            let mut frame = pool.get().expect("every chunk is back");
            assert!(umem.fill(&mut frame, &mended(packet(*template, bytes))));
            frame.port = PortId(u16::from(*port & 15) % PORTS);
            let mut burst = Box::<Burst>::default();
            burst.push(frame);
            pipeline.process(&Turn { snapshot, umem, now }, &mut burst, pool, egress);
            pipeline.release(&Turn { snapshot, umem, now }, pool, egress);
            egress.flush(|_, burst| pool.extend(burst.drain_front(burst.len())));
            assert_eq!(pool.len() + pipeline.waiting(), LAYOUT.chunks as usize, "a chunk leaked");
        }
        pipeline.give_up(None, pool);
        assert_eq!(pool.len(), LAYOUT.chunks as usize, "a chunk leaked");
        for port in (0..PORTS).map(PortId) {
            let port = counters.port(port);
            let dropped: u64 = port.drops.iter().map(|drop| drop.get()).sum();
            assert_eq!(port.rx.get(), port.forwarded.get() + dropped);
        }
    }
}

/// The bytes themselves, or a sound packet with some of its bytes changed: (offset, value) pairs.
fn packet(template: u8, bytes: &[u8]) -> Vec<u8> {
    let remote = [10, 64 << (template & 1), 0, template >> 6];
    let (out, back) = (ipv4([10, 1, 0, 1], remote, 17, &UDP), ipv4(remote, [10, 1, 0, 1], 17, &UDP));
    let mut packet = match template >> 1 & 7 {
        _ if template & 16 != 0 => packet6(template),
        0 => return bytes.to_vec(),
        1 => out,
        2 => ipv4([10, 1, 0, 1], remote, 6, &TCP),
        3 => ipv4(PEER_NODE, NODE, 4, &back[14..]),
        4 => ipv4(PEER_NODE, NODE, 17, &[&VXLAN[..], &back[12..]].concat()),
        5 => ipv4(remote, [10, 1, 0, 1], 1, &[&[3, 3, 0, 0, 0, 0, 0, 0], &out[14..]].concat()),
        6 => return fragment(template, bytes),
        _ => ipv4([10, 1, 0, 1], [10, 2, 0, 1], 1, &[8, 0, 0, 0, 0, 1, 0, 1]),
    };
    for change in bytes.chunks_exact(2) {
        let at = usize::from(change[0]) % packet.len();
        packet[at] = change[1];
    }
    packet
}

/// A fragment, from a pod or to it in VXLAN: its datagram, its place and length from a few values each, so that a fuzzer
/// finds what belongs together.
fn fragment(template: u8, bytes: &[u8]) -> Vec<u8> {
    let [ident, place, length] = [0, 1, 2].map(|at| bytes.get(at).copied().unwrap_or_default());
    let payload = [&UDP[..8], bytes, &[0; 400]].concat();
    let (pod, remote) = ([10, 1, 0, 1], [10, 64, 0, 0]);
    let is_inner = template & 1 == 1;
    let (src, dst) = if is_inner { (remote, pod) } else { (pod, remote) };
    let mut packet =
        ipv4(src, dst, if template & 0x20 == 0 { 17 } else { 6 }, &payload[..usize::from(length)]);
    packet[18] = ident;
    packet[20] = template & 0x20 | place >> 7 << 5;
    packet[21] = place & 31;
    if !is_inner {
        return packet;
    }
    // The inner header's checksum stands where `mended` finds it.
    ipv4(PEER_NODE, NODE, 17, &[&vxlan(packet.len() - 14)[..], &packet[12..]].concat())
}

/// As `VXLAN`, for an inner packet of another length.
fn vxlan(inner: usize) -> [u8; 28] {
    let mut header = VXLAN;
    header[4..6].copy_from_slice(&(inner as u16 + 30).to_be_bytes());
    header
}

const UDP: [u8; 12] = [0, 1, 0, 53, 0, 12, 0, 0, 1, 2, 3, 4];
const TCP: [u8; 20] = [0, 1, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0, 0, 0, 0, 0, 0];
/// UDP and VXLAN header, and the inner MACs to our VTEP; the UDP length is for a 32-byte inner packet.
const VXLAN: [u8; 28] =
    [200, 0, 18, 181, 0, 62, 0, 0, 8, 0, 0, 0, 0, 16, 0, 0, 6, 6, 6, 6, 6, 6, 8, 8, 8, 8, 8, 8];

fn ipv4(src: [u8; 4], dst: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = [&MAC[..], &[2; 6], &[8, 0, 0x45, 0]].concat();
    packet.extend_from_slice(&(payload.len() as u16 + 20).to_be_bytes());
    packet.extend_from_slice(&[0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend_from_slice(&src);
    packet.extend_from_slice(&dst);
    packet.extend_from_slice(payload);
    packet
}

/// The same of IPv6. Of the templates in tunnels each is a plain one.
fn packet6(template: u8) -> Vec<u8> {
    let (pod, remote) = (pod6(1), end6(64 << (template & 1)));
    let out = ipv6(pod, remote, 17, &UDP);
    match template >> 1 & 7 {
        0 | 1 => out,
        2 => ipv6(pod, remote, 6, &TCP),
        3 => ipv6(remote, pod, 17, &UDP),
        4 => ipv6(remote, pod, 0, &[&[60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0], &TCP[..]].concat()),
        5 => ipv6(remote, pod, 58, &[&[2, 0, 0, 0, 0, 0, 5, 0], &out[14..]].concat()),
        6 => ipv6(pod, remote, 17, &[0; 400]),
        _ => ipv6(pod, pod6(2), 58, &[128, 0, 0, 0, 0, 1, 0, 1]),
    }
}

fn ipv6(src: [u8; 16], dst: [u8; 16], next_header: u8, payload: &[u8]) -> Vec<u8> {
    let header = margay_encap::ipv6::header(src.into(), dst.into(), next_header, 64, payload.len() as u16);
    [&MAC[..], &[2; 6], &[0x86, 0xdd], &header, payload].concat()
}

const NODE6: [u8; 16] = [0xfd, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1];

/// A pod's address of IPv6.
fn pod6(number: u8) -> [u8; 16] {
    let mut address = end6(number);
    address[15] = 1;
    address
}

/// fd00:NN00::, routed by its third byte.
fn end6(third: u8) -> [u8; 16] {
    let mut address = [0; 16];
    [address[0], address[2]] = [0xfd, third];
    address
}

fn pod_addresses(number: u8) -> [IpAddr; 2] {
    [Ipv4Addr::new(10, number, 0, 1).into(), pod6(number).into()]
}

/// With right IP header checksums, outside and behind a VXLAN or IP-in-IP header: random ones would all end there.
fn mended(mut frame: Vec<u8>) -> Vec<u8> {
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
    let (node, peer) = (Ipv4Addr::from(NODE), Ipv4Addr::from(PEER_NODE));
    let adjacency = |port| Adjacency { port: PortId(port), dst_mac: [2; 6], src_mac: MAC, mtu: 300 };
    let vxlan = Tunnel::Vxlan {
        src: node,
        dst: peer,
        vni: 4096,
        udp_port: 4789,
        inner_src_mac: [6; 6],
        inner_dst_mac: [8; 6],
        outer: Outer::VXLAN,
    };
    let forward = |port, tunnel| NextHop::Forward { adjacency: adjacency(port), tunnel };
    let next_hops = vec![
        NextHop::Host,
        forward(1, None),
        forward(2, None),
        forward(0, Some(vxlan)),
        forward(0, Some(Tunnel::Ipip { src: node, dst: peer, outer: Outer::IPIP })),
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
    let routes6 = [
        (NODE6, 128, 0),
        (pod6(1), 128, 1),
        (pod6(2), 128, 2),
        (end6(64), 18, 3),
        (end6(128), 18, 4),
        (end6(192), 18, 5),
        (end6(0), 24, 6),
    ];
    let routes = routes.map(|(net, length, id)| (IpAddr::V4(net), length, NextHopId(id))).into_iter();
    let routes6 = routes6.map(|(net, length, id)| (IpAddr::from(net), length, NextHopId(id)));
    let port = |kind| Some(PortState { name: "port".into(), kind, mac: MAC, mtu: 300 });
    let pod = |number: u8| PortKind::Pod { addresses: pod_addresses(number).into() };
    Snapshot {
        fib: Fib::build(routes.chain(routes6)),
        next_hops: next_hops.into(),
        ports: vec![port(PortKind::Uplink), port(pod(1)), port(pod(2))],
        local: Local {
            tunnel_ends: vec![node.into()],
            pods: [1, 2].into_iter().flat_map(pod_addresses).collect(),
            icmp_source: Some(node),
            icmp6_source: Some(Ipv6Addr::from(NODE6)),
            answers_unreachable: true,
            clamps_mss: true,
            vtep_mac: [6; 6],
            ..Local::default()
        },
        tunnel_sources: [peer.into()].into_iter().collect(),
        inner_sources: InnerSources {
            homes: Fib::build([(Ipv4Addr::new(10, 128, 0, 0).into(), 9, NextHopId(0)), (Ipv4Addr::new(10, 64, 0, 0).into(), 10, NextHopId(0))]),
            senders: [vec![peer.into()]].into(),
            ..InnerSources::default()
        },
        ..Snapshot::default()
    }
}
