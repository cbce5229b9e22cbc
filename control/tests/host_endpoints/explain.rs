//! What `margay explain` says of host endpoints: what the packet function does, and why.

use margay_control::compile::Compiler;
use margay_control::explain::{
    At, Decided, Explained, Explanation, HostSaid, HostSide, Stage, explain, explain_running, text,
};
use margay_control::probe::{Expect, Probe, Written};
use margay_flowtable::{Interface, Snapshot, Tuple};
use proptest::prelude::*;
use serde_json::json;

use crate::world::{
    ETH0, ETH1, World, host_endpoint, load, node, policy, said, staged, staged_policy, tuple,
};

fn probe(from: &str, to: &str, protocol: u8, port: u16) -> Probe {
    let written = Written {
        from: from.to_owned(),
        to: to.to_owned(),
        proto: json!(protocol),
        port: json!(port),
        sport: None,
        icmp_type: None,
        icmp_code: None,
        family: None,
        expect: None,
    };
    written.read(0).unwrap()
}

/// What the gateway says of the packet, which it forwards from network to network.
fn explain_tuple(compiler: &Compiler, snapshot: &Snapshot, packet: &Tuple) -> Explained {
    let probe = probe(&packet.src.to_string(), &packet.dst.to_string(), packet.protocol, packet.dport);
    let mut explanation = explain_running(compiler, snapshot, "gw", &probe, &[]).unwrap();
    assert_eq!(explanation.packets.len(), 1);
    explanation.packets.remove(0)
}

fn interface(side: &HostSide) -> Interface {
    match side.interface.as_deref() {
        Some("eth0") => ETH0,
        Some("eth1") => ETH1,
        other => panic!("{other:?}"),
    }
}

/// What decided, as the tests of host endpoints call it.
fn name(said: &HostSaid, direction: &str) -> Option<String> {
    let (kind, name) = match &said.decided {
        Decided::Rule { kind, policy, rule, .. } => (kind, format!("{policy} {direction} rule {rule}")),
        Decided::EndOfTier { kind, policy, .. } => (kind, format!("{policy} {direction}, end of tier")),
        Decided::Profiles | Decided::NoPolicy | Decided::NoEndpoint => return None,
        other => panic!("{other:?}"),
    };
    Some(format!("{}{name}", kind.replace("GlobalNetworkPolicy", "")))
}

fn decided(said: &HostSaid, direction: &str) -> String {
    let verdict = if said.verdict == Expect::Allow { "allow" } else { "deny" };
    [Some(verdict.to_owned()), name(said, direction)].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// Whether the stages, as they are told, lead to what decided.
fn leads_there(said: &HostSaid) -> bool {
    let (Decided::Rule { tier, .. } | Decided::EndOfTier { tier, .. }) = &said.decided else {
        return said.decided_at.is_none();
    };
    let reached = |stage: &margay_control::explain::StageTrace| {
        stage.tiers.iter().rfind(|tier| tier.outcome.is_some()).map(|tier| tier.tier.clone())
    };
    let last = said.stages.iter().rfind(|stage| reached(stage).is_some());
    last.is_some_and(|last| Some(last.stage) == said.decided_at && reached(last).as_ref() == Some(tier))
}

/// Holds the explanation of a packet against the classifiers.
pub(crate) fn agrees(compiler: &Compiler, snapshot: &Snapshot, packet: &Tuple) -> Result<(), TestCaseError> {
    let explained = explain_tuple(compiler, snapshot, packet);
    let Some(host) = &explained.host else {
        prop_assert_eq!(explained.verdict, Expect::Allow, "nobody else is asked");
        return Ok(());
    };
    let sides = [(&host.entry, "ingress"), (&host.exit, "egress")];
    for said in sides.iter().flat_map(|(side, _)| side.iter().map(|side| &side.said)) {
        prop_assert!(leads_there(said), "{:#?}", host);
    }
    let (Some(entry), Some(exit)) = (&host.entry, &host.exit) else { return Ok(()) };
    let is_untracked = entry.said.decided_at == Some(Stage::Untracked);
    let denies = sides.iter().filter_map(|(side, way)| Some((side.as_ref()?, way)));
    let denies = denies.clone().find(|(side, _)| side.said.verdict == Expect::Deny);
    let is = match denies {
        _ if is_untracked => format!("untracked {}", decided(&entry.said, "ingress")),
        Some((side, way)) => decided(&side.said, way),
        None => [(entry, "ingress"), (exit, "egress")]
            .into_iter()
            .filter_map(|(side, way)| name(&side.said, way))
            .fold("allow".to_owned(), |said, name| format!("{said} by {name}")),
    };
    let (entry_at, exit_at) = (interface(entry), interface(exit));
    prop_assert_eq!(is, said(compiler, snapshot, entry_at, exit_at, packet));
    prop_assert_eq!(explained.verdict == Expect::Deny, denies.is_some());
    let would = [(entry, "ingress"), (exit, "egress")]
        .map(|(side, way)| side.staged.as_ref().map(|staged| decided(&staged.said, way)));
    prop_assert_eq!(would, staged(compiler, snapshot, entry_at, exit_at, packet));
    Ok(())
}

/// A gateway with pods on it and behind it, and host endpoints at its uplink and everywhere.
fn cluster() -> Vec<String> {
    let behind = "apiVersion: v1\nkind: Node\nmetadata: {name: n1, labels: {margay.dev/gateway: gw}}\nspec: {podCIDR: 10.0.0.0/24}\nstatus: {addresses: [{type: InternalIP, address: 172.20.1.11}]}\n";
    let pool = "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\nspec: {cidr: 10.0.0.0/16, vxlanMode: Never, ipipMode: Never}\n";
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, labels: {app: web}}\nspec: {nodeName: n1, containers: [{name: c, image: i}]}\nstatus: {phase: Running, podIP: 10.0.0.5}\n";
    vec![
        node("10.65.10.1"),
        behind.to_owned(),
        pool.to_owned(),
        pod.to_owned(),
        host_endpoint("edge", "edge", "node: gw\ninterfaceName: eth0"),
        policy(
            "open",
            "selector: role == 'edge'\norder: 5\napplyOnForward: true\ningress: [{action: Allow, protocol: TCP, destination: {ports: [80]}}]",
        ),
        policy(
            "shield",
            "selector: role == 'edge'\npreDNAT: true\napplyOnForward: true\ningress: [{action: Deny, protocol: TCP, destination: {ports: [22, 23]}}]",
        ),
        staged_policy(
            "late",
            "selector: role == 'edge'\norder: 1\napplyOnForward: true\ningress: [{action: Deny, source: {nets: [203.0.113.0/24]}}]",
        ),
    ]
}

