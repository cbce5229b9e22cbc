//! A source that watches an API server, and what it has said so far.

// A module of each test program, which uses its own part.
#![allow(dead_code, unreachable_pub)]

pub mod world;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use margay_control::source::kubernetes::Access;
use margay_control::source::{KubernetesSource, Source, SourceEvent, Trouble};
use margay_control::state::{Cluster, Name, Node, Pod};
use margay_testbed::netns;

/// What a change may take until the source says it; only a failing test waits so long. The source asks for kinds that
/// are not served every quarter of a minute or so, and backs off from a server that fails.
pub const EVENTUALLY: Duration = Duration::from_secs(60);

/// A source that runs until it is dropped.
pub struct Watching(Arc<Seen>);

#[derive(Default)]
struct Seen {
    told: Mutex<Told>,
    news: Condvar,
}

/// What the source has said.
#[derive(Default)]
pub struct Told {
    pub cluster: Cluster,
    pub problems: Vec<String>,
    pub troubles: Vec<Trouble>,
    /// Whether it has delivered at all.
    pub is_whole: bool,
    /// Each object that it took away, as it said so.
    pub removed: Vec<String>,
    is_over: bool,
}

impl Watching {
    pub fn start(kubeconfig: &Path) -> Self {
        Self::run(KubernetesSource::new(Access::Kubeconfig(kubeconfig.to_owned())))
    }

    /// One that bears so long a silence.
    pub fn within(kubeconfig: &Path, silence: Duration) -> Self {
        let access = Access::Kubeconfig(kubeconfig.to_owned());
        Self::run(KubernetesSource::with_silence(access, silence))
    }

    /// One whose sockets are in that namespace.
    pub fn inside(netns: &str, kubeconfig: &Path) -> Self {
        let source = Box::new(KubernetesSource::new(Access::Kubeconfig(kubeconfig.to_owned())));
        let netns = netns.to_owned();
        Self::spawn(move |listener| {
            netns::within(&netns, || source.run(&mut |event| listener.take(event))).unwrap();
        })
    }

    fn run(source: KubernetesSource) -> Self {
        let source = Box::new(source);
        Self::spawn(move |listener| source.run(&mut |event| listener.take(event)))
    }

    fn spawn(work: impl FnOnce(&Seen) + Send + 'static) -> Self {
        let seen = Arc::new(Seen::default());
        let listener = Arc::clone(&seen);
        thread::spawn(move || work(&listener));
        Self(seen)
    }

    /// The same, once it has delivered.
    pub fn whole(kubeconfig: &Path) -> Self {
        let watching = Self::start(kubeconfig);
        watching.wait("the first state", |told| told.is_whole);
        watching
    }

    /// What it has said, held while it is looked at.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.0.told()
    }

    /// Waits until what it has said is so.
    pub fn wait(&self, what: &str, is_so: impl FnMut(&Told) -> bool) {
        if !self.comes(is_so) {
            let Told { problems, troubles, removed, .. } = &*self.told();
            panic!(
                "{what} does not come. Problems {problems:#?}, troubles {troubles:#?}, removed {removed:#?}"
            );
        }
    }

    /// Waits until what it has said is so, and says whether it came to be.
    pub fn comes(&self, mut is_so: impl FnMut(&Told) -> bool) -> bool {
        let deadline = Instant::now() + EVENTUALLY;
        let mut told = self.told();
        while !is_so(&told) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            told = self.0.news.wait_timeout(told, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub fn has_pod(&self, name: &str) {
        self.wait(&format!("pod {name}"), |told| told.cluster.pods.contains_key(&Name::new("x", name)));
    }

    pub fn has_no_pod(&self, name: &str) {
        let name = Name::new("x", name);
        self.wait(&format!("the end of pod {name}"), |told| !told.cluster.pods.contains_key(&name));
    }

    /// Waits until there is trouble with what the text names.
    pub fn has_trouble(&self, what: &str) {
        let named = |trouble: &Trouble| format!("{}: {}", trouble.what, trouble.why).contains(what);
        self.wait(&format!("trouble with {what}"), |told| told.troubles.iter().any(named));
    }

    pub fn has_no_trouble(&self) {
        self.wait("the end of trouble", |told| told.troubles.is_empty());
    }

    pub fn has_problem(&self, text: &str) {
        self.wait(text, |told| told.problems.iter().any(|problem| problem.contains(text)));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.told().is_over = true;
    }
}

impl Seen {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, event: SourceEvent) -> ControlFlow<()> {
        let mut told = self.told();
        if told.is_over {
            return ControlFlow::Break(());
        }
        match event {
            SourceEvent::Trouble(troubles) => told.troubles = troubles,
            SourceEvent::Changes { changes, problems, .. } => {
                for mut change in changes {
                    let before = count(&told.cluster);
                    told.cluster.apply(&mut change);
                    if count(&told.cluster) < before {
                        told.removed.push(format!("{change:?}"));
                    }
                }
                told.problems = problems.iter().map(ToString::to_string).collect();
                told.is_whole = true;
            }
        }
        self.news.notify_all();
        ControlFlow::Continue(())
    }
}

