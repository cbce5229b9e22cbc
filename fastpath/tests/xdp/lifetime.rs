//! Ports that come and go: what becomes of packets without a socket, of programs of others, of frames in a device that
//! vanishes.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libbpf_rs::libbpf_sys;
use margay_fastpath::xdp::{Mode, ModeChoice, OnFailure, PortSpec, SetupError};
use margay_fastpath::{Burst, Port};

use crate::bench::{Bench, Wire, ifindex, in_namespace, ip, mac, marker, spec, udp, veth};

const CHUNKS: u32 = 16384;

/// Sends UDP packets that are Margay's from the far end and says how many of them reach the kernel.
fn reach_kernel(far: &Wire, near: &Wire) -> usize {
    let mac = mac("near");
    for number in 0..10 {
        far.send(&udp(mac, number, 64));
    }
    far.send(&marker(mac));
    let mut count = 0;
    loop {
        match near.receive()[12..14] {
            [0x08, 0x00] => count += 1,
            [0x88, 0xb5] => return count,
            ref other => panic!("ethertype {other:02x?}"),
        }
    }
}

#[test]
fn a_port_without_a_socket_fails_as_configured() {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        for (on_failure, expected) in [(OnFailure::Pass, 10), (OnFailure::Drop, 0)] {
            in_namespace(move || {
                veth("near", "far", 1);
                let (far, near) = (Wire::on("far"), Wire::on("near"));
                let mut bench = Bench::new(CHUNKS);
                let spec = PortSpec { on_failure, ..spec("near", mode) };
                let mut opened = bench.xdp.open_port(&spec).expect("the port opens");
                opened.ports[0].reclaim(&bench.umem, &mut bench.pool);
                assert_eq!(reach_kernel(&far, &near), 0, "the socket takes them");
                bench.drain(&mut opened.ports);
                assert_eq!(reach_kernel(&far, &near), expected, "{on_failure:?}");
                // As when the process dies: nothing of it is left but what the device holds.
                drop(bench);
                assert_eq!(reach_kernel(&far, &near), expected, "{on_failure:?} after the process");
            });
        }
    }
}

#[test]
fn an_unsteered_port_takes_every_frame() {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        in_namespace(move || {
            veth("near", "far", 1);
            let far = Wire::on("far");
            let mut bench = Bench::unsteered(CHUNKS);
            let mut opened = bench.open("near", mode);
            let elsewhere = [2, 0, 0, 0, 0, 7];
            let sent = [marker(mac("near")), udp(mac("near"), 1, 64), udp(elsewhere, 2, 64)];
            far.send_all(&sent);
            let frames = bench.receive(&mut opened.ports, sent.len());
            for (frame, sent) in frames.iter().zip(&sent) {
                assert_eq!(bench.umem.bytes(frame), &sent[..]);
            }
            bench.pool.extend(frames);
            bench.drain(&mut opened.ports);
            drop(bench);
            // A program that was left behind gives way to the one that steers.
            let mut bench = Bench::new(CHUNKS);
            let mut opened = bench.open("near", mode);
            assert_eq!(reach_kernel(&far, &Wire::on("near")), 0);
            bench.drain(&mut opened.ports);
            bench.xdp.close_port(ifindex("near")).expect("it closes");
        });
    }
}

#[test]
fn a_descriptor_that_a_child_has_inherited_receives_nothing() {
    in_namespace(|| {
        veth("near", "far", 1);
        let (far, near) = (Wire::on("far"), Wire::on("near"));
        let mut bench = Bench::new(CHUNKS);
        let mut opened = bench.open("near", ModeChoice::Native);
        let inherited = opened.ports[0].fd().expect("a socket").try_clone_to_owned().expect("a descriptor");
        bench.drain(&mut opened.ports);
        assert_eq!(reach_kernel(&far, &near), 10);
        bench.assert_whole();
        drop(inherited);
    });
}

