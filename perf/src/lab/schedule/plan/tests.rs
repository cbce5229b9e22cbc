//! Which cases the scopes hold, in which turns, and that they fit their time.

use std::collections::BTreeSet;

use super::*;

fn selection(scope: Scope) -> Selection {
    Selection {
        scope,
        jobs: vec![],
        dataplanes: vec![],
        sizes: vec![],
        flows: vec![],
        policies: vec![],
        repeats: None,
        time: None,
        ipip: false,
    }
}

fn plan(scope: Scope) -> Plan {
    Plan::new(&selection(scope)).unwrap()
}

/// The values that one axis has among the cases of a job.
fn axis<T: Ord>(cases: &[Case], job: Job, value: impl Fn(&Case) -> T) -> Vec<T> {
    let all: BTreeSet<T> = cases.iter().filter(|case| case.job == job).map(value).collect();
    all.into_iter().collect()
}

#[test]
fn quick_holds_what_the_goals_speak_of_and_nothing_else() {
    let cases: BTreeSet<Case> = plan(Scope::Quick).cases().into_iter().collect();
    let mut expected = BTreeSet::new();
    for job in [Job::VxlanEncap, Job::VxlanDecap, Job::Cps] {
        for dataplane in [Dataplane::Margay, Dataplane::Kernel, Dataplane::Ovs, Dataplane::Bare] {
            expected.insert(Case { job, dataplane, size: 64, flows: 10_000, policies: 1 });
        }
    }
    assert_eq!(cases, expected);
    assert!(plan(Scope::Quick).turns(0).flat_map(|turn| &turn.asks).all(|ask| ask.what == What::Figures));
}

#[test]
fn full_holds_every_job_and_every_axis() {
    let cases = plan(Scope::Full).cases();
    for job in [Job::VxlanEncap, Job::VxlanDecap] {
        let mut sizes = SIZES;
        sizes.sort_unstable();
        assert_eq!(axis(&cases, job, |case| case.size), sizes);
        assert_eq!(axis(&cases, job, |case| case.flows), [1, 10_000, 1_000_000]);
        assert_eq!(axis(&cases, job, |case| case.policies), [1, 10_000]);
    }
    for job in Job::value_variants() {
        let dataplanes = axis(&cases, *job, |case| case.dataplane);
        assert!(
            dataplanes.contains(&Dataplane::Margay) && dataplanes.contains(&Dataplane::Kernel),
            "{job:?}"
        );
        assert!(dataplanes.contains(&Dataplane::Ovs), "{job:?}");
        assert_eq!(dataplanes.contains(&Dataplane::Bare), *job != Job::Tcp, "{job:?}");
    }
    assert!(cases.iter().any(|case| case.dataplane == Dataplane::Testpmd));
    assert_eq!(axis(&cases, Job::Tcp, |case| (case.size, case.flows)), [(1518, 1)]);
    let once: BTreeSet<&Case> = cases.iter().collect();
    assert_eq!(once.len(), cases.len());
}

#[test]
fn compared_rows_are_of_equal_cases() {
    for scope in [Scope::Quick, Scope::Full] {
        let cases = plan(scope).cases();
        for case in cases.iter().filter(|case| case.dataplane != Dataplane::Testpmd) {
            for dataplane in COMPARED
                .into_iter()
                .filter(|dataplane| is_able(&Case { dataplane: *dataplane, ..*case }, false))
            {
                assert!(cases.contains(&Case { dataplane, ..*case }), "{dataplane:?} lacks {case:?}");
            }
        }
    }
}

#[test]
fn the_scopes_fit_their_time() {
    // Some of it is for building the report and for what took longer than it should.
    let cases = [(Scope::Quick, 180, 270), (Scope::Full, 1800, 3450)];
    for (scope, least, most) in cases {
        let estimate = plan(scope).estimate().as_secs();
        assert!((least..=most).contains(&estimate), "{scope:?}: {estimate} s");
        assert!(plan(scope).effort.repeats >= 3);
    }
}

#[test]
fn one_gateway_serves_all_that_it_can_and_another_is_first_in_each_round() {
    let plan = plan(Scope::Quick);
    let order = |round| -> Vec<_> { plan.turns(round).map(|turn| (turn.job, turn.dataplane)).collect() };
    let [margay, kernel, ovs, bare] = COMPARED;
    let turned = |job, dataplanes: [Dataplane; 4]| dataplanes.map(|dataplane| (job, dataplane));
    for (round, dataplanes) in
        [(0, [margay, kernel, ovs, bare]), (1, [kernel, ovs, bare, margay]), (4, [margay, kernel, ovs, bare])]
    {
        let expected = [turned(Job::VxlanEncap, dataplanes), turned(Job::VxlanDecap, dataplanes)].concat();
        assert_eq!(order(round), expected, "{round}");
    }
    let jobs: Vec<Job> = plan.turns(0).next().unwrap().asks.iter().map(|ask| ask.case.job).collect();
    assert_eq!(jobs, [Job::VxlanEncap, Job::Cps]);
}

