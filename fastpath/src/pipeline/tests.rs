//! Packet in, packet out, over a small gateway: two pods here, blocks behind VXLAN, IP-in-IP and plain routes.

mod conservation;
mod drops;
mod events;
mod forwarding;
mod fragments;
mod gso;
mod host;
mod ipv6;
mod large;
mod options;
mod passed;
mod policy;
mod rules;
mod segment;
mod senders;
mod split;
mod tapped;
mod to_host;
mod truncation;
mod tunnel6;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use etherparse::PacketBuilder;
use margay_encap::{Outer, checksum};
use margay_flowtable::conntrack::Timeouts;
use margay_flowtable::snapshot::Local;
use margay_flowtable::table::FlowTable;
use margay_flowtable::{
    Action, AddressSet, Adjacency, Checksums, Endpoint, EndpointId, Fib, Fragments, Holder, IcmpMatch,
    IdentityId, InnerSource, InnerSources, Isa, NextHop, NextHopId, Obeys, Policy, PolicyType, PortId,
    PortKind, PortState, Program, ProgramId, Rule, RuleId, Segment, SegmentId, SetId, Side, Snapshot, Tier,
    TierEnd, Tunnel,
};

use super::{Expiry, MidFlow, Pipeline, Turn};
use crate::counters::Counters;
use crate::drop::DropReason;
use crate::egress::Egress;
use crate::frame::{Burst, Frame};
use crate::umem::{FramePool, Layout, Umem};

pub(crate) const UPLINK: PortId = PortId(0);
pub(crate) const WEB: PortId = PortId(1);
pub(crate) const OPEN: PortId = PortId(2);

const WEB_IP: [u8; 4] = [10, 65, 10, 5];
pub(crate) const OPEN_IP: [u8; 4] = [10, 65, 10, 8];
/// In the block behind VXLAN; the one peer that may reach `WEB`, on TCP 80.
pub(crate) const PEER_IP: [u8; 4] = [10, 65, 21, 5];
const OTHER_IP: [u8; 4] = [10, 65, 21, 6];
const IPIP_IP: [u8; 4] = [10, 67, 21, 5];
const DIRECT_IP: [u8; 4] = [10, 69, 11, 5];

const NODE_IP: [u8; 4] = [172, 20, 1, 10];
const REMOTE_NODE_IP: [u8; 4] = [172, 20, 2, 11];
const OTHER_NODE_IP: [u8; 4] = [172, 20, 2, 12];

/// What lives on the remote node (0) and on the other (1), its own addresses among them.
const HOMES: [([u8; 4], u8, u32); 6] = [
    ([10, 65, 21, 0], 26, 0),
    ([10, 67, 21, 0], 26, 0),
    ([10, 69, 11, 0], 26, 0),
    (REMOTE_NODE_IP, 32, 0),
    ([10, 65, 22, 0], 26, 1),
    (OTHER_NODE_IP, 32, 1),
];

const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const OUR_VTEP: [u8; 6] = [0x66, 0, 0, 0, 0, 1];
const REMOTE_VTEP: [u8; 6] = [0x66, 0, 0, 0, 0, 2];

/// What came of one frame: what was sent where, and why it was dropped.
#[derive(Debug)]
struct Outcome {
    sent: Vec<(PortId, Vec<u8>)>,
    dropped: Option<DropReason>,
}

impl Outcome {
    /// The one frame sent.
    #[track_caller]
    fn only(self) -> (PortId, Vec<u8>) {
        assert_eq!(self.dropped, None);
        assert_eq!(self.sent.len(), 1, "{:?}", self.sent);
        self.sent.into_iter().next().expect("one frame")
    }
}

struct Gateway {
    snapshot: Snapshot,
    pipeline: Pipeline,
    counters: Arc<Counters>,
    umem: Arc<Umem>,
    pool: FramePool,
    egress: Egress,
    expiry: Expiry,
    now: u64,
}

const CHUNKS: u32 = 512;
/// Large buffers beside them.
const LARGE: usize = 8;

impl Gateway {
    fn new() -> Self {
        Self::with_isa(Isa::best())
    }

