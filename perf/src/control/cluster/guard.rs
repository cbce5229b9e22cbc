//! Whether a cluster may be written to: it says so, and holds nothing of anybody else's.

use anyhow::bail;
use hyper::Method;
use serde_json::Value;

use super::{PAGE, Writer, code, collection};
use crate::control::objects::{Kind, MADE_HERE};

/// The namespace that marks a cluster which is to be filled and emptied. It is never made here.
const MARKER: &str = "margay-perf";
/// Its label, and what that has to say.
const LABEL: (&str, &str) = ("margay.dev/perf", "disposable");

impl Writer {
    /// Fails unless the cluster is marked and all its nodes and pods were made here. It writes nothing.
    pub(super) async fn check(&self) -> anyhow::Result<()> {
        let path = format!("{}/{MARKER}", collection(Kind::Namespace, ""));
        let marker = match self.request(Method::GET, &path, None).await {
            Err(error) if code(&error) == Some(404) => Value::Null,
            found => found?,
        };
        let (label, value) = LABEL;
        if marker["metadata"]["labels"][label] != value {
            let kubectl = format!("kubectl --kubeconfig {}", self.kubeconfig.display());
            bail!(
                "{} is not marked as a cluster to fill with pods and to empty, so nothing was written there. If nobody \
                 needs it: {kubectl} create namespace {MARKER}; {kubectl} label namespace {MARKER} {label}={value}",
                self.server
            );
        }
        for kind in [Kind::Node, Kind::Pod] {
            // Asked for one, kube-apiserver looks at one object at a time until it has found it, each with a read of
            // etcd: of 100,000 of ours for ten minutes.
            let others = format!("{}?limit={PAGE}&labelSelector=%21{MADE_HERE}", collection(kind, ""));
            let found = self.request(Method::GET, &others, None).await?;
            if let Some(name) = names(&found).next() {
                bail!(
                    "{} is in use: it has {} {name}, which this command has not made; nothing was written there",
                    self.server,
                    kind.name()
                );
            }
        }
        Ok(())
    }
}

/// Of a list's objects.
pub(super) fn names(list: &Value) -> impl Iterator<Item = &str> {
    let items = list["items"].as_array().into_iter().flatten();
    items.filter_map(|object| object["metadata"]["name"].as_str())
}