fn explained(objects: &[String], probe: &Probe, at: At<'_>) -> Explanation {
    explain(&load(objects), probe, at).unwrap()
}

#[test]
fn manifests_tell_what_is_asked_at_the_uplink() {
    let explanation = explained(&cluster(), &probe("203.0.113.9", "shop/web", 6, 80), At::default());
    let expected = r#"ALLOW  203.0.113.9 -> shop/web  6 80
  enters   allow  by eth0: GlobalNetworkPolicy open rule 0, tier default, applyOnForward
  egress   allow  203.0.113.9 has no policy that is asked here
  ingress  allow  no policy selects shop/web
  leaves   allow  by eth0: no policy of HostEndpoint edge is asked
  route    on gw: 10.0.0.0/24 direct via 172.20.1.11 (node n1), pool pool
  staged   where it enters would deny: StagedGlobalNetworkPolicy late rule 0, tier default, applyOnForward

enters gw by eth0  HostEndpoint edge  role=edge
  preDNAT
    tier default  order 1000000
      GlobalNetworkPolicy shield
        for role == "edge"
        rule 0  deny: not its destination port
    * end of tier: pass
  applyOnForward
    tier default  order 1000000
      GlobalNetworkPolicy open  order 5
        for role == "edge"
      * rule 0  allow: matches
  if what is staged were enforced:
    preDNAT
      tier default  order 1000000
        GlobalNetworkPolicy shield
          for role == "edge"
          rule 0  deny: not its destination port
      * end of tier: pass
    applyOnForward
      tier default  order 1000000
        StagedGlobalNetworkPolicy late  order 1
          for role == "edge"
        * rule 0  deny: matches
        GlobalNetworkPolicy open  order 5
          for role == "edge"
          - 1 rule not asked
note: the uplink is taken to be eth0, which a HostEndpoint names: --uplink NAME
"#;
    assert_eq!(text(&explanation), expected);
}

