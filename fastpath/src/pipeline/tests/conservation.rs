//! Whatever the bytes: no panic, no chunk lost, and every frame counted out once.

use proptest::prelude::*;

use super::*;

fn frame() -> impl Strategy<Value = (PortId, Vec<u8>)> {
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

proptest! {
    #[test]
    fn frames_are_conserved(bursts in prop::collection::vec(prop::collection::vec(frame(), 0..16), 0..8)) {
        let mut gateway = Gateway::new();
        for burst in bursts {
            gateway.now += 100;
            for (port, packet) in burst {
                // run_burst asserts that every chunk is back.
                gateway.run_burst(port, &[packet]);
            }
        }
        for port in [UPLINK, WEB, OPEN] {
            let counters = gateway.counters.port(port);
            let dropped: u64 = gateway.drops(port).iter().sum();
            prop_assert_eq!(counters.rx.get(), counters.forwarded.get() + dropped);
        }
    }
}
