//! Policy kept in step with changes is what a compile from nothing makes, and what may have another verdict is judged
//! again.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use margay_control::compile::Compiler;
use margay_control::compile::gateways::GATEWAY;
use margay_control::identity::Identity;
use margay_control::manifest::load_dir;
use margay_control::state::{Change, Cluster, Edit, State};
use margay_flowtable::{Decision, Snapshot, Tuple, Verdict, classify, classify_staged};
use proptest::prelude::*;

use crate::generate::{self, Kind, World};

const NODE: &str = "n1";
const WORLDS: usize = 3;

fn load(world: &World) -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    let documents: Vec<String> = world.objects.iter().map(ToString::to_string).collect();
    fs::write(directory.path().join("all.yaml"), documents.join("\n---\n")).unwrap();
    let mut cluster = load_dir(directory.path()).unwrap().0;
    // Every other node is behind ours, but for the last, whose pods nobody serves.
    for (name, node) in cluster.nodes.iter_mut().rev().skip(1).filter(|(name, _)| *name != NODE) {
        assert!(!name.is_empty());
        std::sync::Arc::make_mut(node).labels.insert(GATEWAY.to_owned(), NODE.to_owned());
    }
    cluster
}

/// The same change with the object gone.
fn removal(change: Change) -> Change {
    macro_rules! removed {
        ($($kind:ident),*) => {
            match change { $(Change::$kind(edit) => Change::$kind(Edit::remove(edit.key)),)* }
        };
    }
    removed!(
        Namespace,
        Node,
        Pod,
        ServiceAccount,
        Policy,
        Tier,
        NetworkSet,
        HostEndpoint,
        Service,
        EndpointSlice,
        IpPool,
        BlockAffinity,
        IpamBlock,
        FelixConfiguration
    )
}

/// The steps from one cluster to another, in an order of this seed.
fn steps(from: &Cluster, to: &Cluster, seed: u64) -> Vec<Change> {
    let mut left = from.clone();
    for change in to.clone().into_changes() {
        left.apply(&mut removal(change));
    }
    let gone = left.into_changes().into_iter().map(removal);
    let mut steps: Vec<(u64, Change)> =
        to.clone().into_changes().into_iter().chain(gone).map(|change| (0, change)).collect();
    for (number, step) in steps.iter_mut().enumerate() {
        let mut hasher = DefaultHasher::new();
        (seed, number).hash(&mut hasher);
        step.0 = hasher.finish();
    }
    steps.sort_by_key(|(order, _)| *order);
    steps.into_iter().map(|(_, change)| change).collect()
}

/// What is said of a packet.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    egress: (Verdict, Option<String>),
    ingress: (Verdict, Option<String>),
    staged: [Option<(Verdict, Option<String>)>; 2],
    logged: Vec<Option<String>>,
    endpoints: [Option<String>; 2],
}

fn said(compiler: &Compiler, snapshot: &Snapshot, tuple: &Tuple) -> Said {
    let name = |id| compiler.rule_ids().name(id).map(ToString::to_string);
    let decided = |decision: Decision| (decision.verdict, name(decision.rule));
    let mut logged = Vec::new();
    let policies = &snapshot.policies;
    let classification = classify(policies, tuple, &mut |_, rule| logged.push(name(rule)));
    let staged = classify_staged(policies, tuple);
    let endpoint = |address| policies.endpoint(address).map(|endpoint| endpoint.name.to_string());
    Said {
        egress: decided(classification.egress),
        ingress: decided(classification.ingress),
        staged: [staged.egress.map(decided), staged.ingress.map(decided)],
        logged,
        endpoints: [endpoint(tuple.src), endpoint(tuple.dst)],
    }
}

/// Packets between some of all addresses that there are in any of the clusters.
fn tuples(clusters: &[Cluster], seed: u64) -> Vec<Tuple> {
    let mut addresses: BTreeSet<IpAddr> = ["192.0.2.7", "fd00:9::7"].map(|a| a.parse().unwrap()).into();
    for cluster in clusters {
        addresses.extend(cluster.pods.values().flat_map(|pod| pod.addresses.iter().copied()));
        addresses.extend(cluster.nodes.values().flat_map(|node| node.addresses.iter().copied()));
    }
    let mut tuples = Vec::new();
    for src in &addresses {
        for dst in addresses.iter().filter(|dst| dst.is_ipv4() == src.is_ipv4()) {
            let mut hasher = DefaultHasher::new();
            (seed, src, dst).hash(&mut hasher);
            let pick = hasher.finish();
            let (protocol, dport) = [(6, 80), (6, 81), (17, 53), (132, 80), (1, 0)][pick as usize % 5];
            let icmp = (protocol == 1).then_some((8, 0));
            let tuple = Tuple { src: *src, dst: *dst, protocol, sport: 40_000, dport, icmp };
            // A few hundred say enough.
            if (pick >> 32).is_multiple_of(4) {
                tuples.push(tuple);
            }
        }
    }
    tuples
}

/// Whether flows of the packet that were judged before `snapshot` have to be judged again.
fn is_touched(snapshot: &Snapshot, tuple: &Tuple) -> bool {
    !snapshot.epochs.is_current(tuple.src, tuple.dst, snapshot.generation - 1)
}

fn follow(worlds: &[World], seed: u64) -> Result<(), TestCaseError> {
    let clusters: Vec<Cluster> = worlds.iter().map(load).collect();
    let tuples = tuples(&clusters, seed);
    let identity = Identity::new(NODE);
    let mut compiler = Compiler::new(identity.clone());
    let mut snapshot = compiler.snapshot(&Snapshot::default());
    let mut before = Cluster::default();
    for after in clusters {
        let steps = steps(&before, &after, seed);
        let batch = 1 + steps.len() / (1 + seed as usize % 6);
        for batch in steps.chunks(batch) {
            compiler.apply(batch.to_vec());
            let next = compiler.snapshot(&snapshot);
            let next = compiler.refresh_indexes(&next).unwrap_or(next);
            let state = State { cluster: compiler.cluster().clone(), ..State::default() };
            let mut plain = Compiler::of(&state, identity.clone());
            let from_nothing = plain.snapshot(&Snapshot::default());
            for tuple in &tuples {
                let is = said(&compiler, &next, tuple);
                prop_assert_eq!(&is, &said(&plain, &from_nothing, tuple), "{:?}", tuple);
                let was = said(&compiler, &snapshot, tuple);
                let is_other = (is.egress.0, is.ingress.0) != (was.egress.0, was.ingress.0);
                prop_assert!(!is_other || is_touched(&next, tuple), "{:?}: {:?}, then {:?}", tuple, was, is);
            }
            snapshot = next;
        }
        before = after;
    }
    prop_assert_eq!(compiler.cluster(), &before);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_are_a_compile_from_nothing(
        worlds in prop::collection::vec(generate::world(&Kind::ALL), WORLDS),
        seed in any::<u64>(),
    ) {
        follow(&worlds, seed)?;
    }
}
