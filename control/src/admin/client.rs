//! The asking side, for the commands that look at a running gateway.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::{Policies, Refused, Status};
use crate::explain::Explanation;
use crate::probe::Written;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Margay answers at {}: {error}", path.display())]
    Connect { path: PathBuf, error: io::Error },
    #[error("the admin socket speaks no HTTP: {0}")]
    Http(hyper::Error),
    #[error("{0:?} is no path that can be asked: {1}")]
    Path(String, axum::http::Error),
    #[error("the admin socket answers {0}: {1}")]
    Refused(StatusCode, String),
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
    post(socket, "/v1/explain", probe).await
}

/// What stands at this path, with what follows it behind a `?`.
pub async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Error> {
    read(open(socket, Method::GET, path, Bytes::new()).await?).await
}

/// What becomes of a question with a body.
pub async fn post<T: DeserializeOwned>(
    socket: &Path,
    path: &str,
    body: &(impl Serialize + ?Sized),
) -> Result<T, Error> {
    let body = serde_json::to_vec(body).map_err(Error::Json)?;
    read(open(socket, Method::POST, path, body.into()).await?).await
}

/// The answer, if it is a success, whose body is still to come: for what has no end.
pub async fn open(
    socket: &Path,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Response<Incoming>, Error> {
    let connect = |error| Error::Connect { path: socket.to_owned(), error };
    let request =
        Request::builder().method(method).uri(path).header(HOST, HeaderValue::from_static("margay"));
    let request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let request = request.body(Full::new(body)).map_err(|error| Error::Path(path.to_owned(), error))?;
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    // It fails only where the request does too.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(Error::Http)?;
    let code = response.status();
    if code.is_success() {
        return Ok(response);
    }
    let body = response.into_body().collect().await.map_err(Error::Http)?.to_bytes();
    Err(Error::Refused(code, reason(&body)))
}

async fn read<T: DeserializeOwned>(response: Response<Incoming>) -> Result<T, Error> {
    let body = response.into_body().collect().await.map_err(Error::Http)?.to_bytes();
    serde_json::from_slice(&body).map_err(Error::Json)
}

/// What an answer that is no success says of why.
fn reason(body: &[u8]) -> String {
    let said = serde_json::from_slice::<Refused>(body);
    said.map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |said| said.error)
}
