//! A client for tests, one request at a time: objects are put and deleted as a cluster's controllers would leave them.

use std::path::Path;

use ::kube::config::{KubeConfigOptions, Kubeconfig};
use ::kube::{Config, Error};
use anyhow::{Context, Result, bail};
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::runtime::{self, Runtime};

use super::resource::Resource;
use crate::netns;

/// Namespaces that a server keeps whatever one says.
const IMMORTAL: [&str; 3] = ["default", "kube-public", "kube-system"];

/// A connection to an API server, or to an etcd, with a user's credentials.
#[expect(missing_debug_implementations, reason = "kube's client has none")]
pub struct Client {
    runtime: Runtime,
    api: ::kube::Client,
    /// Where its sockets are.
    netns: Option<String>,
}

impl Client {
    /// The user of a kubeconfig, from within a network namespace where one is given.
    pub fn new(kubeconfig: &Path, netns: Option<&str>) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)
            .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
        Self::with(netns, async || {
            Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
        })
    }

    /// Nobody in particular, at a URL.
    pub(super) fn anonymous(url: &str, netns: Option<&str>) -> Result<Self> {
        let url = url.parse().with_context(|| format!("{url} is no URL"))?;
        Self::with(netns, async || Ok(Config::new(url)))
    }

    fn with(netns: Option<&str>, config: impl AsyncFnOnce() -> Result<Config>) -> Result<Self> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let api = runtime
            .block_on(async { anyhow::Ok(::kube::Client::try_from(config().await?)?) })
            .context("no client for the API")?;
        Ok(Self { runtime, api, netns: netns.map(str::to_owned) })
    }

    /// Sends a request; what is not JSON in the answer is text.
    pub fn request(&self, method: &Method, path: &str, body: Option<&Value>) -> Result<Value, Error> {
        let kind = if method == Method::PATCH { "application/merge-patch+json" } else { "application/json" };
        let bytes = body.map(ToString::to_string).unwrap_or_default().into_bytes();
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(bytes);
        let request = request.map_err(Error::HttpError)?;
        let send = || self.runtime.block_on(self.api.request_text(request));
        let text = match &self.netns {
            None => send(),
            Some(netns) => netns::within(netns, send).map_err(|error| Error::Service(error.into()))?,
        }?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub fn get(&self, path: &str) -> Result<Value, Error> {
        self.request(&Method::GET, path, None)
    }

    /// Creates the object or puts it in the place of what has its name, its status too.
    pub fn apply(&self, object: &Value) -> Result<()> {
        let resource = known(object)?;
        let object = stored(object, resource);
        let created = match self.request(&Method::POST, &resource.home(&object), Some(&object)) {
            // A service whose address is taken is refused as invalid, be it taken by itself.
            Err(Error::Api(status)) if matches!(status.code, 409 | 422) => {
                let refused = Err(Error::Api(status));
                if self.get(&resource.path(&object)).is_ok() {
                    self.replace(&object, resource)
                } else {
                    refused
                }
            }
            created => created,
        };
        created.with_context(|| format!("cannot put {object}"))?;
        if matches!(resource.kind, "Pod" | "Node") && !object["status"].is_null() {
            let path = format!("{}/status", resource.path(&object));
            let status = json!({"status": object["status"]});
            self.request(&Method::PATCH, &path, Some(&status))
                .with_context(|| format!("cannot put the status of {object}"))?;
        }
        Ok(())
    }

    fn replace(&self, object: &Value, resource: Resource) -> Result<Value, Error> {
        let path = resource.path(object);
        let known = self.get(&path)?;
        let mut replaced = object.clone();
        // Of a pod hardly more than its labels may change, and a namespace's finalizers are its own.
        if matches!(resource.kind, "Namespace" | "Pod") {
            replaced["spec"] = known["spec"].clone();
        }
        replaced["metadata"]["resourceVersion"] = known["metadata"]["resourceVersion"].clone();
        self.request(&Method::PUT, &path, Some(&replaced))
    }

    /// Deletes the object of this one's kind and name at once: no kubelet and no controller has a say. What is not
    /// there is as good as deleted.
    pub fn delete(&self, object: &Value) -> Result<()> {
        let resource = known(object)?;
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let path = resource.path(object);
        if resource.kind == "Namespace" && IMMORTAL.contains(&name) {
            let bare = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            return self.replace(&bare, resource).map(drop).context("cannot strip a namespace");
        }
        let at_once = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        match self.request(&Method::DELETE, &path, Some(&at_once)) {
            Err(Error::Api(status)) if status.code == 404 => return Ok(()),
            deleted => deleted.with_context(|| format!("cannot delete {path}"))?,
        };
        if resource.kind == "Namespace" {
            let empty = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []},
            });
            self.request(&Method::PUT, &format!("{path}/finalize"), Some(&empty))
                .with_context(|| format!("cannot finalize {path}"))?;
        }
        Ok(())
    }
}

fn known(object: &Value) -> Result<Resource> {
    match Resource::of_object(object) {
        Some(resource) => Ok(resource),
        None => bail!("no kind that tests write: {object}"),
    }
}

/// The object in the group that the cluster keeps its kind in.
fn stored(object: &Value, resource: Resource) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = resource.api_version().into();
    object
}
