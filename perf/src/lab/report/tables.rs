//! The report's tables: goals and what came of them, every row, the machine, the gateways, what failed.

use std::collections::BTreeMap;

use maud::{Markup, html};

use super::goals::{Bound, Goal, Outcome, Over, Ratio, Verdict};
use super::look::{self, figure};
use super::words;
use crate::control::grouped;
use crate::lab::case::{Case, Dataplane, name};
use crate::lab::details::{BackToBack, Failure, Gateway, LatencyAt, Throughput};
use crate::lab::machine::Machine;
use crate::lab::results::{Row, median};

/// A table whose last columns, from `numbers` on, hold numbers.
fn table(head: &[&str], numbers: usize, rows: impl IntoIterator<Item = Vec<Markup>>) -> Markup {
    let rows: Vec<Vec<Markup>> = rows.into_iter().collect();
    let class = |column: usize| (column >= numbers).then_some("n");
    html! {
        @if rows.is_empty() { (words::nothing()) } @else {
            div class="wide" { table {
                thead { tr { @for (at, name) in head.iter().enumerate() { th class=[class(at)] { (name) } } } }
                tbody { @for row in rows {
                    tr { @for (at, cell) in row.into_iter().enumerate() { td class=[class(at)] { (cell) } } }
                } }
            } }
        }
    }
}

fn said(text: impl AsRef<str>) -> Markup {
    html! { (text.as_ref()) }
}

/// A dataplane with its colour.
fn dataplane(of: Dataplane) -> Markup {
    let color = look::color(of);
    let style = format!("background:rgb({},{},{})", color.0, color.1, color.2);
    html! { span class="of" { span class="swatch" style=(style) {} (look::dataplane(of)) } }
}

fn case(case: &Case) -> [Markup; 5] {
    let &Case { job, dataplane: of, size, flows, policies } = case;
    [
        said(look::job(job)),
        dataplane(of),
        said(look::size(size)),
        said(grouped(flows)),
        said(grouped(policies)),
    ]
}

pub(super) fn goals(outcomes: &[Outcome]) -> Markup {
    let rows = outcomes.iter().map(|outcome| {
        let Outcome { goal: Goal { job, metric, over, bound }, ratio } = *outcome;
        let over = match over {
            Over::Other(of) => html! { "over " (dataplane(of)) },
            Over::OnePolicy => said("10,000 policies over 1"),
        };
        let asked = match bound {
            Bound::AtLeast(least) => format!("\u{2265} {least}"),
            Bound::AtMost(most) => format!("\u{2264} {most}"),
            Bound::None => String::new(),
        };
        let spread = |Ratio { lowest, highest, .. }| format!("{lowest:.2} to {highest:.2}");
        vec![
            said(look::job(job)),
            said(name(&metric)),
            over,
            said(asked),
            said(ratio.map_or_else(String::new, |ratio| format!("{:.3}", ratio.value))),
            said(ratio.map_or_else(String::new, spread)),
            verdict(outcome.verdict()),
        ]
    });
    table(&["job", "figure", "Margay", "goal", "found", "turns", ""], 99, rows)
}

fn verdict(verdict: Verdict) -> Markup {
    match verdict {
        Verdict::Met => html! { span class="met" { "met" } },
        Verdict::Missed => html! { span class="missed" { "missed" } },
        Verdict::MissedWithinSpread => html! { span class="missed" { "missed, within the spread" } },
        Verdict::NoGoal => html! { span class="quiet" { "no goal" } },
        Verdict::NotMeasured => html! { span class="quiet" { "not measured" } },
    }
}

pub(super) fn rows(rows: &[Row]) -> Markup {
    let head = ["job", "dataplane", "size", "flows", "policies", "metric", "value", "unit", "runs"];
    let mut sorted: Vec<&Row> = rows.iter().collect();
    sorted.sort_by_key(|row| {
        let Case { job, dataplane, size, flows, policies } = row.case();
        (job, size, flows, policies, row.metric, dataplane)
    });
    let rows = sorted.into_iter().map(|row| {
        let runs: Vec<String> = row.runs.iter().copied().map(figure).collect();
        let figures =
            [said(name(&row.metric)), said(figure(row.value)), said(&row.unit), said(runs.join(", "))];
        case(&row.case()).into_iter().chain(figures).collect()
    });
    table(&head, 99, rows)
}

/// The no-drop rate beside the other one, and what came twice or late.
pub(super) fn throughput(found: &[Throughput]) -> Markup {
    let head = [
        "job",
        "dataplane",
        "size",
        "flows",
        "policies",
        "no drop, Mpps",
        "\u{2264} 0.1 % lost, Mpps",
        "limit",
        "packets",
        "twice",
        "out of order",
    ];
    let count = |number: u64| figure(number as f64);
    let of = |runs: &[f64]| if runs.is_empty() { "\u{2013}".to_owned() } else { figure(median(runs)) };
    let rows = found.iter().map(|found| {
        let limit = if found.is_source_limit { "the source" } else { "the gateway" };
        let figures = [
            said(of(&found.no_drop)),
            said(of(&found.lossy)),
            said(limit),
            said(count(found.sent)),
            said(count(found.duplicates)),
            said(count(found.reordered)),
        ];
        case(&found.case).into_iter().chain(figures).collect()
    });
    html! { @if !found.is_empty() { h3 { "Both rates" } (table(&head, 99, rows)) } }
}

