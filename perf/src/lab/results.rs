//! The figures of a run: one row for each case and metric, with the repeats that it is the median of, as `results.json` and
//! `results.csv` have them. Their form is a promise to those who read them: what does not fit goes to `details`.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use super::case::{Case, Dataplane, Job, Metric, name};
use super::file;
use super::machine::Machine;

/// What `results.json` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Results {
    pub machine: Machine,
    pub results: Vec<Row>,
}

/// One figure of one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub job: Job,
    pub dataplane: Dataplane,
    pub size: u16,
    pub flows: u32,
    pub policies: u32,
    pub metric: Metric,
    pub unit: String,
    /// The median of `runs`.
    pub value: f64,
    /// What each repeat gave, in the order in which they were run.
    pub runs: Vec<f64>,
}

/// What two rows of one file differ in.
pub type Key = (Case, Metric);

impl Row {
    /// Of the repeats, of which there is one at least.
    #[must_use]
    pub fn new(case: &Case, metric: Metric, runs: Vec<f64>) -> Self {
        let &Case { job, dataplane, size, flows, policies } = case;
        let runs: Vec<f64> = runs.into_iter().map(rounded).collect();
        let (unit, value) = (metric.unit().to_owned(), rounded(median(&runs)));
        Self { job, dataplane, size, flows, policies, metric, unit, value, runs }
    }

    #[must_use]
    pub fn case(&self) -> Case {
        let &Self { job, dataplane, size, flows, policies, .. } = self;
        Case { job, dataplane, size, flows, policies }
    }

    #[must_use]
    pub fn key(&self) -> Key {
        (self.case(), self.metric)
    }

    fn check(&self) -> anyhow::Result<()> {
        let Self { metric, unit, value, runs, .. } = self;
        ensure!(*unit == metric.unit(), "its unit is {unit:?}, but {} is in {}", name(metric), metric.unit());
        ensure!(!runs.is_empty(), "it has no runs");
        for number in runs.iter().chain([value]) {
            ensure!(number.is_finite() && *number >= 0.0, "{number} is no {}", name(metric));
        }
        let middle = median(runs);
        // A program that wrote fewer digits is forgiven.
        let agrees = (middle - value).abs() <= 1e-3 * middle.max(*value);
        ensure!(agrees, "its value is {value}, but the median of its runs {middle}");
        Ok(())
    }
}

impl Results {
    #[must_use]
    pub fn find(&self, case: &Case, metric: Metric) -> Option<&Row> {
        self.results.iter().find(|row| row.key() == (*case, metric))
    }

    /// Of a JSON file, or of a CSV file, which says nothing of the machine.
    pub fn read(file: &Path) -> anyhow::Result<Self> {
        let text = file::read(file)?;
        let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
        let results = if is_csv { Self::of_csv(&text) } else { Self::of_json(&text) };
        results.with_context(|| format!("{} is not what margay perf lab writes", file.display()))
    }

    pub fn write_json(&self, file: &Path) -> anyhow::Result<()> {
        self.check()?;
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        file::write(file, &text)
    }

    /// The rows alone; the runs of one are in one field, with spaces between.
    pub fn write_csv(&self, file: &Path) -> anyhow::Result<()> {
        self.check()?;
        let mut writer = csv::Writer::from_writer(Vec::new());
        self.results.iter().try_for_each(|row| writer.serialize(Record::of(row)))?;
        if self.results.is_empty() {
            writer.write_record(Record::FIELDS)?;
        }
        file::write(file, &writer.into_inner()?)
    }

    fn of_json(text: &str) -> anyhow::Result<Self> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let results: Self = serde_path_to_error::deserialize(&mut reader)?;
        reader.end()?;
        results.check()?;
        Ok(results)
    }

    fn of_csv(text: &str) -> anyhow::Result<Self> {
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let rows = reader.deserialize::<Record>().map(|record| record.map_err(anyhow::Error::from)?.row());
        let rows = rows.enumerate().map(|(index, row)| row.with_context(|| format!("results[{index}]")));
        let results = Self { machine: Machine::default(), results: rows.collect::<anyhow::Result<_>>()? };
        results.check()?;
        Ok(results)
    }

    /// That every row can be what it says, and that no two are of the same.
    fn check(&self) -> anyhow::Result<()> {
        let mut seen: HashMap<Key, usize> = HashMap::new();
        for (index, row) in self.results.iter().enumerate() {
            row.check().with_context(|| format!("results[{index}]"))?;
            if let Some(first) = seen.insert(row.key(), index) {
                bail!("results[{index}]: results[{first}] is of the same case and metric");
            }
        }
        Ok(())
    }
}

/// A row as CSV has it.
#[derive(Serialize, Deserialize)]
struct Record {
    job: Job,
    dataplane: Dataplane,
    size: u16,
    flows: u32,
    policies: u32,
    metric: Metric,
    unit: String,
    value: f64,
    runs: String,
}

impl Record {
    const FIELDS: [&str; 9] =
        ["job", "dataplane", "size", "flows", "policies", "metric", "unit", "value", "runs"];

    fn of(row: &Row) -> Self {
        let Row { job, dataplane, size, flows, policies, metric, unit, value, runs } = row.clone();
        let runs = runs.iter().map(f64::to_string).collect::<Vec<_>>().join(" ");
        Self { job, dataplane, size, flows, policies, metric, unit, value, runs }
    }

    fn row(self) -> anyhow::Result<Row> {
        let Self { job, dataplane, size, flows, policies, metric, unit, value, runs } = self;
        let number = |text: &str| text.parse().with_context(|| format!("runs: {text:?} is no number"));
        let runs = runs.split_whitespace().map(number).collect::<anyhow::Result<_>>()?;
        Ok(Row { job, dataplane, size, flows, policies, metric, unit, value, runs })
    }
}

/// The middle value, or the mean of the two in the middle. NaN of none.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        count if count % 2 == 1 => sorted[count / 2],
        count => f64::midpoint(sorted[count / 2 - 1], sorted[count / 2]),
    }
}

/// To six digits: more are noise, and text that keeps fewer than all is read as it was written.
pub(super) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests;
