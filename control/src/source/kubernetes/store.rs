//! What is known of the API server's objects, and what becomes of them: watch events in, changes out.
//!
//! A list takes effect as a whole, as the difference to what was known: what it holds again is not touched, not even for
//! a moment, however often it is listed. Of an object that is not valid the last good version stands, as long as it is
//! the same object: one of the same name and another UID takes the place of the one before, valid or not.

use std::collections::BTreeMap;

use super::kinds::WATCHED;
use super::object::ApiObject;
use super::objects::Objects;
use crate::manifest::{Kind, Problem, SharedLabels};
use crate::source::References;
use crate::state::Change;

/// What a watch says of its kind.
#[derive(Clone, Debug)]
pub enum Event {
    /// All objects are about to be listed.
    Listing,
    /// An object of the list, or one that is new or another than before.
    Put(ApiObject),
    Deleted(ApiObject),
    /// The list is whole.
    Listed,
    /// The cluster does not have the kind.
    Absent,
}

/// The objects of all kinds.
#[derive(Debug)]
pub struct Store {
    kinds: BTreeMap<Kind, Objects>,
    labels: SharedLabels,
    /// Pods that have come or changed since unused labels were last let go of.
    pods: usize,
    changes: Vec<Change>,
    has_told: bool,
}

/// As many pods come or change before labels are looked through for those that nobody has any more.
const MANY_PODS: usize = 20_000;

impl Default for Store {
    fn default() -> Self {
        Self {
            kinds: WATCHED.iter().map(|watched| (watched.kind, Objects::new(watched.kind))).collect(),
            labels: SharedLabels::default(),
            pods: 0,
            changes: Vec::new(),
            has_told: false,
        }
    }
}

impl Store {
    /// Takes in an event of a watched kind.
    pub fn take(&mut self, kind: Kind, event: Event) {
        let Some(objects) = self.kinds.get_mut(&kind) else { return };
        match event {
            Event::Listing => objects.begin(),
            Event::Put(object) => {
                self.pods += usize::from(kind == Kind::Pod);
                objects.put(object, &mut self.labels);
            }
            Event::Deleted(object) => objects.delete(&object),
            Event::Listed => objects.finish(),
            Event::Absent => {
                objects.begin();
                objects.finish();
            }
        }
        self.changes.extend(objects.changes());
    }

    /// What the API server calls policies that came, went or were made anew since this was last asked.
    pub fn take_references(&mut self) -> References {
        self.kinds.values_mut().flat_map(Objects::take_references).collect()
    }

    /// Kinds of which nothing is known yet as a whole.
    pub fn missing(&self) -> impl Iterator<Item = Kind> + '_ {
        self.kinds.iter().filter(|(_, objects)| !objects.is_known()).map(|(kind, _)| *kind)
    }

    /// What there is to tell since the last time, the whole of it at first: changes, and all that is not in force as
    /// written. `None` where there is nothing, and as long as any kind is not known as a whole.
    pub fn tell(&mut self) -> Option<(Vec<Change>, Vec<Problem>)> {
        if self.missing().next().is_some() {
            return None;
        }
        let mut is_due = !self.has_told || !self.changes.is_empty();
        for objects in self.kinds.values_mut() {
            is_due |= objects.take_news();
        }
        if !is_due {
            return None;
        }
        self.has_told = true;
        if self.pods > MANY_PODS {
            self.labels.forget_unused();
            self.pods = 0;
        }
        let problems = self.kinds.values().flat_map(Objects::problems).collect();
        Some((std::mem::take(&mut self.changes), problems))
    }
}
