//! Clusters as large as the figures are asked for, made of numbers: equal arguments, equal clusters.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use margay_control::selector::Selector;
use margay_control::state::policy::{
    Order, Peer, Policy, PolicyId, PolicyKind, PortMatch, Rule, RuleAction, Side,
};
use margay_control::state::{Cluster, Labels, Name, Namespace, Node, Pod, Protocol, ServiceAccount};

/// The node that serves every pod.
pub(super) const GATEWAY: &str = "gateway";
/// The namespace that every pod may ask names of.
const SYSTEM: &str = "kube-system";
/// Kinds of pods in a namespace.
const APPS: u32 = 20;
/// Groups that namespaces are in.
const TEAMS: u32 = 50;
/// Pods of the first namespace, which a relabelling touches.
pub(super) const LARGE_NAMESPACE: u32 = 1000;

/// How policies are spread over the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spread {
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
pub(super) struct Size {
    pub(super) pods: u32,
    pub(super) policies: u32,
    pub(super) namespaces: u32,
    pub(super) nodes: u32,
}

pub(super) fn namespace(number: u32) -> String {
    format!("team-{number}")
}

pub(super) fn pod_name(number: u32) -> Name {
    Name::new(namespace(number_of_namespace(number)), format!("pod-{number}"))
}

/// The first thousand pods are in one namespace, and the others spread over the rest.
fn number_of_namespace(pod: u32) -> u32 {
    if pod < LARGE_NAMESPACE { 0 } else { pod / 97 + 1 }
}

pub(super) fn pod_address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a00_0000 | (number / 250) << 8 | (number % 250 + 2))
}

fn labels(pairs: &[(&str, String)]) -> Labels {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// A pod of this app on the node of its block.
pub(super) fn pod(number: u32, app: u32) -> Pod {
    let tier = if app.is_multiple_of(2) { "web" } else { "store" };
    let labels = labels(&[
        ("app", format!("app-{app}")),
        ("tier", tier.to_owned()),
        ("pod-template-hash", format!("{:x}", app.wrapping_mul(0x9e37_79b9))),
    ]);
    Pod {
        labels: Arc::new(labels),
        node: format!("node-{}", number / 250),
        addresses: vec![IpAddr::V4(pod_address(number))],
        service_account: "default".to_owned(),
        created: i64::from(number),
        ..Pod::default()
    }
}

pub(super) fn namespace_object(number: u32, team: u32) -> Namespace {
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

/// A policy as a namespace has many: from a neighbouring app, from another team's namespaces, from a block; to names.
pub(super) fn policy(number: u32, namespaces: u32, port: u16) -> (PolicyId, Policy) {
    let namespace = namespace(number % namespaces);
    let teams = Selector::label_is("pcns.team", format!("team-{}", number % TEAMS));
    let pods = Selector::label_is("projectcalico.org/orchestrator", "k8s");
    let block = Ipv4Addr::from_bits(0xac10_0000 | (number & 0xfff) << 8);
    let ingress = vec![
        allow(0, vec![Peer::Selected(pods_where(&namespace, [app(number + 1)]))], vec![], port),
        allow(1, vec![Peer::Selected(Selector::all_of([teams, pods]))], vec![], 8080),
        allow(2, vec![Peer::Block { cidr: ipnet(block, 24), except: vec![ipnet(block, 28)] }], vec![], 443),
    ];
    let dns = Peer::Selected(pods_where(SYSTEM, [Selector::label_is("app", "app-0")]));
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
            Peer::Block { cidr: ipnet(pod_address(number * 10 % size.pods), 29), except: Vec::new() }
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

pub(super) fn node(number: u32) -> (String, Node) {
    let address = IpAddr::V4(Ipv4Addr::from_bits(0xc0a8_0000 | (number + 10)));
    let block = ipnet(pod_address(number * 250), 24);
    let node = Node {
        labels: labels(&[("margay.dev/gateway", GATEWAY.to_owned())]),
        ipv4: Some(ipnet::IpNet::from(address)),
        addresses: vec![address],
        pod_cidrs: vec![block],
        ..Node::default()
    };
    (format!("node-{number}"), node)
}

pub(super) fn cluster(size: Size, spread: Spread) -> Cluster {
    let mut cluster = Cluster::default();
    let gateway = IpAddr::V4(Ipv4Addr::from_bits(0xc0a8_0001));
    let gateway =
        Node { ipv4: Some(ipnet::IpNet::from(gateway)), addresses: vec![gateway], ..Node::default() };
    cluster.nodes.insert(GATEWAY.to_owned(), Arc::new(gateway));
    cluster.nodes.extend((0..size.nodes).map(node).map(|(name, node)| (name, Arc::new(node))));
    // As every source does, equal ones are kept once.
    let labels: Vec<Arc<Labels>> = (0..APPS).map(|app| pod(0, app).labels).collect();
    for (number, labels) in (0..size.pods).zip(labels.iter().cycle()) {
        let namespace = number_of_namespace(number);
        let pod = Pod { labels: Arc::clone(labels), ..pod(number, number % APPS) };
        cluster.pods.insert(pod_name(number), Arc::new(pod));
        cluster
            .namespaces
            .entry(self::namespace(namespace))
            .or_insert_with(|| Arc::new(namespace_object(namespace, namespace % TEAMS)));
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
