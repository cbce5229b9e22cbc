//! Routing of a large cluster: 100,000 pods in 1,000 namespaces on 500 nodes. What one event costs is printed, by
//! `cargo test --release -p margay-control --test routing_scale -- --ignored --nocapture`.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use margay_control::compile::Routing;
use margay_control::compile::owners::Owners;
use margay_control::compile::routes::routes;
use margay_control::identity::Identity;
use margay_control::state::{
    Change, Cluster, Edit, IpPool, IpamBlock, Kernel, Labels, Link, Name, Neighbour, Node, Pod, PortBinding,
    Route, TunnelMode,
};
use margay_flowtable::{Checksums, PortId};

const NODES: u32 = 500;
const NAMESPACES: u32 = 1000;
const PODS: u32 = 100_000;
/// Addresses of a block, of which a node has as many as its pods fill.
const BLOCK: u32 = 64;
const UPLINK: u32 = 1;

fn node_name(number: u32) -> String {
    format!("node-{number:03}.example.internal")
}

fn node_address(number: u32) -> IpAddr {
    IpAddr::V4((0xac14_0001 + number).into())
}

/// The pods of a node stand side by side, its blocks follow each other.
fn pod_address(number: u32) -> IpAddr {
    let (node, on_node) = (number % NODES, number / NODES);
    IpAddr::V4((0x0a00_0000 + node * 4 * BLOCK + on_node).into())
}

fn pod_name(number: u32) -> Name {
    Name::new(format!("namespace-{:04}", number % NAMESPACES), format!("deployment-5b7c9d8f6-{number:06}"))
}

fn pod(number: u32, labels: &[Arc<Labels>]) -> Pod {
    Pod {
        labels: Arc::clone(&labels[number as usize % labels.len()]),
        service_account: "default".into(),
        node: node_name(number % NODES),
        created: 1_700_000_000,
        addresses: vec![pod_address(number)],
        ..Pod::default()
    }
}

fn labels(number: u32) -> Arc<Labels> {
    let label = |key: &str, value: String| (key.to_owned(), value);
    let hash = format!("{number:010x}");
    Arc::new([label("app", format!("app-{number}")), label("pod-template-hash", hash)].into())
}

fn ipam_block(node: u32, block: u32, but: Option<IpAddr>) -> IpamBlock {
    let first = 0x0a00_0000 + (node * 4 + block) * BLOCK;
    let on_node = (block * BLOCK..(block + 1) * BLOCK).take_while(|on_node| on_node * NODES + node < PODS);
    let allocations = on_node.map(|on_node| pod_address(on_node * NODES + node));
    let allocations = allocations.filter(|address| Some(*address) != but);
    IpamBlock {
        cidr: IpNet::new(IpAddr::V4(first.into()), 26).unwrap(),
        affinity: Some(node_name(node)),
        allocations: allocations.map(|address| (address, Some(node_name(node)))).collect(),
    }
}

fn cluster() -> Cluster {
    let labels: Vec<_> = (0..4 * NAMESPACES).map(labels).collect();
    let mut cluster = Cluster::default();
    for number in 0..NODES {
        let address = node_address(number);
        let ipv4 = Some(IpNet::new(address, 24).unwrap());
        let node = Node { ipv4, addresses: vec![address], vxlan_tunnel_v4: Some(address), ..Node::default() };
        cluster.nodes.insert(node_name(number), node.into());
        for block in 0..4 {
            cluster.ipam_blocks.insert(format!("{number}-{block}"), ipam_block(number, block, None).into());
        }
    }
    for number in 0..PODS {
        cluster.pods.insert(pod_name(number), pod(number, &labels).into());
    }
    let cidr = "10.0.0.0/12".parse().unwrap();
    let pool = IpPool { cidr, ipip: TunnelMode::Never, vxlan: TunnelMode::Always, disabled: false };
    cluster.ip_pools.insert("pool".into(), pool.into());
    cluster
}

