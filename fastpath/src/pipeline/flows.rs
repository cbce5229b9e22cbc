//! The third pass: the flow of a packet, its conntrack state, and where its verdict sends it.
//!
//! A hit that was judged under this snapshot has its next hop in the entry. A hit from an older one is confirmed if no
//! change since touched its ends, else judged again; only a miss asks policy in full.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_encap::Headers;
use margay_encap::tcp::flags::{ACK, SYN};
use margay_flowtable::conntrack::{CtStatus, Direction};
use margay_flowtable::key::FlowKey;
use margay_flowtable::table::{FlowAction, FlowTable, Hit, Insert, Query};
use margay_flowtable::{NextHopId, Snapshot, Tuple, Verdict, classify};

use super::Turn;
use super::ingress::{Input, own_key};
use super::lane::Lane;
use super::mid_flow::{Admission, MidFlow};
use super::rewrite::why_not;
use crate::counters::Counters;
use crate::drop::DropReason;

/// Next hop of a half whose destination has no route in the snapshot that it was judged under.
const NO_ROUTE: u32 = FlowAction::NEXT_HOPS - 1;
/// Next hop of both halves of a connection that a change of policy has ended. What is below it is a next hop.
const DENIED: u32 = FlowAction::NEXT_HOPS - 2;

#[derive(Debug)]
pub(super) struct Flows {
    table: Arc<FlowTable>,
    counters: Arc<Counters>,
    pub(super) mid_flow: MidFlow,
}

impl Flows {
    pub(super) fn new(table: Arc<FlowTable>, counters: Arc<Counters>) -> Self {
        Self { table, counters, mid_flow: MidFlow::default() }
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
        if let Some(hit) = self.table.fetch(&lane.query, turn.snapshot.generation)
            && hit.is_current
            && hit.action.next_hop < DENIED
            && hit.action.flags & input.forged == 0
            && self.table.observe(&hit, lane.headers.tcp_flags(), input.now) == CtStatus::Tracked
        {
            return Ok(NextHopId(hit.action.next_hop));
        }
        self.decide_any(turn, input, lane)
    }

    /// The same for every packet.
    #[inline(never)]
    pub(super) fn decide_any(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
    ) -> Result<NextHopId, DropReason> {
        let query = &lane.query;
        let Some(hit) = self.table.lookup(&query.key(), query.hash(), turn.snapshot.generation) else {
            return self.miss(turn, input, lane, query.hash());
        };
        let hit = &hit;
        let snapshot = turn.snapshot;
        // Before anything that the packet could change. (The key of an ICMP error is not its own.)
        if hit.action.flags & input.forged != 0 && !lane.is_related() {
            return Err(DropReason::SourceSpoofed);
        }
        let confirmed =
            if hit.is_current { Some((hit.action.next_hop, false)) } else { self.confirm(turn, query, hit)? };
        let Some((word, is_anew)) = confirmed else {
            return self.miss(turn, input, lane, query.hash());
        };
        if word == DENIED {
            return self.denied(turn, input, lane, query, hit);
        }
        if lane.is_related() {
            check_source(snapshot, input, &lane.headers)?;
            return route(snapshot, lane.headers.dst());
        }
        let status = if is_anew {
            CtStatus::Tracked
        } else {
            self.table.observe(hit, lane.headers.tcp_flags(), input.now)
        };
        match status {
            CtStatus::Tracked if word == NO_ROUTE => Err(DropReason::NoRoute),
            CtStatus::Tracked => Ok(NextHopId(word)),
            CtStatus::Reopen | CtStatus::Gone => {
                self.table.remove(hit.flow);
                self.miss(turn, input, lane, query.hash())
            }
        }
    }

