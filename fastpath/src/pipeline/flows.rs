//! The third pass: the flow of a packet, its conntrack state, and where its verdict sends it.
//!
//! A hit that was judged under this snapshot has its next hop in the entry. A hit from an older one is confirmed if no
//! change since touched its ends, else judged again; only a miss asks policy in full.

use std::sync::Arc;

use margay_encap::Headers;
use margay_encap::tcp::flags::{ACK, FIN, RST, SYN};
use margay_encap::{icmp, icmp6};
use margay_flowtable::conntrack::{CtStatus, Direction};
use margay_flowtable::table::{FlowAction, FlowTable, Hit, Insert, Judged};
use margay_flowtable::{FlowKey, FlowRef, Key, NextHopId, Snapshot, TrailId, Verdict};

use super::Turn;
use super::host;
use super::ingress::{Input, own_key};
use super::judge::{Judge, allows};
use super::lane::{Keys, Lane};
use super::martian::{check_destination, check_source};
use super::mid_flow::{Admission, MidFlow};
use super::rewrite::entrance;
use super::routes::{DENIED, NO_ROUTE, TO_HOST, action, action_by, is_host, next_hop, owner, route_word};
use crate::counters::{Counters, RuleRun};
use crate::drop::DropReason;

#[derive(Debug)]
pub(super) struct Flows {
    table: Arc<FlowTable>,
    pub(super) judge: Judge,
    pub(super) mid_flow: MidFlow,
    /// Packets of the burst that their trails have not counted.
    run: RuleRun,
}

/// A connection as the snapshot in force has it.
#[derive(Clone, Copy)]
struct Standing {
    /// The next hop, `NO_ROUTE` or `DENIED`.
    word: u32,
    trails: [TrailId; 2],
    flow: FlowRef,
    /// The entry was made anew, by this packet.
    is_anew: bool,
}

/// By whom a connection was put into the table.
#[derive(Clone, Copy)]
enum Entered {
    /// By this packet.
    Anew,
    /// By another, in whose connection this one goes that way.
    Before(Direction),
}

impl Entered {
    fn way(self) -> Direction {
        match self {
            Self::Anew => Direction::Original,
            Self::Before(way) => way,
        }
    }
}

impl Flows {
    pub(super) fn new(table: Arc<FlowTable>, counters: Arc<Counters>) -> Self {
        let judge = Judge::new(Arc::clone(&table), counters);
        Self { table, judge, mid_flow: MidFlow::default(), run: RuleRun::default() }
    }

    /// Has trails count what they have not counted of a burst.
    pub(super) fn settle(&self) {
        self.run.settle(&self.judge.counters.rules);
    }

    pub(super) fn table(&self) -> &FlowTable {
        &self.table
    }

    /// Where the packet goes, or why it ends here.
    #[inline(always)]
    pub(super) fn decide(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
    ) -> Result<NextHopId, DropReason> {
        let hit = self.table.fetch(&lane.query, turn.snapshot.generation);
        match self.go_on(input, lane, hit) {
            Some(next_hop) => Ok(next_hop),
            None => self.decide_any(turn, input, lane, &keys4(lane)),
        }
    }

    /// The same for a packet whose query is not its key: of IPv6, or an ICMP error.
    #[inline(never)]
    pub(super) fn decide_keyed(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        keys: &Keys,
    ) -> Result<NextHopId, DropReason> {
        let generation = turn.snapshot.generation;
        let own = (!lane.is_related()).then_some(&keys.flow);
        let hit = own.and_then(|key| self.table.fetch_key(&lane.query, key, generation));
        match self.go_on(input, lane, hit) {
            Some(next_hop) => Ok(next_hop),
            None => self.decide_any(turn, input, lane, keys),
        }
    }

