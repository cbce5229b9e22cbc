//! One kind, listed and watched for as long as the program runs.
//!
//! kube's `watcher` is not used. It does not say when a watch that broke is well again, passes over an event that it
//! cannot read, asks again without a pause where a watch ends at once, and reads each page of a list three times over.
//!
//! A watch that ends, as each does after some minutes, goes on from where it was, once the server has said that it has been
//! there. A list is read again only where that cannot be: the server has forgotten that far back (410), or is not as far
//! any more, or has said what could not be read. Each try after a failure waits longer than the one before, and as long as
//! chance says: gateways that lost one server do not come back to it in step.

use std::mem;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kube::api::{ListParams, WatchParams};
use kube::core::watch::Bookmark;
use kube::core::{Request, Status};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::client::Connection;
use super::kinds::{CALICO, GroupVersion, Watched};
use super::object::ApiObject;
use super::request::{Failure, Page, WatchEvent, get, get_whole, line};
use super::store::Event;
use super::waits::Waits;
use super::{Message, Topic};

/// Objects of a page; fewer where it comes out too long.
const PAGE: u32 = 500;
/// Annotation of the bookmark that stands between a list and what comes after it.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A list that comes as the beginning of a watch does not pause for so long.
const PATIENCE: Duration = Duration::from_secs(15);
/// A watch that lasts so long, or says anything, is a good one.
const GOOD: Duration = Duration::from_secs(5);
/// What has become possible or necessary for many at once, each does within this time.
const RELIST: Duration = Duration::from_secs(1);
/// A watch is asked for so many seconds, and up to half as many more.
const WATCH: u32 = 240;

/// How the server sends lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// As the beginnings of watches, as far as is known.
    Streamed,
    Paged,
}

/// The listing and watching of one kind.
#[derive(Debug)]
pub(super) struct Watch {
    watched: &'static Watched,
    request: Request,
    connection: Arc<Connection>,
    out: mpsc::Sender<Message>,
    lists: Lists,
    page: u32,
    start: Start,
    waits: Waits,
    is_in_trouble: bool,
    /// The server has forgotten where to go on from, since the last good watch.
    is_forgotten: bool,
    /// The last watch was no good one.
    ended_at_once: bool,
    bookmarks: Bookmarks,
}

/// Where to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Start {
    /// From a list.
    List,
    /// From a version that the server has just been at, or been past.
    Fresh(String),
    /// From a version that the server may not know any more.
    Old(String),
}

/// Whether a watch says something from time to time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bookmarks {
    /// This one has had no bookmark.
    None,
    Come,
    /// One that had them has fallen silent, and no other has said anything since.
    Overdue,
}

impl Watch {
    pub(super) fn new(
        watched: &'static Watched,
        at: GroupVersion,
        connection: Arc<Connection>,
        out: mpsc::Sender<Message>,
    ) -> Self {
        let request = Request::new(format!("{}/{}", at.path(), watched.plural));
        Self {
            watched,
            request,
            connection,
            out,
            // An API server of an extension may take the request for a watch without a list.
            lists: if at == CALICO { Lists::Paged } else { Lists::Streamed },
            start: Start::List,
            page: PAGE,
            waits: Waits::default(),
            is_in_trouble: false,
            is_forgotten: false,
            ended_at_once: false,
            bookmarks: Bookmarks::None,
        }
    }

    /// Never comes to an end.
    pub(super) async fn run(mut self) {
        loop {
            let tried = match self.start.clone() {
                Start::List => self.list().await,
                Start::Fresh(version) => self.watch(&version).await,
                Start::Old(version) => self.check(version).await,
            };
            let Err(failure) = tried else { continue };
            let wait = self.note(&failure).await;
            tokio::select! {
                () = sleep(wait) => {}
                // What another kind has found out need not be waited for.
                () = self.connection.found(), if matches!(failure, Failure::Connection(_) | Failure::Silence) => {
                    sleep(RELIST.mul_f64(fastrand::f64())).await;
                }
            }
        }
    }

