//! A gateway with two uplinks, and what its host endpoints say of packets.

use std::fs;

use margay_control::compile::Compiler;
use margay_control::identity::Identity;
use margay_control::manifest::load_dir;
use margay_control::state::{Cluster, Kernel, Link, PortBinding, Route, State};
use margay_flowtable::{
    Checksums, Decision, Interface, Passage, PortId, RuleId, Snapshot, Tuple, Verdict, classify_host,
    classify_host_staged, classify_untracked,
};

pub(crate) const ETH0: Interface = Interface::Uplink(PortId(0));
pub(crate) const ETH1: Interface = Interface::Uplink(PortId(1));

const NODE: &str = r"
apiVersion: v1
kind: Node
metadata:
  name: gw
  annotations: {projectcalico.org/IPv4VXLANTunnelAddr: 10.65.10.1}
status:
  addresses: [{type: InternalIP, address: 172.20.1.10}]
";

pub(crate) struct World {
    pub(crate) compiler: Compiler,
    pub(crate) snapshot: Snapshot,
}

impl World {
    pub(crate) fn new(objects: &[String]) -> Self {
        let objects = [&[NODE.to_owned()], objects].concat();
        Self::of(&State { cluster: load(&objects), kernel: kernel(true), ports: ports(true) })
    }

    pub(crate) fn of(state: &State) -> Self {
        let mut compiler = Compiler::of(state, identity());
        let snapshot = compiler.snapshot(&Snapshot::default());
        Self { compiler, snapshot }
    }

    pub(crate) fn said(&self, entry: Interface, exit: Interface, packet: &Tuple) -> String {
        said(&self.compiler, &self.snapshot, entry, exit, packet)
    }

    pub(crate) fn staged(&self, entry: Interface, exit: Interface, packet: &Tuple) -> [Option<String>; 2] {
        staged(&self.compiler, &self.snapshot, entry, exit, packet)
    }
}

pub(crate) fn identity() -> Identity {
    Identity::new("gw")
}

/// What host endpoints say of a packet, and by which rule.
pub(crate) fn said(
    compiler: &Compiler,
    snapshot: &Snapshot,
    entry: Interface,
    exit: Interface,
    packet: &Tuple,
) -> String {
    let policies = &snapshot.policies;
    if let Some(decision) = classify_untracked(policies, entry, packet, &mut |_| {}) {
        return format!("untracked {}", decided(compiler, decision));
    }
    let passage = Passage { entry: Some(entry), exit: Some(exit) };
    let said = classify_host(policies, passage, packet, &mut |_, _| {});
    let halves = [said.ingress, said.egress];
    if let Some(denies) = halves.iter().find(|decision| decision.verdict == Verdict::Deny) {
        return decided(compiler, *denies);
    }
    let by = halves.iter().filter(|decision| decision.rule != RuleId::NONE);
    by.fold("allow".to_owned(), |said, decision| format!("{said} by {}", name(compiler, decision.rule)))
}

/// What they would say if staged policies were enforced, where that is not asked anyhow.
pub(crate) fn staged(
    compiler: &Compiler,
    snapshot: &Snapshot,
    entry: Interface,
    exit: Interface,
    packet: &Tuple,
) -> [Option<String>; 2] {
    let passage = Passage { entry: Some(entry), exit: Some(exit) };
    let staged = classify_host_staged(&snapshot.policies, passage, packet, &mut |_, _| {});
    [staged.ingress, staged.egress].map(|half| Some(decided(compiler, half?)))
}

fn decided(compiler: &Compiler, decision: Decision) -> String {
    let verdict = if decision.verdict == Verdict::Allow { "allow" } else { "deny" };
    format!("{verdict} {}", name(compiler, decision.rule)).trim_end().to_owned()
}

fn name(compiler: &Compiler, rule: RuleId) -> String {
    let name = compiler.rule_ids().name(rule).map(ToString::to_string).unwrap_or_default();
    name.replace("GlobalNetworkPolicy ", "")
}

pub(crate) fn tuple(protocol: u8, dport: u16) -> Tuple {
    let [src, dst] = ["10.69.11.5", "10.70.11.5"].map(|address| address.parse().unwrap());
    Tuple { src, dst, protocol, sport: 40_000, dport, icmp: None }
}

pub(crate) fn load(objects: &[String]) -> Cluster {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), objects.join("\n---\n")).unwrap();
    let (cluster, problems) = load_dir(directory.path()).unwrap();
    assert!(problems.is_empty(), "{problems:?}");
    cluster
}

/// With the second uplink's address or without. What `tuple` comes from is behind the first, where it goes behind the second.
pub(crate) fn kernel(has_address: bool) -> Kernel {
    let link = |name: &str, last| Link {
        name: name.into(),
        mac: [2, 0, 0, 0, 0, last],
        mtu: 1500,
        up: true,
        rx_queues: 1,
        tx_queues: 1,
        vlan: None,
    };
    let mut kernel = Kernel {
        links: [(2, link("eth0", 2)), (3, link("eth1", 3))].into(),
        addresses: vec![(2, "172.20.1.10/24".parse().unwrap())],
        ..Kernel::default()
    };
    let route = |dst: &str, ifindex, gateway: &str| Route {
        dst: dst.parse().unwrap(),
        gateway: Some(gateway.parse().unwrap()),
        ifindex,
        metric: 0,
    };
    kernel.routes = vec![route("10.69.0.0/16", 2, "172.20.1.1"), route("10.70.0.0/16", 3, "192.0.2.1")];
    if has_address {
        kernel.addresses.push((3, "192.0.2.10/24".parse().unwrap()));
    }
    kernel
}

/// With the second uplink or without.
pub(crate) fn ports(both: bool) -> Vec<PortBinding> {
    let port = |id, name: &str, ifindex| PortBinding {
        id: PortId(id),
        name: name.into(),
        ifindex,
        pod: None,
        takes_checksums: Checksums::None,
    };
    let mut ports = vec![port(0, "eth0", 2), port(1, "eth1", 3)];
    ports.truncate(if both { 2 } else { 1 });
    ports
}

fn object(kind: &str, name: &str, labels: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata:\n  name: {name}\n  labels: {labels}\nspec:\n  {spec}\n"
    )
}

pub(crate) fn host_endpoint(name: &str, role: &str, spec: &str) -> String {
    object("HostEndpoint", name, &format!("{{role: {role}}}"), spec)
}

pub(crate) fn policy(name: &str, spec: &str) -> String {
    object("GlobalNetworkPolicy", name, "{}", spec)
}

pub(crate) fn network_set(name: &str, role: &str, nets: &str) -> String {
    object("GlobalNetworkSet", name, &format!("{{role: {role}}}"), &format!("nets: {nets}"))
}

pub(crate) fn staged_policy(name: &str, spec: &str) -> String {
    object("StagedGlobalNetworkPolicy", name, "{}", spec)
}

/// `spec` as one line.
pub(crate) fn tier(name: &str, spec: &str) -> String {
    format!("apiVersion: projectcalico.org/v3\nkind: Tier\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

pub(crate) fn node(tunnel: &str) -> String {
    NODE.replace("10.65.10.1", tunnel)
}

/// A pod of the gateway.
pub(crate) fn pod(address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec: {{nodeName: gw, containers: [{{name: c, image: i}}]}}\nstatus: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}\n"
    )
}
