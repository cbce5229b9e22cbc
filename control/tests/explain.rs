//! `margay explain`: its verdict is that of `check`, its walk ends at the rule that decided, and people read what they need.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use margay_control::check::{Half, check};
use margay_control::explain::{At, Decided, Explained, Side, TierTrace, explain};
use margay_control::manifest::load_dir;
use margay_control::probe::{self, Expect, Probe};
use margay_control::state::Cluster;
use proptest::prelude::*;
use serde_json::{Value, json};

#[allow(dead_code, reason = "each test program uses its part")]
#[path = "agreement/generate/mod.rs"]
mod generate;

/// Probes of one world, spread over all that its file has: each compiles the world anew.
const PROBES_OF_A_WORLD: usize = 12;

const WORLD: &str = "
{apiVersion: v1, kind: Node, metadata: {name: gw}, status: {addresses: [{type: InternalIP, address: 172.18.0.9}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n1, labels: {margay.dev/gateway: gw}}, spec: {podCIDR: 10.0.0.0/24}, status: {addresses: [{type: InternalIP, address: 172.18.0.1}]}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2}, spec: {podCIDR: 10.0.1.0/24}, status: {addresses: [{type: InternalIP, address: 172.18.0.2}]}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: pool}, spec: {cidr: 10.0.0.0/16, ipipMode: Always}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x, labels: {app: a}}, spec: {nodeName: n2}, status: {podIP: 10.0.1.1}}
---
{apiVersion: v1, kind: Pod, metadata: {name: b, namespace: x, labels: {app: b}}, spec: {nodeName: n1}, status: {podIP: 10.0.0.2}}
---
{apiVersion: v1, kind: Pod, metadata: {name: c, namespace: x, labels: {app: c}}, spec: {nodeName: n1}, status: {podIP: 10.0.0.3}}
---
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: ops}, spec: {order: 10, defaultAction: Pass}}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: ops.watch}
spec:
  tier: ops
  order: 1
  selector: app == 'a'
  ingress:
  - {action: Log, protocol: TCP}
  - {action: Deny, protocol: UDP}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p, namespace: x}
spec:
  podSelector: {matchLabels: {app: a}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: c}}}]
  - from: [{podSelector: {matchLabels: {app: b}}}]
    ports: [{port: 80}]
---
apiVersion: projectcalico.org/v3
kind: StagedNetworkPolicy
metadata: {name: default.late, namespace: x}
spec:
  order: 5
  selector: app == 'a'
  ingress: [{action: Allow, source: {selector: app == 'b'}}]
---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: gone.q, namespace: x}
spec: {tier: gone, selector: app == 'b', egress: [{action: Deny}]}
---
{apiVersion: v1, kind: Service, metadata: {name: s, namespace: x}, spec: {clusterIP: 10.96.0.1, ports: [{name: web, port: 8080}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: s-1, namespace: x, labels: {kubernetes.io/service-name: s}}
ports: [{name: web, port: 80}]
endpoints: [{addresses: [10.0.1.1]}, {addresses: [10.0.0.3]}]
";

/// Of two families: n4 has an address of IPv4 alone.
const FAMILIES: &str = "
{apiVersion: v1, kind: Node, metadata: {name: n1, annotations: {projectcalico.org/IPv4Address: 192.0.2.1/24, projectcalico.org/IPv6Address: '2001:db8:1::1/64'}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n2, annotations: {projectcalico.org/IPv6Address: '2001:db8:2::2/64', projectcalico.org/IPv6VXLANTunnelAddr: 'fd00::2:0'}}}
---
{apiVersion: v1, kind: Node, metadata: {name: n4, annotations: {projectcalico.org/IPv4Address: 192.0.2.4/24, projectcalico.org/IPv4VXLANTunnelAddr: 10.0.4.0}}}
---
{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: six}, spec: {cidr: 'fd00::/64', vxlanMode: CrossSubnet}}
---
{apiVersion: projectcalico.org/v3, kind: BlockAffinity, metadata: {name: n2}, spec: {cidr: 'fd00::2:0/122', node: n2, state: confirmed}}
---
{apiVersion: projectcalico.org/v3, kind: BlockAffinity, metadata: {name: n4}, spec: {cidr: 'fd00::4:0/122', node: n4, state: confirmed}}
---
{apiVersion: v1, kind: Pod, metadata: {name: a, namespace: x}, spec: {nodeName: n1}, status: {podIPs: [{ip: 'fd00::1:5'}]}}
";

fn margay(arguments: &[&str]) -> Output {
    margay_in(WORLD, arguments)
}

fn margay_in(world: &str, arguments: &[&str]) -> Output {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), world).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_margay"));
    command.arg("explain").arg("--manifests").arg(directory.path()).args(arguments).output().unwrap()
}

