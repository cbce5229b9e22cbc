//! What `compile` makes of the wire cases' cluster on node gw-a, and of a kernel with one uplink toward a router.

mod ipv6;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use margay_control::compile::{Compiler, NeighbourKey};
use margay_control::identity::Identity;
use margay_control::manifest::load_dir;
use margay_control::state::{
    BlockAffinity, FelixConfiguration, IpPool, Link, Name, Neighbour, PortBinding, Route, State, TunnelMode,
};
use margay_fastpath::steer::Destination;
use margay_flowtable::{Checksums, NextHop, PortId, PortKind, Snapshot, Tunnel, ZeroChecksum};

const UPLINK: u32 = 2;
const MANAGEMENT: u32 = 3;
const WEB: u32 = 10;
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const A1: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
const WEB_POD: [u8; 6] = [2, 0, 0, 0, 1, 5];

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link(name: &str, last: u8, mtu: u32) -> Link {
    Link {
        name: name.into(),
        mac: [2, 0, 0, 0, 0, last],
        mtu,
        up: true,
        rx_queues: 1,
        tx_queues: 1,
        vlan: None,
    }
}

fn route(dst: &str, gateway: Option<&str>, ifindex: u32, metric: u32) -> Route {
    Route { dst: dst.parse().unwrap(), gateway: gateway.map(address), ifindex, metric }
}

/// gw-a with its uplink, a management link that is no port, and one pod's port.
fn state() -> State {
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testbed/cases/wire/manifests");
    let mut state = State { cluster: load_dir(manifests).unwrap().0, ..State::default() };
    let kernel = &mut state.kernel;
    kernel.links.insert(UPLINK, link("eth0", 2, 9000));
    kernel.links.insert(MANAGEMENT, link("mgmt0", 3, 1500));
    kernel.links.insert(WEB, link("cali-web", 0x10, 1450));
    kernel.addresses = vec![
        (UPLINK, "172.20.1.10/24".parse().unwrap()),
        (MANAGEMENT, "192.0.2.10/24".parse().unwrap()),
        (WEB, "169.254.1.1/32".parse().unwrap()),
    ];
    kernel.routes = vec![
        route("0.0.0.0/0", Some("192.0.2.1"), MANAGEMENT, 200),
        route("0.0.0.0/0", Some("172.20.1.1"), UPLINK, 100),
        route("172.20.1.0/24", None, UPLINK, 0),
        route("198.51.100.0/24", Some("192.0.2.1"), MANAGEMENT, 0),
        // What the cluster says of this block counts.
        route("10.65.21.0/26", Some("192.0.2.1"), MANAGEMENT, 0),
    ];
    for (ifindex, neighbour, mac) in [
        (UPLINK, "172.20.1.1", ROUTER),
        (UPLINK, "172.20.1.11", A1),
        (MANAGEMENT, "192.0.2.1", [2, 0, 0, 0, 0, 0xee]),
        (WEB, "10.65.10.5", WEB_POD),
    ] {
        let neighbours = &mut kernel.neighbours;
        neighbours.insert((ifindex, address(neighbour)), Neighbour { mac, usable: true });
    }
    state.ports = vec![
        PortBinding {
            id: PortId(0),
            name: "eth0".into(),
            ifindex: UPLINK,
            pod: None,
            takes_checksums: Checksums::None,
        },
        PortBinding {
            id: PortId(2),
            name: "cali-web".into(),
            ifindex: WEB,
            pod: Some(Name::new("shop", "web")),
            takes_checksums: Checksums::None,
        },
    ];
    state
}

fn identity() -> Identity {
    Identity::new("gw-a")
}

fn compiled(state: &State) -> Compiler {
    Compiler::of(state, identity())
}

fn compile(state: &State, identity: &Identity) -> Snapshot {
    Compiler::of(state, identity.clone()).snapshot(&Snapshot::default())
}

fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// What the snapshot does with a destination, in words.
fn fate(snapshot: &Snapshot, destination: &str) -> String {
    let Some(next_hop) = snapshot.fib.lookup(address(destination)) else { return "no route".into() };
    match &snapshot.next_hops[next_hop.0 as usize] {
        NextHop::Host => "host".into(),
        NextHop::Blackhole => "blackhole".into(),
        NextHop::Unresolved => "unresolved".into(),
        NextHop::Forward { adjacency, tunnel } => {
            let port = &snapshot.port(adjacency.port).unwrap().name;
            let (src, dst) = (mac(adjacency.src_mac), mac(adjacency.dst_mac));
            let tunnel = match tunnel {
                None => String::new(),
                Some(Tunnel::Ipip { src, dst, .. }) => format!(" ipip {src} {dst}"),
                Some(Tunnel::Vxlan { src, dst, vni, udp_port, inner_src_mac, inner_dst_mac, .. }) => format!(
                    " vxlan {src} {dst} {vni} {udp_port} {} {}",
                    mac(*inner_src_mac),
                    mac(*inner_dst_mac)
                ),
                Some(Tunnel::Vxlan6 {
                    src,
                    dst,
                    vni,
                    udp_port,
                    inner_src_mac,
                    inner_dst_mac,
                    udp_checksum,
                    ..
                }) => format!(
                    " vxlan {src} {dst} {vni} {udp_port} {} {}{}",
                    mac(*inner_src_mac),
                    mac(*inner_dst_mac),
                    if *udp_checksum { "" } else { " unsummed" }
                ),
            };
            format!("{port} {src} {dst} mtu {}{tunnel}", adjacency.mtu)
        }
    }
}

const VIA_ROUTER: &str = "eth0 02:00:00:00:00:02 02:00:00:00:00:fe mtu 9000";

#[test]
fn destinations_lead_where_the_cluster_and_the_kernel_say() {
    let snapshot = compile(&state(), &identity());
    let vxlan = "4096 4789 66:fb:fd:31:ce:61";
    let via_router = |tunnel: &str| format!("{VIA_ROUTER}{tunnel}");
    let cases = [
        // Another subnet: by the default route with the lowest metric, to the annotated MAC, else to the derived one.
        ("10.65.21.5", via_router(&format!(" vxlan 172.20.1.10 172.20.2.11 {vxlan} 66:b1:b1:b1:b1:01"))),
        ("10.66.21.5", via_router(&format!(" vxlan 172.20.1.10 172.20.2.11 {vxlan} 66:b1:b1:b1:b1:01"))),
        // Borrowed: it is on gw-b.
        ("10.65.21.40", via_router(&format!(" vxlan 172.20.1.10 172.20.3.10 {vxlan} 66:b5:6d:3e:06:23"))),
        // Behind gw-b: into the tunnel to gw-b.
        ("10.65.31.5", via_router(&format!(" vxlan 172.20.1.10 172.20.3.10 {vxlan} 66:b5:6d:3e:06:23"))),
        ("10.67.21.5", via_router(" ipip 172.20.1.10 172.20.2.11")),
        ("10.69.21.5", via_router("")),
        // In our subnet, and behind this gateway.
        ("10.65.11.5", "eth0 02:00:00:00:00:02 02:00:00:00:00:11 mtu 9000".into()),
        // In our subnet, but the kernel has no neighbour yet.
        ("10.65.12.5", "unresolved".into()),
        // A pod with an open port, one without, and the rest of the block.
        ("10.65.10.5", "cali-web 02:00:00:00:00:10 02:00:00:00:01:05 mtu 1450".into()),
        ("10.65.10.6", "unresolved".into()),
        ("10.65.10.63", "blackhole".into()),
        // Own addresses: of the uplink, of the tunnels in blocks of ours, of links that are no ports.
        ("172.20.1.10", "host".into()),
        ("10.65.10.1", "host".into()),
        ("10.67.10.1", "host".into()),
        ("192.0.2.10", "host".into()),
        ("169.254.1.1", "host".into()),
        // The kernel's: a neighbour on the link, the rest of the link, the default, and what leaves by no port of ours.
        ("172.20.1.1", VIA_ROUTER.into()),
        ("172.20.1.77", "unresolved".into()),
        ("203.0.113.9", VIA_ROUTER.into()),
        ("198.51.100.9", "unresolved".into()),
        ("192.0.2.1", "unresolved".into()),
        // Without a tunnel address there is no cluster route: what the kernel's default says.
        ("10.65.41.5", VIA_ROUTER.into()),
        ("2001:db8::1", "no route".into()),
    ];
    for (destination, expected) in cases {
        assert_eq!(fate(&snapshot, destination), expected, "{destination}");
    }
}

