//! Datagrams in fragments, in any order: all of one goes the way of its first, or none.

use proptest::prelude::*;

use super::*;

/// 3,008 bytes of UDP in pieces of 1,400 bytes: three.
fn large(src: [u8; 4], dst: [u8; 4], ident: u16) -> Vec<Vec<u8>> {
    let payload: Vec<u8> = (0..3000u16).map(|n| n as u8).collect();
    pieces(&udp(src, dst, (1000, 53), &payload), ident, 1400)
}

/// What came out, without outer headers: the payload of each fragment with its place, of one datagram.
fn put_together(sent: &[(PortId, Vec<u8>)], l3: usize) -> Vec<u8> {
    let mut whole = Vec::new();
    for (_, frame) in sent {
        let at = usize::from(u16::from_be_bytes([frame[l3 + 6], frame[l3 + 7]]) & 0x1fff) * 8;
        let end = l3 + usize::from(u16::from_be_bytes([frame[l3 + 2], frame[l3 + 3]]));
        let part = &frame[l3 + 20..end];
        whole.resize(whole.len().max(at + part.len()), 0);
        whole[at..at + part.len()].copy_from_slice(part);
        assert_eq!(frame[l3 + 8], 63, "TTL");
        assert_eq!(checksum::Sum::of(&frame[l3..l3 + 20]).fold(), 0xffff);
    }
    whole
}

fn inner_l3() -> usize {
    14 + 20 + 8 + 8 + 14
}

impl Gateway {
    fn dropped_as(&self, port: PortId, reason: DropReason) -> u64 {
        self.counters.port(port).drops[reason as usize].get()
    }
}

#[test]
fn fragments_follow_their_first_in_any_order() {
    let orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let mut gateway = Gateway::new();
    for (ident, order) in (1..).zip(orders) {
        let parts = large(OPEN_IP, PEER_IP, ident);
        let sent: Vec<_> =
            order.iter().flat_map(|&n| gateway.run_burst(OPEN, std::slice::from_ref(&parts[n]))).collect();
        assert_eq!(sent.len(), 3, "{order:?}");
        let whole = put_together(&sent, inner_l3());
        assert_eq!(whole[8..], (0..3000u16).map(|n| n as u8).collect::<Vec<u8>>(), "{order:?}");
        assert!(sent.iter().all(|(port, _)| *port == UPLINK));
    }
    assert_eq!(gateway.pipeline.flows.table().len(), 1, "one flow");
    assert_eq!(gateway.counters.flows_inserted.get(), 1);
    assert!(gateway.pipeline.fragments.is_empty(), "all have come whole");
    assert_eq!(gateway.counters.port(OPEN).forwarded.get(), 18);
}

#[test]
fn a_burst_of_fragments_out_of_order_keeps_the_rest_in_order() {
    let mut gateway = Gateway::new();
    let mut burst = large(OPEN_IP, PEER_IP, 1);
    burst.rotate_left(1);
    let others: Vec<_> = (0..4u8).map(|n| udp(OPEN_IP, PEER_IP, (5, 6), &[n; 9])).collect();
    for (n, other) in others.iter().enumerate() {
        burst.insert(2 * n.min(2), other.clone());
    }
    let sent = gateway.run_burst(OPEN, &burst);
    assert_eq!(sent.len(), 7);
    let small: Vec<u8> = sent.iter().filter(|(_, f)| f.len() < 200).map(|(_, f)| f[f.len() - 1]).collect();
    assert_eq!(small.len(), 4);
    let expected: Vec<u8> = burst.iter().filter(|f| f.len() < 100).map(|f| f[f.len() - 1]).collect();
    assert_eq!(small, expected);
}

#[test]
fn fragments_in_tunnels_are_like_any() {
    for wrap in [
        |inner: &[u8]| vxlan_from(REMOTE_NODE_IP, 4096, inner),
        |inner: &[u8]| ipip_from(REMOTE_NODE_IP, inner),
    ] {
        let mut gateway = Gateway::new();
        let parts: Vec<_> = large(PEER_IP, OPEN_IP, 7).iter().rev().map(|part| wrap(part)).collect();
        let sent: Vec<_> =
            parts.iter().flat_map(|part| gateway.run_burst(UPLINK, std::slice::from_ref(part))).collect();
        assert_eq!(sent.len(), 3);
        assert!(sent.iter().all(|(port, _)| *port == OPEN));
        assert_eq!(put_together(&sent, 14).len(), 3008);
    }
}

