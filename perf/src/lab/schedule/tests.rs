//! The order of a run, and what becomes of it when things fail, with gateways that are none.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::bail;

use super::plan::{Scope, Selection, What};
use super::*;
use crate::lab::case::{Dataplane, Job, Metric, name};
use crate::lab::details::Gateway;
use crate::lab::machine::Machine;
use crate::lab::outcome::Figures;

/// What fails, for these tests.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Start(Dataplane),
    /// Answers of this job, so many times.
    Answers(Dataplane, Job, u32),
}

struct Pretended {
    fault: Fault,
    failed: u32,
    time: Rc<Cell<Duration>>,
    up: Rc<Cell<u32>>,
    started: Vec<Dataplane>,
}

struct Up(Rc<Cell<u32>>);

impl Drop for Up {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Lab for Pretended {
    type Gateway = Up;

    fn start(&mut self, turn: &Turn) -> anyhow::Result<Up> {
        self.started.push(turn.dataplane);
        assert_eq!(self.up.get(), 0, "one at a time");
        if self.fault == Fault::Start(turn.dataplane) {
            bail!("not installed");
        }
        self.up.set(1);
        Ok(Up(Rc::clone(&self.up)))
    }

    fn describe(&self, turn: &Turn, _: &Up) -> Described {
        let (version, arrangement, settings) = ("1".to_owned(), "core 1".to_owned(), vec![]);
        let dataplane = turn.dataplane;
        let gateway = Gateway { dataplane, jobs: vec![], version, arrangement, settings };
        Described { gateway, offloads: BTreeMap::new() }
    }

    fn ask(&mut self, _: &mut Up, ask: &Ask, _: &Effort) -> anyhow::Result<Answer> {
        self.time.set(self.time.get() + Duration::from_secs(1));
        if let Fault::Answers(dataplane, job, times) = self.fault
            && (dataplane, job) == (ask.case.dataplane, ask.case.job)
            && self.failed < times
        {
            self.failed += 1;
            bail!("the sink saw nothing");
        }
        let seconds = self.time.get().as_secs_f64();
        Ok(match ask.what {
            What::Figures => {
                let rows = vec![(Metric::Mpps, seconds)];
                Answer::Figures(Box::new(Figures { rows, ..Figures::default() }))
            }
            _ => Answer::NoDrop(1e6),
        })
    }
}

struct Looker {
    time: Rc<Cell<Duration>>,
    stop_at: Duration,
    done: Duration,
    said: Vec<String>,
    kept: u32,
}

impl Watch for Looker {
    fn is_stopped(&self) -> bool {
        self.time.get() >= self.stop_at
    }

    fn elapsed(&self) -> Duration {
        self.time.get()
    }

    fn comes(&mut self, round: u32, turn: &Turn, ask: Option<&Ask>) {
        let job = ask.map_or("start".to_owned(), |ask| name(&ask.case.job));
        self.said.push(format!("{round} {} {} {job}", name(&turn.job), name(&turn.dataplane)));
    }

    fn done(&mut self, estimate: Duration) {
        self.done += estimate;
    }

    fn failed(&mut self, ask: &Ask, reason: &str) {
        self.said.push(format!("{}: {reason}", name(&ask.case.dataplane)));
    }

