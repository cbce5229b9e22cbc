//! What is answered to a request.

use std::collections::HashMap;
use std::sync::PoisonError;

use futures::Stream;
use futures::stream::{self, StreamExt};
use http_body_util::StreamBody;
use hyper::body::{Bytes, Frame};
use hyper::{Response, StatusCode, Uri};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{Lists, MemoryServer, Parts, State};
use crate::control::objects::{Kind, PodState};

/// Events of a streaming list that are made at a time.
const EVENTS: usize = 100;

type Body = StreamBody<Box<dyn Stream<Item = Parts> + Send + Unpin>>;
type Reply = oneshot::Sender<Response<Body>>;

/// What is served of a group: its name in URLs, its kind, and whether it is namespaced.
type Resource = (&'static str, &'static str, bool);

/// By group and version.
const RESOURCES: [(&str, &[Resource]); 3] = [
    (
        "v1",
        &[
            ("namespaces", "Namespace", false),
            ("nodes", "Node", false),
            ("pods", "Pod", true),
            ("serviceaccounts", "ServiceAccount", true),
            ("services", "Service", true),
        ],
    ),
    ("networking.k8s.io/v1", &[("networkpolicies", "NetworkPolicy", true)]),
    ("discovery.k8s.io/v1", &[("endpointslices", "EndpointSlice", true)]),
];

impl MemoryServer {
    /// Answers a GET. Whoever asked may have gone.
    pub(super) fn answer(&self, uri: &Uri, reply: Reply) {
        let query: HashMap<&str, &str> =
            uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('=')).collect();
        let path = uri.path().trim_matches('/');
        if let Some(found) = discovery(path) {
            return drop(reply.send(whole(StatusCode::OK, &found)));
        }
        let served = RESOURCES.iter().find_map(|(group, resources)| {
            let plural = path.strip_prefix(if *group == "v1" { "api/" } else { "apis/" })?;
            let plural = plural.strip_prefix(group)?.strip_prefix('/')?;
            resources.iter().find(|(name, ..)| *name == plural).map(|(name, kind, _)| (*group, *name, *kind))
        });
        let Some((group, plural, kind)) = served else {
            return drop(reply.send(failure(StatusCode::NOT_FOUND, "NotFound", path)));
        };
        let objects = Kind::ALL.into_iter().find(|kind| kind.plural() == plural);
        let asks = |flag| query.get(flag).is_some_and(|value| *value == "true" || *value == "1");
        match (asks("watch"), asks("sendInitialEvents")) {
            (false, _) => drop(reply.send(self.page((group, kind), objects, &query))),
            (true, false) => drop(reply.send(self.watch(objects, &query))),
            (true, true) if self.lists == Lists::Paged => {
                let why =
                    "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
                drop(reply.send(failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", why)));
            }
            (true, true) => self.stream((group, kind), objects, reply),
        }
    }

    /// A page of a list. Where the next begins is the number of its first object.
    fn page(
        &self,
        (group, kind): (&str, &str),
        objects: Option<Kind>,
        query: &HashMap<&str, &str>,
    ) -> Response<Body> {
        let number = |key| query.get(key).and_then(|value| value.parse::<u32>().ok());
        let (limit, start) = (number("limit").filter(|limit| *limit > 0), number("continue").unwrap_or(0));
        let (version, changed) = self.present();
        let count = objects.map_or(0, |kind| kind.count(self.objects.size));
        let end = limit.map_or(count, |limit| count.min(start.saturating_add(limit)));
        let more = if end < count { end.to_string() } else { String::new() };
        let head = json!({
            "kind": format!("{kind}List"),
            "apiVersion": group,
            "metadata": {"resourceVersion": version.to_string(), "continue": more}
        });
        let mut page = head.to_string().into_bytes();
        page.pop();
        page.extend_from_slice(b",\"items\":[");
        let mut separator = None;
        for (kind, number) in objects.iter().flat_map(|kind| (start..end).map(move |number| (*kind, number)))
        {
            let Some(pod) = state_of(kind, number, &changed) else { continue };
            page.extend(separator.replace(b','));
            self.write_object(kind, number, pod, version, &mut page);
        }
        page.extend_from_slice(b"]}");
        response(StatusCode::OK, stream::iter([Ok(Frame::data(Bytes::from(page)))]))
    }

    /// Events of this kind as they come. Nothing happens to other kinds than pods.
    fn watch(&self, objects: Option<Kind>, query: &HashMap<&str, &str>) -> Response<Body> {
        if objects != Some(Kind::Pod) {
            let (.., later) = self.present_and_later(objects);
            return response(StatusCode::OK, received(later));
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let since = query.get("resourceVersion").and_then(|version| version.parse::<u64>().ok());
        let since = since.unwrap_or(state.version);
        let missed = state.version.saturating_sub(since);
        if missed > state.history.len() as u64 {
            return failure(StatusCode::GONE, "Expired", "too old resource version");
        }
        let (sender, events) = mpsc::unbounded_channel();
        for (_, event) in state.history.iter().filter(|(version, _)| *version > since) {
            // The other end is in our hands.
            let _ = sender.send(event.clone());
        }
        state.watches.push(sender);
        response(StatusCode::OK, received(events))
    }

    /// All objects as events, a bookmark that says so, then what comes.
    fn stream(&self, (group, kind): (&str, &str), objects: Option<Kind>, reply: Reply) {
        // As far ahead as a socket is.
        let (sender, mut events) = mpsc::channel(1);
        let (version, changed, later) = self.present_and_later(objects);
        let ahead = stream::poll_fn(move |context| events.poll_recv(context));
        let ahead = ahead.map(|part| Ok(Frame::data(part)));
        if reply.send(response(StatusCode::OK, ahead.chain(received(later)))).is_err() {
            return;
        }
        let count = objects.map_or(0, |kind| kind.count(self.objects.size));
        let numbers: Vec<u32> = (0..count).collect();
        for numbers in numbers.chunks(EVENTS) {
            let mut part = Vec::new();
            for (kind, number) in objects.iter().flat_map(|kind| numbers.iter().map(move |n| (*kind, *n))) {
                let Some(pod) = state_of(kind, number, &changed) else { continue };
                self.write_event("ADDED", kind, &mut part, |_, out| {
                    self.write_object(kind, number, pod, version, out);
                });
            }
            if sender.blocking_send(Bytes::from(part)).is_err() {
                return;
            }
        }
        let bookmark = json!({"type": "BOOKMARK", "object": {
            "kind": kind,
            "apiVersion": group,
            "metadata": {
                "resourceVersion": version.to_string(),
                "annotations": {"k8s.io/initial-events-end": "true"}
            }
        }});
        // Whoever asked may have gone by now.
        let _ = sender.blocking_send(Bytes::from(bookmark.to_string() + "\n"));
    }

    fn write_object(&self, kind: Kind, number: u32, pod: PodState, version: u64, out: &mut Vec<u8>) {
        match kind {
            Kind::Pod => self.objects.write_pod(number, pod, &version.to_string(), out),
            kind => self.objects.write(kind, number, version, out),
        }
    }

    fn present(&self) -> (u64, HashMap<u32, Option<PodState>>) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.version, state.changed.clone())
    }

