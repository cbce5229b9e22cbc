//! The serving side: requests are answered by the control loop, so that an answer is of one moment.

use std::convert::Infallible;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::Status;

/// Requests that may wait for the control loop.
const WAITING: usize = 16;

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
        async move { Ok::<_, Infallible>(answer(&request, &requests).await) }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a connection on the admin socket ended early");
    }
}

async fn answer(
    request: &hyper::Request<Incoming>,
    requests: &mpsc::Sender<Request>,
) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/v1/status") => {
            let (sender, status) = oneshot::channel();
            if requests.send(Request::Status(sender)).await.is_err() {
                return error(StatusCode::SERVICE_UNAVAILABLE, "Margay is stopping");
            }
            match status.await {
                Ok(status) => json(StatusCode::OK, &status),
                Err(_) => error(StatusCode::SERVICE_UNAVAILABLE, "Margay is stopping"),
            }
        }
        (_, "/v1/status") => error(StatusCode::METHOD_NOT_ALLOWED, "only GET"),
        _ => error(StatusCode::NOT_FOUND, "there is /v1/status"),
    }
}

fn error(code: StatusCode, what: &str) -> Response<Full<Bytes>> {
    json(code, &serde_json::json!({ "error": what }))
}

fn json(code: StatusCode, body: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(body).expect("a status has string keys, and so can be JSON");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}
