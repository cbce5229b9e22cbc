//! Packets that no chunk of memory holds: jumbo frames, and in skb mode those that are several in one. They need root.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use common::traffic::{Place, blob, say, tcp_transfer, udp_echoes};
use common::world::{B1, GW_A, Way, manifests};
use common::{Options, TestLab, eventually};
use margay_testbed::ip::Batch;
use margay_testbed::lab::Lab;
use margay_testbed::netns;
use margay_testbed::topology::Dataplane;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;
use socket2::{Domain, Socket, Type};

const JUMBO: usize = 9000;
/// Of VXLAN; IP and ICMP header of a ping.
const VXLAN: usize = 50;
const PING: usize = 28;

const SKB_MODE: &str = "[xdp]\nmode = \"skb\"\n";

/// Makes every link take jumbo frames, and pods and tunnels of Linux nodes what is left of them inside VXLAN.
fn widen(lab: &Lab) -> anyhow::Result<()> {
    let (topology, inner) = (&lab.topology, JUMBO - VXLAN);
    let mut router = Batch::new();
    for node in topology.nodes.values() {
        router.line(format!("link set {} mtu {JUMBO}", node.router_port));
        let mut own = Batch::new();
        own.line(format!("link set uplink0 mtu {JUMBO}"));
        if node.dataplane == Dataplane::Kernel && node.vtep(false).is_some() {
            own.line(format!("link set vxlan.calico mtu {inner}"));
        }
        for pod in topology.pods.values().filter(|pod| pod.node == node.name) {
            own.line(format!("link set {} mtu {inner}", pod.device));
            Batch::new().extend([format!("link set eth0 mtu {inner}")]).run(Some(&pod.netns))?;
        }
        own.run(Some(&node.netns))?;
    }
    router.lines(topology.segments.iter().map(|segment| format!("link set {} mtu {JUMBO}", segment.bridge)));
    router.run(Some(&topology.router()))
}

fn transfer(from: &Place, to: &Place, bytes: &[u8]) {
    let arrived = tcp_transfer(from, to, bytes).unwrap();
    assert!(arrived == bytes, "{from:?} to {to:?}: {} of {} bytes", arrived.len(), bytes.len());
}

/// These numbers of one of the gateway's ports.
fn traffic<const N: usize>(
    lab: &TestLab,
    is_it: impl Fn(&serde_json::Value) -> bool,
    keys: [&str; N],
) -> [u64; N] {
    let status = lab.status("gw-a");
    let port = status["ports"].as_array().unwrap().iter().find(|port| is_it(port)).unwrap();
    keys.map(|key| port["traffic"][key].as_u64().unwrap())
}

fn drops(lab: &TestLab, reason: &str) -> u64 {
    let status = lab.status("gw-a");
    let ports = status["ports"].as_array().unwrap().iter();
    ports.filter_map(|port| port["traffic"]["drops"][reason].as_u64()).sum()
}

#[test]
fn jumbo_frames_cross_between_zones() {
    let lab = TestLab::two_zones_after(Options::default(), widen);
    let place = |name| lab.place(name);
    let stream = blob(4 << 20, 5);
    // By IP-in-IP between two Margays, and by VXLAN between one and a Linux node.
    for (one, other) in [("shop/cache", "far/audit"), ("shop/bench", "far/client")] {
        let (one, other) = (place(one), place(other));
        for (from, to) in [(&one, &other), (&other, &one)] {
            let payload = (JUMBO - VXLAN - PING).to_string();
            let ping = |size: &str| {
                say(
                    from,
                    "ping",
                    &["-n", "-c", "1", "-W", "1", "-M", "do", "-s", size, &to.address.to_string()],
                )
            };
            assert!(eventually(|| ping(&payload).contains(" 1 received")), "{}", ping(&payload));
            transfer(from, to, &stream);
            let lengths = [8900, 30_000, 60_000].map(|length| blob(length, 6));
            assert_eq!(udp_echoes(from, to, &lengths), 3, "{from:?} to {to:?}");
        }
    }
    let [packets, bytes] = traffic(&lab, |port| port["kind"] == "uplink", ["tx", "tx_bytes"]);
    assert!(bytes / packets > 2000, "{bytes} bytes in {packets} packets, acknowledgments among them");
    for reason in ["no-large-buffer", "fragmentation-needed", "too-big", "tx-full"] {
        assert_eq!(drops(&lab, reason), 0, "{reason}");
    }
}

