//! Clusters as large as the figures are asked for, made of numbers: equal arguments, equal clusters.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_control::selector::Selector;
use margay_control::state::policy::{
    Order, Peer, Policy, PolicyId, PolicyKind, PortMatch, Rule, RuleAction, Side,
};
use margay_control::state::{Cluster, Labels, Name, Namespace, Node, Pod, Protocol, ServiceAccount};

/// The node that serves every pod.
pub(crate) const GATEWAY: &str = "gateway";
pub(crate) const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
/// The namespace that every pod may ask names of.
pub(crate) const SYSTEM: &str = "kube-system";
/// Kinds of pods in a namespace.
pub(crate) const APPS: u32 = 20;
/// Groups that namespaces are in.
pub(crate) const TEAMS: u32 = 50;
/// Pods of the first namespace, where there are enough: a relabelling touches them all.
pub(crate) const LARGE_NAMESPACE: u32 = 1000;
/// Pods that a node has at most: each has a block of 256 addresses.
pub(crate) const PODS_OF_NODE: u32 = 250;

/// How policies are spread over the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spread {
    /// Evenly over the namespaces: a handful selects each pod.
    Namespaces,
    /// All of them select the pods of one app in one namespace, each with a peer of its own.
    OnePod,
    /// The same, and every peer is all pods, so that only ports tell the rules apart.
    OnePodAllPeers,
    /// The same, and every peer is the pods of one team's namespaces: each pod is in those of hundreds of rules.
    OnePodTeams,
    /// The same, and every peer is a block of addresses.
    OnePodBlocks,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) pods: u32,
    pub(crate) policies: u32,
    pub(crate) namespaces: u32,
    pub(crate) nodes: u32,
}

impl Size {
    /// As many pods as given are in the first namespace, and the others spread over the rest.
    pub(crate) fn namespace_of(self, pod: u32) -> u32 {
        let large = LARGE_NAMESPACE.min(self.pods / 4);
        let (Some(number), true) = (pod.checked_sub(large), self.namespaces > 1) else { return 0 };
        let [number, others, rest] = [number, self.namespaces - 1, self.pods - large].map(u64::from);
        1 + (number * others / rest) as u32
    }

    fn pods_of_node(self) -> u32 {
        self.pods.div_ceil(self.nodes)
    }

    pub(crate) fn node_of(self, pod: u32) -> u32 {
        pod / self.pods_of_node()
    }

    pub(crate) fn pod_address(self, pod: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(block_of(self.node_of(pod)).to_bits() | (pod % self.pods_of_node() + 2))
    }

    pub(crate) fn pod_name(self, pod: u32) -> Name {
        Name::new(namespace(self.namespace_of(pod)), format!("pod-{pod}"))
    }

    /// A pod of this app on the node of its block.
    pub(crate) fn pod(self, number: u32, app: u32) -> Pod {
        Pod {
            labels: Arc::new(labels_of_app(app)),
            node: node_name(self.node_of(number)),
            addresses: vec![IpAddr::V4(self.pod_address(number))],
            service_account: "default".to_owned(),
            created: i64::from(number),
            ..Pod::default()
        }
    }
}

pub(crate) fn namespace(number: u32) -> String {
    format!("team-{number}")
}

/// The first address of the node's block.
pub(crate) fn block_of(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | node << 8)
}

pub(crate) fn node_address(node: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xc0a8_0000 | (node + 10))
}