    /// The next hop of a hit that an older snapshot judged: the connection's verdict stands if no change touched it
    /// since, else it is judged again. True where the entry was made anew, by this packet; `None` if the connection has
    /// gone meanwhile.
    fn confirm(&self, turn: &Turn<'_>, query: &Query, hit: &Hit) -> Result<Option<(u32, bool)>, DropReason> {
        let snapshot = turn.snapshot;
        let key = query.key();
        // What has been silent for so many changes is judged again, for nobody knows which of them it has missed.
        let is_known = snapshot.generation.wrapping_sub(hit.action.generation).cast_signed()
            < FlowAction::OLDEST.cast_signed();
        if is_known && snapshot.epochs.current4(key.src, key.dst, hit.action.generation) {
            let was_denied = hit.action.next_hop == DENIED;
            let word = if was_denied { DENIED } else { route_word(snapshot, key.dst) };
            self.table.set_action(hit, word, snapshot.generation);
            return Ok(Some((word, false)));
        }
        self.counters.flows_reclassified.add(1);
        let original = match hit.direction {
            Direction::Original => key,
            Direction::Reply => key.reversed(),
        };
        let verdict = judge(snapshot, &original);
        let [out, back] = [original, original.reversed()].map(|key| match verdict {
            Ok(()) => action(snapshot, &key),
            Err(_) => FlowAction { next_hop: DENIED, ..action(snapshot, &key) },
        });
        let is_anew = !self.table.renew(hit.flow, out, back);
        if is_anew {
            if self.table.original_key(hit.flow).is_none() {
                return Ok(None);
            }
            // An end has moved to or from this node, which is fixed in an entry: it is made anew, the way it was.
            self.table.remove(hit.flow);
            self.enter(snapshot, &original, query.hash(), [out, back], ACK, turn.now)?;
        }
        let word = if verdict.is_ok() { route_word(snapshot, key.dst) } else { DENIED };
        Ok(Some((word, is_anew)))
    }

    /// A packet of a connection that a change of policy has ended. The entry stays until it expires, so that what the
    /// other end still sends does not come to life as a connection of its own; only a new handshake that policy allows
    /// takes its place.
    fn denied(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        query: &Query,
        hit: &Hit,
    ) -> Result<NextHopId, DropReason> {
        if lane.is_related() || lane.headers.tcp_flags() & (SYN | ACK) != SYN {
            return Err(DropReason::PolicyDeny);
        }
        judge(turn.snapshot, &query.key())?;
        self.table.remove(hit.flow);
        self.miss(turn, input, lane, query.hash())
    }

    /// No flow yet: judges the first packet and enters the connection.
    #[cold]
    fn miss(
        &self,
        turn: &Turn<'_>,
        input: &Input<'_>,
        lane: &Lane,
        hash: u64,
    ) -> Result<NextHopId, DropReason> {
        let snapshot = turn.snapshot;
        check_source(snapshot, input, &lane.headers)?;
        check_destination(lane.headers.dst())?;
        // An ICMP error without its flow is a packet of its own to policy, and no connection.
        let key = own_key(&lane.headers);
        let admission = self.mid_flow.admit(key.protocol, lane.headers.tcp_flags(), turn.now);
        if admission == Admission::Refuse {
            return Err(DropReason::NoConnection);
        }
        judge(snapshot, &key)?;
        let out = route(snapshot, lane.headers.dst())?;
        if snapshot.next_hops.rewrite(out.0).is_none() {
            // A connection that cannot leave is not entered into the table.
            return Err(why_not(snapshot, out));
        }
        if !lane.is_related() && admission == Admission::Enter {
            let actions = [action(snapshot, &key), action(snapshot, &key.reversed())];
            self.enter(snapshot, &key, hash, actions, lane.headers.tcp_flags(), turn.now)?;
        }
        Ok(out)
    }

    /// Puts a connection into the table, as its first packet with these flags makes it.
    fn enter(
        &self,
        snapshot: &Snapshot,
        key: &FlowKey,
        hash: u64,
        actions: [FlowAction; 2],
        tcp_flags: u8,
        now: u64,
    ) -> Result<(), DropReason> {
        match self.table.insert(key, hash, actions, owner(snapshot, key), tcp_flags, seconds(now)) {
            Insert::New(_) => self.counters.flows_inserted.add(1),
            // Another worker entered it since the lookup, from the same snapshot or a neighbour of it.
            Insert::Exists(_) => {}
            Insert::Full => return Err(DropReason::FlowTableFull),
            Insert::ShareSpent => return Err(DropReason::EndpointShare),
        }
        Ok(())
    }
}

