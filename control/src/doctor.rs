//! `margay doctor`: whether this machine will do for a gateway, and how one that runs is. Every check is a function of
//! [`Facts`], in a file of its own; what they are is read in `doctor/gather.rs`. A finding says what was found, where, why it
//! matters and how to mend it, with the command for it.

mod bpffs;
mod capabilities;
mod cores;
mod facts;
mod gather;
mod huge_pages;
mod kernel;
mod links;
mod memlock;
mod offloads;
mod peers;
mod programs;
mod queues;
mod running;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

pub use self::facts::{Device, Facts, HugePages, Locked, Peer, Program};
pub use self::gather::gather;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    Ok,
    /// It works, and could be better.
    Note,
    /// It may fail, or loses what was asked for.
    Warning,
    /// The gateway does not start, or a port does not open.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub check: String,
    pub severity: Severity,
    /// A device, or the machine, or the gateway.
    pub place: String,
    pub what: String,
    /// Why it matters; empty where all is well.
    pub why: String,
    /// What to do about it; empty where there is nothing to do.
    pub mend: String,
}

/// Makes findings of one check at one place.
struct At<'a> {
    check: &'a str,
    place: &'a str,
}

impl At<'_> {
    fn ok(&self, what: impl Into<String>) -> Finding {
        self.found(Severity::Ok, what, "", "")
    }

    fn note(&self, what: impl Into<String>, why: &str, mend: impl Into<String>) -> Finding {
        self.found(Severity::Note, what, why, mend)
    }

    fn warning(&self, what: impl Into<String>, why: &str, mend: impl Into<String>) -> Finding {
        self.found(Severity::Warning, what, why, mend)
    }

    fn error(&self, what: impl Into<String>, why: &str, mend: impl Into<String>) -> Finding {
        self.found(Severity::Error, what, why, mend)
    }

    fn found(
        &self,
        severity: Severity,
        what: impl Into<String>,
        why: &str,
        mend: impl Into<String>,
    ) -> Finding {
        Finding {
            check: self.check.to_owned(),
            severity,
            place: self.place.to_owned(),
            what: what.into(),
            why: why.to_owned(),
            mend: mend.into(),
        }
    }
}

/// Where a check is about no device.
const MACHINE: &str = "machine";
const GATEWAY: &str = "gateway";

/// What there is to say, in the order of the checks.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let checks = [
        kernel::check,
        capabilities::check,
        memlock::check,
        huge_pages::check,
        bpffs::check,
        cores::check,
        links::check,
        programs::check,
        queues::check,
        offloads::check,
        peers::check,
        running::check,
    ];
    checks.iter().flat_map(|check| check(facts)).collect()
}

/// Findings for people: what is not well first.
pub fn text(findings: &[Finding]) -> String {
    let mut sorted: Vec<&Finding> = findings.iter().collect();
    sorted.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    let mut lines = Vec::new();
    for Finding { check, severity, place, what, why, mend } in sorted {
        let word = match severity {
            Severity::Ok => "ok",
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        lines.push(format!("{word:<8} {check}, {place}: {what}"));
        lines.extend((!why.is_empty()).then(|| format!("         {why}")));
        lines.extend((!mend.is_empty()).then(|| format!("         -> {mend}")));
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    lines.push(format!(
        "{} checks: {} errors, {} warnings, {} notes",
        findings.len(),
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note)
    ));
    lines.join("\n") + "\n"
}
