//! Each gateway of the lab does what its case asks: packets arrive as the cluster has them, answers too, and what policy
//! forbids does not. Needs root, and the program margay beside the tests' folder.

#[path = "../../testbed/tests/common/wire.rs"]
#[allow(unreachable_pub)]
mod wire;

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use etherparse::{Ethernet2Header, Ipv4Header, PacketBuilder, UdpHeader};
use margay_perf::lab::case::{Case, Dataplane, Job};
use margay_perf::lab::dataplane::{self, Cores, Gateway, cluster};
use margay_perf::lab::site::{self, Site};
use margay_perf::lab::tcp;
use margay_perf::lab::world::{
    self, Beyond, Flow, GATEWAY_MAC, GATEWAY_NAME, MAC, NODE, PORT, Side, VNI, VXLAN_PORT, vtep_mac,
};

use self::wire::Wire;

/// Ways and policies: without any, with one, and where the one that matches is not the first.
const CASES: [(Job, u32); 6] = [
    (Job::L3, 0),
    (Job::L3, 1),
    (Job::VxlanDecap, 50),
    (Job::VxlanEncap, 0),
    (Job::VxlanEncap, 50),
    (Job::VxlanBoth, 50),
];
/// How long a packet may be on its way. OVS makes a flow of the first.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long to wait for what must not come.
const GRACE: Duration = Duration::from_millis(150);

/// A packet of the lab, as it is inside a tunnel if there is one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    source: (Ipv4Addr, u16),
    destination: (Ipv4Addr, u16),
    ttl: u8,
    payload: Vec<u8>,
}

/// What a frame is: the Ethernet addresses, those of the tunnel, and what is inside.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    macs: [[u8; 6]; 2],
    /// Outer addresses, inner Ethernet addresses.
    tunnel: Option<([Ipv4Addr; 2], [[u8; 6]; 2])>,
    inner: Inner,
}

fn udp(macs: [[u8; 6]; 2], addresses: [Ipv4Addr; 2], ports: [u16; 2], ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(macs[0], macs[1])
        .ipv4(addresses[0].octets(), addresses[1].octets(), ttl)
        .udp(ports[0], ports[1])
        .write(&mut bytes, payload)
        .unwrap();
    // The lab's packets have no UDP checksum.
    bytes[40..42].fill(0);
    bytes
}

impl Seen {
    fn to_frame(&self) -> Vec<u8> {
        let Inner { source, destination, ttl, payload } = &self.inner;
        let (addresses, ports) = ([source.0, destination.0], [source.1, destination.1]);
        let Some((outer, inner_macs)) = self.tunnel else {
            return udp(self.macs, addresses, ports, *ttl, payload);
        };
        let mut vxlan = vec![8, 0, 0, 0];
        vxlan.extend((VNI << 8).to_be_bytes());
        vxlan.extend(udp(inner_macs, addresses, ports, *ttl, payload));
        udp(self.macs, outer, [50_000, VXLAN_PORT], 64, &vxlan)
    }

    /// What a frame is, if it is UDP over IPv4; a checksum that is wrong is a failure.
    fn read(frame: &[u8]) -> Option<Self> {
        let (macs, addresses, ports, ttl, payload) = layers(frame)?;
        let plain =
            |macs, tunnel, [source, destination]: [Ipv4Addr; 2], ports: [u16; 2], ttl, payload: &[u8]| Self {
                macs,
                tunnel,
                inner: Inner {
                    source: (source, ports[0]),
                    destination: (destination, ports[1]),
                    ttl,
                    payload: payload.to_vec(),
                },
            };
        if ports[1] != VXLAN_PORT {
            return Some(plain(macs, None, addresses, ports, ttl, payload));
        }
        assert_eq!(&frame[40..42], [0, 0], "no checksum on the tunnel's own UDP");
        let (header, inside) = payload.split_at(8);
        assert_eq!((header[0], &header[4..7]), (8, &VNI.to_be_bytes()[1..]), "VXLAN header");
        let (inner_macs, inner, ports, ttl, payload) = layers(inside)?;
        Some(plain(macs, Some((addresses, inner_macs)), inner, ports, ttl, payload))
    }
}

