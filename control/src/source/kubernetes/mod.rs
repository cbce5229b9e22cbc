//! A Kubernetes API server as a source: each kind listed, then watched, for as long as the program runs.
//!
//! Nothing is delivered before every kind is known as a whole; a kind that the API server refuses (403) holds that up, and
//! is said. After that what is known stands whatever becomes of the server, and each kind goes on by itself: one that is
//! in trouble keeps no other waiting. [`Store`] turns what the watches say into changes; what each meets, and how it goes
//! on, is in `watch.rs`.
//!
//! # What it costs the API server
//!
//! Of each gateway: one watch of each kind that is there, seven in any cluster and sixteen more with all of Calico's and
//! the admin policies, each on a connection of its own (HTTP/1.1), asked for again after 4 to 6 minutes, and woken by a
//! bookmark a minute. Every quarter of a minute, two to five small questions of what is served. A list of each kind at the
//! start, and after a watch that the server has forgotten: as the beginning of a watch where the server can, which it
//! answers from its cache, else in pages of 500. Before a watch is asked for again, a list of one object. Lists are
//! consistent reads: one from a cache that lags could miss what is known already. Pods that have ended are left out by a
//! field selector; what other pods do concerns every gateway, for policies and routes speak of them.
//!
//! # An older state
//!
//! The list of one object tells how far the server has come. If that is not as far as it was, its etcd was restored from a
//! backup, and the kind is listed anew: what was made since then is gone. Where the server has come further meanwhile than
//! it was before, that cannot be seen: `etcdutl snapshot restore --bump-revision` is for that, and for all other clients.
//!
//! So it grows with the objects and their changes, and with the number of gateways; nothing is asked for per object. A
//! gateway's first lists at 100,000 pods are 547 MB in 230 requests and 15 s of CPU of kube-apiserver and etcd; 200 changes of
//! pods a second are 1.6 MB a second to each and 5 to 7 % of a core (perf/MEASURES.md says how that was taken). Pods are nearly
//! all of both. The `DaemonSet` in `deploy/` restarts one gateway at a time. What all gateways find out at once, such as that
//! a server is back or has forgotten, each acts on at a moment of its own within a second: that spreads the requests, not
//! the work of the lists.
//!
//! # Silence and clocks
//!
//! A request is given up, and a watch with it, when nothing came of its connection for 75 seconds; the next connection
//! fails within 10 more. A watch that has had bookmarks and then falls silent is trouble until one says something: that the
//! server opens the next is not enough. If that one is silent too, the kind is listed again. Where a server sends no
//! bookmarks, a kind in which nothing happens is silent, and its watch is only asked for again.
//!
//! Times are of the monotonic clock: a jump of the wall's changes nothing but the `since` of trouble that begins then, and,
//! where a token is in a file, how soon kube reads the file again: at the latest when the server does not take the token.
//! Times that the server says are compared with each other alone: of pods on one address the newest holds it.
//!
//! # Surprising objects
//!
//! An object is read as a manifest is, and refused for the same reasons: then it is a problem, its last good version
//! stands, and all others go on. Fields and values that Margay does not read may be any. A pod without an address is no
//! endpoint yet; one on its node's network is its node; one that is being deleted keeps its address until it is gone or
//! another claims it, and of several that claim one it is that of the newest ([`crate::compile::owners`]). Pods that have
//! ended are not there. An object that was created again under its name takes the place of the one before without a gap,
//! and an event that is late for the one before does not touch it. Nodes that share an address each have the routes of
//! their own blocks.

mod client;
mod kinds;
mod object;
mod objects;
mod projection;
mod request;
mod served;
mod store;
#[cfg(test)]
mod tests;
mod waits;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use tokio::runtime;
use tokio::sync::{mpsc, watch as latest};

use self::client::{Connection, Origin, SILENCE};
use self::served::Served;
use self::watch::Watch;
use super::{Source, SourceEvent, Trouble};
use crate::manifest::Kind;

pub use self::client::{Access, Unusable};
pub use self::kinds::{GroupVersion, Presence, VERBS, WATCHED, Watched};
pub use self::object::ApiObject;
pub use self::store::{Event, Store};

/// Events that wait to be taken in.
const WAITING: usize = 1024;

/// The objects of an API server, watched.
#[derive(Debug)]
pub struct KubernetesSource {
    origin: Origin,
}

/// What the tasks that watch have to say.
#[derive(Debug)]
enum Message {
    Event(Kind, Event),
    /// Why it does not go on with a topic; `None`: it does.
    Trouble {
        topic: Topic,
        why: Option<String>,
    },
}

/// What trouble is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Discovery,
    Kind(Kind),
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Discovery => f.write_str("the kinds that the API server has"),
            Self::Kind(kind) => kind.fmt(f),
        }
    }
}

impl KubernetesSource {
    pub fn new(access: Access) -> Self {
        Self::with_silence(access, SILENCE)
    }