pub(crate) fn node_name(node: u32) -> String {
    format!("node-{node}")
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// Labels of a pod of this app.
pub(crate) fn labels_of_app(app: u32) -> Labels {
    let tier = if app.is_multiple_of(2) { "web" } else { "store" };
    labels(&[
        ("app", format!("app-{app}")),
        ("tier", tier.to_owned()),
        ("pod-template-hash", format!("{:x}", app.wrapping_mul(0x9e37_79b9))),
    ])
}

pub(crate) fn namespace_object(number: u32, team: u32) -> Namespace {
    Namespace {
        labels: labels(&[
            ("kubernetes.io/metadata.name", namespace(number)),
            ("team", format!("team-{team}")),
            ("stage", if number.is_multiple_of(3) { "production" } else { "test" }.to_owned()),
        ]),
    }
}

fn pods_where(namespace: &str, requirements: impl IntoIterator<Item = Selector>) -> Selector {
    let fixed = [
        Selector::label_is("projectcalico.org/namespace", namespace),
        Selector::label_is("projectcalico.org/orchestrator", "k8s"),
    ];
    Selector::all_of(fixed.into_iter().chain(requirements))
}

fn app(number: u32) -> Selector {
    Selector::label_is("app", format!("app-{}", number % APPS))
}

fn allow(index: u32, source: Vec<Peer>, destination: Vec<Peer>, port: u16) -> Rule {
    let any_of = |peers: Vec<Peer>| if peers.is_empty() { vec![] } else { vec![peers] };
    Rule {
        protocol: Some(Protocol::TCP),
        source: Side { all_of: any_of(source), ..Side::default() },
        destination: Side {
            all_of: any_of(destination),
            ports: vec![PortMatch::Range(port..=port)],
            ..Side::default()
        },
        ..Rule::new(RuleAction::Allow, index)
    }
}

/// The app whose pods the policy selects, in its namespace.
pub(crate) fn app_of_policy(number: u32) -> u32 {
    number % APPS
}

/// The first address of the block that a policy lets in.
pub(crate) fn policy_block(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0xac10_0000 | (number & 0xfff) << 8)
}

/// A policy as a namespace has many: from a neighbouring app, from another team's namespaces, from a block; to names.
pub(crate) fn policy(number: u32, namespaces: u32, port: u16) -> (PolicyId, Policy) {
    let namespace = namespace(number % namespaces);
    let teams = Selector::label_is("pcns.team", format!("team-{}", number % TEAMS));
    let pods = Selector::label_is("projectcalico.org/orchestrator", "k8s");
    let block = policy_block(number);
    let system = Selector::label_is("pcns.kubernetes.io/metadata.name", SYSTEM);
    let dns = Peer::Selected(Selector::all_of([Selector::label_is("app", "app-0"), system, pods.clone()]));
    let ingress = vec![
        allow(0, vec![Peer::Selected(pods_where(&namespace, [app(number + 1)]))], vec![], port),
        allow(1, vec![Peer::Selected(Selector::all_of([teams, pods]))], vec![], 8080),
        allow(2, vec![Peer::Block { cidr: ipnet(block, 24), except: vec![ipnet(block, 28)] }], vec![], 443),
    ];
    let within = Peer::Selected(pods_where(&namespace, []));
    let egress = vec![allow(0, vec![], vec![dns], 53), allow(1, vec![], vec![within], port)];
    let id = PolicyId {
        kind: PolicyKind::NetworkPolicy,
        name: Name::new(namespace.clone(), format!("policy-{number}")),
    };
    (id, in_default_tier(pods_where(&namespace, [app(number)]), ingress, egress))
}

/// One of the many that select the same pods. Peers are some pod's own namespace and app, or all pods.
fn policy_of_one(number: u32, size: Size, spread: Spread) -> (PolicyId, Policy) {
    let peer = match spread {
        Spread::OnePodAllPeers => Peer::Selected(Selector::label_is("projectcalico.org/orchestrator", "k8s")),
        Spread::OnePodTeams => {
            Peer::Selected(Selector::label_is("pcns.team", format!("team-{}", number % TEAMS)))
        }
        Spread::OnePodBlocks => {
            Peer::Block { cidr: ipnet(size.pod_address(number * 10 % size.pods), 29), except: Vec::new() }
        }
        _ => {
            Peer::Selected(pods_where(&namespace(number % size.namespaces), [app(number / size.namespaces)]))
        }
    };
    let rules = vec![allow(0, vec![peer], vec![], 1024 + (number % 40_000) as u16)];
    let id =
        PolicyId { kind: PolicyKind::NetworkPolicy, name: Name::new(namespace(0), format!("one-{number}")) };
    (id, in_default_tier(pods_where(&namespace(0), [app(0)]), rules, Vec::new()))
}