    /// Draws the consequences of a failure. Says how long to wait.
    async fn note(&mut self, failure: &Failure) -> Duration {
        match failure {
            // What the server cannot do now it may do later; to any other no, the answer is to begin anew.
            Failure::Answer(status) if is_ahead(status) => self.start = Start::List,
            Failure::Answer(status) if matches!(status.code, 401 | 403 | 404 | 429 | 500..) => {}
            Failure::Answer(_) | Failure::Garbage(_) => self.start = Start::List,
            Failure::TooLong => {
                self.start = Start::List;
                self.page = (self.page / 2).max(1);
            }
            Failure::Connection(_) | Failure::Silence => {}
        }
        // That a server forgets is nothing wrong, if the list that it takes is not forgotten too.
        if failure.code() == Some(410) && !mem::replace(&mut self.is_forgotten, true) {
            return RELIST.mul_f64(fastrand::f64());
        }
        self.is_in_trouble = true;
        self.say(Message::Trouble { topic: Topic::Kind(self.watched.kind), why: Some(failure.to_string()) })
            .await;
        self.waits.next(failure)
    }

    /// All is well.
    async fn recover(&mut self) {
        self.waits = Waits::default();
        self.is_forgotten = false;
        if mem::take(&mut self.is_in_trouble) {
            self.say(Message::Trouble { topic: Topic::Kind(self.watched.kind), why: None }).await;
        }
    }

