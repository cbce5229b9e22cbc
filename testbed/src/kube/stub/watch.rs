//! A watch's stream: what is there, what changes, bookmarks, and its ends, orderly or not.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::{self, Instant};

use super::Shared;
use super::answer::failure;
use super::body::{Gone, Writer};
use super::fault::Interrupt;
use super::world::{Event, Scope};

/// How often a watch hears of the version that it has reached. Real servers say so about once a minute.
const BOOKMARK: Duration = Duration::from_millis(500);

/// A watch as it was asked for.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) scope: Scope,
    /// What happened after this version; without one, first what there is.
    pub(super) after: Option<u64>,
    /// Says where what there is ends, as a list that is streamed does.
    pub(super) marks_end: bool,
    pub(super) bookmarks: bool,
    pub(super) timeout: Duration,
}

/// Runs the watch until its time is over, its reader has gone or something ends it.
pub(super) async fn run(
    shared: Arc<Shared>,
    watch: Watch,
    interrupt: oneshot::Receiver<Interrupt>,
    mut out: Writer,
) {
    // The reader's going is the only error, and the end.
    let _ = stream(&shared, &watch, interrupt, &mut out).await;
}

async fn stream(
    shared: &Shared,
    watch: &Watch,
    mut interrupt: oneshot::Receiver<Interrupt>,
    out: &mut Writer,
) -> Result<(), Gone> {
    let mut news = shared.news.subscribe();
    let mut seen = begin(shared, watch, out).await?;
    let mut bookmarks = time::interval(BOOKMARK);
    let end = Instant::now() + watch.timeout;
    loop {
        news.mark_unchanged();
        let Some(reached) = pass_on(shared, watch, seen, out).await? else { return Ok(()) };
        // One that asked for what is still to come hears nothing before that.
        seen = seen.max(reached);
        tokio::select! {
            _ = news.changed() => {}
            _ = bookmarks.tick(), if watch.bookmarks => {
                if seen == reached {
                    out.line(&bookmark(shared, watch, seen, false)).await?;
                }
            }
            how = &mut interrupt => return end_by(how.unwrap_or(Interrupt::Break), out).await,
            () = out.closed() => return Err(Gone),
            () = time::sleep_until(end) => return Ok(()),
        }
    }
}

/// What there is, where the watch begins with it; the version that the stream has reached.
async fn begin(shared: &Shared, watch: &Watch, out: &mut Writer) -> Result<u64, Gone> {
    if let Some(after) = watch.after {
        return Ok(after);
    }
    let listed = shared.state.lock().world.list(&watch.scope, usize::MAX);
    for item in listed.items {
        out.line(&event(&("ADDED", item))).await?;
    }
    if watch.marks_end {
        out.line(&bookmark(shared, watch, listed.revision, true)).await?;
    }
    Ok(listed.revision)
}

/// Sends what happened since. The version that is reached, or `None` where the stream is at its end.
async fn pass_on(shared: &Shared, watch: &Watch, seen: u64, out: &mut Writer) -> Result<Option<u64>, Gone> {
    let (events, reached, serves) = {
        let state = shared.state.lock();
        let serves = state.world.served().contains(&watch.scope.resource);
        (state.world.events(&watch.scope, seen), state.world.revision(), serves)
    };
    let Ok(events) = events else {
        end_by(Interrupt::Gone, out).await?;
        return Ok(None);
    };
    for one in &events {
        out.line(&event(one)).await?;
    }
    Ok(serves.then_some(reached))
}

async fn end_by(how: Interrupt, out: &mut Writer) -> Result<(), Gone> {
    match how {
        Interrupt::End => Ok(()),
        Interrupt::Gone => out.line(&error(410, "too old resource version")).await,
        Interrupt::Failed => out.line(&error(500, "etcdserver: request timed out")).await,
        Interrupt::Break => out.break_off().await,
        Interrupt::Half => {
            out.send(br#"{"type":"MODIFIED","object":{"kind":"Pod","apiVersion":"v1","metada"#.to_vec())
                .await?;
            out.break_off().await
        }
        Interrupt::Garbage => out.send(b"<html>502 Bad Gateway</html>\n".to_vec()).await,
        Interrupt::Silence => {
            out.closed().await;
            Err(Gone)
        }
    }
}

fn event((what, object): &Event) -> Value {
    json!({"type": what, "object": **object})
}

fn error(code: u16, message: &str) -> Value {
    json!({"type": "ERROR", "object": failure(code, message)})
}

fn bookmark(shared: &Shared, watch: &Watch, revision: u64, is_end_of_list: bool) -> Value {
    let resource = watch.scope.resource;
    let date = shared.state.lock().date.map(|date| date.bookmarks);
    let mut metadata = json!({"resourceVersion": revision.to_string(), "creationTimestamp": date});
    if is_end_of_list {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({"kind": resource.kind, "apiVersion": resource.api_version(), "metadata": metadata});
    json!({"type": "BOOKMARK", "object": object})
}