    fn with_isa(isa: Isa) -> Self {
        let (umem, frames) = Umem::heap(Layout { chunk_size: 2048, chunks: CHUNKS });
        let mut pool = FramePool::with_capacity(frames.len());
        pool.extend(frames);
        let counters = Arc::new(Counters::default());
        let mut egress = Egress::default();
        for port in [UPLINK, WEB, OPEN] {
            egress.open(port);
        }
        let table = FlowTable::new(1024, [1, 2, 3, 4], Timeouts::default()).with_isa(isa).with_ipv6();
        let table = Arc::new(table.with_accounting().with_ends(64));
        let pipeline = Pipeline::new(table, Arc::clone(&counters));
        Self {
            snapshot: snapshot(),
            pipeline,
            counters,
            umem,
            pool,
            egress,
            expiry: Expiry::default(),
            now: 1_000_000,
        }
    }

    /// Runs a burst of frames that came in by `port`.
    fn run_burst(&mut self, port: PortId, packets: &[Vec<u8>]) -> Vec<(PortId, Vec<u8>)> {
        let mut burst = Box::<Burst>::default();
        for packet in packets {
            burst.push(self.frame(port, packet));
        }
        self.run_frames(burst)
    }

    /// A frame with the packet, as it comes in by `port`.
    fn frame(&mut self, port: PortId, packet: &[u8]) -> Frame {
        let is_long = packet.len() > self.umem.layout().longest_frame() as usize;
        let free = if is_long { self.pool.get_large() } else { self.pool.get() };
        let mut frame = free.expect("a free frame");
        assert!(self.umem.fill(&mut frame, packet));
        frame.port = port;
        frame
    }

    /// Runs the frames of one port.
    fn run_frames(&mut self, mut burst: Box<Burst>) -> Vec<(PortId, Vec<u8>)> {
        let turn = Turn { snapshot: &self.snapshot, umem: &self.umem, now: self.now };
        self.pipeline.process(&turn, &mut burst, &mut self.pool, &mut self.egress);
        assert!(burst.is_empty());
        self.pipeline.release(&turn, &mut self.pool, &mut self.egress);
        let mut sent = Vec::new();
        let Self { egress, pool, umem, .. } = self;
        egress.flush(|port, burst| {
            for frame in burst.drain_front(burst.len()) {
                sent.push((port, umem.bytes(&frame).to_vec()));
                pool.put(frame);
            }
        });
        assert_eq!(self.pool.len() + self.pipeline.waiting(), CHUNKS as usize, "a chunk leaked");
        assert_eq!(self.pool.large(), LARGE, "a large buffer leaked");
        sent
    }

    fn run(&mut self, port: PortId, packet: &[u8]) -> Outcome {
        let before = self.drops(port);
        let sent = self.run_burst(port, &[packet.to_vec()]);
        let after = self.drops(port);
        let dropped = (0..DropReason::COUNT).find(|&i| before[i] != after[i]).map(|i| DropReason::ALL[i]);
        Outcome { sent, dropped }
    }

    fn drops(&self, port: PortId) -> Vec<u64> {
        self.counters.port(port).drops.iter().map(crate::counters::Counter::get).collect()
    }

    /// Sets the MTU of every link that a next hop leads to by this port.
    fn set_mtu(&mut self, port: PortId, mtu: u16) {
        self.publish(|snapshot| {
            let mut next_hops = snapshot.next_hops.to_vec();
            for next_hop in &mut next_hops {
                if let NextHop::Forward { adjacency, .. } = next_hop
                    && adjacency.port == port
                {
                    adjacency.mtu = mtu;
                }
            }
            snapshot.next_hops = next_hops.into();
        });
    }

    /// Puts a changed snapshot in force, as the publisher does.
    fn publish(&mut self, change: impl FnOnce(&mut Snapshot)) {
        let mut next = self.snapshot.clone();
        next.succeed(&self.snapshot);
        change(&mut next);
        self.snapshot = next;
    }
}

fn ip(octets: [u8; 4]) -> Ipv4Addr {
    Ipv4Addr::from(octets)
}

