use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::super::case::{Case, Dataplane, Job};
use super::super::details::{
    BackToBack, Failure, Gateway, LatencyAt, LossCurve, LossPoint, Moment, Soak, Stages, Throughput,
};
use super::super::machine::Machine;
use super::super::results::{Row, rounded};
use super::*;

/// How fast each dataplane of the sample is, in million packets a second.
const SPEEDS: [(Dataplane, f64); 5] = [
    (Dataplane::Margay, 0.91),
    (Dataplane::Kernel, 0.47),
    (Dataplane::Ovs, 0.61),
    (Dataplane::Testpmd, 0.74),
    (Dataplane::Bare, 0.95),
];

fn case(job: Job, dataplane: Dataplane) -> Case {
    Case { job, dataplane, size: 64, flows: 10_000, policies: 1 }
}

/// Repeats about a value.
fn runs(value: f64) -> Vec<f64> {
    [1.0, 0.96, 1.03, 0.99, 1.01].map(|times| rounded(times * value)).to_vec()
}

/// A run of everything.
fn sample() -> (Results, Details) {
    let machine = Machine {
        started: "2030-01-01T00:00:00Z".to_owned(),
        seconds: 290.0,
        cpu: "A Processor 9000".to_owned(),
        cores: vec![0, 1],
        cores_online: "0-1".to_owned(),
        hypervisor: Some("Some Cloud".to_owned()),
        kernel: "6.18.0".to_owned(),
        memory_bytes: 24_000_000_000,
        mitigations: BTreeMap::from([(
            "spectre_v2".to_owned(),
            "Mitigation: Retpolines; STIBP disabled".to_owned(),
        )]),
        versions: BTreeMap::from([("margay".to_owned(), "0.1.0 (0123456789ab)".to_owned())]),
        offloads: BTreeMap::from([("uplink0".to_owned(), "rx-checksumming".to_owned())]),
        load_at_start: [0.3, 0.5, 0.7],
        steal_percent: 0.42,
        ..Machine::default()
    };
    let (mut results, mut details) = (Vec::new(), Details::default());
    for (dataplane, mpps) in SPEEDS {
        rows(dataplane, mpps, &mut results);
        curves(dataplane, mpps, &mut details);
    }
    details.command = "margay perf lab --out lab".to_owned();
    details.notes.push("iperf3 was not there: no TCP.".to_owned());
    details.stages = [("vxlan-encap", 62.6), ("vxlan-decap", 80.8), ("new-flow", 422.0)].map(stages).to_vec();
    let reason = "received nothing: the driver af_xdp of 22.11 does not on this kernel".to_owned();
    let failed = case(Job::VxlanDecap, Dataplane::Testpmd);
    details.failures.push(Failure { case: failed, what: "throughput".to_owned(), reason });
    (Results { machine, results }, details)
}

fn rows(dataplane: Dataplane, mpps: f64, results: &mut Vec<Row>) {
    for (job, speed) in
        [(Job::VxlanEncap, 1.0), (Job::VxlanDecap, 0.93), (Job::VxlanBoth, 0.88), (Job::L3, 1.04)]
    {
        let plain = case(job, dataplane);
        let mut add = |case: Case, value: f64| results.push(Row::new(&case, Metric::Mpps, runs(value)));
        add(plain, mpps * speed);
        for size in [362, 512, 1518, 9000] {
            add(Case { size, ..plain }, mpps * speed / (1.0 + f64::from(size) / 4000.0));
        }
        add(Case { flows: 1, ..plain }, mpps * speed * 1.05);
        add(Case { flows: 1_000_000, ..plain }, mpps * speed * 0.8);
        let many = if dataplane == Dataplane::Kernel { 0.1 } else { 0.99 };
        add(Case { policies: 10_000, ..plain }, mpps * speed * many);
        results.push(Row::new(&plain, Metric::Cpu, runs(2.0 / mpps)));
        results.push(Row::new(&plain, Metric::Loss, vec![0.0, 0.08, 0.02]));
    }
    let figures = [
        (Job::Latency, Metric::P50, 12.0 / mpps),
        (Job::Latency, Metric::P99, 40.0 / mpps),
        (Job::Cps, Metric::Cps, 90_000.0 * mpps),
        (Job::Tcp, Metric::Gbps, 3.0 * mpps),
    ];
    results.extend(figures.map(|(job, metric, value)| Row::new(&case(job, dataplane), metric, runs(value))));
}

