//! Packets that are several in one, as a port in skb mode receives them: what the kernel tells of each, and that they are cut as
//! the kernel itself cuts them.

use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::process::Command;

use margay_encap::segment::Segments;
use margay_encap::{Headers, parse, parse_ip6};
use margay_fastpath::steer::Destination;
use margay_fastpath::xdp::ModeChoice;
use margay_fastpath::{Burst, Frame, Gso, Port};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::bench::{Bench, Wire, in_namespace, mac, veth};

const CHUNKS: u32 = 16384;
/// What is Margay's of IPv6.
const BLOCK6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0);

/// `VIRTIO_NET_HDR_GSO_*` (`include/uapi/linux/virtio_net.h`).
const NONE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;

/// `struct virtio_net_hdr` before this frame, whose checksum is left to the device: how it is several in one, and bytes of
/// payload in each.
fn several_in_one(frame: &[u8], kind: u8, size: u16) -> Vec<u8> {
    let headers = parsed(frame);
    let (l4, is_udp) = (headers.transport(), headers.protocol() == 17);
    let (header_len, checksum) = if is_udp { (8, 6u16) } else { (20, 16) };
    let mut header = vec![1, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (at, value) in [(2, l4 + header_len), (4, size), (6, l4), (8, checksum)] {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    [&header, frame].concat()
}

fn parsed(frame: &[u8]) -> Headers {
    if frame[12] == 0x86 { parse_ip6(frame, 14) } else { parse(frame) }.expect("a sound packet")
}

/// A frame to an address that is Margay's, whose checksum field has the pseudo header's sum: as a sender leaves it.
fn frame(mac: [u8; 6], is_ipv6: bool, is_udp: bool, payload: usize) -> Vec<u8> {
    let ethernet = etherparse::PacketBuilder::ethernet2([2; 6], mac);
    let step = if is_ipv6 {
        let [src, dst] = [9, 1].map(|host| Ipv6Addr::from_bits(BLOCK6.to_bits() + host).octets());
        ethernet.ipv6(src, dst, 64)
    } else {
        ethernet.ipv4([10, 244, 1, 1], [10, 244, 1, 2], 64)
    };
    let payload: Vec<u8> = (0..payload).map(|at| (at % 251) as u8).collect();
    let mut frame = Vec::new();
    let field = if is_udp {
        step.udp(1000, 53).write(&mut frame, &payload).expect("a Vec takes all");
        6
    } else {
        let mut header = etherparse::TcpHeader::new(1000, 80, u32::MAX - 2000, 0xffff);
        (header.ack, header.psh, header.fin, header.cwr) = (true, true, true, true);
        step.tcp_header(header).write(&mut frame, &payload).expect("a Vec takes all");
        16
    };
    let headers = parsed(&frame);
    let len = u32::from(headers.total_len() - (headers.transport() - headers.l3()));
    let sum = if is_ipv6 {
        let [src, dst] = margay_encap::addresses6(&frame, &headers).map(Ipv6Addr::to_bits);
        margay_encap::checksum::pseudo_header_v6(src, dst, headers.protocol(), len)
    } else {
        margay_encap::checksum::pseudo_header_v4(headers.src(), headers.dst(), headers.protocol(), len as u16)
    };
    let at = usize::from(headers.transport()) + field;
    frame[at..at + 2].copy_from_slice(&sum.fold().to_be_bytes());
    frame
}

/// Has frames that are sent by the socket come with a `struct virtio_net_hdr`.
fn with_headers(wire: &Wire) {
    let yes = 1i32;
    // SAFETY: the option's value is a live integer of the length said.
    let set = unsafe {
        libc::setsockopt(
            wire.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_VNET_HDR,
            (&raw const yes).cast(),
            size_of_val(&yes) as libc::socklen_t,
        )
    };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
}

/// Frames of either family and protocol, long and short, and where each is to be cut.
fn cases(mac: [u8; 6]) -> Vec<(Vec<u8>, u8, Gso, u16)> {
    let mut cases = Vec::new();
    for is_ipv6 in [false, true] {
        for (payload, size) in [(2000, 1428), (10_000, 1440), (65_000, 1400), (3000, 536)] {
            let kind = if is_ipv6 { TCP6 } else { TCP4 };
            cases.push((frame(mac, is_ipv6, false, payload), kind, Gso::Tcp, size));
        }
        for (payload, size) in [(300, 100), (1001, 1000), (10_000, 1000), (40_000, 1452), (12_800, 100)] {
            cases.push((frame(mac, is_ipv6, true, payload), UDP, Gso::Udp, size));
        }
        cases.push((frame(mac, is_ipv6, true, 500), NONE, Gso::One, 0));
    }
    cases
}

#[test]
fn the_kernel_tells_which_packets_are_several_in_one_and_where_to_cut() {
    in_namespace(|| {
        veth("near", "far", 1);
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        assert_eq!(bench.xdp.untold_gso(), None);
        let block = (BLOCK6.into(), 64);
        bench.xdp.change_routes([(block, Some(Destination::Owned))].into()).expect("routes");
        with_headers(&far);
        let mut opened = bench.open("near", ModeChoice::Skb);
        for (frame, kind, gso, size) in cases(mac("near")) {
            far.send(&several_in_one(&frame, kind, size));
            let frames = bench.receive(&mut opened.ports, 1);
            assert_eq!((frames[0].gso, frames[0].gso_size, frames[0].is_cut), (gso, size, false));
            assert_eq!(frames[0].is_large(), frame.len() > 1792);
            assert_eq!(bench.umem.bytes(&frames[0]), &frame[..]);
            bench.pool.extend(frames);
        }
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

/// As on a kernel without BTF, of which nothing can be asked.
#[test]
fn where_the_kernel_does_not_tell_packets_come_in_as_they_are() {
    in_namespace(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a namespace");
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts of our own");
        mount(Some("none"), "/sys/kernel/btf", Some("tmpfs"), MsFlags::empty(), none)
            .expect("an empty folder");
        veth("near", "far", 1);
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        assert!(
            bench.xdp.untold_gso().is_some_and(|why| why.contains("BTF")),
            "{:?}",
            bench.xdp.untold_gso()
        );
        with_headers(&far);
        let mut opened = bench.open("near", ModeChoice::Skb);
        for (is_udp, kind, payload) in [(false, TCP4, 10_000), (true, UDP, 10_000), (true, NONE, 100)] {
            let frame = frame(mac("near"), false, is_udp, payload);
            far.send(&several_in_one(&frame, kind, 1000));
            let frames = bench.receive(&mut opened.ports, 1);
            assert_eq!((frames[0].gso, bench.umem.bytes(&frames[0])), (Gso::Untold, &frame[..]));
            bench.pool.extend(frames);
        }
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn what_will_be_many_waits_for_a_burst_with_room() {
    in_namespace(|| {
        veth("near", "far", 1);
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        with_headers(&far);
        let mut opened = bench.open("near", ModeChoice::Skb);
        // Seventeen datagrams each, and now and then one by itself.
        let (several, one) = (frame(mac("near"), false, true, 1700), frame(mac("near"), false, true, 100));
        for _ in 0..10 {
            far.send(&several_in_one(&several, UDP, 100));
            far.send(&several_in_one(&one, NONE, 0));
        }
        let (mut came, mut bursts) = (0, 0);
        while came < 20 {
            let mut burst = Burst::default();
            opened.ports[0].rx(&bench.umem, &mut burst, &mut bench.pool);
            let become_of = |frame: &Frame| match frame.gso {
                Gso::One => 1,
                _ => frame.len().div_ceil(frame.gso_size.into()),
            };
            assert!(burst.as_slice().iter().map(become_of).sum::<usize>() <= 64 + 3);
            (came, bursts) = (came + burst.len(), bursts + usize::from(!burst.is_empty()));
            bench.pool.extend(burst.into_frames());
            opened.ports[0].reclaim(&bench.umem, &mut bench.pool);
        }
        assert!(bursts > 2, "{bursts}");
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

/// The kernel's own pieces of a packet: a device without offloads has it cut them before they are sent.
#[test]
fn pieces_are_those_of_the_kernel_to_the_byte() {
    in_namespace(|| {
        veth("near", "far", 1);
        let out = Command::new("ethtool").args("-K far tx off tso off gso off".split(' ')).output();
        assert!(out.expect("ethtool is installed").status.success());
        let (far, near) = (Wire::on("far"), Wire::on("near"));
        with_headers(&far);
        for (frame, kind, gso, size) in cases(mac("near")) {
            if gso == Gso::One {
                continue;
            }
            let headers = parsed(&frame);
            let segments = Segments::new(&frame, &headers, headers.ttl(), u16::MAX, Some(size));
            let segments = segments.expect("it is to be cut");
            far.send(&several_in_one(&frame, kind, size));
            for index in 0..segments.count() {
                let mut ours = frame[..14].to_vec();
                ours.resize(14 + segments.len(index), 0xee);
                segments.write(index, &mut ours[14..]);
                assert_eq!(near.receive(), ours, "{gso:?} of {size}, number {index}");
            }
            assert!(near.is_empty());
        }
    });
}
