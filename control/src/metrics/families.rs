//! The metrics that there are: each a name, its labels, what it means, and where its series come from.

mod node;
mod ports;
mod process;
mod workers;

use std::fmt;

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::{Latencies, Scrape};

/// All of them, in the order in which they are told.
pub const FAMILIES: [&[Family]; 4] = [node::FAMILIES, ports::FAMILIES, workers::FAMILIES, process::FAMILIES];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
    /// Always 1: what it says is in its labels.
    Info,
}

impl Kind {
    pub(super) fn metric_type(self) -> MetricType {
        match self {
            Self::Counter => MetricType::Counter,
            Self::Gauge => MetricType::Gauge,
            Self::Histogram => MetricType::Histogram,
            Self::Info => MetricType::Info,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.metric_type().as_str())
    }
}

/// What one series says.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Whole(u64),
    Real(f64),
    Histogram(Latencies),
    Info,
}

/// Takes a series: the values of the labels, and what it says.
pub(super) type Tell<'a> = dyn FnMut(&[&str], Value) + 'a;

type Read = fn(&Scrape, &mut Tell<'_>);

/// A metric: all series of one name.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Without unit and suffix; see [`Family::full_name`].
    pub(super) name: &'static str,
    pub kind: Kind,
    pub(super) unit: Option<&'static str>,
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub(super) read: Read,
}

impl Family {
    const fn new(
        kind: Kind,
        name: &'static str,
        labels: &'static [&'static str],
        help: &'static str,
        read: Read,
    ) -> Self {
        Self { name, kind, unit: None, labels, help, read }
    }

    /// As queries call it.
    pub fn full_name(&self) -> String {
        let mut name = self.name.to_owned();
        if let Some(unit) = self.unit {
            name = format!("{name}_{unit}");
        }
        match self.kind {
            Kind::Counter => name + "_total",
            Kind::Info => name + "_info",
            Kind::Gauge | Kind::Histogram => name,
        }
    }

    /// In that unit.
    const fn of(self, unit: &'static str) -> Self {
        Self { unit: Some(unit), ..self }
    }

    pub(super) fn unit(&self) -> Option<Unit> {
        self.unit.map(|unit| Unit::Other(unit.to_owned()))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Whole(value)
    }
}

impl From<usize> for Value {
    fn from(value: usize) -> Self {
        Self::Whole(value as u64)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Whole(value.into())
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}
