//! What nodes, pods and Calico's objects mean as they are written.

use margay_control::state::{Name, Pod, Protocol, TunnelMode};

use super::load;

#[test]
fn a_node_is_its_calico_annotations_else_its_reported_addresses() {
    let text = "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  annotations:\n    \
                projectcalico.org/IPv4Address: 172.20.1.10/24\n    \
                projectcalico.org/IPv4VXLANTunnelAddr: 10.65.10.1\n    \
                projectcalico.org/IPv4IPIPTunnelAddr: 10.67.10.1\n    \
                projectcalico.org/VXLANTunnelMACAddr: 66:3e:ca:a4:db:65\n\
                spec: {podCIDR: 10.1.0.0/24}\n\
                status:\n  addresses:\n  - {type: ExternalIP, address: 192.0.2.1}\n  \
                - {type: InternalIP, address: 172.20.1.9}\n  - {type: InternalIP, address: 'fd00::9'}\n  \
                - {type: Hostname, address: n}\n";
    let (cluster, problems) = load(&[("a.yaml", text)]);
    assert!(problems.is_empty(), "{problems:?}");
    let node = &cluster.nodes["n"];
    assert_eq!(node.ipv4.unwrap().to_string(), "172.20.1.10/24");
    assert_eq!(node.ipv6.unwrap().to_string(), "fd00::9/128");
    assert_eq!(node.vxlan_mac_v4, Some([0x66, 0x3e, 0xca, 0xa4, 0xdb, 0x65]));
    assert_eq!(node.pod_cidrs[0].to_string(), "10.1.0.0/24");
    let addresses: Vec<_> = node.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1", "172.20.1.9", "fd00::9", "172.20.1.10", "10.67.10.1", "10.65.10.1"]);
}

#[test]
fn a_pod_has_the_ports_of_containers_and_sidecars_and_may_have_finished() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: x\n  \
                creationTimestamp: '2026-01-05T08:00:00Z'\n  deletionTimestamp: '2026-01-05T09:00:00Z'\n\
                spec:\n  nodeName: n\n  hostNetwork: null\n  containers:\n  \
                - {name: c, ports: [{containerPort: 80, name: http}]}\n  initContainers:\n  \
                - {name: i, ports: [{containerPort: 1}]}\n  \
                - {name: s, restartPolicy: Always, ports: [{containerPort: 53, protocol: UDP}]}\n\
                status:\n  phase: Succeeded\n  podIP: 10.0.0.1\n  podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]\n";
    let (cluster, problems) = load(&[("a.yaml", text)]);
    assert!(problems.is_empty(), "{problems:?}");
    let pod = &cluster.pods[&Name::new("x", "a")];
    let ports: Vec<_> = pod.ports.iter().map(|port| (port.name.as_str(), port.protocol, port.port)).collect();
    assert_eq!(ports, [("http", Protocol::TCP, 80), ("", Protocol::UDP, 53)]);
    assert_eq!((pod.finished, pod.terminating, pod.created), (true, true, 1_767_600_000));
    assert_eq!((pod.addresses.len(), pod.host_network, pod.is_endpoint()), (2, false, false));
}

#[test]
fn a_pod_has_the_addresses_that_calicos_plugin_noted_until_the_kubelet_reports() {
    let pod = |annotations: &str, deleted: &str, status: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{{annotations}}}, \
             deletionTimestamp: {deleted}}}\nspec: {{nodeName: n}}\nstatus: {{{status}}}\n"
        );
        let (cluster, problems) = load(&[("a.yaml", &text)]);
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let of = |pod: &Pod| (pod.addresses.clone(), pod.is_endpoint());
        (cluster.pods.get(&Name::new("default", "a")).map(|pod| of(pod)), problems)
    };
    let (one, all) = ("cni.projectcalico.org/podIP", "cni.projectcalico.org/podIPs");
    let both = format!("{one}: 10.0.0.1/32, {all}: '10.0.0.1/32,fd00::1/128'");
    let end = "'2026-01-05T09:00:00Z'";
    let known = |addresses: &[&str]| {
        Some((addresses.iter().map(|address| address.parse().unwrap()).collect(), !addresses.is_empty()))
    };
    assert_eq!(pod(&both, "null", ""), (known(&["10.0.0.1", "fd00::1"]), vec![]));
    assert_eq!(pod(&format!("{one}: 10.0.0.1/32"), "null", ""), (known(&["10.0.0.1"]), vec![]));
    assert_eq!(pod(&both, end, "podIP: 10.0.0.2"), (known(&["10.0.0.2"]), vec![]));
    assert_eq!(pod(&format!("{one}: ''"), "null", "podIP: 10.0.0.2"), (known(&["10.0.0.2"]), vec![]));
    let given_back = pod(&format!("{one}: '', {all}: ''"), end, "podIP: 10.0.0.2");
    assert_eq!(given_back.0.map(|(_, is_endpoint)| is_endpoint), Some(false));
    let (none, problems) = pod(&format!("{one}: 10.0.0.1"), "null", "");
    assert_eq!(none, None);
    assert!(problems[0].contains("podIP") && problems[0].contains("prefix length"), "{problems:?}");
}

