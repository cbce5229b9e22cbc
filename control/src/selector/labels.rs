//! The labels that an item is selected by: its own, and those that it has from its namespace and service account.

use std::sync::Arc;

use crate::state::Labels;

/// On every item that is in a namespace: the namespace's name.
pub const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";
/// On every pod: [`ORCHESTRATOR_KUBERNETES`].
pub const ORCHESTRATOR_LABEL: &str = "projectcalico.org/orchestrator";
pub const ORCHESTRATOR_KUBERNETES: &str = "k8s";
/// On every pod: its service account's name.
pub const SERVICE_ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";
/// On every namespace and service account, among the labels that items have from them: its name.
pub const NAME_LABEL: &str = "projectcalico.org/name";

/// Keys that say in a namespace what an item is, whatever labels it has of its own.
const IMPLIED_LABELS: [&str; 3] = [NAMESPACE_LABEL, ORCHESTRATOR_LABEL, SERVICE_ACCOUNT_LABEL];

/// Whose label a key names. Labels of an item's namespace and service account are selected by under a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    Own,
    Namespace,
    ServiceAccount,
}

impl Origin {
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Own => "",
            Self::Namespace => "pcns.",
            Self::ServiceAccount => "pcsa.",
        }
    }

    /// Whose label the key names, and its key there.
    pub(super) fn of(key: &str) -> (Self, &str) {
        let inherited = [Self::Namespace, Self::ServiceAccount];
        let strip = |origin: Self| Some((origin, key.strip_prefix(origin.prefix())?));
        inherited.into_iter().find_map(strip).unwrap_or((Self::Own, key))
    }
}

/// What a selector can be asked of.
pub trait LabelSource {
    fn label(&self, key: &str) -> Option<&str>;
}

impl LabelSource for Labels {
    fn label(&self, key: &str) -> Option<&str> {
        self.get(key).map(String::as_str)
    }
}

/// A namespace or service account as a source of labels, shared by all items in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inherited {
    pub name: String,
    pub labels: Labels,
}

impl Inherited {
    fn label(&self, key: &str) -> Option<&str> {
        if key == NAME_LABEL { Some(&self.name) } else { self.labels.label(key) }
    }

    fn iter(&self, origin: Origin) -> impl Iterator<Item = (Origin, &str, &str)> {
        let written = self.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        let written = written.filter(|(key, _)| *key != NAME_LABEL);
        written.chain([(NAME_LABEL, self.name.as_str())]).map(move |(key, value)| (origin, key, value))
    }
}

/// All labels of one item. Its parts are shared, and prefixed keys are nowhere written out.
///
/// What is in a namespace cannot say by labels of its own which namespace or service account it belongs to, nor that it
/// is a pod: those keys and prefixes are looked up elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EffectiveLabels {
    own: Arc<Labels>,
    namespace: Option<Arc<Inherited>>,
    service_account: Option<Arc<Inherited>>,
    is_pod: bool,
}

impl EffectiveLabels {
    pub fn pod(own: Arc<Labels>, namespace: Arc<Inherited>, service_account: Option<Arc<Inherited>>) -> Self {
        Self { own, namespace: Some(namespace), service_account, is_pod: true }
    }

    /// A network set; without a namespace a global one.
    pub fn network_set(own: Arc<Labels>, namespace: Option<Arc<Inherited>>) -> Self {
        Self { own, namespace, service_account: None, is_pod: false }
    }

    pub fn host_endpoint(own: Arc<Labels>) -> Self {
        Self::network_set(own, None)
    }

    pub fn node(own: Arc<Labels>) -> Self {
        Self::network_set(own, None)
    }

    /// Every label once: whose it is, its key there, its value.
    pub fn iter(&self) -> impl Iterator<Item = (Origin, &str, &str)> {
        let (namespace, service_account) = (self.namespace.as_deref(), self.service_account.as_deref());
        let is_own = move |origin, key: &str| {
            namespace.is_none() || origin == Origin::Own && !IMPLIED_LABELS.contains(&key)
        };
        let own = self.own.iter().filter_map(move |(key, value)| {
            let (origin, key) = Origin::of(key);
            is_own(origin, key).then_some((origin, key, value.as_str()))
        });
        let implied = IMPLIED_LABELS.into_iter().filter(move |_| namespace.is_some());
        let implied = implied.filter_map(|key| Some((Origin::Own, key, self.label(key)?)));
        let inherited = namespace.into_iter().flat_map(|from| from.iter(Origin::Namespace));
        let inherited =
            inherited.chain(service_account.into_iter().flat_map(|from| from.iter(Origin::ServiceAccount)));
        own.chain(implied).chain(inherited)
    }
}

impl LabelSource for EffectiveLabels {
    fn label(&self, key: &str) -> Option<&str> {
        let Some(namespace) = &self.namespace else { return self.own.label(key) };
        let service_account = self.service_account.as_deref();
        match Origin::of(key) {
            (Origin::Namespace, key) => namespace.label(key),
            (Origin::ServiceAccount, key) => service_account?.label(key),
            (Origin::Own, NAMESPACE_LABEL) => Some(&namespace.name),
            (Origin::Own, SERVICE_ACCOUNT_LABEL) => Some(&service_account?.name),
            (Origin::Own, ORCHESTRATOR_LABEL) => self.is_pod.then_some(ORCHESTRATOR_KUBERNETES),
            (Origin::Own, key) => self.own.label(key),
        }
    }
}
