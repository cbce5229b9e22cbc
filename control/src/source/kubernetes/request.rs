//! Requests to the API server, and why they fail.

use std::error::Error;
use std::io;

use futures::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};
use hyper::Request;
use kube::core::Status;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Connection, in_full};

/// Bytes of a page of a list, or of a watch event, at most. etcd holds objects of 1.5 MB.
const MOST: u64 = 128 << 20;

/// Why a request, or a watch, came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server says no.
    #[error("{}", answer(.0))]
    Answer(Box<Status>),
    /// It cannot be reached, or not spoken with, or went away.
    #[error("{0}")]
    Connection(String),
    /// Nothing comes any more, and nobody says why.
    #[error("nothing comes from the API server any more")]
    Silence,
    /// What it says makes no sense.
    #[error("the API server's answer cannot be read: {0}")]
    Garbage(String),
    /// A page of a list, or an event, is longer than Margay reads.
    #[error("the API server's answer is longer than {MOST} bytes")]
    TooLong,
}

fn answer(status: &Status) -> String {
    let said = if status.message.is_empty() { &status.reason } else { &status.message };
    let said: String = said.chars().take(500).collect();
    match status.code {
        401 => format!("{said} (401: the API server does not take Margay's credentials)"),
        403 => format!("{said} (403: Margay's role must allow list and watch)"),
        404 => {
            format!("{said} (404: the API server does not have this kind in the version that Margay reads)")
        }
        code => format!("{said} ({code})"),
    }
}

impl Failure {
    pub(super) fn code(&self) -> Option<u16> {
        match self {
            Self::Answer(status) => Some(status.code),
            _ => None,
        }
    }

    /// How many seconds the server wants to be left alone.
    pub(super) fn retry_after(&self) -> u32 {
        match self {
            Self::Answer(status) => status.details.as_ref().map_or(0, |details| details.retry_after_seconds),
            _ => 0,
        }
    }

    /// A connection that broke, or came to nothing.
    fn broken(error: &(dyn Error + 'static)) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            // One that could not be opened in time says so in an error of its own, inside this.
            let is_silence =
                |error: &io::Error| error.kind() == io::ErrorKind::TimedOut && error.get_ref().is_none();
            if error.downcast_ref().is_some_and(is_silence) {
                return Self::Silence;
            }
            cause = error.source();
        }
        Self::Connection(in_full(error))
    }

    pub(super) fn garbage(error: &serde_json::Error) -> Self {
        Self::Garbage(error.to_string())
    }
}

/// Sends a GET and gives the body of the answer, if the server says yes.
pub(super) async fn get(
    connection: &Connection,
    request: Request<Vec<u8>>,
) -> Result<impl AsyncBufRead + Unpin + use<>, Failure> {
    let (number, client) =
        connection.client().await.map_err(|error| Failure::Connection(error.to_string()))?;
    let answer = client.request_stream(request).await;
    connection.note(matches!(answer, Ok(_) | Err(kube::Error::Api(_))));
    answer.map(Box::pin).map_err(|error| match error {
        kube::Error::Api(status) => {
            if status.code == 401 {
                connection.distrust(number);
            }
            Failure::Answer(status)
        }
        error => {
            connection.distrust(number);
            Failure::broken(&error)
        }
    })
}

/// Sends a GET and gives the whole body.
pub(super) async fn get_whole(
    connection: &Connection,
    request: Request<Vec<u8>>,
) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let reader = get(connection, request).await?;
    let read = reader.take(MOST).read_to_end(&mut body).await;
    read.map_err(|error| Failure::broken(&error))?;
    if body.len() as u64 == MOST {
        return Err(Failure::TooLong);
    }
    Ok(body)
}

/// The next line of a body; `None` at its end, a line that is cut off there included.
pub(super) async fn line<'a>(
    body: &mut (impl AsyncBufRead + Unpin),
    buffer: &'a mut Vec<u8>,
) -> Result<Option<&'a [u8]>, Failure> {
    buffer.clear();
    let read = body.take(MOST).read_until(b'\n', buffer).await;
    read.map_err(|error| Failure::broken(&error))?;
    match buffer.strip_suffix(b"\n") {
        Some(line) => Ok(Some(line)),
        None if buffer.len() as u64 == MOST => Err(Failure::TooLong),
        None => Ok(None),
    }
}

/// A page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<'a> {
    #[serde(default)]
    pub(super) metadata: PageMetadata,
    #[serde(borrow, default)]
    pub(super) items: Option<Vec<&'a RawValue>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct PageMetadata {
    pub(super) resource_version: String,
    #[serde(rename = "continue")]
    pub(super) rest: Option<String>,
}

/// An event of a watch.
#[derive(Debug, Deserialize)]
pub(super) struct WatchEvent<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    #[serde(borrow)]
    pub(super) object: &'a RawValue,
}