pub(super) fn latency(measured: &[LatencyAt]) -> Markup {
    let head = [
        "job",
        "dataplane",
        "size",
        "flows",
        "policies",
        "load",
        "offered, Mpps",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max, us",
    ];
    let rows = measured.iter().map(|at| {
        let times = [at.offered, at.p50_us, at.p90_us, at.p99_us, at.p999_us, at.max_us];
        let load = said(format!("{} %", at.load_percent));
        case(&at.case).into_iter().chain([load]).chain(times.map(|time| said(figure(time)))).collect()
    });
    html! { @if !measured.is_empty() { h3 { "Percentiles" } (table(&head, 6, rows)) } }
}

pub(super) fn bursts(found: &[BackToBack]) -> Markup {
    let rows = found.iter().map(|found| {
        let frames: Vec<f64> = found.frames.iter().map(|&frames| frames as f64).collect();
        let least = if found.at_least { "at least " } else { "" };
        let middle = if frames.is_empty() { "\u{2013}".to_owned() } else { figure(median(&frames)) };
        let runs: Vec<String> = frames.iter().copied().map(figure).collect();
        let figures = [said(format!("{least}{middle}")), said(runs.join("; "))];
        case(&found.case).into_iter().chain(figures).collect()
    });
    table(&["job", "dataplane", "size", "flows", "policies", "frames", "runs"], 99, rows)
}

pub(super) fn machine(machine: &Machine) -> Markup {
    let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
    let cores: Vec<String> = machine.cores.iter().map(usize::to_string).collect();
    let [one, five, fifteen] = machine.load_at_start;
    let smt = if machine.smt { "two threads a core" } else { "one thread a core" };
    let fixed = [
        ("processor", or(&machine.cpu, "unknown")),
        ("microcode", or(&machine.microcode, "unknown")),
        ("cores that the lab may use", format!("{} of {} ({smt})", cores.join(", "), machine.cores_online)),
        ("NUMA nodes", machine.numa_nodes.to_string()),
        ("hypervisor", machine.hypervisor.clone().unwrap_or_else(|| "none".to_owned())),
        ("memory", format!("{:.1} GB", machine.memory_bytes as f64 / 1e9)),
        (
            "huge pages",
            format!("{} reserved; transparent: {}", machine.huge_pages, machine.transparent_huge_pages),
        ),
        ("kernel", or(&machine.kernel, "unknown")),
        ("kernel parameters", or(&machine.kernel_parameters.join(" "), "none that bear on figures")),
        ("clock source", or(&machine.clocksource, "unknown")),
        ("frequency governor", or(&machine.governor, "none (fixed, or not the kernel's)")),
        ("BPF", if machine.bpf_jit { "compiled" } else { "interpreted" }.to_owned()),
        ("load before (1, 5, 15 minutes)", format!("{one}, {five}, {fifteen}")),
        ("stolen by the hypervisor during the run", format!("{} %", figure(machine.steal_percent))),
    ];
    let named = |what: &'static str, values: &BTreeMap<String, String>| {
        values.iter().map(move |(name, value)| (format!("{what} {name}"), value.clone())).collect::<Vec<_>>()
    };
    let fixed = fixed.map(|(name, value)| (name.to_owned(), value)).into_iter();
    let all = fixed
        .chain(named("mitigation:", &machine.mitigations))
        .chain(named("version:", &machine.versions))
        .chain(named("load:", &machine.load))
        .chain(named("offloads:", &machine.offloads));
    table(&["", ""], 99, all.map(|(name, value)| vec![said(name), said(value)]))
}

pub(super) fn gateways(gateways: &[Gateway]) -> Markup {
    html! {
        h3 { "Which core does what" }
        @if gateways.is_empty() { (words::nothing()) }
        dl { @for gateway in gateways {
            @let jobs: Vec<&str> = gateway.jobs.iter().map(|&job| look::job(job)).collect();
            dt {
                (dataplane(gateway.dataplane)) ", " (gateway.version)
                @if !jobs.is_empty() { " (" (jobs.join(", ")) ")" }
            }
            dd {
                (gateway.arrangement)
                @if !gateway.settings.is_empty() { ul { @for setting in &gateway.settings { li { (setting) } } } }
            }
        } }
    }
}

pub(super) fn failures(failures: &[Failure]) -> Markup {
    let rows = failures.iter().map(|failure| {
        let told = [said(&failure.what), said(&failure.reason)];
        case(&failure.case).into_iter().chain(told).collect()
    });
    let head = ["job", "dataplane", "size", "flows", "policies", "what", "why"];
    html! {
        h3 { "What failed" }
        @if failures.is_empty() { p { "Nothing." } } @else { (table(&head, 99, rows)) }
    }
}
