//! Changes of each kind, one at a time.

use hdrhistogram::Histogram;
use margay_control::state::policy::Policy;
use margay_control::state::{Change, Edit};

use super::{Control, Sink};
use crate::world::{self, LARGE_NAMESPACE, Size};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A pod comes that has the labels of others.
    PodAdded,
    PodRemoved,
    /// A pod gets labels that others have.
    LabelsOfOthers,
    /// A pod gets labels that no other has.
    LabelsOfItsOwn,
    /// One of a policy's rules has another port.
    PolicyEdited,
    /// One of a policy's rules has a peer that no rule had.
    PeerEdited,
    PolicyAdded,
    PolicyRemoved,
    /// A namespace of a thousand pods has another label.
    NamespaceRelabelled,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::PodRemoved,
        Self::PodAdded,
        Self::LabelsOfOthers,
        Self::LabelsOfItsOwn,
        Self::PolicyEdited,
        Self::PeerEdited,
        Self::PolicyRemoved,
        Self::PolicyAdded,
        Self::NamespaceRelabelled,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::PodAdded => "pod-added",
            Self::PodRemoved => "pod-removed",
            Self::LabelsOfOthers => "labels-of-others",
            Self::LabelsOfItsOwn => "labels-of-its-own",
            Self::PolicyEdited => "policy-edited",
            Self::PeerEdited => "peer-edited",
            Self::PolicyAdded => "policy-added",
            Self::PolicyRemoved => "policy-removed",
            Self::NamespaceRelabelled => "namespace-relabelled",
        }
    }

    /// The change of this number. What is removed by one kind is put back by the next with the same numbers.
    fn change(self, number: u32, size: Size) -> Change {
        // Anywhere but in the large namespace, and each once.
        let pods = size.pods - LARGE_NAMESPACE;
        let pod = LARGE_NAMESPACE + number.wrapping_mul(7919) % pods;
        let policy = number.wrapping_mul(7919) % size.policies;
        let put_pod = |object| Change::Pod(Edit::put(size.pod_name(pod), object));
        let (id, object) = world::policy(policy, size.namespaces, 80);
        match self {
            Self::PodRemoved => Change::Pod(Edit::remove(size.pod_name(pod))),
            Self::PodAdded => put_pod(size.pod(pod, pod % 20)),
            Self::LabelsOfOthers => put_pod(size.pod(pod, (pod + 1) % 20)),
            Self::LabelsOfItsOwn => put_pod(size.pod(pod, 1_000_000 + number)),
            Self::PolicyEdited => Change::Policy(Edit::put(id, world::policy(policy, size.namespaces, 81).1)),
            Self::PeerEdited => Change::Policy(Edit::put(id, with_new_peer(object, number))),
            Self::PolicyRemoved => Change::Policy(Edit::remove(id)),
            Self::PolicyAdded => Change::Policy(Edit::put(id, object)),
            Self::NamespaceRelabelled => {
                let namespace = world::namespace_object(0, 1 + number % 40);
                Change::Namespace(Edit::put(world::namespace(0), namespace))
            }
        }
    }
}

fn with_new_peer(mut policy: Policy, number: u32) -> Policy {
    use margay_control::selector::Selector;
    use margay_control::state::policy::Peer;
    let peer = Selector::label_is("app", format!("app-{}", number % 20))
        .and(Selector::label_is("pcns.team", format!("team-{}", number / 20 % 50)));
    if let Some(rule) = policy.ingress.as_mut().and_then(|rules| rules.first_mut()) {
        rule.source.all_of = vec![vec![Peer::Selected(peer)]];
    }
    policy
}

pub(super) fn measure(
    control: &mut Control,
    kind: Kind,
    size: Size,
    count: u32,
    report: &mut Sink<'_>,
) -> anyhow::Result<()> {
    let mut samples = Histogram::<u64>::new(3)?;
    for number in 0..count {
        samples.record(control.take(vec![kind.change(number, size)]))?;
    }
    report(kind.name(), &samples, 1.0);
    Ok(())
}
