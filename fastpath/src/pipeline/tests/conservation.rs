//! Whatever the bytes: no panic, no chunk lost, and every frame counted out once.

use proptest::prelude::*;

use super::*;

pub(super) fn frame() -> impl Strategy<Value = (PortId, Vec<u8>)> {
    let valid = (any::<bool>(), 0..7usize, any::<(u16, u16)>(), 0..1500usize).prop_map(
        |(is_udp, dst, ports, len)| {
            let dst = [WEB_IP, OPEN_IP, PEER_IP, IPIP_IP, DIRECT_IP, NODE_IP, [192, 0, 2, 1]][dst];
            if is_udp {
                udp(OPEN_IP, dst, ports, &vec![0x5a; len])
            } else {
                tcp(OPEN_IP, dst, ports, ports.0 as u8)
            }
        },
    );
    let tunnelled = (valid.clone(), any::<bool>()).prop_map(|(inner, vxlan)| {
        if vxlan { vxlan_from(REMOTE_NODE_IP, 4096, &inner) } else { ipip_from(REMOTE_NODE_IP, &inner) }
    });
    let any_bytes = prop::collection::vec(any::<u8>(), 0..200);
    let mutated = (
        prop_oneof![valid, tunnelled],
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    );
    let mutated = mutated.prop_map(|(mut packet, changes)| {
        packet.truncate(1792);
        for (at, value) in changes {
            let at = at.index(packet.len());
            packet[at] = value;
        }
        packet
    });
    (prop_oneof![Just(UPLINK), Just(WEB), Just(OPEN)], prop_oneof![1 => any_bytes, 4 => mutated])
}

/// What leaves, without what an outer header numbers or draws from the hash: identification, the checksum that covers it,
/// and VXLAN's source port.
fn unnumbered(sent: Vec<(PortId, Vec<u8>)>) -> Vec<(PortId, Vec<u8>)> {
    let without = |(port, mut frame): (PortId, Vec<u8>)| {
        frame[18..20].fill(0);
        frame[24..26].fill(0);
        if frame[23] == 17 && frame[36..38] == 4789u16.to_be_bytes() {
            frame[34..36].fill(0);
        }
        (port, frame)
    };
    let mut sent: Vec<_> = sent.into_iter().map(without).collect();
    // In the order of each port.
    sent.sort_by_key(|(port, _)| *port);
    sent
}

proptest! {
    /// Bursts of frames of every kind: each is counted out once, every chunk comes back (`run_burst` asserts it), and
    /// what becomes of a frame depends neither on its company nor on the processor.
    #[test]
    fn frames_are_conserved_and_mind_their_own_ways(
        bursts in prop::collection::vec(prop::collection::vec(frame(), 0..64), 0..8),
    ) {
        let (mut together, mut alone) = (Gateway::new(), Gateway::with_isa(Isa::PORTABLE));
        for burst in bursts {
            (together.now, alone.now) = (together.now + 100, alone.now + 100);
            for input in [UPLINK, WEB, OPEN] {
                let packets: Vec<_> =
                    burst.iter().filter(|(port, _)| *port == input).map(|(_, packet)| packet.clone()).collect();
                let sent = together.run_burst(input, &packets);
                let one_by_one = packets.into_iter().flat_map(|packet| alone.run_burst(input, &[packet]));
                prop_assert_eq!(unnumbered(sent), unnumbered(one_by_one.collect()));
            }
        }
        for port in [UPLINK, WEB, OPEN] {
            prop_assert_eq!(together.drops(port), alone.drops(port));
            let [one, other] = [&together, &alone].map(|gateway| gateway.counters.port(port));
            for (one, other) in [(&one.tx, &other.tx), (&one.tx_bytes, &other.tx_bytes), (&one.rx_bytes, &other.rx_bytes)] {
                prop_assert_eq!(one.get(), other.get());
            }
            let dropped: u64 = together.drops(port).iter().sum();
            prop_assert_eq!(one.rx.get(), one.forwarded.get() + dropped);
        }
    }
}
