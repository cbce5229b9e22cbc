//! What is told of a gateway over TCP: the figures, their document, what dashboard and alerts ask of them, and the listener.

mod document;
mod exposition;
mod promql;
mod queries;
mod sample;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use margay_control::metrics::{FAMILIES, Family, Kind};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn families() -> impl Iterator<Item = &'static Family> {
    FAMILIES.into_iter().flatten()
}

/// The names that series of the family have.
fn series_names(family: &Family) -> Vec<String> {
    let name = family.full_name();
    match family.kind {
        Kind::Histogram => ["_bucket", "_count", "_sum"].map(|suffix| name.clone() + suffix).into(),
        Kind::Counter | Kind::Gauge | Kind::Info => vec![name],
    }
}

/// The labels of series of that name; `None` where there are no such series.
fn labels_of(series: &str) -> Option<BTreeSet<&'static str>> {
    let family = families().find(|family| series_names(family).iter().any(|name| name == series))?;
    let mut labels: BTreeSet<&str> = family.labels.iter().copied().collect();
    if series.ends_with("_bucket") {
        labels.insert("le");
    }
    Some(labels)
}