#[test]
fn a_closed_port_is_the_kernels_again() {
    in_namespace(|| {
        veth("near", "far", 1);
        let (far, near) = (Wire::on("far"), Wire::on("near"));
        let mut bench = Bench::new(CHUNKS);
        let spec = PortSpec { on_failure: OnFailure::Drop, ..spec("near", ModeChoice::Best) };
        // Open again at once, too.
        for _ in 0..3 {
            let mut opened = bench.xdp.open_port(&spec).expect("the port opens");
            opened.ports[0].reclaim(&bench.umem, &mut bench.pool);
            assert_eq!(reach_kernel(&far, &near), 0);
            bench.drain(&mut opened.ports);
            bench.xdp.close_port(spec.ifindex).expect("the port closes");
            assert_eq!(reach_kernel(&far, &near), 10);
        }
        bench.assert_whole();
    });
}

#[test]
fn a_start_replaces_a_program_of_its_own() {
    in_namespace(|| {
        veth("near", "far", 1);
        let far = Wire::on("far");
        // The mode of the one that is there stays, unless another is asked for.
        let starts = [
            (ModeChoice::Best, Mode::Native),
            (ModeChoice::Best, Mode::Native),
            (ModeChoice::Skb, Mode::Skb),
            (ModeChoice::Best, Mode::Skb),
            (ModeChoice::Native, Mode::Native),
        ];
        for (choice, expected) in starts {
            let mut bench = Bench::new(CHUNKS);
            let mut opened = bench.open("near", choice);
            assert_eq!(opened.mode, expected);
            far.send(&udp(mac("near"), 1, 64));
            let frames = bench.receive(&mut opened.ports, 1);
            bench.pool.extend(frames);
            bench.drain(&mut opened.ports);
        }
    });
}

/// A program that passes everything, loaded under this name.
fn foreign_program(name: &std::ffi::CStr) -> OwnedFd {
    let mov_r0_pass = libbpf_sys::bpf_insn { code: 0xb7, imm: 2, ..Default::default() };
    let exit = libbpf_sys::bpf_insn { code: 0x95, ..Default::default() };
    let program = [mov_r0_pass, exit];
    // SAFETY: the strings end in NUL, the instructions are as many as said, and no options are asked for.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            libbpf_sys::BPF_PROG_TYPE_XDP,
            name.as_ptr(),
            c"GPL".as_ptr(),
            program.as_ptr(),
            program.len() as u64,
            std::ptr::null_mut(),
        )
    };
    assert!(fd >= 0, "{}", io::Error::last_os_error());
    // SAFETY: the kernel has just made this descriptor, for us alone.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[test]
fn another_ones_program_is_left_alone() {
    // One that only has the name is another's as well.
    for name in [c"someone", c"margay"] {
        in_namespace(move || {
            veth("near", "far", 1);
            let program = foreign_program(name);
            let index = ifindex("near").cast_signed();
            // SAFETY: the descriptor is open and no options are asked for.
            let attached = unsafe {
                libbpf_sys::bpf_xdp_attach(
                    index,
                    program.as_raw_fd(),
                    libbpf_sys::XDP_FLAGS_SKB_MODE,
                    std::ptr::null(),
                )
            };
            assert_eq!(attached, 0);
            let mut bench = Bench::new(CHUNKS);
            let refused = bench.xdp.open_port(&spec("near", ModeChoice::Best)).expect_err("it is taken");
            assert!(matches!(refused, SetupError::Foreign { mode: Mode::Skb, .. }), "{refused:?}");
            let said = refused.to_string();
            assert!(said.contains(name.to_str().expect("ASCII")), "{said}");
            assert!(said.contains("ip link set dev near xdpgeneric off"), "{said}");
            // What it says helps.
            ip("link set dev near xdpgeneric off");
            let mut opened = bench.open("near", ModeChoice::Best);
            bench.drain(&mut opened.ports);
        });
    }
}

