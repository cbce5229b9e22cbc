//! What a running gateway tells Prometheus and probes while traffic passes. They need root.

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::traffic::{blob, tcp_transfer, udp_echoes};
use common::{Options, TestLab, eventually, margay};
use margay_testbed::netns;

const GATEWAY: &str = "gw-a";
const LISTEN: &str = "127.0.0.1:9817";

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options { configuration: format!("[metrics]\nlisten = \"{LISTEN}\"\n"), ..Options::default() }
}

fn netns_of(lab: &margay_testbed::lab::Lab) -> String {
    lab.netns(&format!("node:{GATEWAY}")).unwrap()
}

/// Status line and body; `None` while nobody listens.
fn ask(lab: &TestLab, path: &str) -> Option<(String, String)> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {LISTEN}\r\n\r\n");
    let answer = netns::within(&netns_of(&lab.lab), || {
        let mut stream = TcpStream::connect(LISTEN).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        Some(answer)
    });
    let answer = answer.unwrap()?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    Some((head.lines().next().unwrap().to_owned(), body.to_owned()))
}

fn scrape(lab: &TestLab) -> String {
    let (status, body) = ask(lab, "/metrics").expect("somebody listens");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.ends_with("# EOF\n"));
    body
}

/// What all series together say that begin so.
fn sum(scrape: &str, series: &str) -> f64 {
    let of_them = scrape
        .lines()
        .filter(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(['{', ' ', ',', '"'])));
    of_them.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

#[test]
fn figures_follow_the_traffic() {
    let lab = TestLab::two_zones(options());
    for path in ["/livez", "/readyz", "/healthz"] {
        assert_eq!(ask(&lab, path).unwrap(), ("HTTP/1.1 200 OK".to_owned(), "ok\n".to_owned()), "{path}");
    }
    let (here, there) = (lab.place("far/client"), lab.place("shop/bench"));
    let before = scrape(&lab);
    let stream = blob(4 << 20, 1);
    assert!(tcp_transfer(&here, &there, &stream).unwrap() == stream);
    assert_eq!(udp_echoes(&here, &there, &[vec![1; 100]]), 1);
    let after = scrape(&lab);
    let grown = |series: &str| sum(&after, series) - sum(&before, series);
    // Each byte came in and went out, in packets of no more than 1450.
    for direction in ["receive", "transmit"] {
        let bytes = grown(&format!("margay_port_{direction}_bytes_total"));
        assert!(bytes > stream.len() as f64, "{direction}: {bytes}");
        let packets = grown(&format!("margay_port_{direction}_packets_total"));
        assert!(packets > stream.len() as f64 / 65_536.0, "{direction}: {packets}");
    }
    assert!(grown("margay_worker_flows_inserted_total") >= 2.0, "a stream and an echo");
    assert!(grown("margay_worker_busy_seconds_total") > 0.0);
    let timed = grown("margay_gateway_latency_seconds_count");
    assert!(timed > 0.0, "one burst in 32 of a stream");
    let bounded = sum(&after, "margay_gateway_latency_seconds_bucket{le=\"+Inf\"");
    let all = sum(&after, "margay_gateway_latency_seconds_count");
    assert!((bounded - all).abs() < 0.5, "{bounded} of {all}");
    assert!(grown("margay_gateway_latency_seconds_sum") > 0.0);
    assert!((sum(&after, "margay_ready") - 1.0).abs() < f64::EPSILON);
    // What is told here is what is told there, as far as it stands still.
    let status = lab.status(GATEWAY);
    let open = status["ports"].as_array().unwrap().iter().filter(|port| port["state"] == "open").count();
    assert!((sum(&after, "margay_port_open") - open as f64).abs() < 0.5, "{open} ports are open");
    let generation = status["snapshot"]["generation"].as_f64().unwrap();
    assert!(sum(&after, "margay_snapshot_generation") <= generation);
}

/// On a terminal that `script` makes, it draws, and ends when `q` comes.
#[test]
fn top_shows_a_running_gateway_on_a_terminal() {
    let lab = TestLab::two_zones(Options::default());
    let socket = margay_testbed::daemon::socket(lab.name(), GATEWAY);
    let top = format!(
        "stty cols 120 rows 40; {} top --every 0.1 --socket {}",
        margay().display(),
        socket.display()
    );
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--flush", "--command", &top, "/dev/null"])
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut keys, mut screen) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
    let (sender, drawn) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut some = [0; 4096];
        while let Ok(length @ 1..) = screen.read(&mut some) {
            if sender.send(String::from_utf8_lossy(&some[..length]).into_owned()).is_err() {
                return;
            }
        }
    });
    let mut text = String::new();
    // What changes is drawn again by itself: the second answer's rates are the first drawing's dashes no more.
    while !["WORKER", "PORT", "uplink", "BUSIEST"].iter().all(|word| text.contains(word)) {
        text += &drawn.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it draws no more:\n{text}"));
    }
    keys.write_all(b"q").unwrap();
    assert!(script.wait().unwrap().success(), "{text}");
}

#[test]
fn who_has_the_address_keeps_nothing_but_the_metrics() {
    let mut held = None;
    let lab = TestLab::two_zones_after(options(), |lab| {
        held = netns::within(&netns_of(lab), || TcpListener::bind(LISTEN).ok())?;
        Ok(())
    });
    assert!(held.is_some() && lab.status(GATEWAY)["ready"].as_bool().unwrap());
    assert!(lab.log(GATEWAY).contains("nobody is told metrics"), "{}", lab.log(GATEWAY));
    drop(held);
    assert!(eventually(|| ask(&lab, "/readyz").is_some_and(|(status, _)| status.ends_with("200 OK"))));
}
