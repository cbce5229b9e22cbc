//! The figures of a gateway of which everything is known, and of one that has just begun.

use margay_control::admin::{
    FlowTable, Port, PortState, Snapshot, Source, Status, Traffic, Trouble, Umem, Worker,
};
use margay_control::metrics::{Figures, WorkerTime};
use margay_fastpath::counters::Latency;

pub(crate) fn traffic() -> Traffic {
    Traffic {
        rx: 1000,
        rx_bytes: 64_000,
        forwarded: 900,
        tx_lost: 3,
        answered: 7,
        tx: 800,
        tx_bytes: 51_200,
        drops: [("policy-deny".to_owned(), 60), ("no-route".to_owned(), 40)].into(),
    }
}

pub(crate) fn port(name: &str, state: PortState) -> Port {
    let is_open = state == PortState::Open;
    Port {
        name: name.to_owned(),
        device: name.to_owned(),
        vlan: None,
        kind: "uplink".to_owned(),
        pod: None,
        state,
        mac: None,
        mtu: None,
        error: (state == PortState::Failed).then(|| "Device or resource busy".to_owned()),
        mode: is_open.then(|| "native".to_owned()),
        zero_copy: is_open.then_some(false),
        queues: is_open.then_some(1),
        fill_frames: is_open.then_some(8192),
        traffic: is_open.then(traffic),
    }
}

fn worker(index: usize) -> Worker {
    Worker {
        index,
        core: index + 2,
        turns: 5000,
        busy_turns: 100,
        flows_inserted: 30,
        flows_expired: 20,
        flows_reclassified: 10,
        traffic: traffic(),
        pool: 1000,
        doing: "polling".to_owned(),
        longest_stall_ms: 3,
        starved: 1,
    }
}

/// Not ready before its first snapshot.
pub(crate) fn beginning() -> Figures {
    let status = Status {
        node: "gateway-a".to_owned(),
        version: "0.1.0".to_owned(),
        uptime_seconds: 1,
        ready: false,
        snapshot: None,
        source: Source {
            name: "the API server".to_owned(),
            troubles: vec![Trouble {
                what: "pods".to_owned(),
                why: "connection refused".to_owned(),
                since: "2025-01-01T00:00:00Z".to_owned(),
                for_seconds: 1,
            }],
            problems: vec!["a policy that cannot be".to_owned()],
        },
        reporting: Vec::new(),
        ports: Vec::new(),
        workers: vec![worker(0), worker(1)],
        flow_table: FlowTable { connections: 10, capacity: 1024, evicted: 1 },
        umem: Umem {
            frames: 65_536,
            frame_size: 2048,
            huge_pages: false,
            fill_frames: 8192,
            spare: 50_000,
            pools: 2000,
            handed_over: 36,
        },
        flow_log: None,
        untold_gso: None,
    };
    let latency = Latency::default();
    latency.record(1500, 900);
    latency.record(70_000, 100);
    let time = WorkerTime { busy_nanoseconds: 1_500_000_000, latencies: (&latency).into() };
    Figures {
        status,
        published: None,
        times: vec![time.clone(), time],
        policy_drops_lost: 5,
        flows_cut_short: 6,
    }
}

/// Ready, with ports of every kind and state that a ready gateway has.
pub(crate) fn running() -> Figures {
    let mut figures = beginning();
    let pod = |name: &str, pod: &str, state| Port {
        kind: "pod".to_owned(),
        pod: Some(pod.to_owned()),
        ..port(name, state)
    };
    figures.published = Some("2025-01-01T00:00:00Z".parse().unwrap());
    figures.status.ready = true;
    figures.status.snapshot = Some(Snapshot { generation: 4, age_seconds: 10 });
    figures.status.source.troubles.clear();
    figures.status.ports = vec![
        port("eth0", PortState::Open),
        pod("cali1", "default/web-0", PortState::Open),
        pod("cali2", "default/web-1", PortState::Missing),
    ];
    figures
}