#[test]
fn fragments_of_what_policy_denies_are_denied() {
    let mut gateway = Gateway::new();
    for (ident, reverse) in [(1, false), (2, true)] {
        let mut parts: Vec<_> =
            large(PEER_IP, WEB_IP, ident).iter().map(|part| vxlan_from(REMOTE_NODE_IP, 4096, part)).collect();
        if reverse {
            parts.reverse();
        }
        for part in &parts {
            assert!(gateway.run_burst(UPLINK, std::slice::from_ref(part)).is_empty());
        }
    }
    assert_eq!(gateway.dropped_as(UPLINK, DropReason::PolicyDeny), 6);
    // To the port that is open, TCP passes whole: the later fragment has its port from the first.
    let allowed = pieces(&tcp(PEER_IP, WEB_IP, (1000, 80), SYN), 3, 24);
    let denied = pieces(&tcp(PEER_IP, WEB_IP, (1000, 81), SYN), 4, 24);
    for part in &allowed {
        gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, part)).only();
    }
    for part in &denied {
        let outcome = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, part));
        assert_eq!(outcome.dropped, Some(DropReason::PolicyDeny));
    }
}

#[test]
fn a_change_of_policy_holds_for_the_rest_of_a_datagram() {
    let mut gateway = Gateway::new();
    let parts = large(OPEN_IP, PEER_IP, 1);
    gateway.run(OPEN, &parts[0]).only();
    gateway.publish(|snapshot| set_endpoint(snapshot, OPEN_IP, &[allow_tcp_80(&[OTHER_IP])], &[]));
    assert_eq!(gateway.run(OPEN, &parts[1]).dropped, Some(DropReason::PolicyDeny));
    gateway.publish(|snapshot| set_endpoint(snapshot, OPEN_IP, &[], &[]));
    gateway.run(OPEN, &parts[2]).only();
}

#[test]
fn later_fragments_of_an_echo_are_of_its_type() {
    let echo = |kind: u8| {
        let mut packet = Vec::new();
        PacketBuilder::ethernet2([2; 6], OUR_MAC)
            .ipv4(OPEN_IP, PEER_IP, 64)
            .icmpv4_raw(kind, 0, [0, 9, 0, 1])
            .write(&mut packet, &[7; 40])
            .expect("a Vec takes all");
        packet
    };
    let icmp = Some(IcmpMatch { kind: Some(8), code: None });
    let requests_alone = Allow { protocol: 1, port: None, icmp, peers: vec![PEER_IP] };
    let mut gateway = Gateway::new();
    gateway.publish(|snapshot| set_endpoint(snapshot, OPEN_IP, &[requests_alone], &[]));
    for (ident, part) in [(1, 1), (2, 0)] {
        // In order, and the other way round.
        let parts = pieces(&echo(8), ident, 24);
        let first = gateway.run_burst(OPEN, std::slice::from_ref(&parts[1 - part]));
        let second = gateway.run_burst(OPEN, std::slice::from_ref(&parts[part]));
        assert_eq!(first.len() + second.len(), 2, "{ident}");
    }
    gateway.now += 10_000;
    for part in pieces(&echo(13), 3, 24) {
        assert_eq!(gateway.run(OPEN, &part).dropped, Some(DropReason::PolicyDeny));
    }
}

#[test]
fn a_fragment_whose_first_does_not_come_is_dropped_after_a_second() {
    let mut gateway = Gateway::new();
    let parts = large(OPEN_IP, PEER_IP, 1);
    assert!(gateway.run_burst(OPEN, &parts[1..]).is_empty());
    assert_eq!(gateway.pipeline.waiting(), 2);
    gateway.now += 999;
    gateway.run_burst(OPEN, &[]);
    assert_eq!(gateway.pipeline.waiting(), 2);
    gateway.now += 1;
    gateway.run_burst(OPEN, &[]);
    assert_eq!(gateway.pipeline.waiting(), 0);
    assert_eq!(gateway.dropped_as(OPEN, DropReason::FragmentUnmatched), 2);
}

