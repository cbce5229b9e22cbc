//! What becomes of connections, for who keeps records of them: which begin, which a change of policy ends, and what policy
//! denies. A bounded queue for each worker, which waits for nobody: what finds no room is counted. Nothing is written
//! before somebody asks for it. (Connections that expire or make room are told of by the flow table, for any worker comes
//! to their end: [`FlowTable::ended`](margay_flowtable::FlowTable::ended).)
//!
//! Denials come at the rate of a sender that does not listen. So a worker adds up those of one sender to one port by one
//! rule, in a few places, and passes them on once in a quarter of a second, or when others want the place: who makes each
//! of its packets another to escape that fills the queue, and costs a worker no more than finding it full.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crossbeam::queue::ArrayQueue;
use margay_flowtable::{EndedFlow, FlowCounts, PolicyType, RuleId, TrailId, Tuple};

use crate::counters::Counter;
use crate::pipeline::DENIED;

/// Events that wait for who asked for them.
const WAITING: usize = 4096;
/// Denials that are added up at once.
const PLACES: usize = 64;
/// How long they are, in milliseconds.
const HELD: u64 = 250;

/// Times are of the worker's clock, in milliseconds. What went the other way is told by `tuple` as the first packet was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A connection came into the flow table, or one that policy had ended goes on.
    Started {
        tuple: Tuple,
        trails: [TrailId; 2],
        at: u64,
    },
    /// A change of policy ended it. The rule that denies is the last of its direction's trail.
    Cut {
        tuple: Tuple,
        trails: [TrailId; 2],
        counts: Option<FlowCounts>,
        at: u64,
    },
    Denied(Denied),
}

/// First packets that policy denied: of one sender, to one port of one receiver, by one rule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Denied {
    /// The last one's.
    pub tuple: Tuple,
    /// [`RuleId::NONE`] where a part of policy was missing.
    pub rule: RuleId,
    /// Whose policy it was: the sender's (egress) or the receiver's.
    pub direction: PolicyType,
    pub packets: u64,
    pub bytes: u64,
    pub first: u64,
    pub last: u64,
}

impl Denied {
    fn is_like(&self, other: &Self) -> bool {
        let alike = |denied: &Self| (Tuple { sport: 0, ..denied.tuple }, denied.rule, denied.direction);
        alike(self) == alike(other)
    }

    fn place(&self) -> usize {
        let mut hasher = DefaultHasher::new();
        let Tuple { src, dst, protocol, dport, .. } = self.tuple;
        (src, dst, protocol, dport, self.rule).hash(&mut hasher);
        hasher.finish() as usize % PLACES
    }
}

/// Whether a change of policy had ended it before: then [`Event::Cut`] has told of it.
pub fn was_cut(ended: &EndedFlow) -> bool {
    ended.next_hop == DENIED
}

/// A worker's events on their way to who asked for them.
#[derive(Debug)]
pub struct Events {
    is_wanted: AtomicBool,
    waiting: ArrayQueue<Event>,
    /// Events that found no room; of denials the packets that they stand for.
    pub lost: Counter,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            is_wanted: AtomicBool::new(false),
            waiting: ArrayQueue::new(WAITING),
            lost: Counter::default(),
        }
    }
}

impl Events {
    /// Has the worker tell of what happens from now on.
    pub fn want(&self) {
        self.is_wanted.store(true, Relaxed);
    }

    #[inline]
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.load(Relaxed)
    }

    /// Takes what waits, the oldest first, but no more than a queue holds: a worker that goes on and on does not keep who
    /// asks.
    pub fn take(&self) -> impl Iterator<Item = Event> {
        std::iter::from_fn(|| self.waiting.pop()).take(WAITING)
    }

    pub(crate) fn tell(&self, event: Event) {
        if self.waiting.push(event).is_err() {
            self.lost.add(if let Event::Denied(denied) = event { denied.packets } else { 1 });
        }
    }
}

