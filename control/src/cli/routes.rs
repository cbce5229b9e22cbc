//! `margay routes`: the forwarding table that a directory of manifests gives a node.

use std::fmt::Write as _;
use std::process::ExitCode;

use margay_control::compile::routes::{ClusterRoute, table};

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
        let table = table(&self.manifests.load()?, &self.node)?;
        for (dst, node, why) in &table.missing {
            eprintln!("margay: no route to {dst} on node {node}: {why}");
        }
        match self.output {
            Output::Table => print!("{}", columns(&table.routes)),
            Output::Json => println!("{}", serde_json::to_string_pretty(&table.routes)?),
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Left-aligned columns, each as wide as its widest cell.
fn columns(routes: &[ClusterRoute]) -> String {
    let header = ["DESTINATION", "KIND", "NODE", "VIA", "TUNNEL", "POOL"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(routes.iter().map(cells)).collect();
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or(0));
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{cell:width$}  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
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
