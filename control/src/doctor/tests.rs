//! Each check against facts that are made up: one fault at a time upon a machine that is well.

use std::collections::BTreeMap;

use super::*;
use crate::admin::{self, Status};
use crate::config::{Config, Idle, Uplink};

/// A machine on which nothing is to be said.
fn well() -> Facts {
    let uplink: Uplink = toml::from_str("device = \"eth0\"").expect("an uplink");
    let config = Config { uplink: vec![uplink], ..Config::default() };
    let device = Device {
        up: true,
        driver: "ice".to_owned(),
        mtu: 1500,
        queues: 1,
        gro: Some(true),
        lro: Some(false),
        rx_vlan: Some(false),
        hashes_ports: Some(true),
        ..Device::default()
    };
    Facts {
        config,
        release: "6.18.1".to_owned(),
        version: (6, 18),
        has_btf: true,
        capabilities: ["NET_ADMIN", "NET_RAW", "BPF", "PERFMON", "IPC_LOCK", "SYS_ADMIN"]
            .map(|name| format!("CAP_{name}"))
            .into(),
        huge_pages: HugePages { transparent: "madvise".to_owned(), free: 0 },
        has_bpffs: true,
        cores: vec![0, 1, 2, 3],
        uplinks: BTreeMap::from([("eth0".to_owned(), Some(device))]),
        ..Facts::default()
    }
}

fn eth0(facts: &mut Facts) -> &mut Device {
    facts.uplinks.get_mut("eth0").and_then(Option::as_mut).expect("it is there")
}

fn attach(facts: &mut Facts, name: Option<&str>) {
    let is_ours = name == Some("margay");
    let program = Program { id: 7, name: name.map(str::to_owned), is_ours, ip_word: "xdpdrv".to_owned() };
    eth0(facts).program = Some(program);
}

fn status(facts: &mut Facts) -> &mut Status {
    let traffic = admin::Traffic { tx: 10_000, ..admin::Traffic::default() };
    let port = admin::Port {
        name: "eth0".to_owned(),
        device: "eth0".to_owned(),
        vlan: None,
        mac: None,
        mtu: None,
        kind: "uplink".to_owned(),
        pod: None,
        state: admin::PortState::Open,
        error: None,
        mode: Some("native".to_owned()),
        zero_copy: Some(false),
        queues: Some(1),
        fill_frames: Some(8192),
        traffic: Some(traffic.clone()),
    };
    let worker = admin::Worker {
        index: 0,
        core: 3,
        turns: 1,
        busy_turns: 1,
        flows_inserted: 0,
        flows_expired: 0,
        flows_reclassified: 0,
        doing: "receiving".to_owned(),
        longest_stall_ms: 0,
        starved: 0,
        traffic,
        pool: 1,
    };
    facts.status.insert(Status {
        node: "gw".to_owned(),
        version: "0".to_owned(),
        uptime_seconds: 1,
        ready: true,
        snapshot: None,
        source: admin::Source::default(),
        reporting: Vec::new(),
        ports: vec![port],
        workers: vec![worker],
        flow_table: admin::FlowTable { connections: 1, capacity: 100, evicted: 0 },
        umem: admin::Umem {
            frames: 65536,
            frame_size: 2048,
            huge_pages: true,
            fill_frames: 8192,
            spare: 1,
            pools: 1,
            handed_over: 0,
        },
        flow_log: None,
        untold_gso: None,
    })
}

#[test]
fn a_machine_that_is_well_has_nothing_said_of_it() {
    let mut facts = well();
    let findings = examine(&facts);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
    status(&mut facts);
    let findings = examine(&facts);
    assert!(findings.iter().all(|finding| finding.severity == Severity::Ok), "{findings:#?}");
}

