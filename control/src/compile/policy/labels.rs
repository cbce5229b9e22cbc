//! What groups and network sets are selected by: their own labels, and those of their namespace and service account.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::PolicyCompiler;
use super::groups::GroupKey;
use crate::manifest::NAMESPACE_NAME_LABEL;
use crate::selector::{EffectiveLabels, Inherited};
use crate::state::policy::NetworkSet;
use crate::state::{Cluster, Labels, Name};

impl PolicyCompiler {
    pub(super) fn effective_labels(&mut self, key: &GroupKey, cluster: &Cluster) -> EffectiveLabels {
        let account = (!key.service_account.is_empty()).then(|| self.service_account(key, cluster));
        EffectiveLabels::pod(key.labels.clone(), self.namespace(&key.namespace, cluster), account)
    }

    pub(super) fn network_set_labels(
        &mut self,
        name: &Name,
        set: &NetworkSet,
        cluster: &Cluster,
    ) -> EffectiveLabels {
        let is_global = name.namespace.is_empty();
        let namespace = (!is_global).then(|| self.namespace(&name.namespace, cluster));
        EffectiveLabels::network_set(Arc::new(set.labels.clone()), namespace)
    }

    /// A namespace whose object is not known yet has the label that every namespace has.
    fn namespace(&mut self, name: &str, cluster: &Cluster) -> Arc<Inherited> {
        let labels = match cluster.namespaces.get(name) {
            Some(namespace) => namespace.labels.clone(),
            None => [(NAMESPACE_NAME_LABEL.to_owned(), name.to_owned())].into(),
        };
        share(self.namespaces.entry(name.to_owned()), name, &labels)
    }

    fn service_account(&mut self, key: &GroupKey, cluster: &Cluster) -> Arc<Inherited> {
        let name = Name::new(&*key.namespace, &*key.service_account);
        let labels = cluster.service_accounts.get(&name).map(|account| account.labels.clone());
        share(self.service_accounts.entry(name), &key.service_account, &labels.unwrap_or_default())
    }
}

/// The labels as all have them that inherit them; made anew where they have changed.
fn share<K>(entry: Entry<'_, K, Arc<Inherited>>, name: &str, labels: &Labels) -> Arc<Inherited> {
    let new = || Arc::new(Inherited { name: name.to_owned(), labels: labels.clone() });
    let shared = entry.or_insert_with(new);
    if shared.labels != *labels {
        *shared = new();
    }
    shared.clone()
}