    /// With another limit than 75 seconds to the time that nothing comes of a connection. Less than a minute is less than
    /// there is between the bookmarks of most servers.
    pub fn with_silence(access: Access, silence: Duration) -> Self {
        Self { origin: Origin::Access(access, silence) }
    }

    /// By clients of another make, such as speak with a server in this process. They are made on the source's own thread,
    /// in its tokio runtime.
    pub fn with_clients(name: impl Into<String>, make: impl Fn() -> Client + Send + Sync + 'static) -> Self {
        Self { origin: Origin::Made(name.into(), Box::new(make)) }
    }
}

impl Source for KubernetesSource {
    fn name(&self) -> String {
        self.origin.name()
    }

    fn run(self: Box<Self>, deliver: &mut dyn FnMut(SourceEvent) -> ControlFlow<()>) {
        let runtime = runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                let trouble = Trouble::new("the thread that watches", format!("cannot start tokio: {error}"));
                // It cannot be tried again, and what has been said stands until the process ends.
                let _ = deliver(SourceEvent::Trouble(vec![trouble]));
                loop {
                    std::thread::park();
                }
            }
        };
        let (sender, mut messages) = mpsc::channel(WAITING);
        runtime.spawn(follow_all(Arc::new(Connection::new(self.origin)), sender));
        let mut known = Known::default();
        let mut batch = Vec::with_capacity(WAITING);
        loop {
            // Delivering blocks, so it is done out here.
            if runtime.block_on(messages.recv_many(&mut batch, WAITING)) == 0 {
                return;
            }
            for message in batch.drain(..) {
                known.take(message);
            }
            for event in known.tell() {
                if deliver(event).is_break() {
                    return;
                }
            }
        }
    }
}

/// Watches each kind on a task of its own.
async fn follow_all(connection: Arc<Connection>, out: mpsc::Sender<Message>) {
    let (asked, served) = latest::channel(Served::new());
    for watched in &WATCHED {
        let (connection, out) = (Arc::clone(&connection), out.clone());
        match watched.presence {
            Presence::Always => {
                tokio::spawn(Watch::new(watched, watched.versions[0], connection, out).run());
            }
            Presence::WhereServed => {
                tokio::spawn(follow_served(watched, connection, served.clone(), out));
            }
        }
    }
    served::ask(connection, asked, out).await;
}

/// Watches a kind where it is served, and while it is.
async fn follow_served(
    watched: &'static Watched,
    connection: Arc<Connection>,
    mut served: latest::Receiver<Served>,
    out: mpsc::Sender<Message>,
) {
    let mut at = None;
    loop {
        let now = served.borrow_and_update().get(&watched.kind).copied();
        if now != at {
            at = now;
            if at == Some(None) {
                let topic = Topic::Kind(watched.kind);
                // As in `Watch::say`.
                out.send(Message::Event(watched.kind, Event::Absent)).await.ok();
                out.send(Message::Trouble { topic, why: None }).await.ok();
            }
        }
        let is_over = match at.flatten() {
            Some(at) => {
                let watch = Watch::new(watched, at, Arc::clone(&connection), out.clone()).run();
                tokio::select! {
                    () = watch => false,
                    changed = changed(&mut served, watched.kind, Some(at)) => changed.is_err(),
                }
            }
            None => served.changed().await.is_err(),
        };
        if is_over {
            return;
        }
    }
}

/// Waits until the kind is served elsewhere, or nowhere.
async fn changed(
    served: &mut latest::Receiver<Served>,
    kind: Kind,
    at: Option<GroupVersion>,
) -> Result<(), latest::error::RecvError> {
    served.wait_for(|served| served.get(&kind).copied().flatten() != at).await.map(drop)
}

/// What the source has been told, and has to tell.
#[derive(Debug, Default)]
struct Known {
    store: Store,
    troubles: BTreeMap<Topic, Trouble>,
    has_news: bool,
}

impl Known {
    fn take(&mut self, message: Message) {
        match message {
            Message::Event(kind, event) => self.store.take(kind, event),
            Message::Trouble { topic, why: None } => self.has_news |= self.troubles.remove(&topic).is_some(),
            Message::Trouble { topic, why: Some(why) } => match self.troubles.get_mut(&topic) {
                Some(trouble) if trouble.why == why => {}
                Some(trouble) => (trouble.why, self.has_news) = (why, true),
                None => {
                    self.troubles.insert(topic, Trouble::new(topic.to_string(), why));
                    self.has_news = true;
                }
            },
        }
    }

    fn tell(&mut self) -> impl Iterator<Item = SourceEvent> + use<> {
        let troubles = std::mem::take(&mut self.has_news);
        let troubles = troubles.then(|| SourceEvent::Trouble(self.troubles.values().cloned().collect()));
        let changes = self.store.tell().map(|(changes, problems)| {
            let references = self.store.take_references();
            SourceEvent::Changes { changes, problems, references }
        });
        troubles.into_iter().chain(changes)
    }
}
