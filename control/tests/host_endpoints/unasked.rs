//! Policies for host endpoints that nobody is asked about are told, with the field that makes them so.

use crate::world::{World, host_endpoint, pod, policy, staged_policy, tier};

const DENY: &str = "ingress: [{action: Deny}]";

#[test]
fn policies_for_host_endpoints_that_are_asked_nowhere_are_told() {
    let endpoint = |name: &str, interface: &str| {
        host_endpoint(name, name, &format!("node: gw\ninterfaceName: '{interface}'"))
    };
    let far = || host_endpoint("far", "far", "node: other\ninterfaceName: '*'");
    let of = |field: &str, selector: &str, rules: &str| {
        policy("p", &format!("selector: {selector}\n{field}: true\napplyOnForward: true\n{rules}"))
    };
    let alone = "the policy is for host endpoints alone, and selects no HostEndpoint";
    let outward = "the policy has no type Ingress";
    let everywhere = "at a HostEndpoint for all interfaces (*) nothing is asked before connection tracking";
    for (what, objects, expected) in [
        (
            "pods alone",
            vec![of("preDNAT", "app == 'web'", DENY), endpoint("edge", "eth0")],
            Some(("preDNAT", alone)),
        ),
        ("pods alone", vec![of("doNotTrack", "all()", DENY)], Some(("doNotTrack", alone))),
        (
            "staged",
            vec![staged_policy("p", &format!("selector: all()\npreDNAT: true\n{DENY}"))],
            Some(("preDNAT", alone)),
        ),
        (
            "everywhere",
            vec![of("doNotTrack", "all()", DENY), endpoint("all", "*")],
            Some(("doNotTrack", everywhere)),
        ),
        ("everywhere is good enough", vec![of("preDNAT", "all()", DENY), endpoint("all", "*")], None),
        (
            "everywhere, and at an uplink",
            vec![of("doNotTrack", "all()", DENY), endpoint("all", "*"), endpoint("edge", "eth0")],
            None,
        ),
        (
            "everywhere, where the one at an uplink has another label",
            vec![of("doNotTrack", "role == 'all'", DENY), endpoint("all", "*"), endpoint("edge", "eth0")],
            Some(("doNotTrack", everywhere)),
        ),
        ("a tunnel", vec![of("doNotTrack", "all()", DENY), endpoint("t", "vxlan.calico")], None),
        (
            "what leaves",
            vec![of("doNotTrack", "all()", "egress: [{action: Deny}]"), endpoint("edge", "eth0")],
            Some(("doNotTrack", outward)),
        ),
        (
            "both ways",
            vec![
                of("doNotTrack", "all()", &format!("{DENY}\negress: [{{action: Deny}}]")),
                endpoint("edge", "eth0"),
            ],
            None,
        ),
        ("another node's business", vec![of("doNotTrack", "all()", DENY), far()], None),
        (
            "pods and what is forwarded",
            vec![policy("p", &format!("selector: all()\napplyOnForward: true\n{DENY}"))],
            None,
        ),
    ] {
        let world = World::new(&[objects, vec![pod("10.65.10.5")]].concat());
        let told: Vec<String> = world.compiler.not_in_force().map(|policy| policy.to_string()).collect();
        let Some((field, why)) = expected else {
            assert_eq!(told, Vec::<String>::new(), "{what}");
            continue;
        };
        let head = format!("GlobalNetworkPolicy p: spec.{field}: {why}");
        assert!(
            told.len() == 1 && told[0].trim_start_matches("Staged").starts_with(&head),
            "{what}: {told:?}"
        );
    }
}

#[test]
fn a_policy_that_is_gone_or_has_no_tier_is_not_told_twice() {
    let spec = "selector: all()\npreDNAT: true\napplyOnForward: true\ningress: [{action: Deny}]";
    let early = policy("early.p", &format!("tier: early\n{spec}"));
    let told = |objects: &[String]| -> Vec<String> {
        World::new(objects).compiler.not_in_force().map(|policy| policy.to_string()).collect()
    };
    let tierless = told(std::slice::from_ref(&early));
    assert!(tierless.len() == 1 && tierless[0].contains("spec.tier"), "{tierless:?}");
    let with_tier = told(&[early.clone(), tier("early", "{order: 10}")]);
    assert!(with_tier.len() == 1 && with_tier[0].contains("spec.preDNAT"), "{with_tier:?}");

    let mut world = World::new(&[early.clone(), tier("early", "{order: 10}")]);
    world.compiler.apply(vec![crate::changes::removal(&crate::changes::change(&early))]);
    assert_eq!(world.compiler.not_in_force().count(), 0);
}
