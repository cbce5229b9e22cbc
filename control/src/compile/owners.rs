//! Who owns each address.
//!
//! Two pods may claim one for a moment, when it was given out again before the first claimant was gone: then a pod that
//! is not being deleted goes first, then the newest, then the first by name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::state::{Cluster, Name, Pod};

/// The pod that an address belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pub name: Arc<Name>,
    pub pod: Arc<Pod>,
}

/// An address that another pod owns than before, or none, or the same pod with another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerChange {
    pub address: IpAddr,
    pub old: Option<Owner>,
    pub new: Option<Owner>,
}

/// The owners of all addresses, kept in step with the pods.
#[derive(Debug, Default)]
pub struct Owners {
    owners: HashMap<IpAddr, Owner>,
    /// All claims to the addresses that more than one pod claims, the owner's first.
    contested: HashMap<IpAddr, BTreeMap<Claim, Arc<Pod>>>,
}

/// What decides between claimants: the smallest owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Claim {
    terminating: bool,
    created: Reverse<i64>,
    name: Arc<Name>,
}

impl Claim {
    fn of(name: &Arc<Name>, pod: &Pod) -> Self {
        Self { terminating: pod.terminating, created: Reverse(pod.created), name: Arc::clone(name) }
    }
}

impl Owners {
    /// Of all pods of the cluster.
    pub fn of(cluster: &Cluster) -> Self {
        let mut owners = Self::default();
        for (name, pod) in &cluster.pods {
            let name = Arc::new(name.clone());
            pod.claimed().for_each(|address| owners.claim(address, &name, pod));
        }
        owners
    }

    pub fn get(&self, address: IpAddr) -> Option<&Owner> {
        self.owners.get(&address)
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Owner)> {
        self.owners.iter().map(|(address, owner)| (*address, owner))
    }

    /// Takes in that the pod of this name was `old` and is `new`, and returns the addresses that have another owner now,
    /// each once.
    pub fn apply(&mut self, name: &Name, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) -> Vec<OwnerChange> {
        let claimed = || [old, new].into_iter().flatten().flat_map(|pod| pod.claimed());
        let name = self.known_name(name, claimed()).unwrap_or_else(|| Arc::new(name.clone()));
        let mut seen = HashSet::new();
        let mut before = Vec::new();
        for address in claimed().filter(|address| seen.insert(*address)) {
            before.push((address, self.owners.get(&address).cloned()));
        }
        for (pod, address) in old.into_iter().flat_map(|pod| pod.claimed().map(move |a| (pod, a))) {
            self.release(address, &Claim::of(&name, pod));
        }
        for (pod, address) in new.into_iter().flat_map(|pod| pod.claimed().map(move |a| (pod, a))) {
            self.claim(address, &name, pod);
        }
        let after = before.into_iter().map(|(address, old)| OwnerChange {
            address,
            old,
            new: self.owners.get(&address).cloned(),
        });
        after.filter(|change| change.old != change.new).collect()
    }

    /// The name as it is shared already, where the pod owns an address.
    fn known_name(&self, name: &Name, mut claimed: impl Iterator<Item = IpAddr>) -> Option<Arc<Name>> {
        claimed.find_map(|address| {
            let owner = self.owners.get(&address).filter(|owner| *owner.name == *name)?;
            Some(Arc::clone(&owner.name))
        })
    }

    fn claim(&mut self, address: IpAddr, name: &Arc<Name>, pod: &Arc<Pod>) {
        let claimant = Owner { name: Arc::clone(name), pod: Arc::clone(pod) };
        let Some(owner) = self.owners.get_mut(&address) else {
            self.owners.insert(address, claimant);
            return;
        };
        if owner.name == *name {
            // An address that the pod lists twice.
            return;
        }
        let claims = self.contested.entry(address).or_insert_with(|| {
            BTreeMap::from([(Claim::of(&owner.name, &owner.pod), Arc::clone(&owner.pod))])
        });
        claims.insert(Claim::of(name, pod), Arc::clone(pod));
        if claims.first_key_value().is_some_and(|(first, _)| first.name == *name) {
            *owner = claimant;
        }
    }