#[test]
fn what_differs_in_links_or_tables_has_gateways_of_its_own() {
    for turn in plan(Scope::Full).turns(0) {
        let sizes: BTreeSet<bool> = turn.asks.iter().map(|ask| ask.case.size > 1518).collect();
        let flows: BTreeSet<bool> = turn.asks.iter().map(|ask| ask.case.flows > 100_000).collect();
        assert_eq!((sizes.len(), flows.len()), (1, 1), "{turn:?}");
        for Ask { case, .. } in &turn.asks {
            assert!(case.size <= turn.size && case.flows <= turn.flows);
            assert_eq!((case.dataplane, case.policies), (turn.dataplane, turn.policies));
        }
    }
}

#[test]
fn what_takes_long_is_asked_in_the_first_round_alone() {
    let plan = plan(Scope::Full);
    let whats = |round| -> BTreeSet<What> {
        plan.turns(round).flat_map(|turn| plan.asks(turn, round)).map(|ask| ask.what).collect()
    };
    assert_eq!(whats(0).len(), 5);
    assert_eq!(whats(1).into_iter().collect::<Vec<_>>(), [What::Figures]);
    assert!(plan.round(1) < plan.round(0));
}

#[test]
fn lists_narrow_the_plan_or_take_the_place_of_what_it_holds() {
    let narrow = Selection {
        jobs: vec![Job::L3, Job::Cps],
        dataplanes: vec![Dataplane::Kernel],
        ..selection(Scope::Full)
    };
    let cases = Plan::new(&narrow).unwrap().cases();
    assert!(cases.iter().all(|case| case.dataplane == Dataplane::Kernel));
    assert_eq!(
        axis(&cases, Job::L3, |case| (case.size, case.policies)),
        [(64, 0), (64, 1), (512, 1), (1518, 1)]
    );
    assert_eq!(cases.len(), 5);

    let own = Selection {
        jobs: vec![Job::L3, Job::Tcp],
        sizes: vec![100, 200],
        policies: vec![7],
        repeats: Some(1),
        ..selection(Scope::Quick)
    };
    for scope in [Scope::Quick, Scope::Full] {
        let plan = Plan::new(&Selection { scope, ..own.clone() }).unwrap();
        let cases = plan.cases();
        assert_eq!(
            axis(&cases, Job::L3, |case| (case.size, case.flows, case.policies)),
            [(100, 10_000, 7), (200, 10_000, 7)]
        );
        assert_eq!(axis(&cases, Job::Tcp, |case| (case.size, case.flows, case.policies)), [(1518, 1, 7)]);
        assert_eq!(plan.effort.repeats, 1);
    }

    let nothing =
        Selection { jobs: vec![Job::Tcp], dataplanes: vec![Dataplane::Bare], ..selection(Scope::Quick) };
    let error = Plan::new(&nothing).unwrap_err().to_string();
    assert!(error.starts_with("nothing to measure"), "{error}");
}

#[test]
fn who_asks_for_more_has_the_time() {
    let more = Selection { repeats: Some(20), ..selection(Scope::Quick) };
    let plan = Plan::new(&more).unwrap();
    assert!(plan.effort.budget >= plan.estimate() && plan.effort.budget.as_secs() > 300);
}

#[test]
fn ip_in_ip_is_for_those_that_are_set_up_for_it() {
    let own = Selection { ipip: true, ..selection(Scope::Quick) };
    let cases = Plan::new(&own).unwrap().cases();
    let dataplanes: BTreeSet<Dataplane> = cases.iter().map(|case| case.dataplane).collect();
    assert_eq!(dataplanes, BTreeSet::from([Dataplane::Margay, Dataplane::Bare]));
    let none = Selection { dataplanes: vec![Dataplane::Kernel], ..own };
    assert!(Plan::new(&none).is_err(), "nothing is left");
}

#[test]
fn what_a_dataplane_cannot_do_is_left_out_and_said() {
    let plan = plan(Scope::Full);
    let cases = plan.cases();
    assert!(
        cases.iter().any(|case| case.size == 9000)
            && cases.iter().any(|case| case.dataplane == Dataplane::Ovs)
    );
    assert!(!cases.iter().any(|case| case.size == 9000 && case.dataplane == Dataplane::Ovs));
    assert_eq!(axis(&cases, Job::L3, |case| case.dataplane).len(), 5);
    assert!(!cases.iter().any(|case| case.job != Job::L3 && case.dataplane == Dataplane::Testpmd));
    assert_eq!(plan.notes().len(), 2, "{:?}", plan.notes());
    let quick = Plan::new(&selection(Scope::Quick)).unwrap();
    assert_eq!(quick.notes(), Vec::<String>::new());
}
