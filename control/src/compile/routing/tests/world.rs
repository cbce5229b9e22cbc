//! What may happen in a small world: three nodes, a handful of pods, blocks of eight addresses that they quarrel about.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::IpNet;
use margay_flowtable::{Checksums, PortId};
use proptest::prelude::*;

use crate::compile::gateways::GATEWAY;
use crate::state::{
    BlockAffinity, Change, Edit, FelixConfiguration, IpPool, IpamBlock, Kernel, Labels, Link, Name,
    Neighbour, Node, Pod, PortBinding, Route, TunnelMode,
};

/// The node whose routing it is.
pub(super) const HERE: &str = "n0";

const UPLINK: u32 = 1;
const MANAGEMENT: u32 = 2;
/// Links of the pods, by number.
const POD_LINKS: u32 = 10;

#[derive(Debug, Clone)]
pub(super) enum Event {
    Changes(Vec<Change>),
    Kernel(Box<Kernel>),
    Ports(Vec<PortBinding>),
}

pub(super) fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => prop::collection::vec(change(), 1..4).prop_map(Event::Changes),
        1 => kernel().prop_map(|kernel| Event::Kernel(Box::new(kernel))),
        1 => ports().prop_map(Event::Ports),
    ]
}

/// All that any fate is told apart by.
pub(super) fn addresses() -> impl Iterator<Item = IpAddr> {
    let v4 = [[10, 0, 0], [10, 0, 1], [192, 0, 2], [198, 51, 100], [203, 0, 113]];
    let v4 = v4.into_iter().flat_map(|[a, b, c]| (0..18).map(move |d| IpAddr::from([a, b, c, d])));
    v4.chain((0..18).map(pod6)).chain((0..6).flat_map(|last| [near6(last), far6(last)]))
}

fn pod4() -> impl Strategy<Value = IpAddr> {
    (0u8..2, 0u8..8).prop_map(|(c, d)| IpAddr::from([10, 0, c, d]))
}

fn pod6(last: u16) -> IpAddr {
    Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last).into()
}

/// Underlay addresses on the link of the uplink, and behind a router.
fn near6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, last).into()
}

fn far6(last: u16) -> IpAddr {
    Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, last).into()
}

fn pod_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![3 => pod4(), 2 => (0u16..16).prop_map(pod6)]
}

fn node_name() -> impl Strategy<Value = String> {
    (0u8..4).prop_map(|n| format!("n{n}"))
}

/// All nodes there are.
pub(super) fn nodes() -> impl Strategy<Value = Vec<Change>> {
    prop::collection::vec(node(), 4).prop_map(|nodes| {
        let named = nodes.into_iter().enumerate();
        named.map(|(n, node)| Change::Node(Edit::put(format!("n{n}"), node))).collect()
    })
}

/// A pool of either family and what Felix is told of tunnels, without which few worlds have any.
pub(super) fn overlay() -> impl Strategy<Value = Vec<Change>> {
    let pool = |name: &str, cidr| {
        let name = name.to_owned();
        pool(Just(cidr)).prop_map(move |pool| Change::IpPool(Edit::put(name.clone(), pool)))
    };
    let felix = felix().prop_map(|felix| Change::FelixConfiguration(Edit::put("default".to_owned(), felix)));
    (pool("a", "10.0.0.0/16"), pool("b", "fd00::/64"), felix)
        .prop_map(|(four, six, felix)| vec![four, six, felix])
}

fn pod_name(number: u32) -> Name {
    Name::new("x", format!("p{number}"))
}

fn block() -> impl Strategy<Value = IpNet> {
    let blocks = vec![
        "10.0.0.0/29",
        "10.0.1.0/29",
        "10.0.0.4/30",
        "10.0.1.3/32",
        "fd00::/125",
        "fd00::8/125",
        "fd00::a/127",
    ];
    prop::sample::select(blocks).prop_map(|text| text.parse().unwrap())
}

fn mode() -> impl Strategy<Value = TunnelMode> {
    prop::sample::select(&[TunnelMode::Never, TunnelMode::Always, TunnelMode::CrossSubnet][..])
}

