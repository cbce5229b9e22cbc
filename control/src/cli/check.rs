//! `margay check`: what policy says of probes, without a gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use margay_control::check::{self, Answer, Half};
use margay_control::probe::{self, Expect};

use super::table::table;
use super::{Manifests, Output};

/// Say which probes the policies in a directory of manifests would allow
///
/// Every pod is taken as served: the sender's egress and the receiver's ingress policy must both allow. Exit code 0 if
/// every `expect` agrees, 1 if not, 2 on bad input.
#[derive(Debug, clap::Args)]
pub(crate) struct Check {
    #[command(flatten)]
    manifests: Manifests,
    /// Probes: a YAML list of {from, to, proto, port, expect}.
    #[arg(long, value_name = "FILE")]
    probes: PathBuf,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        let probes = probe::load(&self.probes)?;
        let cluster = self.manifests.load()?;
        let answers = check::check(&cluster, &probes).map_err(|error| error.in_file(&self.probes))?;
        self.output.print(&answers, |answers| text(answers))?;
        Ok(ExitCode::from(u8::from(!answers.iter().all(Answer::agrees))))
    }
}

fn text(answers: &[Answer]) -> String {
    let header = ["FROM", "TO", "PROTO", "PORT", "VERDICT", "EXPECT", "EGRESS", "INGRESS", ""];
    let wrong = answers.iter().filter(|answer| !answer.agrees()).count();
    let table = table(header, answers.iter().map(row));
    format!("{table}{} probes, {wrong} not as expected\n", answers.len())
}

fn row(answer: &Answer) -> [String; 9] {
    let given = &answer.given;
    let bare = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Null => "-".to_owned(),
        other => other.to_string(),
    };
    [
        given.from.clone(),
        given.to.clone(),
        bare(&given.proto),
        bare(&given.port),
        word(answer.verdict).to_owned(),
        answer.expect.map_or("-", word).to_owned(),
        half(&answer.egress),
        half(&answer.ingress),
        if answer.agrees() { String::new() } else { "<- not as expected".to_owned() },
    ]
}

fn word(verdict: Expect) -> &'static str {
    match verdict {
        Expect::Allow => "allow",
        Expect::Deny => "deny",
    }
}

fn half(half: &Half) -> String {
    let verdict = word(half.verdict);
    match (&half.policy, half.rule) {
        (None, _) => verdict.to_owned(),
        (Some(policy), None) => format!("{verdict} by {policy}"),
        (Some(policy), Some(rule)) => format!("{verdict} by {policy} rule {rule}"),
    }
}