fn text(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = margay(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn a_tunnel_over_ipv6_and_one_over_the_other_family_are_told() {
    for (to, expected) in [
        (
            "fd00::2:7",
            "fd00::2:0/122 vxlan via 2001:db8:2::2 (node n2), tunnel to 2001:db8:2::2, 70 bytes more",
        ),
        ("fd00::4:7", "fd00::4:0/122 vxlan via 192.0.2.4 (node n4), tunnel to 192.0.2.4, 50 bytes more"),
    ] {
        let output = margay_in(FAMILIES, &["x/a", to, "tcp", "80"]);
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains(&format!("  route    on n1: {expected}, pool six\n")), "{text}");
    }
}

#[test]
fn a_denied_packet_is_explained_from_the_verdict_down() {
    let (code, text, stderr) = text(&["x/b", "x/a", "tcp", "81"]);
    let expected = r#"DENY  x/b -> x/a  tcp 81
  egress   allow  no policy selects x/b
  ingress  deny   end of tier default: no rule matches, and NetworkPolicy x/p selects x/a
  route    on gw: 10.0.1.0/24 ipip via 172.18.0.2 (node n2), tunnel to 172.18.0.2, 20 bytes more, pool pool
  staged   ingress would allow: StagedNetworkPolicy x/default.late rule 0, tier default

egress of x/b  10.0.0.2 on n1  app=b
  note: CalicoNetworkPolicy x/gone.q selects it and is not in force: there is no Tier gone

ingress of x/a  10.0.1.1 on n2  app=a
  tier ops  order 10
    GlobalNetworkPolicy ops.watch  order 1
      for app == "a"
    * rule 0  log: matches, and the next rules are asked
      rule 1  deny: not its protocol
  * end of tier: pass
  tier default  order 1000000
    NetworkPolicy x/p  order 1000
      for app == "a" && projectcalico.org/namespace == "x" && projectcalico.org/orchestrator == "k8s"
      rule 0  allow: not its source
      rule 1  allow: not its destination port
  * end of tier: deny
  if what is staged were enforced:
    tier ops  order 10
      GlobalNetworkPolicy ops.watch  order 1
        for app == "a"
      * rule 0  log: matches, and the next rules are asked
        rule 1  deny: not its protocol
    * end of tier: pass
    tier default  order 1000000
      StagedNetworkPolicy x/default.late  order 5
        for app == "a" && projectcalico.org/namespace == "x"
      * rule 0  allow: matches
      NetworkPolicy x/p  order 1000
        for app == "a" && projectcalico.org/namespace == "x" && projectcalico.org/orchestrator == "k8s"
        - 2 rules not asked
"#;
    assert_eq!((code, text.as_str()), (Some(1), expected), "{stderr}");
}

#[test]
fn the_verdict_and_what_decided_stand_first() {
    for (arguments, code, expected) in [
        (
            &["x/b", "x/a", "tcp", "80"][..],
            0,
            &["ALLOW  x/b -> x/a  tcp 80", "  ingress  allow  NetworkPolicy x/p rule 1, tier default"][..],
        ),
        (
            &["x/c", "x/a", "udp", "53"],
            1,
            &[
                "  ingress  deny   GlobalNetworkPolicy ops.watch rule 1, tier ops",
                "  tier default  order 1000000: not reached (1 policy)",
            ],
        ),
        (
            &["node:n2", "x/a", "icmp"],
            0,
            &[
                "  egress   allow  node n2 (172.18.0.2) has no policy that is asked here",
                "  ingress  allow  a node always reaches its own pods",
            ],
        ),
        (&["x/a", "x/a", "tcp", "1"], 0, &["  egress   allow  a pod always reaches itself"]),
        (
            &["198.51.100.7", "x/b", "47"],
            0,
            &[
                "  route    on gw: 10.0.0.0/24 ipip via 172.18.0.1 (node n1), tunnel to 172.18.0.1, 20 bytes more, pool pool",
            ],
        ),
        (
            &["x/b", "x/a", "tcp", "80", "--node", "n2"],
            0,
            &["  route    on n2: 10.0.1.1/32 local, pool pool"],
        ),
        (
            &["x/b", "10.0.1.77", "tcp", "80", "--node", "n2"],
            0,
            &["  route    on n2: 10.0.1.0/24 blackhole, pool pool"],
        ),
        (
            &["x/b", "198.51.100.7", "tcp", "80"],
            0,
            &["  route    on gw: none: no block of the cluster: the kernel's routes decide"],
        ),
        (
            &["x/b", "node:n2", "tcp", "80"],
            0,
            &["  route    on gw: none: an address of node n2: the kernel's routes lead there"],
        ),
        (
            &["x/b", "svc:x/s", "tcp", "8080"],
            0,
            &["ALLOW  to 10.0.1.1 port 80", "ALLOW  to 10.0.0.3 port 80"],
        ),
        (
            &["x/b", "svc:x/s", "tcp", "1"],
            1,
            &["  nobody answers: no ready endpoint, or a pod that has finished"],
        ),
    ] {
        let (status, text, stderr) = text(arguments);
        assert_eq!(status, Some(code), "{arguments:?}: {text}{stderr}");
        for line in expected {
            assert!(text.lines().any(|found| found == *line), "{arguments:?}: no {line:?} in\n{text}");
        }
    }
}

#[test]
fn json_has_what_people_are_told_and_more() {
    let output = margay(&["x/b", "x/a", "tcp", "81", "-o", "json"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packet = &answer["packets"][0];
    assert_eq!(
        (
            &answer["verdict"],
            &packet["src"],
            &packet["ingress"]["end"]["labels"]["pcns.kubernetes.io/metadata.name"]
        ),
        (&json!("deny"), &json!("10.0.0.2"), &json!("x"))
    );
    assert_eq!(
        packet["ingress"]["decided"],
        json!({"by": "end-of-tier", "tier": "default", "kind": "NetworkPolicy", "policy": "x/p"})
    );
    let rules = &packet["ingress"]["tiers"][1]["policies"][0]["rules"];
    assert_eq!(
        rules[1],
        json!({"rule": 1, "name": null, "action": "allow", "matches": false, "unmet": ["destination-port"]})
    );
    assert_eq!(packet["ingress"]["staged"]["is_change"], true);
    assert_eq!((&packet["route"]["kind"], &packet["route"]["overhead"]), (&json!("ipip"), &json!(20)));
}

#[test]
fn bad_input_exits_2_and_says_what_is_wrong() {
    for (arguments, expected) in [
        (&["x/b", "x/nobody", "tcp", "80"][..], "x/nobody is not in the manifests"),
        (&["x/b", "x", "tcp", "80"], "to: \"x\" is none of NAMESPACE/POD"),
        (&["x/b", "x/a", "tcp"], "port: is missing"),
        (&["x/b", "x/a", "tcp", "70000"], "port: \"70000\" is not a port"),
        (&["x/b", "x/a", "foo", "80"], "proto: \"foo\" is none of"),
        (&["x/b", "x/a", "tcp", "80", "--node", "n9"], "unknown node \"n9\""),
        (&["x/b", "x/a", "tcp", "80", "--family", "6"], "x/b has no IPv6 address"),
    ] {
        let (code, text, stderr) = text(arguments);
        assert_eq!((code, text.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }
}

/// What a walk says decided, as `check` says it.
fn decided(side: &Side) -> (Expect, Option<String>, Option<u32>) {
    match &side.decided {
        Decided::Rule { policy, rule, .. } => (side.verdict, Some(policy.clone()), Some(*rule)),
        Decided::EndOfTier { policy, .. } => (side.verdict, Some(policy.clone()), None),
        _ => (side.verdict, None, None),
    }
}

fn said(half: &Half) -> (Expect, Option<String>, Option<u32>) {
    (half.verdict, half.policy.clone(), half.rule)
}

/// Whether the tiers, as they are told, lead to what decided.
fn leads_there(tiers: &[TierTrace], verdict: Expect, decided: &Decided) -> bool {
    let word = |tier: &TierTrace| tier.outcome.map(|outcome| serde_json::to_value(outcome.action).unwrap());
    let last = tiers.iter().rfind(|tier| tier.outcome.is_some());
    let spoken = serde_json::to_value(verdict).unwrap();
    match (decided, last) {
        (Decided::Rule { tier, policy, rule, .. }, Some(last)) => {
            let asked =
                last.policies.iter().flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
            let matching = asked.rev().find(|(_, rule)| rule.matches == Some(true));
            last.tier == *tier
                && word(last) == Some(spoken)
                && matching.is_some_and(|(of, found)| of.policy == *policy && found.rule == *rule)
        }
        (Decided::EndOfTier { tier, policy, .. }, Some(last)) => {
            last.tier == *tier
                && word(last) == Some(spoken)
                && last.outcome.is_some_and(|outcome| outcome.is_default)
                && last.policies[0].policy == *policy
        }
        (Decided::Profiles, Some(last)) => word(last) == Some(json!("pass")) && verdict == Expect::Allow,
        (Decided::Rule { .. } | Decided::EndOfTier { .. } | Decided::Profiles | Decided::Broken, _) => false,
        (_, last) => last.is_none() && verdict == Expect::Allow,
    }
}

fn agree(cluster: &Cluster, probes: &[Probe]) -> Result<(), String> {
    let answers = check(cluster, probes).unwrap();
    for (probe, answer) in probes.iter().zip(answers) {
        let explanation = explain(cluster, probe, At::default()).unwrap();
        let wrong = |why: &str| Err(format!("{:?}: {why}: {answer:?}\n{explanation:#?}", probe.given));
        if explanation.verdict != answer.verdict {
            return wrong("another verdict");
        }
        let denied = explanation.packets.iter().find(|packet| packet.verdict == Expect::Deny);
        let Some(Explained { egress, ingress, .. }) = denied.or(explanation.packets.first()) else {
            continue;
        };
        if decided(egress) != said(&answer.egress) || decided(ingress) != said(&answer.ingress) {
            return wrong("another rule");
        }
        for side in explanation.packets.iter().flat_map(|packet| [&packet.egress, &packet.ingress]) {
            let staged = side.staged.iter();
            let mut walks = staged.map(|staged| leads_there(&staged.tiers, staged.verdict, &staged.decided));
            if !leads_there(&side.tiers, side.verdict, &side.decided) || walks.any(|leads| !leads) {
                return wrong("a walk that leads elsewhere");
            }
        }
    }
    Ok(())
}

#[test]
fn the_cases_are_decided_as_check_decides_them() {
    let cases = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../testbed/cases/policy");
    let cases: Vec<_> = fs::read_dir(cases).unwrap().map(|case| case.unwrap().path()).collect();
    assert!(cases.len() > 90, "{} cases", cases.len());
    for case in cases {
        let (cluster, _) = load_dir(case.join("manifests")).unwrap();
        let probes = probe::load(&case.join("probes.yaml")).unwrap();
        let step = probes.len().div_ceil(PROBES_OF_A_WORLD);
        let probes: Vec<Probe> = probes.into_iter().step_by(step).collect();
        agree(&cluster, &probes).unwrap_or_else(|why| panic!("{}: {why}", case.display()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_worlds_are_decided_as_check_decides_them(world in generate::world(&generate::Kind::ALL)) {
        let directory = tempfile::tempdir().unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": world.objects});
        fs::create_dir(directory.path().join("manifests")).unwrap();
        fs::write(directory.path().join("manifests/all.json"), list.to_string()).unwrap();
        let (cluster, _) = load_dir(directory.path().join("manifests")).unwrap();
        let file = directory.path().join("probes");
        fs::write(&file, Value::from(world.probes(PROBES_OF_A_WORLD)).to_string()).unwrap();
        let outcome = agree(&cluster, &probe::load(&file).unwrap());
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}
