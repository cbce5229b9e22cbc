//! `margay diff`: what changes between two directories of manifests.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use margay_control::diff;

use super::{Manifests, Output};

/// Say which pairs of endpoints and ports change verdict between two directories of manifests
///
/// Every pod is taken as served. Compared are pods that are in both directories, addresses of nodes, and addresses that
/// nobody holds. Exit code 0 if nothing changes, 1 if something does, 2 on bad input.
#[derive(Debug, clap::Args)]
pub(crate) struct Diff {
    /// Directories of Kubernetes objects: give it twice, first the old, then the new.
    #[arg(long, value_name = "DIR", required = true)]
    manifests: Vec<PathBuf>,
    /// Recorded flows, of which to say which would change verdict: a line each, as JSON
    /// {"src": "10.0.0.1", "dst": "10.0.0.2", "proto": "tcp", "sport": 40000, "dport": 80}.
    #[arg(long, value_name = "FILE")]
    flows: Option<PathBuf>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Diff {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let [old, new] = &*self.manifests else {
            bail!("give --manifests twice: first the old directory, then the new");
        };
        let flows = self.flows.as_deref().map(diff::load_flows).transpose()?.unwrap_or_default();
        let (old, new) = (Manifests::load_from(old)?, Manifests::load_from(new)?);
        let diff = diff::diff(&old, &new, &flows);
        self.output.print(&diff, diff::text)?;
        Ok(ExitCode::from(u8::from(!diff.is_empty())))
    }
}
