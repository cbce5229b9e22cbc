//! What the control thread tells the thread that writes flow logs.

use margay_fastpath::events::Event;
use margay_flowtable::EndedFlow;

use super::dataplane::Dataplane;
use super::workers::Workers;
use crate::clock;
use crate::flowlog::names::{Names, Now};
use crate::flowlog::{FlowLog, Status};

/// Connections that have ended and wait until they are told of.
pub(super) const ENDS: usize = 1 << 14;

/// Has workers tell what becomes of connections, if somebody wants to know.
pub(super) fn listen(workers: &Workers, log: Option<&FlowLog>) {
    if log.is_some() {
        workers.iter().for_each(|(_, handle)| handle.counters.events.want());
    }
}

impl Dataplane {
    /// Passes on what has become of connections since.
    pub(super) fn tell_flows(&mut self) {
        let Some(log) = &self.flow_log else { return };
        let snapshot = self.publisher.current();
        self.node_names.refresh(&snapshot.policies.nodes, &self.compiler);
        let names = Names {
            compiler: &self.compiler,
            nodes: &self.node_names,
            trails: self.table.trails(),
            counted: self.config.policy.rules,
            now: Now { wall: clock::wall(), elapsed: self.started.elapsed() },
        };
        // Ends first, so that the beginning of each of these has been told by now too; and written after it.
        let ended: Vec<EndedFlow> = self.table.ended().collect();
        let events = self.workers.iter().flat_map(|(_, handle)| handle.counters.events.take());
        let flows = events.map(|event: Event| names.flow(&event));
        log.tell(flows.chain(ended.iter().filter_map(|ended| names.ended(ended))).collect());
    }

    pub(super) fn flow_log_status(&self) -> Option<Status> {
        let workers = self.workers.iter().map(|(_, handle)| handle.counters.events.lost.get()).sum();
        self.flow_log.as_ref().map(|log| log.status(workers, self.table.ends_lost()))
    }
}
