//! The text that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use margay_control::admin::PortState;
use margay_control::metrics::{Figures, Kind, Process, Scrape};
use margay_fastpath::DropReason;
use margay_fastpath::counters::MAX_PORTS;

use super::{families, labels_of, sample, series_names};

/// A series: its name, its labels and what it says.
#[derive(Debug, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

fn text(figures: Figures) -> String {
    Scrape { figures, process: Some(Process::read().unwrap()) }.text().unwrap()
}

/// Reads the series of an exposition. Panics where a line is no series.
pub(crate) fn series(text: &str) -> Vec<Series> {
    text.lines().filter(|line| !line.starts_with('#')).map(one).collect()
}

fn one(line: &str) -> Series {
    let name_end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no series: {line}"));
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while let Some((label, after)) = rest.split_once("=\"") {
            let (value, after) = quoted(after);
            labels.insert(label.trim_start_matches(',').to_owned(), value);
            rest = after;
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
        }
    }
    let value = rest.trim().parse().unwrap_or_else(|error| panic!("{line}: {error}"));
    Series { name: name.to_owned(), labels, value }
}

/// What is before the quote that ends a value, and what comes after it.
fn quoted(text: &str) -> (String, &str) {
    let (mut value, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, c)) => value.push(c),
                None => break,
            },
            c => value.push(c),
        }
    }
    panic!("a value does not end: {text}");
}

fn value(series: &[Series], name: &str, labels: &[(&str, &str)]) -> f64 {
    let is = |each: &&Series| {
        let has = |(label, value): &(&str, &str)| each.labels.get(*label).is_some_and(|held| held == value);
        each.name == name && labels.iter().all(has)
    };
    let found: Vec<&Series> = series.iter().filter(is).collect();
    let [found] = found[..] else { panic!("{name} {labels:?}: {found:#?}") };
    found.value
}

#[test]
fn every_family_is_told_with_its_labels_and_no_other_is() {
    let text = text(sample::running());
    assert!(text.ends_with("# EOF\n"));
    let told = series(&text);
    for family in families() {
        let types = text.lines().filter(|line| {
            let mut words = line.split(' ');
            let name = family.full_name();
            let base = name.strip_suffix("_total").or(name.strip_suffix("_info")).unwrap_or(&name);
            words.by_ref().take(2).eq(["#", "TYPE"]) && words.next() == Some(base)
        });
        assert!(types.map(|line| line.rsplit(' ').next().unwrap()).eq([family.kind.to_string()]));
        for name in series_names(family) {
            assert!(told.iter().any(|series| series.name == name), "no series of {name}");
        }
    }
    let mut seen = BTreeSet::new();
    for each in &told {
        let labels: BTreeSet<&str> = each.labels.keys().map(String::as_str).collect();
        assert_eq!(Some(labels), labels_of(&each.name), "{each:?}");
        assert!(seen.insert((&each.name, &each.labels)), "twice: {each:?}");
    }
}

#[test]
fn figures_are_those_of_the_gateway() {
    let told = series(&text(sample::running()));
    let is = |name, labels: &[(&str, &str)], expected: f64| {
        let value = value(&told, name, labels);
        assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{name} {labels:?}: {value}");
    };
    is("margay_ready", &[], 1.0);
    is("margay_snapshot_published_timestamp_seconds", &[], 1_735_689_600.0);
    is("margay_build_info", &[("version", "0.1.0")], 1.0);
    is("margay_port_info", &[("port", "cali1"), ("pod_namespace", "default"), ("pod_name", "web-0")], 1.0);
    is("margay_port_receive_bytes_total", &[("port", "eth0")], 64_000.0);
    is("margay_port_dropped_packets_total", &[("port", "eth0")], 100.0);
    is("margay_port_open", &[("port", "cali2"), ("kind", "pod")], 0.0);
    is("margay_dropped_packets_total", &[("reason", "policy-deny")], 120.0);
    is("margay_dropped_packets_total", &[("reason", "tx-full")], 0.0);
    is("margay_worker_busy_seconds_total", &[("worker", "1")], 1.5);
    is("margay_umem_frames", &[("place", "ports")], 13_500.0);
    is("margay_umem_frame_bytes", &[], 2048.0);
    is("margay_gateway_latency_seconds_count", &[("worker", "0")], 1000.0);
    is("margay_gateway_latency_seconds_sum", &[("worker", "0")], 900.0 * 1.5e-6 + 100.0 * 70e-6);
    is("margay_gateway_latency_seconds_bucket", &[("worker", "0"), ("le", "0.000001024")], 0.0);
    is("margay_gateway_latency_seconds_bucket", &[("worker", "0"), ("le", "0.000002048")], 900.0);
    is("margay_gateway_latency_seconds_bucket", &[("worker", "0"), ("le", "+Inf")], 1000.0);
    let reasons = told.iter().filter(|each| each.name == "margay_dropped_packets_total").count();
    assert_eq!(reasons, DropReason::COUNT, "a rate needs a series that was there before");
}

#[test]
fn what_is_not_known_yet_has_no_series() {
    let told = series(&text(sample::beginning()));
    let none = ["margay_snapshot_published_timestamp_seconds", "margay_port_open", "margay_port_info"];
    assert!(told.iter().all(|each| !none.contains(&each.name.as_str())));
    assert!(value(&told, "margay_ready", &[]).abs() < f64::EPSILON);
    let without = Scrape { figures: sample::beginning(), process: None }.text().unwrap();
    assert!(series(&without).iter().all(|each| !each.name.starts_with("process_")));
}

#[test]
fn names_that_are_no_part_of_the_format_stay_values() {
    let mut figures = sample::running();
    let hostile = "a\"} 1\nmargay_ready 7\\";
    figures.status.ports[0].name = hostile.to_owned();
    let told = series(&text(figures));
    assert!((value(&told, "margay_port_open", &[("port", hostile)]) - 1.0).abs() < f64::EPSILON);
    assert!((value(&told, "margay_ready", &[]) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn there_are_no_more_series_than_the_document_says() {
    let mut figures = sample::running();
    let ports = (0..3 * MAX_PORTS).map(|n| sample::port(&format!("port{n}"), PortState::Open));
    figures.status.ports = ports.collect();
    let told = series(&text(figures));
    for family in families().filter(|family| family.labels.contains(&"port")) {
        let count = told.iter().filter(|each| each.name == family.full_name()).count();
        assert_eq!(count, MAX_PORTS, "{}", family.full_name());
    }
    let bounded: BTreeSet<&str> = ["port", "worker", "reason", "place"].into();
    for family in families().filter(|family| family.kind != Kind::Info && !family.labels.is_empty()) {
        assert!(family.labels.iter().any(|label| bounded.contains(label)), "{}", family.full_name());
    }
    let of_ports = families().filter(|family| family.labels.contains(&"port")).count();
    let said = format!("{of_ports} series for each port");
    assert!(super::read("docs/metrics.md").contains(&said), "docs/metrics.md should say: {said}");
}
