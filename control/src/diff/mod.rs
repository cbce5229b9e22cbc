//! What changes between two worlds: which ends reach which others at which ports in one and not in the other.
//!
//! Ends that policy cannot tell apart are one class; of each pair of classes that a difference of rules or of labels can
//! concern, each header that rules can tell apart is put to the classifier in both worlds.

mod cells;
mod classes;
mod flows;
mod headers;
mod pairs;
mod signature;
mod text;
mod world;

use std::collections::{BTreeMap, HashMap};
use std::hash::RandomState;
use std::sync::Arc;

use margay_flowtable::{Classification, RuleId, Verdict};
use serde::{Serialize, Serializer};

use self::classes::Classes;
use self::headers::Headers;
use self::pairs::{Differing, Pair, Pairs};
use self::world::World;
use crate::state::Cluster;

pub use self::flows::{Flow, FlowChange, FlowFileError, load as load_flows};
pub use self::text::text;
pub use self::world::{Half, Judged};

/// Names that stand for the ends of a group.
const EXAMPLES: usize = 3;
/// Pairs of classes that are looked at.
const MOST_PAIRS: usize = 5_000_000;

/// What changes; its JSON form is an interface that scripts rely on.
#[derive(Debug, Serialize)]
pub struct Diff {
    pub pairs: Vec<PairChange>,
    /// Recorded flows that would have another verdict.
    pub flows: Vec<FlowChange>,
    /// Pods that are in one of the worlds alone, and so compared with nothing.
    pub only_old: usize,
    pub only_new: usize,
    /// Pairs of groups that were too many to be looked at: there may be more changes.
    pub pairs_left_out: usize,
}

/// Any end of one group and any of the other: what passes in one world and not in the other.
#[derive(Debug, Serialize)]
pub struct PairChange {
    pub from: Ends,
    pub to: Ends,
    /// 4 or 6.
    pub family: u8,
    /// These are pods and addresses of their own nodes.
    pub own_node: bool,
    pub changes: Vec<Change>,
}

/// Ends that change alike. Serializes with a few of its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Ends {
    pub kind: Kind,
    pub count: usize,
    #[serde(rename = "examples", serialize_with = "some")]
    pub members: Vec<Arc<str>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `NAMESPACE/NAME`.
    Pods,
    /// `node:NAME (ADDRESS)`.
    Nodes,
    /// Ranges of addresses that neither pods nor nodes hold.
    Addresses,
}

/// Packets with these headers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// IP protocol number. `None`: every other that no rule names.
    pub protocol: Option<u8>,
    /// First and last destination port, of protocols that have ports.
    pub ports: Option<(u16, u16)>,
    pub sports: Option<(u16, u16)>,
    /// Type and code of an ICMP message. `None`: every other.
    pub icmp: Option<(Option<u8>, Option<u8>)>,
    pub old: Judged,
    pub new: Judged,
}

impl Diff {
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty() && self.flows.is_empty() && self.pairs_left_out == 0
    }
}

/// Compares two worlds, with every pod of both taken as served.
pub fn diff(old: &Cluster, new: &Cluster, flows: &[Flow]) -> Diff {
    let worlds = [World::of(old), World::of(new)];
    let hasher = RandomState::new();
    let classes = classes::classes(&worlds, &hasher);
    let mut pairs = Pairs::new(&worlds, &classes, &hasher);
    let candidates = pairs.candidates();
    let pairs_left_out = candidates.len().saturating_sub(MOST_PAIRS);
    let looked_at = candidates.into_iter().take(MOST_PAIRS);
    let found = looked_at.flat_map(|(from, to)| pairs.differing(from, to)).collect();
    Diff {
        pairs: condensed(&worlds, &classes, found),
        flows: flows::changes(&worlds, flows),
        only_old: classes.alone[0],
        only_new: classes.alone[1],
        pairs_left_out,
    }
}

/// What tells changes from others: the headers, and in both worlds the verdicts and rules of both sides.
type Key = Vec<(Headers, [[(bool, RuleId); 2]; 2])>;

fn key(differing: &[Differing]) -> Key {
    let side = |decision: &margay_flowtable::Decision| (decision.verdict == Verdict::Allow, decision.rule);
    let sides = |verdict: &Classification| [side(&verdict.egress), side(&verdict.ingress)];
    differing.iter().map(|d| (d.headers.clone(), d.verdicts.each_ref().map(sides))).collect()
}

/// Pairs that change alike, as pairs of groups: first those from one class, then those to the same classes.
fn condensed(
    worlds: &[World<'_>; 2],
    classes: &Classes,
    found: Vec<(Pair, Vec<Differing>)>,
) -> Vec<PairChange> {
    let mut numbers: HashMap<Key, usize> = HashMap::new();
    let mut kinds: Vec<Vec<Differing>> = Vec::new();
    let mut by_source: BTreeMap<(usize, bool, Kind, usize), Vec<usize>> = BTreeMap::new();
    for (pair, differing) in found {
        let number = *numbers.entry(key(&differing)).or_insert_with(|| {
            kinds.push(differing);
            kinds.len() - 1
        });
        let to = classes.all[pair.to].kind;
        by_source.entry((number, pair.is_own_node, to, pair.from)).or_default().push(pair.to);
    }
    let mut groups: BTreeMap<(usize, bool, Kind, Vec<usize>), Vec<usize>> = BTreeMap::new();
    for ((number, is_own_node, _, from), to) in by_source {
        groups.entry((number, is_own_node, classes.all[from].kind, to)).or_default().push(from);
    }
    let changes = groups.into_iter().map(|((number, own_node, _, to), from)| PairChange {
        from: ends(classes, &from),
        to: ends(classes, &to),
        family: if classes.all[to[0]].is_v4 { 4 } else { 6 },
        own_node,
        changes: kinds[number].iter().map(|differing| change(worlds, differing)).collect(),
    });
    changes.collect()
}

/// All ends of the classes, which are of one kind.
fn ends(classes: &Classes, numbers: &[usize]) -> Ends {
    let all = numbers.iter().map(|number| &classes.all[*number]);
    let members: Vec<Arc<str>> =
        all.clone().flat_map(|class| class.members.iter().map(|member| member.name.clone())).collect();
    let kind = all.map(|class| class.kind).next().unwrap_or(Kind::Addresses);
    Ends { kind, count: members.len(), members }
}

fn change(worlds: &[World<'_>; 2], differing: &Differing) -> Change {
    let headers = &differing.headers;
    let [old, new] = &differing.verdicts;
    Change {
        protocol: headers.protocol,
        ports: headers.dports,
        sports: headers.sports.filter(|sports| *sports != (0, u16::MAX)),
        icmp: headers.icmp,
        old: worlds[0].judged(old),
        new: worlds[1].judged(new),
    }
}

fn some<S: Serializer>(members: &[Arc<str>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(members.iter().take(EXAMPLES).map(|member| &**member))
}
