//! From what workers and the flow table tell to who it was: addresses become pods and nodes, and numbers rules, as they are
//! when it is told, a fraction of a second after it happened.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use jiff::Timestamp;
use margay_fastpath::events::{Denied, Event, was_cut};
use margay_flowtable::{
    EndedFlow, FlowCounts, FlowEnd, Key as _, PolicyType, RuleId, Traffic, TrailId, Trails, Tuple,
};

use super::flow::{End, Flow, Key, Party, Reason, Sum, What};
use crate::compile::Compiler;
use crate::compile::policy::RuleName;

/// Which node has an address, made anew when the addresses of nodes change.
#[derive(Debug, Default)]
pub struct NodeNames {
    made_of: Arc<HashSet<IpAddr>>,
    names: HashMap<IpAddr, Arc<str>>,
}

impl NodeNames {
    pub fn refresh(&mut self, addresses: &Arc<HashSet<IpAddr>>, compiler: &Compiler) {
        if Arc::ptr_eq(&self.made_of, addresses) {
            return;
        }
        self.made_of = Arc::clone(addresses);
        self.names.clear();
        for (name, node) in &compiler.cluster().nodes {
            let name: Arc<str> = name.as_str().into();
            self.names.extend(node.addresses.iter().map(|address| (*address, Arc::clone(&name))));
        }
    }
}

/// One moment of the workers' clock and the wall's.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    pub wall: Timestamp,
    /// Since the workers started.
    pub elapsed: Duration,
}

impl Now {
    /// When the workers' clock showed these milliseconds.
    fn at(&self, milliseconds: u64) -> Timestamp {
        let ago = self.elapsed.saturating_sub(Duration::from_millis(milliseconds));
        self.wall.checked_sub(ago).unwrap_or(self.wall)
    }
}

/// What names are looked up in.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub compiler: &'a Compiler,
    pub nodes: &'a NodeNames,
    pub trails: &'a Trails,
    /// Rules below this number have one each in trails; all others share it.
    pub counted: u32,
    pub now: Now,
}

impl Names<'_> {
    pub fn flow(&self, event: &Event) -> Flow {
        let one = |at| self.sum(1, [Traffic::default(); 2], [at, at]);
        match event {
            Event::Started { tuple, trails, at } => {
                Flow { key: self.key(What::Start, tuple, self.decided(*trails)), sum: one(*at) }
            }
            Event::Cut { tuple, trails, counts, at } => {
                let key = self.key(What::End(Reason::Policy), tuple, self.decided(*trails));
                Flow { key, sum: counts.map_or_else(|| one(*at), |counts| self.carried(&counts, *at)) }
            }
            Event::Denied(denied) => self.denied(denied),
        }
    }

    /// `None`: it was told of before, when a change of policy ended it.
    pub fn ended(&self, ended: &EndedFlow) -> Option<Flow> {
        if was_cut(ended) {
            return None;
        }
        let reason = match ended.why {
            FlowEnd::Evicted => Reason::Evicted,
            FlowEnd::Expired | FlowEnd::Removed if ended.state.is_closed() => Reason::Closed,
            FlowEnd::Expired => Reason::Idle,
            FlowEnd::Removed => Reason::Replaced,
        };
        let (key, last) = (&ended.key, u64::from(ended.state.last_seen) * 1000);
        let (sport, dport) = key.ports();
        let (src, dst, protocol) = (key.src(), key.dst(), key.protocol());
        let tuple = Tuple { src, dst, protocol, sport, dport, icmp: None };
        let sum = match &ended.counts {
            Some(counts) => self.carried(counts, last),
            None => self.sum(1, [Traffic::default(); 2], [last, last]),
        };
        Some(Flow { key: self.key(What::End(reason), &tuple, self.decided(ended.trails)), sum })
    }

    fn denied(&self, denied: &Denied) -> Flow {
        let rule = self.compiler.rule_ids().name(denied.rule).cloned();
        let rules = match denied.direction {
            PolicyType::Egress => [rule, None],
            PolicyType::Ingress => [None, rule],
        };
        let traffic = Traffic { packets: denied.packets, bytes: denied.bytes };
        let sum = self.sum(denied.packets, [traffic, Traffic::default()], [denied.first, denied.last]);
        Flow { key: self.key(What::Denial, &denied.tuple, rules), sum }
    }

    fn carried(&self, counts: &FlowCounts, last: u64) -> Sum {
        self.sum(1, [counts.original, counts.reply], [u64::from(counts.started) * 1000, last])
    }

    fn sum(&self, flows: u64, [original, reply]: [Traffic; 2], times: [u64; 2]) -> Sum {
        let [first, last] = times.map(|time| self.now.at(time));
        Sum { flows, original, reply, first, last: last.max(first) }
    }

    fn key(&self, what: What, tuple: &Tuple, rules: [Option<RuleName>; 2]) -> Key {
        let Tuple { protocol, sport, dport, icmp, .. } = *tuple;
        let (src, dst) = (self.end(tuple.src), self.end(tuple.dst));
        // What stands in the place of ports is the echo's identifier.
        let is_icmp = icmp.is_some() || matches!(protocol, 1 | 58);
        let (sport, dport) = if is_icmp { (None, 0) } else { (Some(sport), dport) };
        Key { what, src, dst, protocol, sport, dport, icmp, rules }
    }

    fn end(&self, address: IpAddr) -> End {
        let pod = self.compiler.owner(address);
        let pod = pod.map(|owner| Party::Pod { name: Arc::clone(&owner.name), pod: Arc::clone(&owner.pod) });
        let node = || self.nodes.names.get(&address).map(|name| Party::Node(Arc::clone(name)));
        End { address, party: pod.or_else(node).unwrap_or(Party::Other) }
    }

    /// The rules that decided: of each trail the last one.
    fn decided(&self, trails: [TrailId; 2]) -> [Option<RuleName>; 2] {
        trails.map(|trail| {
            let rule: RuleId = self.trails.rules(trail).last()?;
            self.compiler.rule_ids().name(rule).filter(|_| rule.0 < self.counted).cloned()
        })
    }
}
