//! `margay ports`: the ports of a running gateway.

use std::process::ExitCode;

use margay_control::admin::ports::Ports as Answer;
use margay_control::admin::{Port, PortState, Traffic};

use super::Socket;
use super::table::table;
use super::units::{bytes, or_dash};
use super::watch::Shown;

/// Show the ports of a running gateway: device, mode, queues, and what they have counted
///
/// Packets and bytes are those since the port was opened: received, sent, dropped of those received, lost of those sent.
/// What was dropped, and why, `margay drops` tells.
#[derive(Debug, clap::Args)]
pub(crate) struct Ports {
    #[command(flatten)]
    socket: Socket,
    #[command(flatten)]
    shown: Shown,
}

impl Ports {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        self.shown.show(|| self.socket.get::<Answer>("/v1/ports"), text)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn text(answer: &Answer) -> String {
    let header = [
        "PORT", "KIND", "STATE", "MODE", "QUEUES", "MTU", "RX", "RX BYTES", "TX", "TX BYTES", "DROPPED",
        "LOST", "POD",
    ];
    let failed = answer.ports.iter().filter_map(|port| Some((&port.name, port.error.as_ref()?)));
    let failed = failed.map(|(port, error)| format!("{port}: {error}\n"));
    std::iter::once(table(header, answer.ports.iter().map(cells))).chain(failed).collect()
}

fn cells(port: &Port) -> [String; 13] {
    let count = |count: fn(&Traffic) -> u64| or_dash(port.traffic.as_ref().map(count));
    let size = |count: fn(&Traffic) -> u64| or_dash(port.traffic.as_ref().map(count).map(bytes));
    let kind = port.vlan.map_or_else(|| port.kind.clone(), |vlan| format!("{} VLAN {vlan}", port.kind));
    let copy = if port.zero_copy == Some(true) { "zero-copy" } else { "copy" };
    [
        if port.name == port.device { port.name.clone() } else { format!("{} ({})", port.name, port.device) },
        kind,
        state(port.state).to_owned(),
        or_dash(port.mode.as_ref().map(|mode| format!("{mode}, {copy}"))),
        or_dash(port.queues),
        or_dash(port.mtu),
        count(|traffic| traffic.rx),
        size(|traffic| traffic.rx_bytes),
        count(|traffic| traffic.tx),
        size(|traffic| traffic.tx_bytes),
        count(|traffic| traffic.drops.values().sum()),
        count(|traffic| traffic.tx_lost),
        or_dash(port.pod.clone()),
    ]
}

pub(super) fn state(state: PortState) -> &'static str {
    match state {
        PortState::Open => "open",
        PortState::Missing => "missing",
        PortState::Failed => "failed",
    }
}
