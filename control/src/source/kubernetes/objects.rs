//! The objects of one kind: which are known, which version of each is in force, and what is wrong with the others.
//!
//! Two objects of Calico's may be one policy, by the forms of its name that versions of it have written. The first by
//! name in the API server stands, and the other is a problem until it says the same or is gone.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::sync::Arc;

use super::object::{self, ApiObject};
use crate::manifest::{
    FieldPath, Id, Invalid, Kind, Object, Place, Problem, Reason, Reference, SharedLabels, identify,
    is_tiered, read,
};
use crate::source::References;
use crate::state::policy::PolicyId;
use crate::state::{Change, Name};

#[derive(Debug)]
pub(super) struct Objects {
    kind: Kind,
    /// By their names in the API server.
    known: HashMap<Name, Known>,
    /// Of a kind whose names have several forms: names in the API server by the name that they stand for.
    forms: BTreeMap<Name, BTreeSet<Name>>,
    /// Of those the ones with more than one.
    crowded: BTreeSet<Name>,
    /// What is wrong with each of the known.
    problems: BTreeMap<Name, Vec<Problem>>,
    /// Names that another object may stand for than when this was last asked, of a kind whose names have several forms.
    moved: BTreeSet<Name>,
    has_news: bool,
    /// Number of the list that is read now, or was read last.
    round: u32,
    is_listing: bool,
    /// Whether a list has been whole.
    is_known: bool,
    changes: Vec<Change>,
}

#[derive(Debug)]
struct Known {
    uid: Box<str>,
    version: Option<Version>,
    /// The last list that it was in.
    round: u32,
}

/// A version that is valid.
#[derive(Debug, PartialEq)]
struct Version {
    object: Object,
    /// The name that it stands for, where that is another than the API server's.
    name: Option<Box<Name>>,
}

impl Version {
    fn name<'a>(&'a self, own: &'a Name) -> &'a Name {
        self.name.as_deref().unwrap_or(own)
    }
}

impl Objects {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            known: HashMap::new(),
            forms: BTreeMap::new(),
            crowded: BTreeSet::new(),
            problems: BTreeMap::new(),
            moved: BTreeSet::new(),
            has_news: false,
            round: 0,
            is_listing: false,
            is_known: false,
            changes: Vec::new(),
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// Begins a list. What one before it told without coming to its end stands until this one is whole.
    pub(super) fn begin(&mut self) {
        self.round += 1;
        self.is_listing = true;
    }

    /// Ends the list: what it did not hold is gone.
    pub(super) fn finish(&mut self) {
        let gone = self.known.iter().filter(|(_, known)| known.round != self.round);
        let gone: Vec<Name> = gone.map(|(name, _)| name.clone()).collect();
        for name in &gone {
            self.remove(name);
        }
        (self.is_listing, self.is_known) = (false, true);
    }

