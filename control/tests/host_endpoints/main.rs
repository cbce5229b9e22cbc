//! Host endpoints from manifests: which interface belongs to which, and what is asked there.

mod changes;
mod explain;
mod unasked;
mod world;

use margay_flowtable::{Interface, PortId, Verdict, classify};

use world::{ETH0, ETH1, World, policy, tuple};

const ETH9: Interface = Interface::Uplink(PortId(9));

/// Denies what the host endpoints with this label forward in.
fn deny(role: &str) -> String {
    let spec = format!(
        "selector: role == '{role}'\napplyOnForward: true\ntypes: [Ingress]\ningress: [{{action: Deny}}]"
    );
    policy(&format!("deny-{role}"), &spec)
}

/// Interfaces that each refuse what comes in, by the host endpoints that they belong to.
#[test]
fn an_interface_belongs_to_one_host_endpoint() {
    let hep = |name: &str, spec: &str| world::host_endpoint(name, name, &format!("node: gw\n{spec}"));
    let eth0 = || hep("eth0", "interfaceName: eth0");
    let all = || hep("all", "interfaceName: '*'");
    let by_address = || hep("address", "expectedIPs: [192.0.2.10]");
    let every = vec![Interface::Pod, Interface::Ipip, Interface::Vxlan, ETH0, ETH1];
    let but = |own: Interface| every.iter().copied().filter(|one| *one != own).collect::<Vec<_>>();
    let cases: Vec<(&str, Vec<String>, &str, Vec<Interface>)> = vec![
        ("none", vec![], "all", vec![]),
        ("all", vec![all()], "all", every.clone()),
        ("by name", vec![eth0()], "eth0", vec![ETH0]),
        ("by name, beside all", vec![all(), eth0()], "all", but(ETH0)),
        ("by name, beside all", vec![all(), eth0()], "eth0", vec![ETH0]),
        ("by address", vec![all(), by_address()], "address", vec![ETH1]),
        ("the first name wins", vec![eth0(), hep("a", "interfaceName: eth0")], "a", vec![ETH0]),
        ("the first name wins", vec![eth0(), hep("z", "expectedIPs: [172.20.1.10]")], "z", vec![]),
        ("the first of all", vec![all(), hep("al", "interfaceName: '*'")], "al", every.clone()),
        (
            "a name that is another's counts before addresses",
            vec![hep("named", "interfaceName: eth9\nexpectedIPs: [192.0.2.10]")],
            "named",
            vec![],
        ),
        ("tunnels by name", vec![hep("t", "interfaceName: vxlan.calico")], "t", vec![Interface::Vxlan]),
        ("tunnels by name", vec![hep("t", "interfaceName: tunl0")], "t", vec![Interface::Ipip]),
        ("tunnels by address", vec![hep("t", "expectedIPs: [10.65.10.1]")], "t", vec![Interface::Vxlan]),
        (
            "another node's",
            vec![world::host_endpoint("all", "all", "node: other\ninterfaceName: '*'")],
            "all",
            vec![],
        ),
    ];
    for (what, mut objects, role, expected) in cases {
        objects.push(deny(role));
        let world = World::new(&objects);
        let refuses = |entry: &Interface| world.said(*entry, ETH9, &tuple(17, 53)).starts_with("deny");
        let refusing: Vec<Interface> = every.iter().copied().filter(refuses).collect();
        assert_eq!(refusing, expected, "{what}: {objects:#?}");
    }
}

const EARLY: &str = "{order: 10, defaultAction: Deny}";
const PASSING: &str = "{order: 10, defaultAction: Pass}";
const ALLOW_53: &str = "selector: all()\napplyOnForward: true\ningress: [{action: Allow, protocol: UDP, destination: {ports: [53]}}]";

