//! Who this process is: the node that it forwards for, and what its configuration says of tunnels and errors.

use margay_flowtable::{InnerSource, Outer, ZeroChecksum};

use crate::config::{Config, TunnelKind};
use crate::state::{Cluster, Family, FelixConfiguration};

/// What `compile` must know besides the state of the world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the Node object.
    pub node: String,
    /// VXLAN network identifier, 24 bits (RFC 7348 5), where the configuration says one.
    pub vni: Option<u32>,
    /// UDP destination port of VXLAN, as above.
    pub vxlan_port: Option<u16>,
    /// Outer headers and MTUs.
    pub vxlan: TunnelKind,
    pub ipip: TunnelKind,
    pub inner_source: InnerSource,
    pub tunnels_from_pods: bool,
    /// Whether VXLAN over IPv6 does without UDP checksums, both ways.
    pub zero_checksum6: ZeroChecksum,
    pub answers_unreachable: bool,
    pub clamps_mss: bool,
}

/// What Calico's nodes use unless told otherwise.
const VNI: u32 = 4096;
pub(crate) const VXLAN_PORT: u16 = 4789;

impl Identity {
    /// The node with the VNI and port that its cluster says, or that Calico nodes use.
    pub fn new(node: impl Into<String>) -> Self {
        Self::configured(node, &Config::default())
    }

    /// The node as the configuration has it.
    pub fn configured(node: impl Into<String>, config: &Config) -> Self {
        Self {
            node: node.into(),
            vni: config.tunnel.vni,
            vxlan_port: config.tunnel.vxlan_port,
            vxlan: config.tunnel.vxlan,
            ipip: config.tunnel.ipip,
            inner_source: config.tunnel.inner_source,
            tunnels_from_pods: config.tunnel.from_pods,
            zero_checksum6: if config.tunnel.udp6_zero_checksum {
                ZeroChecksum::Accepted
            } else {
                ZeroChecksum::Refused
            },
            answers_unreachable: config.icmp.unreachable,
            clamps_mss: config.tcp.clamp_mss,
        }
    }

    pub(crate) fn vni(&self, cluster: &Cluster) -> u32 {
        self.vni.or(self.by_felix(cluster, |felix| felix.vni)).unwrap_or(VNI)
    }

    pub(crate) fn vxlan_port(&self, cluster: &Cluster) -> u16 {
        self.vxlan_port.or(self.by_felix(cluster, |felix| felix.vxlan_port)).unwrap_or(VXLAN_PORT)
    }

    pub(crate) fn vxlan_outer(&self) -> Outer {
        self.vxlan.outer(Outer::VXLAN)
    }

    pub(crate) fn ipip_outer(&self) -> Outer {
        self.ipip.outer(Outer::IPIP)
    }

    /// The most that a packet may be inside a VXLAN tunnel over this family, where the configuration or the cluster says.
    pub(crate) fn vxlan_mtu(&self, cluster: &Cluster, outer: Family) -> Option<u16> {
        let by_felix = |felix: &FelixConfiguration| match outer {
            Family::V4 => felix.vxlan_mtu,
            Family::V6 => felix.vxlan_mtu_v6,
        };
        self.vxlan.mtu.or_else(|| self.by_felix(cluster, by_felix))
    }

    /// The same of IP-in-IP.
    pub(crate) fn ipip_mtu(&self, cluster: &Cluster) -> Option<u16> {
        self.ipip.mtu.or_else(|| self.by_felix(cluster, |felix| felix.ipip_mtu))
    }

    /// By the configuration of the node alone, else that of all, as Calico reads them.
    fn by_felix<T>(&self, cluster: &Cluster, field: impl Fn(&FelixConfiguration) -> Option<T>) -> Option<T> {
        let of = |name: &str| cluster.felix_configurations.get(name).and_then(|felix| field(felix));
        of(&format!("node.{}", self.node)).or_else(|| of("default"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_goes_first_then_the_node_s_felix_then_all_nodes() {
        let mut cluster = Cluster::default();
        let mut felix = |name: &str, vni, vxlan_port| {
            let felix = FelixConfiguration { vni, vxlan_port, ..FelixConfiguration::default() };
            cluster.felix_configurations.insert(name.to_owned(), felix.into());
        };
        felix("default", Some(1), Some(10));
        felix("node.a", Some(2), None);
        let numbers = |identity: &Identity, cluster| (identity.vni(cluster), identity.vxlan_port(cluster));
        assert_eq!(numbers(&Identity::new("a"), &cluster), (2, 10));
        assert_eq!(numbers(&Identity::new("b"), &cluster), (1, 10));
        let configured = Identity { vxlan_port: Some(30), ..Identity::new("a") };
        assert_eq!(numbers(&configured, &cluster), (2, 30));
        assert_eq!(numbers(&Identity::new("a"), &Cluster::default()), (4096, 4789));
    }
}
