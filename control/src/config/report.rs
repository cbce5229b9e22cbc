//! `[report]` and `[calico]`: what is written back to the API server.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserialize;

use super::read;

/// `[report]`: what the cluster is told of us, where the source is Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Report {
    /// Events on objects that are not in force as written. Default true.
    pub events: bool,
    /// The annotation `margay.dev/status` of our Node. Default true.
    pub status: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self { events: true, status: true }
    }
}

/// `[calico]`: what Calico's nodes are told of us where no calico-node runs beside us. Annotations of our Node, written only
/// where the Node has none of that name: what is there already stands, and holds for us too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calico {
    /// Address of our end of VXLAN tunnels inside the overlay, which nothing else may hold. Default: none is published.
    #[serde(deserialize_with = "read::tunnel_address")]
    pub vxlan_tunnel_address: Option<Ipv4Addr>,
    /// The same of VXLAN over IPv6.
    #[serde(deserialize_with = "read::tunnel_address6")]
    pub vxlan_tunnel_address6: Option<Ipv6Addr>,
    /// The same of IP-in-IP.
    #[serde(deserialize_with = "read::tunnel_address")]
    pub ipip_tunnel_address: Option<Ipv4Addr>,
}

impl Calico {
    /// Whether anything is to be published.
    pub fn is_wanted(&self) -> bool {
        *self != Self::default()
    }
}
