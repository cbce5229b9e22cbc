//! `margay drops`: what a running gateway has dropped, and why.

use std::process::ExitCode;

use margay_control::admin::drops::{Drops as Answer, ReasonRow};

use super::Socket;
use super::policies::drop_table;
use super::query::query;
use super::table::table;
use super::units::or_dash;
use super::watch::Shown;

/// Show what a running gateway has dropped: frames by reason and port, and of late first packets by policy and pod
///
/// Frames count since the start of the gateway, by the port that they came in by (`-`: ports that are closed). With
/// --policy or --pod only what policy has denied of late is shown, with --port or --reason only the frames.
#[derive(Debug, clap::Args)]
pub(crate) struct Drops {
    /// Only for this reason, by its word.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
    /// Only frames that came in by the port of this name.
    #[arg(long, value_name = "NAME")]
    port: Option<String>,
    /// Only by this policy.
    #[arg(long, value_name = "[NAMESPACE/]NAME")]
    policy: Option<String>,
    /// Only by the policy of this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

impl Drops {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let path = query(
            "/v1/drops",
            [
                ("reason", self.reason.clone()),
                ("port", self.port.clone()),
                ("policy", self.policy.clone()),
                ("pod", self.pod.clone()),
            ],
        );
        self.shown.show(|| self.socket.get::<Answer>(&path), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(answer: &Answer) -> String {
    let reasons = table(["FRAMES", "REASON", "PORT", "MEANING"], answer.reasons.iter().map(cells));
    let mut parts = vec![reasons];
    if !answer.policies.is_empty() {
        parts.push(format!("denied by policy of late:\n{}", drop_table(&answer.policies)));
    }
    if answer.policies_lost > 0 {
        parts.push(format!("{} drops by policy came too fast to be kept one by one\n", answer.policies_lost));
    }
    parts.join("\n")
}

fn cells(row: &ReasonRow) -> [String; 4] {
    [row.frames.to_string(), row.reason.clone(), or_dash(row.port.clone()), row.meaning.clone()]
}