/// A fault, and what is said of it: severity, check, a word of what, a word of how to mend it.
type Case = (fn(&mut Facts), Severity, &'static str, &'static str, &'static str);

const FAULTS: &[Case] = &[
    (|f| f.version = (5, 15), Severity::Error, "kernel", "Linux", "newer kernel"),
    (|f| f.version = (6, 1), Severity::Note, "kernel", "Linux", "6.2"),
    (|f| f.has_btf = false, Severity::Note, "kernel", "without BTF", "CONFIG_DEBUG_INFO_BTF"),
    (|f| f.xdp_socket = Some("x".into()), Severity::Error, "kernel", "AF_XDP", "CAP_NET_RAW"),
    (
        |f| f.capabilities.retain(|name| name != "CAP_BPF"),
        Severity::Error,
        "capabilities",
        "CAP_BPF",
        "AmbientCapabilities",
    ),
    (
        |f| f.capabilities.retain(|name| name != "CAP_SYS_ADMIN"),
        Severity::Note,
        "capabilities",
        "SYS_ADMIN",
        "xdp off",
    ),
    (
        |f| {
            f.capabilities.remove("CAP_IPC_LOCK");
            f.locked = Locked::Bytes(8 << 20);
        },
        Severity::Error,
        "memlock",
        "8388608",
        "LimitMEMLOCK=infinity",
    ),
    (|f| f.huge_pages = HugePages::default(), Severity::Note, "huge pages", "no huge pages", "echo madvise"),
    (|f| f.config.workers.cores = vec![9], Severity::Error, "cores", "9", "workers.cores"),
    (
        |f| {
            f.cores = vec![0];
            f.config.workers.idle = Idle::Spin;
        },
        Severity::Warning,
        "cores",
        "spin",
        "poll",
    ),
    (
        |f| drop(f.uplinks.insert("eth0".into(), None)),
        Severity::Error,
        "link",
        "no such device",
        "[[uplink]]",
    ),
    (|f| eth0(f).up = false, Severity::Error, "link", "down", "ip link set dev eth0 up"),
    (|f| eth0(f).mtu = 40_000, Severity::Error, "mtu", "40000", "ip link set dev eth0 mtu 32750"),
    (
        |f| {
            f.version = (6, 3);
            eth0(f).mtu = 9000;
        },
        Severity::Error,
        "mtu",
        "9000",
        "mtu 1774",
    ),
    (|f| attach(f, Some("other")), Severity::Error, "xdp program", "other (id 7)", "xdpdrv off"),
    (|f| attach(f, Some("margay")), Severity::Note, "xdp program", "no Margay answers", "xdpdrv off"),
    (|f| attach(f, None), Severity::Warning, "xdp program", "CAP_SYS_ADMIN", "bpftool prog show id 7"),
    (
        |f| f.config.workers.cores = vec![1, 2],
        Severity::Note,
        "queues",
        "1 queues for 2",
        "ethtool -L eth0 combined 2",
    ),
    (
        |f| {
            f.config.workers.cores = vec![1, 2];
            eth0(f).queues = 3;
        },
        Severity::Note,
        "queues",
        "3 queues for 2",
        "ethtool -L eth0 combined 2",
    ),
    (
        |f| {
            eth0(f).queues = 2;
            eth0(f).hashes_ports = Some(false);
        },
        Severity::Warning,
        "rss",
        "addresses alone",
        "ethtool -N eth0 rx-flow-hash udp4 sdfn",
    ),
    (|f| eth0(f).queues = 9, Severity::Error, "umem", "73728", "umem.frames = 262144"),
    (|f| eth0(f).lro = Some(true), Severity::Error, "offloads", "large receive", "ethtool -K eth0 lro off"),
    (|f| eth0(f).rx_vlan = Some(true), Severity::Note, "offloads", "VLAN", "rxvlan off"),
    (
        |f| eth0(f).peer = Some(Peer::Here { name: "p".into(), gro: Some(false), has_program: false }),
        Severity::Note,
        "peer",
        "no NAPI",
        "ethtool -K p gro on",
    ),
    (|f| eth0(f).peer = Some(Peer::Elsewhere), Severity::Note, "peer", "1 peers", "gro on"),
    (|f| status(f).ready = false, Severity::Error, "gateway", "not ready", "margay status"),
    (
        |f| {
            let port = &mut status(f).ports[0];
            (port.state, port.error) = (admin::PortState::Failed, Some("why".into()));
        },
        Severity::Error,
        "port",
        "why",
        "findings",
    ),
    (
        |f| status(f).ports[0].traffic.as_mut().expect("it has some").tx_lost = 500,
        Severity::Warning,
        "port",
        "500 of 10000",
        "xdp.uplink_tx",
    ),
    (|f| status(f).ports[0].mode = Some("skb".into()), Severity::Note, "port", "skb mode", "native"),
    (|f| status(f).workers[0].starved = 3, Severity::Warning, "worker", "3 times", "core 3"),
    (|f| status(f).flow_table.connections = 95, Severity::Warning, "flow table", "95 of 100", "connections"),
    (|f| status(f).umem.huge_pages = false, Severity::Note, "huge pages", "not on huge pages", "madvise"),
];

#[test]
fn each_fault_is_found_alone_with_what_why_and_how_to_mend_it() {
    for (number, (fault, severity, check, what, mend)) in FAULTS.iter().enumerate() {
        let mut facts = well();
        fault(&mut facts);
        let findings = examine(&facts);
        let found: Vec<_> = findings.iter().filter(|finding| finding.severity > Severity::Ok).collect();
        let [finding] = found[..] else { panic!("fault {number}, {check}: {found:#?}") };
        assert_eq!((finding.check.as_str(), finding.severity), (*check, *severity), "{finding:#?}");
        assert!(finding.what.contains(what), "fault {number}: no {what:?} in {finding:#?}");
        assert!(finding.mend.contains(mend), "fault {number}: no {mend:?} in {finding:#?}");
        assert!(!finding.why.is_empty(), "{finding:#?}");
        let text = text(&findings);
        assert!(text.contains(&finding.what) && text.contains(&finding.mend), "{text}");
    }
}
