//! Linux as the gateway: its forwarding, its vxlan device, and nftables with connection tracking that allow what the policies
//! do.

mod conntrack;
mod rules;

use std::fs;

use anyhow::{Context, Result};
use margay_testbed::ip::{self, Batch};
use margay_testbed::netns;

use self::conntrack::Limits;
use super::cluster::{self, Node, OWN_VTEP};
use super::process::{self, require};
use super::{Cores, Description, Gateway};
use crate::lab::case::{Case, Dataplane};
use crate::lab::site::{self, Site, lladdr};
use crate::lab::world::{GATEWAY_NAME, NODE, VNI, VXLAN_PORT, vtep_mac};

const VXLAN: &str = "vxlan.lab";

struct Kernel {
    netns: String,
    /// Whether it has policies.
    tracks: bool,
    description: Description,
    _limits: Limits,
}

pub fn start(site: &Site, case: &Case, cores: Cores) -> Result<Box<dyn Gateway>> {
    require(&[("nft", "nftables"), ("ethtool", "ethtool"), ("bridge", "iproute2")])?;
    let tracks = case.policies > 0;
    let limits = if tracks { Limits::raise(case.flows)? } else { Limits::default() };
    let nodes = cluster::nodes(case.job);
    if nodes.iter().any(|node| node.is_tunnelled) {
        vxlan_device(site, case).run(Some(&site.gateway))?;
    }
    Batch::new().extend(nodes.iter().flat_map(routes)).run(Some(&site.gateway))?;
    Batch::new().extend(nodes.iter().filter_map(tunnel)).run_bridge(Some(&site.gateway))?;
    if tracks {
        let mut nft = ip::in_netns(&site.gateway, "nft");
        process::run_with(nft.args(["-f", "-"]), &rules::text(case))?;
    }
    for end in &site.sides {
        // Frames that XDP sends reach a veth only where it receives by NAPI.
        process::run(ip::in_netns(&site.gateway, "ethtool").args(["-K", &end.gateway_device, "gro", "on"]))?;
    }
    netns::within(&site.gateway, || site::write("ipv4/ip_forward", "1"))??;
    let description = describe(case, cores, &limits)?;
    Ok(Box::new(Kernel { netns: site.gateway.clone(), tracks, description, _limits: limits }))
}

fn vxlan_device(site: &Site, case: &Case) -> Batch {
    let (mac, own) = (lladdr(vtep_mac(GATEWAY_NAME)), cluster::own_address(case.job));
    Batch::new().extend([
        format!(
            "link add {VXLAN} address {mac} mtu {} type vxlan id {VNI} dstport {VXLAN_PORT} local {own} nolearning noudpcsum",
            site.mtu
        ),
        format!("address add {OWN_VTEP}/32 dev {VXLAN}"),
        format!("link set {VXLAN} up"),
    ])
}

/// How to reach a node's block.
fn routes(node: &Node) -> Vec<String> {
    let Node { block, vtep, side, .. } = node;
    if node.is_tunnelled {
        let mac = lladdr(vtep_mac(node.name));
        vec![
            format!("route add {block} via {vtep} dev {VXLAN} onlink"),
            format!("neigh replace {vtep} lladdr {mac} dev {VXLAN} nud permanent"),
        ]
    } else {
        vec![format!("route add {block} via {}", NODE[*side as usize])]
    }
}

fn tunnel(node: &Node) -> Option<String> {
    let Node { address, .. } = node;
    let mac = lladdr(vtep_mac(node.name));
    node.is_tunnelled.then(|| format!("fdb replace {mac} dev {VXLAN} dst {address} self permanent"))
}

fn describe(case: &Case, cores: Cores, limits: &Limits) -> Result<Description> {
    let version =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("cannot read the kernel's version")?;
    // On two cores, by threaded NAPI, it was a fifth as fast: each packet crosses from one to the other.
    let arrangement = format!(
        "all in the softirq of core {}, where packets are made; the ends of connections on core {}",
        cores.generator, cores.dataplane
    );
    let policy = match case.policies {
        0 => "no nftables, no connection tracking".to_owned(),
        count => format!("nftables: established first, then {count} rules; outer packets untracked"),
    };
    Ok(Description {
        dataplane: Dataplane::Kernel,
        version: format!("Linux {}", version.trim()),
        arrangement,
        settings: [policy, "GRO on".to_owned()].into_iter().chain(limits.to_text()).collect(),
    })
}

impl Gateway for Kernel {
    fn description(&self) -> Description {
        self.description.clone()
    }

    fn forwarded(&self) -> Result<u64> {
        Ok(self
            .ip_counters()?
            .iter()
            .filter(|(name, _)| name == "ForwDatagrams")
            .map(|(_, count)| count)
            .sum())
    }

    fn drops(&self) -> Result<Vec<(String, u64)>> {
        const DROPS: [&str; 6] =
            ["InHdrErrors", "InAddrErrors", "InUnknownProtos", "InDiscards", "OutDiscards", "OutNoRoutes"];
        let mut drops: Vec<_> = self
            .ip_counters()?
            .into_iter()
            .filter(|(name, count)| DROPS.contains(&name.as_str()) && *count > 0)
            .collect();
        if self.tracks {
            let mut nft = ip::in_netns(&self.netns, "nft");
            drops.extend(rules::drops(&process::run(nft.args(["list", "counters"]))?));
        }
        Ok(drops)
    }
}

impl Kernel {
    /// The counters of IP in the gateway's namespace, by name.
    fn ip_counters(&self) -> Result<Vec<(String, u64)>> {
        let read =
            || fs::read_to_string("/proc/thread-self/net/snmp").context("cannot read the counters of IP");
        let text = netns::within(&self.netns, read)??;
        let mut lines = text.lines().filter_map(|line| line.strip_prefix("Ip: "));
        let (names, counts) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let pairs = names.split_whitespace().zip(counts.split_whitespace());
        Ok(pairs.filter_map(|(name, count)| Some((name.to_owned(), count.parse().ok()?))).collect())
    }
}
