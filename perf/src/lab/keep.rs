//! The files of a run: what has been found is written after each answer, so that a run that is cut short leaves what it had.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::case::name;
use super::details::{Details, Stages};
use super::machine::{Machine, Observation};
use super::outcome::Outcome;
use super::report;
use super::results::Results;

/// A directory of reports that is being filled.
#[derive(Debug)]
pub struct Keep {
    directory: PathBuf,
    command: String,
    observation: Observation,
}

impl Keep {
    /// Makes the directory, and sees that reports can be written there before anything is measured.
    pub fn new(directory: &Path, command: String, load: BTreeMap<String, String>) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let keep = Self { directory: directory.to_owned(), command, observation: Machine::observe(load) };
        keep.write(&Outcome::default(), vec![])?;
        Ok(keep)
    }

    /// Where a file of the report is.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Writes what there is but the page that is drawn of it.
    pub fn write(&self, outcome: &Outcome, stages: Vec<Stages>) -> anyhow::Result<(Results, Details)> {
        let details = Details { stages, ..outcome.details(&self.command) };
        let versions = details.gateways.iter().map(|of| (name(&of.dataplane), of.version.clone()));
        let machine = self.observation.clone().end(versions, outcome.offloads().clone());
        let results = outcome.results(machine);
        results.write_json(&self.file("results.json"))?;
        results.write_csv(&self.file("results.csv"))?;
        details.write(&self.file("details.json"))?;
        Ok((results, details))
    }

    /// Writes all, at a run's end.
    pub fn finish(&self, outcome: &Outcome, stages: Vec<Stages>) -> anyhow::Result<(Results, Details)> {
        let (results, details) = self.write(outcome, stages)?;
        report::write(&results, &details, &self.file("report.html"))?;
        Ok((results, details))
    }
}