#[test]
fn policies_are_asked_where_they_say() {
    let forward = |rest: &str| format!("selector: all()\napplyOnForward: true\n{rest}");
    let deny = "ingress: [{action: Deny}]";
    let cases: Vec<(&str, Vec<String>, [&str; 3])> = vec![
        // What becomes of UDP 53, of UDP 54 and of TCP 22, from eth0 to eth1.
        ("no policy", vec![], ["allow", "allow", "allow"]),
        ("not for what is forwarded", vec![policy("p", &format!("selector: all()\n{deny}"))], ["allow"; 3]),
        (
            "the end of its tier, and no failsafe port",
            vec![policy("p", ALLOW_53)],
            ["allow by p ingress rule 0", "deny p ingress, end of tier", "deny p ingress, end of tier"],
        ),
        (
            "what leaves",
            vec![policy("p", &forward("egress: [{action: Allow, protocol: TCP}]"))],
            ["deny p egress, end of tier", "deny p egress, end of tier", "allow by p egress rule 0"],
        ),
        (
            "staged",
            vec![policy("p", ALLOW_53).replace("GlobalNetworkPolicy", "StagedGlobalNetworkPolicy")],
            ["allow"; 3],
        ),
        (
            "a tier only where such a policy of it selects the endpoint",
            vec![
                world::tier("early", EARLY),
                policy("early.other", &format!("tier: early\nselector: all()\n{deny}")),
                policy("p", ALLOW_53),
            ],
            ["allow by p ingress rule 0", "deny p ingress, end of tier", "deny p ingress, end of tier"],
        ),
        (
            "tiers in their order",
            vec![
                world::tier("early", EARLY),
                policy("early.p", &format!("tier: early\n{ALLOW_53}")),
                policy("p", &forward(deny)),
            ],
            [
                "allow by early.p ingress rule 0",
                "deny early.p ingress, end of tier",
                "deny early.p ingress, end of tier",
            ],
        ),
        (
            "a tier that passes, and no profile behind it",
            vec![world::tier("early", PASSING), policy("early.p", &format!("tier: early\n{ALLOW_53}"))],
            ["allow by early.p ingress rule 0", "allow", "allow"],
        ),
        (
            "before destination NAT, by rules alone and not at failsafe ports",
            vec![
                policy(
                    "pre",
                    "selector: all()\npreDNAT: true\napplyOnForward: true\ningress: [{action: Allow, protocol: UDP, destination: {ports: [54]}}, {action: Deny, protocol: TCP}]",
                ),
                policy("p", ALLOW_53),
            ],
            ["allow by p ingress rule 0", "allow by pre ingress rule 0", "deny p ingress, end of tier"],
        ),
        (
            "untracked, by rules alone and not at failsafe ports",
            vec![
                policy(
                    "raw",
                    "selector: all()\ndoNotTrack: true\napplyOnForward: true\ningress: [{action: Allow, protocol: UDP, destination: {ports: [54]}}, {action: Deny, protocol: TCP}]\negress: [{action: Deny}]",
                ),
                policy("p", ALLOW_53),
            ],
            [
                "allow by p ingress rule 0",
                "untracked allow raw ingress rule 0",
                "deny p ingress, end of tier",
            ],
        ),
    ];
    for (what, mut objects, expected) in cases {
        objects.push(world::host_endpoint("eth0", "x", "node: gw\ninterfaceName: eth0"));
        objects.push(world::host_endpoint("eth1", "x", "node: gw\ninterfaceName: eth1"));
        let world = World::new(&objects);
        let packets = [tuple(17, 53), tuple(17, 54), tuple(6, 22)];
        let said = packets.map(|packet| world.said(ETH0, ETH1, &packet));
        assert_eq!(said, expected.map(str::to_owned), "{what}");
    }
}

