//! What a run has found, as a table for a terminal: each case's figure, its spread over the repeats, and how it compares with
//! the kernel's and the bare forwarder's at the same.

use std::fmt::Write as _;

use super::case::{Case, Dataplane, IMIX_SIZE, Metric, name};
use super::results::{Results, Row};

/// What a job is about, the first that there is.
const HEADLINES: [Metric; 4] = [Metric::Mpps, Metric::Cps, Metric::Gbps, Metric::P99];

/// A line for each case, those of equal cases one after the other.
#[must_use]
pub fn table(results: &Results) -> String {
    let mut text = format!(
        "{:<12} {:>5} {:>8} {:>8} {:<9} {:>24} {:>7} {:>9} {:>7} {:>9} {:>7}\n",
        "JOB",
        "SIZE",
        "FLOWS",
        "POLICIES",
        "DATAPLANE",
        "",
        "SPREAD",
        "OF KERNEL",
        "OF BARE",
        "CPU s/M",
        "LOSS %"
    );
    let mut rows: Vec<&Row> = results.results.iter().filter(|row| HEADLINES.contains(&row.metric)).collect();
    rows.sort_by_key(|row| (row.job, row.policies, row.flows, row.size, row.dataplane));
    for row in rows {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}", line(results, row).trim_end());
    }
    text
}

fn line(results: &Results, row: &Row) -> String {
    let case = row.case();
    let figure =
        format!("{} {} {}", figure(row.value), row.unit, if row.metric == Metric::P99 { "p99" } else { "" });
    let other =
        |metric| results.find(&case, metric).map_or_else(String::new, |row| format!("{:.3}", row.value));
    let size = if row.size == IMIX_SIZE { "IMIX".to_owned() } else { row.size.to_string() };
    format!(
        "{:<12} {size:>5} {:>8} {:>8} {:<9} {:>24} {:>7} {:>9} {:>7} {:>9} {:>7}",
        name(&row.job),
        row.flows,
        row.policies,
        name(&row.dataplane),
        figure.trim_end(),
        format!("{:.0} %", spread(&row.runs) * 100.0),
        ratio(results, row, Dataplane::Kernel),
        ratio(results, row, Dataplane::Bare),
        other(Metric::Cpu),
        other(Metric::Loss)
    )
}

/// Four digits, or all before the point.
fn figure(value: f64) -> String {
    match value {
        1000.0.. => format!("{value:.0}"),
        100.0.. => format!("{value:.1}"),
        10.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// From the least to the most of the repeats, as a share of the middle one.
fn spread(runs: &[f64]) -> f64 {
    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = runs.iter().copied().fold(0.0, f64::max);
    let middle = super::results::median(runs);
    if middle > 0.0 { (most - least) / middle } else { 0.0 }
}

/// How many times another dataplane's figure it is. Empty where the other has none.
fn ratio(results: &Results, row: &Row, dataplane: Dataplane) -> String {
    let other = results.find(&Case { dataplane, ..row.case() }, row.metric);
    match other {
        Some(other) if row.dataplane != dataplane && other.value > 0.0 => {
            format!("{:.2}", row.value / other.value)
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::case::Job;
    use crate::lab::machine::Machine;

    fn row(job: Job, dataplane: Dataplane, metric: Metric, runs: &[f64]) -> Row {
        let case = Case { job, dataplane, size: 64, flows: 10_000, policies: 1 };
        Row::new(&case, metric, runs.to_vec())
    }

    #[test]
    fn each_case_has_a_line_with_its_ratios() {
        let results = vec![
            row(Job::VxlanEncap, Dataplane::Margay, Metric::Mpps, &[0.8, 0.7, 0.72]),
            row(Job::VxlanEncap, Dataplane::Margay, Metric::Cpu, &[1.25]),
            row(Job::VxlanEncap, Dataplane::Margay, Metric::Loss, &[0.05]),
            row(Job::Latency, Dataplane::Margay, Metric::P50, &[10.0]),
            row(Job::Latency, Dataplane::Margay, Metric::P99, &[123.45]),
            row(Job::VxlanEncap, Dataplane::Bare, Metric::Mpps, &[0.8]),
            row(Job::VxlanEncap, Dataplane::Kernel, Metric::Mpps, &[0.4]),
            row(Job::Cps, Dataplane::Kernel, Metric::Cps, &[30_000.0]),
        ];
        let text = table(&Results { machine: Machine::default(), results });
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        let expected: [&[&str]; 5] = [
            &[
                "vxlan-encap",
                "64",
                "10000",
                "1",
                "margay",
                "0.720",
                "Mpps",
                "14",
                "%",
                "1.80",
                "0.90",
                "1.250",
                "0.050",
            ],
            &["vxlan-encap", "64", "10000", "1", "kernel", "0.400", "Mpps", "0", "%", "0.50"],
            &["vxlan-encap", "64", "10000", "1", "bare", "0.800", "Mpps", "0", "%", "2.00"],
            &["cps", "64", "10000", "1", "kernel", "30000", "connections/s", "0", "%"],
            &["latency", "64", "10000", "1", "margay", "123.5", "us", "p99", "0", "%"],
        ];
        assert_eq!(lines[1..], expected);
    }
}
