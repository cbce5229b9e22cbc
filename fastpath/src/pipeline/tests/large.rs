//! Packets that no chunk holds: jumbo frames, and what there was no large buffer for.

use super::*;

/// A UDP packet of the pod `open` with this many bytes in all behind its Ethernet header.
fn packet(dst: [u8; 4], len: usize) -> Vec<u8> {
    let payload: Vec<u8> = (0..len - 28).map(|i| i as u8).collect();
    udp(OPEN_IP, dst, (1000, 53), &payload)
}

#[test]
fn jumbo_frames_go_into_tunnels_and_out_of_them_as_others_do() {
    let mut gateway = Gateway::new();
    gateway.set_mtu(UPLINK, 9000);
    gateway.set_mtu(OPEN, 9000);
    for (dst, overhead) in [(PEER_IP, 50), (IPIP_IP, 20), (DIRECT_IP, 0)] {
        let sent = packet(dst, 9000 - overhead);
        let (port, out) = gateway.run(OPEN, &sent).only();
        assert_eq!((port, out.len()), (UPLINK, 9014));
        assert_eq!(out[overhead + 34..], sent[34..]);
    }
    let inner = udp(PEER_IP, OPEN_IP, (53, 1000), &[0x5a; 8900]);
    let (port, out) = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &inner)).only();
    assert_eq!((port, &out[34..]), (OPEN, &inner[34..]));
}

#[test]
fn a_jumbo_frame_that_does_not_fit_is_answered_or_split() {
    let mut gateway = Gateway::new();
    let sent = packet(PEER_IP, 9000);
    let outcome = gateway.run(OPEN, &sent);
    assert_eq!(outcome.dropped, Some(DropReason::FragmentationNeeded));
    let (port, answer) = &outcome.sent[0];
    assert_eq!((*port, &answer[34..36], &answer[40..42]), (OPEN, &[3, 4][..], &1450u16.to_be_bytes()[..]));
    let mut sent = sent;
    set_ip_byte(&mut sent, 6, 0);
    let outcome = gateway.run(OPEN, &sent);
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 7));
    // In fragments that chunks hold, where the link would take longer ones.
    gateway.set_mtu(UPLINK, 5000);
    let outcome = gateway.run(OPEN, &sent);
    assert_eq!((outcome.dropped, outcome.sent.len()), (None, 6));
}

#[test]
fn what_is_cut_is_dropped_unless_the_packet_ends_before() {
    let mut gateway = Gateway::new();
    let mut run = |packet: &[u8], port| {
        let before = gateway.drops(port);
        let mut frame = gateway.frame(port, packet);
        frame.is_cut = true;
        let mut burst = Box::<Burst>::default();
        burst.push(frame);
        let sent = gateway.run_frames(burst).len();
        let after = gateway.drops(port);
        let reason = (0..DropReason::COUNT).find(|&i| before[i] != after[i]).map(|i| DropReason::ALL[i]);
        (sent, reason)
    };
    let cut = Some(DropReason::NoLargeBuffer);
    let whole = packet(PEER_IP, 1400);
    assert_eq!(run(&whole[..1000], OPEN), (0, cut));
    let mut ipv6 = vec![2; 12];
    ipv6.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0x20, 0, 17, 64]);
    ipv6.extend([0x5a; 1000]);
    assert_eq!(run(&ipv6, OPEN), (0, cut));
    let tunnelled = vxlan_from(REMOTE_NODE_IP, 4096, &udp(PEER_IP, OPEN_IP, (53, 1000), &[0x5a; 1000]));
    assert_eq!(run(&tunnelled[..1000], UPLINK), (0, cut));
    // A trailer is no part of the packet, and what is wrong before the end is the reason.
    assert_eq!(run(&whole, OPEN), (1, None));
    let mut tagged = whole.clone();
    tagged[12..14].copy_from_slice(&[0x81, 0]);
    assert_eq!(run(&tagged[..1000], OPEN), (0, Some(DropReason::Vlan)));
}
