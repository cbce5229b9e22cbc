//! Tunnels: whose packets are taken, and what is in them.

use super::*;

fn from(node: [u8; 4], src: [u8; 4]) -> Vec<u8> {
    vxlan_from(node, 4096, &udp(src, OPEN_IP, (1000, 53), b"query"))
}

const OTHER_NODE_POD: [u8; 4] = [10, 65, 22, 5];

#[test]
fn a_node_sends_for_itself_and_for_what_lives_there() {
    let mut gateway = Gateway::new();
    for (node, src) in [
        (REMOTE_NODE_IP, PEER_IP),
        (REMOTE_NODE_IP, IPIP_IP),
        (REMOTE_NODE_IP, REMOTE_NODE_IP),
        (OTHER_NODE_IP, OTHER_NODE_POD),
    ] {
        gateway.run(UPLINK, &from(node, src)).only();
    }
}

#[test]
fn another_node_s_packet_into_a_live_flow_is_refused_and_the_flow_goes_on() {
    let mut gateway = Gateway::new();
    for _ in 0..3 {
        gateway.run(UPLINK, &from(REMOTE_NODE_IP, PEER_IP)).only();
        let spoofed = gateway.run(UPLINK, &from(OTHER_NODE_IP, PEER_IP));
        assert_eq!(spoofed.dropped, Some(DropReason::InnerSource));
    }
}

#[test]
fn what_was_found_holds_for_one_snapshot() {
    let mut gateway = Gateway::new();
    gateway.run(UPLINK, &from(REMOTE_NODE_IP, PEER_IP)).only();
    gateway.publish(|snapshot| {
        let homes = HOMES.map(|(net, length, node)| (ip(net).into(), length, NextHopId(1 - node)));
        snapshot.inner_sources.homes = Fib::build(homes);
    });
    let moved = gateway.run(UPLINK, &from(REMOTE_NODE_IP, PEER_IP));
    assert_eq!(moved.dropped, Some(DropReason::InnerSource));
    gateway.run(UPLINK, &from(OTHER_NODE_IP, PEER_IP)).only();
    gateway.publish(|snapshot| snapshot.tunnel_sources.clear());
    let unknown = gateway.run(UPLINK, &from(OTHER_NODE_IP, PEER_IP));
    assert_eq!(unknown.dropped, Some(DropReason::UnknownTunnelSource));
}

#[test]
fn loose_takes_what_any_node_may_send_and_off_takes_all() {
    let stranger = [192, 0, 2, 1];
    for (check, another, nobody) in [
        (InnerSource::Strict, Some(DropReason::InnerSource), Some(DropReason::InnerSource)),
        (InnerSource::Loose, None, Some(DropReason::InnerSource)),
        (InnerSource::Off, None, None),
    ] {
        let mut gateway = Gateway::new();
        gateway.snapshot.inner_sources.check = check;
        assert_eq!(gateway.run(UPLINK, &from(OTHER_NODE_IP, PEER_IP)).dropped, another, "{check:?}");
        assert_eq!(gateway.run(UPLINK, &from(REMOTE_NODE_IP, stranger)).dropped, nobody, "{check:?}");
        let own = gateway.run(UPLINK, &from(REMOTE_NODE_IP, WEB_IP));
        assert_eq!(own.dropped, Some(DropReason::SourceSpoofed), "{check:?}");
    }
}

#[test]
fn a_frame_for_everyone_is_taken_and_reserved_bits_mean_nothing() {
    let mut packet = from(REMOTE_NODE_IP, PEER_IP);
    packet[50..56].fill(0xff);
    packet[42] = 0xff;
    packet[43..46].fill(0xff);
    packet[49] = 0xff;
    Gateway::new().run(UPLINK, &packet).only();
}

/// A node that runs Windows, as Calico sets up its overlay: VNI 4096, pods whose MACs are 0E-2A and the address, and the
/// node's own MAC (00-15-5D, Hyper-V's) for its end of the tunnel, which its annotation `VXLANTunnelMACAddr` names. The inner
/// frame comes from the pod's MAC or the node's, and goes to the MAC that our own Node names.
#[test]
fn what_a_windows_node_sends_is_taken() {
    for inner_src_mac in [[0x0e, 0x2a, 10, 65, 21, 5], [0x00, 0x15, 0x5d, 1, 2, 3]] {
        let mut packet = from(REMOTE_NODE_IP, PEER_IP);
        packet[56..62].copy_from_slice(&inner_src_mac);
        Gateway::new().run(UPLINK, &packet).only();
    }
}

#[test]
fn pods_send_into_tunnels_where_that_is_allowed() {
    let mut gateway = Gateway::new();
    gateway.snapshot.local.tunnels_from_pods = true;
    let mut routes = vec![(ip(REMOTE_NODE_IP).into(), 32, Some(NextHopId(7)))];
    gateway.snapshot.fib.apply(routes.drain(..));
    let own = udp(OPEN_IP, REMOTE_NODE_IP, (50_000, 4789), &[8; 40]);
    let (port, out) = gateway.run(OPEN, &own).only();
    assert_eq!((port, &out[34..]), (UPLINK, &own[34..]), "as any other packet");
    let to_us = gateway.run(OPEN, &udp(OPEN_IP, NODE_IP, (50_000, 4789), &[8; 40]));
    assert_eq!(
        to_us.dropped,
        Some(DropReason::HostBound),
        "the node's kernel may have it, Margay does not open it"
    );
}