#[test]
fn equal_next_hops_are_kept_once_and_equal_states_compile_equal() {
    let (state, identity) = (state(), identity());
    let (one, other) = (compile(&state, &identity), compile(&state, &identity));
    for (i, next_hop) in one.next_hops.iter().enumerate() {
        assert!(!one.next_hops[..i].contains(next_hop), "{next_hop:?}");
    }
    assert_eq!(one.next_hops, other.next_hops);
    for destination in ["10.65.21.5", "10.65.31.5", "10.65.10.5", "203.0.113.9"] {
        assert_eq!(one.fib.lookup(address(destination)), other.fib.lookup(address(destination)));
    }
}

#[test]
fn a_next_hop_needs_a_usable_neighbour_on_a_link_that_is_up() {
    let forwards = |change: fn(&mut State)| {
        let mut state = state();
        change(&mut state);
        fate(&compile(&state, &identity()), "10.69.21.5")
    };
    assert_eq!(forwards(|_| ()), VIA_ROUTER);
    assert_eq!(
        forwards(|s| {
            s.kernel.neighbours.get_mut(&(UPLINK, address("172.20.1.1"))).unwrap().usable = false;
        }),
        "unresolved"
    );
    assert_eq!(forwards(|s| s.kernel.links.get_mut(&UPLINK).unwrap().up = false), "unresolved");
    assert_eq!(forwards(|s| s.ports.retain(|port| port.pod.is_some())), "unresolved");
    assert_eq!(forwards(|s| s.kernel.routes.clear()), "unresolved");
    // The management link's default route takes over, and no port stands for it.
    assert_eq!(forwards(|s| s.kernel.routes[1].metric = 300), "unresolved");
    // A host route of its own, on the link.
    assert_eq!(
        forwards(|s| {
            s.kernel.routes.push(route("172.20.2.11/32", None, UPLINK, 0));
            let mac = A1;
            s.kernel.neighbours.insert((UPLINK, address("172.20.2.11")), Neighbour { mac, usable: true });
        }),
        "eth0 02:00:00:00:00:02 02:00:00:00:00:11 mtu 9000"
    );
}

#[test]
fn the_subnet_of_an_address_is_on_its_link_without_a_route() {
    let mut state = state();
    state.kernel.routes.retain(|route| route.dst.prefix_len() == 0);
    let snapshot = compile(&state, &identity());
    assert_eq!(fate(&snapshot, "10.65.11.5"), "eth0 02:00:00:00:00:02 02:00:00:00:00:11 mtu 9000");
}

#[test]
fn a_node_that_the_cluster_does_not_know_forwards_as_its_kernel_does() {
    let snapshot = compile(&state(), &Identity::new("nobody"));
    assert_eq!(fate(&snapshot, "10.65.11.5"), VIA_ROUTER);
    assert!(snapshot.local.tunnel_ends.is_empty());
    assert_eq!(fate(&snapshot, "172.20.1.10"), "host");
}

#[test]
fn ports_say_what_their_pods_may_send() {
    let mut state = state();
    let snapshot = compile(&state, &identity());
    assert_eq!(snapshot.ports.len(), 3);
    assert_eq!(snapshot.port(PortId(1)), None);
    let uplink = snapshot.port(PortId(0)).unwrap();
    assert_eq!((&*uplink.name, &uplink.kind, uplink.mtu), ("eth0", &PortKind::Uplink, 9000));
    let addresses = |snapshot: &Snapshot| match &snapshot.port(PortId(2)).unwrap().kind {
        PortKind::Pod { addresses } => addresses.clone(),
        PortKind::Uplink => panic!("a pod's port"),
    };
    assert_eq!(addresses(&snapshot), [address("10.65.10.5")]);

    let web = Name::new("shop", "web");
    let finish = |state: &mut State| {
        Arc::make_mut(state.cluster.pods.get_mut(&web).unwrap()).finished = true;
    };
    finish(&mut state);
    assert!(addresses(&compile(&state, &identity())).is_empty());
    state.kernel.links.remove(&WEB);
    assert_eq!(compile(&state, &identity()).port(PortId(2)), None);
}

