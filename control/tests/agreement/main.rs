//! The program against a plain evaluator of policy: kept cases, and random worlds.

use std::cell::RefCell;
use std::env;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use margay_control::check::check;
use margay_control::manifest::load_dir;
use margay_control::probe::{self, Expect};
use margay_control::state::Cluster;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use serde_json::Value;

use generate::Kind;
use reference::Verdict;

mod generate;
mod hosts;
mod incremental;
mod reference;

/// Kinds of policies that the program enforces.
const KINDS: [Kind; 7] = Kind::ALL;
/// Asked of each random world; few, for a world says less the more it is asked.
const PROBES_OF_A_WORLD: usize = 200;
/// Asked of all random worlds where the environment variable `MARGAY_AGREEMENT_PROBES` does not say.
const PROBES: usize = 100_000;

/// Fields of policies that a rule or a policy may lack.
const FIELDS: [&str; 32] = [
    "defaultAction",
    "doNotTrack",
    "egress",
    "endPort",
    "except",
    "icmp",
    "ingress",
    "ipVersion",
    "matchExpressions",
    "matchLabels",
    "namespaceSelector",
    "networks",
    "nodes",
    "notICMP",
    "notNets",
    "notPorts",
    "notProtocol",
    "notSelector",
    "order",
    "podSelector",
    "policyTypes",
    "ports",
    "preDNAT",
    "priority",
    "protocol",
    "protocols",
    "selector",
    "serviceAccountSelector",
    "serviceAccounts",
    "services",
    "tier",
    "types",
];
/// Worlds that are looked at before a field is said to decide nothing.
const WORLDS_TO_TRY: usize = 2_000;

const CASES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../testbed/cases/policy");
/// What random worlds found, in the form of the cases.
const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/regressions");

/// The directories in one, if it is there: a case each.
fn cases(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut cases: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

#[test]
fn the_plain_evaluator_says_what_each_case_expects() {
    let mut wrong = Vec::new();
    let given = cases(CASES);
    assert!(given.len() > 90, "{} cases", given.len());
    for case in [given, cases(REGRESSIONS)].concat() {
        let world = reference::World::new(&reference::file::objects(&case.join("manifests")));
        for probe in reference::file::probes(&case.join("probes.yaml")) {
            let verdict = reference::probe::verdict(&world, &probe);
            if verdict.allows() != (probe["expect"] == "allow") {
                wrong.push(format!("{}: {probe}: {verdict:?}", case.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_program_says_what_each_regression_expects() {
    for case in cases(REGRESSIONS) {
        let cluster = load(&case.join("manifests")).unwrap();
        for answer in check(&cluster, &probe::load(&case.join("probes.yaml")).unwrap()).unwrap() {
            assert!(answer.agrees(), "{}: {answer:?}", case.display());
        }
    }
}

/// A field that random worlds never hang on would hold nobody to anything.
#[test]
fn every_field_decides_something_in_random_worlds() {
    let worlds = generate::world(&Kind::ALL);
    let mut runner = TestRunner::new(Config::default());
    let mut undecided: Vec<&str> = FIELDS.to_vec();
    for _ in 0..WORLDS_TO_TRY {
        let sample = worlds.new_tree(&mut runner).unwrap().current();
        let probes = sample.probes(PROBES_OF_A_WORLD);
        let verdicts = |objects: &[Value]| {
            let world = reference::World::new(objects);
            probes.iter().map(|probe| reference::probe::verdict(&world, probe)).collect::<Vec<_>>()
        };
        let whole = verdicts(&sample.objects);
        let is_written = |field: &str| sample.objects.iter().any(|object| has(&object["spec"], field));
        undecided.retain(|field| {
            !is_written(field) || {
                let mut objects = sample.objects.clone();
                for object in &mut objects {
                    remove(&mut object["spec"], field);
                }
                verdicts(&objects) == whole
            }
        });
        if undecided.is_empty() {
            return;
        }
    }
    panic!("these fields decided nothing: {undecided:?}");
}

fn has(value: &Value, field: &str) -> bool {
    match value {
        Value::Object(fields) => fields.contains_key(field) || fields.values().any(|value| has(value, field)),
        Value::Array(items) => items.iter().any(|item| has(item, field)),
        _ => false,
    }
}

fn remove(value: &mut Value, field: &str) {
    match value {
        Value::Object(fields) => {
            fields.remove(field);
            fields.values_mut().for_each(|value| remove(value, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| remove(item, field)),
        _ => {}
    }
}

#[test]
fn the_program_and_the_plain_evaluator_agree_on_random_worlds() {
    let probes = env::var("MARGAY_AGREEMENT_PROBES").map_or(PROBES, |count| count.parse().expect("a count"));
    let cases = probes.div_ceil(PROBES_OF_A_WORLD) as u32;
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    // A world that shrinks is asked other probes: the one that told the two apart is asked of it too, if it can be.
    let found: RefCell<Option<Value>> = RefCell::new(None);
    let outcome = runner.run(&generate::world(&KINDS), |world| {
        let known = found.borrow().clone().filter(|probe| world.has_ends_of(probe));
        let probes: Vec<_> = known.into_iter().chain(world.probes(PROBES_OF_A_WORLD)).collect();
        compare(&world.objects, &probes).map_err(|(probe, difference)| {
            found.replace(probe);
            TestCaseError::fail(difference)
        })
    });
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(difference, world)) => panic!("{difference}\n{}", manifest(&world.objects)),
        Err(error) => panic!("{error}"),
    }
}

/// The first probe that the two do not say the same of, and what they say.
fn compare(objects: &[Value], probes: &[Value]) -> Result<(), (Option<Value>, String)> {
    let directory = tempfile::tempdir().unwrap();
    let manifests = directory.path().join("manifests");
    fs::create_dir(&manifests).unwrap();
    fs::write(manifests.join("all.yaml"), manifest(objects)).unwrap();
    let cluster = load(&manifests).map_err(|problem| (None, problem))?;
    let answers = answers(&cluster, &directory.path().join("probes.yaml"), probes);
    let world = reference::World::new(objects);
    for (probe, program) in probes.iter().zip(answers) {
        let plain = reference::probe::verdict(&world, probe);
        if plain != program {
            let difference = format!("{probe}\nplain:   {plain:?}\nprogram: {program:?}");
            return Err((Some(probe.clone()), difference));
        }
    }
    Ok(())
}

/// The objects of a directory, if nothing is said against them.
fn load(manifests: &Path) -> Result<Cluster, String> {
    let (cluster, problems) = load_dir(manifests).unwrap();
    // Domain names are reported, and all else of their policy is in force.
    let problem = problems.iter().map(ToString::to_string).find(|problem| !problem.contains("domainNames"));
    problem.map_or(Ok(cluster), Err)
}

fn answers(cluster: &Cluster, file: &Path, probes: &[Value]) -> Vec<Verdict> {
    fs::write(file, Value::from(probes).to_string()).unwrap();
    let answers = check(cluster, &probe::load(file).unwrap()).unwrap();
    let verdicts = answers.iter().map(|answer| Verdict {
        egress: answer.egress.verdict == Expect::Allow,
        ingress: answer.ingress.verdict == Expect::Allow,
    });
    verdicts.collect()
}

/// The objects as a file of documents, one a line.
fn manifest(objects: &[Value]) -> String {
    objects.iter().fold(String::new(), |mut text, object| {
        writeln!(text, "---\n{object}").unwrap();
        text
    })
}
