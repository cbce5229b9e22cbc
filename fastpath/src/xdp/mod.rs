//! `AF_XDP`: what a port needs of the kernel before a worker can have it. The XDP program that steers packets to the
//! sockets, the UMEM, and opening and closing ports; `port/xdp.rs` is the port as the worker sees it.
//!
//! Everything here belongs to the control thread, in the network namespace of the devices.

#![allow(unsafe_code)]

mod attach;
mod device;
mod error;
mod examine;
mod features;
pub(crate) mod gso;
mod netdev;
pub(crate) mod program;
pub(crate) mod ring;
pub(crate) mod socket;
mod spec;
mod tags;
mod umem;
mod watch;

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::sync::Arc;

use margay_flowtable::Checksums;

pub use self::error::SetupError;
pub use self::examine::{Attached, Examined, examine};
pub use self::socket::RingSizes;
pub use self::spec::{Mode, ModeChoice, OnFailure, PortSpec, Vlan};
pub use self::tags::Tags;

use self::device::Device;
use self::gso::Told;
use self::program::{ENTERED, PROGRAM, PortEntry, Program, SOCKET_SLOTS, TO_POD, UNSTEERED};
use self::socket::{Socket, Wish};
use self::watch::Way;
use crate::frame::Frame;
use crate::port::Port;
use crate::port::vlan::Tagged;
use crate::port::xdp::XdpPort;
use crate::steer::{Kind, RouteChanges};
use crate::umem::{Layout, Umem};

/// Bytes of an Ethernet header with one VLAN tag: what a frame is longer than the MTU.
const LINK_HEADER: u32 = 18;
/// Bytes of an IPv4 packet at most.
const LONGEST_PACKET: u32 = 65_535;
/// Parts in which the kernel sends a packet at most: `MAX_SKB_FRAGS` by default (`include/linux/skbuff_ref.h`).
const MOST_SLICES: u32 = 17;
/// No fewer bytes than a tunnel's headers are.
const MOST_OUTER: u32 = 128;

/// An open port: one [`XdpPort`] for each queue of its device, in order.
#[derive(Debug)]
pub struct Opened {
    pub device: String,
    pub ports: Vec<XdpPort>,
    pub mode: Mode,
    /// Whether every queue is in zero-copy mode.
    pub is_zero_copy: bool,
    pub takes_checksums: Checksums,
    /// The largest MTU that the device may come to have while the port is open; `None`: any that a port can have.
    pub largest_mtu: Option<u32>,
    /// Of an uplink.
    pub tags: Option<Tags>,
    tells_gso: bool,
    vlan: Option<Vlan>,
}

impl Opened {
    /// The ports as workers have them: of a VLAN, without its tags.
    pub fn into_ports(self) -> Vec<Box<dyn Port>> {
        let boxed = |port: XdpPort| -> Box<dyn Port> {
            match self.vlan {
                Some(vlan) => Box::new(Tagged::new(port, vlan.id)),
                None => Box::new(port),
            }
        };
        self.ports.into_iter().map(boxed).collect()
    }
}

/// A port as this side remembers it.
#[derive(Clone, Debug)]
struct OpenPort {
    device: String,
    entry: PortEntry,
    /// Whether the device took VLAN tags off frames before.
    took_tags_off: bool,
}

/// The XDP program and the UMEM that all ports share.
#[derive(Debug)]
pub struct Xdp {
    program: Program,
    /// The name of the one that ports get.
    attached: &'static str,
    umem: Arc<Umem>,
    is_on_huge_pages: bool,
    /// By ifindex.
    open: BTreeMap<u32, OpenPort>,
}

impl Xdp {
    /// Loads the program and maps the UMEM, whose frames are all in the hands of the caller.
    pub fn load(layout: Layout, vxlan_port: u16) -> Result<(Self, Vec<Frame>), SetupError> {
        let (xdp, frames) = Self::load_for(PROGRAM, layout)?;
        xdp.set_vxlan_port(vxlan_port)?;
        Ok((xdp, frames))
    }

