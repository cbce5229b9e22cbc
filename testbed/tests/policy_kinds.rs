//! Policies of every kind, asked by real packets: the verdicts of `margay check` on one case of the policy cases, which is
//! a laboratory's world too. They need root.

mod common;

use std::fs;
use std::path::Path;

use common::{Options, TestLab, assert_agree};

#[test]
fn packets_fare_as_the_kinds_of_policy_together_say() {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases/policy/lab-mixed-kinds");
    let manifest =
        |name: &'static str| (name, fs::read_to_string(case.join("manifests").join(name)).unwrap());
    let extra = vec![manifest("cluster.yaml"), manifest("policies.yaml")];
    let lab = TestLab::own(Options { extra, ..Options::default() });
    let outcomes = lab.probe_file(&case.join("probes.yaml"));
    assert_eq!(outcomes.len(), 50);
    assert_agree(&outcomes, &[]);
    // What is staged denies everything and changes nothing.
    assert_eq!(lab.status("m1")["source"]["problems"], serde_json::json!([]));
}
