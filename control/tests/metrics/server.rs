//! The listener, as scrapers, probes and others find it.

use std::net::SocketAddr;
use std::time::Duration;

use margay_control::admin::PortState;
use margay_control::metrics::{CONTENT_TYPE, Figures, Request, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::exposition::series;
use super::sample;

/// Only a failing test waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn listen() -> (Server, mpsc::Receiver<Request>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (server, requests) = Server::on(listener);
    (server, requests, address)
}

/// A gateway of these figures.
fn answering(mut requests: mpsc::Receiver<Request>, figures: Figures) {
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            drop(request.send(figures.clone()));
        }
    });
}

/// Sends a request as it stands; what comes back until the connection closes.
async fn send(address: SocketAddr, request: &str) -> String {
    let conversation = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        // It may be cut off by a reset where more was sent than it read.
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    };
    timeout(PATIENCE, conversation).await.expect("the connection closes")
}

/// Status line, head and body.
async fn ask(address: SocketAddr, method: &str, path: &str) -> (String, String, String) {
    let answer = send(address, &format!("{method} {path} HTTP/1.1\r\nHost: margay\r\n\r\n")).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer}"));
    let (status, head) = head.split_once("\r\n").unwrap();
    (status.to_owned(), head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test]
async fn a_ready_gateway_says_so_and_tells_its_metrics() {
    let (_server, requests, address) = listen().await;
    answering(requests, sample::running());
    for path in ["/livez", "/readyz", "/healthz"] {
        let (status, _, body) = ask(address, "GET", path).await;
        assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", "ok\n"), "{path}");
    }
    let (status, head, body) = ask(address, "GET", "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(head.contains(&format!("content-type: {CONTENT_TYPE}")), "{head}");
    assert!(series(&body).iter().any(|each| each.name == "margay_ready"), "{body}");
    let (status, _, body) = ask(address, "HEAD", "/metrics").await;
    assert_eq!((status.as_str(), body.as_str()), ("HTTP/1.1 200 OK", ""));
}

#[tokio::test]
async fn a_gateway_that_is_not_ready_says_why_and_lives() {
    let (_server, requests, address) = listen().await;
    let mut figures = sample::beginning();
    figures.status.ports =
        vec![sample::port("eth0", PortState::Failed), sample::port("eth1", PortState::Missing)];
    answering(requests, figures);
    let (status, _, body) = ask(address, "GET", "/readyz").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    let reasons: Vec<&str> = body.lines().collect();
    assert_eq!(
        reasons,
        [
            "not ready: the API server has not delivered a whole first state",
            "not ready: pods: connection refused",
            "not ready: port eth0: Device or resource busy",
            "not ready: port eth1: device eth1 is not there, or not up",
        ]
    );
    for path in ["/livez", "/healthz", "/metrics"] {
        assert_eq!(ask(address, "GET", path).await.0, "HTTP/1.1 200 OK", "{path}");
    }
}

#[tokio::test]
async fn a_gateway_that_ends_does_not_live() {
    let (_server, requests, address) = listen().await;
    drop(requests);
    for path in ["/livez", "/readyz", "/healthz", "/metrics"] {
        let (status, _, body) = ask(address, "GET", path).await;
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable", "{path}: {body}");
    }
}

#[tokio::test]
async fn what_there_is_not_is_refused() {
    let (_server, requests, address) = listen().await;
    answering(requests, sample::running());
    let (status, head, _) = ask(address, "POST", "/metrics").await;
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
    assert!(head.contains("allow: get, head"), "{head}");
    let (status, _, body) = ask(address, "GET", "/").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert!(body.contains("/metrics"), "{body}");
    let endless = format!("GET /metrics HTTP/1.1\r\nA: {}", "a".repeat(1 << 20));
    assert!(!send(address, &endless).await.starts_with("HTTP/1.1 200"));
}

/// As long as others hold connections open and say nothing, one who asks waits for a place, and gets it.
#[tokio::test]
async fn silent_connections_end() {
    let (_server, requests, address) = listen().await;
    answering(requests, sample::running());
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let (status, ..) = ask(address, "GET", "/livez").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
}