    /// The same without steering: ports take every frame, whatever it is. For load, and to measure this I/O alone.
    pub fn load_unsteered(layout: Layout) -> Result<(Self, Vec<Frame>), SetupError> {
        Self::load_for(UNSTEERED, layout)
    }

    fn load_for(attached: &'static str, layout: Layout) -> Result<(Self, Vec<Frame>), SetupError> {
        let program = Program::load()?;
        let (umem, frames, is_on_huge_pages) = umem::map(layout)?;
        Ok((Self { program, attached, umem, is_on_huge_pages, open: BTreeMap::new() }, frames))
    }

    pub fn umem(&self) -> &Arc<Umem> {
        &self.umem
    }

    /// The largest MTU that a port's device can have.
    pub fn largest_mtu(&self) -> u32 {
        self.longest_frame() - LINK_HEADER
    }

    fn longest_frame(&self) -> u32 {
        longest_frame(self.umem.layout())
    }

    /// Why ports in skb mode do not learn which packets are several in one (GSO), and where to cut these; `None` where they do.
    pub fn untold_gso(&self) -> Option<&str> {
        self.program.untold_gso()
    }

    /// Whether the UMEM lies on huge pages.
    pub fn is_on_huge_pages(&self) -> bool {
        self.is_on_huge_pages
    }

    pub fn set_vxlan_port(&self, port: u16) -> Result<(), SetupError> {
        self.program.set_vxlan_port(port)
    }

    /// Changes the program's prefixes. What fails is tried again with the next changes; the others are made.
    pub fn change_routes(&mut self, changes: RouteChanges) -> Result<(), SetupError> {
        self.program.change_routes(changes)
    }

    /// Has a port take packets to this MAC address, where its device has changed it.
    pub fn set_mac(&mut self, ifindex: u32, mac: [u8; 6]) -> Result<(), SetupError> {
        let Some(port) = self.open.get_mut(&ifindex).filter(|port| port.entry.mac != mac) else {
            return Ok(());
        };
        let entry = PortEntry { mac, ..port.entry };
        self.program.set_port(ifindex, &entry)?;
        // Known as set only now: the next call tries again what failed.
        port.entry = entry;
        Ok(())
    }

    /// Has a port fail otherwise than it was opened to.
    pub fn set_on_failure(&mut self, ifindex: u32, on_failure: OnFailure) -> Result<(), SetupError> {
        let Some(port) = self.open.get_mut(&ifindex).filter(|port| port.entry.on_failure != on_failure)
        else {
            return Ok(());
        };
        let entry = PortEntry { on_failure, ..port.entry };
        self.program.set_port(ifindex, &entry)?;
        port.entry = entry;
        Ok(())
    }

    /// Whether policy is asked about what the pod behind a port sends to the node itself. What the node begins with
    /// the pod reaches it, and its answers the node, in any case.
    pub fn set_policed(&mut self, ifindex: u32, is_policed: bool) -> Result<(), SetupError> {
        let Some(port) = self.open.get_mut(&ifindex).filter(|port| port.entry.is_policed != is_policed)
        else {
            return Ok(());
        };
        if is_policed {
            self.program
                .with_fd(TO_POD, |program| watch::attach(program, ifindex, Way::Sent, &port.device))?;
        }
        let entry = PortEntry { is_policed, ..port.entry };
        self.program.set_port(ifindex, &entry)?;
        port.entry = entry;
        if !is_policed {
            self.program.with_fd(TO_POD, |program| watch::detach(program, ifindex, Way::Sent));
        }
        Ok(())
    }

    /// Watches what enters the kernel at `ifindex`, where it receives what is sent out of the port for the node itself.
    pub fn watch_entrance(&self, ifindex: u32, device: &str) -> Result<(), SetupError> {
        self.program.with_fd(ENTERED, |program| watch::attach(program, ifindex, Way::Received, device))
    }

    /// How many queues a device receives on: as many FILL rings its port would have. Leaves the device as it is.
    pub fn queues(ifindex: u32) -> Result<u32, SetupError> {
        Ok(Device::read(ifindex)?.queues)
    }

