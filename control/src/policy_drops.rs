//! What policy has dropped of late, by rule and endpoint, in bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use margay_fastpath::counters::PolicyDrop;
use margay_flowtable::{Policies, PolicyType, RuleId, Tuple};

use crate::admin::policies::{DropRow, Packet};
use crate::compile::policy::{RuleIds, RuleName};

/// Rules and endpoints that are kept; those that have not dropped for longest make room.
const KEPT: usize = 1024;

type Key = (RuleId, PolicyType, Arc<str>);

#[derive(Clone, Debug)]
struct Entry {
    /// What the number meant then: it may mean another rule later.
    name: Option<RuleName>,
    count: u64,
    last_seen: Duration,
    last: Tuple,
    /// Its place in `order`.
    turn: u64,
}

#[derive(Clone, Debug, Default)]
pub struct RecentDrops {
    entries: HashMap<Key, Entry>,
    /// Who dropped last has the highest number.
    order: BTreeMap<u64, Key>,
    turn: u64,
}

impl RecentDrops {
    /// Takes in a drop at `now`, with what its numbers mean at present.
    pub fn take(&mut self, drop: &PolicyDrop, rules: &RuleIds, policies: &Policies, now: Duration) {
        let name = rules.name(drop.rule);
        let key = (drop.rule, drop.direction, endpoint(drop, policies));
        self.turn += 1;
        let fresh =
            Entry { name: name.cloned(), count: 0, last_seen: now, last: drop.tuple, turn: self.turn };
        let entry = self.entries.entry(key.clone()).or_insert_with(|| fresh.clone());
        self.order.remove(&entry.turn);
        // The number of a rule that is gone says nothing against the one that had it.
        let count = if name.is_none() || entry.name.as_ref() == name { entry.count + 1 } else { 1 };
        let name = if name.is_none() { entry.name.take() } else { fresh.name.clone() };
        *entry = Entry { name, count, ..fresh };
        self.order.insert(self.turn, key);
        if self.entries.len() > KEPT
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.entries.remove(&oldest);
        }
    }

    /// The latest first.
    pub fn rows(&self, now: Duration) -> Vec<DropRow> {
        let row = |key: &Key| {
            let entry = &self.entries[key];
            DropRow {
                rule: entry.name.as_ref().map(Into::into),
                direction: key.1.into(),
                endpoint: key.2.to_string(),
                count: entry.count,
                last_seen_seconds_ago: now.saturating_sub(entry.last_seen).as_secs(),
                last: (&entry.last).into(),
            }
        };
        self.order.values().rev().map(row).collect()
    }
}

/// Whose policy decided. An endpoint's number may be another's by now: it is asked for by its address.
fn endpoint(drop: &PolicyDrop, policies: &Policies) -> Arc<str> {
    let address = match drop.direction {
        PolicyType::Egress => drop.tuple.src,
        PolicyType::Ingress => drop.tuple.dst,
    };
    let holder = policies.addresses.get(address).and_then(|holder| holder.endpoint);
    let endpoint = holder.filter(|_| holder == drop.endpoint).and_then(|id| policies.endpoints.get(id.0));
    endpoint.map_or_else(|| address.to_string().into(), |endpoint| Arc::clone(&endpoint.name))
}

impl From<&Tuple> for Packet {
    fn from(tuple: &Tuple) -> Self {
        Self {
            src: tuple.src,
            dst: tuple.dst,
            protocol: tuple.protocol,
            sport: tuple.sport,
            dport: tuple.dport,
            icmp: tuple.icmp,
        }
    }
}

#[cfg(test)]
mod tests;
