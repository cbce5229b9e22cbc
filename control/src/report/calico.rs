//! The annotations of our Node by which Calico's nodes know it, where no calico-node writes them.
//!
//! Felix takes VXLAN packets from nodes alone whose tunnel end it knows (`felix/calc/vxlan_resolver.go`,
//! `felix/dataplane/linux/vxlan_mgr.go`): a node address from the annotation `IPv4Address`, for VXLAN no other will do, and
//! a tunnel address. The MAC of the tunnel end it derives from the node's name as we do, unless an annotation says
//! another; all three of either family. For IP-in-IP the node address is enough to it; the tunnel address is whom the node's
//! own packets are from.

use std::collections::BTreeMap;

use ipnet::IpNet;

use crate::compile::tunnels::{underlay, vtep_mac};
use crate::config::Calico;
use crate::state::{Family, Kernel, Node};

const NODE_ADDRESS: &str = "projectcalico.org/IPv4Address";
const NODE_ADDRESS6: &str = "projectcalico.org/IPv6Address";
const VXLAN_ADDRESS: &str = "projectcalico.org/IPv4VXLANTunnelAddr";
const VXLAN_ADDRESS6: &str = "projectcalico.org/IPv6VXLANTunnelAddr";
const VXLAN_MAC: &str = "projectcalico.org/VXLANTunnelMACAddr";
const VXLAN_MAC6: &str = "projectcalico.org/VXLANTunnelMACAddrV6";
const IPIP_ADDRESS: &str = "projectcalico.org/IPv4IPIPTunnelAddr";

/// What our Node is to say, where it says nothing yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Annotations {
    pub values: BTreeMap<&'static str, String>,
    /// Whether the Node, as the source knows it, lacks an address of these.
    pub is_lacking: bool,
}

impl Annotations {
    /// Those that the configuration asks for, of the node of this name. The source does not hold it: none.
    pub fn of(config: &Calico, name: &str, node: Option<&Node>, kernel: &Kernel) -> Self {
        let Some(node) = node.filter(|_| config.is_wanted()) else { return Self::default() };
        let mut values = BTreeMap::new();
        let mut node_address = |key, family| {
            let address = underlay(node, family).map(|known| with_prefix(known, kernel));
            values.extend(address.map(|address| (key, address.to_string())));
        };
        if config.vxlan_tunnel_address.is_some() || config.ipip_tunnel_address.is_some() {
            node_address(NODE_ADDRESS, Family::V4);
        }
        if config.vxlan_tunnel_address6.is_some() {
            node_address(NODE_ADDRESS6, Family::V6);
        }
        if let Some(address) = config.vxlan_tunnel_address {
            values.insert(VXLAN_ADDRESS, address.to_string());
            values.insert(VXLAN_MAC, mac(vtep_mac(name, Some(node), Family::V4)));
        }
        if let Some(address) = config.vxlan_tunnel_address6 {
            values.insert(VXLAN_ADDRESS6, address.to_string());
            values.insert(VXLAN_MAC6, mac(vtep_mac(name, Some(node), Family::V6)));
        }
        values.extend(config.ipip_tunnel_address.map(|address| (IPIP_ADDRESS, address.to_string())));
        let is_lacking = config.vxlan_tunnel_address.is_some() && node.vxlan_tunnel_v4.is_none()
            || config.vxlan_tunnel_address6.is_some() && node.vxlan_tunnel_v6.is_none()
            || config.ipip_tunnel_address.is_some() && node.ipip_tunnel.is_none();
        Self { values, is_lacking }
    }

    /// Of these, those that the Node lacks; or what stands in the way of one that was configured.
    pub(super) fn missing<'a>(&'a self, present: &'a BTreeMap<String, String>) -> Missing<'a> {
        let (mut missing, mut conflict) = (BTreeMap::new(), None);
        for (key, value) in &self.values {
            match present.get(*key).filter(|text| !text.is_empty()) {
                None => drop(missing.insert(*key, value.as_str())),
                Some(stands)
                    if stands != value && matches!(*key, VXLAN_ADDRESS | VXLAN_ADDRESS6 | IPIP_ADDRESS) =>
                {
                    conflict = Some(Conflict { key, stands, configured: value });
                }
                Some(_) => {}
            }
        }
        Missing { annotations: missing, conflict }
    }
}

/// What is to be written, and what is not because another value stands there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing<'a> {
    pub annotations: BTreeMap<&'static str, &'a str>,
    pub conflict: Option<Conflict<'a>>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "our Node's annotation {key} is {stands}, which holds, and not {configured} as the [calico] table says: take the \
     key out of the configuration, or `kubectl annotate node` it away"
)]
pub(super) struct Conflict<'a> {
    key: &'static str,
    stands: &'a str,
    configured: &'a str,
}

/// The Node's address with the length of its prefix, which the kernel knows where the Node does not say.
fn with_prefix(known: IpNet, kernel: &Kernel) -> IpNet {
    if known.prefix_len() < known.max_prefix_len() {
        return known;
    }
    let of_kernel = kernel.addresses.iter().find(|(_, net)| net.addr() == known.addr());
    of_kernel.map_or(known, |(_, net)| *net)
}