#[test]
fn what_waits_is_bounded() {
    let mut gateway = Gateway::new();
    let later: Vec<_> = pieces(&udp(OPEN_IP, PEER_IP, (1, 2), &[0; 1000]), 1, 8).split_off(1);
    gateway.run_burst(OPEN, &later[..64]);
    assert_eq!(gateway.pipeline.waiting(), 64);
    assert_eq!(gateway.run(OPEN, &later[64]).dropped, Some(DropReason::FragmentQueueFull));
    gateway.pipeline.give_up(Some(UPLINK), &mut gateway.pool);
    assert_eq!(gateway.pipeline.waiting(), 64);
    gateway.pipeline.give_up(Some(OPEN), &mut gateway.pool);
    assert_eq!(gateway.pool.len(), CHUNKS as usize);
    assert_eq!(gateway.dropped_as(OPEN, DropReason::PortGone), 64);
}

#[test]
fn a_port_that_goes_takes_what_waits_with_it() {
    let mut gateway = Gateway::new();
    let parts = large(OPEN_IP, PEER_IP, 1);
    gateway.run_burst(OPEN, &parts[1..2]);
    gateway.publish(|snapshot| snapshot.ports[usize::from(OPEN.0)] = None);
    gateway.now += 1;
    let first = large(OPEN_IP, PEER_IP, 1).swap_remove(0);
    assert_eq!(gateway.run(OPEN, &first).dropped, Some(DropReason::PortGone));
    gateway.now += 1000;
    gateway.run_burst(OPEN, &[]);
    gateway.pipeline.release(
        &Turn { snapshot: &gateway.snapshot, umem: &gateway.umem, now: gateway.now },
        &mut gateway.pool,
        &mut gateway.egress,
    );
    assert_eq!(gateway.pool.len(), CHUNKS as usize);
}

#[test]
fn overlapping_and_repeated_fragments_are_dropped() {
    let mut gateway = Gateway::new();
    let parts = large(OPEN_IP, PEER_IP, 1);
    gateway.run(OPEN, &parts[0]).only();
    assert_eq!(gateway.run(OPEN, &parts[0]).dropped, Some(DropReason::FragmentOverlap), "repeated");
    gateway.run(OPEN, &parts[1]).only();
    let mut over = parts[1].clone();
    set_ip_byte(&mut over, 7, 200);
    assert_eq!(gateway.run(OPEN, &over).dropped, Some(DropReason::FragmentOverlap));
    assert_eq!(gateway.run(OPEN, &parts[2]).dropped, Some(DropReason::FragmentOverlap), "the rest too");
}

#[test]
fn datagrams_are_bounded() {
    let mut gateway = Gateway::new();
    gateway.pipeline = Pipeline::new(
        Arc::new(FlowTable::new(1024, [1, 2, 3, 4], Timeouts::default())),
        Arc::clone(&gateway.counters),
    )
    .with_fragments(Arc::new(Fragments::new(8, [1, 2], 30)));
    for (ident, expected) in [(1, None), (2, None), (3, Some(DropReason::FragmentTableFull))] {
        let first = &large(OPEN_IP, PEER_IP, ident)[0];
        assert_eq!(gateway.run(OPEN, first).dropped, expected, "a quarter for each sender");
    }
}

#[test]
fn who_sends_under_a_false_address_spoils_nothing() {
    let mut gateway = Gateway::new();
    let parts = large(OPEN_IP, PEER_IP, 1);
    gateway.run(OPEN, &parts[0]).only();
    for part in &parts {
        let spoofed = gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, part));
        assert_eq!(spoofed.dropped, Some(DropReason::SourceSpoofed));
    }
    gateway.run(OPEN, &parts[1]).only();
    gateway.run(OPEN, &parts[2]).only();
}