#[test]
fn a_device_that_vanishes_leaves_all_frames_behind() {
    for mode in [ModeChoice::Native, ModeChoice::Skb] {
        in_namespace(move || {
            veth("near0", "far0", 2);
            veth("near1", "far1", 1);
            let mut bench = Bench::new(2 * CHUNKS);
            let mut gone = bench.open("near0", mode);
            let mut stays = bench.open("near1", mode);
            // Frames in every place: in FILL and RX rings, and in a TX ring that is never looked at again.
            let far = Wire::on("far0");
            (0..100).for_each(|number| far.send(&udp(mac("near0"), number, 64)));
            let received = bench.receive(&mut gone.ports, 50);
            ip("link set near0 down");
            let mut burst = Burst::default();
            let mut received = received.into_iter();
            received.by_ref().take(50).for_each(|frame| burst.push(frame));
            bench.pool.extend(received);
            gone.ports[0].tx(&bench.umem, &mut burst);
            assert!(burst.is_empty());
            ip("link del near0");
            // A worker goes on using the port until it hears of it.
            for port in &mut gone.ports {
                port.tx(&bench.umem, &mut burst);
                port.reclaim(&bench.umem, &mut bench.pool);
            }
            assert_eq!(bench.accounted(gone.ports.iter().chain(&stays.ports)), bench.chunks);
            bench.drain(&mut gone.ports);
            bench.xdp.close_port(u32::from(gone.ports[0].id().0)).expect("nothing is left to close");
            // The first port of the UMEM is gone: others still open.
            veth("near2", "far2", 1);
            let mut new = bench.open("near2", mode);
            let far2 = Wire::on("far2");
            far2.send(&udp(mac("near2"), 7, 64));
            let frames = bench.receive(&mut new.ports, 1);
            bench.send(&mut stays.ports[0], frames);
            bench.drain(stays.ports.iter_mut().chain(&mut new.ports));
            bench.assert_whole();
        });
    }
}

#[test]
fn errors_say_what_where_and_how_to_mend_it() {
    in_namespace(|| {
        veth("near", "far", 1);
        let mut bench = Bench::new(CHUNKS);
        ip("link set near mtu 40000");
        let error = bench.xdp.open_port(&spec("near", ModeChoice::Best)).expect_err("frames do not fit");
        assert_eq!(
            error.to_string(),
            "near: its MTU 40000 makes frames of up to 40018 bytes, and it can take 32768; \
             larger chunks or `ip link set dev near mtu 32750` mend that"
        );
        ip("link set near mtu 32750");
        let opened = bench.open("near", ModeChoice::Best);
        assert!(matches!(
            bench.xdp.open_port(&spec("near", ModeChoice::Best)),
            Err(SetupError::Open { device }) if device == "near"
        ));
        // A second gateway beside the first.
        let error = Bench::new(64).xdp.open_port(&spec("near", ModeChoice::Best)).expect_err("it is held");
        let said = error.to_string();
        assert!(said.starts_with("near queue 0: cannot bind the AF_XDP socket: "), "{said}");
        assert!(said.contains("ss --xdp -ap"), "{said}");
        drop(opened);
        let gone = PortSpec { ifindex: 4242, ..spec("near", ModeChoice::Best) };
        let error = bench.xdp.open_port(&gone).expect_err("there is no such device");
        assert!(error.to_string().starts_with("no device has the index 4242: "), "{error}");
    });
}

#[test]
fn a_device_that_takes_no_native_program_says_why() {
    in_namespace(|| {
        // A veth that receives on fewer queues than its peer sends on takes no native program.
        ip("link add near numrxqueues 1 numtxqueues 1 type veth peer name far numrxqueues 2 numtxqueues 2");
        for device in ["near", "far"] {
            ip(&format!("link set {device} up"));
        }
        let mut bench = Bench::new(CHUNKS);
        let error =
            bench.xdp.open_port(&spec("near", ModeChoice::Native)).expect_err("the queues do not fit");
        let said = error.to_string();
        assert!(said.starts_with("near: the XDP program cannot be attached: native mode: "), "{said}");
        assert!(said.contains("queues"), "the kernel's own words: {said}");
        let mut opened = bench.open("near", ModeChoice::Best);
        assert_eq!(opened.mode, Mode::Skb);
        bench.drain(&mut opened.ports);
    });
}