/// Sends `bytes` in datagrams of this size, all of which the sender leaves to its device to cut, and returns what arrived.
fn datagrams(from: &Place, to: &Place, bytes: &[u8], size: u16) -> Vec<Vec<u8>> {
    let within = |place: &Place| netns::within(&place.netns, || UdpSocket::bind((place.address, 0)).unwrap());
    let (sender, receiver) = (within(from).unwrap(), within(to).unwrap());
    setsockopt(&sender, UdpGsoSegment, &size.into()).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    assert_eq!(sender.send_to(bytes, receiver.local_addr().unwrap()).unwrap(), bytes.len());
    let mut buffer = vec![0; 1 << 16];
    let arrived = (0..bytes.len().div_ceil(size.into())).map_while(|_| {
        let length = receiver.recv(&mut buffer).ok()?;
        Some(buffer[..length].to_vec())
    });
    arrived.collect()
}

/// Datagrams arrive as they were sent: as many, as long, with the same bytes and in order.
#[track_caller]
fn datagrams_arrive(from: &Place, to: &Place) {
    for (length, size) in [(300, 100), (12_800, 100), (10_500, 1000), (60_000, 1380)] {
        let bytes = blob(length, 9);
        let sent: Vec<_> = bytes.chunks(size.into()).collect();
        let is_whole = || datagrams(from, to, &bytes, size) == sent;
        // A datagram may be lost where the machine has other things to do.
        assert!((0..3).any(|_| is_whole()), "{length} bytes by {size} from {from:?} to {to:?}");
    }
}

/// A stream of segments of so many bytes at most, which the sender alone knows.
fn narrow_transfer(from: &Place, to: &Place, bytes: &[u8], most: u32) -> Vec<u8> {
    let listener = netns::within(&to.netns, || TcpListener::bind((to.address, 0)).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let domain = Domain::for_address(address);
    let sender = netns::within(&from.netns, || Socket::new(domain, Type::STREAM, None).unwrap()).unwrap();
    sender.set_tcp_mss(most).unwrap();
    sender.connect_timeout(&address.into(), Duration::from_secs(6)).unwrap();
    let (mut receiver, _) = listener.accept().unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut sender = TcpStream::from(sender);
            sender.write_all(bytes).unwrap();
        });
        let mut arrived = Vec::new();
        receiver.read_to_end(&mut arrived).unwrap();
        arrived
    })
}

#[test]
fn in_skb_mode_datagrams_and_segments_are_those_of_their_sender() {
    let world = manifests(&[GW_A, B1], &[Way::Vxlan, Way::Plain]);
    let options = Options {
        configuration: SKB_MODE.to_owned(),
        extra: vec![("world.yaml", world)],
        ..Options::default()
    };
    let lab = TestLab::own(options);
    for way in [Way::Vxlan, Way::Plain] {
        let ends = [GW_A, B1].map(|node| node.pod(way));
        let [here, there] = [&ends[0], &ends[1]].map(|pod| lab.place(pod));
        let [here6, there6] = [&ends[0], &ends[1]].map(|pod| lab.place6(pod));
        for (from, to) in [(&here, &there), (&there, &here), (&here6, &there6), (&there6, &here6)] {
            assert!(eventually(|| from.pings(to)), "{from:?} to {to:?}");
            datagrams_arrive(from, to);
        }
        for (from, to) in [(&here, &there), (&here6, &there6)] {
            let is_uplink = |port: &serde_json::Value| port["kind"] == "uplink";
            let (stream, most) = (blob(1 << 20, 10), 536);
            let [before] = traffic(&lab, is_uplink, ["tx"]);
            assert!(narrow_transfer(from, to, &stream, most) == stream, "{from:?} to {to:?}");
            let [after] = traffic(&lab, is_uplink, ["tx"]);
            assert!(after - before >= (1 << 20) / u64::from(most), "{} packets", after - before);
        }
    }
    for reason in ["udp-gso", "too-big", "tx-full", "no-large-buffer"] {
        assert_eq!(drops(&lab, reason), 0, "{reason}");
    }
}

#[test]
fn in_skb_mode_what_senders_leave_to_their_device_is_cut() {
    let options = Options { configuration: SKB_MODE.to_owned(), ..Options::default() };
    let lab = TestLab::two_zones(options);
    let place = |name| lab.place(name);
    let stream = blob(4 << 20, 8);
    for (one, other) in [("shop/cache", "far/audit"), ("shop/bench", "far/client")] {
        let (one, other) = (place(one), place(other));
        for (from, to) in [(&one, &other), (&other, &one)] {
            assert!(eventually(|| from.pings(to)), "{from:?} to {to:?}");
            transfer(from, to, &stream);
        }
    }
    let [packets, bytes] = traffic(&lab, |port| port["pod"] == "shop/cache", ["rx", "rx_bytes"]);
    assert!(bytes / packets > 2000, "{bytes} bytes in {packets} packets, acknowledgments among them");
    assert_eq!(drops(&lab, "no-large-buffer"), 0);
    // From one Margay to another, in their tunnel.
    datagrams_arrive(&place("shop/cache"), &place("far/audit"));
    assert_eq!(drops(&lab, "udp-gso"), 0);
}
