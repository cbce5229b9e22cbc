//! Probes, what was expected and what was seen; as a table, and as JSON that scripts rely on.

use std::fmt;

use margay_control::check::{Answer, Half};
use margay_control::probe::{Expect, Given, Probe};
use serde::Serialize;
use serde_json::Value;

/// Outcomes in the order of the probes.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub struct Report {
    pub outcomes: Vec<Outcome>,
}

#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    #[serde(flatten)]
    pub given: Given,
    pub verdict: Verdict,
    pub expect: Option<Expect>,
    /// What the network did; nothing where the probe was skipped.
    pub seen: Option<Expect>,
    /// Why the probe was skipped, or how it failed.
    pub reason: Option<String>,
    /// What policy says, as `margay check` has it; nothing where an end is unknown.
    pub egress: Option<Half>,
    pub ingress: Option<Half>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Allow,
    Deny,
    Skip,
}

impl Verdict {
    fn seen(self) -> Option<Expect> {
        match self {
            Self::Allow => Some(Expect::Allow),
            Self::Deny => Some(Expect::Deny),
            Self::Skip => None,
        }
    }
}

impl Outcome {
    pub(super) fn new(
        probe: &Probe,
        verdict: Verdict,
        reason: Option<String>,
        answer: Option<Answer>,
    ) -> Self {
        let (egress, ingress) = answer.map(|answer| (answer.egress, answer.ingress)).unzip();
        let seen = verdict.seen();
        Self { given: probe.given.clone(), verdict, expect: probe.expect, seen, reason, egress, ingress }
    }

    /// Whether what was seen is what was expected, or nothing was seen or expected.
    pub fn agrees(&self) -> bool {
        match (self.expect, self.seen) {
            (Some(expect), Some(seen)) => expect == seen,
            _ => true,
        }
    }
}

impl Report {
    pub fn agrees(&self) -> bool {
        self.outcomes.iter().all(Outcome::agrees)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = ["FROM", "TO", "PROTO", "PORT", "EXPECTED", "SEEN", ""].map(str::to_owned);
        let rows: Vec<[String; 7]> = std::iter::once(header).chain(self.outcomes.iter().map(row)).collect();
        let widths: [usize; 7] = std::array::from_fn(|column| {
            rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        });
        for row in &rows {
            let cells: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
            writeln!(f, "{}", cells.join("  ").trim_end())?;
        }
        let skipped = self.outcomes.iter().filter(|outcome| outcome.seen.is_none()).count();
        let wrong = self.outcomes.iter().filter(|outcome| !outcome.agrees()).count();
        writeln!(f, "{} probes, {skipped} skipped, {wrong} not as expected", self.outcomes.len())
    }
}

fn row(outcome: &Outcome) -> [String; 7] {
    let Given { from, to, proto, port } = &outcome.given;
    let reason = outcome.reason.clone().unwrap_or_default();
    let remark = match (outcome.agrees(), outcome.verdict) {
        (false, _) => format!("<- not as expected {reason}"),
        (true, Verdict::Skip) => reason,
        (true, _) => String::new(),
    };
    [
        from.clone(),
        to.clone(),
        bare(proto),
        bare(port),
        outcome.expect.map_or("-", word).to_owned(),
        outcome.seen.map_or("skip", word).to_owned(),
        remark,
    ]
}

fn bare(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}

fn word(verdict: Expect) -> &'static str {
    match verdict {
        Expect::Allow => "allow",
        Expect::Deny => "deny",
    }
}