    /// Both at one moment: a change is in the one or in the other.
    fn present_and_later(
        &self,
        objects: Option<Kind>,
    ) -> (u64, HashMap<u32, Option<PodState>>, mpsc::UnboundedReceiver<Bytes>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (sender, later) = mpsc::unbounded_channel();
        let State { version, changed, watches, idle, .. } = &mut *state;
        if objects == Some(Kind::Pod) { watches } else { idle }.push(sender);
        (*version, changed.clone(), later)
    }
}

/// The pod of this number, if it is there. Objects of other kinds do not change.
fn state_of(kind: Kind, number: u32, changed: &HashMap<u32, Option<PodState>>) -> Option<PodState> {
    match changed.get(&number) {
        Some(state) if kind == Kind::Pod => *state,
        _ => Some(PodState::initial(number)),
    }
}

fn received(mut events: mpsc::UnboundedReceiver<Bytes>) -> impl Stream<Item = Parts> + Send + Unpin {
    stream::poll_fn(move |context| events.poll_recv(context)).map(|event| Ok(Frame::data(event)))
}

/// What there is at a path that is not a resource's.
fn discovery(path: &str) -> Option<Value> {
    let group = |version: &str| {
        let (name, version_alone) = version.split_once('/')?;
        let version = json!({"groupVersion": version, "version": version_alone});
        Some(json!({"name": name, "versions": [version], "preferredVersion": version}))
    };
    match path {
        "version" => {
            Some(json!({"major": "1", "minor": "33", "gitVersion": "v1.33.0", "platform": "linux/amd64"}))
        }
        "api" => Some(json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})),
        "apis" => {
            let groups: Vec<Value> = RESOURCES.iter().filter_map(|(version, _)| group(version)).collect();
            Some(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        path => {
            let version = path.strip_prefix("apis/").or_else(|| path.strip_prefix("api/"))?;
            let (_, resources) = RESOURCES.iter().find(|(served, _)| *served == version)?;
            let resource = |(name, kind, namespaced): &Resource| {
                let verbs = ["get", "list", "watch"];
                json!({"name": name, "singularName": "", "kind": kind, "namespaced": namespaced, "verbs": verbs})
            };
            let resources: Vec<Value> = resources.iter().map(resource).collect();
            Some(json!({
                "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": resources
            }))
        }
    }
}

fn failure(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "reason": reason, "message": message, "code": code.as_u16()
    });
    whole(code, &status)
}

fn whole(code: StatusCode, value: &Value) -> Response<Body> {
    response(code, stream::iter([Ok(Frame::data(Bytes::from(value.to_string())))]))
}

fn response(code: StatusCode, parts: impl Stream<Item = Parts> + Send + Unpin + 'static) -> Response<Body> {
    let mut response = Response::new(StreamBody::new(Box::new(parts) as _));
    *response.status_mut() = code;
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, json);
    response
}
