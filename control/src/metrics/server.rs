//! The listener of `[metrics]`: HTTP/1.1 over TCP, for whoever reaches it, so every connection is short and bounded.
//!
//! That it cannot listen does not keep the gateway from forwarding: it tries again until it can.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::{CONTENT_TYPE as OPENMETRICS, Figures, Process, Scrape, lacking};

/// A question to the control loop.
pub type Request = oneshot::Sender<Figures>;

/// Requests that may wait for the control loop.
const WAITING: usize = 16;
/// Connections at a time; more wait in the kernel.
const CONNECTIONS: usize = 32;
/// How long a connection may be, from the first byte to the last. It has one request.
const CONVERSATION: Duration = Duration::from_secs(10);
/// How long the control loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Before a listener is tried again that could not be.
const AGAIN: Duration = Duration::from_secs(5);
/// Bytes of a request's head at most.
const HEAD: usize = 16 << 10;

const TEXT: &str = "text/plain; charset=utf-8";

/// The listener. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens at the address, if one is configured. What is asked comes by the channel, by which nothing comes otherwise.
    pub fn start(listen: Option<SocketAddr>) -> (Option<Self>, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(WAITING);
        let server = listen.map(|address| Self { task: tokio::spawn(run(address, requests)) });
        (server, receiver)
    }

    /// Answers on this listener.
    pub fn on(listener: TcpListener) -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(WAITING);
        (Self { task: tokio::spawn(serve(listener, requests)) }, receiver)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(address: SocketAddr, requests: mpsc::Sender<Request>) {
    let mut said = None;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                tracing::info!("metrics and probes are answered at http://{address}");
                return serve(listener, requests).await;
            }
            Err(error) => note(&mut said, address, &error),
        }
        sleep(AGAIN).await;
    }
}

/// Says once why it cannot listen.
fn note(said: &mut Option<io::ErrorKind>, address: SocketAddr, error: &io::Error) {
    if said.replace(error.kind()) != Some(error.kind()) {
        tracing::error!("nobody is told metrics: metrics.listen {address}: {error}; it is tried again");
    }
}

async fn serve(listener: TcpListener, requests: mpsc::Sender<Request>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let requests = requests.clone();
                tokio::spawn(async move {
                    converse(stream, requests).await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: some may be free in a while.
                tracing::warn!(%error, "cannot take a connection that asks for metrics");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, requests: mpsc::Sender<Request>) {
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let requests = requests.clone();
        async move { Ok::<_, Infallible>(answer(&request, &requests).await) }
    });
    let mut http = http1::Builder::new();
    http.keep_alive(false).max_buf_size(HEAD);
    let conversation = http.serve_connection(TokioIo::new(stream), answer);
    match timeout(CONVERSATION, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection that asked for metrics ended early"),
        Err(_) => tracing::debug!("a connection that asked for metrics took too long"),
    }
}

async fn answer(
    request: &hyper::Request<Incoming>,
    requests: &mpsc::Sender<Request>,
) -> Response<Full<Bytes>> {
    let answer = match request.uri().path() {
        "/metrics" | "/livez" | "/readyz" | "/healthz"
            if ![Method::GET, Method::HEAD].contains(request.method()) =>
        {
            let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
            refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return refusal;
        }
        "/metrics" => metrics(requests).await,
        // That the control loop answers is what living is. `/healthz` is what this was called before.
        "/livez" | "/healthz" => ask(requests).await.map(|_| text(StatusCode::OK, "ok\n")),
        "/readyz" => ask(requests).await.map(|figures| readiness(&figures)),
        _ => return text(StatusCode::NOT_FOUND, "there are /metrics, /livez, /readyz and /healthz\n"),
    };
    answer.unwrap_or_else(|| {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the control loop does not answer: Margay is stopping, or stuck\n",
        )
    })
}

async fn metrics(requests: &mpsc::Sender<Request>) -> Option<Response<Full<Bytes>>> {
    let figures = ask(requests).await?;
    // There may be a thousand ports, and the control loop has other things to do.
    let write = move || {
        let process =
            Process::read().inspect_err(|error| tracing::debug!(%error, "/proc cannot be read")).ok();
        Scrape { figures, process }.text()
    };
    let Ok(Ok(written)) = tokio::task::spawn_blocking(write).await else {
        return Some(text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written\n"));
    };
    Some(respond(StatusCode::OK, OPENMETRICS, written))
}

fn readiness(figures: &Figures) -> Response<Full<Bytes>> {
    let lacking = lacking(&figures.status);
    if lacking.is_empty() {
        return text(StatusCode::OK, "ok\n");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, &format!("not ready: {}\n", lacking.join("\nnot ready: ")))
}

/// The control loop's answer; `None` if it has ended, or takes too long.
async fn ask(requests: &mpsc::Sender<Request>) -> Option<Figures> {
    let (sender, answer) = oneshot::channel();
    let asked = async {
        requests.send(sender).await.ok()?;
        answer.await.ok()
    };
    timeout(PATIENCE, asked).await.ok().flatten()
}

fn text(code: StatusCode, what: &str) -> Response<Full<Bytes>> {
    respond(code, TEXT, what.to_owned())
}

fn respond(code: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
