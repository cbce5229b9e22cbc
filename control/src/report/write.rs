//! The thread that writes: one request at a time, the Node's annotations before Events.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::Report;
use super::events::Events;
use super::node::{NodeNotes, STATUS};
use super::pace::{Backoff, Pace};
use crate::config;
use crate::source::Trouble;
use crate::source::kubernetes::Access;

/// A request that has no answer by then has failed.
const PATIENCE: Duration = Duration::from_secs(15);

const NODE: &str = "annotations of our Node";
const EVENTS: &str = "Events";

/// Why something is not written.
enum Failure {
    /// It will not be taken however often it is sent.
    Refused(String),
    /// It may go another time.
    Passing(String),
}

pub(super) struct Writer {
    access: Access,
    /// `None` before the first request, and after one that failed: the next is made with what the configuration says then.
    client: Option<Client>,
    node: String,
    pace: Pace,
    says_events: bool,
    events: Events,
    notes: NodeNotes,
    backoffs: BTreeMap<&'static str, Backoff>,
    troubles: watch::Sender<Vec<Trouble>>,
}

impl Writer {
    pub(super) fn new(
        access: Access,
        node: &str,
        config: &config::Report,
        pace: Pace,
        troubles: watch::Sender<Vec<Trouble>>,
    ) -> Self {
        Self {
            access,
            client: None,
            node: node.to_owned(),
            pace,
            says_events: config.events,
            events: Events::new(node, pace, Instant::now()),
            notes: NodeNotes::new(config.status, pace),
            backoffs: BTreeMap::new(),
            troubles,
        }
    }

    /// Writes until nobody reports any more, and how we are once more then.
    pub(super) async fn run(mut self, mut reports: watch::Receiver<Option<Report>>) {
        let mut is_last = false;
        while !is_last {
            let report = reports.borrow_and_update().clone();
            let next = match &report {
                Some(report) => self.write_what_is_due(report).await,
                None => None,
            };
            tokio::select! {
                changed = reports.changed() => is_last = changed.is_err(),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
            }
        }
        let report = reports.borrow().clone();
        if let Some(report) = report.filter(|report| self.notes.due(report, Instant::now()).is_some()) {
            self.write_notes(&report).await;
        }
    }

    /// Makes one request at most, and says when it is time for the next.
    async fn write_what_is_due(&mut self, report: &Report) -> Option<Instant> {
        let now = Instant::now();
        if self.says_events {
            self.events.take(&report.problems, now);
        }
        let notes_due = self.notes.due(report, now).map(|due| self.not_before(NODE, due));
        let event_due = self.events.due().map(|due| self.not_before(EVENTS, due));
        if notes_due.is_some_and(|due| due <= now) {
            self.write_notes(report).await;
            return Some(now);
        }
        if event_due.is_some_and(|due| due <= now) {
            self.write_event().await;
            return Some(now);
        }
        [notes_due, event_due].into_iter().flatten().min()
    }

    fn not_before(&self, what: &str, due: Instant) -> Instant {
        self.backoffs.get(what).and_then(Backoff::until).map_or(due, |until| due.max(until))
    }

    async fn write_notes(&mut self, report: &Report) {
        let status = self.notes.status(report);
        let result = match self.client().await {
            Ok(client) => annotate(Api::all(client), &self.node, status, report).await,
            Err(why) => Err(why),
        };
        let now = Instant::now();
        match result {
            Ok(standing) => {
                self.notes.written(report, now);
                self.backoffs.entry(NODE).or_default().succeeded();
                self.note(NODE, standing);
            }
            Err(Failure::Refused(why) | Failure::Passing(why)) => self.failed(NODE, why, now),
        }
    }

