//! A response's body that is written while it is read, at a pace, and can break.

use std::io;
use std::time::Duration;

use futures::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Time for what was sent to leave before the connection breaks.
const FLUSH: Duration = Duration::from_millis(20);

/// The reader has gone.
#[derive(Debug)]
pub(super) struct Gone;

/// The writing end of a body.
#[derive(Debug)]
pub(super) struct Writer {
    sender: mpsc::Sender<io::Result<Frame<Bytes>>>,
    /// Bytes at a time, and the pause after them.
    pace: Option<(usize, Duration)>,
}

/// Both ends of a body.
pub(super) fn body(pace: Option<(usize, Duration)>) -> (Writer, Body) {
    let (sender, receiver) = mpsc::channel(8);
    let frames = stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (Writer { sender, pace }, StreamBody::new(frames).boxed_unsync())
}

impl Writer {
    pub(super) async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Gone> {
        let Some((piece, pause)) = self.pace else { return self.frame(bytes.into()).await };
        for piece in bytes.chunks(piece) {
            self.frame(Bytes::copy_from_slice(piece)).await?;
            time::sleep(pause).await;
        }
        Ok(())
    }

    /// Sends a line of JSON.
    pub(super) async fn line(&mut self, value: &Value) -> Result<(), Gone> {
        self.send(format!("{value}\n").into_bytes()).await
    }

    async fn frame(&mut self, bytes: Bytes) -> Result<(), Gone> {
        self.sender.send(Ok(Frame::data(bytes))).await.map_err(|_| Gone)
    }

    /// Ends the connection with the body unfinished.
    pub(super) async fn break_off(&mut self) -> Result<(), Gone> {
        time::sleep(FLUSH).await;
        self.sender.send(Err(io::ErrorKind::ConnectionReset.into())).await.map_err(|_| Gone)
    }

    /// Returns when the reader has gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
