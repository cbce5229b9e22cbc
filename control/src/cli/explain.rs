//! `margay explain`: why a packet passes, or does not.

use std::path::PathBuf;
use std::process::ExitCode;

use margay_control::admin;
use margay_control::explain::{self, At, Explanation};
use margay_control::probe::{Expect, Probe, Written};
use serde_json::Value;

use super::{Manifests, Output, Socket};

/// Say why a packet passes or does not: policies, host endpoints, rules, staged policies, route
///
/// FROM and TO are NAMESPACE/POD, an IP address, or node:NAME; TO may be svc:NAMESPACE/NAME. Asks the running gateway,
/// or with --manifests takes every pod of a directory as served. A rule that does not match is followed by which of its
/// conditions do not hold. Exit code 0 if the packet is allowed, 1 if it is denied, 2 on bad input.
#[derive(Debug, clap::Args)]
pub(crate) struct Explain {
    /// Directory of Kubernetes objects, instead of a running gateway.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["socket", "config"])]
    manifests: Option<PathBuf>,
    /// Node whose routes to show [default: the gateway of FROM's node, or that node].
    #[arg(long, value_name = "NODE", requires = "manifests")]
    node: Option<String>,
    /// Interface by which packets come to that node and leave it, where they are in no tunnel [default: the one that the
    /// node's host endpoints name].
    #[arg(long, value_name = "NAME", requires = "manifests")]
    uplink: Option<String>,
    #[command(flatten)]
    socket: Socket,
    from: String,
    to: String,
    /// tcp, udp, sctp, icmp, icmpv6, or a number.
    proto: String,
    /// Destination port; of a service, the service's.
    port: Option<String>,
    /// Source port [default: 49152].
    #[arg(long)]
    sport: Option<u16>,
    /// Type of the ICMP message [default: an echo request].
    #[arg(long)]
    icmp_type: Option<u8>,
    #[arg(long)]
    icmp_code: Option<u8>,
    /// 4 or 6, where both ends have addresses of both.
    #[arg(long)]
    family: Option<u8>,
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl Explain {
    pub(crate) fn run(&self) -> anyhow::Result<ExitCode> {
        let (written, probe) = self.question()?;
        let explanation = match &self.manifests {
            Some(directory) => {
                let cluster = Manifests::load_from(directory)?;
                let at = At { node: self.node.as_deref(), uplink: self.uplink.as_deref() };
                explain::explain(&cluster, &probe, at)?
            }
            None => self.ask(&written)?,
        };
        self.output.print(&explanation, explain::text)?;
        Ok(ExitCode::from(u8::from(explanation.verdict == Expect::Deny)))
    }

    /// As it is asked, checked.
    fn question(&self) -> anyhow::Result<(Written, Probe)> {
        let written = Written {
            from: self.from.clone(),
            to: self.to.clone(),
            proto: Value::String(self.proto.clone()),
            port: self.port.clone().map_or(Value::Null, Value::String),
            sport: self.sport,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            family: self.family,
            expect: None,
        };
        let probe = written.clone().read(0)?;
        Ok((written, probe))
    }

    fn ask(&self, written: &Written) -> anyhow::Result<Explanation> {
        let socket = self.socket.path()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(runtime.block_on(admin::explain(&socket, written))?)
    }
}