/// Denials of a worker that it has not passed on.
#[derive(Debug)]
pub(crate) struct Denials {
    places: Box<[Option<Denied>; PLACES]>,
    held: usize,
    passed_on: u64,
}

impl Default for Denials {
    fn default() -> Self {
        Self { places: Box::new([None; PLACES]), held: 0, passed_on: 0 }
    }
}

impl Denials {
    pub(crate) fn add(&mut self, denied: Denied, events: &Events) {
        let place = &mut self.places[denied.place()];
        if let Some(held) = place.as_mut().filter(|held| held.is_like(&denied)) {
            held.tuple = denied.tuple;
            held.packets += denied.packets;
            held.bytes += denied.bytes;
            held.last = denied.last;
            return;
        }
        match place.replace(denied) {
            Some(before) => events.tell(Event::Denied(before)),
            None => self.held += 1,
        }
    }

    /// Passes on what has been held for long enough.
    #[inline]
    pub(crate) fn settle(&mut self, now: u64, events: &Events) {
        if self.held > 0 && now.wrapping_sub(self.passed_on) >= HELD {
            self.passed_on = now;
            self.held = 0;
            self.places
                .iter_mut()
                .filter_map(Option::take)
                .for_each(|denied| events.tell(Event::Denied(denied)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn denied(src: u32, sport: u16, dport: u16, at: u64) -> Denied {
        let [src, dst] = [src, 7].map(|address| Ipv4Addr::from_bits(address).into());
        let tuple = Tuple { src, dst, protocol: 6, sport, dport, icmp: None };
        let (rule, direction) = (RuleId(3), PolicyType::Ingress);
        Denied { tuple, rule, direction, packets: 1, bytes: 60, first: at, last: at }
    }

    fn told(events: &Events) -> Vec<Denied> {
        let denial = |event| if let Event::Denied(denied) = event { Some(denied) } else { None };
        events.take().filter_map(denial).collect()
    }

    #[test]
    fn denials_of_one_kind_are_added_up_and_passed_on_in_time() {
        let (mut denials, events) = (Denials::default(), Events::default());
        for n in 0..1000 {
            denials.add(denied(1, n, 80, 1000 + u64::from(n) / 10), &events);
        }
        denials.settle(10, &events);
        assert!(told(&events).is_empty(), "not yet");
        denials.settle(1100, &events);
        let sum = Denied { packets: 1000, bytes: 60_000, last: 1099, ..denied(1, 999, 80, 1000) };
        assert_eq!(told(&events), [sum]);
        denials.settle(5000, &events);
        assert!(told(&events).is_empty());
    }

    #[test]
    fn a_flood_of_many_kinds_fills_the_queue_and_what_is_beyond_is_counted() {
        let (mut denials, events) = (Denials::default(), Events::default());
        let flood = 3 * WAITING as u32;
        for n in 0..flood {
            denials.add(denied(n, 1, 80, 0), &events);
        }
        denials.settle(HELD, &events);
        let packets: u64 = told(&events).iter().map(|denied| denied.packets).sum();
        assert_eq!(packets, WAITING as u64);
        assert_eq!(packets + events.lost.get(), u64::from(flood));
    }

    #[test]
    fn what_is_alike_but_for_its_rule_or_port_stays_apart() {
        let (mut denials, events) = (Denials::default(), Events::default());
        let other_rule = Denied { rule: RuleId(4), ..denied(1, 1, 80, 0) };
        let other_way = Denied { direction: PolicyType::Egress, ..denied(1, 1, 80, 0) };
        for each in [denied(1, 1, 80, 0), denied(1, 1, 81, 0), denied(2, 1, 80, 0), other_rule, other_way] {
            denials.add(each, &events);
            denials.add(each, &events);
        }
        denials.settle(HELD, &events);
        let mut packets: Vec<u64> = told(&events).iter().map(|denied| denied.packets).collect();
        packets.sort_unstable();
        assert_eq!(packets, [2; 5]);
    }
}
