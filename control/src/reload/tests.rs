//! That every field has a fate, and what is told of changes.

use std::collections::BTreeSet;
use std::path::Path;

use super::fields::{FIELDS, UPLINK};
use super::{Reloaded, take};
use crate::config::{Config, Loaded};

const UNKNOWN: &str = "no-such-key";

/// The keys of a table by what the error about an unknown one says; `None` where there is no such table.
fn keys(header: &str) -> Option<Vec<String>> {
    let text = format!("{header}\n{UNKNOWN} = 1");
    let error = Config::parse(Path::new("m.toml"), &text).expect_err("there is no such key").to_string();
    let (_, valid) = error.split_once(&format!("unknown key `{UNKNOWN}`"))?.1.split_once("(valid: ")?;
    Some(valid.trim_end_matches(')').split(", ").map(str::to_owned).collect())
}

fn leaves(table: &str, found: &mut BTreeSet<String>) {
    let header = if table.is_empty() { String::new() } else { format!("[{table}]") };
    for key in keys(&header).expect("a table") {
        let path = if table.is_empty() { key } else { format!("{table}.{key}") };
        if keys(&format!("[{path}]")).is_some() {
            leaves(&path, found);
        } else {
            found.insert(path);
        }
    }
}

#[test]
fn what_becomes_of_every_field_is_decided() {
    let mut all = BTreeSet::new();
    leaves("", &mut all);
    assert!(all.len() > 50 && all.contains("tunnel.vxlan.mtu"), "{all:?}");
    let decided: BTreeSet<String> = FIELDS.iter().map(|field| field.path.to_owned()).collect();
    assert_eq!(decided, all, "reload/fields.rs says what a reload does with each field");
    let mut of_uplink: BTreeSet<String> = UPLINK.iter().map(|key| (*key).to_owned()).collect();
    of_uplink.insert("device".to_owned());
    assert_eq!(of_uplink, keys("[[uplink]]").expect("a table").into_iter().collect());
}

fn loaded(text: &str) -> Loaded {
    Loaded::new(Config::parse(Path::new("m.toml"), text).expect(text), text)
}

/// `FIELD: FROM -> TO` of what is applied, and of what needs a restart.
fn lines(reloaded: &Reloaded) -> [Vec<String>; 2] {
    [&reloaded.applied, &reloaded.needs_restart]
        .map(|changes| changes.iter().map(ToString::to_string).collect())
}

#[test]
fn what_changes_is_told_as_it_is_written() {
    let cases: [(&str, &str, &[&str], &[&str]); 8] = [
        ("", "", &[], &[]),
        ("", "log.level = \"info\"", &[], &[]),
        ("", "[log]\nlevel = \"debug\"", &["log.level: default -> debug"], &[]),
        (
            "tunnel.vxlan.mtu = 1400",
            "tunnel.vni = 7",
            &["tunnel.vni: default -> 7", "tunnel.vxlan.mtu: 1400 -> default"],
            &[],
        ),
        (
            "umem.frames = 4096",
            "umem.frames = 8192\nworkers.cores = [1]",
            &[],
            &["workers.cores: default -> [1]", "umem.frames: 4096 -> 8192"],
        ),
        (
            "[[uplink]]\ndevice = \"a\"\nmtu = 1400",
            "[[uplink]]\ndevice = \"b\"",
            &["uplink[a]: there -> none", "uplink[b]: none -> there"],
            &[],
        ),
        (
            "[[uplink]]\ndevice = \"a\"\nmtu = 1400",
            "[[uplink]]\ndevice = \"a\"\non_failure = \"drop\"",
            &["uplink[a].on_failure: default -> drop", "uplink[a].mtu: 1400 -> default"],
            &[],
        ),
        (
            "conntrack.udp = \"1m\"",
            "[conntrack]\nudp = \"2m\"\nmid_flow = \"drop\"",
            &["conntrack.mid_flow: default -> drop"],
            &["conntrack.udp: 1m -> 2m"],
        ),
    ];
    for (before, after, applied, needs_restart) in cases {
        let (mut running, new) = (loaded(before), loaded(after));
        assert_eq!(lines(&take(&mut running, &new)), [applied, needs_restart], "{before:?} -> {after:?}");
        // What is applied is not told again, what needs a restart is.
        assert_eq!(lines(&take(&mut running, &new)), [&[], needs_restart], "{before:?} -> {after:?}, again");
        // And back: nothing waits for a restart any more.
        assert_eq!(lines(&take(&mut running, &loaded(before)))[1], [""; 0], "{after:?} -> {before:?}");
        assert_eq!(running.config, loaded(before).config);
    }
}