#[test]
fn a_later_fragment_opens_ends_and_resets_no_connection() {
    let mut gateway = Gateway::new();
    let table = Arc::new(FlowTable::new(1024, [1, 2, 3, 4], Timeouts::default()));
    gateway.pipeline =
        Pipeline::new(Arc::clone(&table), Arc::clone(&gateway.counters)).with_mid_flow(MidFlow::Drop);
    // Data of a connection that is not known: refused whole.
    for part in pieces(&tcp(OPEN_IP, PEER_IP, (1000, 80), ACK), 1, 24) {
        assert_eq!(gateway.run(OPEN, &part).dropped, Some(DropReason::NoConnection));
    }
    assert!(table.is_empty());
    let state = || table.flows().next().expect("a flow").state;
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1000, 80), SYN)).only();
    let answer = tcp(PEER_IP, OPEN_IP, (80, 1000), SYN | ACK);
    gateway.run(UPLINK, &vxlan_from(REMOTE_NODE_IP, 4096, &answer)).only();
    gateway.run(OPEN, &tcp(OPEN_IP, PEER_IP, (1000, 80), ACK)).only();
    let before = state();
    for part in pieces(&tcp(OPEN_IP, PEER_IP, (1000, 80), ACK), 2, 24) {
        gateway.run(OPEN, &part).only();
    }
    assert_eq!(state(), before);
    // The last fragment of a RST finds the connection reset by the first.
    let reset = pieces(&tcp(OPEN_IP, PEER_IP, (1000, 80), 4), 3, 24);
    gateway.run(OPEN, &reset[0]).only();
    let reset_state = state();
    assert!(reset_state.is_closed());
    gateway.run(OPEN, &reset[1]).only();
    assert_eq!(state().is_closed(), reset_state.is_closed());
}

/// A shuffled lot of fragments of several datagrams, some twice, some missing.
fn lot() -> impl Strategy<Value = Vec<(PortId, Vec<u8>)>> {
    let datagram = (any::<bool>(), any::<bool>(), 0..400usize, 1..9usize, 0..10usize);
    let datagrams = prop::collection::vec(datagram, 1..6);
    let fragments = datagrams.prop_map(|datagrams| {
        let mut lot = Vec::new();
        for (ident, (from_pod, is_denied, len, units, twice)) in (1..).zip(datagrams) {
            let to = if is_denied { WEB_IP } else { OPEN_IP };
            let (src, dst) = if from_pod { (OPEN_IP, PEER_IP) } else { (PEER_IP, to) };
            let mut parts = pieces(&udp(src, dst, (ident, 53), &vec![0x5a; len]), ident, units * 8);
            parts.truncate(8);
            parts.extend(parts.get(twice).cloned());
            let packet = |part: Vec<u8>| {
                if from_pod { (OPEN, part) } else { (UPLINK, vxlan_from(REMOTE_NODE_IP, 4096, &part)) }
            };
            lot.extend(parts.into_iter().map(packet));
        }
        lot
    });
    fragments.prop_shuffle()
}

proptest! {
    /// Whatever the order: every fragment is sent, dropped or waits, none twice; it depends not on its company; and in the
    /// end nothing waits.
    #[test]
    fn fragments_are_conserved(lot in lot(), size in 1..20usize) {
        let (mut together, mut alone) = (Gateway::new(), Gateway::new());
        let (mut sent, mut one_by_one) = (Vec::new(), Vec::new());
        for burst in lot.chunks(size) {
            for input in [OPEN, UPLINK] {
                let packets: Vec<_> =
                    burst.iter().filter(|(port, _)| *port == input).map(|(_, packet)| packet.clone()).collect();
                one_by_one.extend(packets.iter().flat_map(|packet| alone.run_burst(input, std::slice::from_ref(packet))));
                sent.extend(together.run_burst(input, &packets));
            }
        }
        let waiting = together.pipeline.waiting();
        prop_assert_eq!(waiting, alone.pipeline.waiting());
        for gateway in [&mut together, &mut alone] {
            gateway.now += 1000;
            gateway.run_burst(OPEN, &[]);
            prop_assert_eq!(gateway.pipeline.waiting(), 0);
        }
        let inner = |(port, frame): &(PortId, Vec<u8>)| (*port, frame[if *port == UPLINK { inner_l3() } else { 14 }..].to_vec());
        let [mut sent, mut one_by_one] = [&sent, &one_by_one].map(|sent| sent.iter().map(inner).collect::<Vec<_>>());
        sent.sort();
        one_by_one.sort();
        prop_assert_eq!(&sent, &one_by_one);
        for port in [OPEN, UPLINK] {
            prop_assert_eq!(together.drops(port), alone.drops(port));
            let counters = together.counters.port(port);
            let dropped: u64 = together.drops(port).iter().sum();
            prop_assert_eq!(counters.rx.get(), counters.forwarded.get() + dropped);
        }
    }
}
