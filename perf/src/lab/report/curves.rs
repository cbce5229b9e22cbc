//! Lines: throughput by size, flows and policies; what is lost at which rate; how long packets take; a soak over time.

use std::collections::BTreeSet;

use super::chart::{Axis, Line, decades, lines};
use super::goals::{FLOWS, POLICIES, SIZE};
use super::look::{self, ALL, color};
use crate::lab::case::{Case, Dataplane, Job, Metric};
use crate::lab::details::{LatencyAt, LossCurve, Moment, Soak};
use crate::lab::results::{Results, Row};

/// A chart, and what it is called.
pub(super) type Titled = (String, String);

const SMALL: (i32, i32) = (640, 400);
const WIDE: (i32, i32) = (1000, 340);

/// What differs along a line while all else stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Along {
    Size,
    Flows,
    Policies,
}

impl Along {
    fn of(self, case: &Case) -> u32 {
        match self {
            Self::Size => u32::from(case.size),
            Self::Flows => case.flows,
            Self::Policies => case.policies,
        }
    }

    /// The case with what differs made that of the goals, so that cases of one line are equal.
    fn without(self, case: Case) -> Case {
        match self {
            Self::Size => Case { size: SIZE, ..case },
            Self::Flows => Case { flows: FLOWS, ..case },
            Self::Policies => Case { policies: POLICIES, ..case },
        }
    }

    fn axis(self, values: &BTreeSet<u32>) -> Axis {
        let (label, name): (_, fn(u32) -> String) = match self {
            Self::Size => ("bytes of a frame", |size| look::size(size as u16)),
            Self::Flows => ("flows", crate::control::grouped),
            Self::Policies => ("policies", crate::control::grouped),
        };
        Axis::names(label, values.iter().map(|&value| name(value)))
    }
}

/// Throughput, a chart for each job that was measured at two places or more.
pub(super) fn throughput(results: &Results, along: Along) -> anyhow::Result<Vec<Titled>> {
    let jobs = [Job::VxlanEncap, Job::VxlanDecap, Job::VxlanBoth, Job::L3];
    let mut charts = Vec::new();
    for job in jobs {
        let is_of_it = |row: &&Row| {
            let plain = Case { job, dataplane: row.dataplane, size: SIZE, flows: FLOWS, policies: POLICIES };
            row.metric == Metric::Mpps && along.without(row.case()) == plain
        };
        let rows: Vec<&Row> = results.results.iter().filter(is_of_it).collect();
        let places: BTreeSet<u32> = rows.iter().map(|row| along.of(&row.case())).collect();
        if places.len() < 2 {
            continue;
        }
        let most = rows.iter().flat_map(|row| &row.runs).copied().fold(0.0, f64::max);
        let y = Axis::linear("million packets a second", most);
        let drawn: Vec<Line> =
            ALL.into_iter().filter_map(|of| line_along(of, &rows, &places, along)).collect();
        charts.push((look::job(job).to_owned(), lines(SMALL, &along.axis(&places), &y, &drawn)?));
    }
    Ok(charts)
}

fn line_along(dataplane: Dataplane, rows: &[&Row], places: &BTreeSet<u32>, along: Along) -> Option<Line> {
    let of_place = |(place, value): (usize, &u32)| {
        let row = rows.iter().find(|row| row.dataplane == dataplane && along.of(&row.case()) == *value)?;
        let runs = || row.runs.iter().copied();
        let whisker = (place as f64, runs().fold(f64::INFINITY, f64::min), runs().fold(0.0, f64::max));
        Some(((place as f64, row.value), whisker))
    };
    let (points, whiskers): (Vec<_>, Vec<_>) = places.iter().enumerate().filter_map(of_place).unzip();
    let is_there = !points.is_empty();
    is_there.then(|| Line { points, whiskers, has_marks: true, ..plain(dataplane) })
}

fn plain(dataplane: Dataplane) -> Line {
    Line {
        name: look::dataplane(dataplane).to_owned(),
        color: color(dataplane),
        // The ceiling, rather than one who is measured.
        is_dashed: dataplane == Dataplane::Bare,
        has_marks: false,
        points: Vec::new(),
        whiskers: Vec::new(),
    }
}

/// The cases of some curves without their dataplanes, and the title of each.
fn settings<'a>(cases: impl Iterator<Item = &'a Case>) -> Vec<(Case, String)> {
    let alike: BTreeSet<Case> = cases.map(|case| Case { dataplane: Dataplane::Margay, ..*case }).collect();
    let title = |case: Case| {
        let Case { job, size, flows, policies, .. } = case;
        let [bytes, flows, policies] = [look::bytes(size), look::flows(flows), look::policies(policies)];
        (case, format!("{}: {bytes}, {flows}, {policies}", look::job(job.way())))
    };
    alike.into_iter().map(title).collect()
}

/// The share of packets that is lost below which it is drawn as nothing, in percent.
const NOTHING: f64 = 0.001;

