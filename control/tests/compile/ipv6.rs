//! Tunnels and errors of nodes that have IPv6, or have it alone.

use super::*;

/// Gives gw-a and b1 an underlay of IPv6, of which b1 has no more than that, and blocks of IPv6; a1 gets a block alone.
fn with_ipv6(state: &mut State) {
    let cluster = &mut state.cluster;
    let own = Arc::make_mut(cluster.nodes.get_mut("gw-a").expect("gw-a"));
    own.ipv6 = Some("2001:db8:1::10/64".parse().unwrap());
    let peer = Arc::make_mut(cluster.nodes.get_mut("b1").expect("b1"));
    (peer.ipv4, peer.vxlan_tunnel_v4) = (None, None);
    peer.ipv6 = Some("2001:db8:2::11/64".parse().unwrap());
    peer.vxlan_tunnel_v6 = Some("fd00:65:0:21::1".parse().unwrap());
    let vxlan = TunnelMode::CrossSubnet;
    let six =
        IpPool { cidr: "fd00:65::/48".parse().unwrap(), ipip: TunnelMode::Never, vxlan, disabled: false };
    cluster.ip_pools.insert("six".into(), six.into());
    for (node, cidr) in [("b1", "fd00:65:0:21::/122"), ("a1", "fd00:65:0:11::/122")] {
        let affinity = BlockAffinity { cidr: cidr.parse().unwrap(), node: node.into(), void: false };
        cluster.block_affinities.insert(format!("{node}-six"), affinity.into());
    }
    let kernel = &mut state.kernel;
    kernel.addresses.push((UPLINK, "2001:db8:1::10/64".parse().unwrap()));
    kernel.routes.push(route("::/0", Some("fe80::1"), UPLINK, 0));
    kernel.neighbours.insert((UPLINK, address("fe80::1")), Neighbour { mac: ROUTER, usable: true });
}

#[test]
fn tunnels_go_by_the_family_that_both_ends_have() {
    let mut state = state();
    with_ipv6(&mut state);
    let fates = |state: &State, identity: &Identity| {
        let snapshot = compile(state, identity);
        ["fd00:65:0:21::5", "10.65.21.5", "10.67.21.5", "fd00:65:0:11::5"].map(|to| fate(&snapshot, to))
    };
    // The MACs of IPv6 are of the nodes' names with "-v6".
    let over_ipv6 = "vxlan 2001:db8:1::10 2001:db8:2::11 4096 4789 66:3b:b6:aa:65:04 66:11:c9:7a:b5:46";
    let [six, four, ipip, six_to_a1] = fates(&state, &identity());
    assert_eq!(six, format!("{VIA_ROUTER} {over_ipv6}"));
    assert_eq!(four, six, "nothing of IPv4 leads there");
    assert_eq!(ipip, VIA_ROUTER, "IP-in-IP has no such way, and the kernel's default stands");
    let a1 = "eth0 02:00:00:00:00:02 02:00:00:00:00:11 mtu 9000";
    assert!(six_to_a1.starts_with(&format!("{a1} vxlan 172.20.1.10 172.20.1.11 4096")), "{six_to_a1}");

    let felix = FelixConfiguration { vxlan_mtu_v6: Some(1380), ..FelixConfiguration::default() };
    state.cluster.felix_configurations.insert("default".into(), felix.into());
    let identity = Identity { zero_checksum6: ZeroChecksum::Accepted, ..identity() };
    let [six, .., six_to_a1] = fates(&state, &identity);
    assert_eq!(six, format!("{} {over_ipv6} unsummed", VIA_ROUTER.replace("9000", "1450")));
    assert!(six_to_a1.starts_with(a1), "{six_to_a1}");
    assert_eq!(compile(&state, &identity).local.zero_checksum6, ZeroChecksum::Accepted);
}

#[test]
fn tunnels_of_ipv6_end_at_the_node_s_own_address() {
    let mut state = state();
    with_ipv6(&mut state);
    let compiler = compiled(&state);
    let snapshot = compile(&state, &identity());
    assert_eq!(snapshot.local.tunnel_ends, [address("172.20.1.10"), address("2001:db8:1::10")]);
    assert!(!snapshot.local.addresses.contains(&address("2001:db8:1::10")));
    assert_eq!(mac(snapshot.local.vtep_mac6), "66:3b:b6:aa:65:04");
    assert_eq!(snapshot.local.zero_checksum6, ZeroChecksum::Refused);
    let steered = compiler.routing().steering().get(&(address("2001:db8:1::10"), 128)).copied();
    assert_eq!(steered, Some(Destination::TunnelEnd));
    assert!(compiler.routing().wanted_neighbours().any(|key| key == (UPLINK, address("fe80::1"))));
    let sends = |inner, outer| snapshot.inner_sources.admits(address(inner), address(outer));
    assert!(snapshot.tunnel_sources.contains(&address("2001:db8:2::11")));
    assert!(sends("fd00:65:0:21::5", "2001:db8:2::11") && sends("10.65.21.5", "2001:db8:2::11"));
    assert!(!sends("fd00:65:0:11::5", "2001:db8:2::11") && sends("fd00:65:0:11::5", "172.20.1.11"));
}

#[test]
fn errors_to_pods_have_a_source_where_the_node_has_no_address_of_the_family() {
    let mut state = state();
    let sources = |state: &State| {
        let local = compile(state, &identity()).local;
        (local.icmp_source.map(IpAddr::V4), local.icmp6_source.map(IpAddr::V6))
    };
    let pods_gateway = address("fe80::ecee:eeff:feee:eeee");
    assert_eq!(sources(&state), (Some(address("172.20.1.10")), Some(pods_gateway)));
    let own = Arc::make_mut(state.cluster.nodes.get_mut("gw-a").expect("gw-a"));
    own.ipv4 = None;
    assert_eq!(sources(&state).0, Some(address("10.65.10.1")), "that of its VXLAN tunnel");
    Arc::make_mut(state.cluster.nodes.get_mut("gw-a").expect("gw-a")).vxlan_tunnel_v4 = None;
    assert_eq!(sources(&state).0, Some(address("192.0.0.8")));
    state.cluster.nodes.remove("gw-a");
    assert_eq!(sources(&state), (None, None));
}