type Layers<'a> = ([[u8; 6]; 2], [Ipv4Addr; 2], [u16; 2], u8, &'a [u8]);

fn layers(frame: &[u8]) -> Option<Layers<'_>> {
    let (ethernet, rest) = Ethernet2Header::from_slice(frame).ok()?;
    let (ip, rest) = Ipv4Header::from_slice(rest).ok()?;
    assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IP header checksum");
    let (udp, payload) = UdpHeader::from_slice(rest).ok().filter(|_| ip.protocol.0 == 17)?;
    let payload = &payload[..usize::from(udp.length) - 8];
    let addresses = [ip.source.into(), ip.destination.into()];
    let macs = [ethernet.source, ethernet.destination];
    Some((macs, addresses, [udp.source_port, udp.destination_port], ip.time_to_live, payload))
}

/// How a packet looks between the gateway and a side: as the side sends it, or as the gateway does.
fn on_link(job: Job, side: Side, from_gateway: bool, inner: Inner) -> Seen {
    let way = |mut pair: [[u8; 6]; 2]| {
        if from_gateway {
            pair.reverse();
        }
        pair
    };
    let own = cluster::own_address(job);
    let node = cluster::nodes(job).into_iter().find(|node| node.side == side);
    let tunnel = (world::beyond(job, side) == Beyond::Vxlan).then(|| {
        let outer = if from_gateway { [own, NODE[side as usize]] } else { [NODE[side as usize], own] };
        (outer, way([vtep_mac(node.unwrap().name), vtep_mac(GATEWAY_NAME)]))
    });
    Seen { macs: way([MAC[side as usize], GATEWAY_MAC[side as usize]]), tunnel, inner }
}

fn packet(Flow { source, source_port, destination }: Flow, port: u16, mark: &str) -> Inner {
    let payload = format!("{mark:18}").into_bytes();
    Inner { source: (source, source_port), destination: (destination, port), ttl: 64, payload }
}

fn answer(Inner { source, destination, .. }: &Inner) -> Inner {
    Inner { source: *destination, destination: *source, ttl: 64, payload: b"an answer to that.".to_vec() }
}

/// Waits until the frames that came hold `wanted`; returns all that is of the lab's flows.
fn await_packet(gateway: &dyn Gateway, wire: &Wire, wanted: &Seen) -> Vec<Seen> {
    let deadline = Instant::now() + PATIENCE;
    let mut all: Vec<Seen> = Vec::new();
    while !all.contains(wanted) {
        let drops = || gateway.drops().unwrap();
        assert!(Instant::now() < deadline, "{wanted:?}\nhas not come, but\n{all:?}; drops: {:?}", drops());
        thread::sleep(Duration::from_millis(5));
        all.extend(wire.received().iter().filter_map(|frame| Seen::read(frame)));
    }
    all
}

/// Sends by one side, and sees that the packet comes to the other as the gateway has to make it.
fn passes(gateway: &dyn Gateway, site: &Site, wires: &[Wire; 2], from: Side, inner: &Inner) -> Vec<Seen> {
    let to = if from == Side::Source { Side::Sink } else { Side::Source };
    wires[from as usize].send(&on_link(site.job, from, false, inner.clone()).to_frame());
    let forwarded = Inner { ttl: inner.ttl - 1, ..inner.clone() };
    await_packet(gateway, &wires[to as usize], &on_link(site.job, to, true, forwarded))
}

/// Gateways spin on the same core: more than one at a time would wait for one another.
static TURN: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The case's world, its gateway, and the links at both ends.
fn stand_up(case: &Case) -> anyhow::Result<(Site, Box<dyn Gateway>, [Wire; 2])> {
    let site = Site::new(case.job, site::mtu(case.size))?;
    let gateway = dataplane::start(&site, case, Cores::allowed()?)?;
    let wires =
        [Side::Source, Side::Sink].map(|side| Wire::open(&site.end(side).netns, site.end(side).device));
    Ok((site, gateway, wires))
}