/// Whose share of the table a connection counts in: that of the pod that opens it, else of the one that it leads to.
/// (A flood from outside comes from sources without number: what it spends is the share of the pod that it is for.)
fn owner(snapshot: &Snapshot, key: &FlowKey) -> u32 {
    let is_served = snapshot.endpoints.get(Ipv4Addr::from_bits(key.src).into()).is_some();
    if is_served { key.src } else { key.dst }
}

pub(super) fn seconds(now: u64) -> u32 {
    (now / 1000) as u32
}

/// Asks policy about a first packet.
fn judge(snapshot: &Snapshot, key: &FlowKey) -> Result<(), DropReason> {
    let tuple = Tuple {
        src: IpAddr::V4(Ipv4Addr::from_bits(key.src)),
        dst: IpAddr::V4(Ipv4Addr::from_bits(key.dst)),
        protocol: key.protocol,
        sport: key.sport,
        dport: key.dport,
    };
    match classify(&snapshot.endpoints, &tuple).verdict() {
        Verdict::Allow => Ok(()),
        Verdict::Deny => Err(DropReason::PolicyDeny),
    }
}

/// Sources that a packet cannot have (RFC 1812 5.3.7), or not by this port.
fn check_source(snapshot: &Snapshot, input: &Input<'_>, headers: &Headers) -> Result<(), DropReason> {
    let src = Ipv4Addr::from_bits(headers.src());
    let local = &snapshot.local;
    let is_ours = local.addresses.contains(&IpAddr::V4(src)) || local.tunnel_ends.contains(&src);
    if is_this_host(src) || src.octets()[0] >= 224 || is_ours {
        return Err(DropReason::MartianSource);
    }
    if input.is_pod() {
        return Ok(());
    }
    // A node reaches its own pods without crossing a gateway: whoever has its address here does not own it.
    let receiver = snapshot.endpoints.get(Ipv4Addr::from_bits(headers.dst()).into());
    let as_its_node = receiver.is_some_and(|endpoint| endpoint.node_addresses.contains(&IpAddr::V4(src)));
    if as_its_node || local.pods.contains(&src) {
        return Err(DropReason::SourceSpoofed);
    }
    Ok(())
}

/// What RFC 1812 5.3.7 does not let a router forward to.
fn check_destination(dst: u32) -> Result<(), DropReason> {
    let dst = Ipv4Addr::from_bits(dst);
    if dst.is_multicast() || dst.is_broadcast() {
        return Err(DropReason::Multicast);
    }
    if is_this_host(dst) || dst.octets()[0] >= 240 {
        return Err(DropReason::MartianDestination);
    }
    Ok(())
}

fn is_this_host(address: Ipv4Addr) -> bool {
    address.octets()[0] == 0 || address.is_loopback()
}

/// What to do with packets of this key, and whether they come from a pod here.
fn action(snapshot: &Snapshot, key: &FlowKey) -> FlowAction {
    FlowAction {
        next_hop: route_word(snapshot, key.dst),
        generation: snapshot.generation,
        flags: if snapshot.local.pods.contains(&Ipv4Addr::from_bits(key.src)) {
            FlowAction::SRC_LOCAL
        } else {
            0
        },
    }
}

fn route(snapshot: &Snapshot, dst: u32) -> Result<NextHopId, DropReason> {
    snapshot.fib.lookup4(dst).ok_or(DropReason::NoRoute)
}

fn route_word(snapshot: &Snapshot, dst: u32) -> u32 {
    snapshot.fib.lookup4(dst).map_or(NO_ROUTE, |id| id.0)
}
