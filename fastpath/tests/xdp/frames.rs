//! Frames through real `AF_XDP` ports on veth: in, out, from one port to another, and none lost on the way.

use margay_fastpath::xdp::{Mode, ModeChoice};
use margay_fastpath::{Burst, Frame, Port};

use crate::bench::{Bench, Wire, in_namespace, ip, mac, udp, veth};

const CHUNKS: u32 = 16384;

fn in_each_mode(test: fn(ModeChoice)) {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        in_namespace(move || test(mode));
    }
}

#[test]
fn frames_come_in_whole_and_in_order() {
    in_each_mode(|mode| {
        veth("near", "far", 1);
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        let mut opened = bench.open("near", mode);
        assert_eq!(opened.mode, if mode == ModeChoice::Skb { Mode::Skb } else { Mode::Native });
        assert!(!opened.is_zero_copy, "veth has no zero-copy mode");
        // Of all lengths, and more than the rings hold at once.
        for round in 0..60u16 {
            let sent: Vec<_> = (0..200)
                .map(|i| udp(mac("near"), round * 200 + i, usize::from((round * 200 + i) % 1473)))
                .collect();
            far.send_all(&sent);
            let frames = bench.receive(&mut opened.ports, sent.len());
            for (frame, sent) in frames.iter().zip(&sent) {
                assert_eq!(bench.umem.bytes(frame), &sent[..]);
                assert_eq!(frame.port, opened.ports[0].id());
            }
            assert_eq!(bench.accounted(&opened.ports) + frames.len(), bench.chunks);
            bench.pool.extend(frames);
        }
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

/// Puts `count` bytes before each frame.
fn push(bench: &Bench, frames: &mut [Frame], count: u32) {
    for frame in frames {
        assert!(bench.umem.push(frame, count).is_some());
        bench.umem.bytes_mut(frame)[..count as usize].fill(0xee);
    }
}

#[test]
fn a_frame_grown_into_its_headroom_goes_out_whole() {
    in_each_mode(|mode| {
        veth("near", "far", 1);
        let (far, mut bench) = (Wire::on("far"), Bench::new(CHUNKS));
        let mut opened = bench.open("near", mode);
        // More in all than the UMEM has frames: what is sent comes back to be received into.
        for round in 0..200u16 {
            let sent: Vec<_> =
                (0..100).map(|i| udp(mac("near"), i, usize::from(round * 7 % 1300 + i))).collect();
            far.send_all(&sent);
            let mut frames = bench.receive(&mut opened.ports, sent.len());
            push(&bench, &mut frames, 50);
            bench.send(&mut opened.ports[0], frames);
            for sent in sent {
                let out = far.receive();
                assert_eq!(out[..50], [0xee; 50]);
                assert_eq!(out[50..], sent);
            }
            assert_eq!(bench.accounted(&opened.ports), bench.chunks);
        }
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn a_frame_moves_between_ports_as_a_descriptor() {
    in_each_mode(|mode| {
        veth("near0", "far0", 1);
        veth("near1", "far1", 1);
        let (far0, far1, mut bench) = (Wire::on("far0"), Wire::on("far1"), Bench::new(CHUNKS));
        let mut from = bench.open("near0", mode);
        let mut to = bench.open("near1", mode);
        for number in 0..300 {
            let sent = udp(mac("near0"), number, 400);
            far0.send(&sent);
            let frames = bench.receive(&mut from.ports, 1);
            let place = bench.umem.bytes(&frames[0]).as_ptr();
            bench.send(&mut to.ports[0], frames);
            assert_eq!(far1.receive(), sent);
            assert!(far0.is_empty());
            // The bytes went out from where they had come in.
            let frame = bench.pool.get().expect("it has come back");
            assert_eq!(place.addr() / 2048, bench.umem.bytes(&frame).as_ptr().addr() / 2048);
            bench.pool.put(frame);
        }
        assert_eq!(bench.accounted(from.ports.iter().chain(&to.ports)), bench.chunks);
        bench.drain(from.ports.iter_mut().chain(&mut to.ports));
        bench.assert_whole();
    });
}

#[test]
fn each_queue_is_a_port() {
    in_each_mode(|mode| {
        veth("near", "far", 2);
        let (far, mut bench) = (Wire::on("far"), Bench::new(2 * CHUNKS));
        let mut opened = bench.open("near", mode);
        assert_eq!(opened.ports.len(), 2);
        // Flows enough for both queues to have some.
        let sent: Vec<_> = (0..256).map(|number| udp(mac("near"), number, 100)).collect();
        far.send_all(&sent);
        let mut frames = bench.receive(&mut opened.ports[..1], 1);
        // In skb mode a veth does not tell its queues apart.
        if mode == ModeChoice::Native {
            frames.extend(bench.receive(&mut opened.ports[1..], 1));
        }
        frames.extend(bench.receive(&mut opened.ports, sent.len() - frames.len()));
        assert_eq!(bench.accounted(&opened.ports) + frames.len(), bench.chunks);
        let mut received: Vec<_> = frames.iter().map(|frame| bench.umem.bytes(frame).to_vec()).collect();
        received.sort_unstable();
        let mut expected = sent.clone();
        expected.sort_unstable();
        assert_eq!(received, expected);
        // And out by the second.
        bench.send(&mut opened.ports[1], frames);
        let mut out: Vec<_> = sent.iter().map(|_| far.receive()).collect();
        out.sort_unstable();
        assert_eq!(out, expected);
        bench.drain(&mut opened.ports);
        bench.assert_whole();
    });
}

#[test]
fn what_a_full_ring_has_no_room_for_stays_in_the_burst() {
    in_namespace(|| {
        veth("near", "far", 1);
        let mut bench = Bench::new(CHUNKS);
        let mut opened = bench.open("near", ModeChoice::Native);
        let port = &mut opened.ports[0];
        // While the device is down the kernel takes nothing out of the ring.
        ip("link set near down");
        let mut burst = Burst::default();
        let mut sent = 0;
        loop {
            for _ in 0..burst.room() {
                let mut frame = bench.pool.get().expect("frames enough");
                assert!(bench.umem.fill(&mut frame, &udp([0xff; 6], 0, 20)));
                burst.push(frame);
            }
            port.tx(&bench.umem, &mut burst);
            sent += burst.room();
            if burst.room() == 0 {
                break;
            }
        }
        assert_eq!(sent, 2048);
        assert_eq!(port.census().tx, 2048);
        assert_eq!(bench.accounted([&*port]) + burst.len(), bench.chunks);
        // Up again, the next burst moves all of them.
        let far = Wire::on("far");
        ip("link set near up");
        bench.pool.extend(burst.drain_front(63));
        let last = burst.drain_front(1).collect();
        bench.send(port, last);
        for _ in 0..2049 {
            far.receive();
        }
        bench.drain([port]);
        bench.assert_whole();
    });
}
