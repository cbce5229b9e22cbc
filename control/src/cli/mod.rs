//! The command line: one file a command, each with its arguments and its `run`.

mod capture;
mod check;
mod diff;
mod doctor;
mod drops;
mod endpoints;
mod explain;
mod external;
mod flows;
mod following;
mod policies;
mod ports;
mod query;
mod reload;
mod replay;
mod routes;
mod run;
mod status;
mod table;
mod top;
mod trace;
mod tunnels;
mod units;
mod version;
mod watch;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand, ValueEnum};
use margay_control::config::Config;
use margay_control::state::Cluster;
use margay_control::{admin, manifest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Exit code for input that cannot be used: arguments (clap's own code), files, objects' absence.
pub(crate) const BAD_INPUT: u8 = 2;

/// Userspace fast-path gateway for Kubernetes networks.
#[derive(Debug, Parser)]
#[command(name = "margay", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Capture(capture::Capture),
    Check(check::Check),
    Diff(diff::Diff),
    Doctor(doctor::Doctor),
    Drops(drops::Drops),
    Endpoints(endpoints::Endpoints),
    Explain(explain::Explain),
    Flows(flows::Flows),
    Policies(policies::Policies),
    Ports(ports::Ports),
    Reload(reload::Reload),
    Replay(replay::Replay),
    Routes(routes::Routes),
    Run(run::Run),
    Status(status::Status),
    Top(top::Top),
    Trace(trace::Trace),
    Tunnels(tunnels::Tunnels),
    Version(version::Version),
    /// `margay lab` and `margay perf` run `margay-lab` and `margay-perf`.
    #[command(external_subcommand)]
    External(Vec<OsString>),
}

impl Cli {
    pub(crate) fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Capture(command) => command.run(),
            Command::Check(command) => command.run(),
            Command::Diff(command) => command.run(),
            Command::Doctor(command) => command.run(),
            Command::Drops(command) => command.run(),
            Command::Endpoints(command) => command.run(),
            Command::Explain(command) => command.run(),
            Command::Flows(command) => command.run(),
            Command::Policies(command) => command.run(),
            Command::Ports(command) => command.run(),
            Command::Reload(command) => command.run(),
            Command::Replay(command) => command.run(),
            Command::Routes(command) => command.run(),
            Command::Run(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Top(command) => command.run(),
            Command::Trace(command) => command.run(),
            Command::Tunnels(command) => command.run(),
            Command::Version(command) => command.run(),
            Command::External(words) => external::run(&words),
        }
    }
}

/// How results are printed on stdout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// A table for people.
    #[default]
    Table,
    Json,
}

impl Output {
    /// Writes a result to stdout, as JSON or as `text` tells it. A reader that has gone (`| head`) has what it wanted.
    pub(crate) fn print<T: Serialize>(
        self,
        result: &T,
        text: impl FnOnce(&T) -> String,
    ) -> anyhow::Result<()> {
        let text = match self {
            Self::Json => serde_json::to_string_pretty(result)? + "\n",
            Self::Table => text(result),
        };
        until_gone(&text).map(drop)
    }
}

/// Writes to stdout. False where the reader has gone.
fn until_gone(text: &str) -> anyhow::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).context("cannot write to stdout"),
    }
}

/// Where a running gateway answers.
#[derive(Debug, clap::Args)]
pub(crate) struct Socket {
    /// Admin socket of the gateway [default: the configuration's, else /run/margay/admin.sock].
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Configuration file, for its admin socket.
    #[arg(long, value_name = "FILE", conflicts_with = "socket")]
    config: Option<PathBuf>,
}

impl Socket {
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        Ok(match (&self.socket, &self.config) {
            (Some(socket), _) => socket.clone(),
            (None, Some(file)) => Config::load(file)?.admin.socket,
            (None, None) => Config::default().admin.socket,
        })
    }

    /// Asks the gateway there for what stands at a path.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        let socket = self.path()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(admin::get(&socket, path))?)
    }
}

/// Where a command without a running gateway finds the cluster's objects.
#[derive(Debug, clap::Args)]
pub(crate) struct Manifests {
    /// Directory of Kubernetes objects as `kubectl get -o yaml` prints them (*.yaml, *.yml, *.json).
    #[arg(long, value_name = "DIR")]
    manifests: PathBuf,
}

impl Manifests {
    pub(crate) fn load(&self) -> Result<Cluster, manifest::Unlistable> {
        Self::load_from(&self.manifests)
    }

    /// Loads the objects. What cannot be enforced is named on stderr and takes nothing else down.
    pub(crate) fn load_from(directory: &Path) -> Result<Cluster, manifest::Unlistable> {
        let (cluster, problems) = manifest::load_dir(directory)?;
        for problem in problems {
            eprintln!("margay: {problem}");
        }
        Ok(cluster)
    }
}
