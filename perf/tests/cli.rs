//! What `margay-perf` prints, on runs too small to say how fast anything is.

use std::process::{Command, Output};

use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_margay-perf")).args(arguments).output().expect("margay-perf runs")
}

/// The list that a command prints.
fn list(arguments: &[&str]) -> Vec<Value> {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON alone on stdout")
}

const SMALL: [&str; 7] = ["pipeline", "--flows", "1000", "--bursts", "60", "--rounds", "3"];

#[test]
fn pipeline_reports_every_path() {
    let reports = list(&[&SMALL[..], &["--policies", "7", "--size", "128", "-o", "json"]].concat());
    let paths: Vec<&str> = reports.iter().map(|report| report["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["l3", "vxlan-encap", "vxlan-decap", "ipip-encap", "ipip-decap", "new-flow"]);
    for report in &reports {
        let numbers = ["flows", "policies", "size", "burst"].map(|field| report[field].as_u64().unwrap());
        assert_eq!(numbers, [1000, 7, 128, 64]);
        let [cycles, ns] =
            ["cycles_per_packet", "ns_per_packet"].map(|field| report[field].as_f64().unwrap());
        assert!(cycles > 0.0 && ns > 0.0, "{report}");
        assert_eq!(report["allocations_per_packet"], 0.0);
        assert!(report["stages"].is_object() && report.get("instructions").is_none(), "{report}");
    }
}

#[test]
fn pipeline_runs_one_path_and_has_a_table_for_people() {
    let output = run(&[&SMALL[..], &["--path", "new-flow"]].concat());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("new-flow     1000 flows, 1 policies, 64 bytes: "), "{text}");
    assert!(text.contains(", 0 allocations\n"), "{text}");
}

#[test]
fn tables_reports_every_structure_and_operation() {
    let all = ["tables", "--entries", "1000", "--rounds", "1", "--workers", "1", "-o", "json"];
    let reports = list(&all);
    let ops =
        ["lookup-hit", "lookup-miss", "lookup-burst", "lookup-burst-miss", "mixed-90-10", "insert", "remove"];
    let flows = ["margay", "hashbrown-rwlock", "dashmap", "papaya", "scc"];
    let routes = ["margay-fib", "ip_network_table", "prefix-trie", "poptrie"];
    let routes6 = ["margay-fib-v6", "ip_network_table-v6", "prefix-trie-v6", "poptrie-v6"];
    for structure in flows.into_iter().chain(routes).chain(routes6) {
        let of_it: Vec<&Value> = reports.iter().filter(|report| report["structure"] == structure).collect();
        let its_ops: Vec<&str> = of_it.iter().map(|report| report["op"].as_str().unwrap()).collect();
        assert_eq!(its_ops, ops, "{structure}");
        for report in of_it {
            assert_eq!((report["entries"].as_u64(), report["workers"].as_u64()), (Some(1000), Some(1)));
            let [ns, mops] = ["ns_per_op", "mops"].map(|field| report[field].as_f64().unwrap());
            assert!((ns * mops - 1000.0).abs() < 1.0, "one worker's rate is what its time says: {report}");
        }
    }
}

#[test]
fn tables_narrows_to_what_is_asked_for() {
    let narrow = ["tables", "--entries", "1000", "--op", "insert,lookup-burst", "--structure", "margay,scc"];
    let reports = list(&[&narrow[..], &["--rounds", "1", "--workers", "1", "-o", "json"]].concat());
    let seen: Vec<[&str; 2]> = reports
        .iter()
        .map(|report| ["structure", "op"].map(|field| report[field].as_str().unwrap()))
        .collect();
    let expected =
        [["margay", "lookup-burst"], ["margay", "insert"], ["scc", "lookup-burst"], ["scc", "insert"]];
    assert_eq!(seen, expected);
}

/// Forty pods take turns: each is relabelled, removed and added.
const SMALL_CLUSTER: [&str; 13] = [
    "control",
    "--nodes",
    "20",
    "--pods",
    "500",
    "--namespaces",
    "10",
    "--policies",
    "60",
    "--seconds",
    "4",
    "--rate",
    "40",
];

#[test]
fn control_follows_a_cluster_that_changes() {
    let directory = tempfile::tempdir().unwrap();
    let plot = directory.path().join("plot.svg");
    for lists in [&[][..], &["--streaming-lists"]] {
        let plotted = ["--plot", plot.to_str().unwrap(), "-o", "json"];
        let reports = list(&[&SMALL_CLUSTER[..], lists, &plotted].concat());
        let [report] = &reports[..] else { panic!("one report: {reports:?}") };
        let sizes = ["nodes", "pods", "namespaces", "policies"].map(|field| report[field].as_u64().unwrap());
        assert_eq!(sizes, [20, 500, 10, 60]);
        let number =
            |field: &str| report.pointer(field).and_then(Value::as_f64).unwrap_or_else(|| panic!("{field}"));
        assert!(number("/start/cpu_s") > 0.0 && number("/start/wall_s") > 0.0, "{report}");
        let resident = ["before", "peak"].map(|when| number(&format!("/start/resident_{when}_bytes")));
        assert!(resident[0] > 1e6 && resident[1] >= resident[0], "{report}");
        // It goes by chance how many.
        let changes = number("/churn/changes");
        assert!((20.0..400.0).contains(&changes), "{report}");
        let of_kinds = report["churn"]["latency_by_kind"].as_array().unwrap();
        let kinds: Vec<&str> = of_kinds.iter().map(|of| of["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["relabelled", "removed", "added"], "{report}");
        let [p50, p99, max] =
            ["p50_ms", "p99_ms", "max_ms"].map(|at| number(&format!("/churn/latency/{at}")));
        assert!(0.0 < p50 && p50 <= p99 && p99 <= max, "{report}");
        assert!(
            number("/churn/core_share") > 0.0 && report["churn"]["trouble"] == Value::Array(vec![]),
            "{report}"
        );
        assert!(report["timeline"].as_array().unwrap().len() >= 6, "{report}");
        let drawn = std::fs::read_to_string(&plot).unwrap();
        let title =
            "margay perf control: 20 nodes, 500 pods, 10 namespaces, 60 policies; 40 pod changes a second";
        assert!(drawn.starts_with("<svg") && drawn.contains(title), "{drawn}");
    }
}

#[test]
fn compare_tells_what_has_changed_and_fails_if_asked_to() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, mpps: [f64; 3]| {
        let case = r#""job":"l3","dataplane":"margay","size":64,"flows":1,"policies":0,"metric":"mpps","unit":"Mpps""#;
        let [value, ..] = mpps;
        let text =
            format!(r#"{{"machine":{{"cpu":"x"}},"results":[{{{case},"value":{value},"runs":{mpps:?}}}]}}"#);
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let (fast, slow) = (file("fast.json", [1.0, 1.01, 0.99]), file("slow.json", [0.8, 0.81, 0.79]));
    let cases = [
        (&fast, &slow, "worse", Some(1)),
        (&slow, &fast, "better", Some(0)),
        (&fast, &fast, "no-difference", Some(0)),
    ];
    for (a, b, verdict, code) in cases {
        let [report] = &list(&["compare", a, b, "-o", "json"])[..] else { panic!("one report") };
        assert_eq!(report["differences"][0]["verdict"], verdict, "{report}");
        assert_eq!(run(&["compare", a, b, "--fail-on-worse"]).status.code(), code);
    }
    let text = String::from_utf8(run(&["compare", &fast, &slow]).stdout).unwrap();
    assert!(text.contains("-20.0 %") && text.contains("1 figures: 1 worse, 0 better"), "{text}");
}

#[test]
fn bad_values_are_named() {
    let cases: &[(&[&str], &str)] = &[
        (&["pipeline", "--flows", "0"], "0 is not in 1..=10000000"),
        (&["pipeline", "--path", "gre"], "possible values: l3, vxlan-encap"),
        (&["pipeline", "--size", "63"], "63 is not in 64..=1464"),
        (&["pipeline", "--rounds", "0"], "0 is not in 1..=1000"),
        (&["tables", "--op", "lookup"], "possible values: lookup-hit, lookup-miss"),
        (&["tables", "--entries", "63"], "63 is not in 64..=20000000"),
        (&["tables", "--structure", "btree"], "possible values: margay, hashbrown-rwlock"),
        (&["tables", "--workers", "0"], "0 is not in 1..=64"),
        (&["tables", "--structure", "poptrie", "--entries", "3000000"], "nothing to measure"),
        (
            &["control", "--pods", "300", "--nodes", "1"],
            "300 pods do not fit on 1 nodes: a node has 250 at most",
        ),
        (&["control", "--rate", "0"], "0 is not in 1..=10000"),
        (&["control", "--keep"], "--kubeconfig <FILE>"),
        (&["control", "--kubeconfig", "/nonexistent"], "cannot use /nonexistent"),
        (&["compare", "/nonexistent", "/nonexistent"], "cannot read /nonexistent"),
        (&["compare", "/dev/null", "/dev/null"], "/dev/null is not what margay perf lab writes"),
        (&["gate", "--file", "/nonexistent"], "cannot read /nonexistent"),
        (&["lab", "--quick"], "--out <DIR>"),
        (&["lab", "--out", "/nonexistent", "--job", "ipip"], "possible values: l3, vxlan-decap"),
        (&["lab", "--out", "/nonexistent", "--sizes", "63"], "63 is not in 64..=9000, and not imix"),
        (&["lab", "--out", "/nonexistent", "--sink", "af-xdp"], "say --source af-xdp"),
        (&["lab", "--out", "/nonexistent", "--ipip", "--dataplane", "kernel"], "by IP-in-IP"),
        (&["lab", "--out", "/nonexistent", "--sizes", "362"], "362 stands for imix"),
        (&["lab", "--out", "/nonexistent", "--seconds", "0"], "0 is not in 0.1..=600"),
        (&["lab", "--out", "/nonexistent", "--job", "tcp", "--dataplane", "bare"], "nothing to measure"),
    ];
    for (arguments, message) in cases {
        let output = run(arguments);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(message), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}
