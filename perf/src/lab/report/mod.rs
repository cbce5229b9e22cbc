//! The report: one HTML page with all that a run has shown, which needs nothing but itself.

mod bars;
mod chart;
mod curves;
mod goals;
mod look;
mod tables;
mod words;

use std::path::Path as FilePath;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use self::curves::{Along, Titled};
use super::case::Metric;
use super::details::{Details, Stages};
use super::file;
use super::results::Results;
use crate::traffic::Path;

/// Parts of the page: where links lead, and what they are called.
const PARTS: [(&str, &str); 10] = [
    ("goals", "Goals"),
    ("throughput", "Throughput"),
    ("along", "By size, flows and policies"),
    ("loss", "Loss"),
    ("latency", "Latency"),
    ("cost", "Cost"),
    ("soak", "Bursts and soak"),
    ("rows", "All figures"),
    ("machine", "Machine and gateways"),
    ("read", "How to read it"),
];

/// Writes the page into a file.
pub fn write(results: &Results, details: &Details, page: &FilePath) -> anyhow::Result<()> {
    file::write(page, html(results, details)?.as_bytes())
}

/// The page.
fn html(results: &Results, details: &Details) -> anyhow::Result<String> {
    let machine = &results.machine;
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Margay perf lab, " (machine.started) }
                style { (PreEscaped(include_str!("page.css"))) }
            }
            body {
                h1 { "Margay beside its alternatives" }
                (words::summary(machine, details))
                nav { @for (id, name) in PARTS { a href={ "#" (id) } { (name) } " " } }
                @for (id, name) in PARTS {
                    section id=(id) { h2 { (name) } (part(id, results, details)?) }
                }
            }
        }
    };
    Ok(page.into_string())
}

fn part(id: &str, results: &Results, details: &Details) -> anyhow::Result<Markup> {
    Ok(match id {
        "goals" => html! { (words::goals()) (tables::goals(&goals::outcomes(results))) },
        "throughput" => html! {
            (words::throughput())
            (metrics(results, &[Metric::Mpps, Metric::Cps, Metric::Gbps])?)
            (tables::throughput(&details.throughput))
        },
        "along" => along(results)?,
        "loss" => html! { (words::loss()) (pairs(&curves::loss(&details.loss)?)) },
        "latency" => html! {
            (words::latency())
            (metrics(results, &[Metric::P50, Metric::P99])?)
            (pairs(&curves::latency(&details.latency)?))
            (tables::latency(&details.latency))
        },
        "cost" => html! {
            (words::cost())
            (metrics(results, &[Metric::Cpu])?)
            (words::stages())
            (passes(&details.stages)?)
        },
        "soak" => html! {
            (words::bursts())
            (tables::bursts(&details.bursts))
            (words::soak())
            @for titled in &curves::soak(&details.soaks)? { (titled_figure(titled)) }
        },
        "rows" => tables::rows(&results.results),
        "machine" => html! {
            (tables::machine(&results.machine))
            (tables::gateways(&details.gateways))
            (tables::failures(&details.failures))
        },
        _ => words::method(),
    })
}

/// A chart of bars for each metric that was measured.
fn metrics(results: &Results, metrics: &[Metric]) -> anyhow::Result<Markup> {
    let charts = metrics.iter().map(|&metric| Ok((look::metric(metric), bars::of_metric(results, metric)?)));
    let charts: Vec<_> = charts.collect::<anyhow::Result<_>>()?;
    Ok(html! {
        @if charts.iter().all(|chart| chart.1.is_none()) { (words::nothing()) }
        @for (name, chart) in charts { @if let Some(chart) = chart { (figure(&chart, name)) } }
    })
}

/// The first packets of connections cost so much more that they have a chart of their own.
fn passes(stages: &[Stages]) -> anyhow::Result<Markup> {
    let (first, later): (Vec<Stages>, Vec<Stages>) =
        stages.iter().cloned().partition(|each| each.path == Path::NewFlow.name());
    let name = "cycles a packet of each pass of Margay's packet function";
    let charts = [later, first].map(|stages| bars::of_stages(&stages));
    Ok(html! {
        @if stages.is_empty() { (words::nothing()) }
        @for chart in charts { @if let Some(chart) = chart? { (figure(&chart, name)) } }
    })
}

fn along(results: &Results) -> anyhow::Result<Markup> {
    let parts = [("size of the frames", Along::Size), ("flows", Along::Flows), ("policies", Along::Policies)];
    let charts = parts.map(|(name, along)| (name, curves::throughput(results, along)));
    let is_empty = charts.iter().all(|(_, charts)| charts.as_ref().is_ok_and(Vec::is_empty));
    Ok(html! {
        (words::along())
        @if is_empty { (words::nothing()) }
        @for (name, charts) in charts {
            @let charts = charts?;
            @if !charts.is_empty() { h3 { "By " (name) } (pairs(&charts)) }
        }
    })
}

fn pairs(charts: &[Titled]) -> Markup {
    html! {
        @if charts.is_empty() { (words::nothing()) }
        div class="pairs" { @for titled in charts { (titled_figure(titled)) } }
    }
}

fn titled_figure((title, chart): &Titled) -> Markup {
    html! { figure { figcaption { (title) } div role="img" aria-label=(title) { (PreEscaped(chart)) } } }
}

/// A chart whose axis says what it is.
fn figure(chart: &str, name: &str) -> Markup {
    html! { figure { div role="img" aria-label=(name) { (PreEscaped(chart)) } } }
}

#[cfg(test)]
mod tests;
