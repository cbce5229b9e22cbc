use std::collections::BTreeMap;

use super::*;
use crate::lab::case::Job;

fn case(dataplane: Dataplane, flows: u32) -> Case {
    Case { job: Job::VxlanEncap, dataplane, size: 64, flows, policies: 1 }
}

fn results(rows: &[(Dataplane, Metric, &[f64])]) -> Results {
    let row = |(dataplane, metric, runs): &(Dataplane, Metric, &[f64])| {
        Row::new(&case(*dataplane, 1), *metric, runs.to_vec())
    };
    let machine = Machine { cpu: "one".to_owned(), ..Machine::default() };
    Results { machine, results: rows.iter().map(row).collect() }
}

fn verdict(metric: Metric, a: &[f64], b: &[f64]) -> Verdict {
    let [a, b] = [a, b].map(|runs| results(&[(Dataplane::Margay, metric, runs)]));
    compare(&a, &b, Basis::Figures).differences[0].verdict
}

#[test]
fn differences_are_told_from_noise() {
    use Metric::{Cps, Cpu, Loss, Mpps, P99};
    use Verdict::{Better, NoDifference, TooFewRuns, Worse};
    let cases: [(Metric, &[f64], &[f64], Verdict); 14] = [
        (Mpps, &[0.90, 0.91, 0.92], &[0.99, 1.0, 1.01], Better),
        (Mpps, &[0.99, 1.0, 1.01], &[0.90, 0.91, 0.92], Worse),
        (Mpps, &[0.90, 0.91, 0.92], &[0.90, 0.91, 0.92], NoDifference),
        // One slow repeat overlaps.
        (Mpps, &[0.90, 0.91, 1.00], &[0.99, 1.02, 1.01], NoDifference),
        // All are higher, by less than a hundredth.
        (Mpps, &[1.000, 1.001, 1.002], &[1.005, 1.006, 1.007], NoDifference),
        // All are higher, by less than what the repeats stray.
        (Mpps, &[0.8, 0.9, 1.0], &[1.01, 1.02, 1.4], NoDifference),
        (Cps, &[50_000.0, 51_000.0, 49_000.0, 50_500.0], &[70_000.0, 71_000.0, 69_000.0, 70_500.0], Better),
        (P99, &[20.0, 21.0, 22.0], &[40.0, 41.0, 45.0], Worse),
        (Cpu, &[2.0, 2.02, 2.04], &[1.5, 1.52, 1.54], Better),
        (Loss, &[0.0, 0.0, 0.0], &[0.0, 0.05, 0.09], NoDifference),
        (Loss, &[0.0, 0.0, 0.0], &[3.0, 3.1, 3.3], Worse),
        (Loss, &[0.0, 0.0, 0.0], &[0.0, 0.0, 0.0], NoDifference),
        (Mpps, &[0.0, 0.0, 0.0], &[1.0, 1.0, 1.0], Better),
        (Mpps, &[0.5, 0.5], &[1.0, 1.0], TooFewRuns),
    ];
    for (metric, a, b, expected) in cases {
        assert_eq!(verdict(metric, a, b), expected, "{metric:?} {a:?} {b:?}");
    }
}

#[test]
fn rows_of_one_file_alone_are_named() {
    use Dataplane::{Bare, Kernel, Margay};
    let a = results(&[(Margay, Metric::Mpps, &[1.0; 3]), (Kernel, Metric::Mpps, &[1.0; 3])]);
    let b = results(&[(Margay, Metric::Mpps, &[1.0; 3]), (Bare, Metric::Mpps, &[1.0; 3])]);
    let found = compare(&a, &b, Basis::Figures);
    let verdicts: Vec<_> = found.differences.iter().map(|each| (each.case.dataplane, each.verdict)).collect();
    let expected = [(Margay, Verdict::NoDifference), (Kernel, Verdict::OnlyInA), (Bare, Verdict::OnlyInB)];
    assert_eq!(verdicts, expected);
    assert_eq!((found.count(Verdict::OnlyInA), found.count(Verdict::Worse)), (1, 0));
    assert!(compare(&Results::default(), &Results::default(), Basis::Bare).differences.is_empty());
}

