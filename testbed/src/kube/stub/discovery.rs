//! What is served, as the API's own documents say it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kube::resource::Resource;

/// The document at the path, if there is one.
pub(super) fn document(segments: &[String], served: &BTreeSet<Resource>) -> Option<Value> {
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["readyz"] => Some(json!("ok")),
        ["version"] => Some(json!({
            "major": "1", "minor": "33", "gitVersion": "v1.33.0-stub", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": "linux/amd64",
        })),
        ["api"] => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        ["apis"] => {
            let names: BTreeSet<&str> =
                served.iter().map(|resource| resource.group).filter(|group| !group.is_empty()).collect();
            let groups: Vec<Value> = names.into_iter().filter_map(|name| group(name, served)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["api", version] => resources("", version, served),
        ["apis", name] => group(name, served),
        ["apis", group, version] => resources(group, version, served),
        _ => None,
    }
}

fn group(name: &str, served: &BTreeSet<Resource>) -> Option<Value> {
    let versions: BTreeSet<&str> =
        served.iter().filter(|resource| resource.group == name).map(|resource| resource.version).collect();
    let versions: Vec<Value> = versions
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    let preferred = versions.last()?;
    Some(json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": name, "versions": versions, "preferredVersion": preferred,
    }))
}

fn resources(group: &str, version: &str, served: &BTreeSet<Resource>) -> Option<Value> {
    let of_version = served.iter().filter(|resource| (resource.group, resource.version) == (group, version));
    let resources: Vec<Value> = of_version
        .map(|resource| {
            json!({
                "name": resource.plural, "singularName": resource.kind.to_lowercase(), "kind": resource.kind,
                "namespaced": resource.namespaced,
                "verbs": ["create", "delete", "get", "list", "patch", "update", "watch"],
            })
        })
        .collect();
    let first = served.iter().find(|resource| (resource.group, resource.version) == (group, version))?;
    Some(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": first.api_version(), "resources": resources,
    }))
}
