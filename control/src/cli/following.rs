//! Captures and traces of a running gateway: what asks for them, and how they end.

use std::path::Path;

use anyhow::Context;
use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Bytes, Incoming};
use margay_control::admin;
use margay_control::tap::{CaptureRequest, compile};
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

/// What both are given.
#[derive(Debug, clap::Args)]
pub(super) struct Limits {
    /// End after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Packets a second that each worker copies at most; what matches beyond that is counted [default: 50000].
    #[arg(long, value_name = "PACKETS")]
    rate: Option<u32>,
    /// Which packets, as for tcpdump [default: all].
    #[arg(value_name = "FILTER")]
    filter: Vec<String>,
}

impl Limits {
    pub(super) fn request(&self) -> anyhow::Result<CaptureRequest> {
        let expression = self.filter.join(" ");
        let default = CaptureRequest::default();
        Ok(CaptureRequest {
            filter: compile(&expression)?,
            expression,
            seconds: self.seconds.unwrap_or_default(),
            per_second: self.rate.unwrap_or(default.per_second),
            ..default
        })
    }
}

/// Gives `take` what the gateway answers, as it comes, until the end of that, until `take` says no more, or a second
/// signal. The first signal has the gateway say what it has to say at the end.
pub(super) fn follow(
    socket: &Path,
    path: &str,
    request: &impl Serialize,
    take: impl FnMut(&[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let body = serde_json::to_vec(request)?.into();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let response = admin::open(socket, Method::POST, path, body).await?;
        let tap = response.headers().get("margay-tap").and_then(|tap| tap.to_str().ok()).map(str::to_owned);
        read(socket, tap, response.into_body(), take).await
    })
}

async fn read(
    socket: &Path,
    tap: Option<String>,
    mut body: Incoming,
    mut take: impl FnMut(&[u8]) -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut signals = 0;
    loop {
        tokio::select! {
            _ = interrupt.recv() => signals += 1,
            _ = terminate.recv() => signals += 1,
            frame = body.frame() => {
                let Some(frame) = frame else { return Ok(()) };
                let frame = frame.context("the gateway has broken off")?;
                if let Some(bytes) = frame.data_ref()
                    && !take(bytes)?
                {
                    return Ok(());
                }
                continue;
            }
        }
        match &tap {
            // One that has ended meanwhile is what was wanted.
            Some(tap) if signals == 1 => {
                let _ = admin::open(socket, Method::DELETE, &format!("/v1/taps/{tap}"), Bytes::new()).await;
            }
            _ => return Ok(()),
        }
    }
}
