use std::sync::Arc;

use margay_flowtable::PolicyType;

use super::*;
use crate::state::Name;
use crate::state::policy::{PolicyId, PolicyKind};

fn name(policy: &str, index: Option<u32>) -> RuleName {
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, name: Name::new("ns", policy) };
    RuleName { policy: Arc::new(id), direction: PolicyType::Ingress, index }
}

/// As a worker does for a flow's first packet.
fn admit(worker: &Counters, rule: RuleId, bytes: u16) {
    worker.rules.count([worker.rules.counted(rule), RuleId::NONE], bytes);
    worker.rules.count_flow(rule);
}

fn counts(packets: u64, bytes: u64, flows: u64, denied: u64) -> Counts {
    Counts { packets, bytes, flows, denied }
}

/// Policy, place and counts of each row.
fn rows(table: Table) -> Vec<(String, Option<u32>, Counts)> {
    table.rows().into_iter().map(|row| (row.rule.policy, row.rule.rule, row.counts)).collect()
}

#[test]
fn most_hit_first_then_what_never_matched() {
    let mut ids = RuleIds::default();
    let [quiet, busy, end, other] =
        [("b", Some(0)), ("a", Some(1)), ("a", None), ("a", Some(0))].map(|(p, i)| ids.give(name(p, i)));
    let workers = [Counters::default(), Counters::default()];
    for worker in &workers {
        admit(worker, busy, 100);
    }
    admit(&workers[1], end, 60);
    workers[0].rules.count_denied(end);
    let table = RuleCounts::default().table(&ids, &workers.each_ref());
    assert_eq!(table.beyond, Counts::default());
    let expected = [
        ("ns/a", Some(1), counts(2, 200, 2, 0)),
        ("ns/a", None, counts(1, 60, 1, 1)),
        ("ns/a", Some(0), Counts::default()),
        ("ns/b", Some(0), Counts::default()),
    ];
    assert_eq!(rows(table), expected.map(|(policy, rule, counts)| (policy.to_owned(), rule, counts)));
    assert!(quiet < other, "not by number");
}

#[test]
fn a_number_that_is_given_again_counts_from_zero() {
    let mut ids = RuleIds::default();
    let workers = [Counters::default()];
    let workers = workers.each_ref();
    let mut counts_since = RuleCounts::default();
    let old = ids.give(name("old", Some(0)));
    admit(workers[0], old, 100);
    ids.take_back(old);
    // Numbers rest until so many others do.
    let mut new = old;
    for round in 0..3 {
        let given: Vec<RuleId> = (0..2000).map(|n| ids.give(name("new", Some(n)))).collect();
        counts_since.begin(ids.take_given_again(), &workers);
        if given.contains(&old) {
            new = *given.iter().find(|id| **id == old).expect("contained");
            assert!(round > 0);
            break;
        }
        for id in given {
            ids.take_back(id);
        }
    }
    assert_eq!(ids.name(new).map(|name| name.policy.full_name()).as_deref(), Some("ns/new"));
    assert!(rows(counts_since.table(&ids, &workers)).iter().all(|row| row.2 == Counts::default()));
    admit(workers[0], new, 40);
    assert_eq!(rows(counts_since.table(&ids, &workers))[0].2, counts(1, 40, 1, 0));
}

#[test]
fn rules_beyond_the_counters_are_summed_in_one() {
    let mut ids = RuleIds::default();
    let rules: Vec<RuleId> = (0..4).map(|n| ids.give(name("a", Some(n)))).collect();
    let workers = [Counters::with_rules(2), Counters::with_rules(2)];
    for worker in &workers {
        for rule in &rules {
            admit(worker, *rule, 10);
        }
    }
    let table = RuleCounts::default().table(&ids, &workers.each_ref());
    assert_eq!(table.beyond, counts(4, 40, 4, 0));
    let packets: Vec<u64> = rows(table).iter().map(|row| row.2.packets).collect();
    assert_eq!(packets, [2, 2, 0, 0]);
}
