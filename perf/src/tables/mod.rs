//! `margay perf tables`: the flow table and the FIB beside what others have written, in one run.
//!
//! Rounds go over the structures. In each a structure is built, asked for every operation, and freed before the next is
//! built; a figure is the median of the rounds.

mod addresses;
mod flow_maps;
mod flows;
mod keys;
mod route_maps;
mod routes;
mod start;

use std::collections::BTreeMap;

use clap::ValueEnum;
pub use routes::{fib_v4, fib_v6};
use serde::Serialize;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Structure {
    /// Margay's flow table.
    Margay,
    /// `hashbrown::HashMap` behind a `parking_lot::RwLock`.
    HashbrownRwlock,
    Dashmap,
    Papaya,
    /// `scc::HashIndex`.
    Scc,
    /// Margay's FIB, IPv4 routes.
    MargayFib,
    #[value(name = "ip_network_table")]
    #[serde(rename = "ip_network_table")]
    IpNetworkTable,
    PrefixTrie,
    Poptrie,
    /// Margay's FIB, IPv6 routes.
    #[value(name = "margay-fib-v6")]
    #[serde(rename = "margay-fib-v6")]
    MargayFibV6,
    #[value(name = "ip_network_table-v6")]
    #[serde(rename = "ip_network_table-v6")]
    IpNetworkTableV6,
    #[value(name = "prefix-trie-v6")]
    #[serde(rename = "prefix-trie-v6")]
    PrefixTrieV6,
    #[value(name = "poptrie-v6")]
    #[serde(rename = "poptrie-v6")]
    PoptrieV6,
}

impl Structure {
    pub const FLOWS: [Self; 5] =
        [Self::Margay, Self::HashbrownRwlock, Self::Dashmap, Self::Papaya, Self::Scc];
    pub const IPV4: [Self; 4] = [Self::MargayFib, Self::IpNetworkTable, Self::PrefixTrie, Self::Poptrie];
    pub const IPV6: [Self; 4] =
        [Self::MargayFibV6, Self::IpNetworkTableV6, Self::PrefixTrieV6, Self::PoptrieV6];

    /// Entries that a structure is measured with unless others are asked for.
    pub fn default_entries(self) -> &'static [u32] {
        if Self::FLOWS.contains(&self) {
            &[1000, 100_000, 1_000_000, 10_000_000]
        } else if Self::IPV4.contains(&self) {
            &[1_000_000]
        } else {
            &[200_000]
        }
    }

    /// The most that it is measured with: there is no room for more routes that look like a full table's.
    pub fn max_entries(self) -> u32 {
        if Self::FLOWS.contains(&self) { 20_000_000 } else { 2_000_000 }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    LookupHit,
    LookupMiss,
    /// 64 keys at a time.
    LookupBurst,
    LookupBurstMiss,
    /// Nine hits, then an insert.
    #[value(name = "mixed-90-10")]
    #[serde(rename = "mixed-90-10")]
    Mixed,
    Insert,
    Remove,
}

impl Op {
    /// Whether the operation changes the structure.
    fn writes(self) -> bool {
        matches!(self, Self::Mixed | Self::Insert | Self::Remove)
    }
}

/// What is measured: every combination of these.
#[derive(Clone, Debug)]
pub struct Selection {
    pub structures: Vec<Structure>,
    pub ops: Vec<Op>,
    /// Empty: each structure's own.
    pub entries: Vec<u32>,
    pub workers: Vec<u32>,
    /// Rounds of at most a million entries; larger ones, whose builds take the time, get half as many.
    pub rounds: u32,
}

impl Selection {
    fn entries_of(&self, structure: Structure) -> Vec<u32> {
        if self.entries.is_empty() {
            return structure.default_entries().to_vec();
        }
        self.entries.iter().copied().filter(|&entries| entries <= structure.max_entries()).collect()
    }

    fn rounds_of(&self, entries: u32) -> u32 {
        if entries > 1_000_000 { self.rounds.div_ceil(2) } else { self.rounds }
    }
}

/// One figure.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    pub structure: Structure,
    pub op: Op,
    pub entries: u32,
    pub workers: u32,
    /// One worker's time for one operation.
    pub ns_per_op: f64,
    /// Million operations a second, all workers together.
    pub mops: f64,
}

