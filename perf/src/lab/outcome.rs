//! What a run has found so far: answers as they come, and the results and details that are made of them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::case::{Case, Job, Metric, name};
use super::details::{self, Details};
use super::machine::Machine;
use super::method::burst::Burst;
use super::method::curve::Point;
use super::method::latency::AtShare;
use super::method::soak::Slice;
use super::method::throughput::{Limit, Throughput};
use super::results::{Results, Row};
use super::schedule::plan::{Ask, What};

/// So many attempts that fail, and none that does not, are enough.
const ATTEMPTS: u32 = 2;

/// What a gateway answered.
#[derive(Debug)]
pub enum Answer {
    Figures(Box<Figures>),
    /// Packets a second.
    NoDrop(f64),
    LossCurve(Vec<Point>),
    BackToBack(Burst),
    Soak {
        /// Packets a second.
        offered: f64,
        new_flows_a_second: f64,
        slices: Vec<Slice>,
    },
}

/// What a job is measured in.
#[derive(Debug, Default)]
pub struct Figures {
    pub rows: Vec<(Metric, f64)>,
    /// Of jobs that are searches.
    pub throughput: Option<Throughput>,
    pub latencies: Vec<AtShare>,
    /// What a reader has to know beside.
    pub notes: Vec<String>,
}

/// What a gateway is that runs.
#[derive(Clone, Debug)]
pub struct Described {
    pub gateway: details::Gateway,
    /// By device: what the kernel leaves to it.
    pub offloads: BTreeMap<String, String>,
}

#[derive(Debug, Default)]
pub struct Outcome {
    /// In the order in which they came first.
    rows: Vec<((Case, Metric), Vec<f64>)>,
    latencies: Vec<((Case, u8), Latencies)>,
    /// What needs no more than to be put down.
    details: Details,
    offloads: BTreeMap<String, String>,
    asked: BTreeMap<(Case, What), Attempts>,
    pub is_interrupted: bool,
}

/// Of all repeats.
#[derive(Debug)]
struct Latencies {
    offered: Vec<f64>,
    histogram: Histogram<u64>,
}

#[derive(Debug, Default)]
struct Attempts {
    answered: u32,
    failed: u32,
    /// Why, the last time, and in which repeat.
    reason: Option<(u32, String)>,
}

impl Outcome {
    pub fn answer(&mut self, ask: &Ask, answer: Answer) {
        let case = ask.case;
        self.asked.entry((case, ask.what)).or_default().answered += 1;
        match answer {
            Answer::Figures(figures) => self.figures(case, *figures),
            Answer::NoDrop(rate) => self.throughput(case).no_drop.push(rate / 1e6),
            Answer::LossCurve(points) => {
                let points = points.iter().map(point).collect();
                self.details.loss.push(details::LossCurve { case, points });
            }
            Answer::BackToBack(Burst { packets, is_longest_tried }) => {
                let burst = details::BackToBack { case, frames: vec![packets], at_least: is_longest_tried };
                self.details.bursts.push(burst);
            }
            Answer::Soak { offered, new_flows_a_second, slices } => {
                let moments = slices.iter().map(moment).collect();
                let offered = offered / 1e6;
                self.details.soaks.push(details::Soak { case, offered, new_flows_a_second, moments });
            }
        }
    }

    fn figures(&mut self, case: Case, figures: Figures) {
        for (metric, value) in figures.rows {
            entry(&mut self.rows, (case, metric), Vec::new).push(value);
        }
        if let Some(found) = figures.throughput {
            let of_case = self.throughput(case);
            of_case.lossy.push(found.rate() / 1e6);
            of_case.is_source_limit |= found.limit == Limit::Source;
            if let Some(best) = found.best {
                of_case.sent += best.sent;
                of_case.duplicates += best.duplicates;
                of_case.reordered += best.reordered;
            }
        }
        for note in figures.notes {
            self.note(format!("{}: {note}", told(&case)));
        }
        for AtShare { percent, measured } in figures.latencies {
            let empty = || Latencies { offered: vec![], histogram: Histogram::new_from(&measured.latency) };
            let all = entry(&mut self.latencies, (case, percent), empty);
            all.offered.push(measured.rate() / 1e6);
            // Same bounds, or it would not have come from the same sink.
            let _ = all.histogram.add(&measured.latency);
        }
    }

    fn throughput(&mut self, case: Case) -> &mut details::Throughput {
        let all = &mut self.details.throughput;
        let at = all.iter().position(|of| of.case == case).unwrap_or_else(|| {
            let (no_drop, lossy, is_source_limit) = (vec![], vec![], false);
            let (sent, duplicates, reordered) = (0, 0, 0);
            all.push(details::Throughput {
                case,
                no_drop,
                lossy,
                is_source_limit,
                sent,
                duplicates,
                reordered,
            });
            all.len() - 1
        });
        &mut all[at]
    }