pub(crate) fn snapshot() -> Snapshot {
    let adjacency = |port, dst_mac| Adjacency { port, dst_mac, src_mac: OUR_MAC, mtu: 1500 };
    let uplink = || adjacency(UPLINK, ROUTER_MAC);
    let (src, dst) = (ip(NODE_IP), ip(REMOTE_NODE_IP));
    let vxlan = Tunnel::Vxlan {
        src,
        dst,
        vni: 4096,
        udp_port: 4789,
        inner_src_mac: OUR_VTEP,
        inner_dst_mac: REMOTE_VTEP,
        outer: Outer::VXLAN,
    };
    let forward = |adjacency, tunnel| NextHop::Forward { adjacency, tunnel };
    let next_hops = vec![
        NextHop::Blackhole,
        NextHop::Host,
        NextHop::Unresolved,
        forward(adjacency(WEB, [2, 0, 0, 0, 1, 5]), None),
        forward(adjacency(OPEN, [2, 0, 0, 0, 1, 8]), None),
        forward(uplink(), Some(vxlan)),
        forward(uplink(), Some(Tunnel::Ipip { src, dst, outer: Outer::IPIP })),
        forward(uplink(), None),
    ];
    let routes = [
        ([10, 65, 10, 0], 26, 0),
        (NODE_IP, 32, 1),
        ([10, 65, 41, 0], 26, 2),
        (WEB_IP, 32, 3),
        (OPEN_IP, 32, 4),
        ([10, 65, 21, 0], 26, 5),
        ([10, 67, 21, 0], 26, 6),
        ([10, 69, 11, 0], 26, 7),
    ];
    let port = |name: &str, kind| {
        Some(PortState { name: name.into(), kind, mac: OUR_MAC, mtu: 1500, takes_checksums: Checksums::None })
    };
    let pod = |address: [u8; 4]| PortKind::Pod { addresses: vec![ip(address).into()] };
    let mut snapshot = Snapshot {
        fib: Fib::build(routes.map(|(net, length, id)| (ip(net).into(), length, NextHopId(id)))),
        next_hops: next_hops.into(),
        ports: vec![
            port("uplink0", PortKind::Uplink),
            port("ns/web", pod(WEB_IP)),
            port("ns/open", pod(OPEN_IP)),
        ],
        local: Local {
            tunnel_ends: vec![src.into()],
            addresses: [IpAddr::V4(src)].into_iter().collect(),
            pods: [ip(WEB_IP), ip(OPEN_IP)].into_iter().map(IpAddr::V4).collect(),
            icmp_source: Some(src),
            vtep_mac: OUR_VTEP,
            ..Local::default()
        },
        tunnel_sources: [dst.into(), ip(OTHER_NODE_IP).into()].into_iter().collect(),
        inner_sources: InnerSources {
            homes: Fib::build(HOMES.map(|(net, length, node)| (ip(net).into(), length, NextHopId(node)))),
            senders: [vec![dst.into()], vec![ip(OTHER_NODE_IP).into()]].into(),
            ..InnerSources::default()
        },
        ..Snapshot::default()
    };
    set_endpoint(&mut snapshot, WEB_IP, &[], &[allow_tcp_80(&[PEER_IP])]);
    set_endpoint(&mut snapshot, OPEN_IP, &[], &[]);
    snapshot
}

/// A rule that lets the peers in, or out to them.
struct Allow {
    protocol: u8,
    port: Option<u16>,
    icmp: Option<IcmpMatch>,
    peers: Vec<[u8; 4]>,
}

fn allow_tcp_80(peers: &[[u8; 4]]) -> Allow {
    Allow { protocol: 6, port: Some(80), icmp: None, peers: peers.to_vec() }
}

/// Gives the pod these rules; none for a direction: no policy selects it there.
fn set_endpoint(snapshot: &mut Snapshot, address: [u8; 4], egress: &[Allow], ingress: &[Allow]) {
    let number = u32::from(address[3]);
    let node_addresses = [IpAddr::V4(ip(NODE_IP))].into();
    let endpoint = Endpoint { name: format!("ns/{}", ip(address)).into(), node_addresses };
    let holder = Holder { identity: IdentityId(number), endpoint: Some(EndpointId(number)) };
    let egress = add_program(snapshot, PolicyType::Egress, egress);
    let ingress = add_program(snapshot, PolicyType::Ingress, ingress);
    let policies = &mut snapshot.policies;
    policies.obeys.set(number, Obeys { egress, ingress, to_node: egress, ..Obeys::default() });
    policies.endpoints.set(number, Arc::new(endpoint));
    policies.nodes = Arc::new([IpAddr::V4(ip(NODE_IP))].into_iter().collect());
    policies.addresses.insert(ip(address).into(), holder);
    snapshot.epochs.touch(ip(address).into());
}

