//! `margay run`: the gateway itself.

use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use margay_control::config::{Access, Config, LogLevel};
use margay_control::manifest;
use margay_control::run;
use margay_control::source::{DirectorySource, KubernetesSource, Source};
use tracing_subscriber::EnvFilter;

use super::BAD_INPUT;

/// Exit code for a gateway that could not start, or could not go on.
const FAILED: u8 = 1;

/// Run the gateway of this node
///
/// Ends at SIGTERM or SIGINT, and leaves each port as its `on_failure` says. Exit code 2 for a configuration that
/// cannot be used.
#[derive(Debug, clap::Args)]
pub(crate) struct Run {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = "/etc/margay/margay.toml")]
    config: PathBuf,
    /// Name of our Node object [default: the configuration's node.name, else the host's]
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Validate the configuration, and the manifests or the kubeconfig that it names, and exit: 0 if all is well, 2 if not.
    #[arg(long)]
    check: bool,
}

impl Run {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let mut config = Config::load(&self.config)?;
        config.node.name = self.node.clone().or(config.node.name);
        if config.calico.is_wanted() && config.source.kubernetes.is_none() {
            bail!(
                "{}: [calico] says what an API server is told: it needs source.kubernetes",
                self.config.display()
            );
        }
        let node = node_name(&config)?;
        let source: Box<dyn Source> = match (
            config.source.directory.clone(),
            config.source.kubernetes.clone(),
        ) {
            (Some(directory), None) if self.check => return check(&directory, &node),
            (None, Some(access)) if self.check => return check_access(&access),
            (Some(directory), None) => Box::new(DirectorySource::new(directory)),
            (None, Some(access)) => Box::new(KubernetesSource::new(access)),
            (directory, _) => {
                let wrong = if directory.is_some() { "two sources" } else { "no source" };
                bail!(
                    "{}: {wrong}: [source] needs either `directory = \"PATH\"` or `kubernetes = \"in-cluster\"` (or the \
                     path of a kubeconfig)",
                    self.config.display()
                );
            }
        };
        log_to_stderr(config.log.level);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start tokio")?;
        match runtime.block_on(run::run(config, node, source)) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                tracing::error!("{error}");
                Ok(ExitCode::from(FAILED))
            }
        }
    }
}

/// Names what is wrong with the manifests. Kinds that Margay does not read are no mistake.
fn check(directory: &Path, node: &str) -> anyhow::Result<ExitCode> {
    let (cluster, problems) = manifest::load_dir(directory)?;
    for problem in &problems {
        eprintln!("margay: {problem}");
    }
    let mut is_valid = problems.iter().all(manifest::Problem::is_skip);
    if !cluster.nodes.contains_key(node) {
        eprintln!("margay: {}: no Node {node}, which is this one's name (node.name)", directory.display());
        is_valid = false;
    }
    Ok(if is_valid { ExitCode::SUCCESS } else { ExitCode::from(BAD_INPUT) })
}

/// Whether the API server's address and credentials can be read. It is not asked.
fn check_access(access: &Access) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(access.client())?;
    Ok(ExitCode::SUCCESS)
}

/// The configured name, else the host's, as the kubelet does: in lower case.
fn node_name(config: &Config) -> io::Result<String> {
    match &config.node.name {
        Some(name) => Ok(name.clone()),
        None => Ok(fs::read_to_string("/proc/sys/kernel/hostname")?.trim().to_ascii_lowercase()),
    }
}

/// `RUST_LOG` goes before the configured level. What the netlink crate warns of is either an error that we name, or an
/// answer that nobody waits for any more; what kube says of each try we say once.
fn log_to_stderr(level: LogLevel) {
    let level = match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},netlink_proto=error,kube_client=off")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .init();
}