#[test]
fn the_node_knows_its_own_ends_and_its_peers() {
    let snapshot = compile(&state(), &identity());
    let local = &snapshot.local;
    assert_eq!(local.tunnel_ends, ["172.20.1.10".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(local.icmp_source.map(std::net::IpAddr::V4), local.tunnel_ends.first().copied());
    assert_eq!(mac(local.vtep_mac), "66:fb:fd:31:ce:61");
    let mut own: Vec<String> = local.addresses.iter().map(ToString::to_string).collect();
    own.sort();
    assert_eq!(own, ["10.65.10.1", "10.67.10.1", "169.254.1.1", "192.0.2.10"]);
    let mut sources: Vec<String> = snapshot.tunnel_sources.iter().map(ToString::to_string).collect();
    sources.sort();
    let others = [
        "172.20.1.11",
        "172.20.1.12",
        "172.20.2.11",
        "172.20.3.10",
        "172.20.3.11",
        "172.20.4.11",
        "172.20.5.11",
    ];
    assert_eq!(sources, others);
}

#[test]
fn the_other_addresses_of_nodes_are_peers_too() {
    let mut state = state();
    let peer = Arc::make_mut(state.cluster.nodes.values_mut().next_back().expect("nodes"));
    peer.ipv6 = Some("fd00::11/64".parse().unwrap());
    let own = Arc::make_mut(state.cluster.nodes.get_mut(&identity().node).expect("our node"));
    own.vxlan_tunnel_v6 = Some("fd00:65::1".parse().unwrap());
    let snapshot = compile(&state, &identity());
    assert!(snapshot.tunnel_sources.contains(&"fd00::11".parse::<std::net::IpAddr>().unwrap()));
    assert_eq!(snapshot.local.icmp6_source, Some("fd00:65::1".parse().unwrap()));
}

#[test]
fn a_gateway_serves_its_own_pods_and_those_of_the_nodes_behind_it() {
    let names = |node: &str| {
        let snapshot = compile(&state(), &Identity::new(node));
        let mut names: Vec<String> =
            snapshot.policies.endpoints.iter().map(|(_, endpoint)| endpoint.name.to_string()).collect();
        names.sort();
        names
    };
    let of_gateway = names("gw-a");
    assert!(of_gateway.contains(&"shop/web".to_owned()) && of_gateway.contains(&"shop/a1web".to_owned()));
    assert_eq!(of_gateway.len(), 12);
    assert_eq!(names("a1"), ["shop/a1jail", "shop/a1open", "shop/a1web"]);
    assert_eq!(names("gw-b"), ["far/b2", "far/b2ipip", "far/borrowed"]);
}

#[test]
fn neighbours_that_routes_need_are_kept_resolved() {
    let wanted: BTreeSet<NeighbourKey> = compiled(&state()).routing().wanted_neighbours().collect();
    let expected = [
        (UPLINK, address("172.20.1.1")),
        // In our subnet: a1 and a2, the latter not resolved yet.
        (UPLINK, address("172.20.1.11")),
        (UPLINK, address("172.20.1.12")),
        (WEB, address("10.65.10.5")),
    ];
    assert_eq!(wanted.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn hosts_on_an_uplink_are_asked_for_and_what_is_elsewhere_is_not() {
    let compiler = compiled(&state());
    let toward = |to| compiler.routing().uplink_neighbour(address(to));
    assert_eq!(toward("172.20.1.77"), Some((UPLINK, address("172.20.1.77"))));
    assert_eq!(toward("203.0.113.9"), Some((UPLINK, address("172.20.1.1"))));
    assert_eq!(toward("192.0.2.77"), None, "on a link that is no port");
}

#[test]
fn blocks_and_pods_are_steered_and_connected_routes_are_not() {
    let compiler = compiled(&state());
    let steering = compiler.routing().steering();
    let found = |prefix: &str, length| steering.get(&(address(prefix), length)).copied();
    assert_eq!(found("10.65.21.0", 26), Some(Destination::Owned));
    assert_eq!(found("10.65.21.40", 32), Some(Destination::Owned));
    assert_eq!(found("10.65.10.0", 26), Some(Destination::Owned));
    assert_eq!(found("10.65.10.5", 32), Some(Destination::Owned));
    assert_eq!(found("172.20.1.10", 32), Some(Destination::TunnelEnd));
    assert_eq!(found("10.65.10.1", 32), Some(Destination::Local));
    assert_eq!(found("192.0.2.10", 32), Some(Destination::Local));
    // No route to c1's VXLAN blocks, and nothing of the kernel's.
    for (prefix, length) in
        [("10.65.41.0", 26), ("0.0.0.0", 0), ("172.20.1.0", 24), ("198.51.100.0", 24), ("172.20.1.1", 32)]
    {
        assert_eq!(found(prefix, length), None, "{prefix}/{length}");
    }
}
