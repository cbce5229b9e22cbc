//! Ports coming and going: opening what is wanted, closing what is not, and the numbers that ports have meanwhile.
//!
//! A port closes in steps. A snapshot without it is published; every worker lets go of it; its sockets are closed and
//! the XDP program comes off the device; and when no worker can hold a frame for it any more, its number is free.

mod asked;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_fastpath::counters::MAX_PORTS;
use margay_fastpath::pipeline::MAX_UPLINKS;
use margay_fastpath::port::Port;
use margay_fastpath::steer::Kind;
use margay_fastpath::xdp::{Mode, Xdp};
use margay_flowtable::{Checksums, PortId};

use self::asked::{fate, is_same_port, rings, spec, warn_of_hidden_tags, without_interface};
use super::status::Totals;
use super::wanted::Wanted;
use super::workers::{self, Grace, Workers};
use crate::config::{self, Config, OnFailure};
use crate::state::{Kernel, PortBinding};

/// How long to go on opening ports before those that are open are put to use: opening one can take tens of milliseconds.
const OPENING: Duration = Duration::from_millis(200);
/// How long to leave a device alone that could not be opened: each try may attach the program and take it off again.
const AGAIN: Duration = Duration::from_secs(5);
/// Turns in which a worker has surely taken out of its rings what others handed over before.
const TURNS_TO_DRAIN: u64 = 16;

/// In place of a device's index where opening it was not tried, so that it is tried as soon as it can be.
const NO_DEVICE: u32 = 0;

/// A port in use.
#[derive(Debug)]
pub(super) struct Open {
    pub id: PortId,
    pub wanted: Wanted,
    pub mode: Mode,
    pub is_zero_copy: bool,
    pub takes_checksums: Checksums,
    /// The largest MTU that its device may come to have, where that is limited.
    pub largest_mtu: Option<u32>,
    pub queues: usize,
    /// What the counters of this number stood at when the port was opened.
    pub base: Totals,
}

/// A port that workers may still hold.
#[derive(Debug)]
struct Closing {
    id: PortId,
    ifindex: u32,
    on_failure: OnFailure,
    /// Whether the workers have been told.
    is_detached: bool,
    /// Workers that have returned it.
    returned: usize,
    /// Set when the last did.
    grace: Option<Grace>,
}

#[derive(Debug)]
struct Failure {
    ifindex: u32,
    reason: String,
    /// When it was last tried.
    at: Instant,
}

impl Open {
    /// Frames that its FILL rings hold at most.
    pub(super) fn fill_frames(&self, config: &config::Xdp) -> u64 {
        self.queues as u64 * u64::from(rings(config, &self.wanted).fill)
    }
}

#[derive(Debug, Default)]
pub(super) struct Ports {
    /// By interface index.
    open: BTreeMap<u32, Open>,
    closing: Vec<Closing>,
    /// Ports whose device is there and that could not be opened, by the port's name.
    failed: BTreeMap<String, Failure>,
    /// Uplinks that are said to wait for their device.
    missing: BTreeSet<String>,
    /// Whether there are ports to open that the last call left for the next.
    are_waiting: bool,
    /// The open ports, for the compiler.
    bindings: Arc<[PortBinding]>,
}

impl Ports {
    pub(super) fn open(&self) -> impl Iterator<Item = &Open> {
        self.open.values()
    }

    /// Why the port of this name could not be opened.
    pub(super) fn failure(&self, name: &str) -> Option<&str> {
        self.failed.get(name).map(|failure| failure.reason.as_str())
    }

    /// Whether a port that could not be opened is to be tried again.
    pub(super) fn are_due(&self) -> bool {
        self.failed.values().any(|failure| failure.at.elapsed() >= AGAIN)
    }

    /// Whether [`open_wanted`](Self::open_wanted) has more to do at once.
    pub(super) fn are_waiting(&self) -> bool {
        self.are_waiting
    }

    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// The open ports, for the compiler: the same allocation as long as they are the same.
    pub(super) fn bindings(&self) -> &Arc<[PortBinding]> {
        &self.bindings
    }

    fn bind(&mut self) {
        let binding = |(ifindex, open): (&u32, &Open)| PortBinding {
            id: open.id,
            name: open.wanted.name.clone(),
            // Open ports of a VLAN have an interface: without one they are retired.
            ifindex: open.wanted.interface().unwrap_or(*ifindex),
            pod: open.wanted.pod.clone(),
            takes_checksums: open.takes_checksums,
        };
        // Nothing is routed to the port for the kernel: packets take it where their route says that they are for here.
        let routed = self.open.iter().filter(|(_, open)| open.wanted.kind != Kind::Host);
        let bindings: Arc<[PortBinding]> = routed.map(binding).collect();
        if self.bindings != bindings {
            self.bindings = bindings;
        }
    }

    /// The open port for the node's own kernel.
    pub(super) fn host(&self) -> Option<PortId> {
        self.open().find(|open| open.wanted.kind == Kind::Host).map(|open| open.id)
    }