    /// Attaches the program to the device and opens a socket on each of its queues. Until a queue's socket stands, and
    /// after it is gone, its packets meet the port's `on_failure`, by which a failed start leaves the port too.
    pub fn open_port(&mut self, spec: &PortSpec) -> Result<Opened, SetupError> {
        let device = Device::read(spec.ifindex)?;
        if self.open.contains_key(&spec.ifindex) {
            return Err(SetupError::Open { device: device.name });
        }
        check_mtu(&device, self.longest_frame())?;
        let entry = PortEntry {
            kind: spec.kind,
            on_failure: spec.on_failure,
            first: self.free_slots(&device)?,
            queues: device.queues,
            mac: spec.vlan.map_or(device.mac, |vlan| vlan.mac),
            is_policed: false,
            tells_gso: false,
            vlan: spec.vlan.map(|vlan| vlan.id),
        };
        // The entry before the program: what arrives in between must not slip past `on_failure`.
        self.program.set_port(spec.ifindex, &entry)?;
        // An uplink that took the frames of other VLANs for untagged ones would be a way between them.
        let tags = (spec.kind == Kind::Uplink).then(|| tags::leave_in_frames(&device));
        let took_tags_off = tags.is_some_and(|(_, took)| took);
        let opened = self.attach_and_open(spec, &device, &entry);
        let opened = opened.map(|opened| Opened { tags: tags.map(|(tags, _)| tags), ..opened });
        if let Ok(opened) = &opened {
            let entry = PortEntry { tells_gso: opened.tells_gso, ..entry };
            self.open.insert(spec.ifindex, OpenPort { device: device.name, entry, took_tags_off });
        } else {
            if took_tags_off {
                tags::take_off(&device.name);
            }
            // The program may be there by now, and the slots are another port's next.
            self.program.set_port(spec.ifindex, &PortEntry { queues: 0, ..entry })?;
        }
        opened
    }

    /// Takes the program off the device: packets go to the kernel again. The port's [`XdpPort`]s are drained before,
    /// for another port may have their places from here on.
    pub fn close_port(&mut self, ifindex: u32) -> Result<(), SetupError> {
        let Some(port) = self.open.remove(&ifindex) else {
            return Ok(());
        };
        if port.entry.is_policed {
            self.program.with_fd(TO_POD, |program| watch::detach(program, ifindex, Way::Sent));
        }
        if port.took_tags_off {
            tags::take_off(&port.device);
        }
        self.program.with_fd(self.attached, |program| attach::detach(program, ifindex, &port.device))?;
        self.program.remove_port(ifindex)
    }

    fn attach_and_open(
        &self,
        spec: &PortSpec,
        device: &Device,
        entry: &PortEntry,
    ) -> Result<Opened, SetupError> {
        let mode = self.program.with_fd(self.attached, |program| {
            attach::attach(program, spec.ifindex, &device.name, spec.mode)
        })?;
        let told = match (mode, self.untold_gso()) {
            (Mode::Skb, _) if self.attached == UNSTEERED => Told::Nothing,
            (Mode::Skb, None) => Told::Before,
            (Mode::Skb, Some(_)) => Told::Nothing,
            (Mode::Native | Mode::Offloaded, _) => Told::Never,
        };
        // Before there are sockets, which otherwise would read what nobody wrote.
        let tells_gso = told == Told::Before;
        self.program.set_port(spec.ifindex, &PortEntry { tells_gso, ..*entry })?;
        let ports = (0..device.queues)
            .map(|queue| self.open_queue(spec, device, (mode, told), entry.first + queue, queue))
            .collect::<Result<Vec<_>, _>>()?;
        let is_zero_copy = ports.iter().all(XdpPort::is_zero_copy);
        let takes_checksums = ports.iter().map(XdpPort::takes_checksums).min().unwrap_or_default();
        let has_metadata = ports.iter().any(|port| port.takes_checksums() != Checksums::None);
        let largest_mtu = has_metadata.then(|| self.largest_mtu_with_metadata());
        Ok(Opened {
            device: device.name.clone(),
            ports,
            mode,
            is_zero_copy,
            takes_checksums,
            largest_mtu,
            tags: None,
            tells_gso,
            vlan: spec.vlan,
        })
    }