/// What one round measured.
#[derive(Clone, Copy, Debug)]
struct Figure {
    ns_per_op: f64,
    mops: f64,
}

type Figures = BTreeMap<(u32, Structure, Op, u32), Vec<Figure>>;

/// Measures the selection. `progress` is told what comes next.
pub fn measure(
    selection: &Selection,
    mut progress: impl FnMut(Structure, u32),
) -> anyhow::Result<Vec<Report>> {
    start::check_cores(selection.workers.iter().copied().max().unwrap_or(1))?;
    let mut sizes: Vec<u32> =
        selection.structures.iter().flat_map(|&each| selection.entries_of(each)).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut figures = Figures::new();
    for entries in sizes {
        let structures: Vec<Structure> = (selection.structures.iter().copied())
            .filter(|&structure| selection.entries_of(structure).contains(&entries))
            .collect();
        let materials = Materials::new(entries, selection, &structures);
        for _ in 0..selection.rounds_of(entries) {
            for &structure in &structures {
                progress(structure, entries);
                for (op, workers, figure) in materials.run(structure, selection) {
                    figures.entry((entries, structure, op, workers)).or_default().push(figure);
                }
            }
        }
    }
    Ok(figures.into_iter().map(|(what, rounds)| report(what, rounds)).collect())
}

/// The round whose time is the median, the lower of two.
fn report((entries, structure, op, workers): (u32, Structure, Op, u32), mut rounds: Vec<Figure>) -> Report {
    rounds.sort_unstable_by(|a, b| a.ns_per_op.total_cmp(&b.ns_per_op));
    let Figure { ns_per_op, mops } = rounds[(rounds.len() - 1) / 2];
    Report { structure, op, entries, workers, ns_per_op, mops }
}

/// What structures are filled with and asked for, made once for all of them.
struct Materials {
    flows: Option<keys::FlowKeys>,
    ipv4: Option<routes::Routes<u32>>,
    ipv6: Option<routes::Routes<u128>>,
}

impl Materials {
    fn new(entries: u32, selection: &Selection, structures: &[Structure]) -> Self {
        let workers = selection.workers.iter().copied().max().unwrap_or(1);
        let any = |of: &[Structure]| structures.iter().any(|structure| of.contains(structure));
        Self {
            flows: any(&Structure::FLOWS).then(|| keys::FlowKeys::new(entries, workers)),
            ipv4: any(&Structure::IPV4).then(|| routes::Routes::new(entries)),
            ipv6: any(&Structure::IPV6).then(|| routes::Routes::new(entries)),
        }
    }

    /// Builds the structure, runs what is selected, and frees it.
    fn run(&self, structure: Structure, selection: &Selection) -> Vec<(Op, u32, Figure)> {
        let flows = || self.flows.as_ref().expect("made for the structures");
        let ipv4 = || self.ipv4.as_ref().expect("made for the structures");
        let ipv6 = || self.ipv6.as_ref().expect("made for the structures");
        match structure {
            Structure::Margay => flows::run::<flow_maps::Margay>(flows(), selection),
            Structure::HashbrownRwlock => flows::run::<flow_maps::HashbrownRwlock>(flows(), selection),
            Structure::Dashmap => flows::run::<flow_maps::Dashmap>(flows(), selection),
            Structure::Papaya => flows::run::<flow_maps::Papaya>(flows(), selection),
            Structure::Scc => flows::run::<flow_maps::Scc>(flows(), selection),
            Structure::MargayFib => routes::run::<u32, route_maps::MargayFib>(ipv4(), selection),
            Structure::IpNetworkTable => routes::run::<u32, route_maps::IpNetworks>(ipv4(), selection),
            Structure::PrefixTrie => routes::run::<u32, route_maps::PrefixTrie<u32>>(ipv4(), selection),
            Structure::Poptrie => routes::run::<u32, route_maps::PopTrie<u32>>(ipv4(), selection),
            Structure::MargayFibV6 => routes::run::<u128, route_maps::MargayFib>(ipv6(), selection),
            Structure::IpNetworkTableV6 => routes::run::<u128, route_maps::IpNetworks>(ipv6(), selection),
            Structure::PrefixTrieV6 => routes::run::<u128, route_maps::PrefixTrie<u128>>(ipv6(), selection),
            Structure::PoptrieV6 => routes::run::<u128, route_maps::PopTrie<u128>>(ipv6(), selection),
        }
    }
}