fn count(cluster: &Cluster) -> usize {
    let Cluster {
        namespaces,
        nodes,
        pods,
        service_accounts,
        policies,
        tiers,
        network_sets,
        host_endpoints,
        services,
        endpoint_slices,
        ip_pools,
        block_affinities,
        ipam_blocks,
        felix_configurations,
    } = cluster;
    let cluster_wide = namespaces.len() + nodes.len() + tiers.len() + host_endpoints.len();
    let namespaced = pods.len() + service_accounts.len() + network_sets.len() + services.len();
    let calico = ip_pools.len() + block_affinities.len() + ipam_blocks.len() + felix_configurations.len();
    cluster_wide + namespaced + calico + endpoint_slices.len() + policies.len()
}

/// In what the objects that a source has said are others than these, but for what an API server has of its own, when pods
/// were made, and annotations that Margay does not read.
pub fn differences(said: &Cluster, expected: &Cluster) -> Vec<String> {
    let own_namespace = |name: &String| name == "default" || name.starts_with("kube-");
    let own_service = |name: &Name| *name == Name::new("default", "kubernetes");
    let mut found = Vec::new();
    compare(&said.namespaces, &expected.namespaces, own_namespace, &mut found);
    compare(&said.nodes, &as_read(&expected.nodes), |_| false, &mut found);
    compare(&ageless(&said.pods), &ageless(&expected.pods), |_| false, &mut found);
    compare(&said.service_accounts, &expected.service_accounts, |_| false, &mut found);
    compare(&said.policies, &expected.policies, |_| false, &mut found);
    compare(&said.tiers, &expected.tiers, |_| false, &mut found);
    compare(&said.network_sets, &expected.network_sets, |_| false, &mut found);
    compare(&said.host_endpoints, &expected.host_endpoints, |_| false, &mut found);
    compare(&said.services, &expected.services, own_service, &mut found);
    compare(&said.endpoint_slices, &expected.endpoint_slices, |_| false, &mut found);
    compare(&said.ip_pools, &expected.ip_pools, |_| false, &mut found);
    compare(&said.block_affinities, &expected.block_affinities, |_| false, &mut found);
    compare(&said.ipam_blocks, &expected.ipam_blocks, |_| false, &mut found);
    compare(&said.felix_configurations, &expected.felix_configurations, |_| false, &mut found);
    found
}

fn as_read(nodes: &BTreeMap<String, Arc<Node>>) -> BTreeMap<String, Arc<Node>> {
    let as_read = |node: &Arc<Node>| {
        let mut node = Node::clone(node);
        node.annotations.retain(|name, _| name.starts_with("projectcalico.org/"));
        Arc::new(node)
    };
    nodes.iter().map(|(name, node)| (name.clone(), as_read(node))).collect()
}

fn ageless(pods: &BTreeMap<Name, Arc<Pod>>) -> BTreeMap<Name, Arc<Pod>> {
    let ageless = |pod: &Arc<Pod>| Arc::new(Pod { created: 0, ..Pod::clone(pod) });
    pods.iter().map(|(name, pod)| (name.clone(), ageless(pod))).collect()
}

fn compare<K: Ord + Debug, V: PartialEq + Debug>(
    said: &BTreeMap<K, V>,
    expected: &BTreeMap<K, V>,
    is_servers_own: impl Fn(&K) -> bool,
    found: &mut Vec<String>,
) {
    let missing = expected.iter().filter(|(key, value)| said.get(key) != Some(value));
    found.extend(missing.map(|(key, value)| format!("{key:?}: {:?}, not {value:?}", said.get(key))));
    let extra = said.keys().filter(|key| !expected.contains_key(key) && !is_servers_own(key));
    found.extend(extra.map(|key| format!("{key:?} is there")));
}
