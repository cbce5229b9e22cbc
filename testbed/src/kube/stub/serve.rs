//! HTTP: connections, who may ask, which fault befalls a request, and the answer on its way.

use std::future::pending;
use std::io;
use std::sync::Arc;

use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, server::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::answer::{Answer, ahead, answer, failure};
use super::body::{Body, body};
use super::fault::{self, Fault};
use super::request::Request;
use super::watch::{self, Watch};
use super::{OpenWatch, Shared};

/// Serves connections until it is dropped, and they with it.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // A connection that was gone before it was taken is nobody's loss.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| respond(Arc::clone(&shared), request));
            // How a connection ends is the client's matter, or the fault that was asked for.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// An error closes the connection without an answer.
async fn respond(shared: Arc<Shared>, request: hyper::Request<Incoming>) -> io::Result<Response<Body>> {
    let mut response = respond_in_time(&shared, request).await?;
    let date = shared.state.lock().date;
    if let Some(date) = date {
        response.headers_mut().insert(DATE, HeaderValue::from_static(date.answers));
    }
    Ok(response)
}

async fn respond_in_time(
    shared: &Arc<Shared>,
    request: hyper::Request<Incoming>,
) -> io::Result<Response<Body>> {
    let (parts, given) = request.into_parts();
    let given = given.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = Request::new(parts.method.as_str(), &parts.uri);
    let credentials = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (fault, answer) = decide(shared, &request, credentials, &given);
    match fault {
        Some(Fault::Close) => return Err(io::ErrorKind::ConnectionReset.into()),
        Some(Fault::Hang) => pending().await,
        Some(Fault::Mute) => return mute(),
        Some(Fault::Garbage) => return whole(200, "<html>It works!</html>".into()),
        _ => {}
    }
    let pace = match fault {
        Some(Fault::Slow { piece, pause }) => Some((piece, pause)),
        _ => None,
    };
    match answer {
        Answer::Watch(watch) => open(shared, watch, pace),
        Answer::Whole(code, document) if pace.is_none() && fault != Some(Fault::Half) => {
            whole(code, document.to_string())
        }
        Answer::Whole(code, document) => in_pieces(code, &document, pace, fault == Some(Fault::Half)),
    }
}

/// The fault that befalls the request, and its answer.
fn decide(
    shared: &Shared,
    request: &Request,
    credentials: Option<&str>,
    given: &[u8],
) -> (Option<Fault>, Answer) {
    let mut state = shared.state.lock();
    state.requests.push(request.clone());
    if let Some(token) = &state.token
        && credentials.and_then(|credentials| credentials.strip_prefix("Bearer ")) != Some(token.as_str())
    {
        return (None, Answer::Whole(401, failure(401, "Unauthorized")));
    }
    let target = request.target(state.world.served());
    let fault = fault::take(&mut state.rules, request.asked(&target), target.plural());
    if let Some(Fault::Status(code)) = fault {
        return (fault, Answer::Whole(code, failure(code, "as the test asked")));
    }
    if fault == Some(Fault::Ahead) {
        return (fault, Answer::Whole(504, ahead()));
    }
    let streaming = state.streaming;
    let before = state.world.revision();
    let answer = answer(&mut state.world, request, target, given, streaming);
    if state.world.revision() != before {
        shared.news.send_replace(());
    }
    (fault, answer)
}

fn whole(code: u16, text: String) -> io::Result<Response<Body>> {
    response(code, Full::from(text).map_err(|never| match never {}).boxed_unsync())
}

/// Nothing comes for as long as the reader waits.
fn mute() -> io::Result<Response<Body>> {
    let (writer, body) = body(None);
    tokio::spawn(async move { writer.closed().await });
    response(200, body)
}

fn in_pieces(
    code: u16,
    document: &Value,
    pace: Option<(usize, std::time::Duration)>,
    breaks: bool,
) -> io::Result<Response<Body>> {
    let (mut writer, body) = body(pace);
    let mut bytes = document.to_string().into_bytes();
    tokio::spawn(async move {
        if breaks {
            bytes.truncate(bytes.len() / 2);
        }
        // A reader that has gone needs no more.
        if writer.send(bytes).await.is_ok() && breaks {
            let _ = writer.break_off().await;
        }
    });
    response(code, body)
}

fn open(
    shared: &Arc<Shared>,
    watch: Watch,
    pace: Option<(usize, std::time::Duration)>,
) -> io::Result<Response<Body>> {
    let (writer, body) = body(pace);
    let (interrupt, interrupted) = oneshot::channel();
    shared.state.lock().watches.push(OpenWatch { resource: watch.scope.resource, interrupt });
    tokio::spawn(watch::run(Arc::clone(shared), watch, interrupted, writer));
    response(200, body)
}

fn response(code: u16, body: Body) -> io::Result<Response<Body>> {
    let response = Response::builder().status(code).header(CONTENT_TYPE, "application/json").body(body);
    response.map_err(io::Error::other)
}