fn add_program(snapshot: &mut Snapshot, policy_type: PolicyType, rules: &[Allow]) -> ProgramId {
    if rules.is_empty() {
        return ProgramId::NONE;
    }
    let policies = &mut snapshot.policies;
    let rules = rules.iter().map(|allow| {
        let set = policies.sets.len() as u32;
        let peers = allow.peers.iter().map(|peer| (ip(*peer).into(), ip(*peer).into()));
        policies.sets.set(set, Arc::new(AddressSet::new([], peers)));
        let (peer, ports) =
            (vec![vec![SetId(set)]], allow.port.map(|port| port..=port).into_iter().collect());
        let (source, destination) = match policy_type {
            PolicyType::Ingress => {
                (Side { all_of: peer, ..Side::default() }, Side { ports, ..Side::default() })
            }
            PolicyType::Egress => (Side::default(), Side { all_of: peer, ports, ..Side::default() }),
        };
        let (protocol, icmp) = (Some(allow.protocol), allow.icmp);
        Rule { action: Action::Allow, protocol, icmp, source, destination, ..Rule::default() }
    });
    let rules = rules.collect();
    put_program(snapshot, policy_type, rules, RuleId::NONE)
}

/// A program of these rules, at whose end another denies.
fn put_program(snapshot: &mut Snapshot, policy_type: PolicyType, rules: Vec<Rule>, end: RuleId) -> ProgramId {
    let policies = &mut snapshot.policies;
    let policy = Arc::new(Policy { name: "ns/policy".into(), rules, end });
    let known = IdentityId(256);
    let segment = Segment::new(policy_type, vec![policy], &policies.sets, &policies.port_sets, known);
    let id = policies.segments.len() as u32;
    policies.segments.set(id, Arc::new(segment));
    let segments = vec![SegmentId(id)];
    let tier = Tier { name: "default".into(), segments, end: TierEnd::Deny, end_rule: end };
    let program = ProgramId(policies.programs.len() as u32);
    policies.programs.set(program.0, Arc::new(Program::new(vec![tier])));
    program
}

pub(crate) fn udp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2([2; 6], OUR_MAC)
        .ipv4(src, dst, 64)
        .udp(ports.0, ports.1)
        .write(&mut packet, payload)
        .expect("a Vec takes all");
    packet
}

/// `flags` as in the header: SYN 2, ACK 16, ...
fn tcp(src: [u8; 4], dst: [u8; 4], ports: (u16, u16), flags: u8) -> Vec<u8> {
    let mut header = etherparse::TcpHeader::new(ports.0, ports.1, 1000, 65535);
    (header.fin, header.syn, header.rst, header.ack) =
        (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0, flags & 16 != 0);
    let mut packet = Vec::new();
    PacketBuilder::ethernet2([2; 6], OUR_MAC)
        .ipv4(src, dst, 64)
        .tcp_header(header)
        .write(&mut packet, b"payload")
        .expect("a Vec takes all");
    packet
}

const SYN: u8 = 2;
const ACK: u8 = 16;

/// `inner` (an Ethernet frame with IPv4) in VXLAN from `src` to our node.
fn vxlan_from(src: [u8; 4], vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0];
    payload.extend_from_slice(&(vni << 8).to_be_bytes());
    payload.extend_from_slice(&OUR_VTEP);
    payload.extend_from_slice(&REMOTE_VTEP);
    payload.extend_from_slice(&inner[12..]);
    udp(src, NODE_IP, (50_000, 4789), &payload)
}

fn ipip_from(src: [u8; 4], inner: &[u8]) -> Vec<u8> {
    let mut packet = Vec::new();
    PacketBuilder::ethernet2([2; 6], OUR_MAC)
        .ipv4(src, NODE_IP, 64)
        .write(&mut packet, etherparse::IpNumber::IPV4, &inner[14..])
        .expect("a Vec takes all");
    packet
}

/// Changes a byte of the IP header and mends its checksum.
fn set_ip_byte(packet: &mut [u8], at: usize, value: u8) {
    packet[14 + at] = value;
    packet[24..26].fill(0);
    let sum = checksum::Sum::of(&packet[14..34]).finish();
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// The packet in pieces of so many bytes, of a datagram that is numbered.
pub(crate) fn pieces(packet: &[u8], ident: u16, len: usize) -> Vec<Vec<u8>> {
    let payload = &packet[34..];
    let piece = |at: usize| {
        let part = &payload[at..payload.len().min(at + len)];
        let more = if at + part.len() < payload.len() { 0x2000 } else { 0 };
        let mut piece = [&packet[..34], part].concat();
        piece[16..18].copy_from_slice(&(part.len() as u16 + 20).to_be_bytes());
        piece[18..20].copy_from_slice(&ident.to_be_bytes());
        piece[20..22].copy_from_slice(&(more | (at as u16 / 8)).to_be_bytes());
        set_ip_byte(&mut piece, 8, 64);
        piece
    };
    (0..payload.len()).step_by(len).map(piece).collect()
}
