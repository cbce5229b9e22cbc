//! VXLAN over IPv6: packets of both families go in and come out, and what may not come out has its reason.

use std::net::Ipv6Addr;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use margay_encap::pull::{ZeroChecksum, vxlan_over_ipv6};
use margay_encap::{checksum, parse_ip6};

use super::ipv6::{NODE6, OPEN6, forwarded, gateway, pieces6, udp6};
use super::split::{long, reassemble};
use super::*;

/// In the blocks behind VXLAN over IPv6, of either family.
const FAR_IP: [u8; 4] = [10, 70, 21, 5];
const FAR6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x70, 0x21, 0, 0, 0, 0, 5);
const REMOTE_NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, 11);
const OTHER_NODE6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x20, 0, 0, 0, 0, 12);
const OUR_VTEP6: [u8; 6] = [0x66, 0, 0, 0, 6, 1];
const REMOTE_VTEP6: [u8; 6] = [0x66, 0, 0, 0, 6, 2];
/// Bytes before the inner packet, and before the UDP header.
const HEADERS: usize = 84;
const UDP: usize = 54;

fn gateway6() -> Gateway {
    let mut gateway = gateway();
    gateway.publish(|snapshot| {
        let tunnel = Tunnel::Vxlan6 {
            src: NODE6,
            dst: REMOTE_NODE6,
            vni: 4096,
            udp_port: 4789,
            inner_src_mac: OUR_VTEP6,
            inner_dst_mac: REMOTE_VTEP6,
            outer: Outer::VXLAN,
            udp_checksum: true,
        };
        let adjacency = Adjacency { port: UPLINK, dst_mac: ROUTER_MAC, src_mac: OUR_MAC, mtu: 1500 };
        let mut next_hops = snapshot.next_hops.to_vec();
        let id = NextHopId(next_hops.len() as u32);
        next_hops.push(NextHop::Forward { adjacency, tunnel: Some(tunnel) });
        snapshot.next_hops = next_hops.into();
        let blocks = [(ip(FAR_IP).into(), 26), (FAR6.into(), 122)];
        snapshot.fib.apply(blocks.map(|(net, length)| (net, length, Some(id))));
        let local = &mut snapshot.local;
        local.addresses.remove(&IpAddr::V6(NODE6));
        local.tunnel_ends.push(NODE6.into());
        local.vtep_mac6 = OUR_VTEP6;
        snapshot.tunnel_sources.extend([REMOTE_NODE6, OTHER_NODE6].map(IpAddr::V6));
        let sources = &mut snapshot.inner_sources;
        sources.homes.apply(blocks.map(|(net, length)| (net, length, Some(NextHopId(2)))));
        let over_ipv6 = [vec![REMOTE_NODE6.into()]];
        sources.senders = sources.senders.iter().cloned().chain(over_ipv6).collect();
    });
    gateway
}

/// Sets what the tunnel and the uplink's link are.
fn change(gateway: &mut Gateway, change: impl Fn(&mut Adjacency, &mut bool)) {
    gateway.publish(|snapshot| {
        let mut next_hops = snapshot.next_hops.to_vec();
        for next_hop in &mut next_hops {
            if let NextHop::Forward { adjacency, tunnel: Some(Tunnel::Vxlan6 { udp_checksum, .. }) } =
                next_hop
            {
                change(adjacency, udp_checksum);
            }
        }
        snapshot.next_hops = next_hops.into();
    });
}

/// `inner` (an Ethernet frame) in VXLAN from `sender` to our node.
fn from(sender: Ipv6Addr, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0x10, 0, 0];
    payload.extend_from_slice(&OUR_VTEP6);
    payload.extend_from_slice(&REMOTE_VTEP6);
    payload.extend_from_slice(&inner[12..]);
    udp6(sender, NODE6, (50_000, 4789), &payload)
}

