//! Two runs beside each other: which figures differ by more than noise.
//!
//! A figure has three to nine repeats, too few for anything that assumes a distribution. So the repeats of both runs are put in
//! order, and what counts is how often an order as lopsided would come about by chance (Mann and Whitney's U, exact). Twenty
//! repeats tell differences apart that nobody can use, so a difference has to be larger too than what repeats of such a
//! figure typically stray: one run is granted that much before the test.
//!
//! Repeats of a run stand closer to each other than runs do, for machines drift. `Basis::Bare` takes out what the bare forwarder of
//! the same run shows too.

mod rank;

use std::collections::BTreeSet;

use clap::ValueEnum;
use serde::Serialize;

use super::case::{Case, Dataplane, Metric};
use super::machine::Machine;
use super::results::{Key, Results, Row, median, rounded};

/// An order as lopsided comes about by chance no more often: the least that three repeats beside three can show.
const CHANCE: f64 = 0.05;

/// Differences that are none however steady the repeats are: a share of the figure, and percentage points of loss.
const LEAST_SHARE: f64 = 0.01;
const LEAST_LOSS: f64 = 0.1;

/// What is compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// The figures.
    #[default]
    Figures,
    /// Their ratios to those of the bare forwarder in the same run, where it has the same.
    Bare,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Worse,
    Better,
    NoDifference,
    /// Fewer than three repeats on a side show nothing.
    TooFewRuns,
    OnlyInA,
    OnlyInB,
}

/// One figure of both runs.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    #[serde(flatten)]
    pub case: Case,
    pub metric: Metric,
    pub a: Option<f64>,
    pub b: Option<f64>,
    /// From A to B; of loss in percentage points.
    pub change_percent: Option<f64>,
    /// What such a figure strays by.
    pub noise_percent: Option<f64>,
    /// How often chance alone would make the order of the repeats as lopsided.
    pub chance: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    pub basis: Basis,
    /// What makes the runs hard to compare.
    pub warnings: Vec<String>,
    pub differences: Vec<Difference>,
}

impl Comparison {
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.differences.iter().filter(|each| each.verdict == verdict).count()
    }
}

/// What became of A's figures in B.
#[must_use]
pub fn compare(a: &Results, b: &Results, basis: Basis) -> Comparison {
    let rows = [a, b].map(|results| on(results, basis));
    let keys: BTreeSet<Key> = rows.iter().flatten().map(Row::key).collect();
    let differences = keys.into_iter().map(|key| {
        let of = |rows: &[Row]| rows.iter().find(|row| row.key() == key).cloned();
        let noise = noise(&rows, key.1);
        difference(key, of(&rows[0]), of(&rows[1]), noise)
    });
    let differences: Vec<Difference> = differences.collect();
    let mut warnings = machines(&a.machine, &b.machine);
    if basis == Basis::Figures {
        warnings.extend(drift(&differences));
    }
    Comparison { basis, warnings, differences }
}

/// The rows as they are compared.
fn on(results: &Results, basis: Basis) -> Vec<Row> {
    let to_bare = |row: &Row| {
        let bare = results.find(&Case { dataplane: Dataplane::Bare, ..row.case() }, row.metric)?;
        // Loss is nought where all is well.
        let is_ratio = row.metric != Metric::Loss && row.dataplane != Dataplane::Bare && bare.value > 0.0;
        is_ratio.then(|| Row::new(&row.case(), row.metric, ratios(row, bare)))
    };
    match basis {
        Basis::Figures => results.results.clone(),
        Basis::Bare => results.results.iter().filter_map(to_bare).collect(),
    }
}

/// Turn by turn where both have as many.
fn ratios(row: &Row, bare: &Row) -> Vec<f64> {
    let is_paired = row.runs.len() == bare.runs.len() && bare.runs.iter().all(|run| *run > 0.0);
    let over = |turn: usize| if is_paired { bare.runs[turn] } else { bare.value };
    row.runs.iter().enumerate().map(|(turn, run)| run / over(turn)).collect()
}

/// What one repeat of the metric typically strays from its median, over all rows of both runs: few repeats of one row say
/// little of it. Of loss in percentage points, else a share.
fn noise(rows: &[Vec<Row>; 2], metric: Metric) -> f64 {
    let stray = |row: &Row| {
        let from: Vec<f64> = row.runs.iter().map(|run| (run - row.value).abs()).collect();
        // The median's own distance is nought, which few repeats feel.
        let stray = from.iter().sum::<f64>() / (from.len().max(2) - 1) as f64;
        if metric == Metric::Loss { stray } else { stray / row.value.max(f64::MIN_POSITIVE) }
    };
    let of_metric = rows.iter().flatten().filter(|row| row.metric == metric && row.runs.len() > 1);
    let strays: Vec<f64> = of_metric.map(stray).collect();
    let least = if metric == Metric::Loss { LEAST_LOSS } else { LEAST_SHARE };
    if strays.is_empty() { least } else { median(&strays).max(least) }
}

