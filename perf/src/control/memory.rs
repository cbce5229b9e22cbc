//! An API server in memory, as far as a watcher needs one: discovery, lists by pages or as a stream, and watches. No
//! socket and no TLS; what it answers is made by threads of its own, and kept nowhere.

mod answer;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hyper::Request;
use hyper::body::Bytes;
use kube::Client;
use tokio::sync::{mpsc, oneshot};

use super::churn::{Change, Ticket};
use super::objects::{Kind, Objects, PodState};
use crate::world::Size;

/// Events that a watch can begin behind.
const HISTORY: usize = 500;

/// How it gives a watcher the objects that there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lists {
    /// As servers before Kubernetes 1.32 do.
    #[default]
    Paged,
    /// As events of a watch, where a client asks for that.
    Streaming,
}

/// The cluster, and who watches it.
#[derive(Debug)]
pub(super) struct MemoryServer {
    objects: Objects,
    lists: Lists,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Of the last change.
    version: u64,
    /// Pods that are not as at first; `None` is gone.
    changed: HashMap<u32, Option<PodState>>,
    /// The last events of pods, with their versions.
    history: VecDeque<(u64, Bytes)>,
    /// Watches of pods.
    watches: Vec<mpsc::UnboundedSender<Bytes>>,
    /// Watches of kinds to which nothing happens.
    idle: Vec<mpsc::UnboundedSender<Bytes>>,
}

/// Version of a world to which nothing has happened yet.
const FIRST_VERSION: u64 = 1_000_000;

impl MemoryServer {
    pub(super) fn new(size: Size, lists: Lists) -> Arc<Self> {
        let state = State { version: FIRST_VERSION, ..State::default() };
        Arc::new(Self { objects: Objects::new(size), lists, state: Mutex::new(state) })
    }

    /// A client of this server. To be called where a tokio runtime runs.
    pub(super) fn client(self: &Arc<Self>) -> Client {
        let server = Arc::clone(self);
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let (server, (reply, answer)) = (Arc::clone(&server), oneshot::channel());
            // Whoever asked pays for none of this.
            let answering = std::thread::Builder::new().name("load-api".to_owned()).spawn(move || {
                server.answer(request.uri(), reply);
            });
            async move {
                answering?;
                answer.await.map_err(std::io::Error::other)
            }
        });
        Client::new(service, "default")
    }

    /// Has it happen, and watchers told. It is acknowledged when it is on its way to them.
    pub(super) fn write(&self, change: Change, ticket: Ticket) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.changed.get(&change.pod).copied();
        let before = before.unwrap_or_else(|| Some(PodState::initial(change.pod)));
        let (kind, pod) = match (before, change.becomes) {
            (None, Some(pod)) => ("ADDED", pod),
            (Some(_), Some(pod)) => ("MODIFIED", pod),
            (Some(pod), None) => ("DELETED", pod),
            (None, None) => return,
        };
        state.version += 1;
        let version = state.version;
        let mut event = Vec::with_capacity(6000);
        self.write_event(kind, Kind::Pod, &mut event, |objects, out| {
            objects.write_pod(change.pod, pod, &version.to_string(), out);
        });
        let event = Bytes::from(event);
        state.changed.insert(change.pod, change.becomes);
        state.history.push_back((version, event.clone()));
        if state.history.len() > HISTORY {
            state.history.pop_front();
        }
        ticket.acknowledged(Instant::now());
        state.watches.retain(|watch| watch.send(event.clone()).is_ok());
    }

    /// One line of a watch. Objects that stand alone say what they are.
    fn write_event(
        &self,
        event: &str,
        kind: Kind,
        out: &mut Vec<u8>,
        write: impl FnOnce(&Objects, &mut Vec<u8>),
    ) {
        let (api_version, name) = (kind.api_version(), kind.name());
        let head = format!(r#"{{"type":"{event}","object":{{"kind":"{name}","apiVersion":"{api_version}","#);
        out.extend_from_slice(head.as_bytes());
        let start = out.len();
        write(&self.objects, out);
        // Its own opening brace.
        out.remove(start);
        out.extend_from_slice(b"}\n");
    }
}

/// A body that comes in parts, and what makes it fail: nothing.
type Parts = Result<hyper::body::Frame<Bytes>, Infallible>;
