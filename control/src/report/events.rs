//! Which Events are to be written, and when: one for each object and problem.
//!
//! An Event's name is made of its object and what it says. So all gateways of a cluster that see the same have one name for
//! it, the first of them writes it, the others find it there, and nobody has to lead. For the same reason a restart or a
//! resync says nothing twice.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use sha1::{Digest, Sha1};
use tokio::time::Instant;

use super::pace::{Pace, jittered};
use crate::clock;
use crate::manifest::{Kind, Problem, Reference};
use crate::source::kubernetes::{GroupVersion, Watched};
use crate::state::policy::PolicyKind;

/// Who writes them.
const CONTROLLER: &str = "margay.dev/margay";
/// Where Events are whose object has no namespace. Old API servers take them nowhere else, all others do here too.
const NO_NAMESPACE: &str = "kube-system";
/// Bytes that the API server takes of a note and of a reporter's name.
const MOST_NOTE: usize = 1024;
const MOST_INSTANCE: usize = 128;

/// What an object and a problem of it hash to.
pub(super) type Key = u64;

#[derive(Clone, Debug)]
struct Complaint {
    reference: Arc<Reference>,
    reason: &'static str,
    note: String,
    /// When it is to be written next.
    due: Instant,
}

/// The problems there are, and which of them wait to be written.
#[derive(Debug)]
pub(super) struct Events {
    node: String,
    pace: Pace,
    taken: Arc<Vec<Problem>>,
    complaints: BTreeMap<Key, Complaint>,
    by_due: BTreeSet<(Instant, Key)>,
    /// Events that may be written at once, of `pace.burst`, as of a moment.
    allowance: (u32, Instant),
}

impl Events {
    pub(super) fn new(node: &str, pace: Pace, now: Instant) -> Self {
        Self {
            node: cut(node, MOST_INSTANCE).to_owned(),
            pace,
            taken: Arc::default(),
            complaints: BTreeMap::new(),
            by_due: BTreeSet::new(),
            allowance: (pace.burst, now),
        }
    }

    /// Takes the problems that there are now. What is mended, or its object gone, is forgotten.
    pub(super) fn take(&mut self, problems: &Arc<Vec<Problem>>, now: Instant) {
        if Arc::ptr_eq(&self.taken, problems) {
            return;
        }
        self.taken = Arc::clone(problems);
        let mut before = std::mem::take(&mut self.complaints);
        for problem in problems.iter() {
            let Some(reference) = problem.place.reference() else { continue };
            let mut note = problem.reason.to_string();
            if problem.last_good_stands {
                note += " (the last good version stays in force)";
            }
            let key = key(reference, &note);
            let due = before.remove(&key).map(|complaint| complaint.due);
            let due = due.unwrap_or_else(|| now + self.pace.spread.mul_f64(fastrand::f64()));
            let reason = if problem.is_in_part() { "EnforcedInPart" } else { "NotEnforced" };
            let reference = Arc::clone(reference);
            self.complaints.insert(key, Complaint { reference, reason, note, due });
        }
        self.by_due = self.complaints.iter().map(|(key, complaint)| (complaint.due, *key)).collect();
    }

    /// When there is one to be written, at the earliest.
    pub(super) fn due(&self) -> Option<Instant> {
        let (due, _) = self.by_due.first()?;
        let (left, since) = self.allowance;
        Some(if left > 0 { *due } else { (*due).max(since + self.pace.event) })
    }

