//! The asking side, for `margay status`.

use std::io;
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use super::Status;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("no Margay answers at {}: {error}", path.display())]
    Connect { path: PathBuf, error: io::Error },
    #[error("the admin socket speaks no HTTP: {0}")]
    Http(hyper::Error),
    #[error("the admin socket answers {0}: {1}")]
    Refused(hyper::StatusCode, String),
    #[error("the admin socket answers what is no status: {0}")]
    Json(serde_json::Error),
}

/// Asks the Margay that listens at `socket` how it is.
pub async fn status(socket: &Path) -> Result<Status, Error> {
    let connect = |error| Error::Connect { path: socket.to_owned(), error };
    let stream = UnixStream::connect(socket).await.map_err(connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(Error::Http)?;
    // It fails only where the request does too.
    tokio::spawn(connection);
    let mut request = hyper::Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = hyper::Uri::from_static("/v1/status");
    request.headers_mut().insert(HOST, hyper::header::HeaderValue::from_static("margay"));
    let response = sender.send_request(request).await.map_err(Error::Http)?;
    let code = response.status();
    let body = response.into_body().collect().await.map_err(Error::Http)?.to_bytes();
    if !code.is_success() {
        return Err(Error::Refused(code, String::from_utf8_lossy(&body).into_owned()));
    }
    serde_json::from_slice(&body).map_err(Error::Json)
}