    /// Where the packet goes if its flow stands, this snapshot has judged it, and there is no more to do for it.
    #[inline(always)]
    fn go_on(&self, input: &Input<'_>, lane: &Lane, hit: Option<Hit>) -> Option<NextHopId> {
        let hit = hit?;
        let goes_on = hit.is_current
            && hit.action.next_hop < DENIED
            && hit.action.flags & input.apart == 0
            && self.table.observe(&hit, lane.headers.tcp_flags(), input.now) == CtStatus::Tracked;
        if !goes_on {
            return None;
        }
        let bytes = lane.headers.total_len();
        self.table.count(&hit, bytes);
        self.run.count(&self.judge.counters.rules, hit.trails, bytes);
        Some(NextHopId(hit.action.next_hop))
    }

    /// The same for every packet.
    #[inline(never)]
    fn decide_any<K: Key>(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        keys: &Keys<K>,
    ) -> Result<NextHopId, DropReason> {
        let query = &lane.query;
        let Some(hit) = self.table.lookup(&keys.flow, query.hash(), turn.snapshot.generation) else {
            return self.miss(turn, input, lane, keys);
        };
        let hit = &hit;
        let snapshot = turn.snapshot;
        // Before anything that the packet could change. (The key of an ICMP error is not its own.)
        if hit.action.flags & input.forged != 0 && !lane.is_related() {
            return Err(DropReason::SourceSpoofed);
        }
        let (flow, trails) = (hit.flow, hit.trails.ids());
        let current = Standing { word: hit.action.next_hop, trails, flow, is_anew: false };
        let standing = if hit.is_current { Some(current) } else { self.confirm(turn, lane, keys, hit)? };
        let Some(Standing { word, trails, flow, is_anew }) = standing else {
            return self.miss(turn, input, lane, keys);
        };
        let bytes = lane.headers.total_len();
        if word == DENIED {
            return self.denied(turn, input, lane, keys, hit, trails);
        }
        if !input.is_pod() && is_host(snapshot, word) {
            return Err(DropReason::HostBound);
        }
        if lane.is_related() {
            check_source(snapshot, input, &keys.own)?;
            let out = next_hop(snapshot, input, route_word(snapshot, keys.own.dst()))?;
            self.judge.count(trails, bytes);
            return Ok(out);
        }
        let status = if is_anew {
            CtStatus::Tracked
        } else {
            self.table.observe(hit, lane.headers.tcp_flags(), input.now)
        };
        match status {
            CtStatus::Tracked if word == NO_ROUTE => Err(DropReason::NoRoute),
            CtStatus::Tracked => {
                self.judge.count(trails, bytes);
                self.table.count_way(flow, hit.direction, bytes);
                if hit.action.flags & TO_HOST != 0 {
                    self.note_answer(hit, lane.headers.tcp_flags(), input.now);
                }
                Ok(NextHopId(word))
            }
            CtStatus::Reopen | CtStatus::Gone => {
                self.table.remove(hit.flow);
                self.miss(turn, input, lane, keys)
            }
        }
    }

    /// Steps conntrack by what the kernel has sent to have the pod send a TCP packet with these flags: the answer to
    /// its SYN, and, for the kernel's own FIN is not seen, one to its FIN.
    fn note_answer(&self, hit: &Hit, tcp_flags: u8, now: u32) {
        if tcp_flags & (SYN | RST | ACK) == ACK {
            let answer = Hit { direction: hit.direction.reversed(), ..*hit };
            self.table.observe(&answer, SYN | ACK | tcp_flags & FIN, now);
        }
    }

