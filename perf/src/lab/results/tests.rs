use std::fs;

use super::*;

fn row(dataplane: Dataplane, metric: Metric, runs: &[f64]) -> Row {
    let case = Case { job: Job::VxlanEncap, dataplane, size: 64, flows: 10_000, policies: 1 };
    Row::new(&case, metric, runs.to_vec())
}

fn some() -> Results {
    let machine = Machine { cpu: "a \"quoted\", odd <name>".to_owned(), ..Machine::default() };
    let results = vec![
        row(Dataplane::Margay, Metric::Mpps, &[0.7, 0.8, 0.75]),
        row(Dataplane::Bare, Metric::Mpps, &[0.9]),
        row(Dataplane::Bare, Metric::Loss, &[0.0, 0.05]),
    ];
    Results { machine, results }
}

#[test]
fn a_value_is_the_median_of_its_runs() {
    for (runs, value) in [(&[3.0, 1.0, 2.0][..], 2.0), (&[4.0, 1.0, 2.0, 3.0], 2.5), (&[7.0], 7.0)] {
        let made = row(Dataplane::Ovs, Metric::P99, runs);
        assert!((made.value - value).abs() < 1e-12 && made.runs == runs, "{made:?}");
        assert_eq!(made.unit, "us");
    }
}

#[test]
fn what_was_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.json");
    for results in [some(), Results::default()] {
        results.write_json(&file).unwrap();
        assert_eq!(Results::read(&file).unwrap(), results);
        let csv = directory.path().join("results.CSV");
        results.write_csv(&csv).unwrap();
        let of_csv = Results::read(&csv).unwrap();
        assert_eq!((of_csv.results, of_csv.machine), (results.results, Machine::default()));
    }
    let left: Vec<_> =
        fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but the files: {left:?}");
}

#[test]
fn the_form_is_the_one_that_is_promised() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.json");
    some().write_json(&file).unwrap();
    let json: serde_json::Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert!(json.as_object().unwrap().keys().eq(["machine", "results"]));
    let expected = serde_json::json!({
        "job": "vxlan-encap", "dataplane": "margay", "size": 64, "flows": 10_000, "policies": 1, "metric": "mpps",
        "unit": "Mpps", "value": 0.75, "runs": [0.7, 0.8, 0.75]
    });
    assert_eq!(json["results"][0], expected);
    let csv = directory.path().join("results.csv");
    some().write_csv(&csv).unwrap();
    let csv = fs::read_to_string(&csv).unwrap();
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "job,dataplane,size,flows,policies,metric,unit,value,runs");
    assert_eq!(lines[1], "vxlan-encap,margay,64,10000,1,mpps,Mpps,0.75,0.7 0.8 0.75");
    assert_eq!(lines.len(), 4);
}

#[test]
fn what_is_wrong_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let good = r#"{"job":"l3","dataplane":"ovs","size":64,"flows":1,"policies":0,"metric":"mpps","unit":"Mpps","value":1.0,"runs":[1.0]}"#;
    let cases = [
        ("", "EOF while parsing"),
        ("{\"results\":[]}", "missing field `machine`"),
        (good, "missing field `machine`"),
        ("[", "EOF while parsing a list"),
        (&list(&good.replace("l3", "l4")), "results[0].job: unknown variant `l4`"),
        (&list(&good.replace("64", "70000")), "results[0].size: invalid value: integer `70000`"),
        (&list(&good.replace("1.0]", "null]")), "results[0].runs[0]: invalid type: null"),
        (&list(&good.replace("1.0]", "]")), "results[0]: it has no runs"),
        (&list(&good.replace("1.0]", "3.0]")), "results[0]: its value is 1, but the median of its runs 3"),
        (&list(&good.replace("1.0", "-1.0")), "results[0]: -1 is no mpps"),
        (&list(&good.replace("Mpps", "pps")), "results[0]: its unit is \"pps\", but mpps is in Mpps"),
        (&list(&good.replace("\"runs\"", "\"rums\"")), "results[0].rums: unknown field"),
        (&list(&format!("{good},{good}")), "results[1]: results[0] is of the same case and metric"),
    ];
    let file = directory.path().join("a.json");
    for (text, expected) in cases {
        fs::write(&file, text).unwrap();
        let said = format!("{:#}", Results::read(&file).unwrap_err());
        assert!(
            said.contains("a.json is not what margay perf lab writes") && said.contains(expected),
            "{text}: {said}"
        );
    }
    let head = "job,dataplane,size,flows,policies,metric,unit,value,runs\n";
    let cases = [
        ("l3,ovs,64,1,0,mpps,Mpps,1.0,1.0 x\n", "results[0]: runs: \"x\" is no number"),
        ("l3,ovs,64,1,0,mpps,Mpps,1.0\n", "results[0]: CSV error: record 1 (line: 2"),
        (
            "l3,ovs,64,1,0,mpps,Mpps,1.0,1.0\nl3,vpp,64,1,0,mpps,Mpps,1.0,1.0\n",
            "results[1]: CSV deserialize error: record 2 (line: 3",
        ),
    ];
    let file = directory.path().join("a.csv");
    for (text, expected) in cases {
        fs::write(&file, format!("{head}{text}")).unwrap();
        let said = format!("{:#}", Results::read(&file).unwrap_err());
        assert!(said.contains(expected), "{text}: {said}");
    }
    let said = format!("{:#}", Results::read(directory.path()).unwrap_err());
    assert!(said.contains("cannot read"), "{said}");
}

fn list(rows: &str) -> String {
    format!("{{\"machine\":{{}},\"results\":[{rows}]}}")
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.json");
    some().write_json(&file).unwrap();
    let mut bad = some();
    bad.results.push(row(Dataplane::Testpmd, Metric::Mpps, &[f64::NAN]));
    let said = format!("{:#}", bad.write_json(&file).unwrap_err());
    assert!(said.contains("results[3]: NaN is no mpps"), "{said}");
    assert_eq!(Results::read(&file).unwrap(), some(), "what was there is there");
    let said = format!("{:#}", some().write_json(&directory.path().join("none/results.json")).unwrap_err());
    assert!(said.contains("cannot write") && said.contains("none/results.json"), "{said}");
}
