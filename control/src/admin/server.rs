//! The serving side: requests are answered by the control loop, so that an answer is of one moment.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::policies::Counted;
use super::{Policies, Status};
use crate::explain::{self, Explanation};
use crate::probe::{Probe, Written};

/// Requests that may wait for the control loop.
const WAITING: usize = 16;
/// Bytes of a probe at most.
const MOST_BODY: usize = 64 << 10;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("admin socket {}: another Margay answers there; give this one an admin.socket of its own", .0.display())]
    InUse(PathBuf),
    #[error("admin socket {}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// A question to the control loop.
#[derive(Debug)]
pub enum Request {
    Status(oneshot::Sender<Status>),
    Policies(oneshot::Sender<Counted>),
    Explain(Box<Probe>, oneshot::Sender<Result<Explanation, explain::Error>>),
}

/// The listening socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Server {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    /// Listens at `path`, for root alone. What a Margay that is gone left there is replaced.
    pub fn listen(path: &Path) -> Result<(Self, mpsc::Receiver<Request>), Error> {
        let failed = |error| Error::Io { path: path.to_owned(), error };
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(failed)?;
        }
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(Error::InUse(path.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(failed)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed)?;
        let (requests, receiver) = mpsc::channel(WAITING);
        let task = tokio::spawn(serve(listener, requests));
        Ok((Self { path: path.to_owned(), task }, receiver))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
        // If it is gone already, so much the better.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve(listener: UnixListener, requests: mpsc::Sender<Request>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(converse(stream, requests.clone()));
            }
            Err(error) => {
                // Out of descriptors, most likely: some may be free in a while.
                tracing::warn!(%error, "cannot take a connection on the admin socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: UnixStream, requests: mpsc::Sender<Request>) {
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let requests = requests.clone();
        async move { Ok::<_, Infallible>(answer(request, &requests).await) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection on the admin socket ended early");
    }
}

async fn answer(
    request: hyper::Request<Incoming>,
    requests: &mpsc::Sender<Request>,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => match ask(requests, Request::Status).await {
            Some(status) => json(StatusCode::OK, &status),
            None => stopping(),
        },
        (&Method::GET, "/v1/policies") => {
            let Some(counted) = ask(requests, Request::Policies).await else { return stopping() };
            // There may be a hundred thousand rules.
            let write = move || json(StatusCode::OK, &Policies::from(counted));
            tokio::task::spawn_blocking(write).await.unwrap_or_else(|_| stopping())
        }
        (&Method::POST, "/v1/explain") => explain(request.into_body(), requests).await,
        (_, "/v1/status" | "/v1/policies") => error(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
        (_, "/v1/explain") => error(StatusCode::METHOD_NOT_ALLOWED, "only POST"),
        _ => error(StatusCode::NOT_FOUND, "there are /v1/status, /v1/policies and /v1/explain"),
    }
}

/// Answers a probe, which the body is.
async fn explain(body: Incoming, requests: &mpsc::Sender<Request>) -> Response<Full<Bytes>> {
    let Ok(body) = Limited::new(body, MOST_BODY).collect().await else {
        return error(StatusCode::BAD_REQUEST, "the body is cut off, or too long for a probe");
    };
    let written = serde_json::from_slice::<Written>(&body.to_bytes()).map_err(|why| why.to_string());
    let probe = match written.and_then(|written| written.read(0).map_err(|why| why.to_string())) {
        Ok(probe) => Box::new(probe),
        Err(why) => return error(StatusCode::BAD_REQUEST, &why),
    };
    match ask(requests, |reply| Request::Explain(probe, reply)).await {
        Some(Ok(explanation)) => json(StatusCode::OK, &explanation),
        Some(Err(why)) => error(StatusCode::NOT_FOUND, &why.to_string()),
        None => stopping(),
    }
}

/// The control loop's answer; `None` if it has ended.
async fn ask<T>(
    requests: &mpsc::Sender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    requests.send(request(sender)).await.ok()?;
    answer.await.ok()
}

fn stopping() -> Response<Full<Bytes>> {
    error(StatusCode::SERVICE_UNAVAILABLE, "Margay is stopping")
}

fn error(code: StatusCode, what: &str) -> Response<Full<Bytes>> {
    json(code, &serde_json::json!({ "error": what }))
}

fn json(code: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("answers have string keys, and so can be JSON");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
