use std::sync::Arc;

use margay_flowtable::{FlowTable, PolicyType, Timeouts, TrailId};

use super::*;
use crate::state::Name;
use crate::state::policy::{PolicyId, PolicyKind};

fn name(policy: &str, index: Option<u32>) -> RuleName {
    let id = PolicyId { kind: PolicyKind::NetworkPolicy, name: Name::new("ns", policy) };
    RuleName { policy: Arc::new(id), direction: PolicyType::Ingress, index }
}

/// A flow table, for its trails.
fn table() -> FlowTable {
    FlowTable::new(1, [1, 2, 3, 4], Timeouts::default())
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
    let table = RuleCounts::default().table(&ids, table().trails(), &workers.each_ref());
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
    let table = table();
    let trails = table.trails();
    let mut counts_since = RuleCounts::default();
    let old = ids.give(name("old", Some(0)));
    let other = ids.give(name("other", None));
    admit(workers[0], old, 100);
    let trail = trails.extend(Snapshot::default().trails, other.into(), old).expect("room");
    workers[0].rules.count_trails([trail, TrailId::NONE], 70);
    assert_eq!(rows(counts_since.table(&ids, trails, &workers))[0].2, counts(2, 170, 1, 0));
    ids.take_back(old);
    // Numbers rest until so many others do.
    let mut new = old;
    for round in 0..3 {
        let given: Vec<RuleId> = (0..2000).map(|n| ids.give(name("new", Some(n)))).collect();
        counts_since.begin(&ids.take_given_again(), trails, &workers);
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
    let counted = || rows(counts_since.table(&ids, trails, &workers));
    assert_eq!(counted()[0], ("ns/other".to_owned(), None, counts(1, 70, 0, 0)));
    assert!(counted()[1..].iter().all(|row| row.2 == Counts::default()));
    admit(workers[0], new, 40);
    workers[0].rules.count_trails([TrailId::NONE, trail], 50);
    assert_eq!(counted()[0].2, counts(2, 90, 1, 0), "by the trail that its number is in");
    assert_eq!(counted()[1].2, counts(2, 120, 0, 0));
}

#[test]
fn a_trail_counts_for_each_of_its_rules() {
    let mut ids = RuleIds::default();
    let [decides, logs, staged, beyond] = [0, 1, 2, 3].map(|n| ids.give(name("a", Some(n))));
    let workers = [Counters::with_rules(3), Counters::with_rules(3)];
    let (table, era) = (table(), Snapshot::default().trails);
    let extend = |trail: TrailId, rule| {
        table.trails().extend(era, trail, workers[0].rules.counted(rule)).expect("room")
    };
    let both = extend(extend(decides.into(), logs), staged);
    let one = extend(TrailId::NONE, logs);
    let far = extend(workers[0].rules.counted(beyond).into(), logs);
    for (worker, trails) in [(0, [both, one]), (1, [one, both]), (1, [decides.into(), both]), (1, [far, far])]
    {
        workers[worker].rules.count_trails(trails, 10);
    }
    let counted = RuleCounts::default().table(&ids, table.trails(), &workers.each_ref());
    assert_eq!(counted.beyond, counts(2, 20, 0, 0));
    let rows = rows(counted).into_iter().map(|(_, index, counts)| (index, counts.packets, counts.bytes));
    assert!(rows.eq([(Some(1), 7, 70), (Some(0), 4, 40), (Some(2), 3, 30), (Some(3), 0, 0)]));
}

/// Publishes a snapshot. True if the next era of trails begins with it.
fn turn(
    counted: &mut RuleCounts,
    publisher: &mut Publisher<Snapshot>,
    trails: &Trails,
    workers: &[&Counters],
    hours: u64,
) -> bool {
    let mut next = Snapshot::default();
    next.succeed(publisher.current());
    let turns = counted.turn(&mut next, trails, workers, publisher, Duration::from_secs(3600 * hours));
    assert_eq!(turns, next.trails != publisher.current().trails);
    publisher.publish(next);
    turns
}

/// Eras follow each other as rules come and go, and what rules have counted stays.
#[test]
fn trails_give_way_and_counts_stay() {
    let mut ids = RuleIds::default();
    let [decides, logs] = [0, 1].map(|n| ids.give(name("a", Some(n))));
    let (workers, table) = ([Counters::default()], table());
    let (workers, trails) = (&workers.each_ref(), table.trails());
    let mut publisher = Publisher::new(Snapshot::default());
    let (mut reader, mut late) = (publisher.reader(), publisher.reader());
    let mut counted = RuleCounts::default();
    for era in 1..=3 {
        let current = reader.current().trails;
        let trail = trails.extend(current, decides.into(), logs).expect("room");
        workers[0].rules.count_trails([trail, TrailId::NONE], 10);
        assert!(!turn(&mut counted, &mut publisher, trails, workers, era), "few trails are in use");
        for n in 0..Trails::ERA / 2 {
            trails.extend(current, RuleId(n).into(), RuleId(n)).expect("room");
        }
        assert!(era == 1 || !turn(&mut counted, &mut publisher, trails, workers, era - 1), "not so soon");
        // The first era has none before it, and no worker that may still be there.
        assert!(era == 1 || !turn(&mut counted, &mut publisher, trails, workers, era), "one is late");
        late.current();
        assert!(turn(&mut counted, &mut publisher, trails, workers, era));
        let left = trails.iter().count();
        assert_eq!(left, 1 + Trails::ERA as usize / 2, "those of the era before have given way");
        let rows = rows(counted.table(&ids, trails, workers));
        assert!(rows.iter().all(|row| row.2 == counts(era, 10 * era, 0, 0)), "{rows:?}");
    }
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
    let table = RuleCounts::default().table(&ids, table().trails(), &workers.each_ref());
    assert_eq!(table.beyond, counts(4, 40, 4, 0));
    let packets: Vec<u64> = rows(table).iter().map(|row| row.2.packets).collect();
    assert_eq!(packets, [2, 2, 0, 0]);
}
