//! The programs in the kernel, and their maps: one of each for all ports.

use std::ffi::OsStr;
use std::mem;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;

use libbpf_rs::{MapCore, MapFlags, MapHandle, Object, ObjectBuilder, OpenObject};

use super::attach::{collect_warnings, explain};
use super::{OnFailure, SetupError, gso};
use crate::steer::{Destination, Kind, RouteChanges};

/// Names in `bpf/margay.bpf.c` and `bpf/port.h`.
pub(super) const PROGRAM: &str = "margay";
pub(super) const UNSTEERED: &str = "margay_all";
pub(super) const TO_POD: &str = "margay_to_pod";
pub(super) const ENTERED: &str = "margay_entered";
pub(super) const SOCKETS: &str = "margay_xsks";
pub(super) const PORTS: &str = "margay_ports";
const LPM4: &str = "margay_lpm4";
const LPM6: &str = "margay_lpm6";
const VXLAN: &str = "margay_vxlan";
const NEXT: &str = "margay_next";

/// `max_entries` of the map of sockets.
pub(super) const SOCKET_SLOTS: u32 = 8192;

/// libbpf reads the object in place, as ELF structs.
#[repr(C, align(8))]
pub(super) struct Aligned<Bytes: ?Sized>(pub(super) Bytes);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/margay.bpf.o")));

/// What the program knows of a port.
#[derive(Clone, Copy, Debug)]
pub(super) struct PortEntry {
    pub(super) kind: Kind,
    pub(super) on_failure: OnFailure,
    /// Where its queues begin in the map of sockets, and how many they are.
    pub(super) first: u32,
    pub(super) queues: u32,
    pub(super) mac: [u8; 6],
    /// Of a pod: whether policy is asked about its packets to the node as well.
    pub(super) is_policed: bool,
    /// Whether its packets are to have said before them which are several in one.
    pub(super) tells_gso: bool,
    /// Of an uplink: the VLAN whose frames are its own, `None` where untagged ones are.
    pub(super) vlan: Option<u16>,
}

/// A socket's place in the map. The kernel would take a socket out when it is closed; but one that a child process has
/// inherited, for as long as that takes to exec, is not closed yet, and would go on to receive.
#[derive(Debug)]
pub(crate) struct Slot {
    sockets: Arc<MapHandle>,
    index: u32,
}

impl Drop for Slot {
    fn drop(&mut self) {
        // It is there, and to delete what is there needs no memory.
        let _ = self.sockets.delete(&self.index.to_ne_bytes());
    }
}

#[derive(Debug)]
pub(super) struct Program {
    object: Object,
    ports: MapHandle,
    sockets: Arc<MapHandle>,
    lpm4: MapHandle,
    lpm6: MapHandle,
    vxlan: MapHandle,
    /// Whether the kernel can tell what is several in one, or why not. The map has that program only while it is open.
    gso: Result<MapHandle, String>,
    /// Changes of prefixes that failed.
    pending: RouteChanges,
}

