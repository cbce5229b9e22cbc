//! Policies that are for host endpoints alone and are asked nowhere, for what they say of that leaves nothing.

use margay_flowtable::PolicyType;

use super::policies::Entry;
use super::{Item, NotInForce, PolicyCompiler};
use crate::compile::interfaces::ALL;
use crate::state::Cluster;

impl PolicyCompiler {
    /// Those that select no host endpoint, or none of this node that has them asked, with the field and the reason.
    pub(super) fn unasked<'a>(&'a self, cluster: &'a Cluster) -> impl Iterator<Item = NotInForce<'a>> + 'a {
        let why = |entry: &'a Entry| {
            let (field, why) = self.why_unasked(entry, cluster)?;
            Some(NotInForce { policy: &entry.id, field, why: why.into() })
        };
        self.table.early().filter_map(why)
    }

    fn why_unasked(&self, entry: &Entry, cluster: &Cluster) -> Option<(&'static str, &'static str)> {
        let field = if entry.ir.host.pre_dnat { "preDNAT" } else { "doNotTrack" };
        let mut selected =
            cluster.host_endpoints.iter().filter(|(name, _)| self.selects(entry, name)).peekable();
        if selected.peek().is_none() {
            return Some((field, "the policy is for host endpoints alone, and selects no HostEndpoint"));
        }
        if entry.ir.host.pre_dnat {
            return None;
        }
        if entry.rules(PolicyType::Ingress).is_none() {
            return Some((
                field,
                "the policy has no type Ingress: of what the node forwards, only what comes in is asked before \
                 connection tracking",
            ));
        }
        // Those of other nodes are theirs.
        let mut here = selected.filter(|(_, endpoint)| self.is_here(endpoint)).peekable();
        here.peek()?;
        here.all(|(_, endpoint)| endpoint.interface.as_deref() == Some(ALL)).then_some((
            field,
            "at a HostEndpoint for all interfaces (*) nothing is asked before connection tracking, as in Calico: it takes one \
             for the uplink",
        ))
    }

    fn selects(&self, entry: &Entry, endpoint: &str) -> bool {
        let number = self.host_endpoints.number(&endpoint.to_owned());
        let labels = number.and_then(|number| self.index.labels_of(&Item::HostEndpoint(number)));
        labels.is_some_and(|labels| entry.ir.subject.matches(labels))
    }
}
