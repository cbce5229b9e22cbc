//! A world in a real API server: written through it, changed and removed again. Only in a cluster that says that it may
//! be, and that nobody else uses.

mod guard;
mod present;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use anyhow::Context;
use futures::stream::{self, TryStreamExt};
use hyper::{Method, Request};
use kube::config::{Config, KubeConfigOptions, Kubeconfig};
use kube::{Client, Error};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Handle};
use tokio::sync::{Semaphore, oneshot};

use super::churn::{Change, Ticket};
use super::objects::{Kind, MADE_HERE, Objects, PodState};
use crate::world::{self, Size};

/// Requests under way at a time.
const CONCURRENCY: usize = 64;
/// The same of those that each remove all of a namespace's objects.
const CLEARING: usize = 4;
/// Objects that the server looks at, or lists, at a time.
const PAGE: u32 = 500;
/// How often to begin anew with removing: a server that has much to delete says that it could not in time.
const TRIES: u32 = 10;
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A cluster that may be written to. Requests are made on a thread of their own.
#[derive(Debug)]
pub(super) struct Cluster {
    writer: Arc<Writer>,
    handle: Handle,
    /// Dropping the sender ends the thread.
    thread: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

struct Writer {
    client: Client,
    server: String,
    kubeconfig: PathBuf,
    objects: Objects,
    slots: Semaphore,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Connects, and fails where the cluster is not marked as one to write to or is in use.
    pub(super) fn open(kubeconfig: &Path, size: Size) -> anyhow::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("load-writer".to_owned());
        // The sender's end says the same as a message.
        let thread =
            thread.spawn(move || drop(runtime.block_on(stopped))).context("cannot start a thread")?;
        let writer = Arc::new(handle.block_on(Writer::connect(kubeconfig, size))?);
        let cluster = Self { writer, handle, thread: Some((stop, thread)) };
        cluster.handle.block_on(cluster.writer.check())?;
        Ok(cluster)
    }

    /// The server's version.
    pub(super) fn version(&self) -> anyhow::Result<String> {
        let version = self.handle.block_on(self.writer.request(Method::GET, "/version", None))?;
        Ok(version["gitVersion"].as_str().unwrap_or("of unknown version").to_owned())
    }

    /// Writes all objects, but for those that are there.
    pub(super) fn populate(&self, progress: &mut impl FnMut(&str)) -> anyhow::Result<()> {
        for kind in Kind::ALL {
            let present = self.handle.block_on(self.writer.present(kind))?;
            let count = kind.count(self.writer.objects.size);
            let missing = (0..count).filter(|number| !present.contains(number));
            progress(&format!("writing {} {}", count as usize - present.len(), kind.plural()));
            let all = stream::iter(missing.map(|number| Ok(self.writer.create(kind, number))));
            self.handle.block_on(all.try_buffer_unordered(CONCURRENCY).try_collect::<()>())?;
        }
        Ok(())
    }

    /// Has it happen some time; the ticket says when.
    pub(super) fn write(&self, change: Change, ticket: Ticket) {
        let writer = Arc::clone(&self.writer);
        self.handle.spawn(async move {
            let _slot = writer.slots.acquire().await;
            match writer.apply(change).await {
                Ok(()) => ticket.acknowledged(Instant::now()),
                Err(error) => ticket.failed(format!("{error:#}")),
            }
        });
    }

