//! The screen of `margay top`, as it stands on terminals of several sizes.

#[path = "../metrics/sample.rs"]
mod sample;

use std::time::Duration;

use margay_control::admin::workers::{LatencyCount, WorkerTimes, Workers};
use margay_control::admin::{PortState, Status};
use margay_control::metrics::Figures;
use margay_control::top::{Flow, Flows, Moment, Screen, View, draw};
use ratatui::Terminal;
use ratatui::backend::TestBackend;

const SECOND: u64 = 1_000_000_000;

/// What a gateway of these figures says so many nanoseconds after its start.
fn moment(figures: Figures, uptime: u64, busy: u64, timed: u64) -> Moment {
    let count = |from, to, frames| LatencyCount { from_nanoseconds: from, to_nanoseconds: to, frames };
    let times = |index: usize| WorkerTimes {
        index,
        core: index + 2,
        busy_nanoseconds: busy,
        latencies: vec![count(1984, 2047, 10 + timed), count(65_536, 67_583, timed / 100)],
        ..WorkerTimes::default()
    };
    let workers =
        Workers { uptime_nanoseconds: uptime, bursts_per_sample: 32, workers: (0..2).map(times).collect() };
    Moment { status: figures.status, workers }
}

/// Traffic for two seconds: a worker has received a million packets in them, and a port too.
fn grown(mut figures: Figures) -> Figures {
    let grow = |traffic: &mut margay_control::admin::Traffic| {
        traffic.rx += 1_000_000;
        traffic.rx_bytes += 500_000_000;
        traffic.tx += 900_000;
        traffic.tx_bytes += 450_000_000;
        *traffic.drops.get_mut("no-route").unwrap() += 4000;
        traffic.drops.insert("tx-full".to_owned(), 3);
    };
    let Status { workers, ports, .. } = &mut figures.status;
    grow(&mut workers[0].traffic);
    workers[0].flows_inserted += 5000;
    grow(ports[1].traffic.as_mut().unwrap());
    figures
}

fn view() -> View {
    let before = moment(sample::running(), 10 * SECOND, SECOND, 0);
    let now = moment(grown(sample::running()), 12 * SECOND, SECOND * 5 / 2, 200);
    View::of(Some(&before), &now)
}

fn flows() -> Flows {
    let flow = |src_name: Option<&str>, rate: Option<f64>| Flow {
        src: "10.0.0.1".parse().unwrap(),
        dst: "fd00::2".parse().unwrap(),
        protocol: 6,
        sport: 40_000,
        dport: 443,
        src_name: src_name.map(str::to_owned),
        dst_name: None,
        packets_per_second: rate,
        bits_per_second: rate.map(|rate| rate * 800.0),
    };
    Flows { flows: vec![flow(Some("default/web-0"), Some(120_000.0)), flow(None, None)] }
}

/// What stands on a terminal of this size, without what is empty.
fn drawn(width: u16, height: u16, screen: &Screen) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, screen)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = buffer.content.chunks(width.into());
    let lines = rows.map(|row| row.iter().map(ratatui::buffer::Cell::symbol).collect::<String>());
    lines.map(|line| line.trim_end().to_owned() + "\n").collect::<String>().trim_end().to_owned() + "\n"
}

fn screen() -> Screen {
    Screen {
        view: Some(view()),
        flows: Some(Ok(flows())),
        every: Duration::from_secs(1),
        ..Screen::default()
    }
}