#[test]
fn the_verdict_is_that_of_all_who_are_asked() {
    let world = cluster();
    for (from, to, port, at, expected) in [
        (
            "203.0.113.9",
            "shop/web",
            23,
            At::default(),
            &[
                "DENY  203.0.113.9 -> shop/web  6 23",
                "  enters   deny   by eth0: GlobalNetworkPolicy shield rule 0, tier default, preDNAT",
                "    tier default  order 1000000: not reached (1 policy)",
            ][..],
        ),
        (
            "203.0.113.9",
            "shop/web",
            22,
            At::default(),
            &[
                "  enters   deny   by eth0: end of tier default: no rule matches, and GlobalNetworkPolicy open selects HostEndpoint edge, applyOnForward",
                "  preDNAT: not asked at failsafe ports",
            ],
        ),
        // By another uplink, which no host endpoint names.
        (
            "203.0.113.9",
            "shop/web",
            23,
            At { uplink: Some("eth1"), ..At::default() },
            &["ALLOW  203.0.113.9 -> shop/web  6 23", "  ingress  allow  no policy selects shop/web"],
        ),
        // Past this gateway.
        (
            "203.0.113.9",
            "shop/web",
            23,
            At { node: Some("n1"), uplink: None },
            &["ALLOW  203.0.113.9 -> shop/web  6 23"],
        ),
        // What is the node's is not Margay's.
        ("203.0.113.9", "node:gw", 23, At::default(), &["ALLOW  203.0.113.9 -> node:gw  6 23"]),
        ("node:gw", "shop/web", 23, At::default(), &["ALLOW  node:gw -> shop/web  6 23"]),
    ] {
        let text = text(&explained(&world, &probe(from, to, 6, port), at));
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{from} {to} {port}: no {line:?} in\n{text}");
        }
        assert_eq!(text.contains("enters"), expected.iter().any(|line| line.contains("enters")), "{text}");
    }
}

#[test]
fn what_is_for_host_endpoints_alone_is_told_of_a_pod_that_it_selects() {
    let mut world = cluster();
    for field in ["preDNAT", "doNotTrack"] {
        let spec = format!(
            "selector: app == 'web'\n{field}: true\napplyOnForward: true\ningress: [{{action: Deny}}]"
        );
        world.push(policy(&field.to_lowercase(), &spec));
    }
    let asked = explained(&world, &probe("203.0.113.9", "shop/web", 6, 80), At::default()).packets.remove(0);
    let expected = [("donottrack", "doNotTrack"), ("prednat", "preDNAT")].map(|(name, field)| {
        format!("GlobalNetworkPolicy {name} selects it and is for host endpoints alone: spec.{field}")
    });
    assert_eq!((asked.verdict, asked.ingress.notes), (Expect::Allow, expected.to_vec()));
}

#[test]
fn where_several_uplinks_are_named_none_is_assumed() {
    let mut world = cluster();
    world.push(host_endpoint("other", "other", "node: gw\ninterfaceName: eth7"));
    world.push(host_endpoint("all", "edge", "node: gw\ninterfaceName: '*'"));
    let asked = |at| explained(&world, &probe("203.0.113.9", "shop/web", 6, 443), at).packets.remove(0);
    let endpoint = |packet: &Explained| {
        let host = packet.host.as_ref().unwrap();
        (host.entry.as_ref().unwrap().endpoint.clone().unwrap(), host.notes.len())
    };
    assert_eq!(endpoint(&asked(At::default())), ("all".to_owned(), 1));
    let text = text(&explained(&world, &probe("203.0.113.9", "shop/web", 6, 443), At::default()));
    assert!(text.contains("  enters   deny   by an uplink: end of tier default"), "{text}");
    for (uplink, expected) in [("eth0", "edge"), ("eth7", "other"), ("eth9", "all")] {
        let at = At { uplink: Some(uplink), ..At::default() };
        assert_eq!(endpoint(&asked(at)), (expected.to_owned(), 0), "{uplink}");
    }
}

#[test]
fn a_running_gateway_tells_by_its_own_interfaces() {
    let deny = "applyOnForward: true\negress: [{action: Deny, protocol: UDP}, {action: Allow}]";
    let world = World::new(&[
        host_endpoint("second", "x", "node: gw\nexpectedIPs: [192.0.2.10]"),
        policy("p", &format!("selector: role == 'x'\n{deny}")),
    ]);
    for (protocol, verdict) in [(17, Expect::Deny), (6, Expect::Allow)] {
        let explained = explain_tuple(&world.compiler, &world.snapshot, &tuple(protocol, 53));
        let host = explained.host.unwrap();
        assert_eq!((explained.verdict, host.notes), (verdict, vec![]));
        let (entry, exit) = (host.entry.unwrap(), host.exit.unwrap());
        assert_eq!((entry.interface.as_deref(), entry.endpoint), (Some("eth0"), None));
        assert_eq!((exit.interface.as_deref(), exit.endpoint.as_deref()), (Some("eth1"), Some("second")));
        assert_eq!((exit.said.verdict, exit.said.decided_at), (verdict, Some(Stage::Forward)));
    }
    let answer = explain_tuple(&world.compiler, &world.snapshot, &tuple(17, 53));
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(
        json["host"]["exit"]["decided"],
        json!({"by": "rule", "tier": "default", "kind": "GlobalNetworkPolicy", "policy": "p", "rule": 0})
    );
    assert_eq!(json["host"]["exit"]["decided_at"], "applyOnForward");
    assert_eq!(json["host"]["exit"]["stages"][0]["tiers"][0]["policies"][0]["rules"][0]["matches"], true);
    assert_eq!(serde_json::from_value::<Explained>(json).unwrap(), answer);
}
