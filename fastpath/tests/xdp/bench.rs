//! A network namespace of a test's own with veth pairs in it, packet sockets on their far ends, and a UMEM with its
//! pool on this side. The namespace has no name: it is gone, devices and all, when the test's thread is.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_fastpath::steer::{Destination, Kind};
use margay_fastpath::xdp::{ModeChoice, Opened, PortSpec, Xdp};
use margay_fastpath::{Burst, Frame, FramePool, Layout, Port, Umem};
use margay_flowtable::PortId;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nametoindex;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendmsg, setsockopt,
    socket,
};

/// When a test stops waiting for what should long have come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs the test in a namespace of its own, if it may make one.
pub(crate) fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: network namespaces take root");
        return;
    }
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a namespace");
        ip("link set lo up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

pub(crate) fn ip(arguments: &str) {
    let out = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2 is installed");
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}

/// What `ethtool` says of a feature of the device.
pub(crate) fn feature(device: &str, name: &str) -> String {
    let out = Command::new("ethtool").args(["-k", device]).output().expect("ethtool is installed");
    let features = String::from_utf8(out.stdout).expect("text");
    let line = features.lines().find_map(|line| line.trim().strip_prefix(name)?.strip_prefix(": "));
    line.expect("a feature of this name").to_owned()
}

/// A pair of devices that are up and silent: the one a port is opened on, and the far one.
pub(crate) fn veth(near: &str, far: &str, queues: u32) {
    let queues = format!("numrxqueues {queues} numtxqueues {queues}");
    ip(&format!("link add {near} {queues} type veth peer name {far} {queues}"));
    for device in [near, far] {
        ip(&format!("link set {device} addrgenmode none"));
        ip(&format!("link set {device} up"));
    }
}

pub(crate) fn mac(device: &str) -> [u8; 6] {
    link_addr(device).addr().expect("an Ethernet device")
}

fn link_addr(device: &str) -> LinkAddr {
    getifaddrs()
        .expect("addresses")
        .filter(|found| found.interface_name == device)
        .find_map(|found| found.address?.as_link_addr().copied())
        .expect("a device")
}

/// What enters and leaves a device, seen from the kernel.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: OwnedFd,
}

impl Wire {
    pub(crate) fn on(device: &str) -> Self {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)
                .expect("a packet socket");
        // Room for all that a test sends before it looks.
        setsockopt(&socket, RcvBufForce, &(64 << 20)).expect("a buffer");
        bind(socket.as_raw_fd(), &link_addr(device)).expect("a device to bind to");
        Self { socket }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent =
            sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(frame)], &[], MsgFlags::empty(), None);
        assert_eq!(sent, Ok(frame.len()));
    }

    pub(crate) fn send_all(&self, frames: &[Vec<u8>]) {
        for frame in frames {
            self.send(frame);
        }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next frame.
    pub(crate) fn receive(&self) -> Vec<u8> {
        let mut ready = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(PATIENCE).expect("it fits");
        assert_eq!(poll(&mut ready, patience), Ok(1), "no frame came");
        let mut frame = vec![0; 1 << 17];
        let len = recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()).expect("a frame");
        frame.truncate(len);
        frame
    }

    /// Whether no frame waits.
    pub(crate) fn is_empty(&self) -> bool {
        recv(self.socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK)
            == Err(Errno::EAGAIN)
    }
}

/// An Ethernet frame to `mac` with a UDP packet to 10.244.0.0/16, which is Margay's, of `payload` bytes. `number` makes
/// it unlike the others and, as a port, its flow.
pub(crate) fn udp(mac: [u8; 6], number: u16, payload: usize) -> Vec<u8> {
    let mut frame = [&mac[..], &[2, 0, 0, 0, 0, 9], &[0x08, 0x00], &[0; 28]].concat();
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&(28 + payload as u16).to_be_bytes());
    frame[22] = 64;
    frame[23] = 17;
    frame[26..30].copy_from_slice(&Ipv4Addr::new(10, 244, 1, 1).octets());
    frame[30..34].copy_from_slice(&Ipv4Addr::new(10, 244, 2, 2).octets());
    frame[34..36].copy_from_slice(&number.to_be_bytes());
    frame[36..38].copy_from_slice(&80u16.to_be_bytes());
    frame[38..40].copy_from_slice(&(8 + payload as u16).to_be_bytes());
    frame.extend((0..payload).map(|i| (i as u16 ^ number) as u8));
    frame
}

/// A frame that the program always passes to the kernel.
pub(crate) fn marker(mac: [u8; 6]) -> Vec<u8> {
    let mut frame = udp(mac, 0, 18);
    frame[12..14].copy_from_slice(&0x88b5u16.to_be_bytes());
    frame
}

