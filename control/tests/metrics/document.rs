//! `docs/metrics.md` against what there is.

use std::collections::BTreeSet;

use super::{families, read};

#[test]
fn the_document_s_table_is_what_is_exposed() {
    let document = read("docs/metrics.md");
    let rows: Vec<&str> = document.lines().filter(|line| line.starts_with("| `")).collect();
    let expected: Vec<String> = families()
        .map(|family| {
            let labels: Vec<String> = family.labels.iter().map(|label| format!("`{label}`")).collect();
            let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
            format!("| `{}` | {} | {labels} | {} |", family.full_name(), family.kind, family.help)
        })
        .collect();
    assert_eq!(rows, expected, "the rows should be\n{}", expected.join("\n"));
}

#[test]
fn names_are_in_prometheus_style() {
    let mut seen = BTreeSet::new();
    for family in families() {
        let name = family.full_name();
        let is_ours = name.starts_with("margay_") || name.starts_with("process_");
        assert!(is_ours && seen.insert(name.clone()), "{name}");
        for word in family.labels.iter().copied().chain([name.as_str()]) {
            assert!(word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{word}");
        }
        // What is told beside names and labels is one line, and no part of the format.
        assert!(!family.help.contains(['\n', '\\', '"', '|']) && !family.help.ends_with('.'), "{name}");
        for unit in ["_milliseconds", "_microseconds", "_nanoseconds", "_kilobytes", "_percent"] {
            assert!(!name.contains(unit), "{name} is in no base unit");
        }
    }
}