fn curves(dataplane: Dataplane, mpps: f64, details: &mut Details) {
    let encap = case(Job::VxlanEncap, dataplane);
    let point = |tenth: i32| {
        let offered = rounded(f64::from(tenth) * 0.15);
        let forwarded = rounded(offered.min(mpps) - (offered - mpps).max(0.0) * 0.1);
        LossPoint { offered, forwarded, loss_percent: rounded((1.0 - forwarded / offered) * 100.0) }
    };
    details.loss.push(LossCurve { case: encap, points: (1..=10).map(point).collect() });
    for load_percent in [10, 50, 90] {
        let mut random = fastrand::Rng::with_seed(u64::from(load_percent));
        let mut latency = Histogram::<u64>::new(3).unwrap();
        for _ in 0..50_000 {
            let waited = -random.f64().ln() * 8_000.0 / (1.05 - f64::from(load_percent) / 100.0) / mpps;
            let waited = std::time::Duration::from_secs_f64(waited / 1e9);
            latency.record(9_000 + waited.as_nanos() as u64).unwrap();
        }
        let offered = rounded(mpps * f64::from(load_percent) / 100.0);
        details.latency.extend(LatencyAt::of(
            &case(Job::Latency, dataplane),
            load_percent,
            offered,
            &latency,
        ));
    }
    let frames = vec![3640, 4100, 3900];
    details.bursts.push(BackToBack { case: encap, frames, at_least: dataplane == Dataplane::Bare });
    let moment = |n: u32| Moment {
        at_s: f64::from(n),
        forwarded: rounded(mpps * 0.7),
        loss_percent: if n == 20 { 0.3 } else { 0.0 },
        p50_us: 20.0,
        p99_us: rounded(60.0 / mpps + f64::from(n % 5)),
        resident_bytes: (dataplane == Dataplane::Margay).then(|| 90_000_000 + u64::from(n) * 1000),
    };
    let moments = (1..=60).map(moment).collect();
    details.soaks.push(Soak {
        case: encap,
        offered: rounded(mpps * 0.7),
        new_flows_a_second: 1000.0,
        moments,
    });
    let throughput = Throughput {
        case: encap,
        no_drop: runs(mpps * 0.9),
        lossy: runs(mpps),
        is_source_limit: false,
        sent: 9_123_456,
        duplicates: 0,
        reordered: 12,
    };
    details.throughput.push(throughput);
    let arrangement = "generator and softirq on core 0, the gateway polls on core 1".to_owned();
    let settings = vec!["native XDP, copy mode".to_owned()];
    let version = "1.2.3".to_owned();
    details.gateways.push(Gateway { dataplane, jobs: vec![], version, arrangement, settings });
}

fn stages((path, cycles): (&str, f64)) -> Stages {
    let parts = [("ingress", 0.4), ("search", 0.15), ("flow", 0.15), ("rewrite", 0.3)];
    Stages {
        path: path.to_owned(),
        flows: 10_000,
        policies: 1,
        cycles_per_packet: cycles,
        ns_per_packet: rounded(cycles / 2.6),
        allocations_per_packet: 0.0,
        stages: parts.map(|(name, share)| (name.to_owned(), rounded(share * cycles))).to_vec(),
    }
}

/// Whatever a page would have to fetch.
const OUTSIDE: [&str; 9] =
    ["http:", "https:", "src=", "<script", "<link", "@import", "url(", "<iframe", "//"];