    /// The open ports of pods: interface index and number.
    pub(super) fn pods(&self) -> impl Iterator<Item = (u32, PortId)> {
        let pods = self.open.iter().filter(|(_, open)| open.wanted.kind == Kind::Pod);
        pods.map(|(ifindex, open)| (*ifindex, open.id))
    }

    /// Interface index of each open port's device, and of the interface that has its addresses.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = (u32, u32)> {
        self.open.iter().filter_map(|(ifindex, open)| Some((*ifindex, open.wanted.interface()?)))
    }

    /// The largest MTU that this interface may come to have while its port is open, where that is limited.
    pub(super) fn largest_mtu(&self, interface: u32) -> Option<u32> {
        self.open.values().find(|open| open.wanted.interface() == Some(interface))?.largest_mtu
    }

    /// Frames that the FILL rings of the open ports hold at most.
    pub(super) fn fill_total(&self, config: &config::Xdp) -> u64 {
        self.open().map(|open| open.fill_frames(config)).sum()
    }

    /// Takes the ports out of use that are not wanted any more, or whose device or interface is gone. Workers still have them until
    /// [`detach_retired`](Self::detach_retired), once a snapshot without them is published.
    pub(super) fn retire_unwanted(&mut self, wanted: &[Wanted], kernel: &Kernel) {
        let has_place = wanted.iter().filter(|wanted| wanted.interface().is_some());
        let now: BTreeMap<u32, &Wanted> = has_place.filter_map(|w| Some((w.ifindex?, w))).collect();
        self.open.retain(|ifindex, open| {
            let wanted = now.get(ifindex).filter(|_| kernel.links.contains_key(ifindex));
            if let Some(wanted) = wanted.filter(|wanted| is_same_port(wanted, &open.wanted)) {
                open.wanted = (*wanted).clone();
                return true;
            }
            tracing::info!(port = open.wanted.name, device = open.wanted.device, "port closing");
            self.closing.push(Closing {
                id: open.id,
                ifindex: *ifindex,
                on_failure: open.wanted.on_failure,
                is_detached: false,
                returned: 0,
                grace: None,
            });
            false
        });
        self.bind();
    }

    /// Has the open ports fail as they are to by now.
    pub(super) fn set_fates(&self, xdp: &mut Xdp) {
        for (ifindex, open) in &self.open {
            if let Err(error) = xdp.set_on_failure(*ifindex, fate(open.wanted.on_failure)) {
                tracing::error!("{} fails as it was configured before: {error}", open.wanted.name);
            }
        }
    }

    /// Has the workers let go of the ports that no published snapshot has any more.
    pub(super) async fn detach_retired(&mut self, workers: &mut Workers) -> Result<(), workers::Error> {
        for closing in self.closing.iter_mut().filter(|closing| !closing.is_detached) {
            closing.is_detached = true;
            workers.detach(closing.id).await?;
        }
        Ok(())
    }

    /// Opens ports that are wanted, whose device is there and up, and that are not open, in their order, as many as may
    /// be [`OPENING`]. Where one fails the others go on; it is tried again after [`AGAIN`].
    ///
    /// A device that goes down keeps its port: attaching a program makes some drivers reset their link.
    pub(super) async fn open_wanted(
        &mut self,
        wanted: &[Wanted],
        config: &Config,
        kernel: &Kernel,
        xdp: &mut Xdp,
        workers: &mut Workers,
    ) -> Result<(), workers::Error> {
        self.failed.retain(|name, _| wanted.iter().any(|wanted| wanted.name == *name));
        self.are_waiting = false;
        let begin = Instant::now();
        for wanted in wanted {
            let up = wanted.ifindex.filter(|index| kernel.links.get(index).is_some_and(|link| link.up));
            let Some(ifindex) = wanted.ifindex.filter(|index| self.open.contains_key(index)).or(up) else {
                self.failed.remove(&wanted.name);
                self.note_missing(wanted);
                continue;
            };
            self.missing.remove(&wanted.name);
            let Some(interface) = wanted.interface().and_then(|index| kernel.links.get(&index)) else {
                self.note_failure(wanted, NO_DEVICE, without_interface(wanted));
                continue;
            };
            let is_closing = self.closing.iter().any(|closing| closing.ifindex == ifindex);
            let failed = self.failed.get(&wanted.name);
            let is_too_soon = failed.is_some_and(|f| f.ifindex == ifindex && f.at.elapsed() < AGAIN);
            if self.open.contains_key(&ifindex) || is_closing || is_too_soon {
                continue;
            }
            if begin.elapsed() > OPENING {
                self.are_waiting = true;
                break;
            }
            match self.open_one(wanted, ifindex, interface.mac, config, xdp) {
                Ok((open, queues)) => {
                    self.failed.remove(&wanted.name);
                    let base = Totals::of(open.id, workers);
                    workers.attach(open.id, queues).await?;
                    self.open.insert(ifindex, Open { base, ..open });
                    self.bind();
                }
                Err(reason) => self.note_failure(wanted, ifindex, reason),
            }
        }
        Ok(())
    }

    fn open_one(
        &self,
        wanted: &Wanted,
        ifindex: u32,
        mac: [u8; 6],
        config: &Config,
        xdp: &mut Xdp,
    ) -> Result<(Open, Vec<Box<dyn Port>>), String> {
        let id = self.free_id(wanted.pod.is_none()).ok_or_else(|| {
            let others = MAX_PORTS - MAX_UPLINKS;
            format!("there are {MAX_UPLINKS} uplinks already, or {others} other ports")
        })?;
        let spec = spec(id, ifindex, wanted, mac, &config.xdp);
        // Before the device is touched: a program that came and went would drop its packets at each try.
        let queues = Xdp::queues(ifindex).map_err(|error| error.to_string())?;
        let fill = self.fill_total(&config.xdp) + u64::from(queues) * u64::from(spec.rings.fill);
        if fill > u64::from(config.umem.frames) {
            return Err(format!(
                "with its {queues} queues the FILL rings of all ports would hold {fill} frames, and the UMEM has {}: \
                 raise umem.frames, or lower xdp.uplink_rx or xdp.pod_rx",
                config.umem.frames
            ));
        }
        let opened = xdp.open_port(&spec).map_err(|error| error.to_string())?;
        let queues = opened.ports.len();
        tracing::info!(
            port = wanted.name,
            device = wanted.device,
            number = id.0,
            mode = %opened.mode,
            zero_copy = opened.is_zero_copy,
            takes_checksums = ?opened.takes_checksums,
            queues,
            fill_frames = queues as u64 * u64::from(spec.rings.fill),
            vlan = wanted.vlan.as_ref().map(|vlan| vlan.id),
            on_failure = ?wanted.on_failure,
            "port open"
        );
        warn_of_hidden_tags(wanted, opened.tags);
        let open = Open {
            id,
            wanted: wanted.clone(),
            mode: opened.mode,
            is_zero_copy: opened.is_zero_copy,
            takes_checksums: opened.takes_checksums,
            largest_mtu: opened.largest_mtu,
            queues,
            base: Totals::default(),
        };
        Ok((open, opened.into_ports()))
    }

    /// Logs once that an uplink is not there. Pods' devices come after their objects all the time.
    fn note_missing(&mut self, wanted: &Wanted) {
        if wanted.kind == Kind::Uplink && self.missing.insert(wanted.name.clone()) {
            tracing::warn!(
                port = wanted.name,
                device = wanted.device,
                "the port waits for its device to be up"
            );
        }
    }

    /// Logs a failure when it is new: the port is tried again and again.
    fn note_failure(&mut self, wanted: &Wanted, ifindex: u32, reason: String) {
        if self.failure(&wanted.name) != Some(&reason) {
            tracing::error!(port = wanted.name, "cannot open the port: {reason}");
        }
        self.failed.insert(wanted.name.clone(), Failure { ifindex, reason, at: Instant::now() });
    }

    /// The low numbers are uplinks': a flow has room for one of those.
    fn free_id(&self, is_uplink: bool) -> Option<PortId> {
        let numbers = if is_uplink { 0..MAX_UPLINKS } else { MAX_UPLINKS..MAX_PORTS };
        let open = self.open.values().map(|open| open.id);
        let taken: BTreeSet<PortId> = open.chain(self.closing.iter().map(|closing| closing.id)).collect();
        numbers.map(|number| PortId(number as u16)).find(|id| !taken.contains(id))
    }

    /// Carries closing ports on as far as the workers are. True when one is done: its device can be opened anew.
    pub(super) fn advance(&mut self, xdp: &mut Xdp, workers: &mut Workers) -> bool {
        for id in workers.returned() {
            let Some(closing) = self.closing.iter_mut().find(|closing| closing.id == id) else { continue };
            closing.returned += 1;
            if closing.returned == workers.count() {
                closing.grace = Some(workers.grace());
                if let Err(error) = xdp.close_port(closing.ifindex) {
                    tracing::warn!("cannot close the port: {error}");
                }
            }
        }
        let before = self.closing.len();
        self.closing.retain(|closing| {
            !closing.grace.as_ref().is_some_and(|grace| workers.has_passed(grace, TURNS_TO_DRAIN))
        });
        self.closing.len() < before
    }

    /// Takes the program off the devices whose packets are to pass to the kernel while no Margay runs. The others keep
    /// it: with no socket behind it, it drops.
    pub(super) fn leave(&self, xdp: &mut Xdp) {
        let open = self.open.iter().map(|(ifindex, open)| (*ifindex, open.wanted.on_failure));
        let closing = self.closing.iter().map(|closing| (closing.ifindex, closing.on_failure));
        for (ifindex, _) in open.chain(closing).filter(|(_, fate)| *fate == OnFailure::Pass) {
            if let Err(error) = xdp.close_port(ifindex) {
                tracing::warn!("cannot leave the port to the kernel: {error}");
            }
        }
    }
}