/// The IP packet in a frame that left for the remote node, whose headers are as they should be.
#[track_caller]
fn carried((port, frame): &(PortId, Vec<u8>)) -> Vec<u8> {
    assert_eq!(*port, UPLINK);
    assert!(frame.len() <= 1514, "fits the link");
    assert_eq!(frame[..14], [&ROUTER_MAC[..], &OUR_MAC, &[0x86, 0xdd]].concat());
    let parsed = SlicedPacket::from_ethernet(frame).unwrap();
    let Some(NetSlice::Ipv6(ip)) = &parsed.net else { panic!("{parsed:?}") };
    let header = ip.header().to_header();
    assert_eq!((header.source, header.destination), (NODE6.octets(), REMOTE_NODE6.octets()));
    let Some(TransportSlice::Udp(udp)) = parsed.transport else { panic!("{parsed:?}") };
    assert!(udp.source_port() >= 49152);
    let sum = udp.to_header().calc_checksum_ipv6(&header, udp.payload()).unwrap();
    assert_eq!(udp.checksum(), sum);
    let outer = parse_ip6(frame, 14).unwrap();
    let pulled = vxlan_over_ipv6(frame, &outer, ZeroChecksum::Refused).unwrap();
    assert_eq!((pulled.vni, pulled.dst_mac, pulled.src_mac), (4096, REMOTE_VTEP6, OUR_VTEP6));
    assert_eq!((usize::from(pulled.inner.l3), pulled.inner.end as usize), (HEADERS, frame.len()));
    frame[HEADERS..].to_vec()
}

/// What forwarding makes of a packet of IPv4.
fn forwarded4(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let ttl = packet[22] - 1;
    set_ip_byte(&mut packet, 8, ttl);
    packet[14..].to_vec()
}

#[test]
fn both_families_go_into_the_tunnel() {
    let mut gateway = gateway6();
    let of_ipv4 = udp(OPEN_IP, FAR_IP, (53, 4000), b"four");
    let of_ipv6 = udp6(OPEN6, FAR6, (53, 4000), b"sixteen");
    for _ in 0..2 {
        let sent = gateway.run_burst(OPEN, &[of_ipv4.clone(), of_ipv6.clone(), of_ipv4.clone()]);
        let sent: Vec<_> = sent.iter().map(carried).collect();
        assert_eq!(sent, [forwarded4(&of_ipv4), forwarded(&of_ipv6), forwarded4(&of_ipv4)]);
    }
    change(&mut gateway, |_, udp_checksum| *udp_checksum = false);
    for packet in [&of_ipv4, &of_ipv6] {
        let (_, frame) = gateway.run(OPEN, packet).only();
        assert_eq!(frame[60..62], [0, 0]);
    }
}

#[test]
fn both_families_come_out_of_the_tunnel() {
    let mut gateway = gateway6();
    let of_ipv4 = udp(FAR_IP, OPEN_IP, (4000, 53), b"four");
    let of_ipv6 = udp6(FAR6, OPEN6, (4000, 53), b"sixteen");
    for _ in 0..2 {
        let (port, frame) = gateway.run(UPLINK, &from(REMOTE_NODE6, &of_ipv4)).only();
        assert_eq!((port, &frame[12..14], &frame[14..]), (OPEN, &[8, 0][..], &forwarded4(&of_ipv4)[..]));
        let (port, frame) = gateway.run(UPLINK, &from(REMOTE_NODE6, &of_ipv6)).only();
        assert_eq!((port, &frame[12..14]), (OPEN, &[0x86, 0xdd][..]));
        assert_eq!(frame[14..], forwarded(&of_ipv6));
    }
    let mut for_everyone = from(REMOTE_NODE6, &of_ipv4);
    for_everyone[70..76].fill(0xff);
    for_everyone[60..62].fill(0);
    gateway.snapshot.local.zero_checksum6 = ZeroChecksum::Accepted;
    gateway.run(UPLINK, &for_everyone).only();
    assert_eq!(gateway.counters.flows_inserted.get(), 2);
}

/// The frame with these bytes there, and the UDP checksum that belongs to it.
fn altered(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame[60..62].fill(0);
    let [src, dst] = [22, 38].map(|at| u128::from_be_bytes(*frame[at..].first_chunk().unwrap()));
    let pseudo_header = checksum::pseudo_header_v6(src, dst, 17, (frame.len() - UDP) as u32);
    let sum = pseudo_header.add(checksum::Sum::of(&frame[UDP..])).finish();
    frame[60..62].copy_from_slice(&sum.to_be_bytes());
    frame
}