    fn keep(&mut self, _: &Outcome) -> anyhow::Result<()> {
        self.kept += 1;
        Ok(())
    }
}

fn quick(dataplanes: &[Dataplane]) -> Plan {
    Plan::new(&Selection {
        scope: Scope::Quick,
        jobs: vec![],
        dataplanes: dataplanes.to_vec(),
        sizes: vec![],
        flows: vec![],
        policies: vec![],
        repeats: Some(3),
        time: None,
        ipip: false,
    })
    .unwrap()
}

fn run_with(plan: &Plan, fault: Fault, stop_at: u64) -> (Outcome, Pretended, Looker) {
    let time = Rc::new(Cell::new(Duration::ZERO));
    let up = Rc::default();
    let mut lab = Pretended { fault, failed: 0, time: Rc::clone(&time), up, started: vec![] };
    let stop_at = Duration::from_secs(stop_at);
    let mut looker = Looker { time, stop_at, done: Duration::ZERO, said: vec![], kept: 0 };
    let outcome = run(plan, &mut lab, &mut looker).unwrap();
    assert_eq!(lab.up.get(), 0);
    (outcome, lab, looker)
}

const NEVER: u64 = 1_000_000;

/// The runs of each case's rate, by job and dataplane.
fn runs(outcome: &Outcome) -> Vec<(String, Vec<f64>)> {
    let rows = outcome.results(Machine::default()).results;
    rows.into_iter().map(|row| (format!("{} {}", name(&row.job), name(&row.dataplane)), row.runs)).collect()
}

#[test]
fn dataplanes_take_turns_in_each_round() {
    let plan = quick(&[Dataplane::Margay, Dataplane::Kernel]);
    let (outcome, lab, looker) = run_with(&plan, Fault::None, NEVER);
    let expected = [
        ("vxlan-encap margay", vec![1.0, 9.0, 13.0]),
        ("cps margay", vec![2.0, 10.0, 14.0]),
        ("vxlan-encap kernel", vec![3.0, 7.0, 15.0]),
        ("cps kernel", vec![4.0, 8.0, 16.0]),
        ("vxlan-decap margay", vec![5.0, 12.0, 17.0]),
        ("vxlan-decap kernel", vec![6.0, 11.0, 18.0]),
    ];
    assert_eq!(runs(&outcome), expected.map(|(case, runs)| (case.to_owned(), runs)));
    assert_eq!((lab.started.len(), looker.kept, looker.done), (12, 18, plan.estimate()));
    assert!(outcome.failures().is_empty() && !outcome.is_interrupted);
    let gateways = outcome.details("").gateways;
    let jobs: Vec<_> = gateways.iter().map(|gateway| (gateway.dataplane, gateway.jobs.len())).collect();
    assert_eq!(jobs, [(Dataplane::Margay, 2), (Dataplane::Kernel, 2)]);
}

#[test]
fn a_dataplane_that_does_not_start_is_tried_twice_and_the_others_go_on() {
    let plan = quick(&[Dataplane::Ovs, Dataplane::Kernel]);
    let (outcome, lab, looker) = run_with(&plan, Fault::Start(Dataplane::Ovs), NEVER);
    assert_eq!(lab.started.iter().filter(|dataplane| **dataplane == Dataplane::Ovs).count(), 4);
    assert_eq!(looker.done, plan.estimate());
    let failures = outcome.failures();
    let failed: Vec<_> = failures.iter().map(|failure| (failure.case.job, failure.what.as_str())).collect();
    let expected = [(Job::VxlanDecap, "throughput"), (Job::VxlanEncap, "throughput"), (Job::Cps, "rate")];
    assert_eq!(failed, expected);
    assert!(failures.iter().all(|failure| failure.reason == "not installed"));
    assert!(looker.said.contains(&"ovs: not installed".to_owned()));
    assert!(runs(&outcome).iter().all(|(case, runs)| case.ends_with("kernel") && runs.len() == 3));
}

#[test]
fn a_repeat_that_fails_is_missing_and_no_more() {
    let plan = quick(&[Dataplane::Margay]);
    let (outcome, ..) = run_with(&plan, Fault::Answers(Dataplane::Margay, Job::Cps, 1), NEVER);
    let lengths: Vec<_> = runs(&outcome).into_iter().map(|(case, runs)| (case, runs.len())).collect();
    let expected = [("vxlan-encap margay", 3), ("vxlan-decap margay", 3), ("cps margay", 2)];
    assert_eq!(lengths, expected.map(|(case, runs)| (case.to_owned(), runs)));
    assert!(outcome.failures().is_empty());
    let notes = outcome.details("").notes;
    assert_eq!(
        notes,
        [
            "rate of cps margay, 64 bytes, 10000 flows, 1 policies: repeat 1 gave nothing: the sink saw nothing"
        ]
    );
}

#[test]
fn an_answer_that_fails_always_is_given_up() {
    let plan = quick(&[Dataplane::Margay]);
    let (outcome, lab, _) = run_with(&plan, Fault::Answers(Dataplane::Margay, Job::Cps, 99), NEVER);
    assert_eq!(lab.failed, 2);
    assert_eq!(outcome.failures().len(), 1);
}

#[test]
fn a_run_that_is_stopped_keeps_what_it_has() {
    let plan = quick(&[Dataplane::Margay, Dataplane::Kernel]);
    let (outcome, lab, _) = run_with(&plan, Fault::Answers(Dataplane::Kernel, Job::VxlanEncap, 1), 3);
    assert!(outcome.is_interrupted);
    // What failed when it was stopped is none of the kernel's fault.
    assert!(outcome.failures().is_empty());
    assert_eq!(lab.started, [Dataplane::Margay, Dataplane::Kernel]);
    let expected = [("vxlan-encap margay", vec![1.0]), ("cps margay", vec![2.0])];
    assert_eq!(runs(&outcome), expected.map(|(case, runs)| (case.to_owned(), runs)));
    assert_eq!(outcome.details("").notes, ["it was interrupted"]);
}

#[test]
fn a_round_that_would_end_too_late_is_not_begun() {
    let mut plan = quick(&[Dataplane::Margay]);
    // A round of three answers takes three seconds here.
    for (budget, rounds) in [(5, 1), (6, 2), (8, 2), (9, 3)] {
        plan.effort.budget = Duration::from_secs(budget);
        let (outcome, ..) = run_with(&plan, Fault::None, NEVER);
        assert!(runs(&outcome).iter().all(|(_, runs)| runs.len() == rounds), "{budget}");
        assert_eq!(outcome.details("").notes.len(), usize::from(rounds < 3), "{budget}");
    }
}
