//! `margay run`: the gateway itself.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use margay_control::config::{self, Access, Config, File};
use margay_control::log::Log;
use margay_control::manifest;
use margay_control::run::{self, Settings};
use margay_control::source::{DirectorySource, KubernetesSource, Source};

use super::BAD_INPUT;

/// Run the gateway of this node
///
/// Ends at SIGTERM or SIGINT, and leaves each port as its `on_failure` says. Exit code 1 if it cannot start or go on, 2 for
/// a configuration that cannot be used, 101 if a worker panicked, 102 if one got stuck: then it is to be started anew. SIGHUP has the configuration read again; `margay reload` does too, and says what came of it.
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
        let file = File { path: self.config.clone(), node: self.node.clone() };
        let loaded = file.load()?;
        let node = node_name(&loaded.config)?;
        let config::Source { directory, kubernetes } = loaded.config.source.clone();
        let source: Box<dyn Source> = match (directory, kubernetes) {
            (Some(directory), _) if self.check => return check(&directory, &node),
            (_, Some(access)) if self.check => return check_access(&access),
            (Some(directory), _) => Box::new(DirectorySource::new(directory)),
            (None, Some(access)) => Box::new(KubernetesSource::new(access)),
            (None, None) => unreachable!("a file without a source is refused"),
        };
        let log = Log::start(loaded.config.log.level);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("cannot start tokio")?;
        match runtime.block_on(run::run(Settings { file, loaded, log }, node, source)) {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(error) => {
                tracing::error!("{error}");
                Ok(ExitCode::from(error.ending().code()))
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