#[test]
fn calicos_objects_are_read_in_both_their_forms() {
    for version in ["projectcalico.org/v3", "crd.projectcalico.org/v1"] {
        let deleted = if version.starts_with("crd") { "'false'" } else { "false" };
        let text = format!(
            "apiVersion: {version}\nkind: IPPool\nmetadata: {{name: pool}}\n\
             spec: {{cidr: 10.65.0.0/16, vxlanMode: CrossSubnet, disabled: true}}\n---\n\
             apiVersion: {version}\nkind: BlockAffinity\nmetadata: {{name: n-10-65-0-0-26}}\n\
             spec: {{cidr: 10.65.0.0/26, node: n, state: confirmed, deleted: {deleted}}}\n---\n\
             apiVersion: {version}\nkind: IPAMBlock\nmetadata: {{name: 10-65-0-0-26}}\n\
             spec:\n  cidr: 10.65.0.0/26\n  affinity: host:n\n  allocations: [null, 1, 0]\n  attributes:\n  \
             - {{handle_id: h}}\n  - {{handle_id: i, secondary: {{node: m, pod: p}}}}\n"
        );
        let (cluster, problems) = load(&[("a.yaml", &text)]);
        assert!(problems.is_empty(), "{problems:?}");
        let pool = &cluster.ip_pools["pool"];
        assert_eq!(
            (pool.ipip, pool.vxlan, pool.disabled),
            (TunnelMode::Never, TunnelMode::CrossSubnet, true)
        );
        let affinity = &cluster.block_affinities["n-10-65-0-0-26"];
        assert_eq!((affinity.node.as_str(), affinity.void), ("n", false));
        let block = &cluster.ipam_blocks["10-65-0-0-26"];
        assert_eq!(block.affinity.as_deref(), Some("n"));
        let allocations: Vec<_> =
            block.allocations.iter().map(|(address, node)| (address.to_string(), node.as_deref())).collect();
        assert_eq!(allocations, [("10.65.0.1".to_owned(), Some("m")), ("10.65.0.2".to_owned(), None)]);
    }
}

#[test]
fn an_affinity_without_state_counts_as_confirmed() {
    let text = "apiVersion: crd.projectcalico.org/v1\nkind: BlockAffinity\nmetadata: {name: a}\n\
                spec: {cidr: 10.65.0.0/26, node: n}\n";
    let (cluster, problems) = load(&[("a.yaml", text)]);
    assert!(!cluster.block_affinities["a"].void, "{problems:?}");
}

#[test]
fn an_affinity_on_its_way_out_is_void() {
    for spec in [
        "state: pending",
        "state: pendingDeletion",
        "state: confirmed, deleted: true",
        "state: confirmed, deleted: 'true'",
        "state: confirmed, type: virtual",
    ] {
        let text = format!(
            "apiVersion: projectcalico.org/v3\nkind: BlockAffinity\nmetadata: {{name: a}}\n\
             spec: {{cidr: 10.65.0.0/26, node: n, {spec}}}\n"
        );
        let (cluster, problems) = load(&[("a.yaml", &text)]);
        assert!(cluster.block_affinities["a"].void, "{spec} {problems:?}");
    }
}
