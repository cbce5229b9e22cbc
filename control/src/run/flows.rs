//! What the admin socket asks of connections: the table to walk, what filters mean, and names for what was found.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use margay_flowtable::RuleId;

use super::dataplane::Dataplane;
use crate::admin::Refusal;
use crate::admin::flows::{Ends, Meant, Names, Walked};
use crate::admin::policies::Rule;
use crate::state::Name;

impl Dataplane {
    /// The table and what the filters mean now.
    pub(crate) fn flows(&self, ends: &Ends) -> Result<Walked, Refusal> {
        let meant = Meant {
            pod: ends.pod.as_ref().map(|pod| self.addresses_of(pod)).transpose()?,
            policy: ends.policy.as_ref().map(|policy| self.rules_of(policy)).transpose()?,
        };
        // The workers' clocks began as their threads did, a moment before.
        let now = u32::try_from(self.started.elapsed().as_secs()).unwrap_or(u32::MAX);
        Ok(Walked { table: Arc::clone(&self.table), now, meant })
    }

    /// Addresses that are the pod's: another may hold one that its object names.
    fn addresses_of(&self, name: &Name) -> Result<Vec<IpAddr>, Refusal> {
        let Some(pod) = self.compiler.cluster().pods.get(name) else {
            return Err(Refusal::not_found(format!("there is no pod {name}")));
        };
        let owners = self.compiler.owners();
        let is_its = |address: &IpAddr| owners.get(*address).is_some_and(|owner| *owner.name == *name);
        Ok(pod.addresses.iter().copied().filter(is_its).collect())
    }

    /// The rules of policies of that name, whatever their kind.
    fn rules_of(&self, written: &str) -> Result<HashSet<RuleId>, Refusal> {
        let (namespace, name) = written.split_once('/').unwrap_or(("", written));
        let rules = self.compiler.rule_ids().iter();
        let its = rules.filter(|(_, rule)| {
            let policy = &rule.policy.name;
            policy.namespace == namespace && policy.name == name
        });
        let its: HashSet<RuleId> = its.map(|(id, _)| id).collect();
        if its.is_empty() {
            return Err(Refusal::not_found(format!("no policy {written} is in force")));
        }
        Ok(its)
    }

    /// Who holds the addresses, and what the numbers of rules mean.
    pub(crate) fn names(&self, ends: &HashSet<IpAddr>, rules: &HashSet<RuleId>) -> Names {
        let (cluster, owners) = (self.compiler.cluster(), self.compiler.owners());
        let nodes =
            cluster.nodes.iter().flat_map(|(name, node)| node.addresses.iter().map(move |at| (name, at)));
        let nodes = nodes.filter(|(_, address)| ends.contains(*address));
        let nodes = nodes.map(|(name, address)| (*address, format!("node:{name}")));
        let pods = ends.iter().filter_map(|end| Some((*end, owners.get(*end)?.name.to_string())));
        let ids = self.compiler.rule_ids();
        Names {
            ends: nodes.chain(pods).collect(),
            rules: rules.iter().filter_map(|rule| Some((*rule, Rule::from(ids.name(*rule)?)))).collect(),
        }
    }
}
