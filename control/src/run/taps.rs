//! The taps that workers have, and the names of what they tell.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use margay_fastpath::tap::{TAPS, Tap, TapId};
use margay_fastpath::worker::Command;

use super::dataplane::Dataplane;
use crate::explain::explainer;
use crate::tap::{Asked, Known, Open, PortName};

/// Why there is no tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoTap {
    #[error("{TAPS} captures and traces are under way, which is all that there may be at once: end one")]
    TooMany,
    #[error("worker {0} takes no commands at the moment: try again")]
    Busy(usize),
}

/// Taps that workers hold.
#[derive(Debug, Default)]
pub(super) struct Taps {
    last: u64,
    held: BTreeMap<TapId, Held>,
}

#[derive(Debug)]
struct Held {
    is_stopped: Arc<AtomicBool>,
    /// Workers that have it, and those of them that are to be told to give it back.
    workers: Vec<usize>,
    untold: Vec<usize>,
}

impl Dataplane {
    /// A number for a tap, and how many workers there are to have one each.
    pub(crate) fn number_tap(&mut self) -> Result<(TapId, usize), NoTap> {
        self.collect_taps();
        if self.taps.held.len() >= TAPS {
            return Err(NoTap::TooMany);
        }
        self.taps.last += 1;
        Ok((TapId(self.taps.last), self.workers.count()))
    }

    /// Gives each worker its tap, which are made elsewhere: their memory takes longer than the control loop has.
    pub(crate) fn tap(&mut self, id: TapId, taps: Vec<Tap>) -> Result<Open, NoTap> {
        if self.taps.held.len() >= TAPS {
            return Err(NoTap::TooMany);
        }
        let (mut workers, mut refused) = (Vec::new(), None);
        for ((index, (_, handle)), tap) in self.workers.iter().enumerate().zip(taps) {
            match handle.mailbox.send(Command::Tap(Box::new(tap))) {
                Ok(()) => workers.push(index),
                Err(_) => refused = Some(index),
            }
        }
        let is_stopped = Arc::<AtomicBool>::default();
        let held = Held { is_stopped: Arc::clone(&is_stopped), untold: workers.clone(), workers };
        self.taps.held.insert(id, held);
        match refused {
            None => Ok(Open { is_stopped, table: Arc::clone(&self.table) }),
            Some(worker) => {
                self.untap(id);
                Err(NoTap::Busy(worker))
            }
        }
    }

    /// Has workers give a tap back. True once all have; to be called until then.
    pub(crate) fn untap(&mut self, id: TapId) -> bool {
        if let Some(held) = self.taps.held.get_mut(&id) {
            let handles: Vec<_> = self.workers.iter().map(|(_, handle)| handle).collect();
            held.untold.retain(|worker| handles[*worker].mailbox.send(Command::Untap(id)).is_err());
        }
        self.collect_taps();
        !self.taps.held.contains_key(&id)
    }

    /// Has who reads a tap come to its end. False where there is none of that number.
    pub(crate) fn end_tap(&self, id: TapId) -> bool {
        let held = self.taps.held.get(&id);
        held.inspect(|held| held.is_stopped.store(true, Relaxed)).is_some()
    }

    /// Frees what workers have given back.
    fn collect_taps(&mut self) {
        for (index, (_, handle)) in self.workers.iter().enumerate() {
            while let Some(tap) = handle.mailbox.returned_tap() {
                if let Some(held) = self.taps.held.get_mut(&tap.id()) {
                    held.workers.retain(|worker| *worker != index);
                }
            }
        }
        self.taps.held.retain(|_, held| !held.workers.is_empty());
    }

    /// The names of what taps tell by number.
    pub(crate) fn name(&self, asked: &Asked) -> Known {
        let (snapshot, rules) = (self.publisher.current(), self.compiler.rule_ids());
        let rule = |id: &margay_flowtable::RuleId| (*id, rules.name(*id).map(|name| name.to_string().into()));
        let port = |open: &super::ports::Open| {
            (open.id, PortName { name: open.wanted.name.as_str().into(), mode: Some(open.mode.to_string()) })
        };
        let explain = explainer(&self.compiler, snapshot, &self.identity.node);
        let explained = |tuple: &Option<_>| tuple.as_ref().map(|tuple| Box::new(explain(tuple)));
        Known {
            ports: self.ports.open().map(port).collect(),
            rules: asked.rules.iter().map(rule).collect(),
            explained: asked.tuples.iter().map(explained).collect(),
            vxlan_port: snapshot.local.vxlan_port,
        }
    }
}
