//! `margay routes`: the forwarding table that a directory of manifests gives a node.

use std::process::ExitCode;

use margay_control::compile::routes::{self, ClusterRoute};

use super::table::table;
use super::{Manifests, Output};

/// Print a node's forwarding table
///
/// Destinations that should have a route and have none are named on stderr.
#[derive(Debug, clap::Args)]
pub(crate) struct Routes {
    #[command(flatten)]
    manifests: Manifests,
    /// Name of the Node object whose table to print.
    #[arg(long, value_name = "NODE")]
    node: String,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Routes {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let table = routes::table(&self.manifests.load()?, &self.node)?;
        for (dst, node, why) in &table.missing {
            eprintln!("margay: no route to {dst} on node {node}: {why}");
        }
        let header = ["DESTINATION", "KIND", "NODE", "VIA", "TUNNEL", "POOL"];
        self.output.print(&table.routes, |routes| self::table(header, routes.iter().map(cells)))?;
        Ok(ExitCode::SUCCESS)
    }
}

fn cells(route: &ClusterRoute) -> [String; 6] {
    let or_dash = |cell: Option<String>| cell.unwrap_or_else(|| "-".to_owned());
    [
        route.dst.to_string(),
        route.kind.to_string(),
        route.node.clone(),
        or_dash(route.via.map(|via| via.to_string())),
        or_dash(route.tunnel_dst.map(|dst| dst.to_string())),
        or_dash(route.pool.clone()),
    ]
}