fn forwards(dataplane: Dataplane, job: Job, policies: u32) {
    let _turn = turn();
    let case = Case { job, dataplane, size: 64, flows: 1000, policies };
    let site = Site::new(job, site::mtu(case.size)).unwrap();
    let gateway = dataplane::start(&site, &case, Cores::allowed().unwrap()).unwrap();
    let wires =
        [Side::Source, Side::Sink].map(|side| Wire::open(&site.end(side).netns, site.end(side).device));

    let flow = world::flow(job, 777);
    // The last policy's port is another's, and so is the peer of the last but one.
    let forbidden = packet(flow, PORT + 1, "another port");
    wires[0].send(&on_link(job, Side::Source, false, forbidden.clone()).to_frame());
    let allowed = packet(flow, PORT, "as policy has it");
    let mut seen = passes(gateway.as_ref(), &site, &wires, Side::Source, &allowed);
    passes(gateway.as_ref(), &site, &wires, Side::Sink, &answer(&allowed));
    passes(gateway.as_ref(), &site, &wires, Side::Source, &packet(flow, PORT, "once more"));
    thread::sleep(GRACE);
    seen.extend(wires[1].received().iter().filter_map(|frame| Seen::read(frame)));
    let got_through = seen.iter().any(|seen| seen.inner.payload == forbidden.payload);
    assert_eq!(got_through, policies == 0, "{case:?}: a packet to a port that no policy names");
    counts(gateway.as_ref(), &case);
}

fn does_each_job(dataplane: Dataplane) {
    for (job, policies) in CASES {
        forwards(dataplane, job, policies);
    }
}

fn counts(gateway: &dyn Gateway, case: &Case) {
    assert_eq!(gateway.description().dataplane, case.dataplane);
    assert!(gateway.forwarded().unwrap() >= 3, "{case:?}: {:?}", gateway.forwarded());
    // OVS counts no packet that its flows drop.
    if case.policies > 0 && case.dataplane != Dataplane::Ovs {
        assert!(!gateway.drops().unwrap().is_empty(), "{case:?}");
    }
}

#[test]
fn margay_does_each_job() {
    does_each_job(Dataplane::Margay);
}

#[test]
fn the_kernel_does_each_job() {
    does_each_job(Dataplane::Kernel);
}

#[test]
fn open_vswitch_does_each_job() {
    does_each_job(Dataplane::Ovs);
}

#[test]
fn ten_thousand_policies_are_taken() {
    for dataplane in [Dataplane::Margay, Dataplane::Kernel, Dataplane::Ovs] {
        forwards(dataplane, Job::VxlanEncap, 10_000);
    }
}

/// The longest frames of Ethernet, and jumbo frames, inside the tunnel.
#[test]
fn long_frames_pass() {
    for (dataplane, size) in [(Dataplane::Margay, 9018), (Dataplane::Kernel, 9018), (Dataplane::Ovs, 1518)] {
        let _turn = turn();
        let case = Case { job: Job::VxlanEncap, dataplane, size, flows: 1, policies: 1 };
        let (site, gateway, wires) = stand_up(&case).unwrap();
        let mut long = packet(world::flow(case.job, 0), PORT, "");
        // Less the headers of Ethernet, with FCS, of IP and of UDP.
        long.payload = vec![7; usize::from(size) - 18 - 28];
        passes(gateway.as_ref(), &site, &wires, Side::Source, &long);
    }
}

#[test]
fn what_open_vswitch_cannot_do_is_said() {
    let _turn = turn();
    let case = Case { job: Job::VxlanEncap, dataplane: Dataplane::Ovs, size: 9018, flows: 1, policies: 1 };
    let error = format!("{:#}", stand_up(&case).err().unwrap());
    assert!(error.contains("MTU"), "{error}");
}

#[test]
fn iperf3_streams_go_both_ways() {
    for dataplane in [Dataplane::Margay, Dataplane::Kernel, Dataplane::Ovs] {
        let case = Case { job: Job::Tcp, dataplane, size: 1468, flows: 1, policies: 1 };
        let _turn = turn();
        let site = Site::new(case.job, site::mtu(case.size)).unwrap();
        let _gateway = dataplane::start(&site, &case, Cores::allowed().unwrap()).unwrap();
        tcp::prepare(&site).unwrap();
        let throughput = tcp::run(&site, Duration::from_secs(1)).unwrap();
        assert!(throughput.from_pod > 0.0 && throughput.to_pod > 0.0, "{dataplane:?}: {throughput:?}");
    }
}