/// Mostly of pods, as in life.
pub(super) fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        12 => edit((0u32..5).prop_map(pod_name), pod()).prop_map(Change::Pod),
        1 => edit(node_name(), node()).prop_map(Change::Node),
        1 => edit(prop::sample::select(vec!["a".to_owned(), "b".to_owned()]), any_pool()).prop_map(Change::IpPool),
        2 => edit(node_name(), affinity()).prop_map(Change::BlockAffinity),
        2 => edit(prop::sample::select(vec!["a".to_owned(), "b".to_owned()]), ipam_block()).prop_map(Change::IpamBlock),
        1 => edit(felix_name(), felix()).prop_map(Change::FelixConfiguration),
    ]
}

fn felix_name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["default".to_owned(), format!("node.{HERE}"), "node.other".to_owned()])
}

fn felix() -> impl Strategy<Value = FelixConfiguration> {
    let mtu = || prop::option::of(prop::sample::select(vec![1400, 1480, 9000]));
    let numbers = (prop::option::of(1u32..3), prop::option::of(1u16..3), mtu(), mtu(), mtu());
    numbers.prop_map(|(vni, vxlan_port, vxlan_mtu, vxlan_mtu_v6, ipip_mtu)| FelixConfiguration {
        vni,
        vxlan_port,
        vxlan_mtu,
        vxlan_mtu_v6,
        ipip_mtu,
    })
}

fn edit<K, V>(
    key: impl Strategy<Value = K>,
    value: impl Strategy<Value = V>,
) -> impl Strategy<Value = Edit<K, V>>
where
    K: std::fmt::Debug,
    V: std::fmt::Debug,
{
    let value = prop::option::weighted(0.75, value);
    (key, value).prop_map(|(key, value)| Edit { key, old: None, new: value.map(Arc::new) })
}

fn pod() -> impl Strategy<Value = Pod> {
    let addresses = prop::collection::vec(pod_address(), 0..3);
    let node = prop_oneof![3 => Just(HERE.to_owned()), 3 => node_name(), 1 => Just(String::new())];
    let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    (node, addresses, flags, 0..3i64).prop_map(
        |(node, addresses, (terminating, finished, host_network), created)| Pod {
            node,
            host_network,
            finished,
            terminating,
            created,
            addresses,
            ..Pod::default()
        },
    )
}

fn node() -> impl Strategy<Value = Node> {
    let underlay = |weight| prop::option::weighted(weight, (prop::bool::ANY, 1u8..4));
    let tunnel = || prop::option::weighted(0.4, pod4());
    let six = (underlay(0.6), prop::option::weighted(0.6, (0u16..16).prop_map(pod6)));
    let gateway = prop::option::weighted(0.3, node_name());
    let pod_cidr = prop::option::weighted(0.5, block());
    (underlay(0.8), tunnel(), tunnel(), six, gateway, pod_cidr, 0u8..3).prop_map(
        |(underlay, ipip_tunnel, vxlan_tunnel_v4, (six, vxlan_tunnel_v6), gateway, pod_cidr, last)| {
            let ipv4 = underlay.map(|(is_near, last)| {
                let address = if is_near { [192, 0, 2, last] } else { [198, 51, 100, last] };
                IpNet::new(address.into(), 24).unwrap()
            });
            let ipv6 = six.map(|(is_near, last)| {
                let address = if is_near { near6(last.into()) } else { far6(last.into()) };
                IpNet::new(address, 64).unwrap()
            });
            let labels = gateway.map(|gateway| (GATEWAY.to_owned(), gateway));
            Node {
                labels: labels.into_iter().collect::<Labels>(),
                ipv4,
                ipv6,
                addresses: vec![Ipv4Addr::new(203, 0, 113, last).into()],
                ipip_tunnel,
                vxlan_tunnel_v4,
                vxlan_tunnel_v6,
                pod_cidrs: pod_cidr.into_iter().collect(),
                ..Node::default()
            }
        },
    )
}

fn any_pool() -> impl Strategy<Value = IpPool> {
    pool(prop::sample::select(&["10.0.0.0/16", "10.0.1.0/24", "fd00::/64", "fd00::8/125"][..]))
}

fn pool(cidr: impl Strategy<Value = &'static str>) -> impl Strategy<Value = IpPool> {
    (cidr, mode(), mode()).prop_map(|(cidr, ipip, vxlan)| IpPool {
        cidr: cidr.parse().unwrap(),
        ipip,
        vxlan,
        disabled: false,
    })
}

fn affinity() -> impl Strategy<Value = BlockAffinity> {
    (block(), node_name(), prop::bool::weighted(0.2)).prop_map(|(cidr, node, void)| BlockAffinity {
        cidr,
        node,
        void,
    })
}