impl Program {
    pub(super) fn load() -> Result<Self, SetupError> {
        collect_warnings();
        let failed = |error| SetupError::Load { reason: explain(error) };
        let object =
            ObjectBuilder::default().open_memory(&OBJECT.0).and_then(OpenObject::load).map_err(failed)?;
        let map = |name: &'static str| {
            let found = object.maps().find(|map| map.name() == OsStr::new(name));
            let map = found.ok_or_else(|| SetupError::Load { reason: format!("it has no map {name}") })?;
            MapHandle::try_from(&map).map_err(failed)
        };
        let (ports, sockets) = (map(PORTS)?, Arc::new(map(SOCKETS)?));
        let (lpm4, lpm6, vxlan) = (map(LPM4)?, map(LPM6)?, map(VXLAN)?);
        let next = map(NEXT)?;
        let gso = gso::load(&ports, &sockets, &next).map(|()| next).map_err(explain);
        for name in [PROGRAM, UNSTEERED, TO_POD, ENTERED] {
            if object.progs().all(|program| program.name() != name) {
                return Err(SetupError::Load { reason: format!("it has no program {name}") });
            }
        }
        Ok(Self { object, ports, sockets, lpm4, lpm6, vxlan, gso, pending: RouteChanges::new() })
    }

    /// Why ports do not learn which packets are several in one, where they do not.
    pub(super) fn untold_gso(&self) -> Option<&str> {
        self.gso.as_ref().err().map(String::as_str)
    }

    pub(super) fn set_vxlan_port(&self, port: u16) -> Result<(), SetupError> {
        put(&self.vxlan, VXLAN, &0u32.to_ne_bytes(), &u32::from(port).to_ne_bytes())
    }

    /// Makes these changes, and those that failed before: what is to come first, so that none is missing on the way.
    pub(super) fn change_routes(&mut self, changes: RouteChanges) -> Result<(), SetupError> {
        self.pending.extend(changes);
        let (gone, come): (Vec<_>, Vec<_>) =
            mem::take(&mut self.pending).into_iter().partition(|(_, destination)| destination.is_none());
        let mut outcome = Ok(());
        for (prefix, destination) in come.into_iter().chain(gone) {
            let made = match destination {
                Some(destination) => self.put_route(prefix, destination),
                None => self.remove_route(prefix),
            };
            if let Err(error) = made {
                self.pending.insert(prefix, destination);
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    fn put_route(&self, prefix: (IpAddr, u8), destination: Destination) -> Result<(), SetupError> {
        let (map, name, key) = self.route_key(prefix);
        put(map, name, &key, &(destination as u32).to_ne_bytes())
    }

    fn remove_route(&self, prefix: (IpAddr, u8)) -> Result<(), SetupError> {
        let (map, name, key) = self.route_key(prefix);
        match map.delete(&key) {
            // It never came: it failed, and is to go before it was tried again.
            Err(error) if error.kind() == libbpf_rs::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(|error| failed(name, error)),
        }
    }

    /// Map and key (`struct bpf_lpm_trie_key`) of a prefix.
    fn route_key(&self, (address, length): (IpAddr, u8)) -> (&MapHandle, &'static str, Vec<u8>) {
        let mut key = u32::from(length).to_ne_bytes().to_vec();
        match address {
            IpAddr::V4(address) => {
                key.extend(address.octets());
                (&self.lpm4, LPM4, key)
            }
            IpAddr::V6(address) => {
                key.extend(address.octets());
                (&self.lpm6, LPM6, key)
            }
        }
    }

    pub(super) fn set_port(&self, ifindex: u32, port: &PortEntry) -> Result<(), SetupError> {
        let on_failure = match port.on_failure {
            OnFailure::Drop => libbpf_rs::libbpf_sys::XDP_DROP,
            OnFailure::Pass => libbpf_rs::libbpf_sys::XDP_PASS,
        };
        // `struct port` of the program.
        let mut value = Vec::with_capacity(28);
        for word in [port.kind as u32, on_failure, port.first, port.queues] {
            value.extend(word.to_ne_bytes());
        }
        value.extend(port.mac);
        value.extend([port.is_policed, port.tells_gso].map(u8::from));
        for half in [port.vlan.unwrap_or(0), 0] {
            value.extend(half.to_ne_bytes());
        }
        put(&self.ports, PORTS, &ifindex.to_ne_bytes(), &value)
    }

    pub(super) fn remove_port(&self, ifindex: u32) -> Result<(), SetupError> {
        self.ports.delete(&ifindex.to_ne_bytes()).map_err(|error| failed(PORTS, error))
    }

    /// Has the program hand the queue's packets to the socket, as long as the slot is kept.
    pub(super) fn set_socket(&self, index: u32, socket: BorrowedFd<'_>) -> Result<Slot, SetupError> {
        put(&self.sockets, SOCKETS, &index.to_ne_bytes(), &socket.as_raw_fd().to_ne_bytes())?;
        Ok(Slot { sockets: Arc::clone(&self.sockets), index })
    }

    /// Does something with one of the programs, by its name.
    pub(super) fn with_fd<T>(&self, name: &str, use_it: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
        let program = self.object.progs().find(|program| program.name() == name);
        use_it(program.expect("load has found it").as_fd())
    }
}

fn put(map: &MapHandle, name: &'static str, key: &[u8], value: &[u8]) -> Result<(), SetupError> {
    map.update(key, value, MapFlags::ANY).map_err(|error| failed(name, error))
}

fn failed(map: &'static str, error: libbpf_rs::Error) -> SetupError {
    SetupError::Map { map, reason: explain(error) }
}

#[cfg(test)]
mod tests;
