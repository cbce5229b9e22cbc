//! Requests to answers, where nothing goes wrong: lists, single objects, writes. Watches are begun here and run elsewhere.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::discovery;
use super::request::{Request, Target};
use super::watch::Watch;
use super::world::{Key, Listed, World};
use crate::kube::resource::{CORE, Resource};

/// How long a watch lasts that does not say how long.
const WATCH: u64 = 300;

/// An answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// Status code and body.
    Whole(u16, Value),
    Watch(Watch),
}

/// A `Status` that says what failed.
pub(super) fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        409 => "AlreadyExists",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        _ => "ServiceUnavailable",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code,
    })
}

/// What a server says that is asked for a version that is still to come.
pub(super) fn ahead() -> Value {
    let mut status = failure(504, "Too large resource version: 2000, current: 1000");
    status["reason"] = json!("Timeout");
    status["details"] = json!({
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    });
    status
}

fn failed(code: u16, message: &str) -> Answer {
    Answer::Whole(code, failure(code, message))
}

fn not_found() -> Answer {
    failed(404, "the server could not find the requested resource")
}

/// Answers a request that no fault befalls.
pub(super) fn answer(
    world: &mut World,
    request: &Request,
    target: Target,
    body: &[u8],
    streaming: bool,
) -> Answer {
    match (target, request.method.as_str()) {
        (Target::Discovery(segments), "GET") => match discovery::document(&segments, world.served()) {
            Some(document) => Answer::Whole(200, document),
            None => not_found(),
        },
        (Target::Collection { resource, namespace }, "GET") if request.is_watch() => {
            watch(request, resource, namespace, streaming)
        }
        (Target::Collection { resource, namespace }, "GET") => list(world, request, resource, namespace),
        (Target::Collection { resource, namespace }, "POST") => {
            let Ok(object) = serde_json::from_slice::<Value>(body) else { return failed(400, "no JSON") };
            let Some(name) = object["metadata"]["name"].as_str() else { return failed(422, "no name") };
            let key = (namespace.unwrap_or_default(), name.to_owned());
            if world.get(resource, &key).is_some() {
                return failed(409, &format!("{} {name:?} already exists", resource.plural));
            }
            Answer::Whole(201, Value::clone(&world.put(resource, &key, object)))
        }
        (Target::Object { resource, key }, method) => one(world, resource, &key, method, body),
        _ => not_found(),
    }
}

fn one(world: &mut World, resource: Resource, key: &Key, method: &str, body: &[u8]) -> Answer {
    let Some(known) = world.get(resource, key).map(|object| Value::clone(object)) else {
        return failed(404, &format!("{} {:?} not found", resource.plural, key.1));
    };
    if method == "GET" {
        return Answer::Whole(200, known);
    }
    if method == "DELETE" {
        world.delete(resource, key);
        return Answer::Whole(200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
    }
    let Ok(given) = serde_json::from_slice::<Value>(body) else { return failed(400, "no JSON") };
    let object = match method {
        "PUT" => given,
        "PATCH" => {
            let mut patched = known;
            merge(&mut patched, given);
            patched
        }
        _ => return failed(405, "no such method"),
    };
    Answer::Whole(200, Value::clone(&world.put(resource, key, object)))
}

/// A JSON merge patch (RFC 7386), which is all that the other kinds of patch come to for maps of text.
fn merge(object: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *object = patch;
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (key, value) in patch {
        match (value, object.as_object_mut()) {
            (Value::Null, Some(fields)) => drop(fields.remove(&key)),
            (value, _) => merge(&mut object[key], value),
        }
    }
}

fn list(world: &mut World, request: &Request, resource: Resource, namespace: Option<String>) -> Answer {
    let Some(scope) = request.scope(resource, namespace) else { return failed(400, "no such selector here") };
    let limit = request.parameter("limit").and_then(|limit| limit.parse().ok()).filter(|limit| *limit > 0);
    let limit = limit.unwrap_or(usize::MAX);
    let listed = match request.parameter("continue") {
        None => world.list(&scope, limit),
        Some(token) => match world.next_page(token, limit) {
            Ok(listed) => listed,
            Err(_) => return failed(410, "The provided continue parameter is too old"),
        },
    };
    Answer::Whole(200, list_document(resource, listed))
}

fn list_document(resource: Resource, Listed { revision, items, rest }: Listed) -> Value {
    let items: Vec<Value> = items.iter().map(|item| in_list(resource, item)).collect();
    json!({
        "kind": format!("{}List", resource.kind), "apiVersion": resource.api_version(),
        "metadata": {"resourceVersion": revision.to_string(), "continue": rest.unwrap_or_default()},
        "items": items,
    })
}

/// A real server leaves the type out of the items of its own kinds' lists.
fn in_list(resource: Resource, item: &Arc<Value>) -> Value {
    let mut item = Value::clone(item);
    if CORE.contains(&resource)
        && let Value::Object(fields) = &mut item
    {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    item
}

fn watch(request: &Request, resource: Resource, namespace: Option<String>, streaming: bool) -> Answer {
    let Some(scope) = request.scope(resource, namespace) else { return failed(400, "no such selector here") };
    let streams_list = request.flag("sendInitialEvents");
    if streams_list && !streaming {
        return failed(
            422,
            "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled",
        );
    }
    let version = request.parameter("resourceVersion").filter(|version| *version != "0");
    let after = match version.map(str::parse) {
        // A list that is streamed begins from nothing, whatever version it asks for at least.
        _ if streams_list => None,
        None => None,
        Some(Ok(after)) => Some(after),
        Some(Err(_)) => return failed(400, "the resourceVersion is no number"),
    };
    let seconds = request.parameter("timeoutSeconds").and_then(|seconds| seconds.parse().ok());
    Answer::Watch(Watch {
        scope,
        after,
        marks_end: streams_list,
        bookmarks: request.flag("allowWatchBookmarks"),
        timeout: Duration::from_secs(seconds.unwrap_or(WATCH)),
    })
}
