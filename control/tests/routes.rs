//! Routing tables that worlds of manifests give their nodes.
//!
//! Each `tests/routes/WORLD/NODE.routes` is a whole table: `DST KIND NODE VIA TUNNEL_DST POOL`, `-` for none, and
//! `missing DST: REASON` for what should have a route and has none.

use std::fs;
use std::path::{Path, PathBuf};

use margay_control::compile::routes::{ClusterRoute, RouteKind, RoutingTable, table};
use margay_control::manifest::load_dir;
use margay_control::state::Cluster;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn world(path: &str) -> Cluster {
    let (cluster, problems) = load_dir(here(path)).unwrap();
    assert!(problems.is_empty(), "{problems:#?}");
    cluster
}

fn lines(table: &RoutingTable) -> Vec<String> {
    let or_dash = |field: Option<String>| field.unwrap_or_else(|| "-".to_owned());
    let route = |route: &ClusterRoute| {
        let via = or_dash(route.via.map(|via| via.to_string()));
        let tunnel_dst = or_dash(route.tunnel_dst.map(|dst| dst.to_string()));
        let pool = or_dash(route.pool.clone());
        format!("{} {} {} {via} {tunnel_dst} {pool}", route.dst, route.kind, route.node)
    };
    let missing = table.missing.iter().map(|(dst, _, why)| format!("missing {dst}: {why}"));
    table.routes.iter().map(route).chain(missing).collect()
}

/// Lines without comments, each run of blanks one blank.
fn normalised(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn check(manifests: &str, tables: &str) {
    let cluster = world(manifests);
    let mut checked = 0;
    for entry in fs::read_dir(here(tables)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "routes") {
            let node = path.file_stem().unwrap().to_str().unwrap();
            let expected = normalised(&fs::read_to_string(&path).unwrap());
            let found = lines(&table(&cluster, node).unwrap());
            assert_eq!(found, expected, "{}\n{}", path.display(), found.join("\n"));
            checked += 1;
        }
    }
    assert!(checked > 0, "no tables in {tables}");
}

#[test]
fn blocks_and_addresses_away_from_them() {
    check("tests/routes/allocations", "tests/routes/allocations");
}

#[test]
fn gateways_stand_before_their_nodes() {
    check("tests/routes/gateways", "tests/routes/gateways");
}

#[test]
fn pod_cidrs_families_and_nested_pools() {
    check("tests/routes/pod_cidrs", "tests/routes/pod_cidrs");
}

#[test]
fn vxlan_goes_by_the_family_that_two_nodes_have_in_common() {
    check("tests/routes/families", "tests/routes/families");
}

#[test]
fn subnets_by_the_local_prefix() {
    check("tests/routes/subnets", "tests/routes/subnets");
}

#[test]
fn two_zones_with_every_kind_of_pool() {
    check("../testbed/cases/wire/manifests", "tests/routes/wire");
}

/// Whatever the world and the node: a route leads only to a node with the addresses that it needs, and routes are
/// sorted and unique.
#[test]
fn no_route_leads_to_a_node_without_an_address() {
    for path in ["allocations", "families", "gateways", "pod_cidrs", "subnets"] {
        let cluster = world(&format!("tests/routes/{path}"));
        for node in cluster.nodes.keys() {
            let table = table(&cluster, node).unwrap();
            assert!(table.routes.is_sorted_by(|a, b| a.dst < b.dst), "{path} {node}");
            for route in &table.routes {
                check_route(&cluster, node, route);
            }
        }
    }
}

fn check_route(cluster: &Cluster, node: &str, route: &ClusterRoute) {
    if matches!(route.kind, RouteKind::Local | RouteKind::Blackhole) {
        assert_eq!((route.via, route.tunnel_dst, &*route.node), (None, None, node), "{route:?}");
        return;
    }
    let next = &cluster.nodes[route.next_node.as_ref().unwrap()];
    let outer_is_v4 = route.via.is_some_and(|via| via.is_ipv4());
    assert!(outer_is_v4 == route.dst.addr().is_ipv4() || route.kind == RouteKind::Vxlan, "{route:?}");
    let (underlay, vtep) =
        if outer_is_v4 { (next.ipv4, next.vxlan_tunnel_v4) } else { (next.ipv6, next.vxlan_tunnel_v6) };
    assert_eq!(route.via, underlay.map(|net| net.addr()), "{route:?}");
    assert!(route.via.is_some() && route.node != node, "{route:?}");
    let is_tunnel = route.kind != RouteKind::Direct;
    assert_eq!(route.tunnel_dst, route.via.filter(|_| is_tunnel), "{route:?}");
    assert!(route.kind != RouteKind::Vxlan || vtep.is_some(), "{route:?}");
}

#[test]
fn an_unknown_node_is_refused_with_the_known_ones() {
    let error = table(&world("tests/routes/subnets"), "waide").unwrap_err();
    assert_eq!(error.to_string(), r#"unknown node "waide": the known nodes are bare, near, wide"#);
}

#[test]
fn json_has_the_documented_fields() {
    let routes = table(&world("tests/routes/subnets"), "near").unwrap().routes;
    let expected = concat!(
        r#"{"dst":"10.4.1.0/26","kind":"ipip","node":"wide","#,
        r#""via":"172.20.1.1","tunnel_dst":"172.20.1.1","pool":"ipip"}"#
    );
    assert_eq!(serde_json::to_string(&routes[0]).unwrap(), expected);
    let expected = concat!(
        r#"{"dst":"10.4.2.0/26","kind":"blackhole","node":"near","#,
        r#""via":null,"tunnel_dst":null,"pool":"ipip"}"#
    );
    assert_eq!(serde_json::to_string(&routes[1]).unwrap(), expected);
}
