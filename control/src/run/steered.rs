//! What the XDP program redirects, one step behind where something goes: what the snapshots before and after a change need
//! is redirected until no worker has the one before.

use std::collections::BTreeSet;
use std::net::IpAddr;

use margay_fastpath::steer::RouteChanges;

#[derive(Debug, Default)]
pub(super) struct Steered {
    /// Prefixes that no snapshot needs any more but those before the last published.
    going: BTreeSet<(IpAddr, u8)>,
    /// Number of the last published snapshot, until every worker has taken it.
    published: Option<u64>,
}

impl Steered {
    /// Of these changes those to be made at once; the rest waits for the snapshot that is about to be published.
    pub(super) fn take(&mut self, mut changes: RouteChanges) -> RouteChanges {
        changes.retain(|prefix, destination| {
            if destination.is_some() {
                self.going.remove(prefix);
            } else {
                self.going.insert(*prefix);
            }
            destination.is_some()
        });
        changes
    }

    pub(super) fn publish(&mut self, number: u64) {
        self.published = Some(number);
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.published.is_some()
    }

    /// What is to go, once every worker has taken the last published snapshot.
    pub(super) fn settle(&mut self, is_taken: impl Fn(u64) -> bool) -> Option<RouteChanges> {
        self.published.take_if(|number| is_taken(*number))?;
        Some(std::mem::take(&mut self.going).into_iter().map(|prefix| (prefix, None)).collect())
    }
}

#[cfg(test)]
mod tests {
    use margay_fastpath::steer::Destination;

    use super::*;

    #[test]
    fn what_goes_waits_for_the_workers_and_what_comes_back_stays() {
        let prefix = |last| (IpAddr::from([10, 0, 0, last]), 32);
        let (comes, goes) = (|last| (prefix(last), Some(Destination::Owned)), |last| (prefix(last), None));
        let mut steered = Steered::default();
        assert_eq!(steered.take([comes(1), goes(2), goes(3)].into()), [comes(1)].into());
        steered.publish(7);
        assert_eq!(steered.settle(|number| number < 7), None);
        assert_eq!(steered.take([comes(3), goes(1)].into()), [comes(3)].into());
        steered.publish(8);
        assert_eq!(steered.settle(|number| number < 8), None);
        assert_eq!(steered.settle(|number| number <= 8), Some([goes(1), goes(2)].into()));
        assert_eq!((steered.is_waiting(), steered.settle(|_| true)), (false, None));
    }
}
