//! Packets that no chunk of memory holds: jumbo frames, and in skb mode those that are several in one. They need root.

mod common;

use std::net::UdpSocket;

use common::traffic::{Place, blob, say, tcp_transfer, udp_echoes};
use common::{Options, TestLab, eventually};
use margay_testbed::ip::Batch;
use margay_testbed::lab::Lab;
use margay_testbed::netns;
use margay_testbed::topology::Dataplane;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;

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

/// Sends so many datagrams of 1000 bytes as one.
fn send_datagrams(from: &Place, to: &Place, count: usize) {
    netns::within(&from.netns, || {
        let socket = UdpSocket::bind((from.address, 0)).unwrap();
        setsockopt(&socket, UdpGsoSegment, &1000).unwrap();
        socket.send_to(&blob(1000 * count, 7), (to.address, 9)).unwrap();
    })
    .unwrap();
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
    let before = drops(&lab, "udp-gso");
    send_datagrams(&place("shop/cache"), &place("far/audit"), 10);
    assert!(eventually(|| drops(&lab, "udp-gso") == before + 1));
}
