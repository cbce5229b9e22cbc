//! Checksums that are left to a port: the kernel that receives the frame takes it, in VXLAN too, and one that nobody has
//! completed it refuses.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use margay_encap::checksum::{pseudo_header_v4, pseudo_header_v6};
use margay_fastpath::Frame;
use margay_fastpath::port::vlan::Tagged;
use margay_fastpath::xdp::{ModeChoice, PortSpec};
use margay_flowtable::Checksums;

use crate::bench::{Bench, in_namespace, ip, mac, spec, veth};

const CHUNKS: u32 = 16384;
const PAYLOAD: [u8; 11] = *b"left undone";
/// Longer than a frame takes to the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
const VXLAN: usize = 50;

/// An IP packet from `.1` to `.2` whose transport checksum is left to offload, and where that starts in it and has its
/// field. TCP is a SYN.
fn partial(src: IpAddr, dst: IpAddr, protocol: u8, port: u16) -> (Vec<u8>, usize, usize) {
    let mut segment = [40000u16.to_be_bytes(), port.to_be_bytes()].concat();
    let at = if protocol == 6 {
        segment.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]);
        16
    } else {
        segment.extend([0, 8 + PAYLOAD.len() as u8, 0, 0]);
        segment.extend(PAYLOAD);
        6
    };
    let len = segment.len() as u16;
    let (mut packet, sum) = match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut header = vec![0x45, 0, 0, 20 + len as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
            header.extend([src.octets(), dst.octets()].concat());
            let sum = margay_encap::checksum::Sum::of(&header).finish();
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            (header, pseudo_header_v4(src.to_bits(), dst.to_bits(), protocol, len))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, len as u8, protocol, 64];
            header.extend([src.octets(), dst.octets()].concat());
            (header, pseudo_header_v6(src.to_bits(), dst.to_bits(), protocol, len.into()))
        }
        _ => unreachable!("both of one family"),
    };
    let start = packet.len();
    segment[at..at + 2].copy_from_slice(&sum.fold().to_be_bytes());
    packet.extend(segment);
    (packet, start, at)
}

fn ethernet(to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let ethertype = if packet[0] >> 4 == 4 { [8, 0] } else { [0x86, 0xdd] };
    [&to[..], &[2, 0, 0, 0, 0, 9], &ethertype, packet].concat()
}

/// The frame in VXLAN of the VNI 7 from 10.9.0.1 to 10.9.0.2.
fn in_vxlan(frame: &[u8]) -> Vec<u8> {
    let addresses = ["10.9.0.1", "10.9.0.2"].map(|address| address.parse().expect("an address"));
    let (outer, ..) = partial(addresses[0], addresses[1], 17, 4789);
    let len = (16 + frame.len()) as u16;
    let mut outer = outer[..28].to_vec();
    outer[2..4].copy_from_slice(&(20 + len).to_be_bytes());
    outer[10..12].fill(0);
    let sum = margay_encap::checksum::Sum::of(&outer[..20]).finish();
    outer[10..12].copy_from_slice(&sum.to_be_bytes());
    outer[24..26].copy_from_slice(&len.to_be_bytes());
    outer[26..28].fill(0);
    ethernet(mac("far"), &[&outer[..], &[8, 0, 0, 0, 0, 0, 7, 0], frame].concat())
}

/// What the kernel has counted of TCP in this namespace.
fn tcp_count(name: &str) -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").expect("counters");
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let [names, values] = [(); 2].map(|()| lines.next().expect("two lines").split(' '));
    names
        .zip(values)
        .find(|(found, _)| *found == name)
        .and_then(|(_, value)| value.parse().ok())
        .expect("a count")
}

