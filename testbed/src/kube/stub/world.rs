//! What the stub holds: objects, each change of them with its version, and how far back changes are remembered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::selector::FieldSelector;
use crate::kube::resource::{CORE, Resource};

/// A namespace (empty for a kind of the whole cluster) and a name.
pub(super) type Key = (String, String);

/// Objects, and how they came to be so.
#[derive(Clone, Debug)]
pub(super) struct World {
    revision: u64,
    /// Changes up to this version are forgotten.
    compacted: u64,
    served: BTreeSet<Resource>,
    objects: BTreeMap<(Resource, Key), Arc<Value>>,
    history: Vec<Change>,
    /// The rests of lists that were given out in pages, by continue token, with the version of the whole.
    rests: BTreeMap<String, (u64, Vec<Arc<Value>>)>,
    made: u64,
}

#[derive(Clone, Debug)]
struct Change {
    revision: u64,
    resource: Resource,
    namespace: String,
    before: Option<Arc<Value>>,
    /// As it is now, or as it was last.
    object: Arc<Value>,
    deleted: bool,
}

/// Objects that a list or a watch is about.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) resource: Resource,
    pub(super) namespace: Option<String>,
    pub(super) fields: FieldSelector,
}

/// A list, or a page of one.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) revision: u64,
    pub(super) items: Vec<Arc<Value>>,
    pub(super) rest: Option<String>,
}

/// A version, or a page's token, from before what is remembered.
#[derive(Debug)]
pub(super) struct TooOld;

/// An event of a watch: its type, and its object.
pub(super) type Event = (&'static str, Arc<Value>);

impl World {
    pub(super) fn new() -> Self {
        Self {
            revision: 1000,
            compacted: 0,
            served: CORE.iter().copied().collect(),
            objects: BTreeMap::new(),
            history: Vec::new(),
            rests: BTreeMap::new(),
            made: 0,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    pub(super) fn served(&self) -> &BTreeSet<Resource> {
        &self.served
    }

    pub(super) fn serve(&mut self, resources: &[Resource]) {
        self.served.extend(resources);
    }

    /// As if the definition were deleted, which deletes the objects.
    pub(super) fn unserve(&mut self, resources: &[Resource]) {
        let gone: Vec<(Resource, Key)> =
            self.objects.keys().filter(|(resource, _)| resources.contains(resource)).cloned().collect();
        for (resource, key) in gone {
            self.delete(resource, &key);
        }
        self.served.retain(|resource| !resources.contains(resource));
    }

    pub(super) fn get(&self, resource: Resource, key: &Key) -> Option<&Arc<Value>> {
        self.objects.get(&(resource, key.clone()))
    }

    /// Puts an object in the place of what has the name, as the server would keep it.
    pub(super) fn put(&mut self, resource: Resource, key: &Key, mut object: Value) -> Arc<Value> {
        self.revision += 1;
        let before = self.objects.get(&(resource, key.clone())).cloned();
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            let uid = before.as_ref().map_or(Value::Null, |before| before["metadata"]["uid"].clone());
            let uid = uid.as_str().map_or_else(|| format!("uid-{}", self.made), str::to_owned);
            metadata.insert("resourceVersion".into(), self.revision.to_string().into());
            metadata.insert("uid".into(), uid.into());
            metadata.entry("creationTimestamp").or_insert_with(|| "2026-01-01T00:00:00Z".into());
            metadata.entry("managedFields").or_insert_with(managed_fields);
        }
        self.made += u64::from(before.is_none());
        let object = Arc::new(object);
        self.objects.insert((resource, key.clone()), Arc::clone(&object));
        self.note(resource, key, before, Arc::clone(&object), false);
        object
    }

    /// Whether there was one.
    pub(super) fn delete(&mut self, resource: Resource, key: &Key) -> bool {
        let Some(before) = self.objects.remove(&(resource, key.clone())) else { return false };
        self.revision += 1;
        let mut last = Value::clone(&before);
        if let Some(metadata) = last.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        }
        self.note(resource, key, Some(before), Arc::new(last), true);
        true
    }

    fn note(
        &mut self,
        resource: Resource,
        key: &Key,
        before: Option<Arc<Value>>,
        object: Arc<Value>,
        deleted: bool,
    ) {
        let (revision, namespace) = (self.revision, key.0.clone());
        self.history.push(Change { revision, resource, namespace, before, object, deleted });
    }

    /// Forgets every change so far, and the rests of lists.
    pub(super) fn compact(&mut self) {
        // What nobody has seen is newer than what is forgotten, so that even a watch that saw everything is too old.
        self.revision += 1;
        self.compacted = self.revision;
        self.history.clear();
        self.rests.clear();
    }

    /// A page of at most `limit` objects, or all.
    pub(super) fn list(&mut self, scope: &Scope, limit: usize) -> Listed {
        let items = self.objects.iter().filter(|((resource, key), object)| {
            *resource == scope.resource && scope.covers(&key.0) && scope.fields.selects(object)
        });
        let items = items.map(|(_, object)| Arc::clone(object)).collect();
        self.page(self.revision, items, limit)
    }

    /// The page that the token stands for.
    pub(super) fn next_page(&mut self, token: &str, limit: usize) -> Result<Listed, TooOld> {
        let (revision, items) = self.rests.remove(token).ok_or(TooOld)?;
        Ok(self.page(revision, items, limit))
    }

    fn page(&mut self, revision: u64, mut items: Vec<Arc<Value>>, limit: usize) -> Listed {
        let rest = items.split_off(limit.min(items.len()));
        if rest.is_empty() {
            return Listed { revision, items, rest: None };
        }
        let token = format!("{revision}-{}-left-{}", rest.len(), self.rests.len());
        self.rests.insert(token.clone(), (revision, rest));
        Listed { revision, items, rest: Some(token) }
    }

    /// What happened after the version, as the scope sees it: an object that is selected no more is deleted there.
    pub(super) fn events(&self, scope: &Scope, after: u64) -> Result<Vec<Event>, TooOld> {
        if after < self.compacted {
            return Err(TooOld);
        }
        let since = self.history.partition_point(|change| change.revision <= after);
        let concerned = self.history[since..]
            .iter()
            .filter(|change| change.resource == scope.resource && scope.covers(&change.namespace));
        Ok(concerned.filter_map(|change| change.seen_by(&scope.fields)).collect())
    }
}

impl Change {
    fn seen_by(&self, fields: &FieldSelector) -> Option<Event> {
        let before = self.before.as_ref().is_some_and(|before| fields.selects(before));
        let after = !self.deleted && fields.selects(&self.object);
        let what = match (before, after) {
            (false, true) => "ADDED",
            (true, true) => "MODIFIED",
            (true, false) => "DELETED",
            (false, false) => return None,
        };
        Some((what, Arc::clone(&self.object)))
    }
}

impl Scope {
    fn covers(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }
}

/// What every object of a real server carries and nobody here reads.
fn managed_fields() -> Value {
    json!([{
        "manager": "stub", "operation": "Update", "apiVersion": "v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:metadata": {"f:labels": {".": {}}}},
    }])
}
