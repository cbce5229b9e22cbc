//! What a cluster holds of a world already: nothing of that need be written again.

use std::collections::{BTreeMap, HashSet};
use std::net::Ipv4Addr;

use anyhow::Context;
use hyper::Request;
use serde::Deserialize;

use super::{PAGE, Writer, collection};
use crate::control::objects::{Kind, MADE_HERE, PodState};
use crate::world;

#[derive(Debug, Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Vec<Object>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PageMetadata {
    #[serde(rename = "continue")]
    rest: String,
}

#[derive(Debug, Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    node_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Status {
    #[serde(rename = "podIP")]
    pod_ip: Option<Ipv4Addr>,
}

impl Writer {
    /// Numbers of the kind's objects that need not be written.
    pub(super) async fn present(&self, kind: Kind) -> anyhow::Result<HashSet<u32>> {
        let mut names = HashSet::new();
        let first = format!("{}?limit={PAGE}&labelSelector={MADE_HERE}", collection(kind, ""));
        let mut path = first.clone();
        loop {
            let request = Request::get(&path).body(Vec::new())?;
            let page: Page = self
                .client
                .request(request)
                .await
                .with_context(|| format!("{}: GET {path} failed", self.server))?;
            for object in page.items {
                if kind != Kind::Pod || self.is_as_at_first(&object) {
                    names.insert((object.metadata.namespace, object.metadata.name));
                }
            }
            if page.metadata.rest.is_empty() {
                break;
            }
            path = format!("{first}&continue={}", page.metadata.rest);
        }
        let numbers = 0..kind.count(self.objects.size);
        Ok(numbers.filter(|number| names.contains(&self.objects.key(kind, *number))).collect())
    }

    /// Whether churn has left a pod as it was.
    fn is_as_at_first(&self, pod: &Object) -> bool {
        let number = pod.metadata.name.strip_prefix("pod-").and_then(|number| number.parse().ok());
        let Some(number) = number.filter(|number| *number < self.objects.size.pods) else { return false };
        let labels = world::labels_of_app(PodState::initial(number).app);
        labels.iter().all(|(key, value)| pod.metadata.labels.get(key) == Some(value))
            && pod.status.pod_ip == Some(self.objects.size.pod_address(number))
            && pod.spec.node_name == world::node_name(self.objects.size.node_of(number))
    }
}
