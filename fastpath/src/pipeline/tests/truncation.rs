//! Frames cut off at every byte: none leaves, each has the reason of where it was cut, and all are counted.

use DropReason as R;

use super::ipv6::{self, DIRECT6, OPEN6, udp6};
use super::options::with_options;
use super::*;

/// The parts of a frame, first to last: where each ends, and why a frame is dropped that ends before there.
type Parts = Vec<(usize, R)>;

const OPTIONS: [u8; 8] = [148, 4, 0, 0, 1, 1, 1, 0];
/// What stands before the inner frame in VXLAN.
const VXLAN: usize = 14 + 20 + 8 + 8;

/// Cuts a frame of so many bytes, as `cut` makes it, at each of them.
fn assert_refused(name: &str, port: PortId, parts: &Parts, cut: impl Fn(usize) -> Vec<u8>) {
    let mut gateway = ipv6::gateway();
    let end = parts.last().expect("a part").0;
    for len in 0..end {
        let outcome = gateway.run(port, &cut(len));
        assert!(outcome.sent.is_empty(), "{name}: {len} of {end} bytes leave");
        let reason = parts.iter().find(|(end, _)| len < *end).map(|(_, reason)| *reason);
        assert_eq!(outcome.dropped, reason, "{name}: {len} of {end} bytes");
    }
    gateway.run(port, &cut(end)).only();
    let counters = gateway.counters.port(port);
    let dropped: u64 = gateway.drops(port).iter().sum();
    assert_eq!(
        (counters.rx.get(), dropped, counters.forwarded.get()),
        (end as u64 + 1, end as u64, 1),
        "{name}"
    );
    assert_eq!(gateway.pipeline.waiting(), 0);
}

/// A frame whose IP header, behind Ethernet's, has so many bytes.
fn parts_of_ip(frame: &[u8], header: usize) -> Parts {
    vec![(14, R::Runt), (14 + header, R::BadHeaderLength), (frame.len(), R::BadTotalLength)]
}

/// The packet with what follows its header cut to so many bytes, and its length mended.
fn with_payload(packet: &[u8], header: usize, len: usize) -> Vec<u8> {
    let mut packet = packet[..14 + header + len].to_vec();
    let [high, low] = ((header + len) as u16).to_be_bytes();
    packet[16] = high;
    set_ip_byte(&mut packet, 3, low);
    packet
}

fn icmp(src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], OUR_MAC).ipv4(src, dst, 64);
    builder.icmpv4_echo_request(7, 1).write(&mut packet, b"ping").expect("a Vec takes all");
    packet
}

fn sctp(src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = etherparse::PacketBuilder::ethernet2([2; 6], OUR_MAC).ipv4(src, dst, 64);
    builder.write(&mut packet, etherparse::IpNumber::SCTP, &[7; 24]).expect("a Vec takes all");
    packet
}

/// A packet of every transport, and the bytes that its header has.
fn transports(src: [u8; 4], dst: [u8; 4]) -> [(&'static str, Vec<u8>, usize); 4] {
    [
        ("UDP", udp(src, dst, (1000, 53), b"query"), 8),
        ("TCP", tcp(src, dst, (1000, 80), SYN), 20),
        ("ICMP", icmp(src, dst), 8),
        ("SCTP", sctp(src, dst), 12),
    ]
}

#[test]
fn frames_cut_off() {
    for (name, frame, _) in transports(OPEN_IP, PEER_IP) {
        assert_refused(name, OPEN, &parts_of_ip(&frame, 20), |len| frame[..len].to_vec());
        let frame = with_options(frame, &OPTIONS);
        assert_refused(name, OPEN, &parts_of_ip(&frame, 28), |len| frame[..len].to_vec());
    }
    let first = pieces(&udp(OPEN_IP, PEER_IP, (1000, 53), &[7; 200]), 7, 64).swap_remove(0);
    assert_refused("a fragment", OPEN, &parts_of_ip(&first, 20), |len| first[..len].to_vec());
    for (name, inner, _) in transports(PEER_IP, OPEN_IP) {
        for outer in [vxlan_from(REMOTE_NODE_IP, 4096, &inner), ipip_from(REMOTE_NODE_IP, &inner)] {
            assert_refused(name, UPLINK, &parts_of_ip(&outer, 20), |len| outer[..len].to_vec());
            let outer = with_options(outer, &OPTIONS);
            assert_refused(name, UPLINK, &parts_of_ip(&outer, 28), |len| outer[..len].to_vec());
        }
    }
    let packet = udp6(OPEN6, DIRECT6, (1000, 53), b"query");
    assert_refused("IPv6", OPEN, &parts_of_ip(&packet, 40), |len| packet[..len].to_vec());
}

/// What the outer lengths say is there, and the inner packet ends before its own length.
#[test]
fn packets_cut_off_inside_tunnels() {
    for (name, inner, _) in transports(PEER_IP, OPEN_IP) {
        for inner in [(inner.clone(), 20), (with_options(inner, &OPTIONS), 28)] {
            let (inner, header) = inner;
            let outer = vxlan_from(REMOTE_NODE_IP, 4096, &inner);
            let parts = vec![
                (22, R::BadVxlanHeader),
                (22 + header, R::BadHeaderLength),
                (outer.len() - VXLAN + 8, R::BadTotalLength),
            ];
            assert_refused(name, UPLINK, &parts, |len| {
                udp(REMOTE_NODE_IP, NODE_IP, (1, 4789), &outer[42..42 + len])
            });
            let parts = vec![(header, R::BadHeaderLength), (inner.len() - 14, R::BadTotalLength)];
            assert_refused(name, UPLINK, &parts, |len| ipip_from(REMOTE_NODE_IP, &inner[..14 + len]));
        }
    }
}

/// All lengths are right, and the transport header is not whole.
#[test]
fn transport_headers_cut_off() {
    for (name, packet, header) in transports(OPEN_IP, PEER_IP) {
        let cut = |len: usize| match name {
            // Of UDP another length says how long it is.
            "UDP" if len == 8 => udp(OPEN_IP, PEER_IP, (1000, 53), b""),
            _ => with_payload(&packet, 20, len),
        };
        assert_refused(name, OPEN, &vec![(header, R::TruncatedTransport)], cut);
        let long = [&packet[..], &[0; 40]].concat();
        let first = |len| with_fragment_offset(with_payload(&long, 20, len), 0x2000);
        let whole = header.next_multiple_of(8);
        for len in (8..whole).step_by(8) {
            let dropped = Gateway::new().run(OPEN, &first(len)).dropped;
            assert_eq!(dropped, Some(R::TinyFragment), "{name}: a first fragment of {len} bytes");
        }
        Gateway::new().run(OPEN, &first(whole)).only();
    }
}

fn with_fragment_offset(mut packet: Vec<u8>, word: u16) -> Vec<u8> {
    let [high, low] = word.to_be_bytes();
    packet[20] = high;
    set_ip_byte(&mut packet, 7, low);
    packet
}