/// What is forwarded of what is offered, and what is lost: a pair of charts for each case.
pub(super) fn loss(curves: &[LossCurve]) -> anyhow::Result<Vec<Titled>> {
    let mut charts = Vec::new();
    for (setting, title) in settings(curves.iter().map(|curve| &curve.case)) {
        let of_case =
            |dataplane| curves.iter().find(move |curve| curve.case == Case { dataplane, ..setting });
        let found: Vec<&LossCurve> = ALL.into_iter().filter_map(of_case).collect();
        let points = || found.iter().flat_map(|curve| &curve.points);
        let most = points().map(|point| point.offered).fold(0.0, f64::max);
        let x = Axis::linear("offered, million packets a second", most);
        let y = Axis::linear(
            "forwarded, million packets a second",
            points().map(|point| point.forwarded).fold(0.0, f64::max),
        );
        let of = |value: fn(&crate::lab::details::LossPoint) -> f64| -> Vec<Line> {
            let line = |curve: &&LossCurve| {
                // As the source got to it, which is not always as it was asked to.
                let mut points: Vec<_> =
                    curve.points.iter().map(|point| (point.offered, value(point))).collect();
                points.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                Line { points, has_marks: true, ..plain(curve.case.dataplane) }
            };
            found.iter().map(line).collect()
        };
        charts.push((format!("{title}: forwarded"), lines(SMALL, &x, &y, &of(|point| point.forwarded))?));
        let lost = of(|point| decades(point.loss_percent.clamp(NOTHING, 100.0)));
        charts.push((format!("{title}: lost"), lines(SMALL, &x, &loss_axis(), &lost)?));
    }
    Ok(charts)
}

fn loss_axis() -> Axis {
    let ticks = [(NOTHING, "0"), (0.01, "0.01"), (0.1, "0.1"), (1.0, "1"), (10.0, "10"), (100.0, "100")];
    let ticks = ticks.map(|(percent, label)| (decades(percent), label.to_owned())).to_vec();
    Axis { label: "lost, percent".to_owned(), range: decades(NOTHING)..2.1, ticks }
}

/// How many of the packets took no longer: a chart for each case and load, all with the same axes.
pub(super) fn latency(measured: &[LatencyAt]) -> anyhow::Result<Vec<Titled>> {
    let of_points = |pick: fn(f64, f64) -> f64, first: f64| {
        measured.iter().flat_map(|at| &at.cdf).map(|point| point.0).fold(first, pick)
    };
    let x = Axis::logarithmic(
        "microseconds (log scale)",
        of_points(f64::min, f64::INFINITY).max(0.1),
        of_points(f64::max, 1.0),
    );
    let loads: BTreeSet<u8> = measured.iter().map(|at| at.load_percent).collect();
    let mut charts = Vec::new();
    for (setting, title) in settings(measured.iter().map(|at| &at.case)) {
        for &load in &loads {
            let of = |dataplane| {
                let case = Case { dataplane, ..setting };
                let at = measured.iter().find(|at| at.case == case && at.load_percent == load)?;
                Some(Line { points: steps(at), ..plain(dataplane) })
            };
            let drawn: Vec<Line> = ALL.into_iter().filter_map(of).collect();
            if !drawn.is_empty() {
                let title = format!("{title}, at {load} % of each one's own throughput");
                charts.push((title, lines(SMALL, &x, &nines_axis(), &drawn)?));
            }
        }
    }
    Ok(charts)
}

/// Nines of the share that a chart goes to.
const NINES: f64 = 4.0;

fn nines(share: f64) -> f64 {
    -(1.0 - share).max(10_f64.powf(-NINES)).log10()
}

fn nines_axis() -> Axis {
    let ticks = [(0.0, "0"), (0.5, "50"), (0.9, "90"), (0.99, "99"), (0.999, "99.9"), (0.9999, "99.99")];
    let ticks = ticks.map(|(share, label)| (nines(share), label.to_owned())).to_vec();
    Axis { label: "percent of the packets".to_owned(), range: 0.0..NINES, ticks }
}

/// Up at each value, then along to the next.
fn steps(at: &LatencyAt) -> Vec<(f64, f64)> {
    let mut points = Vec::with_capacity(2 * at.cdf.len());
    let mut before = 0.0;
    for &(us, share) in &at.cdf {
        points.extend([(decades(us), nines(before)), (decades(us), nines(share))]);
        before = share;
        if nines(share) >= NINES {
            break;
        }
    }
    points
}

/// Over the time of the soaks: rate, loss, latency and memory.
pub(super) fn soak(soaks: &[Soak]) -> anyhow::Result<Vec<Titled>> {
    type Value = fn(&Moment) -> Option<f64>;
    let of_all: [(&str, &str, Value); 4] = [
        ("rate", "million packets a second", |moment| Some(moment.forwarded)),
        ("loss", "lost, percent", |moment| Some(moment.loss_percent)),
        ("99th percentile of latency", "microseconds", |moment| Some(moment.p99_us)),
        ("resident memory", "MB", |moment| Some(moment.resident_bytes? as f64 / 1e6)),
    ];
    let mut charts = Vec::new();
    for (setting, title) in settings(soaks.iter().map(|soak| &soak.case)) {
        let of_case = |dataplane| soaks.iter().find(move |soak| soak.case == Case { dataplane, ..setting });
        let found: Vec<&Soak> = ALL.into_iter().filter_map(of_case).collect();
        let last = found.iter().filter_map(|soak| soak.moments.last()).map(|moment| moment.at_s);
        let x = Axis::linear("seconds", last.fold(0.0, f64::max));
        for (name, unit, value) in of_all {
            let line = |soak: &&Soak| {
                let points: Vec<_> =
                    soak.moments.iter().filter_map(|moment| Some((moment.at_s, value(moment)?))).collect();
                (!points.is_empty()).then(|| Line { points, ..plain(soak.case.dataplane) })
            };
            let drawn: Vec<Line> = found.iter().filter_map(line).collect();
            let most = drawn.iter().flat_map(|line| &line.points).map(|point| point.1).fold(0.0, f64::max);
            if !drawn.is_empty() {
                charts
                    .push((format!("{title}: {name}"), lines(WIDE, &x, &Axis::linear(unit, most), &drawn)?));
            }
        }
    }
    Ok(charts)
}
