//! `POST /v1/captures` and `POST /v1/traces`: packets as they pass, until something ends that; and `DELETE /v1/taps/{id}`.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use margay_fastpath::tap::{TapId, tap};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::{Control, Refusal, Refused};
use crate::capture::PcapNg;
use crate::run::{Dataplane, NoTap};
use crate::tap::{CaptureRequest, Session, Show};
use crate::trace::{Lines, TraceLine};

/// Says the number by which a capture or trace can be ended, with what it has to say at its end.
pub(super) const TAP: HeaderName = HeaderName::from_static("margay-tap");
/// Portions that wait for who reads the answer.
const WAITING: usize = 64;
/// How often to see whether workers have given a tap back.
const SETTLE: Duration = Duration::from_millis(10);
/// Packets of a trace at most.
const LONGEST_TRACE: u64 = 10_000;

/// Copies packets that match, as pcapng: as they came in and as they left, with what became of them.
#[utoipa::path(
    post,
    path = "/v1/captures",
    request_body = CaptureRequest,
    responses(
        (status = OK, description = "Packets as they pass. The header `margay-tap` has the number for DELETE /v1/taps/{id}; \
            the end of the connection ends it too", body = Vec<u8>, content_type = "application/x-pcapng"),
        (status = BAD_REQUEST, description = "No filter that may run on a worker", body = Refused),
        (status = CONFLICT, description = "Too many captures and traces at once", body = Refused),
    )
)]
pub(super) async fn captures(State(control): State<Control>, body: Bytes) -> Result<Response, Refusal> {
    let wanted: CaptureRequest = read(&body)?;
    follow(control, wanted, PcapNg::default(), "application/x-pcapng").await
}

/// The next packets that match, each with the steps that it takes through the gateway.
#[utoipa::path(
    post,
    path = "/v1/traces",
    request_body = CaptureRequest,
    responses(
        (status = OK, description = "A packet a line as it passes, and a last line with what was missed. The header \
            `margay-tap` has the number for DELETE /v1/taps/{id}; the end of the connection ends it too",
            body = TraceLine, content_type = "application/x-ndjson"),
        (status = BAD_REQUEST, description = "No filter that may run on a worker, or no `count`", body = Refused),
        (status = CONFLICT, description = "Too many captures and traces at once", body = Refused),
    )
)]
pub(super) async fn traces(State(control): State<Control>, body: Bytes) -> Result<Response, Refusal> {
    let wanted: CaptureRequest = read(&body)?;
    if !(1..=LONGEST_TRACE).contains(&wanted.count) {
        return Err(Refusal::bad_request(format!("count: a trace is of 1 to {LONGEST_TRACE} packets")));
    }
    follow(control, wanted, Lines, "application/x-ndjson").await
}

/// Ends a capture or trace, which then says what it has to say at its end.
#[utoipa::path(
    delete,
    path = "/v1/taps/{id}",
    params(("id" = u64, Path, description = "Of the header `margay-tap`")),
    responses(
        (status = OK, description = "It ends", body = bool),
        (status = NOT_FOUND, description = "It has ended, or never was", body = Refused),
    )
)]
pub(super) async fn taps(State(control): State<Control>, Path(id): Path<u64>) -> Result<Json<bool>, Refusal> {
    let is_there = control.ask(move |plane| plane.end_tap(TapId(id))).await?;
    if is_there {
        Ok(Json(true))
    } else {
        Err(Refusal::not_found(format!("no capture or trace has number {id}")))
    }
}

fn read(body: &[u8]) -> Result<CaptureRequest, Refusal> {
    // Whatever the content type says: curl's is a form's.
    serde_json::from_slice(body).map_err(|why| Refusal::bad_request(why.to_string()))
}

async fn follow(
    control: Control,
    wanted: CaptureRequest,
    show: impl Show,
    content_type: &'static str,
) -> Result<Response, Refusal> {
    // Nothing is taken as the client says it.
    let spec = wanted.spec().map_err(|why| Refusal::bad_request(why.to_string()))?;
    let conflict = |why: NoTap| Refusal::conflict(why.to_string());
    let (id, workers) = control.ask(Dataplane::number_tap).await?.map_err(conflict)?;
    let make = move || (0..workers).map(|_| tap(id, spec.clone())).unzip();
    let (taps, readers): (Vec<_>, Vec<_>) = spawn_blocking(make).await.map_err(|_| Refusal::stopping())?;
    let open = control.ask(move |plane| plane.tap(id, taps)).await?.map_err(conflict)?;
    let (sender, receiver) = mpsc::channel(WAITING);
    let (done, is_done) = oneshot::channel::<()>();
    tokio::spawn(give_back(control.clone(), id, is_done));
    let runtime = Handle::current();
    let ask = move |asked| runtime.block_on(control.ask(move |plane| plane.name(&asked))).ok();
    // Where there is no thread `done` goes, and the tap with it.
    Session::new(wanted, readers, open, show, ask, sender)
        .start(move || drop(done))
        .map_err(|why| Refusal::failed(why.to_string()))?;
    let portions = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Bytes>| {
        let portion = receiver.recv().await?;
        Some((Ok::<_, Infallible>(portion), receiver))
    });
    let headers = [(CONTENT_TYPE, content_type.to_owned()), (TAP, id.0.to_string())];
    Ok((StatusCode::OK, headers, Body::from_stream(portions)).into_response())
}

/// Takes the tap from the workers when nobody reads it any more.
async fn give_back(control: Control, id: TapId, is_done: oneshot::Receiver<()>) {
    // It is dropped when it is done.
    let _ = is_done.await;
    // Where the control loop has ended, workers have given all back.
    while !control.ask(move |plane| plane.untap(id)).await.unwrap_or(true) {
        sleep(SETTLE).await;
    }
}