#[test]
fn what_may_not_come_out_has_its_reason() {
    use DropReason as R;
    let of_ipv4 = udp(FAR_IP, OPEN_IP, (4000, 53), b"four");
    let of_ipv6 = udp6(FAR6, OPEN6, (4000, 53), b"sixteen");
    let sound = from(REMOTE_NODE6, &of_ipv4);
    let with = |at: usize, bytes: &[u8]| altered(&sound, at, bytes);
    let bare = |at: usize, bytes: &[u8]| {
        let mut frame = sound.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let to_our_end = udp(FAR_IP, NODE_IP, (4000, 4789), &[8; 40]);
    let to_our_end6 = udp6(FAR6, NODE6, (4000, 4789), &[8; 40]);
    let elsewhere = udp(PEER_IP, OPEN_IP, (4000, 53), b"four");
    let elsewhere6 = udp6(REMOTE_NODE6, OPEN6, (4000, 53), b"sixteen");
    let stranger = "fd00:172:20::63".parse().unwrap();
    let mut of_ipv6_cut = of_ipv6.clone();
    of_ipv6_cut[18] = 0x7f;
    for (reason, frame) in [
        (R::TunnelNoChecksum, bare(60, &[0, 0])),
        (R::TunnelChecksum, bare(60, &[sound[60] ^ 1])),
        (R::TunnelChecksum, bare(sound.len() - 1, b"!")),
        (R::TunnelFragment, pieces6(&sound, 1, 32).remove(0)),
        (R::UnknownTunnelSource, from(stranger, &of_ipv4)),
        (R::UnknownTunnelSource, altered(&from(stranger, &of_ipv4), 82, &[8, 6])),
        (R::BadVxlanHeader, with(62, &[0])),
        (R::WrongVni, with(67, &[0x11])),
        (R::InnerWrongMac, with(70, &OUR_VTEP)),
        (R::InnerArp, with(82, &[8, 6])),
        (R::InnerVlan, with(82, &[0x81, 0])),
        (R::InnerNotIp, with(82, &[0x88, 0x47])),
        (R::BadVersion, with(84, &[0x65])),
        (R::BadTotalLength, from(REMOTE_NODE6, &of_ipv6_cut)),
        (R::InnerSource, from(OTHER_NODE6, &of_ipv4)),
        (R::InnerSource, from(OTHER_NODE6, &of_ipv6)),
        (R::InnerSource, from(REMOTE_NODE6, &elsewhere)),
        (R::InnerSource, from(REMOTE_NODE6, &elsewhere6)),
        (R::NestedTunnel, from(REMOTE_NODE6, &to_our_end)),
        (R::NestedTunnel, from(REMOTE_NODE6, &to_our_end6)),
        (R::NestedTunnel, vxlan_from(REMOTE_NODE_IP, 4096, &to_our_end6)),
        (R::HostBound, udp6(REMOTE_NODE6, NODE6, (4000, 53), b"not of a tunnel")),
    ] {
        let mut gateway = gateway6();
        gateway.run(UPLINK, &sound).only();
        assert_eq!(gateway.run(UPLINK, &frame).dropped, Some(reason), "{frame:02x?}");
    }
    let pod_sent = udp6(OPEN6, REMOTE_NODE6, (4000, 4789), &sound[62..]);
    assert_eq!(gateway6().run(OPEN, &pod_sent).dropped, Some(R::TunnelFromPod));
}

#[test]
fn what_may_be_inside_goes_by_the_check_that_is_configured() {
    let stranger = udp([192, 0, 2, 1], OPEN_IP, (4000, 53), b"four");
    let known = udp(FAR_IP, OPEN_IP, (4000, 53), b"four");
    let reason = Some(DropReason::InnerSource);
    for (check, another, nobody) in [
        (InnerSource::Strict, reason, reason),
        (InnerSource::Loose, None, reason),
        (InnerSource::Off, None, None),
    ] {
        let mut gateway = gateway6();
        gateway.snapshot.inner_sources.check = check;
        assert_eq!(gateway.run(UPLINK, &from(OTHER_NODE6, &known)).dropped, another, "{check:?}");
        assert_eq!(gateway.run(UPLINK, &from(REMOTE_NODE6, &stranger)).dropped, nobody, "{check:?}");
    }
}

#[test]
fn congestion_marks_go_in_and_come_out() {
    let mut gateway = gateway6();
    for ecn in 0..4 {
        let mut packet = udp(OPEN_IP, FAR_IP, (1, 2), b"four");
        set_ip_byte(&mut packet, 1, 0xb8 | ecn);
        let sent = gateway.run(OPEN, &packet).only();
        assert_eq!(carried(&sent), forwarded4(&packet));
        assert_eq!(sent.1[14..16], [0x60, ecn << 4]);
    }
    let mark = |frame: &[u8]| altered(frame, 15, &[3 << 4]);
    let mut capable = udp6(FAR6, OPEN6, (4000, 53), b"sixteen");
    let incapable = mark(&from(REMOTE_NODE6, &capable));
    assert_eq!(gateway.run(UPLINK, &incapable).dropped, Some(DropReason::EcnNotCapable));
    capable[15] |= 2 << 4;
    let mut marked = forwarded(&capable);
    marked[1] |= 3 << 4;
    assert_eq!(gateway.run(UPLINK, &mark(&from(REMOTE_NODE6, &capable))).only().1[14..], marked);
    let mut capable = udp(FAR_IP, OPEN_IP, (4000, 53), b"four");
    set_ip_byte(&mut capable, 1, 2);
    let mut marked = capable.clone();
    set_ip_byte(&mut marked, 1, 3);
    let (_, frame) = gateway.run(UPLINK, &mark(&from(REMOTE_NODE6, &capable))).only();
    assert_eq!(frame[14..], forwarded4(&marked));
}

#[test]
fn what_is_too_long_is_split_or_answered_with_what_fits() {
    let mut gateway = gateway6();
    let fits = 1500 - 70 - 28;
    for payload in fits - 9..=fits + 9 {
        let packet = long(FAR_IP, payload);
        let outcome = gateway.run(OPEN, &packet);
        assert_eq!(outcome.dropped, None);
        let fragments: Vec<_> = outcome.sent.iter().map(carried).collect();
        assert_eq!(fragments.len(), if payload > fits { 2 } else { 1 }, "{payload}");
        assert_eq!(reassemble(&fragments), packet[34..]);
    }
    let of_ipv4 = udp(OPEN_IP, FAR_IP, (53, 4000), &vec![7; fits + 1]);
    let of_ipv6 = udp6(OPEN6, FAR6, (53, 4000), &vec![7; fits - 19]);
    for (packet, mtu_at) in [(&of_ipv4, 40), (&of_ipv6, 60)] {
        let Outcome { sent, dropped } = gateway.run(OPEN, packet);
        assert_eq!(dropped, Some(DropReason::FragmentationNeeded));
        let [(port, answer)] = &sent[..] else { panic!("{sent:?}") };
        assert_eq!((*port, &answer[mtu_at..mtu_at + 2]), (OPEN, &1430_u16.to_be_bytes()[..]));
        let shorter = if mtu_at == 40 {
            udp(OPEN_IP, FAR_IP, (53, 4000), &vec![7; fits])
        } else {
            udp6(OPEN6, FAR6, (53, 4000), &vec![7; fits - 20])
        };
        assert_eq!(carried(&gateway.run(OPEN, &shorter).only()).len(), 1430);
    }
    change(&mut gateway, |adjacency, _| adjacency.mtu = 1400);
    assert_eq!(gateway.run(OPEN, &long(FAR_IP, 1330 - 28)).sent.len(), 1);
    assert_eq!(gateway.run(OPEN, &long(FAR_IP, 1331 - 28)).sent.len(), 2);
}

#[test]
fn a_checksum_left_to_offload_is_completed_before_it_is_summed() {
    let mut gateway = gateway6();
    let of_ipv4 = udp(OPEN_IP, FAR_IP, (53, 4000), b"four");
    let mut partial = of_ipv4.clone();
    let [src, dst] = [OPEN_IP, FAR_IP].map(u32::from_be_bytes);
    let sum = checksum::pseudo_header_v4(src, dst, 17, 12).fold();
    partial[40..42].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(carried(&gateway.run(OPEN, &partial).only()), forwarded4(&of_ipv4));
    let of_ipv6 = udp6(OPEN6, FAR6, (53, 4000), b"sixteen");
    let mut partial = of_ipv6.clone();
    let sum = checksum::pseudo_header_v6(OPEN6.to_bits(), FAR6.to_bits(), 17, 15).fold();
    partial[60..62].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(carried(&gateway.run(OPEN, &partial).only()), forwarded(&of_ipv6));
}

#[test]
fn fragments_of_what_is_carried_go_both_ways() {
    let mut gateway = gateway6();
    let packet = udp6(FAR6, OPEN6, (4000, 53), &[7; 1000]);
    let expected: Vec<_> = pieces6(&packet, 1, 400).iter().map(|part| forwarded(part)).collect();
    let came = pieces6(&packet, 1, 400).iter().map(|part| from(REMOTE_NODE6, part)).collect::<Vec<_>>();
    let sent: Vec<_> =
        gateway.run_burst(UPLINK, &came).into_iter().map(|(_, frame)| frame[14..].to_vec()).collect();
    assert_eq!(sent, expected);
    let parts = pieces(&udp(OPEN_IP, FAR_IP, (53, 4000), &[7; 1000]), 1, 400);
    let sent: Vec<_> = gateway.run_burst(OPEN, &parts).iter().map(carried).collect();
    assert_eq!(sent, parts.iter().map(|part| forwarded4(part)).collect::<Vec<_>>());
}

#[test]
fn errors_find_their_way_through_the_tunnel() {
    let mut gateway = gateway6();
    // Of our own, to who is behind the tunnel.
    let mut dying = udp6(FAR6, OPEN6, (4000, 53), b"sixteen");
    dying[21] = 1;
    let Outcome { sent, dropped } = gateway.run(UPLINK, &from(REMOTE_NODE6, &dying));
    assert_eq!(dropped, Some(DropReason::TtlExceeded));
    let answer = carried(&sent[0]);
    assert_eq!((&answer[8..24], &answer[24..40]), (&NODE6.octets()[..], &FAR6.octets()[..]));
    assert_eq!((answer[40], &answer[48..]), (3, &dying[14..]));
    let mut dying = udp(FAR_IP, OPEN_IP, (4000, 53), b"four");
    set_ip_byte(&mut dying, 8, 1);
    let Outcome { sent, .. } = gateway.run(UPLINK, &from(REMOTE_NODE6, &dying));
    let answer = carried(&sent[0]);
    assert_eq!((&answer[12..16], &answer[16..20]), (&NODE_IP[..], &FAR_IP[..]));
    // A router's behind it, about what a pod here has sent.
    let packet = udp(OPEN_IP, FAR_IP, (53, 4000), b"four");
    gateway.run(OPEN, &packet).only();
    let flows = gateway.counters.flows_inserted.get();
    let mut error = Vec::new();
    PacketBuilder::ethernet2([2; 6], OUR_MAC)
        .ipv4(FAR_IP, OPEN_IP, 64)
        .icmpv4(etherparse::Icmpv4Type::TimeExceeded(
            etherparse::icmpv4::TimeExceededCode::TtlExceededInTransit,
        ))
        .write(&mut error, &forwarded4(&packet))
        .expect("a Vec takes all");
    let (port, frame) = gateway.run(UPLINK, &from(REMOTE_NODE6, &error)).only();
    assert_eq!((port, &frame[14..]), (OPEN, &forwarded4(&error)[..]));
    assert_eq!(gateway.counters.flows_inserted.get(), flows);
}