    /// What has changed, unless a list is being read.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        if self.is_listing { Vec::new() } else { mem::take(&mut self.changes) }
    }

    /// What the API server calls the policies that stand for names, where that may be new.
    pub(super) fn take_references(&mut self) -> References {
        let Kind::Policy(kind) = self.kind else { return References::new() };
        let moved = mem::take(&mut self.moved);
        let reference = |name: Name| {
            let place = self.standing(&name).map(|(own, _)| self.reference(own));
            (PolicyId { kind, name }, place)
        };
        moved.into_iter().map(reference).collect()
    }

    /// Whether the problems are others than when this was last asked.
    pub(super) fn take_news(&mut self) -> bool {
        mem::take(&mut self.has_news)
    }

    pub(super) fn put(&mut self, object: ApiObject, labels: &mut SharedLabels) {
        let ApiObject { name, uid, value, flaw } = object;
        let is_other = !self.note(&name, &uid);
        let read = match identify(self.kind, |path| object::text(&value, path)) {
            Ok(id) => {
                let whole = flaw.map_or(Ok(value), |why| Err(Invalid { field: FieldPath::default(), why }));
                match whole.and_then(|value| read(value, &id)) {
                    Ok((object, in_part)) => Ok((id, object, in_part)),
                    Err(invalid) => Err((Some(id), Reason::Invalid(invalid))),
                }
            }
            Err(invalid) => Err((None, Reason::Unnamed(self.kind, invalid))),
        };
        let problems = match read {
            Ok((id, mut object, in_part)) => {
                object.share_labels(labels);
                if is_other && is_tiered(self.kind) {
                    self.has_news = true;
                    self.moved.insert(id.name.clone());
                }
                let stands_for = (id.name != name).then(|| Box::new(id.name.clone()));
                self.replace(&name, Some(Version { object, name: stands_for }));
                let reasons = in_part.into_iter().map(Reason::InPart);
                reasons.map(|reason| Problem::new(self.place(&name), Some(id.clone()), reason)).collect()
            }
            Err((id, reason)) => {
                if is_other {
                    self.replace(&name, None);
                }
                let last_good_stands = self.known[&name].version.is_some();
                vec![Problem { last_good_stands, ..Problem::new(self.place(&name), id, reason) }]
            }
        };
        self.set_problems(&name, problems);
    }

    /// The object of that name in the API server.
    fn reference(&self, name: &Name) -> Arc<Reference> {
        let uid = self.known.get(name).map(|known| known.uid.to_string()).unwrap_or_default();
        Arc::new(Reference { kind: self.kind, name: name.clone(), uid })
    }

    fn place(&self, name: &Name) -> Place {
        Place::Api(self.reference(name))
    }

    /// Notes that there is an object of that name and UID. False where the one known by that name is another.
    fn note(&mut self, name: &Name, uid: &str) -> bool {
        let round = self.round;
        let Some(known) = self.known.get_mut(name) else {
            self.known.insert(name.clone(), Known { uid: uid.into(), version: None, round });
            return true;
        };
        let is_same = is_same(&known.uid, uid);
        if *known.uid != *uid {
            known.uid = uid.into();
        }
        known.round = round;
        is_same
    }

    /// Deletes the object, if it is that one and not another of its name.
    pub(super) fn delete(&mut self, object: &ApiObject) {
        if self.known.get(&object.name).is_some_and(|known| is_same(&known.uid, &object.uid)) {
            self.remove(&object.name);
        }
    }

    fn remove(&mut self, name: &Name) {
        self.replace(name, None);
        self.known.remove(name);
        self.set_problems(name, Vec::new());
    }

    fn set_problems(&mut self, name: &Name, problems: Vec<Problem>) {
        let before = if problems.is_empty() {
            self.problems.remove(name)
        } else {
            self.problems.insert(name.clone(), problems)
        };
        self.has_news |= before.as_ref() != self.problems.get(name);
    }

    /// Puts the version in the place of the object's last one. One that says the same leaves that as it is.
    fn replace(&mut self, name: &Name, version: Option<Version>) {
        let Some(known) = self.known.get_mut(name) else { return };
        if known.version == version {
            return;
        }
        let after = version.as_ref().map(|version| version.name(name).clone());
        let before = mem::replace(&mut known.version, version);
        if let Some(before) = before.filter(|before| after.as_ref() != Some(before.name(name))) {
            let stood_for = before.name(name);
            self.note_form(stood_for, name, false);
            match self.standing(stood_for) {
                Some((_, other)) => self.changes.push(other.change(stood_for, true)),
                None => self.changes.push(before.object.change(stood_for, false)),
            }
        }
        if let Some(after) = after {
            self.note_form(&after, name, true);
            if let Some((_, object)) = self.standing(&after) {
                self.changes.push(object.change(&after, true));
            }
        }
    }

    fn note_form(&mut self, stands_for: &Name, name: &Name, is_there: bool) {
        if !is_tiered(self.kind) {
            return;
        }
        self.moved.insert(stands_for.clone());
        let forms = self.forms.entry(stands_for.clone()).or_default();
        if is_there {
            forms.insert(name.clone())
        } else {
            forms.remove(name)
        };
        let is_crowded = forms.len() > 1;
        if forms.is_empty() {
            self.forms.remove(stands_for);
        }
        self.has_news |= is_crowded;
        self.has_news |= if is_crowded {
            self.crowded.insert(stands_for.clone())
        } else {
            self.crowded.remove(stands_for)
        };
    }

    /// The object that stands for the name, with its own name.
    fn standing(&self, stands_for: &Name) -> Option<(&Name, &Object)> {
        let object = |name: &Name| {
            let (name, known) = self.known.get_key_value(name)?;
            Some((name, &known.version.as_ref()?.object))
        };
        if is_tiered(self.kind) {
            return self.forms.get(stands_for)?.iter().find_map(object);
        }
        object(stands_for)
    }

    /// All that is not in force as written.
    pub(super) fn problems(&self) -> impl Iterator<Item = Problem> + '_ {
        let doubles = self.crowded.iter().flat_map(|stands_for| self.doubles(stands_for));
        self.problems.values().flatten().cloned().chain(doubles)
    }

    /// Those that say something else than the one that stands for the name.
    fn doubles(&self, stands_for: &Name) -> Vec<Problem> {
        let Some((first, object)) = self.standing(stands_for) else { return Vec::new() };
        let named = |name: &Name| Id { kind: self.kind, name: name.clone() };
        let others = self.forms[stands_for].iter().filter(|name| {
            self.known[*name].version.as_ref().is_some_and(|version| version.object != *object)
        });
        let reason = || Reason::SameName(named(first).to_string());
        others.map(|name| Problem::new(self.place(name), Some(named(name)), reason())).collect()
    }
}

/// Whether two UIDs are of one object; without a UID it is whichever is there.
fn is_same(a: &str, b: &str) -> bool {
    a == b || a.is_empty() || b.is_empty()
}