    /// A repeat that gave nothing, counted from 0.
    pub fn fail(&mut self, ask: &Ask, round: u32, reason: String) {
        let attempts = self.asked.entry((ask.case, ask.what)).or_default();
        attempts.failed += 1;
        attempts.reason = Some((round, reason));
    }

    /// Whether it failed so often that there is no point in asking again.
    #[must_use]
    pub fn is_given_up(&self, ask: &Ask) -> bool {
        let attempts = self.asked.get(&(ask.case, ask.what));
        attempts.is_some_and(|attempts| attempts.answered == 0 && attempts.failed >= ATTEMPTS)
    }

    /// A gateway that ran. What is the same in several jobs is said once.
    pub fn describe(&mut self, job: Job, Described { gateway, offloads }: Described) {
        self.offloads.extend(offloads);
        let same = |of: &&mut details::Gateway| {
            (of.dataplane, &of.version, &of.arrangement, &of.settings)
                == (gateway.dataplane, &gateway.version, &gateway.arrangement, &gateway.settings)
        };
        match self.details.gateways.iter_mut().find(same) {
            Some(known) if known.jobs.contains(&job) => {}
            Some(known) => known.jobs.push(job),
            None => self.details.gateways.push(details::Gateway { jobs: vec![job], ..gateway }),
        }
    }

    #[must_use]
    pub fn offloads(&self) -> &BTreeMap<String, String> {
        &self.offloads
    }

    pub fn note(&mut self, note: String) {
        self.details.notes.push(note);
    }

    /// What was asked and never answered.
    #[must_use]
    pub fn failures(&self) -> Vec<details::Failure> {
        let never = self.asked.iter().filter(|(_, attempts)| attempts.answered == 0);
        never
            .filter_map(|(&(case, what), attempts)| {
                let (_, reason) = attempts.reason.clone()?;
                Some(details::Failure { case, what: what.name(case.job).to_owned(), reason })
            })
            .collect()
    }

    #[must_use]
    pub fn results(&self, machine: Machine) -> Results {
        let rows = self.rows.iter().map(|((case, metric), runs)| Row::new(case, *metric, runs.clone()));
        Results { machine, results: rows.collect() }
    }

    #[must_use]
    pub fn details(&self, command: &str) -> Details {
        let latency = self.latencies.iter().filter_map(|((case, percent), all)| {
            details::LatencyAt::of(case, *percent, super::results::median(&all.offered), &all.histogram)
        });
        let notes = self.details.notes.iter().cloned().chain(self.repeats_lost());
        Details {
            command: command.to_owned(),
            latency: latency.collect(),
            failures: self.failures(),
            notes: notes.collect(),
            ..self.details.clone()
        }
    }

    /// Repeats that failed of what was answered in others.
    fn repeats_lost(&self) -> impl Iterator<Item = String> {
        self.asked.iter().filter(|(_, attempts)| attempts.answered > 0).filter_map(
            |((case, what), attempts)| {
                let (round, reason) = attempts.reason.as_ref()?;
                let what = what.name(case.job);
                Some(format!("{what} of {}: repeat {} gave nothing: {reason}", told(case), round + 1))
            },
        )
    }
}

/// A case in a sentence.
#[must_use]
pub fn told(case: &Case) -> String {
    let Case { job, dataplane, size, flows, policies } = case;
    format!("{} {}, {size} bytes, {flows} flows, {policies} policies", name(job), name(dataplane))
}

fn entry<K: PartialEq, V>(all: &mut Vec<(K, V)>, key: K, empty: impl FnOnce() -> V) -> &mut V {
    let at = all.iter().position(|(of, _)| *of == key).unwrap_or_else(|| {
        all.push((key, empty()));
        all.len() - 1
    });
    &mut all[at].1
}

fn point(point: &Point) -> details::LossPoint {
    let &Point { rate, forwarded, loss } = point;
    details::LossPoint { offered: rate / 1e6, forwarded: forwarded / 1e6, loss_percent: loss * 100.0 }
}

fn moment(slice: &Slice) -> details::Moment {
    let us = |quantile| slice.measured.latency.value_at_quantile(quantile) as f64 / 1e3;
    details::Moment {
        at_s: slice.at.as_secs_f64(),
        forwarded: slice.measured.forwarded() / 1e6,
        loss_percent: slice.measured.loss() * 100.0,
        p50_us: us(0.5),
        p99_us: us(0.99),
        resident_bytes: slice.resident,
    }
}
