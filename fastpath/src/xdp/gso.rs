//! What the kernel tells of a packet that was an skb before: whether it is several in one (GSO), and where to cut that. A program
//! of its own (`bpf/gso.bpf.c`) writes it before each packet, where the kernel lets it.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd};

use libbpf_rs::{MapCore, MapFlags, MapHandle, ObjectBuilder, OpenObject};

use super::program::{Aligned, PORTS, SOCKETS};
use crate::frame::Gso;

/// Name in `bpf/gso.bpf.c`.
const PROGRAM: &str = "margay_gso";
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/gso.bpf.o")));

/// What is known of the packets that a port receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// None is several in one.
    Never,
    /// Nothing.
    Nothing,
    /// What stands before each.
    Before,
}

/// Bytes before each packet (`struct told`).
pub(crate) const TOLD_LEN: u32 = 8;

/// Bits of `gso_type` (`include/linux/skbuff.h`), which drivers and their features are bound to.
const TCP: u32 = 1 << 0 | 1 << 4;
/// GRE, IP-in-IP and tunnels over UDP.
const TUNNELS: u32 = 0b11_1111 << 6;
/// One datagram that its sender would have in fragments.
const UFO: u32 = 1 << 16;
const UDP: u32 = 1 << 17;

/// What stands before a packet: how it is several in one, and bytes of payload in each.
pub(crate) fn read(told: [u8; TOLD_LEN as usize]) -> (Gso, u16) {
    let [a, b, c, d, low, high, ..] = told;
    let (kind, size) = (u32::from_ne_bytes([a, b, c, d]), u16::from_ne_bytes([low, high]));
    let has = |bits| kind & bits != 0;
    let gso = if size == 0 {
        Gso::One
    } else if has(TCP) {
        Gso::Tcp
    } else if has(UDP) && has(TUNNELS) {
        Gso::UdpInTunnel
    } else if has(UDP) {
        Gso::Udp
    } else if has(UFO) {
        Gso::One
    } else {
        Gso::Other
    };
    (gso, size)
}

/// Loads the program, which looks ports and sockets up in these maps, and has the program for all ports go on to it by `next`.
pub(super) fn load(ports: &MapHandle, sockets: &MapHandle, next: &MapHandle) -> libbpf_rs::Result<()> {
    let mut open: OpenObject = ObjectBuilder::default().open_memory(&OBJECT.0)?;
    for mut map in open.maps_mut() {
        for (name, shared) in [(PORTS, ports), (SOCKETS, sockets)] {
            if map.name() == OsStr::new(name) {
                map.reuse_fd(shared.as_fd())?;
            }
        }
    }
    let object = open.load()?;
    let program = object.progs().find(|program| program.name() == PROGRAM);
    let program = program.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
    let fd = program.as_fd().as_raw_fd();
    next.update(&0u32.to_ne_bytes(), &fd.to_ne_bytes(), MapFlags::ANY)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: u32, size: u16) -> (Gso, u16) {
        let mut told = [0xff; TOLD_LEN as usize];
        told[..4].copy_from_slice(&kind.to_ne_bytes());
        told[4..6].copy_from_slice(&size.to_ne_bytes());
        read(told)
    }

    #[test]
    fn kinds_are_those_of_linux() {
        let (v4, dodgy, ecn, v6, tunnel, sctp) = (1, 1 << 1, 1 << 2, 1 << 4, 1 << 10, 1 << 14);
        let (ufo, udp, list) = (1 << 16, 1 << 17, 1 << 18);
        for (kind, gso) in [
            (v4, Gso::Tcp),
            (v4 | dodgy | ecn, Gso::Tcp),
            (v6, Gso::Tcp),
            (v4 | tunnel, Gso::Tcp),
            (v6 | 1 << 8, Gso::Tcp),
            (udp, Gso::Udp),
            (udp | dodgy | list, Gso::Udp),
            (udp | tunnel, Gso::UdpInTunnel),
            (udp | 1 << 6 | 1 << 7, Gso::UdpInTunnel),
            (sctp, Gso::Other),
            (ufo, Gso::One),
            (0, Gso::Other),
        ] {
            assert_eq!(told(kind, 1448), (gso, 1448), "{kind:#x}");
            // What was never several, and an acknowledgment of TCP, has a kind and no size.
            assert_eq!(told(kind, 0).0, Gso::One, "{kind:#x}");
        }
    }
}
