//! Figures as Prometheus takes them: the text format of `OpenMetrics` 1.0.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabel, EncodeLabelSet, LabelSetEncoder, MetricEncoder, NoLabelSet,
};
use prometheus_client::registry::Registry;

use super::families::{Kind, Value};
use super::{FAMILIES, Family, Figures, Process};

/// Of what [`Scrape::text`] makes.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All that is told at one time.
#[derive(Clone, Debug)]
pub struct Scrape {
    pub figures: Figures,
    /// Where `/proc` can be read.
    pub process: Option<Process>,
}

impl Scrape {
    pub fn text(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in FAMILIES.into_iter().flatten() {
            let unit = family.unit();
            let metric_type = family.kind.metric_type();
            let mut encoder =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), metric_type)?;
            let mut written = Ok(());
            (family.read)(self, &mut |values, value| {
                if written.is_ok() {
                    written = write(&mut encoder, family, values, &value);
                }
            });
            written?;
        }
        Ok(())
    }
}

fn write(encoder: &mut MetricEncoder<'_>, family: &Family, values: &[&str], value: &Value) -> fmt::Result {
    let labels = Labels { names: family.labels, values };
    if let Value::Info = value {
        return encoder.encode_info(&labels);
    }
    if values.is_empty() {
        return write_value(encoder, family.kind, value);
    }
    write_value(&mut encoder.encode_family(&labels)?, family.kind, value)
}

fn write_value(encoder: &mut MetricEncoder<'_>, kind: Kind, value: &Value) -> fmt::Result {
    match (kind, value) {
        (Kind::Counter, Value::Whole(value)) => encoder.encode_counter::<NoLabelSet, _, u64>(value, None),
        (Kind::Counter, Value::Real(value)) => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
        (_, Value::Whole(value)) => encoder.encode_gauge(value),
        (_, Value::Real(value)) => encoder.encode_gauge(value),
        (_, Value::Histogram(latencies)) => {
            let (total, frames) = (latencies.total as f64 / 1e9, latencies.frames());
            encoder.encode_histogram::<NoLabelSet>(total, frames, &latencies.bounded(), None)
        }
        (_, Value::Info) => Err(fmt::Error),
    }
}

/// The labels of one series.
struct Labels<'a> {
    names: &'a [&'static str],
    values: &'a [&'a str],
}

impl EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        debug_assert_eq!(self.names.len(), self.values.len(), "{:?}", self.names);
        self.names
            .iter()
            .zip(self.values)
            .try_for_each(|(name, value)| (*name, *value).encode(encoder.encode_label()))
    }
}
