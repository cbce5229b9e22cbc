//! The asking side, for `margay status`, `margay policies` and `margay explain`.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::Method;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Policies, Status};
use crate::explain::Explanation;
use crate::probe::Written;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Margay answers at {}: {error}", path.display())]
    Connect { path: PathBuf, error: io::Error },
    #[error("the admin socket speaks no HTTP: {0}")]
    Http(hyper::Error),
    #[error("the admin socket answers {0}: {1}")]
    Refused(hyper::StatusCode, String),
    #[error("the admin socket answers what this margay does not understand: {0}")]
    Json(serde_json::Error),
}

/// Asks the Margay that listens at `socket` how it is.
pub async fn status(socket: &Path) -> Result<Status, Error> {
    get(socket, "/v1/status").await
}

/// Asks it what its policies have counted.
pub async fn policies(socket: &Path) -> Result<Policies, Error> {
    get(socket, "/v1/policies").await
}

/// Asks it why the packets of a probe pass there, or do not.
pub async fn explain(socket: &Path, probe: &Written) -> Result<Explanation, Error> {
    let body = serde_json::to_vec(probe).map_err(Error::Json)?;
    send(socket, Method::POST, "/v1/explain", body.into()).await
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &'static str) -> Result<T, Error> {
    send(socket, Method::GET, path, Bytes::new()).await
}

async fn send<T: DeserializeOwned>(
    socket: &Path,
    method: Method,
    path: &'static str,
    body: Bytes,
) -> Result<T, Error> {
    let connect = |error| Error::Connect { path: socket.to_owned(), error };
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    // It fails only where the request does too.
    tokio::spawn(connection);
    let mut request = hyper::Request::new(Full::new(body));
    *request.method_mut() = method;
    *request.uri_mut() = hyper::Uri::from_static(path);
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("margay"));
    let response = sender.send_request(request).await.map_err(Error::Http)?;
    let code = response.status();
    let body = response.into_body().collect().await.map_err(Error::Http)?.to_bytes();
    if !code.is_success() {
        return Err(Error::Refused(code, reason(&body)));
    }
    serde_json::from_slice(&body).map_err(Error::Json)
}

/// What an answer that is no success says of why.
fn reason(body: &[u8]) -> String {
    let said = serde_json::from_slice::<serde_json::Value>(body).ok();
    let said = said.and_then(|said| Some(said.get("error")?.as_str()?.to_owned()));
    said.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned())
}
