//! `margay endpoints`: whose policy a running gateway enforces.

use std::net::IpAddr;
use std::process::ExitCode;

use margay_control::admin::endpoints::{EndpointPage, EndpointRow, TierRow};

use super::Socket;
use super::ports::state;
use super::query::{pages, query};
use super::table::table;
use super::units::or_dash;
use super::watch::Shown;

/// Show the pods whose policy a running gateway enforces: addresses, port, and the policies that select them
///
/// INGRESS and EGRESS are the policies that are asked, by tier, in their order; `-`: none, all is allowed.
#[derive(Debug, clap::Args)]
pub(crate) struct Endpoints {
    /// Only this pod.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    pod: Option<String>,
    /// Only pods of this namespace.
    #[arg(short, long, value_name = "NAME")]
    namespace: Option<String>,
    /// Only pods on this node.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Only the pod with this address.
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

impl Endpoints {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        self.shown.show(|| self.ask(), |rows| text(rows))?;
        Ok(ExitCode::SUCCESS)
    }

    fn ask(&self) -> anyhow::Result<Vec<EndpointRow>> {
        pages(|after| {
            let parameters = [
                ("pod", self.pod.clone()),
                ("namespace", self.namespace.clone()),
                ("node", self.node.clone()),
                ("address", self.address.map(|address| address.to_string())),
                ("after", after),
            ];
            let page: EndpointPage = self.socket.get(&query("/v1/endpoints", parameters))?;
            Ok((page.endpoints, page.next))
        })
    }
}

fn text(rows: &[EndpointRow]) -> String {
    let header = ["POD", "NODE", "ADDRESSES", "PORT", "STATE", "INGRESS", "EGRESS"];
    table(header, rows.iter().map(cells))
}

fn cells(row: &EndpointRow) -> [String; 7] {
    [
        row.pod.clone(),
        row.node.clone(),
        row.addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        or_dash(row.port.clone()),
        or_dash(row.port_state.map(state)),
        tiers(&row.ingress),
        tiers(&row.egress),
    ]
}

fn tiers(tiers: &[TierRow]) -> String {
    let tier = |tier: &TierRow| format!("{}: {}", tier.tier, tier.policies.join(", "));
    let said: Vec<String> = tiers.iter().map(tier).collect();
    or_dash((!said.is_empty()).then(|| said.join("; ")))
}