    async fn write_event(&mut self) {
        let client = match self.client().await {
            Ok(client) => client,
            Err(Failure::Refused(why) | Failure::Passing(why)) => {
                return self.failed(EVENTS, why, Instant::now());
            }
        };
        let Some((key, event)) = self.events.next(Instant::now()) else { return };
        let result = create(client, &event).await;
        let now = Instant::now();
        match result {
            Ok(()) => {
                self.events.done(key, now);
                self.backoffs.entry(EVENTS).or_default().succeeded();
                self.note(EVENTS, None);
            }
            Err(Failure::Refused(why)) => {
                tracing::warn!("an Event is not taken by the API server: {why}");
                self.events.done(key, now);
            }
            Err(Failure::Passing(why)) => {
                self.events.postpone(key, now);
                self.failed(EVENTS, why, now);
            }
        }
    }

    async fn client(&mut self) -> Result<Client, Failure> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let client = bounded(async {
            self.access.client().await.map_err(|error| Failure::Passing(error.to_string()))
        })
        .await?;
        Ok(self.client.insert(client).clone())
    }

    fn failed(&mut self, what: &'static str, why: String, now: Instant) {
        self.client = None;
        self.backoffs.entry(what).or_default().failed(&self.pace, now);
        self.note(what, Some(why));
    }

    /// Says what the trouble is, or that there is none any more. It is logged when it begins and when it ends.
    fn note(&self, what: &'static str, why: Option<String>) {
        self.troubles.send_if_modified(|troubles| {
            let known = troubles.iter().position(|trouble| trouble.what == what);
            match (known, why) {
                (None, None) => return false,
                (Some(index), None) => {
                    tracing::info!("{what}: written again");
                    troubles.remove(index);
                }
                (Some(index), Some(why)) => troubles[index].why = why,
                (None, Some(why)) => {
                    tracing::warn!("{what} cannot be written: {why}");
                    troubles.push(Trouble::new(what, why));
                }
            }
            true
        });
    }
}

/// Writes the status, and of Calico's annotations those that the Node lacks. Says what stands in the way of one.
async fn annotate(
    nodes: Api<Node>,
    name: &str,
    status: Option<String>,
    report: &Report,
) -> Result<Option<String>, Failure> {
    let mut annotations: BTreeMap<&str, Value> = BTreeMap::new();
    annotations.extend(status.map(|status| (STATUS, status.into())));
    let mut metadata = json!({});
    let mut standing = None;
    if !report.calico.values.is_empty() {
        let node = request(nodes.get_metadata(name)).await?;
        let present = node.metadata.annotations.unwrap_or_default();
        let missing = report.calico.missing(&present);
        standing = missing.conflict.map(|conflict| conflict.to_string());
        if !missing.annotations.is_empty() {
            // Whoever writes one of them meanwhile, a calico-node that starts, is not written over.
            metadata["resourceVersion"] = node.metadata.resource_version.into();
            annotations.extend(missing.annotations.into_iter().map(|(key, value)| (key, value.into())));
        }
    }
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        // By way of the status: what a node is to be (taints, pod networks) stays out of our reach.
        request(nodes.patch_status(name, &PatchParams::default(), &patch)).await?;
    }
    Ok(standing)
}

/// Writes the Event, unless somebody has.
async fn create(client: Client, event: &Event) -> Result<(), Failure> {
    let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
    let events: Api<Event> = Api::namespaced(client, namespace);
    let created = bounded(async {
        match events.create(&PostParams::default(), event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            // The namespace is gone or going, or it is no Event to this API server.
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 404 | 422) || is_ending(&status) => {
                Err(Failure::Refused(status.message.clone()))
            }
            Err(error) => Err(Failure::Passing(told(&error))),
        }
    });
    created.await
}

/// Whether nothing new may be in the namespace, which is being deleted.
fn is_ending(status: &kube::core::Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    causes.into_iter().any(|cause| cause.reason == "NamespaceTerminating")
}

async fn request<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    bounded(async { request.await.map_err(|error| Failure::Passing(told(&error))) }).await
}

async fn bounded<T>(request: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(PATIENCE, request).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Passing(format!("no answer within {} s", PATIENCE.as_secs()))),
    }
}

/// The error with its causes: what goes wrong below HTTP is said there.
fn told(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a String does not fail.
        let _ = write!(told, ": {error}");
        cause = error.source();
    }
    told
}
