//! `[metrics]`: what is told over TCP.

use std::net::SocketAddr;

use serde::Deserialize;

use super::read;

/// `[metrics]`: figures for Prometheus and answers for probes, by HTTP: `/metrics`, `/livez`, `/readyz`, `/healthz`.
/// `docs/metrics.md` lists them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Address and port to listen at, as `"127.0.0.1:9817"`. Nobody is asked who they are: whoever reaches it reads the
    /// names of ports and pods and how busy they are. So the default is that nothing listens, and a Prometheus elsewhere
    /// needs another address than loopback, and a firewall.
    #[serde(deserialize_with = "read::listen")]
    pub listen: Option<SocketAddr>,
}