    async fn list(&mut self) -> Result<(), Failure> {
        if self.lists == Lists::Streamed {
            match self.watch("").await {
                // It knows no such list.
                Err(failure) if matches!(failure.code(), Some(400 | 405 | 422)) => self.lists = Lists::Paged,
                result => return result,
            }
        }
        self.tell(Event::Listing).await;
        let mut parameters = ListParams { limit: Some(self.page), ..ListParams::default() };
        parameters.field_selector = self.watched.fields.map(str::to_owned);
        loop {
            let body = self.get_page(&parameters).await?;
            let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| Failure::garbage(&error))?;
            for item in page.items.unwrap_or_default() {
                let object = self.object(item.get())?;
                self.tell(Event::Put(object)).await;
            }
            let rest = page.metadata.rest.filter(|rest| !rest.is_empty());
            if rest.is_some() {
                parameters.continue_token = rest;
                continue;
            }
            if page.metadata.resource_version.is_empty() {
                return Err(Failure::Garbage("the list has no resourceVersion".to_owned()));
            }
            self.start = Start::Fresh(page.metadata.resource_version);
            self.end_silence();
            self.tell(Event::Listed).await;
            return Ok(());
        }
    }

    async fn get_page(&self, parameters: &ListParams) -> Result<Vec<u8>, Failure> {
        let request = self.request.list(parameters).map_err(|error| Failure::Garbage(error.to_string()))?;
        get_whole(&self.connection, request).await
    }

    /// Sees that the server has come as far as that version. One whose etcd was restored to an older state has not, and
    /// a watch from there on would say nothing of what happens until it has.
    async fn check(&mut self, version: String) -> Result<(), Failure> {
        let body = self.get_page(&ListParams { limit: Some(1), ..ListParams::default() }).await?;
        let page: Page<'_> = serde_json::from_slice(&body).map_err(|error| Failure::garbage(&error))?;
        let reached = page.metadata.resource_version;
        if !is_before(&reached, &version) {
            self.start = Start::Fresh(version);
            return Ok(());
        }
        tracing::warn!(
            "{}: the API server is at version {reached}, and was at {version}: its objects are listed anew",
            self.watched.kind
        );
        self.start = Start::List;
        sleep(RELIST.mul_f64(fastrand::f64())).await;
        Ok(())
    }

    /// Watches from a version on, or from a list on where it is empty. Returns when the server ends it.
    async fn watch(&mut self, version: &str) -> Result<(), Failure> {
        let mut is_listing = version.is_empty();
        let parameters = WatchParams {
            field_selector: self.watched.fields.map(str::to_owned),
            timeout: Some(WATCH + fastrand::u32(..WATCH / 2)),
            bookmarks: true,
            send_initial_events: is_listing,
            ..WatchParams::default()
        };
        let request =
            self.request.watch(&parameters, version).map_err(|error| Failure::Garbage(error.to_string()))?;
        if !is_listing {
            self.start = Start::Old(version.to_owned());
        }
        let mut body = get(&self.connection, request).await?;
        let opened = Instant::now();
        if is_listing {
            self.tell(Event::Listing).await;
        } else if !self.ended_at_once && self.bookmarks != Bookmarks::Overdue {
            self.recover().await;
        }
        if self.bookmarks == Bookmarks::Come {
            self.bookmarks = Bookmarks::None;
        }
        self.ended_at_once = true;
        let mut buffer = Vec::new();
        loop {
            let mut next = pin!(line(&mut body, &mut buffer));
            let soon = if is_listing { Instant::now() + PATIENCE } else { opened + GOOD };
            let next = match timeout_at(soon, &mut next).await {
                Ok(next) => next,
                // The server knows no such list, and has taken the request for a watch without one.
                Err(_) if is_listing => {
                    self.lists = Lists::Paged;
                    return Ok(());
                }
                Err(_) => {
                    self.ended_at_once = false;
                    if self.bookmarks != Bookmarks::Overdue {
                        self.recover().await;
                    }
                    next.await
                }
            };
            let next = match next {
                Err(Failure::Silence) if self.bookmarks != Bookmarks::None => {
                    return Err(self.fall_silent());
                }
                Err(Failure::Connection(_) | Failure::Silence) if !self.ended_at_once => None,
                next => next?,
            };
            let Some(line) = next else { break };
            if !line.is_empty() {
                is_listing = self.take(line, is_listing).await?;
            }
        }
        if self.ended_at_once {
            let what = if is_listing { "list" } else { "watch" };
            return Err(Failure::Connection(format!("the API server breaks the {what} off")));
        }
        Ok(())
    }

    /// Notes that the watch should have said something. Where the one after it does not either, there may be more to it
    /// than a connection that lost its other end.
    fn fall_silent(&mut self) -> Failure {
        if mem::replace(&mut self.bookmarks, Bookmarks::Overdue) == Bookmarks::Overdue {
            self.start = Start::List;
        }
        Failure::Silence
    }

    fn end_silence(&mut self) {
        if self.bookmarks == Bookmarks::Overdue {
            self.bookmarks = Bookmarks::None;
        }
    }

    /// Takes in an event. Says whether it still belongs to the list.
    async fn take(&mut self, line: &[u8], is_listing: bool) -> Result<bool, Failure> {
        let event: WatchEvent<'_> = serde_json::from_slice(line).map_err(|error| Failure::garbage(&error))?;
        let text = event.object.get();
        let (version, told, is_listed) = match event.kind {
            "ADDED" | "MODIFIED" | "DELETED" => {
                let object = self.object(text)?;
                let version = object.resource_version().unwrap_or_default().to_owned();
                let told = if event.kind == "DELETED" { Event::Deleted(object) } else { Event::Put(object) };
                (version, Some(told), false)
            }
            "BOOKMARK" => {
                let bookmark: Bookmark = read(text)?;
                let is_end = bookmark.metadata.annotations.contains_key(INITIAL_EVENTS_END);
                self.bookmarks = Bookmarks::Come;
                (bookmark.metadata.resource_version, None, is_listing && is_end)
            }
            "ERROR" => return Err(Failure::Answer(read(text)?)),
            other => return Err(Failure::Garbage(format!("an event of the type {other:?}"))),
        };
        if version.is_empty() {
            return Err(Failure::Garbage("an event has no resourceVersion".to_owned()));
        }
        if let Some(event) = told {
            self.tell(event).await;
        }
        if is_listed {
            self.tell(Event::Listed).await;
        }
        if !is_listing || is_listed {
            self.start = Start::Old(version);
            self.ended_at_once = false;
            self.end_silence();
            self.recover().await;
        }
        Ok(is_listing && !is_listed)
    }

    fn object(&self, json: &str) -> Result<ApiObject, Failure> {
        ApiObject::read(self.watched, json.as_bytes()).map_err(|error| Failure::garbage(&error))
    }

    async fn tell(&self, event: Event) {
        self.say(Message::Event(self.watched.kind, event)).await;
    }

    /// Nobody listens any more only when the source ends, and this with it.
    async fn say(&self, message: Message) {
        self.out.send(message).await.ok();
    }
}

/// Whether the server says that it has not come so far yet.
fn is_ahead(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "ResourceVersionTooLarge")
}

/// Whether a version comes before another. That cannot be said of versions that are no numbers, as extensions may have.
fn is_before(version: &str, other: &str) -> bool {
    match (version.parse::<u128>(), other.parse::<u128>()) {
        (Ok(version), Ok(other)) => version < other,
        _ => false,
    }
}

fn read<T: DeserializeOwned>(json: &str) -> Result<T, Failure> {
    serde_json::from_str(json).map_err(|error| Failure::garbage(&error))
}