    fn open_queue(
        &self,
        spec: &PortSpec,
        device: &Device,
        (mode, told): (Mode, Told),
        index: u32,
        queue: u32,
    ) -> Result<XdpPort, SetupError> {
        // A driver's buffers do not pass through an skb: zero-copy is for native mode.
        let copy_only = !spec.zero_copy || mode != Mode::Native;
        let in_chunk = self.umem.layout().longest_frame();
        let costs_zero_copy = || {
            self.program
                .with_fd(self.attached, |program| features::is_zero_copy_of_one_chunk(program, spec.ifindex))
        };
        let several_chunks = copy_only || device.mtu + LINK_HEADER > in_chunk || !costs_zero_copy();
        let metadata = spec.tx_checksum && self.may_have_metadata(spec.ifindex, device, copy_only);
        let wish = Wish { copy_only, several_chunks, metadata };
        let open = |wish| {
            Socket::open(&self.umem, spec.ifindex, queue, spec.rings, wish).map_err(|refused| {
                SetupError::Socket {
                    device: device.name.clone(),
                    queue,
                    step: refused.step,
                    source: refused.source,
                }
            })
        };
        let mut socket = open(wish)?;
        if metadata && !device.is_veth() && !socket.is_zero_copy() {
            // It has come to copy mode after all, where a NIC has no use for what metadata takes away.
            socket.close();
            socket = open(Wish { metadata: false, ..wish })?;
        }
        if !socket.takes_several_chunks() {
            check_mtu(device, in_chunk)?;
        }
        let slot = self.program.set_socket(index, socket.as_fd())?;
        Ok(XdpPort::new(spec.id, slot, socket, spec.rings.fill, told, self.umem.layout()))
    }

    /// Whether frames that the device sends may have metadata: where that is a veth, or says that it takes it in zero-copy
    /// mode. In copy mode no network header is set in what other drivers are given, which some need to find a checksum.
    fn may_have_metadata(&self, ifindex: u32, device: &Device, copy_only: bool) -> bool {
        let takes_it = || device.is_veth() || !copy_only && features::takes_checksums(ifindex);
        device.mtu <= self.largest_mtu_with_metadata() && takes_it()
    }

    /// With metadata no packet may go on at the start of a chunk: not one that fits, also where it came in a tunnel.
    fn largest_mtu_with_metadata(&self) -> u32 {
        self.umem.layout().longest_frame() - LINK_HEADER - MOST_OUTER
    }

    /// The first free run of slots that is long enough for the queues of the device.
    fn free_slots(&self, device: &Device) -> Result<u32, SetupError> {
        let mut taken: Vec<_> =
            self.open.values().map(|port| (port.entry.first, port.entry.queues)).collect();
        taken.sort_unstable();
        let mut first = 0;
        for (start, queues) in taken {
            if start - first >= device.queues {
                break;
            }
            first = start + queues;
        }
        if first + device.queues <= SOCKET_SLOTS {
            return Ok(first);
        }
        Err(SetupError::TooManyQueues { device: device.name.clone(), queues: device.queues })
    }
}

/// The largest MTU that the device of a port can have, with packet memory of this layout; and the same where a packet has to
/// lie in one chunk, as before Linux 6.6.
pub fn largest_mtus(layout: Layout) -> [u32; 2] {
    [longest_frame(layout), layout.longest_frame()].map(|frame| frame - LINK_HEADER)
}

/// The longest frame that a port receives and sends: of any place in its buffer no more slices are made than the kernel
/// takes.
fn longest_frame(layout: Layout) -> u32 {
    if layout.large_buffers() == 0 {
        return layout.longest_frame();
    }
    let sendable = (MOST_SLICES - 1) * layout.chunk_size;
    sendable.min(LONGEST_PACKET + LINK_HEADER)
}

/// Refuses a device whose frames are longer than this.
fn check_mtu(device: &Device, longest: u32) -> Result<(), SetupError> {
    let (mtu, fitting, frame) = (device.mtu, longest - LINK_HEADER, device.mtu + LINK_HEADER);
    if mtu <= fitting {
        return Ok(());
    }
    Err(SetupError::Mtu { device: device.name.clone(), mtu, frame, longest, fitting })
}