/// The program, the UMEM, and a worker's pool that holds all of its frames at first.
#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) xdp: Xdp,
    pub(crate) umem: Arc<Umem>,
    pub(crate) pool: FramePool,
    pub(crate) chunks: usize,
    pub(crate) large: usize,
}

impl Bench {
    pub(crate) fn new(chunks: u32) -> Self {
        let (mut xdp, frames) =
            Xdp::load(Layout { chunk_size: 2048, chunks }, 4789).expect("the program loads");
        let block = (Ipv4Addr::new(10, 244, 0, 0).into(), 16);
        xdp.change_routes([(block, Some(Destination::Owned))].into()).expect("routes");
        Self::of(xdp, frames)
    }

    /// Of ports that take every frame.
    pub(crate) fn unsteered(chunks: u32) -> Self {
        let (xdp, frames) =
            Xdp::load_unsteered(Layout { chunk_size: 2048, chunks }).expect("the program loads");
        Self::of(xdp, frames)
    }

    fn of(xdp: Xdp, frames: Vec<Frame>) -> Self {
        let chunks = xdp.umem().layout().chunks;
        let mut pool = FramePool::with_capacity(frames.len());
        pool.extend(frames);
        let umem = Arc::clone(xdp.umem());
        let large = pool.large();
        Self { xdp, umem, pool, chunks: chunks as usize, large }
    }

    /// Opens an uplink port and gives it frames to receive into.
    pub(crate) fn open(&mut self, device: &str, mode: ModeChoice) -> Opened {
        self.open_as(&spec(device, mode))
    }

    pub(crate) fn open_as(&mut self, spec: &PortSpec) -> Opened {
        let mut opened = self.xdp.open_port(spec).expect("the port opens");
        for port in &mut opened.ports {
            port.reclaim(&self.umem, &mut self.pool);
        }
        opened
    }

    /// Receives `count` frames by any of the ports.
    pub(crate) fn receive(&mut self, ports: &mut [impl Port], count: usize) -> Vec<Frame> {
        let deadline = Instant::now() + PATIENCE;
        let mut frames = Vec::new();
        let mut burst = Burst::default();
        while frames.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} frames came", frames.len());
            for port in &mut *ports {
                port.rx(&self.umem, &mut burst, &mut self.pool);
                frames.extend(burst.drain_front(burst.len()));
                port.reclaim(&self.umem, &mut self.pool);
            }
        }
        frames
    }

    /// Sends the frames, and waits until the kernel has taken all of them.
    pub(crate) fn send(&mut self, port: &mut impl Port, frames: Vec<Frame>) {
        let deadline = Instant::now() + PATIENCE;
        let mut frames = frames.into_iter();
        let mut burst = Burst::default();
        loop {
            for frame in frames.by_ref().take(burst.room()) {
                burst.push(frame);
            }
            if burst.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "the TX ring stays full");
            port.tx(&self.umem, &mut burst);
            port.reclaim(&self.umem, &mut self.pool);
        }
    }

    /// Frames in the pool or with one of the ports, the number of large buffers taken off: `chunks`, if these are all.
    pub(crate) fn accounted<'a>(&self, ports: impl IntoIterator<Item = &'a (impl Port + 'a)>) -> usize {
        self.pool.len() + self.pool.large() - self.large
            + ports.into_iter().map(|port| port.census().total()).sum::<usize>()
    }

    /// Takes the ports' frames back and closes the sockets.
    pub(crate) fn drain<'a>(&mut self, ports: impl IntoIterator<Item = &'a mut (impl Port + 'a)>) {
        for port in ports {
            assert_eq!(port.drain(&self.umem, &mut self.pool), 0);
            assert_eq!(port.census().total(), 0);
        }
    }

    /// Checks that every chunk and large buffer of the UMEM is in the pool, once.
    pub(crate) fn assert_whole(&mut self) {
        assert_eq!((self.pool.len(), self.pool.large()), (self.chunks, self.large));
        let pool = &mut self.pool;
        let mut frames: Vec<_> = std::iter::from_fn(|| pool.get().or_else(|| pool.get_large())).collect();
        let mut places = BTreeSet::new();
        for frame in &mut frames {
            assert!(self.umem.fill(frame, b"x"));
            places.insert(self.umem.bytes(frame).as_ptr().addr());
        }
        assert_eq!(places.len(), frames.len(), "a chunk stands in the pool twice");
        self.pool.extend(frames);
    }
}

pub(crate) fn ifindex(device: &str) -> u32 {
    if_nametoindex(device).expect("a device")
}

pub(crate) fn spec(device: &str, mode: ModeChoice) -> PortSpec {
    let ifindex = ifindex(device);
    PortSpec { mode, ..PortSpec::new(PortId(ifindex as u16), ifindex, Kind::Uplink) }
}
