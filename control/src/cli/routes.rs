//! `margay routes`: the forwarding table of a running gateway, or the one that a directory of manifests gives a node.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use margay_control::admin::routes::{Kind, RoutePage, RouteRow};
use margay_control::compile::routes::{self, ClusterRoute};

use super::query::{pages, query};
use super::table::table;
use super::units::or_dash;
use super::watch::Shown;
use super::{Manifests, Socket};

/// Print the forwarding table of a running gateway, or with --manifests of a node
///
/// Of a running gateway: the cluster's routes and the kernel's own, each with the neighbour that it leads to now, and why
/// packets go nowhere where they do. MTU is in bytes, tunnel headers included. By manifests: destinations that should
/// have a route and have none are named on stderr.
#[derive(Debug, clap::Args)]
pub(crate) struct Routes {
    /// Directory of Kubernetes objects, instead of a running gateway.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["socket", "config", "watch"], requires = "node")]
    manifests: Option<PathBuf>,
    /// Name of the Node object whose table to print; of a running gateway only routes to what lives on that node.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only routes to prefixes that contain this address: packets go by the longest, the last.
    #[arg(long, value_name = "IP", conflicts_with = "manifests")]
    address: Option<IpAddr>,
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

impl Routes {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        match (&self.manifests, &self.node) {
            (Some(directory), Some(node)) => {
                let table = routes::table(&Manifests::load_from(directory)?, node)?;
                for (dst, node, why) in &table.missing {
                    eprintln!("margay: no route to {dst} on node {node}: {why}");
                }
                self.shown.show(|| Ok(table.routes.clone()), |routes| planned(routes))?;
            }
            _ => self.shown.show(|| self.ask(), |rows| in_force(rows))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn ask(&self) -> anyhow::Result<Vec<RouteRow>> {
        pages(|after| {
            let address = self.address.map(|address| address.to_string());
            let parameters = [("node", self.node.clone()), ("address", address), ("after", after)];
            let page: RoutePage = self.socket.get(&query("/v1/routes", parameters))?;
            Ok((page.routes, page.next))
        })
    }
}

fn planned(routes: &[ClusterRoute]) -> String {
    let header = ["DESTINATION", "KIND", "NODE", "VIA", "TUNNEL", "POOL"];
    let cells = |route: &ClusterRoute| {
        [
            route.dst.to_string(),
            route.kind.to_string(),
            route.node.clone(),
            or_dash(route.via),
            or_dash(route.tunnel_dst),
            or_dash(route.pool.clone()),
        ]
    };
    table(header, routes.iter().map(cells))
}

fn in_force(rows: &[RouteRow]) -> String {
    let header =
        ["DESTINATION", "KIND", "NODE", "VIA", "TUNNEL", "PORT", "NEIGHBOUR", "MTU", "POOL", "WHY NOT"];
    let cells = |row: &RouteRow| {
        [
            row.dst.to_string(),
            word(row.kind).to_owned(),
            or_dash(row.node.clone()),
            or_dash(row.via),
            or_dash(row.tunnel_dst),
            or_dash(row.port.clone()),
            or_dash(row.mac.clone()),
            or_dash(row.mtu),
            or_dash(row.pool.clone()),
            or_dash(row.why.clone()),
        ]
    };
    table(header, rows.iter().map(cells))
}

pub(super) fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Local => "local",
        Kind::Direct => "direct",
        Kind::Ipip => "ipip",
        Kind::Vxlan => "vxlan",
        Kind::Blackhole => "blackhole",
        Kind::Missing => "missing",
        Kind::Kernel => "kernel",
    }
}