/// What is staged beside an enforced policy `p` and one that is asked before it.
#[test]
fn staged_policies_are_asked_as_if_they_were_enforced_and_decide_nothing() {
    let forward = |rest: &str| format!("selector: all()\napplyOnForward: true\n{rest}");
    let early = |early: &str, port: u16, action: &str| {
        let rule = format!("{{action: {action}, protocol: UDP, destination: {{ports: [{port}]}}}}");
        forward(&format!("{early}: true\ningress: [{rule}]"))
    };
    let none = || [None, None];
    let ingress = |said: &str| [Some(said.to_owned()), None];
    let cases = [
        // What would become of UDP 53 and of UDP 54, from eth0 to eth1: where they come in, and where they leave.
        ("nothing staged", vec![], [none(), none()]),
        (
            "not for what is forwarded",
            vec![("s", "selector: all()\ningress: [{action: Deny}]".into())],
            [none(), none()],
        ),
        (
            "where they leave",
            vec![("s", forward("egress: [{action: Allow, protocol: TCP}]"))],
            [
                [None, Some("deny Stageds egress, end of tier".into())],
                [None, Some("deny Stageds egress, end of tier".into())],
            ],
        ),
        (
            "before what is enforced",
            vec![(
                "s",
                forward("order: 1\ningress: [{action: Deny, protocol: UDP, destination: {ports: [53]}}]"),
            )],
            [ingress("deny Stageds ingress rule 0"), ingress("deny Stageds ingress, end of tier")],
        ),
        (
            "in the place of what is enforced",
            vec![("p", forward("ingress: [{action: Allow, destination: {ports: [54]}, protocol: UDP}]"))],
            [ingress("deny Stagedp ingress, end of tier"), ingress("allow Stagedp ingress rule 0")],
        ),
        ("a deletion", vec![("p", "stagedAction: Delete".into())], [ingress("allow"), ingress("allow")]),
        (
            "ignored",
            vec![("p", forward("stagedAction: Ignore\ningress: [{action: Deny}]"))],
            [none(), none()],
        ),
        (
            "before destination NAT",
            vec![("s", early("preDNAT", 54, "Allow"))],
            [ingress("allow p ingress rule 0"), ingress("allow Stageds ingress rule 0")],
        ),
        (
            "before connection tracking",
            vec![("s", early("doNotTrack", 53, "Deny"))],
            [ingress("deny Stageds ingress rule 0"), ingress("deny p ingress, end of tier")],
        ),
    ];
    for (what, staged, expected) in cases {
        let mut objects = vec![policy("p", ALLOW_53)];
        objects.extend(staged.iter().map(|(name, spec)| world::staged_policy(name, spec)));
        for name in ["eth0", "eth1"] {
            objects.push(world::host_endpoint(name, "x", &format!("node: gw\ninterfaceName: {name}")));
        }
        let world = World::new(&objects);
        let packets = [tuple(17, 53), tuple(17, 54)];
        assert_eq!(packets.map(|packet| world.staged(ETH0, ETH1, &packet)), expected, "{what}");
        let enforced = ["allow by p ingress rule 0", "deny p ingress, end of tier"];
        assert_eq!(packets.map(|packet| world.said(ETH0, ETH1, &packet)), enforced, "{what}");
    }
}

/// As Felix, which says so in its log.
#[test]
fn a_host_endpoint_that_is_everywhere_has_no_untracked_policy() {
    let raw =
        policy("raw", "selector: all()\ndoNotTrack: true\napplyOnForward: true\ningress: [{action: Deny}]");
    for (interface, expected) in [("'*'", "allow"), ("eth0", "untracked deny raw ingress rule 0")] {
        let endpoint = world::host_endpoint("h", "x", &format!("node: gw\ninterfaceName: {interface}"));
        let world = World::new(&[raw.clone(), endpoint]);
        assert_eq!(world.said(ETH0, ETH1, &tuple(17, 53)), expected);
    }
}

