//! What the dashboard and the alerts ask for: metrics that there are, by labels that they have.

use std::collections::BTreeSet;
use std::fmt;

use margay_control::config::Config;
use margay_fastpath::DropReason;
use serde_json::Value;

use super::promql::{Asked, Selector};
use super::{labels_of, read};

/// What Prometheus adds to the series of a target.
const TARGET: [&str; 2] = ["instance", "job"];

/// An expression of `PromQL`, and where it stands.
struct Query {
    place: String,
    text: String,
}

impl Query {
    fn new(place: &str, text: &Value) -> Self {
        let text = text.as_str().unwrap_or_else(|| panic!("{place} asks nothing")).to_owned();
        Self { place: place.to_owned(), text }
    }

    /// The labels that any series of the expression have. Panics where it asks for what there is not.
    fn check(&self) -> BTreeSet<String> {
        // Grafana's variables are of its own.
        let text = self.text.replace("$__rate_interval", "5m").replace("$instance", "a");
        let Asked { selectors, named } = Asked::of(&text);
        assert!(!selectors.is_empty(), "{self} selects nothing");
        let mut labels: BTreeSet<String> = TARGET.map(str::to_owned).into();
        for Selector { metric, matchers } in selectors {
            // Prometheus' own, of each target.
            let known = if metric == "up" { Some(BTreeSet::new()) } else { labels_of(&metric) };
            let known = known.unwrap_or_else(|| panic!("{self}: there is no {metric}"));
            for (label, value) in &matchers {
                let is_known = known.contains(label.as_str()) || TARGET.contains(&label.as_str());
                assert!(is_known, "{self}: {metric} has no label {label}");
                check_values(self, label, value);
            }
            labels.extend(known.into_iter().map(str::to_owned));
        }
        let unknown: Vec<_> = named.difference(&labels).collect();
        assert!(unknown.is_empty(), "{self} names the labels {unknown:?}, which its series lack");
        labels
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Where a label has certain values alone, it is asked for those.
fn check_values(query: &Query, label: &str, value: &str) {
    let known: Vec<&str> = match label {
        "reason" => DropReason::ALL.iter().map(|reason| reason.word()).collect(),
        "kind" => vec!["uplink", "pod", "host"],
        "place" => vec!["spare", "pools", "handed-over", "ports"],
        _ => return,
    };
    for value in value.split('|') {
        assert!(known.contains(&value), "{query}: {label} is never {value}");
    }
}

/// What stands in double braces, as Grafana's legends and the templates of alerts have labels.
fn templated(text: &str) -> impl Iterator<Item = &str> {
    text.split("{{").skip(1).map(|rest| rest.split_once("}}").expect("braces that close").0.trim())
}

#[test]
fn the_dashboard_asks_for_what_there_is() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana-dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let (mut ids, mut asked) = (BTreeSet::new(), 0);
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        for target in panel["targets"].as_array().unwrap() {
            asked += 1;
            let labels = Query::new(title, &target["expr"]).check();
            for label in templated(target["legendFormat"].as_str().unwrap()) {
                assert!(labels.contains(label), "{title}: no label {label}");
            }
        }
    }
    assert!(asked >= panels.len(), "every panel asks for something");
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let Some(query) = variable["query"]["query"].as_str() else { continue };
        let inside = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
        let (metric, label) = inside.and_then(|inside| inside.split_once(", ")).unwrap();
        let labels = labels_of(metric).unwrap_or_else(|| panic!("there is no {metric}"));
        assert!(labels.contains(label) || TARGET.contains(&label), "{query}");
    }
}

#[test]
fn the_alerts_ask_for_what_there_is() {
    let rules: Value = serde_saphyr::from_str(&read("deploy/alerts.yaml")).unwrap();
    let groups = rules["groups"].as_array().unwrap();
    let mut names = BTreeSet::new();
    for rule in groups.iter().flat_map(|group| group["rules"].as_array().unwrap()) {
        let name = rule["alert"].as_str().unwrap();
        assert!(names.insert(name) && name.starts_with("Margay"), "{name}");
        let labels = Query::new(name, &rule["expr"]).check();
        assert!(
            ["critical", "warning", "info"].contains(&rule["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str().unwrap_or_else(|| panic!("{name} has no {text}"));
            for word in templated(text).filter_map(|inside| inside.strip_prefix("$labels.")) {
                assert!(labels.contains(word), "{name}: no label {word}");
            }
        }
    }
    assert!(names.len() > 5);
}

/// The alerts select the gateways by the job that the document has Prometheus scrape them as, at the port of `deploy/`.
#[test]
fn the_document_shows_how_to_scrape_what_deploy_runs() {
    let config = read("deploy/margay.toml");
    let config = Config::parse(std::path::Path::new("deploy/margay.toml"), &config).unwrap();
    let listen = config.metrics.listen.expect("an address");
    assert!(listen.ip().is_loopback(), "beyond loopback is the operator's to decide");
    let document = read("docs/metrics.md");
    assert!(document.contains("job_name: margay") && document.contains(&format!(":{}", listen.port())));
}