    /// The one that has waited longest, where one may be written now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Key, Event)> {
        self.earn(now);
        let key = self.by_due.first().filter(|(due, _)| *due <= now)?.1;
        let (left, _) = &mut self.allowance;
        *left = left.checked_sub(1)?;
        Some((key, self.event(key, &self.complaints[&key])))
    }

    /// It is there, or the API server will not have it: enough of it for now.
    pub(super) fn done(&mut self, key: Key, now: Instant) {
        self.put_off(key, now + jittered(self.pace.repeat));
    }

    /// It was not written, and the others go before it.
    pub(super) fn postpone(&mut self, key: Key, now: Instant) {
        self.put_off(key, now);
    }

    fn put_off(&mut self, key: Key, due: Instant) {
        if let Some(complaint) = self.complaints.get_mut(&key) {
            self.by_due.remove(&(complaint.due, key));
            complaint.due = due;
            self.by_due.insert((due, key));
        }
    }

    fn earn(&mut self, now: Instant) {
        let (left, since) = self.allowance;
        let earned = now.saturating_duration_since(since).as_nanos() / self.pace.event.as_nanos().max(1);
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if left.saturating_add(earned) >= self.pace.burst {
            self.allowance = (self.pace.burst, now);
        } else {
            self.allowance = (left + earned, since + self.pace.event * earned);
        }
    }

    fn event(&self, key: Key, complaint: &Complaint) -> Event {
        let Reference { kind, name, uid } = &*complaint.reference;
        let namespace = (!name.namespace.is_empty()).then(|| name.namespace.clone());
        Event {
            metadata: ObjectMeta {
                name: Some(format!("margay.{key:016x}")),
                namespace: Some(namespace.clone().unwrap_or_else(|| NO_NAMESPACE.to_owned())),
                ..ObjectMeta::default()
            },
            event_time: Some(MicroTime(clock::wall())),
            regarding: Some(ObjectReference {
                api_version: api_version(*kind),
                kind: Some(kind_name(*kind)),
                namespace,
                name: Some(name.name.clone()),
                uid: Some(uid.clone()),
                ..ObjectReference::default()
            }),
            type_: Some("Warning".to_owned()),
            reason: Some(complaint.reason.to_owned()),
            action: Some("Enforce".to_owned()),
            note: Some(cut(&complaint.note, MOST_NOTE).to_owned()),
            reporting_controller: Some(CONTROLLER.to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        }
    }
}

/// As its group calls the kind.
fn kind_name(kind: Kind) -> String {
    match kind {
        Kind::Policy(PolicyKind::CalicoNetworkPolicy) => PolicyKind::NetworkPolicy.to_string(),
        kind => kind.to_string(),
    }
}

/// Where the kind is served in one version. Who looks for an object's Events goes by its UID.
fn api_version(kind: Kind) -> Option<String> {
    match Watched::of(kind)?.versions {
        [GroupVersion { group: "", version }] => Some((*version).to_owned()),
        [GroupVersion { group, version }] => Some(format!("{group}/{version}")),
        _ => None,
    }
}