fn mac(octets: [u8; 6]) -> String {
    octets.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(vxlan: Option<&str>, ipip: Option<&str>) -> Calico {
        let address = |text: &str| text.parse().unwrap();
        Calico {
            vxlan_tunnel_address: vxlan.map(address),
            ipip_tunnel_address: ipip.map(address),
            ..Calico::default()
        }
    }

    fn node(ipv4: &str) -> Node {
        Node { ipv4: Some(ipv4.parse().unwrap()), ..Node::default() }
    }

    fn values(annotations: &Annotations) -> Vec<(&'static str, &str)> {
        annotations.values.iter().map(|(key, value)| (*key, value.as_str())).collect()
    }

    #[test]
    fn what_is_published_is_what_margay_uses_itself() {
        let kernel = Kernel { addresses: vec![(2, "192.0.2.7/24".parse().unwrap())], ..Kernel::default() };
        let vxlan = Annotations::of(
            &config(Some("10.9.0.1"), None),
            "remotehostname",
            Some(&node("192.0.2.7/32")),
            &kernel,
        );
        assert_eq!(
            values(&vxlan),
            [
                (NODE_ADDRESS, "192.0.2.7/24"),
                (VXLAN_ADDRESS, "10.9.0.1"),
                // As Felix derives it of this name.
                (VXLAN_MAC, "66:3e:ca:a4:db:65"),
            ]
        );
        assert!(vxlan.is_lacking);

        let annotated = Node {
            vxlan_tunnel_v4: Some("10.9.0.1".parse().unwrap()),
            vxlan_mac_v4: Some([2, 0, 0, 0, 0, 9]),
            ..node("192.0.2.7/25")
        };
        let vxlan = Annotations::of(&config(Some("10.9.0.1"), None), "gw", Some(&annotated), &kernel);
        let expected =
            [(NODE_ADDRESS, "192.0.2.7/25"), (VXLAN_ADDRESS, "10.9.0.1"), (VXLAN_MAC, "02:00:00:00:00:09")];
        assert_eq!(values(&vxlan), expected);
        assert!(!vxlan.is_lacking);

        let ipip =
            Annotations::of(&config(None, Some("10.9.0.2")), "gw", Some(&node("192.0.2.8/32")), &kernel);
        assert_eq!(values(&ipip), [(NODE_ADDRESS, "192.0.2.8/32"), (IPIP_ADDRESS, "10.9.0.2")]);
    }

    #[test]
    fn of_ipv6_the_same_is_published() {
        let address = "2001:db8:1::7/64".parse().unwrap();
        let kernel = Kernel { addresses: vec![(2, address)], ..Kernel::default() };
        let six = Calico { vxlan_tunnel_address6: Some("fd00:9::1".parse().unwrap()), ..Calico::default() };
        let mut node = Node { ipv6: Some("2001:db8:1::7/128".parse().unwrap()), ..node("192.0.2.7/24") };
        let annotations = Annotations::of(&six, "remotehostname", Some(&node), &kernel);
        let expected = [
            (NODE_ADDRESS6, "2001:db8:1::7/64"),
            (VXLAN_ADDRESS6, "fd00:9::1"),
            (VXLAN_MAC6, "66:a0:68:c9:4c:79"),
        ];
        assert_eq!(values(&annotations), expected);
        assert!(annotations.is_lacking);
        let present = BTreeMap::from([(VXLAN_ADDRESS6.to_owned(), "fd00:9::2".to_owned())]);
        assert!(annotations.missing(&present).conflict.is_some());
        node.vxlan_tunnel_v6 = Some("fd00:9::1".parse().unwrap());
        assert!(!Annotations::of(&six, "remotehostname", Some(&node), &kernel).is_lacking);
    }

    #[test]
    fn nothing_is_published_that_is_not_configured_or_of_a_node_that_is_not_known() {
        let kernel = Kernel::default();
        let nothing = Annotations::default();
        assert_eq!(Annotations::of(&config(None, None), "gw", Some(&node("192.0.2.7/24")), &kernel), nothing);
        assert_eq!(Annotations::of(&config(Some("10.9.0.1"), None), "gw", None, &kernel), nothing);
    }

    #[test]
    fn what_stands_there_is_never_written_over() {
        let kernel = Kernel::default();
        let wanted = Annotations::of(
            &config(Some("10.9.0.1"), Some("10.9.0.2")),
            "gw",
            Some(&node("192.0.2.7/24")),
            &kernel,
        );
        let keys = |present: &[(&str, &str)]| {
            let present =
                present.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let missing = wanted.missing(&present);
            let keys: Vec<&str> = missing.annotations.keys().copied().collect();
            (keys, missing.conflict.map(|conflict| conflict.to_string()))
        };
        let all = vec![NODE_ADDRESS, IPIP_ADDRESS, VXLAN_ADDRESS, VXLAN_MAC];
        assert_eq!(keys(&[("other", "x")]), (all.clone(), None));
        // An empty one is none, to Felix too.
        assert_eq!(keys(&[(VXLAN_ADDRESS, "")]), (all, None));
        let (missing, conflict) = keys(&[
            (NODE_ADDRESS, "192.0.2.9/24"),
            (VXLAN_ADDRESS, "10.9.0.7"),
            (VXLAN_MAC, "02:00:00:00:00:01"),
            (IPIP_ADDRESS, "10.9.0.2"),
        ]);
        assert!(missing.is_empty(), "{missing:?}");
        let conflict = conflict.unwrap();
        assert!(conflict.contains("10.9.0.7") && conflict.contains("10.9.0.1"), "{conflict}");
    }
}
