//! `margay tunnels`: the tunnels of a running gateway.

use std::process::ExitCode;

use margay_control::admin::tunnels::{TunnelRow, Tunnels as Answer};

use super::Socket;
use super::routes::word;
use super::table::table;
use super::units::or_dash;
use super::watch::Shown;

/// Show the tunnels that a running gateway's routes lead into, by their far end
///
/// MTU is the largest IP packet inside, in bytes.
#[derive(Debug, clap::Args)]
pub(crate) struct Tunnels {
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

impl Tunnels {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        self.shown.show(|| self.socket.get::<Answer>("/v1/tunnels"), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(answer: &Answer) -> String {
    let header = ["NODE", "KIND", "LOCAL", "REMOTE", "PORT", "NEIGHBOUR", "MTU", "ROUTES", "STATE"];
    let table = table(header, answer.tunnels.iter().map(cells));
    let Answer { vni, vxlan_port, vtep_mac, vtep_mac6, .. } = answer;
    format!("VXLAN: VNI {vni}, UDP port {vxlan_port}, our VTEP {vtep_mac}, over IPv6 {vtep_mac6}\n{table}")
}

fn cells(tunnel: &TunnelRow) -> [String; 9] {
    [
        tunnel.node.clone(),
        word(tunnel.kind).to_owned(),
        or_dash(tunnel.local),
        tunnel.remote.to_string(),
        or_dash(tunnel.port.clone()),
        or_dash(tunnel.mac.clone()),
        or_dash(tunnel.mtu),
        tunnel.routes.to_string(),
        tunnel.why.clone().unwrap_or_else(|| "up".to_owned()),
    ]
}