fn grows(name: &str, act: impl FnOnce()) -> bool {
    let (before, deadline) = (tcp_count(name), Instant::now() + PATIENCE);
    act();
    while tcp_count(name) == before {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// `near` to open a port on, `far` with addresses, and VXLAN over it.
fn links() {
    veth("near", "far", 1);
    ip("addr add 10.9.0.2/24 dev far");
    ip("addr add fd09::2/64 dev far nodad");
    ip("link add vx type vxlan id 7 dstport 4789 local 10.9.0.2 nolearning");
    ip("addr add 10.8.0.2/24 dev vx");
    ip("addr add fd08::2/64 dev vx nodad");
    ip("link set vx up");
}

fn filled(bench: &mut Bench, bytes: &[u8]) -> Frame {
    let mut frame = bench.pool.get().expect("a free chunk");
    assert!(bench.umem.fill(&mut frame, bytes));
    frame
}

#[test]
fn the_kernel_takes_what_is_left_to_the_port() {
    in_namespace(|| {
        links();
        let mut bench = Bench::new(CHUNKS);
        let mut opened = bench.open("near", ModeChoice::Native);
        assert_eq!(opened.takes_checksums, Checksums::Any);
        assert!(opened.largest_mtu.is_some());
        for (net, in_tunnel) in [("10.9.0", false), ("fd09:", false), ("10.8.0", true), ("fd08:", true)] {
            let separator = if net.ends_with(':') { ":" } else { "." };
            let [src, dst]: [IpAddr; 2] =
                [1, 2].map(|host| format!("{net}{separator}{host}").parse().expect("an address"));
            let server = UdpSocket::bind((dst, 0)).expect("a port");
            server.set_read_timeout(Some(PATIENCE)).expect("a time");
            let port = server.local_addr().expect("an address").port();
            let mut send = |protocol, port, is_marked| {
                let (packet, start, offset) = partial(src, dst, protocol, port);
                let plain = ethernet(mac(if in_tunnel { "vx" } else { "far" }), &packet);
                let bytes = if in_tunnel { in_vxlan(&plain) } else { plain };
                let mut frame = filled(&mut bench, &bytes);
                if is_marked {
                    let start = start + 14 + if in_tunnel { VXLAN } else { 0 };
                    (frame.csum_start, frame.csum_offset) = (start as u16, offset as u16);
                }
                bench.send(&mut opened.ports[0], vec![frame]);
            };
            send(17, port, true);
            let mut received = [0; 64];
            let length = server.recv(&mut received).unwrap_or_else(|error| panic!("{net}: {error}"));
            assert_eq!(received[..length], PAYLOAD, "{net}");
            // Nobody listens: what comes in with a good checksum is reset.
            assert!(grows("OutRsts", || send(6, 9, true)), "{net}");
            assert!(grows("InCsumErrors", || send(6, 9, false)), "{net}");
        }
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn a_port_that_is_not_to_take_checksums_takes_none() {
    in_namespace(|| {
        links();
        let mut bench = Bench::new(CHUNKS);
        let spec = PortSpec { tx_checksum: false, ..spec("near", ModeChoice::Native) };
        let mut opened = bench.open_as(&spec);
        assert_eq!((opened.takes_checksums, opened.largest_mtu), (Checksums::None, None));
        bench.drain(&mut opened.ports);
    });
}

#[test]
fn a_checksum_is_left_behind_a_tag_too() {
    in_namespace(|| {
        links();
        let mut bench = Bench::new(CHUNKS);
        let mut opened = bench.open("near", ModeChoice::Native);
        let mut ports = [Tagged::new(opened.ports.remove(0), 0)];
        let [src, dst] = ["10.9.0.1", "10.9.0.2"].map(|address| address.parse().expect("an address"));
        // The kernel takes the tag of VLAN 0, which is priority alone, for none.
        let (packet, start, offset) = partial(src, dst, 6, 9);
        let mut frame = filled(&mut bench, &ethernet(mac("far"), &packet));
        (frame.csum_start, frame.csum_offset) = (start as u16 + 14, offset as u16);
        assert!(grows("OutRsts", || bench.send(&mut ports[0], vec![frame])));
        bench.drain(&mut ports);
        bench.assert_whole();
    });
}
