//! Whose programs are asked, and what tiers, ends and logs do.

use super::*;

const A: u32 = 0x0a00_0001;
const B: u32 = 0x0a00_0002;
/// Known, but not served here.
const ELSEWHERE: u32 = 0x0a00_0003;
const NODE: u32 = 0x0b00_0001;

/// A tier.
type RulesAndEnd<'a> = (&'a [(u32, Action)], TierEnd);

/// A world in which `A` and `B`, on `NODE`, have rules of their own in either direction.
#[derive(Default)]
struct World {
    policies: Policies,
}

impl World {
    fn new() -> Self {
        let mut world = Self::default();
        world.policies.nodes = Arc::new([v4(NODE)].into_iter().collect());
        for (number, address) in [(0, A), (1, B), (2, ELSEWHERE)] {
            let endpoint = (address != ELSEWHERE).then_some(EndpointId(number));
            let holder = Holder { identity: IdentityId(number), endpoint };
            world.policies.addresses.insert(v4(address), holder);
            let endpoint = Endpoint { name: "ns/pod".into(), node_addresses: [v4(NODE)].into() };
            world.policies.endpoints.set(number, Arc::new(endpoint));
        }
        world
    }

    /// A program of tiers of rules with these ids and actions, each with what it does at its end. The end of tier `n`
    /// is rule `1000 + n`.
    fn program(&mut self, tiers: &[RulesAndEnd<'_>]) -> ProgramId {
        let tier = |(number, (rules, end)): (u32, &RulesAndEnd<'_>)| {
            let rule = |&(id, action): &(u32, Action)| Rule { id: RuleId(id), action, ..Rule::default() };
            // Each rule is a segment, so that evaluation crosses them.
            let segments = rules.iter().map(|each| {
                let segment = segment(&self.policies, PolicyType::Ingress, &[rule(each)], 0);
                let id = self.policies.segments.len() as u32;
                self.policies.segments.set(id, Arc::new(segment));
                SegmentId(id)
            });
            let segments = segments.collect();
            Tier { name: "tier".into(), segments, end: *end, end_rule: RuleId(1000 + number) }
        };
        let tiers = (0..).zip(tiers).map(tier).collect();
        let id = self.policies.programs.len() as u32;
        self.policies.programs.set(id, Arc::new(Program::new(tiers)));
        ProgramId(id)
    }

    fn classify(&self, src: u32, dst: u32) -> (Classification, Vec<u32>) {
        let mut logged = Vec::new();
        let tuple = tuple(v4(src), v4(dst), 80);
        let classification = classify(&self.policies, &tuple, &mut |_, rule| logged.push(rule.0));
        (classification, logged)
    }
}

fn decision(verdict: Verdict, rule: u32) -> Decision {
    Decision { verdict, rule: RuleId(rule) }
}

#[test]
fn tiers_in_turn() {
    use Action::{Allow, Deny, Log, Pass};
    let none = RuleId::NONE.0;
    let cases: &[(&[RulesAndEnd<'_>], Verdict, u32, &[u32])] = &[
        (&[], Verdict::Allow, none, &[]),
        (&[(&[(1, Allow), (2, Deny)], TierEnd::Deny)], Verdict::Allow, 1, &[]),
        (&[(&[(1, Deny), (2, Allow)], TierEnd::Pass)], Verdict::Deny, 1, &[]),
        (&[(&[], TierEnd::Deny)], Verdict::Deny, 1000, &[]),
        (&[(&[], TierEnd::Allow), (&[(1, Deny)], TierEnd::Deny)], Verdict::Allow, 1000, &[]),
        (&[(&[(1, Log)], TierEnd::Deny)], Verdict::Deny, 1000, &[1]),
        (&[(&[(1, Log), (2, Log), (3, Allow), (4, Log)], TierEnd::Deny)], Verdict::Allow, 3, &[1, 2]),
        (&[(&[(1, Pass), (2, Deny)], TierEnd::Deny), (&[(3, Deny)], TierEnd::Pass)], Verdict::Deny, 3, &[1]),
        (&[(&[(1, Log)], TierEnd::Pass), (&[], TierEnd::Deny)], Verdict::Deny, 1001, &[1, 1000]),
        (&[(&[], TierEnd::Pass), (&[(1, Pass)], TierEnd::Deny)], Verdict::Allow, none, &[1000, 1]),
    ];
    for (tiers, verdict, rule, log) in cases {
        let mut world = World::new();
        let ingress = world.program(tiers);
        world.policies.obeys.set(1, Obeys { ingress, ..Obeys::default() });
        let (classification, logged) = world.classify(A, B);
        assert_eq!(classification.ingress, decision(*verdict, *rule), "{tiers:?}");
        assert_eq!(classification.egress, Decision::ALLOW);
        assert_eq!(logged, *log, "{tiers:?}");
    }
}

#[test]
fn programs_of_who_is_served() {
    let mut world = World::new();
    let deny = |world: &mut World, id| world.program(&[(&[(id, Action::Deny)], TierEnd::Deny)]);
    for number in 0..3 {
        let egress = deny(&mut world, number * 10 + 1);
        let ingress = deny(&mut world, number * 10 + 2);
        let to_node = deny(&mut world, number * 10 + 3);
        let staged_egress = Some(world.program(&[(&[(number * 10 + 4, Action::Allow)], TierEnd::Deny)]));
        let obeys = Obeys { egress, ingress, to_node, staged_egress, staged_ingress: None };
        world.policies.obeys.set(number, obeys);
    }
    let none = RuleId::NONE.0;
    for (src, dst, egress, ingress, staged) in [
        (A, B, 1, 12, Some(4)),
        (B, A, 11, 2, Some(14)),
        (A, A, none, none, None),
        (A, ELSEWHERE, 1, none, Some(4)),
        (ELSEWHERE, A, none, 2, None),
        (ELSEWHERE, 0x0c00_0001, none, none, None),
        (A, NODE, 3, none, None),
        (NODE, A, none, none, None),
    ] {
        let (classification, _) = world.classify(src, dst);
        let rules = (classification.egress.rule.0, classification.ingress.rule.0);
        assert_eq!(rules, (egress, ingress), "{src:x} to {dst:x}");
        let denies = egress != none || ingress != none;
        assert_eq!(classification.verdict() == Verdict::Deny, denies, "{src:x} to {dst:x}");
        let tuple = tuple(v4(src), v4(dst), 80);
        let expected = staged.map(|rule| decision(Verdict::Allow, rule));
        let expected = Staged { egress: expected, ingress: None };
        assert_eq!(classify_staged(&world.policies, &tuple), expected);
        let both = classify_with_staged(&world.policies, &tuple, &mut |_, _| {});
        assert_eq!(both, (classification, expected));
    }
}

#[test]
fn what_is_passed_is_told_with_whose_policy_it_is_of() {
    use Action::{Allow, Deny, Log, Pass};
    let mut world = World::new();
    let mut passing = |n: u32| {
        world.program(&[(&[(n, Log), (n + 1, Pass)], TierEnd::Deny), (&[(n + 2, Allow)], TierEnd::Deny)])
    };
    let (egress, ingress, to_node) = (passing(10), passing(20), passing(30));
    let staged_ingress = Some(world.program(&[(&[(20, Log), (41, Log), (42, Deny)], TierEnd::Deny)]));
    let obeys = Obeys { egress, ingress, to_node, staged_egress: None, staged_ingress };
    for number in 0..2 {
        world.policies.obeys.set(number, obeys);
    }
    let (out, into) = (PolicyType::Egress, PolicyType::Ingress);
    let enforced = [(out, 10), (out, 11), (into, 20), (into, 21)];
    let (mut told, tuple) = (Vec::new(), tuple(v4(A), v4(B), 80));
    classify(&world.policies, &tuple, &mut |way, rule| told.push((way, rule.0)));
    assert_eq!(told, enforced);
    classify_with_staged(&world.policies, &tuple, &mut |way, rule| told.push((way, rule.0)));
    assert_eq!(told[4..8], enforced);
    assert_eq!(told[8..], [(into, 20), (into, 41)], "what is staged comes last");
    told.clear();
    let tuple = Tuple { dst: v4(NODE), ..tuple };
    classify_to_node(&world.policies, &tuple, &mut |way, rule| told.push((way, rule.0)));
    assert_eq!(told, [(out, 30), (out, 31)]);
}

#[test]
fn identity_without_entry_obeys_nothing_and_a_missing_part_denies() {
    let mut world = World::new();
    assert_eq!(world.classify(A, B).0.verdict(), Verdict::Allow);
    let obeys = |ingress| Obeys { ingress, ..Obeys::default() };
    world.policies.obeys.set(1, obeys(ProgramId(77)));
    assert_eq!(world.classify(A, B).0.ingress, Decision::BROKEN);
    let ingress = world.program(&[(&[(1, Action::Allow)], TierEnd::Deny)]);
    world.policies.obeys.set(1, obeys(ingress));
    assert_eq!(world.classify(A, B).0.verdict(), Verdict::Allow);
    world.policies.segments.remove(0);
    assert_eq!(world.classify(A, B).0.ingress, Decision::BROKEN);
}