    /// Removes everything that was ever made here.
    pub(super) fn clear(&self) -> anyhow::Result<()> {
        let mut tries = 1;
        loop {
            match self.handle.block_on(self.writer.clear()) {
                Err(_) if tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.thread.take() {
            drop(stop);
            // A panic of its own stands on stderr.
            let _ = thread.join();
        }
    }
}

impl Writer {
    async fn connect(kubeconfig: &Path, size: Size) -> anyhow::Result<Self> {
        let cannot = || format!("cannot use {}", kubeconfig.display());
        let read = Kubeconfig::read_from(kubeconfig).with_context(cannot)?;
        let options = KubeConfigOptions::default();
        let config = Config::from_custom_kubeconfig(read, &options).await.with_context(cannot)?;
        Ok(Self {
            server: config.cluster_url.to_string(),
            kubeconfig: kubeconfig.to_owned(),
            client: Client::try_from(config).with_context(cannot)?,
            objects: Objects::new(size),
            slots: Semaphore::new(CONCURRENCY),
        })
    }

    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let content_type = if method == Method::PATCH { MERGE_PATCH } else { "application/json" };
        let text = body.map_or_else(String::new, Value::to_string).into_bytes();
        let request = Request::builder().method(method.clone()).uri(path);
        let request = request.header("content-type", content_type).body(text)?;
        let answer = self.client.request::<Value>(request).await;
        answer.with_context(|| format!("{}: {method} {path} failed", self.server))
    }

    /// As the API server lets it be created, and for a pod then with the status that a kubelet would report.
    async fn create(&self, kind: Kind, number: u32) -> anyhow::Result<()> {
        if kind == Kind::Pod {
            return self.create_pod(number, PodState::initial(number)).await;
        }
        let mut object = Vec::new();
        self.objects.write(kind, number, 0, &mut object);
        let (namespace, _) = self.objects.key(kind, number);
        self.post(kind, &namespace, as_written(kind, &object)?).await.map(drop)
    }

    /// True where it was not there yet.
    async fn post(&self, kind: Kind, namespace: &str, object: Value) -> anyhow::Result<bool> {
        let path = collection(kind, namespace);
        match self.request(Method::POST, &path, Some(&object)).await {
            Ok(_) => Ok(true),
            Err(error) if code(&error) == Some(409) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn create_pod(&self, number: u32, state: PodState) -> anyhow::Result<()> {
        let mut object = Vec::new();
        self.objects.write_pod(number, state, "0", &mut object);
        let mut object = as_written(Kind::Pod, &object)?;
        let status = json!({"status": object["status"].take()});
        if !self.post(Kind::Pod, &self.objects.key(Kind::Pod, number).0, object).await? {
            self.label(number, state).await?;
        }
        self.request(Method::PATCH, &(self.path_of(number) + "/status"), Some(&status)).await?;
        Ok(())
    }

    async fn label(&self, number: u32, state: PodState) -> anyhow::Result<()> {
        let labels = json!({"metadata": {"labels": world::labels_of_app(state.app)}});
        self.request(Method::PATCH, &self.path_of(number), Some(&labels)).await.map(drop)
    }

    /// What is acknowledged is the write that the verdict follows from: of a new pod, its address.
    async fn apply(&self, change: Change) -> anyhow::Result<()> {
        use super::churn::Kind;
        match (change.kind, change.becomes) {
            (Kind::Relabelled, Some(state)) => self.label(change.pod, state).await,
            (Kind::Added, Some(state)) => self.create_pod(change.pod, state).await,
            _ => {
                let path = self.path_of(change.pod) + "?gracePeriodSeconds=0";
                self.request(Method::DELETE, &path, None).await.map(drop)
            }
        }
    }

    fn path_of(&self, pod: u32) -> String {
        let (namespace, name) = self.objects.key(Kind::Pod, pod);
        format!("{}/{name}", collection(Kind::Pod, &namespace))
    }

    async fn clear(&self) -> anyhow::Result<()> {
        let made_here = format!("labelSelector={MADE_HERE}");
        let namespaces = format!("{}?{made_here}", collection(Kind::Namespace, ""));
        let found = self.request(Method::GET, &namespaces, None).await?;
        let found: Vec<String> = guard::names(&found).map(str::to_owned).collect();
        let all = stream::iter(found.iter().map(|name| Ok(self.clear_namespace(name, &made_here))));
        all.try_buffer_unordered(CLEARING).try_collect::<()>().await?;
        let nodes = format!("{}?{made_here}", collection(Kind::Node, ""));
        self.request(Method::DELETE, &nodes, None).await.map(drop)
    }

    async fn clear_namespace(&self, name: &str, made_here: &str) -> anyhow::Result<()> {
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_namespaced()) {
            let path = format!("{}?gracePeriodSeconds=0&{made_here}", collection(kind, name));
            self.request(Method::DELETE, &path, None).await?;
        }
        let path = format!("{}/{name}", collection(Kind::Namespace, ""));
        match self.request(Method::DELETE, &path, None).await {
            // It is going already, or gone.
            Err(error) if !matches!(code(&error), Some(404 | 409)) => return Err(error),
            _ => {}
        }
        // Where no controller does so.
        let released = json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}
        });
        match self.request(Method::PUT, &(path + "/finalize"), Some(&released)).await {
            Err(error) if code(&error) != Some(404) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The API server's code, where it is what said no.
fn code(error: &anyhow::Error) -> Option<u16> {
    match error.downcast_ref::<Error>()? {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// Of a namespace, or where none is named of all.
fn collection(kind: Kind, namespace: &str) -> String {
    let group = if kind.api_version() == "v1" { "/api" } else { "/apis" };
    let namespace = if namespace.is_empty() { String::new() } else { format!("/namespaces/{namespace}") };
    format!("{group}/{}{namespace}/{}", kind.api_version(), kind.plural())
}

/// Without what the server itself writes; without an owner, for want of whom a pod would be collected; and without a
/// name to generate, with which a server does not say that the name is taken.
fn as_written(kind: Kind, object: &[u8]) -> anyhow::Result<Value> {
    let mut object: Value = serde_json::from_slice(object)?;
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.name().into();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let theirs = ["uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"];
        theirs
            .iter()
            .chain(&["ownerReferences", "generateName"])
            .for_each(|field| drop(metadata.remove(*field)));
    }
    Ok(object)
}
