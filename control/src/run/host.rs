//! The way of the pods' packets into this node's own kernel: of which pods policy is asked there, and the port by
//! which what it allows enters. The port's devices are made when the first such pod comes, and stay until the end.

use std::collections::BTreeSet;
use std::path::Path;

use margay_fastpath::xdp::Xdp;
use margay_flowtable::{Adjacency, Entrance, PortId, Rewrite, Snapshot};

use super::ports::Ports;
use crate::compile::is_policed;
use crate::config::{EndpointToHost, Policy};
use crate::kernel::Pair;
use crate::state::Kernel;

/// Whether there has been a pod that needs the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    None,
    /// There is one since the pair was last seen to.
    New,
    Known,
}

#[derive(Debug)]
pub(super) struct HostWay {
    pair: Pair,
    is_closed: bool,
    /// Bytes of the longest packet that a port can have.
    mtu: u32,
    need: Need,
    /// The kernel's end, whose packets are watched.
    watched: Option<u32>,
    /// By which packets enter, as of the snapshot in force.
    adjacency: Option<Adjacency>,
    /// Whether it is certain by now by what packets enter, or that none do.
    is_certain: bool,
    /// Why there is no pair.
    failure: Option<String>,
    /// Ports of pods of which policy cannot be asked, as it has been said.
    unpoliced: BTreeSet<u32>,
}

impl HostWay {
    pub(super) fn new(config: &Policy, settings: &Path, mtu: u32) -> Self {
        Self {
            pair: Pair::new(&config.host_interface_prefix, settings),
            is_closed: config.endpoint_to_host == EndpointToHost::Drop,
            mtu,
            need: Need::None,
            watched: None,
            adjacency: None,
            is_certain: false,
            failure: None,
            unpoliced: BTreeSet::new(),
        }
    }

    /// Whether pods reach nothing of their node that it has not begun.
    pub(super) fn set_closed(&mut self, is_closed: bool) {
        self.is_closed = is_closed;
    }

    /// Margay's end of the pair, where there is to be one.
    pub(super) fn device(&self) -> Option<&str> {
        (self.need == Need::Known).then_some(self.pair.our_end.as_str())
    }

    /// Whether it is needed by now, and [`ensure`](Self::ensure) has not been called since.
    pub(super) fn is_waiting(&self) -> bool {
        self.need == Need::New
    }

    /// Whether something failed that is to be tried again.
    pub(super) fn is_due(&self) -> bool {
        self.failure.is_some()
    }

    /// Sees to it that the pair is there, if it is needed.
    pub(super) async fn ensure(&mut self, kernel: &Kernel) {
        let is_lacking = match self.need {
            Need::None => false,
            Need::New => true,
            Need::Known => self.failure.is_some() || self.ends(kernel).is_none(),
        };
        if is_lacking {
            self.need = Need::Known;
            let made = self.pair.ensure(self.mtu).await;
            self.note(made.map_err(|error| error.to_string()));
        }
    }

    /// Takes in whether the port is open. True where the next snapshot is to be another for that.
    pub(super) fn refresh(&mut self, ports: &Ports, kernel: &Kernel, xdp: &Xdp) -> bool {
        let mut adjacency = None;
        if let (Some(port), Some([kernel_end, our_end])) = (ports.host(), self.ends(kernel)) {
            match self.watch(kernel_end, xdp) {
                Ok(()) => {
                    let [dst_mac, src_mac] = [kernel_end, our_end].map(|end| kernel.links[&end].mac);
                    let mtu = u16::try_from(kernel.links[&our_end].mtu.min(self.mtu)).unwrap_or(u16::MAX);
                    adjacency = Some(Adjacency { port, dst_mac, src_mac, mtu });
                }
                Err(reason) => self.note(Err(reason)),
            }
        }
        let has_failed = self.failure.is_some() || ports.failure(&self.pair.our_end).is_some();
        let is_certain = self.is_closed || adjacency.is_some() || has_failed;
        let is_new = (&self.adjacency, self.is_certain) != (&adjacency, is_certain);
        (self.adjacency, self.is_certain) = (adjacency, is_certain);
        is_new
    }

    fn watch(&mut self, kernel_end: u32, xdp: &Xdp) -> Result<(), String> {
        if self.watched != Some(kernel_end) {
            let watched = xdp.watch_entrance(kernel_end, &self.pair.kernel_end);
            watched.map_err(|error| error.to_string())?;
            self.watched = Some(kernel_end);
        }
        Ok(())
    }

    /// Interface indices of the kernel's end and of ours, where both are up.
    fn ends(&self, kernel: &Kernel) -> Option<[u32; 2]> {
        let index = |name: &str| {
            kernel.links.iter().find(|(_, link)| link.up && link.name == name).map(|(index, _)| *index)
        };
        Some([index(&self.pair.kernel_end)?, index(&self.pair.our_end)?])
    }

    pub(super) fn entrance(&self) -> Entrance {
        match &self.adjacency {
            _ if self.is_closed => Entrance::Closed,
            Some(adjacency) => Entrance::Open(Rewrite::to(adjacency)),
            None => Entrance::None,
        }
    }

    /// Has policy asked about what pods of this node send to it, of those that the snapshot has any for. A pod that
    /// is to be asked about waits until it is certain by what its packets enter.
    pub(super) fn police(
        &mut self,
        ports: impl Iterator<Item = (u32, PortId)>,
        snapshot: &Snapshot,
        xdp: &mut Xdp,
    ) {
        for (ifindex, id) in ports {
            let is_policed = is_policed(snapshot, id);
            if is_policed && !self.is_closed && self.need == Need::None {
                self.need = Need::New;
            }
            if is_policed && !self.is_certain {
                continue;
            }
            match xdp.set_policed(ifindex, is_policed) {
                Ok(()) => drop(self.unpoliced.remove(&ifindex)),
                Err(error) if self.unpoliced.insert(ifindex) => {
                    tracing::error!("policy is not asked about what a pod sends to its node: {error}");
                }
                Err(_) => {}
            }
        }
    }

    /// Removes the pair. Its port is closed before.
    pub(super) async fn close(self) {
        if self.need == Need::Known
            && let Err(error) = self.pair.remove().await
        {
            tracing::warn!("{error}");
        }
    }

    fn note(&mut self, result: Result<(), String>) {
        let failure = result.err();
        if let Some(reason) = failure.as_ref().filter(|reason| self.failure.as_ref() != Some(reason)) {
            tracing::error!("pods that have a policy for packets to their node cannot reach it: {reason}");
        }
        self.failure = failure;
    }
}