fn in_default_tier(subject: Selector, ingress: Vec<Rule>, egress: Vec<Rule>) -> Policy {
    Policy {
        tier: "default".to_owned(),
        order: Order::new(1000.0),
        subject,
        ingress: Some(ingress),
        egress: (!egress.is_empty()).then_some(egress),
        staged: None,
        host: margay_control::state::policy::HostUse::default(),
    }
}

fn ipnet(address: Ipv4Addr, length: u8) -> ipnet::IpNet {
    ipnet::IpNet::new(address.into(), length).expect("a length that IPv4 has").trunc()
}

pub(crate) fn node(number: u32) -> Node {
    let address = IpAddr::V4(node_address(number));
    Node {
        labels: labels(&[("margay.dev/gateway", GATEWAY.to_owned())]),
        ipv4: Some(ipnet::IpNet::from(address)),
        addresses: vec![address],
        pod_cidrs: vec![ipnet(block_of(number), 24)],
        ..Node::default()
    }
}

pub(crate) fn cluster(size: Size, spread: Spread) -> Cluster {
    let mut cluster = Cluster::default();
    let gateway = IpAddr::V4(GATEWAY_ADDRESS);
    let gateway =
        Node { ipv4: Some(ipnet::IpNet::from(gateway)), addresses: vec![gateway], ..Node::default() };
    cluster.nodes.insert(GATEWAY.to_owned(), Arc::new(gateway));
    cluster.nodes.extend((0..size.nodes).map(|number| (node_name(number), Arc::new(node(number)))));
    // As every source does, equal ones are kept once.
    let labels: Vec<Arc<Labels>> = (0..APPS).map(|app| Arc::new(labels_of_app(app))).collect();
    for (number, labels) in (0..size.pods).zip(labels.iter().cycle()) {
        let pod = Pod { labels: Arc::clone(labels), ..size.pod(number, number % APPS) };
        cluster.pods.insert(size.pod_name(number), Arc::new(pod));
    }
    for number in 0..size.namespaces {
        let object = namespace_object(number, number % TEAMS);
        cluster.namespaces.insert(namespace(number), Arc::new(object));
    }
    for number in 0..size.policies {
        let (id, policy) = match spread {
            Spread::Namespaces => policy(number, size.namespaces, 80),
            _ => policy_of_one(number, size, spread),
        };
        cluster.policies.insert(id, Arc::new(policy));
    }
    cluster
        .service_accounts
        .insert(Name::new(namespace(0), "default"), Arc::new(ServiceAccount { labels: Labels::default() }));
    cluster
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn pods_spread_over_all_namespaces_and_nodes_whatever_the_size() {
        let sizes = [(100_000, 1000, 1000), (2_000, 1000, 8), (500, 20, 20), (20, 1, 1), (40, 10, 3)];
        for (pods, namespaces, nodes) in sizes {
            let size = Size { pods, policies: 1, namespaces, nodes };
            let distinct = |of: &dyn Fn(u32) -> u32| (0..pods).map(of).collect::<BTreeSet<u32>>();
            let all = |number: u32| (0..number).collect::<BTreeSet<u32>>();
            assert_eq!(distinct(&|pod| size.namespace_of(pod)), all(namespaces), "{size:?}");
            assert_eq!(distinct(&|pod| size.node_of(pod)), all(nodes), "{size:?}");
            let addresses = distinct(&|pod| size.pod_address(pod).to_bits());
            assert_eq!(addresses.len(), pods as usize, "{size:?}");
            let within = |pod: u32| {
                ipnet(block_of(size.node_of(pod)), 24).contains(&IpAddr::V4(size.pod_address(pod)))
            };
            assert!((0..pods).all(within), "{size:?}");
        }
        let large = Size { pods: 100_000, policies: 1, namespaces: 1000, nodes: 1000 };
        assert_eq!(
            (0..100_000).filter(|pod| large.namespace_of(*pod) == 0).count(),
            LARGE_NAMESPACE as usize
        );
    }
}
