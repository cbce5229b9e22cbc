//! Where the cluster's objects come from, and when they may be published.

mod directory;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use directory::DirectorySource;

use crate::manifest::Problem;
use crate::state::Cluster;

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// The whole of its objects, and what of them is not in force as written.
    Snapshot(Box<Cluster>, Vec<Problem>),
    /// It cannot be reached any more, or not yet; what it said last stands. It goes on trying.
    Lost { why: String },
}

/// A place that objects come from, kept in step with for as long as the program runs.
pub trait Source: Send + 'static {
    /// As logs and status name it.
    fn name(&self) -> String;

    /// Delivers the whole state, then the whole state again after each change. Blocks until `deliver` breaks: it wants a
    /// thread of its own.
    fn run(self: Box<Self>, deliver: &mut dyn FnMut(SourceEvent) -> ControlFlow<()>);
}

/// The start-up rule: nothing is published before every source has delivered its whole first state. After that a source
/// that is lost keeps what it said last.
#[derive(Debug)]
pub struct Delivered {
    latest: Vec<Option<Cluster>>,
}

impl Delivered {
    pub fn new(sources: usize) -> Self {
        Self { latest: vec![None; sources] }
    }

    /// Takes the state of one source (by its number), and gives the objects of all once all have delivered. An object in
    /// two sources is that of the first.
    pub fn deliver(&mut self, source: usize, cluster: Cluster) -> Option<Cluster> {
        self.latest[source] = Some(cluster);
        let mut merged = Cluster::default();
        for latest in self.latest.iter().rev() {
            overlay(&mut merged, latest.as_ref()?);
        }
        Some(merged)
    }
}

/// Adds the objects of `over`, which go before those that are there.
fn overlay(cluster: &mut Cluster, over: &Cluster) {
    fn extend<K: Ord + Clone, V>(
        map: &mut std::collections::BTreeMap<K, Arc<V>>,
        over: &std::collections::BTreeMap<K, Arc<V>>,
    ) {
        map.extend(over.iter().map(|(key, value)| (key.clone(), value.clone())));
    }
    extend(&mut cluster.namespaces, &over.namespaces);
    extend(&mut cluster.nodes, &over.nodes);
    extend(&mut cluster.pods, &over.pods);
    extend(&mut cluster.network_policies, &over.network_policies);
    extend(&mut cluster.services, &over.services);
    extend(&mut cluster.endpoint_slices, &over.endpoint_slices);
    extend(&mut cluster.ip_pools, &over.ip_pools);
    extend(&mut cluster.block_affinities, &over.block_affinities);
    extend(&mut cluster.ipam_blocks, &over.ipam_blocks);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::Namespace;

    fn with_namespace(name: &str, value: &str) -> Cluster {
        let labels = [("from".to_owned(), value.to_owned())].into();
        let mut cluster = Cluster::default();
        cluster.namespaces.insert(name.to_owned(), Namespace { labels }.into());
        cluster
    }

    #[test]
    fn nothing_is_published_before_every_source_delivered() {
        let mut delivered = Delivered::new(2);
        assert_eq!(delivered.deliver(1, with_namespace("b", "second")), None);
        assert_eq!(delivered.deliver(1, with_namespace("b", "second")), None);
        let merged = delivered.deliver(0, with_namespace("a", "first")).unwrap();
        assert_eq!(merged.namespaces.keys().collect::<Vec<_>>(), ["a", "b"]);
        let merged = delivered.deliver(0, with_namespace("b", "first")).unwrap();
        assert_eq!(merged.namespaces["b"].labels["from"], "first");
    }
}