fn ipam_block() -> impl Strategy<Value = IpamBlock> {
    let allocation = (pod_address(), prop::option::weighted(0.8, node_name()));
    // Few blocks, so that one often changes its allocations alone.
    let cidr = prop::sample::select(&["10.0.0.0/29", "10.0.1.0/29", "fd00::8/125"][..]);
    let affinity = prop::option::weighted(0.7, Just(HERE.to_owned()));
    (cidr, affinity, prop::collection::vec(allocation, 0..4)).prop_map(|(cidr, affinity, allocations)| {
        IpamBlock { cidr: cidr.parse().unwrap(), affinity, allocations }
    })
}

fn neighbour(key: (u32, IpAddr)) -> impl Strategy<Value = Option<((u32, IpAddr), Neighbour)>> {
    prop::option::weighted(0.7, (0u8..3, prop::bool::weighted(0.8))).prop_map(move |neighbour| {
        neighbour.map(|(last, usable)| (key, Neighbour { mac: [2, 0, 0, 0, 1, last], usable }))
    })
}

pub(super) fn kernel() -> impl Strategy<Value = Kernel> {
    let near = (0u8..5).map(|last| (UPLINK, IpAddr::from([192, 0, 2, last])));
    let near = near.chain((0..5).map(|last| (UPLINK, near6(last))));
    let pods = (0u8..4).map(|last| (POD_LINKS + u32::from(last % 2), IpAddr::from([10, 0, 0, last])));
    let neighbours: Vec<_> = near.chain(pods).map(neighbour).collect();
    let route = |dst: &str, gateway: Option<IpAddr>, ifindex| Route {
        dst: dst.parse().unwrap(),
        gateway,
        ifindex,
        metric: 0,
    };
    let by = |address: [u8; 4]| Some(IpAddr::from(address));
    let routes = vec![
        route("0.0.0.0/0", by([192, 0, 2, 3]), UPLINK),
        route("192.0.2.0/24", None, UPLINK),
        route("198.51.100.0/24", by([192, 0, 2, 4]), UPLINK),
        route("203.0.113.0/24", by([203, 0, 113, 9]), MANAGEMENT),
        // What the cluster may route too.
        route("10.0.0.0/29", by([192, 0, 2, 2]), UPLINK),
        route("10.0.1.5/32", by([192, 0, 2, 2]), UPLINK),
        route("2001:db8:1::/64", None, UPLINK),
        route("2001:db8:2::/64", Some(near6(4)), UPLINK),
        route("::/0", Some(near6(3)), UPLINK),
        route("fd00::8/125", Some(near6(2)), UPLINK),
    ];
    let count = routes.len();
    let addresses = prop::sample::subsequence(
        vec![
            (UPLINK, "192.0.2.1/24".parse().unwrap()),
            (MANAGEMENT, "10.0.1.1/32".parse().unwrap()),
            (UPLINK, "2001:db8:1::1/64".parse().unwrap()),
        ],
        0..=3,
    );
    let links = prop::sample::subsequence(vec![UPLINK, MANAGEMENT, POD_LINKS, POD_LINKS + 1], 2..=4);
    (neighbours, prop::sample::subsequence(routes, 0..=count), addresses, links).prop_map(
        |(neighbours, routes, addresses, links)| Kernel {
            links: links.into_iter().map(|ifindex| (ifindex, link(ifindex))).collect(),
            addresses,
            routes,
            neighbours: neighbours.into_iter().flatten().collect(),
            ..Kernel::default()
        },
    )
}

fn link(ifindex: u32) -> Link {
    let mac = [2, 0, 0, 0, 0, ifindex as u8];
    Link { name: format!("l{ifindex}"), mac, mtu: 1500, up: true, rx_queues: 1, tx_queues: 1, vlan: None }
}

/// The uplink's and two pods'.
pub(super) fn ports() -> impl Strategy<Value = Vec<PortBinding>> {
    let binding = |id: u16, ifindex, pod| PortBinding {
        id: PortId(id),
        name: format!("l{ifindex}"),
        ifindex,
        pod,
        takes_checksums: Checksums::None,
    };
    let all = vec![
        binding(0, UPLINK, None),
        binding(2, POD_LINKS, Some(pod_name(0))),
        binding(3, POD_LINKS + 1, Some(pod_name(1))),
    ];
    prop::sample::subsequence(all, 1..=3)
}