/// A machine that is a fifth slower all along is warned about, and makes no difference to ratios.
#[test]
fn ratios_to_bare_take_out_what_the_machine_does() {
    use Dataplane::{Bare, Margay};
    let a = [0.90, 0.93, 0.88];
    let run = |times: f64, own: f64| {
        let [margay, bare] = [0.95 * own, 1.0].map(|part| a.map(|turn| turn * part * times));
        results(&[(Margay, Metric::Mpps, &margay), (Bare, Metric::Mpps, &bare)])
    };
    let slower = compare(&run(1.0, 1.0), &run(0.8, 1.0), Basis::Figures);
    assert_eq!(slower.count(Verdict::Worse), 2);
    assert!(
        slower.warnings.iter().any(|warning| warning.contains("changed by -20.0 %")),
        "{:?}",
        slower.warnings
    );
    for (own, expected) in [(1.0, Verdict::NoDifference), (0.9, Verdict::Worse), (1.1, Verdict::Better)] {
        let found = compare(&run(1.0, 1.0), &run(0.8, own), Basis::Bare);
        assert_eq!(found.differences.len(), 1);
        assert_eq!(found.differences[0].verdict, expected, "{own}");
        assert!(found.warnings.is_empty(), "{:?}", found.warnings);
    }
}

#[test]
fn other_machines_are_warned_about() {
    type Changed = (fn(&mut Machine), &'static [&'static str]);
    let machine = || Machine {
        cpu: "one".to_owned(),
        kernel: "6.18".to_owned(),
        versions: BTreeMap::from(
            [("nft", "1.0"), ("margay", "0.1")].map(|(a, b)| (a.to_owned(), b.to_owned())),
        ),
        ..Machine::default()
    };
    let with = |change: fn(&mut Machine)| {
        let mut changed = machine();
        change(&mut changed);
        machines(&machine(), &changed)
    };
    let cases: [Changed; 6] = [
        (|_| (), &[]),
        (|m| m.started = "later".to_owned(), &[]),
        (|m| m.cpu = "two".to_owned(), &["different machines: processor: one, then two"]),
        (|m| m.cores = vec![0, 1], &["different machines: cores: [] of , then [0, 1] of "]),
        (|m| drop(m.versions.insert("nft".to_owned(), "1.1".to_owned())), &["nft: 1.0, then 1.1"]),
        (|m| drop(m.versions.insert("margay".to_owned(), "0.2".to_owned())), &[]),
    ];
    for (change, expected) in cases {
        assert_eq!(with(change), expected);
    }
    assert_eq!(machines(&machine(), &Machine::default()), ["a file says nothing of the machine"]);
}

/// Of rows that differ by noise alone few are said to differ, and of those that differ by more, most.
#[test]
fn few_are_called_different_that_are_not() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut runs = |median: f64, noise: f64| -> Vec<f64> {
        // Twelve even ones make about a normal one.
        let mut normal = || (0..12).map(|_| random.f64()).sum::<f64>() - 6.0;
        (0..3).map(|_| median * (1.0 + noise * normal())).collect()
    };
    let mut world = |times: f64| {
        let row = |flows| Row::new(&case(Dataplane::Margay, flows), Metric::Mpps, runs(times, 0.03));
        Results { machine: Machine::default(), results: (1..=1000).map(row).collect() }
    };
    let (a, same, slower) = (world(1.0), world(1.0), world(0.85));
    let null = compare(&a, &same, Basis::Figures);
    let called = null.count(Verdict::Worse) + null.count(Verdict::Better);
    assert!(called < 50, "{called} of 1,000");
    let found = compare(&a, &slower, Basis::Figures).count(Verdict::Worse);
    assert!(found > 900, "{found} of 1,000");
}