    /// How a hit stands that an older snapshot judged: the connection's verdict holds if no change touched it since, else
    /// it is judged again. `None` if the connection has gone meanwhile.
    fn confirm<K: Key>(
        &self,
        turn: &Turn<'_>,
        lane: &Lane,
        keys: &Keys<K>,
        hit: &Hit,
    ) -> Result<Option<Standing>, DropReason> {
        let (snapshot, key) = (turn.snapshot, &keys.flow);
        // What has been silent for so many changes is judged again, for nobody knows which of them it has missed.
        let is_known = snapshot.generation.wrapping_sub(hit.action.generation).cast_signed()
            < FlowAction::OLDEST.cast_signed();
        let was_denied = hit.action.next_hop == DENIED;
        let word = route_word(snapshot, key.dst());
        let is_as_entered = is_host(snapshot, word) == (hit.action.flags & TO_HOST != 0);
        let trails = hit.trails.ids();
        // A trail of an era that is over is to be made anew.
        let is_counted = snapshot.trails.covers(hit.action.generation) || !trails.iter().any(|t| t.is_cell());
        if is_known
            && is_as_entered
            && is_counted
            && snapshot.epochs.is_current(key.src(), key.dst(), hit.action.generation)
            && host::is_current(snapshot, key, hit)
        {
            let word = if was_denied { DENIED } else { word };
            self.table.set_action(hit, word, snapshot.generation);
            return Ok(Some(Standing { word, trails, flow: hit.flow, is_anew: false }));
        }
        let original = match hit.direction {
            Direction::Original => *key,
            Direction::Reply => key.reversed(),
        };
        if !host::is_decidable(snapshot, original.dst()) {
            entrance(snapshot, snapshot.fib.lookup(original.dst()).ok_or(DropReason::NoRoute)?)?;
        }
        self.judge.counters.flows_reclassified.add(1);
        let (entry, icmp) = (host::entry_of(hit), first_icmp(lane, hit.direction));
        let (verdict, trails) = self.judge.again(snapshot, entry, &original, icmp, was_denied, trails);
        let actions = [original, original.reversed()].map(|key| match verdict {
            Verdict::Allow => action(snapshot, &key, entry),
            Verdict::Deny => FlowAction { next_hop: DENIED, ..action(snapshot, &key, entry) },
        });
        let judged = Judged { actions, trails };
        let is_anew = !self.table.renew(hit.flow, judged);
        let mut flow = hit.flow;
        if is_anew {
            if self.table.original_key(hit.flow).is_none() {
                return Ok(None);
            }
            // An end has moved to or from this node, which is fixed in an entry: it is made anew, the way it was.
            self.table.remove(hit.flow);
            (flow, _) = self.enter(snapshot, &original, lane.query.hash(), judged, ACK, turn.now)?;
        }
        match verdict {
            Verdict::Allow if is_anew || was_denied => self.judge.tell_started(turn, &original, icmp, trails),
            Verdict::Deny if !was_denied && !is_anew => {
                self.judge.tell_cut(turn, flow, &original, icmp, trails);
            }
            _ => {}
        }
        let word = if verdict == Verdict::Allow { word } else { DENIED };
        Ok(Some(Standing { word, trails, flow, is_anew }))
    }

    /// A packet of a connection that a change of policy has ended. The entry stays until it expires, so that what the
    /// other end still sends does not come to life as a connection of its own; only a new handshake that policy allows
    /// takes its place.
    fn denied<K: Key>(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        keys: &Keys<K>,
        hit: &Hit,
        trails: [TrailId; 2],
    ) -> Result<NextHopId, DropReason> {
        let is_handshake = !lane.is_related() && lane.headers.tcp_flags() & (SYN | ACK) == SYN;
        if !is_handshake || !allows(turn.snapshot, host::entry(input, lane), &keys.own) {
            self.judge.count(trails, lane.headers.total_len());
            return Err(DropReason::PolicyDeny);
        }
        self.table.remove(hit.flow);
        self.miss(turn, input, lane, keys)
    }

