//! IPv4 options: passed on as they came, in tunnels and out of them, but for source routes and what is malformed.

use super::*;

/// Router Alert, and Record Route with room for one address.
const OPTIONS: [u8; 12] = [148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0];

/// The packet with these options.
pub(super) fn with_options(mut packet: Vec<u8>, options: &[u8]) -> Vec<u8> {
    packet.splice(34..34, options.iter().copied());
    packet[14] += options.len() as u8 / 4;
    let total_len = (packet.len() - 14) as u16;
    packet[16..18].copy_from_slice(&total_len.to_be_bytes());
    mend(&mut packet);
    packet
}

fn mend(packet: &mut [u8]) {
    let end = 14 + usize::from(packet[14] & 15) * 4;
    packet[24..26].fill(0);
    let sum = checksum::Sum::of(&packet[14..end]).finish();
    packet[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// The IP packet as it leaves: a hop on.
fn a_hop_on(mut packet: Vec<u8>) -> Vec<u8> {
    packet[22] -= 1;
    mend(&mut packet);
    packet.split_off(14)
}

#[test]
fn first_and_established_packets_keep_their_options() {
    let mut gateway = Gateway::new();
    for _ in 0..2 {
        let out = with_options(udp(OPEN_IP, PEER_IP, (1000, 53), b"query"), &OPTIONS);
        let (port, sent) = gateway.run(OPEN, &out).only();
        assert_eq!((port, &sent[64..]), (UPLINK, &a_hop_on(out)[..]));
        let back = with_options(udp(PEER_IP, OPEN_IP, (53, 1000), b"answer"), &OPTIONS);
        let (port, sent) = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &back)).only();
        assert_eq!((port, &sent[14..]), (OPEN, &a_hop_on(back)[..]));
    }
    assert_eq!(gateway.counters.flows_inserted.get(), 1);
    let plain = udp(OPEN_IP, PEER_IP, (1000, 53), b"query");
    gateway.run(OPEN, &plain).only();
    assert_eq!(gateway.counters.flows_inserted.get(), 1, "the flow is the same without options");
}

#[test]
fn policy_reads_the_ports_behind_options() {
    let from_peer = |port| with_options(tcp(PEER_IP, WEB_IP, (1000, port), SYN), &OPTIONS);
    let mut gateway = Gateway::new();
    let allowed = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &from_peer(80))).only();
    assert_eq!(allowed.0, WEB);
    let denied = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &from_peer(81)));
    assert_eq!(denied.dropped, Some(DropReason::PolicyDeny));
}

#[test]
fn options_of_an_outer_header_end_with_the_tunnel() {
    let inner = udp(PEER_IP, OPEN_IP, (53, 1000), b"answer");
    for outer in [vxlan_from(REMOTE_NODE_IP, 4096, &inner), ipip_from(REMOTE_NODE_IP, &inner)] {
        let plain = Gateway::new().run(UPLINK, &outer).only();
        for options in [&[1; 4][..], &OPTIONS, &[1; 40]] {
            let sent = Gateway::new().run(UPLINK, &with_options(outer.clone(), options)).only();
            assert_eq!(sent, plain, "{options:?}");
        }
        let stranger = with_options([&outer[..26], &[172, 20, 1, 99], &outer[30..]].concat(), &OPTIONS);
        assert_eq!(Gateway::new().run(UPLINK, &stranger).dropped, Some(DropReason::UnknownTunnelSource));
    }
}

#[test]
fn errors_and_what_they_quote_may_have_options() {
    let mut gateway = Gateway::new();
    let query = with_options(udp(OPEN_IP, PEER_IP, (1000, 53), b"query"), &OPTIONS);
    gateway.run(OPEN, &query).only();
    let mut error = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], OUR_MAC)
        .ipv4(PEER_IP, OPEN_IP, 64)
        .icmpv4_raw(3, 3, [0; 4])
        .write(&mut error, &a_hop_on(query.clone())[..20 + OPTIONS.len() + 8])
        .expect("a Vec takes all");
    let error = with_options(error, &OPTIONS);
    let (port, sent) = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &error)).only();
    assert_eq!((port, &sent[14..]), (OPEN, &a_hop_on(error)[..]));

    let mut last = query;
    last[22] = 1;
    mend(&mut last);
    let outcome = gateway.run(OPEN, &last);
    assert_eq!(outcome.dropped, Some(DropReason::TtlExceeded));
    let (port, answer) = &outcome.sent[0];
    assert_eq!((*port, answer[34], &answer[42..]), (OPEN, 11, &last[14..]), "quoted with its options");
}

#[test]
fn what_does_not_fit_is_split_with_its_options() {
    let mut packet = udp(OPEN_IP, PEER_IP, (1000, 53), &[7; 1500]);
    packet[20] = 0;
    let packet = with_options(packet, &OPTIONS);
    let sent = Gateway::new().run_burst(OPEN, &[packet]);
    let options: Vec<_> = sent.iter().map(|(_, frame)| &frame[84..96]).collect();
    assert_eq!(options, [&OPTIONS[..], &[148, 4, 0, 0, 1, 1, 1, 1, 1, 1, 1, 0]]);
    // They come together behind another gateway, which sees their ports in the first alone.
    let mut gateway = Gateway::new();
    let out_of_tunnel = |frame: &[u8]| [&[2; 12][..], &[8, 0], &frame[64..]].concat();
    let back: Vec<_> = sent.iter().rev().map(|(_, frame)| out_of_tunnel(frame)).collect();
    assert_eq!(gateway.run_burst(OPEN, &back[..1]), []);
    assert_eq!(gateway.run_burst(OPEN, &back[1..]).len(), 2);
}

#[test]
fn source_routes_and_malformed_options_have_reasons() {
    for (options, reason) in [
        (&[131, 7, 4, 10, 0, 0, 9, 0][..], DropReason::SourceRoute),
        (&[1, 137, 3, 4][..], DropReason::SourceRoute),
        (&[7, 0, 0, 0][..], DropReason::BadOptions),
        (&[148, 1, 0, 0][..], DropReason::BadOptions),
        (&[68, 9, 5, 0, 0, 0, 0, 0][..], DropReason::BadOptions),
    ] {
        let packet = with_options(udp(OPEN_IP, PEER_IP, (1000, 53), b"query"), options);
        assert_eq!(Gateway::new().run(OPEN, &packet).dropped, Some(reason), "{options:?}");
        let inner = with_options(udp(PEER_IP, OPEN_IP, (53, 1000), b"answer"), options);
        let outer = vxlan_from(REMOTE_NODE_IP, 4096, &inner);
        assert_eq!(Gateway::new().run(UPLINK, &outer).dropped, Some(reason), "inside: {options:?}");
        let outer =
            with_options(vxlan_from(REMOTE_NODE_IP, 4096, &udp(PEER_IP, OPEN_IP, (1, 2), b"")), options);
        assert_eq!(Gateway::new().run(UPLINK, &outer).dropped, Some(reason), "outside: {options:?}");
    }
}
