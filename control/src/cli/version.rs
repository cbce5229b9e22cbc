//! `margay version`: of this program and of the gateway that runs.

use std::process::ExitCode;

use margay_control::admin::version::Version as Running;
use serde::Serialize;

use super::Socket;
use super::units::duration;
use super::watch::Shown;

/// Show the version of this program, and which gateway runs here
///
/// Exit code 0, whether or not a gateway answers.
#[derive(Debug, clap::Args)]
pub(crate) struct Version {
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

#[derive(Debug, Serialize)]
struct Both {
    program: &'static str,
    /// None where no gateway answers.
    running: Option<Running>,
    /// Why none does.
    why: Option<String>,
}

impl Version {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        self.shown.show(|| Ok(self.both()), text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn both(&self) -> Both {
        let program = env!("CARGO_PKG_VERSION");
        match self.socket.get("/v1/version") {
            Ok(running) => Both { program, running: Some(running), why: None },
            Err(why) => Both { program, running: None, why: Some(why.to_string()) },
        }
    }
}

fn text(both: &Both) -> String {
    let running = match (&both.running, &both.why) {
        (Some(Running { version, api, node, pid, kernel, uptime_seconds }), _) => {
            let up = duration(*uptime_seconds);
            format!(
                "running: margay {version} on node {node}, process {pid}, up {up}, API {api}, Linux {kernel}"
            )
        }
        (None, why) => format!("running: {}", why.as_deref().unwrap_or("-")),
    };
    format!("margay {}\n{running}\n", both.program)
}