fn difference((case, metric): Key, a: Option<Row>, b: Option<Row>, noise: f64) -> Difference {
    let values = [&a, &b].map(|row| row.as_ref().map(|row| row.value));
    let mut found = Difference {
        case,
        metric,
        a: values[0],
        b: values[1],
        change_percent: None,
        noise_percent: None,
        chance: None,
        verdict: if a.is_some() { Verdict::OnlyInA } else { Verdict::OnlyInB },
    };
    let (Some(a), Some(b)) = (a, b) else { return found };
    let is_loss = metric == Metric::Loss;
    let percent = |share: f64| rounded(if is_loss { share } else { share * 100.0 });
    found.noise_percent = Some(percent(noise));
    let change = if is_loss { b.value - a.value } else { b.value / a.value - 1.0 };
    found.change_percent = change.is_finite().then(|| percent(change));
    if a.runs.len().min(b.runs.len()) < 3 {
        found.verdict = Verdict::TooFewRuns;
        return found;
    }
    // A is granted the noise, towards B.
    let granted = |up: f64| -> Vec<f64> {
        let shift = |run: &f64| if is_loss { run + up * noise } else { run * (1.0 + up * noise) };
        a.runs.iter().map(shift).collect()
    };
    let chance_up = rank::chance_above(&b.runs, &granted(1.0));
    let chance_down = rank::chance_above(&granted(-1.0), &b.runs);
    found.chance = Some(rounded(chance_up.min(chance_down)));
    found.verdict = match (chance_up <= CHANCE, chance_down <= CHANCE) {
        (false, false) | (true, true) => Verdict::NoDifference,
        (up, _) if up == metric.is_rate() => Verdict::Better,
        _ => Verdict::Worse,
    };
    found
}

/// What of the machines differs and bears on figures.
fn machines(a: &Machine, b: &Machine) -> Vec<String> {
    let of = |machine: &Machine| {
        [
            ("processor", machine.cpu.clone()),
            ("cores", format!("{:?} of {}", machine.cores, machine.cores_online)),
            ("hypervisor", machine.hypervisor.clone().unwrap_or_default()),
            ("kernel", machine.kernel.clone()),
            ("kernel parameters", machine.kernel_parameters.join(" ")),
            ("mitigations", format!("{:?}", machine.mitigations)),
            ("clock source", machine.clocksource.clone()),
            ("governor", machine.governor.clone()),
            ("load", format!("{:?}", machine.load)),
        ]
    };
    if *a == Machine::default() || *b == Machine::default() {
        return vec!["a file says nothing of the machine".to_owned()];
    }
    let pairs = of(a).into_iter().zip(of(b)).filter(|(a, b)| a != b);
    let mut warnings: Vec<String> =
        pairs.map(|((what, a), (_, b))| format!("different machines: {what}: {a}, then {b}")).collect();
    let others = a.versions.iter().filter(|(program, _)| *program != "margay");
    let changed = others.filter_map(|(program, a)| Some((program, a, b.versions.get(program)?)));
    warnings.extend(
        changed.filter(|(_, a, b)| a != b).map(|(program, a, b)| format!("{program}: {a}, then {b}")),
    );
    warnings
}

/// That the bare forwarder itself is not as fast as it was: the machine has changed its mind, or Margay's ports have.
fn drift(differences: &[Difference]) -> Option<String> {
    let of_bare = |each: &&Difference| each.case.dataplane == Dataplane::Bare && each.metric == Metric::Mpps;
    let bare: Vec<&Difference> = differences.iter().filter(of_bare).collect();
    let moved = bare.iter().any(|each| matches!(each.verdict, Verdict::Better | Verdict::Worse));
    let changes: Vec<f64> = bare.iter().filter_map(|each| each.change_percent).collect();
    moved.then(|| {
        format!(
            "the bare forwarder's own throughput changed by {:+.1} %: the machine, or the ports, were not the same; \
             `--basis bare` compares ratios to it",
            median(&changes)
        )
    })
}

#[cfg(test)]
mod tests;