#[test]
fn a_page_needs_nothing_but_itself() {
    let (results, details) = sample();
    for page in [html(&results, &details).unwrap(), html(&Results::default(), &Details::default()).unwrap()] {
        for outside in OUTSIDE {
            assert!(!page.contains(outside), "{outside}");
        }
        let links = page.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap());
        for link in links {
            let id = link.strip_prefix('#').unwrap_or_else(|| panic!("{link} leads out of the page"));
            assert!(page.contains(&format!("id=\"{id}\"")), "{link}");
        }
    }
}

#[test]
fn every_row_is_in_the_page() {
    let (results, details) = sample();
    let page = html(&results, &details).unwrap();
    let table = page.split("id=\"rows\"").nth(1).unwrap().split("</section>").next().unwrap();
    assert_eq!(table.matches("<tr>").count(), results.results.len() + 1);
    for row in &results.results {
        assert!(table.contains(&format!("<td>{}</td>", look::figure(row.value))), "{row:?}");
    }
    // Four jobs by size, by flows and by policies; loss and what is forwarded; three loads; the soak's four; bars of
    // mpps, cps, gbps, p50, p99 and cpu; the passes of first packets and of others.
    assert_eq!(page.matches("<svg").count(), 12 + 2 + 3 + 4 + 6 + 2);
    assert_eq!(page.matches("class=\"met\"").count() + page.matches("class=\"missed\"").count(), 16);
}

#[test]
fn what_others_have_named_is_escaped() {
    let (mut results, mut details) = sample();
    let odd = "</style><b onload=\"x('&amp;')\">";
    results.machine.cpu = odd.to_owned();
    results.machine.mitigations.insert(odd.to_owned(), odd.to_owned());
    odd.clone_into(&mut details.command);
    details.notes.push(odd.to_owned());
    odd.clone_into(&mut details.gateways[0].arrangement);
    details.gateways[0].settings.push(odd.to_owned());
    odd.clone_into(&mut details.failures[0].reason);
    odd.clone_into(&mut details.stages[0].path);
    odd.clone_into(&mut details.stages[0].stages[0].0);
    let page = html(&results, &details).unwrap();
    assert!(!page.contains("<b "));
    assert_eq!(page.matches("&lt;b onload").count(), 11);
    assert_eq!(page.matches("</style>").count(), 1);
}

#[test]
fn less_than_everything_is_no_trouble() {
    let (all, details) = sample();
    let only = |keep: fn(&Row) -> bool| {
        let results = all.results.iter().filter(|row| keep(row)).cloned().collect();
        Results { machine: all.machine.clone(), results }
    };
    let parts: [fn(&Row) -> bool; 5] = [
        |_| false,
        |row| row.dataplane == Dataplane::Margay,
        |row| row.dataplane == Dataplane::Testpmd,
        |row| row.metric == Metric::Loss,
        |row| row.job == Job::Cps,
    ];
    for part in parts {
        for details in [&details, &Details::default()] {
            assert!(html(&only(part), details).unwrap().ends_with("</html>"));
        }
    }
    let nought = |case: Case| Row::new(&case, Metric::Mpps, vec![0.0]);
    let results = SPEEDS.map(|(dataplane, _)| nought(case(Job::L3, dataplane))).to_vec();
    let mut empty = Details::default();
    empty.loss.push(LossCurve { case: case(Job::L3, Dataplane::Ovs), points: vec![] });
    empty.soaks.push(Soak { moments: vec![], ..details.soaks[0].clone() });
    empty.stages.push(Stages { stages: vec![], ..details.stages[0].clone() });
    html(&Results { machine: Machine::default(), results }, &empty).unwrap();
}

#[test]
fn a_run_is_drawn_of_its_files() {
    let (results, details) = sample();
    let directory = tempfile::tempdir().unwrap();
    let [json, curves, page] =
        ["results.json", "details.json", "report.html"].map(|name| directory.path().join(name));
    results.write_json(&json).unwrap();
    details.write(&curves).unwrap();
    assert_eq!(Details::read(&curves).unwrap(), details);
    write(&Results::read(&json).unwrap(), &details, &page).unwrap();
    assert_eq!(std::fs::read_to_string(&page).unwrap(), html(&results, &details).unwrap());
}