/// As Felix, whose chains for all interfaces are gone to where an interface has none of its own.
#[test]
fn policy_before_destination_nat_of_all_interfaces_holds_where_an_interface_has_none() {
    let early = |name: &str, selector: &str, action: &str| {
        let rule = format!("{{action: {action}, protocol: UDP, destination: {{ports: [53]}}}}");
        (
            name.to_owned(),
            format!("selector: {selector}\npreDNAT: true\napplyOnForward: true\ningress: [{rule}]"),
        )
    };
    let all = || early("all", "role == 'all'", "Deny");
    let own = early("own", "role == 'own'", "Allow");
    let enforced = |(name, spec): (String, String)| policy(&name, &spec);
    let staged = |(name, spec): (String, String)| world::staged_policy(&name, &spec);
    let (denied, allowed) = ("deny all ingress rule 0", "allow by own ingress rule 0");
    let would = |said: &str| [Some(said.to_owned()), None];
    for (what, objects, said, staged) in [
        ("none of its own", vec![enforced(all())], denied, [None, None]),
        ("its own", vec![enforced(all()), enforced(own.clone())], allowed, [None, None]),
        (
            "its own, staged",
            vec![enforced(all()), staged(own.clone())],
            denied,
            would("allow Stagedown ingress rule 0"),
        ),
        ("staged for all", vec![staged(all())], "allow", would("deny Stagedall ingress rule 0")),
        ("staged for all beside its own", vec![staged(all()), enforced(own)], allowed, [None, None]),
    ] {
        let mut objects = objects;
        objects.push(world::host_endpoint("own", "own", "node: gw\ninterfaceName: eth0"));
        objects.push(world::host_endpoint("all", "all", "node: gw\ninterfaceName: '*'"));
        let world = World::new(&objects);
        assert_eq!(world.said(ETH0, ETH1, &tuple(17, 53)), said, "{what}");
        assert_eq!(world.staged(ETH0, ETH1, &tuple(17, 53)), staged, "{what}");
    }
}

#[test]
fn pods_do_not_obey_what_is_for_host_endpoints_alone() {
    for (early, expected) in
        [("preDNAT", Verdict::Allow), ("doNotTrack", Verdict::Allow), ("applyOnForward", Verdict::Deny)]
    {
        let spec =
            format!("selector: all()\n{early}: true\napplyOnForward: true\ningress: [{{action: Deny}}]");
        let spec =
            if early == "applyOnForward" { spec.replacen("applyOnForward: true\n", "", 1) } else { spec };
        let world = World::new(&[policy("p", &spec), world::pod("10.65.10.5")]);
        let packet = margay_flowtable::Tuple { dst: "10.65.10.5".parse().unwrap(), ..tuple(17, 53) };
        assert_eq!(
            classify(&world.snapshot.policies, &packet, &mut |_, _| {}).verdict(),
            expected,
            "{early}"
        );
    }
}

#[test]
fn rules_select_host_endpoints_of_all_nodes_by_label_and_by_port() {
    let peer = world::host_endpoint(
        "far",
        "peer",
        "node: other\ninterfaceName: eth0\nexpectedIPs: [10.70.11.5]\nports: [{name: dns, protocol: UDP, port: 53}]",
    );
    let own = world::host_endpoint("h", "own", "node: gw\ninterfaceName: '*'");
    let source = "selector: role == 'own'\napplyOnForward: true\ningress: [{action: Allow, source: {selector: role == 'peer'}}]";
    let named = "selector: role == 'own'\napplyOnForward: true\negress: [{action: Allow, protocol: UDP, destination: {ports: [dns]}}]";
    let to =
        |address: &str, port| margay_flowtable::Tuple { dst: address.parse().unwrap(), ..tuple(17, port) };
    let from = |address: &str| margay_flowtable::Tuple { src: address.parse().unwrap(), ..tuple(17, 53) };
    for (spec, packet, passes) in [
        (source, from("10.70.11.5"), true),
        (source, from("10.70.11.6"), false),
        (named, to("10.70.11.5", 53), true),
        (named, to("10.70.11.5", 54), false),
        (named, to("10.70.11.6", 53), false),
    ] {
        let world = World::new(&[peer.clone(), own.clone(), policy("p", spec)]);
        assert_eq!(world.said(ETH0, ETH1, &packet).starts_with("allow"), passes, "{spec} {packet:?}");
    }
}
