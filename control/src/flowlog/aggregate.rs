//! Flows of an interval, added up to a bound.

use std::collections::HashMap;

use super::flow::{Flow, Key, Sum};
use crate::config::{Aggregate, FlowEvent, FlowLog};

#[derive(Debug)]
pub(super) struct Aggregator {
    sums: HashMap<Key, Sum>,
    by: Aggregate,
    room: usize,
    events: Vec<FlowEvent>,
}

impl Aggregator {
    pub(super) fn new(config: &FlowLog) -> Self {
        let (by, room, events) = (config.aggregate, config.records as usize, config.events.clone());
        Self { sums: HashMap::new(), by, room, events }
    }

    /// Takes a flow in, if anybody wants to know of it. False where there is no room for it.
    pub(super) fn add(&mut self, Flow { mut key, sum }: Flow) -> bool {
        if !self.events.contains(&key.what.event()) {
            return true;
        }
        if self.by == Aggregate::Pods {
            key.sport = None;
        }
        if let Some(known) = self.sums.get_mut(&key) {
            known.add(&sum);
            return true;
        }
        let has_room = self.sums.len() < self.room;
        if has_room {
            self.sums.insert(key, sum);
        }
        has_room
    }

    /// What has been added up, in the order in which it began; the next interval starts from nothing.
    pub(super) fn take(&mut self) -> Vec<Flow> {
        let mut flows: Vec<Flow> = self.sums.drain().map(|(key, sum)| Flow { key, sum }).collect();
        // One burst of flows does not keep its memory for ever.
        self.sums.shrink_to(1024);
        flows.sort_by_key(|flow| flow.sum.first);
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flow, seconds};
    use super::*;
    use crate::flowlog::flow::What;

    fn config(aggregate: Aggregate, records: u32) -> FlowLog {
        FlowLog { aggregate, records, ..FlowLog::default() }
    }

    #[test]
    fn flows_that_differ_in_source_ports_are_one_record_or_each_its_own() {
        for (by, records) in [(Aggregate::Pods, 1), (Aggregate::Flow, 10)] {
            let mut aggregator = Aggregator::new(&config(by, 100));
            for sport in 0..10 {
                let mut one = flow(What::Denial, sport, 80);
                (one.sum.first, one.sum.last) =
                    (seconds(100 + i64::from(sport)), seconds(200 - i64::from(sport)));
                assert!(aggregator.add(one));
            }
            let taken = aggregator.take();
            assert_eq!(taken.len(), records);
            assert_eq!(taken.iter().map(|flow| flow.sum.flows).sum::<u64>(), 10);
            assert_eq!(taken.iter().map(|flow| flow.sum.original.bytes).sum::<u64>(), 1000);
            assert_eq!((taken[0].sum.first, taken[0].sum.last), (seconds(100), seconds(200)));
            assert!(taken.iter().all(|flow| flow.key.sport.is_some() == (by == Aggregate::Flow)));
            assert!(aggregator.take().is_empty());
        }
    }

    #[test]
    fn what_finds_no_room_is_refused_and_what_is_known_goes_on() {
        let mut aggregator = Aggregator::new(&config(Aggregate::Flow, 3));
        let refused = (0..1000).filter(|dport| !aggregator.add(flow(What::Start, 1, *dport))).count();
        assert_eq!(refused, 997);
        assert!(aggregator.add(flow(What::Start, 1, 2)));
        assert_eq!(aggregator.take().len(), 3);
        assert!(aggregator.add(flow(What::Start, 1, 999)), "the next interval has room");
    }

    #[test]
    fn events_that_nobody_wants_take_no_room() {
        let mut aggregator =
            Aggregator::new(&FlowLog { events: vec![FlowEvent::End], ..config(Aggregate::Flow, 1) });
        assert!((0..5).all(|dport| aggregator.add(flow(What::Start, 1, dport))));
        assert!(aggregator.take().is_empty());
    }
}