#[test]
fn a_large_terminal_shows_everything() {
    let expected = "\
gateway-a, margay 0.1.0, up 12s, ready
in 500k pkt/s, 2.00G bit/s; dropped 2.00k/s; 10 of 1024 connections (1.0%)
every 1 s; q ends
WORKER                                         BUSY    PKT/S      P50      P99    P99.9    BIT/S   DROP/S   FLOW/S  CORE
0                                    ████████░░ 75%     500k   2.02us   2.02us   66.6us    2.00G    2.00k    2.50k     2
1                                    ████████░░ 75%        0   2.02us   2.02us   66.6us        0        0        0     3

PORT                                IN PKT/S  OUT PKT/S  IN BIT/S  OUT BIT/S   DROP/S   LOST/S                        OF
cali1                                   500k       450k     2.00G      1.80G    2.00k        0             default/web-0
eth0                                       0          0         0          0        0        0                    uplink
cali2                              no device          -         -          -        -        -             default/web-1

DROPS                                               PKT/S    TOTAL
no-route                                            2.00k    4.08k
tx-full                                               1.5        3
policy-deny                                             0      120

BUSIEST CONNECTIONS                                 PKT/S    BIT/S  PROTO
default/web-0:40000 > [fd00::2]:443                  120k    96.0M    tcp
10.0.0.1:40000 > [fd00::2]:443                          -        -    tcp
";
    let text = drawn(120, 30, &screen());
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn a_small_terminal_shows_what_fits_and_counts_the_rest() {
    let mut screen = screen();
    let view = screen.view.as_mut().unwrap();
    let port = view.ports[0].clone();
    view.ports.extend(std::iter::repeat_n(port, 30));
    let text = drawn(60, 16, &screen);
    let expected = "\
gateway-a, margay 0.1.0, up 12s, ready
in 500k pkt/s, 2.00G bit/s; dropped 2.00k/s; 10 of 1024 conn
every 1 s; q ends
WORKER              BUSY    PKT/S      P50      P99    P99.9
0         ████████░░ 75%     500k   2.02us   2.02us   66.6us
1         ████████░░ 75%        0   2.02us   2.02us   66.6us

PORT 2/33           IN PKT/S  OUT PKT/S  IN BIT/S  OUT BIT/S
cali1                   500k       450k     2.00G      1.80G
eth0                       0          0         0          0
DROPS 2/3                                     PKT/S    TOTAL
no-route                                      2.00k    4.08k
tx-full                                         1.5        3
BUSIEST CONNECTIONS                    PKT/S    BIT/S  PROTO
default/web-0:40000 > [fd00::2]:443     120k    96.0M    tcp
10.0.0.1:40000 > [fd00::2]:443             -        -    tcp
";
    assert_eq!(text, expected, "\n{text}");
}

#[test]
fn terminals_of_every_size_are_drawn_on() {
    let beginning = Screen { view: Some(View::of(None, &moment(sample::beginning(), 1, 0, 0))), ..screen() };
    for screen in [screen(), beginning, Screen::default()] {
        for (width, height) in [(1, 1), (39, 50), (40, 7), (40, 8), (41, 9), (80, 24), (200, 60), (300, 10)] {
            let text = drawn(width, height, &screen);
            let is_said = text.replace('\n', "").contains("margay top needs");
            assert!(is_said == (width < 40 || height < 8) || width < 20, "{width} x {height}:\n{text}");
        }
    }
}

#[test]
fn before_the_second_answer_there_are_no_rates() {
    let first = View::of(None, &moment(sample::running(), 10 * SECOND, SECOND, 5));
    assert_eq!((first.received(), first.dropped()), (None, None));
    assert!(first.workers.iter().all(|worker| worker.busy.is_none() && worker.latency.is_none()));
    assert!(first.ports.iter().all(|port| port.rx_packets.is_none()));
    assert_eq!(first.drops, [("policy-deny".to_owned(), None, 120), ("no-route".to_owned(), None, 80)]);
}

#[test]
fn a_gateway_that_began_anew_has_no_rates_until_it_answers_again() {
    let before = moment(grown(sample::running()), 900 * SECOND, 400 * SECOND, 1000);
    let now = moment(sample::running(), SECOND, 0, 0);
    assert_eq!(View::of(Some(&before), &now).received(), None);
    let after = moment(grown(sample::running()), 3 * SECOND, SECOND, 10);
    let (packets, _) = View::of(Some(&now), &after).received().unwrap();
    assert!((packets - 500_000.0).abs() < 1.0, "{packets}");
}

#[test]
fn a_port_that_was_opened_anew_counts_from_nothing() {
    let before = moment(grown(sample::running()), 10 * SECOND, 0, 0);
    let now = moment(sample::running(), 12 * SECOND, 0, 0);
    let view = View::of(Some(&before), &now);
    let port = view.ports.iter().find(|port| port.name == "cali1").unwrap();
    assert_eq!(port.rx_packets.map(f64::round), Some(500.0));
}

#[test]
fn rates_are_those_of_the_time_between() {
    let view = view();
    let worker = &view.workers[0];
    assert_eq!(worker.packets.map(f64::round), Some(500_000.0));
    assert_eq!(worker.bits.map(f64::round), Some(2e9));
    assert_eq!(worker.new_flows.map(f64::round), Some(2500.0));
    assert_eq!(worker.busy.map(|busy| (busy * 100.0).round()), Some(75.0));
    let latency = worker.latency.unwrap();
    assert_eq!(latency.frames, 202, "those of before do not count");
    assert!(latency.p50_nanoseconds.abs_diff(2015) < 20 && latency.p999_nanoseconds.abs_diff(66_559) < 700);
    assert_eq!(view.workers[1].packets.map(f64::round), Some(0.0));
    let busiest: Vec<&str> = view.ports.iter().map(|port| port.name.as_str()).collect();
    assert_eq!(busiest, ["cali1", "eth0", "cali2"]);
    assert_eq!(view.ports[2].state, PortState::Missing);
    assert_eq!(view.drops[0].0, "no-route");
}

#[test]
fn what_keeps_a_gateway_from_being_ready_and_from_answering_is_shown() {
    let mut screen = screen();
    screen.view = Some(View::of(None, &moment(sample::beginning(), SECOND, 0, 0)));
    let text = drawn(100, 20, &screen);
    assert!(
        text.starts_with("gateway-a, margay 0.1.0, up 1s, not ready: the API server has not delivered"),
        "{text}"
    );
    screen.trouble = Some("no Margay answers at /run/margay/admin.sock".to_owned());
    screen.flows = Some(Err("connections are not counted".to_owned()));
    let text = drawn(100, 20, &screen);
    assert!(text.starts_with("gateway-a: no answer: no Margay answers at /run"), "{text}");
    assert!(text.contains("connections are not counted"), "{text}");
}

#[test]
fn without_a_terminal_it_says_what_to_use() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_margay")).arg("top").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("needs a terminal") && said.contains("margay status -o json"), "{said}");
}
