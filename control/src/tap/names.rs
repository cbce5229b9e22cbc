//! The names of what workers tell by number: ports, and rules that decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use margay_fastpath::tap::{Fate, Steps};
use margay_flowtable::{FlowTable, PolicyType, PortId, RuleId, TrailId, Tuple};

use super::Packet;
use crate::explain::Explained;

/// Names are asked for again after this: numbers of what has gone are given to others.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// What the control loop is asked to name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) rules: Vec<RuleId>,
    /// Packets that it is to explain.
    pub(crate) tuples: Vec<Option<Tuple>>,
}

/// What it says of a port.
#[derive(Clone, Debug)]
pub(crate) struct PortName {
    pub(crate) name: Arc<str>,
    /// `native` or `skb`.
    pub(crate) mode: Option<String>,
}

/// What it says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    pub(crate) ports: HashMap<PortId, PortName>,
    pub(crate) rules: Vec<(RuleId, Option<Arc<str>>)>,
    /// As asked.
    pub(crate) explained: Vec<Option<Box<Explained>>>,
    /// UDP port of VXLAN.
    pub(crate) vxlan_port: u16,
}

/// A rule that had a say about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Judge {
    pub(crate) direction: PolicyType,
    /// The rule of a policy, or the end of a tier.
    pub(crate) rule: Arc<str>,
    /// A host endpoint's and no pod's, where that is told.
    pub(crate) is_of_host: bool,
}

#[derive(Debug)]
pub(crate) struct Names {
    table: Arc<FlowTable>,
    ports: HashMap<PortId, PortName>,
    rules: HashMap<RuleId, Option<Arc<str>>>,
    vxlan_port: u16,
    since: Option<Instant>,
}

impl Names {
    pub(crate) fn new(table: Arc<FlowTable>) -> Self {
        Self { table, ports: HashMap::new(), rules: HashMap::new(), vxlan_port: 0, since: None }
    }

    /// What is to be asked before these packets are shown; `None`: nothing.
    pub(super) fn lacking(&mut self, packets: &[Packet], is_explained: bool) -> Option<Asked> {
        let is_old = self.since.is_none_or(|since| since.elapsed() > KNOWN_FOR);
        if is_old {
            self.rules.clear();
            self.since = Some(Instant::now());
        }
        let ends = packets.iter().filter_map(|packet| packet.end.as_ref());
        let mut rules: Vec<RuleId> =
            ends.flat_map(|end| self.deciding(&end.steps)).map(|(_, rule, _)| rule).collect();
        rules.sort_unstable_by_key(|rule| rule.0);
        rules.dedup();
        rules.retain(|rule| !self.rules.contains_key(rule));
        let tuples = if is_explained { packets.iter().map(Packet::tuple).collect() } else { Vec::new() };
        (is_old || is_explained || !rules.is_empty()).then_some(Asked { rules, tuples })
    }

    pub(crate) fn learn(&mut self, known: Known, packets: &mut [Packet]) {
        (self.ports, self.vxlan_port) = (known.ports, known.vxlan_port);
        self.rules.extend(known.rules);
        for (packet, explained) in packets.iter_mut().zip(known.explained) {
            packet.explained = explained;
        }
    }

    pub(crate) fn port(&self, id: PortId) -> Arc<str> {
        let name = self.ports.get(&id).map(|port| Arc::clone(&port.name));
        name.unwrap_or_else(|| format!("port {}", id.0).into())
    }

    pub(crate) fn mode(&self, id: PortId) -> Option<&str> {
        self.ports.get(&id)?.mode.as_deref()
    }

    pub(crate) fn vxlan_port(&self) -> u16 {
        self.vxlan_port
    }

    /// Who decided about the packet, by name.
    pub(crate) fn judges(&self, steps: &Steps) -> Vec<Judge> {
        let name = |(direction, id, is_of_host): (PolicyType, RuleId, bool)| Judge {
            direction,
            rule: match self.rules.get(&id) {
                Some(Some(name)) => Arc::clone(name),
                _ if id == RuleId::NONE => "a part of policy that is missing".into(),
                _ => "a rule that has gone since".into(),
            },
            is_of_host,
        };
        self.deciding(steps).into_iter().map(name).collect()
    }

    /// What denied the packet, or else the rules that its connection's entry names: what it passed on the way and who let it
    /// pass, or ended it.
    fn deciding(&self, steps: &Steps) -> Vec<(PolicyType, RuleId, bool)> {
        if let Some(denial) = steps.denial {
            return vec![(denial.direction, denial.rule, denial.is_of_host)];
        }
        let Some(entry) = steps.entry else { return Vec::new() };
        let ends = [PolicyType::Egress, PolicyType::Ingress].into_iter().zip(entry.trails.ids());
        let rules = |(end, trail): (PolicyType, TrailId)| {
            self.table
                .trails()
                .rules(trail)
                .filter(|rule| *rule != RuleId::NONE)
                .map(move |rule| (end, rule, false))
        };
        ends.flat_map(rules).collect()
    }
}

/// The word of what became of a packet, and where it was dropped why.
pub(crate) fn fate(packet: &Packet) -> (&'static str, Option<margay_fastpath::DropReason>) {
    match packet.end.as_ref().map(|end| end.fate) {
        Some(Fate::Forwarded) => ("forwarded", None),
        Some(Fate::Split) => ("split", None),
        Some(Fate::Dropped(reason)) => ("dropped", Some(reason)),
        None => ("waiting", None),
    }
}