fn key(reference: &Reference, note: &str) -> Key {
    let Reference { kind, name, uid } = reference;
    let mut hash = Sha1::new();
    for part in [&kind.to_string(), &name.namespace, &name.name, uid, note] {
        // A length before each: no two lists of parts run together to the same bytes.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest: [u8; 20] = hash.finalize().into();
    digest[..8].iter().fold(0, |key, byte| key << 8 | u64::from(*byte))
}

/// The text, or what of its start is so many bytes at most.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::manifest::{FieldPath, Invalid, Place, Reason, Step};
    use crate::state::Name;

    fn problem(kind: PolicyKind, namespace: &str, name: &str, why: &str) -> Problem {
        let (kind, uid) = (Kind::Policy(kind), format!("uid-{name}"));
        let reference = Reference { kind, name: Name::new(namespace, name), uid };
        let field = FieldPath(vec![Step::Key("spec".into()), Step::Key("ingress".into()), Step::Index(0)]);
        Problem {
            place: Place::Api(Arc::new(reference)),
            object: None,
            reason: Reason::Invalid(Invalid { field, why: why.into() }),
            last_good_stands: false,
        }
    }

    fn web(name: &str, why: &str) -> Problem {
        problem(PolicyKind::NetworkPolicy, "shop", name, why)
    }

    fn problems(names: impl IntoIterator<Item = usize>) -> Arc<Vec<Problem>> {
        let policy = |number| web(&format!("policy-{number}"), "is not a port");
        Arc::new(names.into_iter().map(policy).collect())
    }

    fn events(now: Instant) -> Events {
        Events::new("gw", Pace { spread: Duration::ZERO, ..Pace::default() }, now)
    }

    /// Takes all that may be written at that moment, as written.
    fn drain(events: &mut Events, now: Instant) -> Vec<Event> {
        let mut written = Vec::new();
        while let Some((key, event)) = events.next(now) {
            events.done(key, now);
            written.push(event);
        }
        written
    }

    #[test]
    fn an_event_says_what_is_wrong_with_which_field_of_which_object() {
        let now = Instant::now();
        let mut events = events(now);
        let in_part = Problem {
            reason: Reason::InPart(Invalid { field: FieldPath::default(), why: "has a domain name".into() }),
            ..problem(PolicyKind::GlobalNetworkPolicy, "", "everywhere", "")
        };
        let kept = Problem { last_good_stands: true, ..web("web", "is not a port") };
        events.take(&Arc::new(vec![in_part, kept]), now);
        let mut written = drain(&mut events, now);
        written.sort_by_key(|event| event.regarding.as_ref().and_then(|object| object.name.clone()));
        let said = written.iter().map(|event| {
            let object = event.regarding.clone().unwrap();
            let of = [object.api_version, object.kind, object.namespace, object.uid];
            let texts = [&event.metadata.namespace, &event.reason, &event.note];
            (of.map(Option::unwrap_or_default), texts.map(|text| text.clone().unwrap()))
        });
        let of = |texts: [&str; 4]| texts.map(str::to_owned);
        let expected = [
            (
                of(["", "GlobalNetworkPolicy", "", "uid-everywhere"]),
                ["kube-system", "EnforcedInPart", "the object: has a domain name; the rest is in force"],
            ),
            (
                of(["networking.k8s.io/v1", "NetworkPolicy", "shop", "uid-web"]),
                [
                    "shop",
                    "NotEnforced",
                    "spec.ingress[0]: is not a port (the last good version stays in force)",
                ],
            ),
        ];
        assert_eq!(said.collect::<Vec<_>>(), expected.map(|(of, texts)| (of, texts.map(str::to_owned))));
    }

    #[test]
    fn what_is_still_so_is_not_said_again_before_the_api_server_has_forgotten_it() {
        let now = Instant::now();
        let mut events = events(now);
        events.take(&problems([1, 2]), now);
        let first = drain(&mut events, now);
        assert_eq!(first.len(), 2);
        // A resync delivers the same again.
        events.take(&problems([1, 2]), now);
        assert_eq!(drain(&mut events, now + Duration::from_secs(3599)), []);
        let again = drain(&mut events, now + Duration::from_secs(3960));
        let names = |events: &[Event]| -> BTreeSet<String> {
            events.iter().filter_map(|event| event.metadata.name.clone()).collect()
        };
        assert_eq!(names(&first), names(&again));
    }

    #[test]
    fn what_is_mended_is_forgotten_and_what_is_new_is_another_event() {
        let now = Instant::now();
        let mut events = events(now);
        events.take(&problems([1]), now);
        events.take(&problems([]), now);
        assert_eq!((drain(&mut events, now), events.due()), (Vec::new(), None));

        let one = |why| Arc::new(vec![web("web", why)]);
        events.take(&one("is not a port"), now);
        let first = drain(&mut events, now);
        events.take(&one("is not a CIDR"), now);
        let second = drain(&mut events, now);
        assert_ne!(first[0].metadata.name, second[0].metadata.name);
    }

    #[test]
    fn gateways_call_the_same_problem_by_the_same_name() {
        let now = Instant::now();
        let name = |node| {
            let mut events = Events::new(node, Pace { spread: Duration::ZERO, ..Pace::default() }, now);
            events.take(&problems([1]), now);
            drain(&mut events, now)[0].metadata.name.clone()
        };
        assert_eq!(name("gw-a"), name("gw-b"));
    }

    #[test]
    fn ten_thousand_problems_are_so_many_events_a_minute() {
        let start = Instant::now();
        let (mut events, pace) = (events(start), Pace::default());
        events.take(&problems(0..10_000), start);
        assert_eq!(drain(&mut events, start).len(), pace.burst as usize);
        let (mut now, mut written) = (start, 0);
        while let Some(due) = events.due().filter(|due| *due < start + Duration::from_secs(600)) {
            assert!(due > now, "it is due and may not be written: the writer would not rest");
            now = due;
            written += drain(&mut events, now).len();
        }
        assert_eq!(written, 299);
        // After a rest the allowance is whole again, and no more than that.
        assert_eq!(drain(&mut events, now + Duration::from_secs(3000)).len(), pace.burst as usize);
    }

    #[test]
    fn long_texts_are_cut_as_the_api_server_asks() {
        let now = Instant::now();
        let mut events = Events::new(&"n".repeat(253), Pace::default(), now);
        events.take(&Arc::new(vec![web("web", &"é".repeat(5000))]), now);
        let event = drain(&mut events, now + Duration::from_secs(2)).remove(0);
        assert_eq!(event.reporting_instance.unwrap().len(), 128);
        let note = event.note.unwrap();
        assert!(note.len() <= 1024 && note.len() > 1000, "{}", note.len());
    }
}