    fn release(&mut self, address: IpAddr, claim: &Claim) {
        let Some(claims) = self.contested.get_mut(&address) else {
            if self.owners.get(&address).is_some_and(|owner| owner.name == claim.name) {
                self.owners.remove(&address);
            }
            return;
        };
        claims.remove(claim);
        if let Some((first, pod)) = claims.first_key_value() {
            self.owners.insert(address, Owner { name: Arc::clone(&first.name), pod: Arc::clone(pod) });
        }
        if claims.len() == 1 {
            self.contested.remove(&address);
        }
    }
}

impl Pod {
    /// The addresses that it says are its own.
    fn claimed(&self) -> impl Iterator<Item = IpAddr> {
        let addresses = if self.is_endpoint() { &self.addresses[..] } else { &[] };
        addresses.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Found = BTreeMap<IpAddr, (Name, Arc<Pod>)>;

    /// The rule in its plain form.
    fn plain(pods: &BTreeMap<Name, Arc<Pod>>) -> Found {
        let mut owners = Found::new();
        for (name, pod) in pods.iter().filter(|(_, pod)| !pod.host_network && !pod.finished) {
            for address in &pod.addresses {
                let (_, owner) = owners.entry(*address).or_insert_with(|| (name.clone(), pod.clone()));
                let is_first = |p: &Pod| (p.terminating, Reverse(p.created));
                if is_first(pod) < is_first(owner) {
                    owners.insert(*address, (name.clone(), pod.clone()));
                }
            }
        }
        owners
    }

    fn pod() -> impl Strategy<Value = Option<Pod>> {
        let addresses = prop::collection::vec((0u8..4).prop_map(|n| IpAddr::from([10, 0, 0, n])), 0..4);
        let flags = (any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
        prop::option::weighted(0.7, (addresses, flags, 0..3i64)).prop_map(|pod| {
            pod.map(|(addresses, (terminating, finished, host_network), created)| Pod {
                host_network,
                finished,
                terminating,
                created,
                addresses,
                ..Pod::default()
            })
        })
    }

    proptest! {
        #[test]
        fn owners_follow_whatever_pods_do(steps in prop::collection::vec((0u8..5, pod()), 1..60)) {
            let mut pods = BTreeMap::new();
            let mut owners = Owners::default();
            for (number, new) in steps {
                let name = Name::new("x", number.to_string());
                let new = new.map(Arc::new);
                let before = plain(&pods);
                let old = match &new {
                    Some(new) => pods.insert(name.clone(), new.clone()),
                    None => pods.remove(&name),
                };
                let changes = owners.apply(&name, old.as_ref(), new.as_ref());

                let after = plain(&pods);
                let found: Found =
                    owners.iter().map(|(a, o)| (a, ((*o.name).clone(), o.pod.clone()))).collect();
                prop_assert_eq!(&found, &after);
                let fresh = Owners::of(&Cluster { pods: pods.clone(), ..Cluster::default() });
                prop_assert_eq!(&owners.owners, &fresh.owners);
                prop_assert!(owners.contested.values().all(|claims| claims.len() > 1));

                let told = |owner: Option<Owner>| owner.map(|o| ((*o.name).clone(), o.pod));
                let told: BTreeMap<_, _> =
                    changes.into_iter().map(|c| (c.address, (told(c.old), told(c.new)))).collect();
                let differ = |address: &IpAddr| before.get(address) != after.get(address);
                let all: HashSet<IpAddr> = before.keys().chain(after.keys()).copied().collect();
                let expected: BTreeMap<_, _> = all
                    .into_iter()
                    .filter(differ)
                    .map(|a| (a, (before.get(&a).cloned(), after.get(&a).cloned())))
                    .collect();
                prop_assert_eq!(told, expected);
            }
        }
    }
}