    /// No flow yet: judges the first packet and enters the connection.
    #[cold]
    fn miss<K: Key>(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        keys: &Keys<K>,
    ) -> Result<NextHopId, DropReason> {
        // An ICMP error without its flow is a packet of its own to policy, and no connection.
        let (snapshot, key) = (turn.snapshot, &keys.own);
        check_source(snapshot, input, key)?;
        check_destination(key.dst())?;
        let admission = self.mid_flow.admit(key.protocol(), lane.headers.tcp_flags(), turn.now);
        if admission == Admission::Refuse {
            return Err(DropReason::NoConnection);
        }
        let bytes = lane.headers.total_len();
        let entry = host::entry(input, lane);
        let word = route_word(snapshot, key.dst());
        let icmp = own_icmp(&lane.headers);
        let admitted = self.judge.first(turn, Some(entry), key, word, icmp, bytes)?;
        let out = next_hop(snapshot, input, word)?;
        if snapshot.next_hops.rewrite(out.0).is_none() {
            // A connection that cannot leave is not entered into the table.
            entrance(snapshot, out)?;
        }
        // A connection begins with a packet's first fragment, or not at all.
        let enters = admission == Admission::Enter && !lane.is_related() && !lane.headers.is_later_fragment();
        if enters {
            let actions = [action_by(snapshot, key, word, entry), action(snapshot, &key.reversed(), entry)];
            let judged = Judged { actions, trails: admitted.trails };
            let flags = lane.headers.tcp_flags();
            let (flow, entered) = self.enter(snapshot, key, lane.query.hash(), judged, flags, turn.now)?;
            if let Entered::Anew = entered {
                self.judge.count_flow(&admitted);
                self.judge.tell_started(turn, key, icmp, admitted.trails);
            }
            self.table.count_way(flow, entered.way(), bytes);
        }
        self.judge.count_first(&admitted, bytes);
        Ok(out)
    }

    /// The next hop of a packet that the host endpoint of where it came in takes out of connection tracking; `None`: it is to be
    /// tracked. Who else has a say about it is asked each time.
    pub(super) fn untracked(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        key: &impl Key,
    ) -> Result<Option<NextHopId>, DropReason> {
        let snapshot = turn.snapshot;
        let (icmp, bytes) = (own_icmp(&lane.headers), lane.headers.total_len());
        if !self.judge.untracked(turn, host::entry(input, lane), key, icmp, bytes)? {
            return Ok(None);
        }
        check_source(snapshot, input, key)?;
        check_destination(key.dst())?;
        let word = route_word(snapshot, key.dst());
        let admitted = self.judge.first(turn, None, key, word, icmp, bytes)?;
        let out = next_hop(snapshot, input, word)?;
        self.judge.count_first(&admitted, bytes);
        Ok(Some(out))
    }

    /// Puts a connection into the table, as its first packet with these flags makes it, unless it stands there.
    fn enter(
        &self,
        snapshot: &Snapshot,
        key: &impl Key,
        hash: u64,
        judged: Judged,
        tcp_flags: u8,
        now: u64,
    ) -> Result<(FlowRef, Entered), DropReason> {
        match self.table.insert(key, hash, judged, owner(snapshot, key), tcp_flags, seconds(now)) {
            Insert::New(hit) => {
                self.judge.counters.flows_inserted.add(1);
                Ok((hit.flow, Entered::Anew))
            }
            // Another worker entered it since the lookup, from the same snapshot or a neighbour of it.
            Insert::Exists(hit) => Ok((hit.flow, Entered::Before(hit.direction))),
            Insert::Full => Err(DropReason::FlowTableFull),
            Insert::ShareSpent => Err(DropReason::EndpointShare),
        }
    }
}

pub(super) fn seconds(now: u64) -> u32 {
    (now / 1000) as u32
}

/// The keys of a packet of IPv4.
#[inline]
pub(super) fn keys4(lane: &Lane) -> Keys<FlowKey> {
    Keys { own: own_key(&lane.headers), flow: lane.query.key() }
}

fn own_icmp(headers: &Headers) -> (u8, u8) {
    (headers.icmp_type(), headers.icmp_code())
}

/// Type and code of the packet that opened the connection of this one, if it is ICMP. An entry does not hold them: they
/// are this packet's, or those of the request that it answers or, being an error, most likely quotes.
fn first_icmp(lane: &Lane, direction: Direction) -> (u8, u8) {
    let is_ipv6 = lane.headers.is_ipv6();
    if lane.is_related() {
        return (if is_ipv6 { icmp6::kind::ECHO_REQUEST } else { icmp::kind::ECHO_REQUEST }, 0);
    }
    let (own, code) = own_icmp(&lane.headers);
    let request_of = if is_ipv6 { icmp6::request_of } else { icmp::request_of };
    match direction {
        Direction::Original => (own, code),
        Direction::Reply => (request_of(own).unwrap_or(own), 0),
    }
}
