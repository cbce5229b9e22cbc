//! Policies of every kind, read from manifests: what each says in the one form, and how what is wrong is named.

mod admin;
mod calico;
mod hostile;
mod kubernetes;
mod objects;
mod shown;

use std::fs;

use margay_control::manifest::load_dir;
use margay_control::state::Cluster;
use margay_control::state::policy::Policy;

/// Reads one text; problems are shown without the directory before the file's name.
fn load(text: &str) -> (Cluster, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a.yaml"), text).unwrap();
    let (cluster, problems) = load_dir(directory.path()).unwrap();
    let prefix = format!("{}/", directory.path().display());
    (cluster, problems.iter().map(|problem| problem.to_string().replace(&prefix, "")).collect())
}

/// An object of the kind with `spec` as YAML; its name is `NAMESPACE/NAME`, or `NAME`.
fn object(api_version: &str, kind: &str, name: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').unwrap_or(("", name));
    let spec = spec.replace('\n', "\n  ");
    format!(
        "apiVersion: {api_version}\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: '{namespace}'\nspec:\n  {spec}\n"
    )
    .replace("  namespace: ''\n", "")
}

/// The one policy of a text that has no problem.
fn policy(text: &str) -> Policy {
    let (cluster, problems) = load(text);
    assert!(problems.is_empty(), "{text}{problems:?}");
    let [policy] = cluster.policies.values().collect::<Vec<_>>()[..] else { panic!("{text}") };
    (**policy).clone()
}

/// The object is refused, by one problem that contains `expected`.
fn refused(text: &str, expected: &str) {
    let (cluster, problems) = load(text);
    assert!(cluster.policies.is_empty(), "{text}");
    assert!(
        problems.len() == 1 && problems[0].contains(expected),
        "{text}expected {expected}, got {problems:#?}"
    );
}
