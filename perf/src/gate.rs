//! `margay perf gate`: instructions a packet of fixed cases, held against those of record.
//!
//! callgrind's counts do not depend on the machine's load, so a change of a few instructions is seen where a time would
//! drown it. They do depend on the compiler and on which instructions the processor has, and both are recorded.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path as FilePath;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::count;
use crate::rig::Case;
use crate::traffic::Path;

/// A case may take so much more than what is recorded.
pub const TOLERANCE: f64 = 0.02;

const FLOWS: u32 = 10_000;
const SIZE: u16 = 64;
/// What is gated beside each path with one policy.
const MANY_POLICIES: [(Path, u32); 2] = [(Path::VxlanEncap, 1000), (Path::NewFlow, 1000)];
/// What is gated of a table that keeps no accounts, too.
const UNCOUNTED: [Path; 2] = [Path::VxlanEncap, Path::NewFlow];

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The compiler of the program that was counted.
    pub rustc: String,
    /// How the flow table searched its buckets: what the processor that valgrind shows programs has.
    pub isa: String,
    /// Instructions a packet, by case.
    pub instructions: BTreeMap<String, f64>,
}

/// A case that is not as it is recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    pub case: String,
    /// None: the case is new, or gone.
    pub recorded: Option<f64>,
    pub counted: Option<f64>,
}

impl Difference {
    /// Whether the gate stays shut.
    pub fn fails(&self) -> bool {
        match (self.recorded, self.counted) {
            (Some(recorded), Some(counted)) => counted > recorded * (1.0 + TOLERANCE),
            _ => true,
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let case = &self.case;
        match (self.recorded, self.counted) {
            (Some(recorded), Some(counted)) => {
                let percent = (counted / recorded - 1.0) * 100.0;
                write!(f, "{case}: {recorded:.1} recorded, {counted:.1} now ({percent:+.1} %)")
            }
            (None, Some(counted)) => write!(f, "{case}: not recorded, {counted:.1} now"),
            (recorded, _) => {
                write!(f, "{case}: {:.1} recorded, no such case now", recorded.unwrap_or_default())
            }
        }
    }
}

/// The cases by name, in the order of the record.
pub fn cases() -> BTreeMap<String, Case> {
    let case = |path, policies| Case { path, flows: FLOWS, policies, size: SIZE, accounting: true };
    let paths = Path::ALL.into_iter().map(|path| (path.name(), case(path, 1)));
    let many = MANY_POLICIES
        .into_iter()
        .map(|(path, policies)| (format!("{}-{policies}-policies", path.name()), case(path, policies)));
    let without = UNCOUNTED.map(|path| {
        (format!("{}-without-accounting", path.name()), Case { accounting: false, ..case(path, 1) })
    });
    paths.chain(many).chain(without).collect()
}

/// Counts every case. `progress` is told what comes next.
pub fn count(rustc: String, mut progress: impl FnMut(&str)) -> anyhow::Result<Record> {
    let mut record = Record { rustc, isa: String::new(), instructions: BTreeMap::new() };
    for (name, case) in cases() {
        progress(&name);
        let counted = count::instructions(&case).with_context(|| name.clone())?;
        record.isa = counted.isa;
        record.instructions.insert(name, (counted.per_packet * 10.0).round() / 10.0);
    }
    Ok(record)
}

impl Record {
    pub fn read(file: &FilePath) -> anyhow::Result<Self> {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is no record of instructions", file.display()))
    }

    pub fn write(&self, file: &FilePath) -> anyhow::Result<()> {
        let mut text = format!(
            "# Instructions a packet within the packet function, as callgrind counts them: {FLOWS} flows, {SIZE} bytes, \
             one policy\n# where no other number is named. `make bench-gate` compares; `make bench-gate ACCEPT=1` \
             writes this file.\n\n"
        );
        write!(text, "{}", toml::to_string(self)?)?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    /// Cases whose counts differ from those of record, or that only one of both has.
    pub fn differences(&self, counted: &Self) -> Vec<Difference> {
        let names = self.instructions.keys().chain(counted.instructions.keys());
        let mut differences: Vec<Difference> = names
            .map(|case| Difference {
                case: case.clone(),
                recorded: self.instructions.get(case).copied(),
                counted: counted.instructions.get(case).copied(),
            })
            .filter(|difference| difference.recorded != difference.counted)
            .collect();
        differences.sort_by(|a, b| a.case.cmp(&b.case));
        differences.dedup();
        differences
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(instructions: &[(&str, f64)]) -> Record {
        let instructions = instructions.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        Record { rustc: "1.0".to_owned(), isa: "portable".to_owned(), instructions }
    }

    #[test]
    fn more_than_the_tolerance_fails_and_less_does_not() {
        let recorded =
            record(&[("better", 100.0), ("gone", 5.0), ("same", 70.0), ("worse", 100.0), ("near", 100.0)]);
        let counted =
            record(&[("better", 90.0), ("same", 70.0), ("worse", 102.1), ("near", 101.9), ("new", 3.0)]);
        let differences = recorded.differences(&counted);
        let said: Vec<(bool, String)> =
            differences.iter().map(|each| (each.fails(), each.to_string())).collect();
        let expected = [
            (false, "better: 100.0 recorded, 90.0 now (-10.0 %)"),
            (true, "gone: 5.0 recorded, no such case now"),
            (false, "near: 100.0 recorded, 101.9 now (+1.9 %)"),
            (true, "new: not recorded, 3.0 now"),
            (true, "worse: 100.0 recorded, 102.1 now (+2.1 %)"),
        ];
        assert_eq!(said, expected.map(|(fails, text)| (fails, text.to_owned())));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let written = record(&[("l3", 150.3), ("new-flow", 900.0)]);
        written.write(file.path()).unwrap();
        assert_eq!(Record::read(file.path()).unwrap(), written);
    }

    #[test]
    fn the_record_in_the_repository_is_of_the_cases_that_there_are() {
        let file = FilePath::new(env!("CARGO_MANIFEST_DIR")).join("instructions.toml");
        let recorded = Record::read(&file).unwrap();
        assert!(recorded.instructions.keys().eq(cases().keys()), "make bench-gate ACCEPT=1");
    }
}
