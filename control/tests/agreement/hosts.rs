//! Host endpoints: the program against the plain evaluator, on random worlds.

use std::cell::RefCell;
use std::fs;

use margay_control::compile::interfaces;
use margay_control::compile::policy::{self, Serves};
use margay_flowtable::{Interface, Passage, PortId, Tuple, Verdict, classify_host, classify_untracked};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::Value;

use crate::reference::{self, Packet, host};
use crate::{generate, load, manifest};

const WORLDS: u32 = 120;
const PROBES_OF_A_WORLD: usize = 30;
const NODE: &str = "n0";

/// Interfaces as the program has them, and as documents do.
const INTERFACES: [(Interface, host::Interface); 4] = [
    (Interface::Pod, host::Interface { name: None, is_uplink: false }),
    (Interface::Ipip, host::Interface { name: Some("tunl0"), is_uplink: false }),
    (Interface::Vxlan, host::Interface { name: Some("vxlan.calico"), is_uplink: false }),
    (Interface::Uplink(PortId(0)), host::Interface { name: Some("eth0"), is_uplink: true }),
];

/// How often policies had a say.
#[derive(Debug, Default)]
struct Seen {
    untracked: usize,
    denied_in: usize,
    denied_out: usize,
}

impl Seen {
    fn note(&mut self, verdict: host::Verdict) {
        self.untracked += usize::from(verdict.untracked.is_some());
        self.denied_in += usize::from(!verdict.ingress);
        self.denied_out += usize::from(!verdict.egress);
    }
}

fn tuple(packet: &Packet) -> Tuple {
    let Packet { src, dst, protocol, sport, dport, icmp } = *packet;
    Tuple { src, dst, protocol, sport, dport, icmp: matches!(protocol, 1 | 58).then_some(icmp) }
}

/// Asks both about each packet, at each interface that it may come in by, and one that it leaves by.
fn compare(objects: &[Value], probes: &[Value], seen: &mut Seen) -> Result<(), String> {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("all.yaml"), manifest(objects)).unwrap();
    let cluster = load(directory.path())?;
    let (_, mut compiler) = policy::compile(&cluster, Serves::All);
    compiler.set_host(NODE, interfaces::of_object(&cluster.nodes[NODE], Some("eth0".to_owned())));
    let policies = compiler.finish(&cluster).0;
    let world = reference::World::new(objects);
    let packets = probes.iter().flat_map(|probe| reference::probe::packets(&world, probe));
    for (i, packet) in packets.enumerate() {
        let exit = INTERFACES.get(i % (INTERFACES.len() + 1));
        for (entry, written) in INTERFACES {
            let plain = host::verdict(&world, NODE, &packet, written, exit.map(|(_, written)| *written));
            let is_allowed = |verdict| verdict == Verdict::Allow;
            let untracked = classify_untracked(&policies, entry, &tuple(&packet), &mut |_| {});
            let passage = Passage { entry: Some(entry), exit: exit.map(|(exit, _)| *exit) };
            let said = classify_host(&policies, passage, &tuple(&packet), &mut |_, _| {});
            let program = host::Verdict {
                untracked: untracked.map(|decision| is_allowed(decision.verdict)),
                ingress: is_allowed(said.ingress.verdict),
                egress: is_allowed(said.egress.verdict),
            };
            if plain != program {
                return Err(format!("{packet:?} {passage:?}\nplain:   {plain:?}\nprogram: {program:?}"));
            }
            seen.note(plain);
        }
    }
    Ok(())
}

#[test]
fn the_program_and_the_plain_evaluator_agree_on_host_endpoints() {
    let config = Config { cases: WORLDS, failure_persistence: None, ..Config::default() };
    let seen = RefCell::new(Seen::default());
    let outcome = TestRunner::new(config).run(&generate::world_of_hosts(), |world| {
        let probes = world.probes(PROBES_OF_A_WORLD);
        compare(&world.objects, &probes, &mut seen.borrow_mut()).map_err(TestCaseError::fail)
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(difference, world)) => panic!("{difference}\n{}", manifest(&world.objects)),
        Err(error) => panic!("{error}"),
    }
    let Seen { untracked, denied_in, denied_out } = seen.into_inner();
    let least = untracked.min(denied_in).min(denied_out);
    assert!(least > 0, "{untracked} decided before tracking, {denied_in} and {denied_out} denied");
}
