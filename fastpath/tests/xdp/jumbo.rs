//! Frames that no chunk holds, through real `AF_XDP` ports on veth.

use margay_fastpath::xdp::{ModeChoice, PortSpec, SetupError};
use margay_fastpath::{Burst, Gso, Port};

use crate::bench::{Bench, Wire, in_namespace, ip, mac, spec, udp, veth};

const CHUNKS: u32 = 16384;
const MTU: u16 = 9000;

fn in_each_mode(test: fn(ModeChoice)) {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        in_namespace(move || test(mode));
    }
}

fn jumbo_veth() {
    veth("near", "far", 1);
    for device in ["near", "far"] {
        ip(&format!("link set {device} mtu {MTU}"));
    }
}

/// Lengths of payload around those at which a frame takes a chunk more, and up to the MTU.
fn payloads() -> impl Iterator<Item = usize> {
    let chunk = 2048 - 256;
    let boundaries = (1..=5).flat_map(move |chunks| {
        let exact = chunks * chunk - 42;
        exact - 2..=exact + 2
    });
    boundaries.chain([18, 1472, usize::from(MTU) - 28])
}

#[test]
fn frames_of_any_length_come_in_whole_and_in_order_and_go_out_grown() {
    in_each_mode(|mode| {
        jumbo_veth();
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        let mut opened = bench.open("near", mode);
        for round in 0..20 {
            let sent: Vec<_> = payloads()
                .zip(0..)
                .map(|(payload, number)| udp(mac("near"), round * 100 + number, payload))
                .collect();
            far.send_all(&sent);
            let mut frames = bench.receive(&mut opened.ports, sent.len());
            for (frame, sent) in frames.iter_mut().zip(&sent) {
                assert_eq!(frame.is_large(), sent.len() > 1792, "{}", sent.len());
                let gso = if mode == ModeChoice::Skb { Gso::One } else { Gso::Never };
                assert_eq!((frame.is_cut, frame.gso), (false, gso));
                assert_eq!(bench.umem.bytes(frame), &sent[..]);
                // As a tunnel's end does, and then its beginning.
                bench.umem.narrow(frame, 20..sent.len());
                assert!(bench.umem.push(frame, 20).is_some());
                bench.umem.bytes_mut(frame)[..20].fill(0xee);
            }
            assert_eq!(bench.accounted(&opened.ports) + frames.len(), bench.chunks);
            bench.send(&mut opened.ports[0], frames);
            for sent in sent {
                let out = far.receive();
                assert_eq!(out[..20], [0xee; 20]);
                assert_eq!(out[20..], sent[20..]);
            }
            assert_eq!(bench.accounted(&opened.ports), bench.chunks);
        }
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn without_a_large_buffer_a_frame_is_cut_and_the_others_are_not() {
    in_each_mode(|mode| {
        jumbo_veth();
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        let mut opened = bench.open("near", mode);
        let kept: Vec<_> = std::iter::from_fn(|| bench.pool.get_large()).collect();
        let sent: Vec<_> = [100, 8000, 100, 8000, 100].map(|payload| udp(mac("near"), 7, payload)).into();
        far.send_all(&sent);
        let frames = bench.receive(&mut opened.ports, sent.len());
        let cut: Vec<_> = frames.iter().map(|frame| frame.is_cut).collect();
        assert_eq!(cut, [false, true, false, true, false]);
        for (frame, sent) in frames.iter().zip(&sent) {
            let len = if frame.is_cut { 1792 } else { sent.len() };
            assert_eq!(bench.umem.bytes(frame), &sent[..len]);
        }
        bench.pool.extend(frames.into_iter().chain(kept));
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn what_a_full_ring_has_no_room_for_waits_whole_and_a_closed_port_gives_all_back() {
    in_namespace(|| {
        jumbo_veth();
        let mut bench = Bench::new(CHUNKS);
        let mut opened = bench.open("near", ModeChoice::Native);
        let port = &mut opened.ports[0];
        // While the device is down the kernel takes nothing out of the ring of 2048.
        ip("link set near down");
        let mut burst = Burst::default();
        for _ in 0..31 {
            for _ in 0..64 {
                let mut frame = bench.pool.get().expect("frames enough");
                assert!(bench.umem.fill(&mut frame, &udp([0xff; 6], 0, 20)));
                burst.push(frame);
            }
            port.tx(&bench.umem, &mut burst);
        }
        // Five slices each, behind a headroom of 256: there are 64 places left.
        for _ in 0..20 {
            let mut frame = bench.pool.get_large().expect("large buffers enough");
            assert!(bench.umem.fill(&mut frame, &udp([0xff; 6], 0, 8900)));
            burst.push(frame);
        }
        port.tx(&bench.umem, &mut burst);
        assert_eq!((burst.len(), port.census().tx), (20 - 12, 31 * 64 + 12));
        assert_eq!(bench.accounted([&*port]) + burst.len(), bench.chunks);
        bench.pool.extend(burst.drain_front(burst.len()));
        bench.drain([port]);
        bench.assert_whole();
    });
}

#[test]
fn a_port_grows_with_its_device() {
    in_each_mode(|mode| {
        veth("near", "far", 1);
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        // One that checksums are left to sends nothing that goes on in another chunk.
        let spec = PortSpec { tx_checksum: false, ..spec("near", mode) };
        let mut opened = bench.xdp.open_port(&spec).expect("the port opens");
        opened.ports[0].reclaim(&bench.umem, &mut bench.pool);
        for device in ["near", "far"] {
            ip(&format!("link set {device} mtu {MTU}"));
        }
        let sent = udp(mac("near"), 1, 8900);
        far.send(&sent);
        let frames = bench.receive(&mut opened.ports, 1);
        assert_eq!(bench.umem.bytes(&frames[0]), &sent[..]);
        bench.send(&mut opened.ports[0], frames);
        assert_eq!(far.receive(), sent);
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn without_large_buffers_a_chunk_is_the_limit() {
    in_namespace(|| {
        jumbo_veth();
        // So few chunks have none beside them.
        let error = Bench::new(63).xdp.open_port(&spec("near", ModeChoice::Best)).expect_err("too long");
        assert!(matches!(error, SetupError::Mtu { longest: 1792, .. }), "{error}");
    });
}