/// An uplink toward a router, and a port for each pod of the first node.
fn underlay() -> (Kernel, Vec<PortBinding>) {
    let mut kernel = Kernel::default();
    let mut ports = Vec::new();
    let pods = (0..PODS / NODES).map(|on_node| Some(on_node * NODES));
    for (id, pod) in [None].into_iter().chain(pods).enumerate() {
        let ifindex = UPLINK + id as u32;
        let name = format!("link{id}");
        let mac = [2, 0, 0, 0, (id >> 8) as u8, id as u8];
        let link =
            Link { name: name.clone(), mac, mtu: 1500, up: true, rx_queues: 1, tx_queues: 1, vlan: None };
        kernel.links.insert(ifindex, link);
        let neighbour = pod.map_or(node_address(1), pod_address);
        kernel.neighbours.insert((ifindex, neighbour), Neighbour { mac, usable: true });
        ports.push(PortBinding {
            id: PortId(id as u16),
            name,
            ifindex,
            pod: pod.map(pod_name),
            takes_checksums: Checksums::None,
        });
    }
    let dst = "0.0.0.0/0".parse().unwrap();
    kernel.routes.push(Route { dst, gateway: Some(node_address(1)), ifindex: UPLINK, metric: 0 });
    (kernel, ports)
}

struct World {
    cluster: Cluster,
    owners: Owners,
    routing: Routing,
}

impl World {
    fn take(&mut self, mut changes: Vec<Change>) {
        self.cluster.apply_all(&mut changes);
        let mut moved = Vec::new();
        for change in &changes {
            if let Change::Pod(pod) = change {
                moved.extend(self.owners.apply(&pod.key, pod.old.as_ref(), pod.new.as_ref()));
            }
        }
        self.routing.apply(&self.cluster, &self.owners, &changes, &moved);
    }

    /// The median time of taking each of the changes.
    fn median(&mut self, what: &str, changes: impl IntoIterator<Item = Vec<Change>>) {
        let mut times: Vec<Duration> = Vec::new();
        for changes in changes {
            let begin = Instant::now();
            self.take(changes);
            std::hint::black_box(self.routing.fib().clone());
            times.push(begin.elapsed());
        }
        times.sort();
        eprintln!("{what}: {:?}, at most {:?}", times[times.len() / 2], times[times.len() - 1]);
    }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4 / 1024
}

#[test]
#[ignore = "it prints figures, which only a release build makes worth reading"]
fn one_event_among_a_hundred_thousand_pods() {
    let whole = cluster();
    eprintln!("objects: {} MiB resident", resident());
    let (kernel, ports) = underlay();
    let routing = Routing::new(Identity::new(node_name(0)));
    let mut world = World { cluster: Cluster::default(), owners: Owners::default(), routing };
    let pods = whole.pods.clone();
    let begin = Instant::now();
    world.take(whole.into_changes());
    eprintln!("first state: {:?}", begin.elapsed());
    let begin = Instant::now();
    let ports: Arc<[PortBinding]> = ports.into();
    world.routing.set_underlay(&world.cluster, &Arc::new(kernel.clone()), &ports);
    eprintln!("kernel and ports: {:?}, {} MiB resident", begin.elapsed(), resident());

    let put = |number| Change::Pod(Edit::put(pod_name(number), Arc::clone(&pods[&pod_name(number)])));
    let remove = |number| Change::Pod(Edit::remove(pod_name(number)));
    let elsewhere = || (0..1000).map(|number| number * NODES / 5 + 1);
    world.median("pod of another node goes", elsewhere().map(|number| vec![remove(number)]));
    world.median("pod of another node comes", elsewhere().map(|number| vec![put(number)]));
    let here = || (0..PODS / NODES).map(|number| number * NODES);
    world.median("pod of this node goes", here().map(|number| vec![remove(number)]));
    world.median("pod of this node comes", here().map(|number| vec![put(number)]));
    let block = |number: u32, but| {
        let (node, block) = (number % NODES, number / NODES / BLOCK);
        Change::IpamBlock(Edit::put(format!("{node}-{block}"), ipam_block(node, block, but)))
    };
    let goes = |number| vec![remove(number), block(number, Some(pod_address(number)))];
    world.median("pod and its allocation go", here().chain(elsewhere()).map(goes));
    let comes = |number| vec![put(number), block(number, None)];
    world.median("pod and its allocation come", here().chain(elsewhere()).map(comes));
    let node = |number| {
        let node = Node { vxlan_mac_v4: Some([2; 6]), ..(*world.cluster.nodes[&node_name(number)]).clone() };
        vec![Change::Node(Edit::put(node_name(number), node))]
    };
    let nodes: Vec<_> = (1..6).map(node).collect();
    world.median("node changes", nodes);
    let begin = Instant::now();
    world.routing.set_underlay(&world.cluster, &Arc::new(kernel), &ports);
    eprintln!("kernel changes: {:?}, {} MiB resident", begin.elapsed(), resident());

    let found: Vec<_> = world.routing.routes().cloned().collect();
    assert_eq!(found, routes(&world.cluster, &node_name(0)).unwrap());
}
