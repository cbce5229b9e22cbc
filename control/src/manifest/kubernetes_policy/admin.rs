//! The cluster's policies of `policy.networking.k8s.io`: ClusterNetworkPolicy (v1alpha2), and AdminNetworkPolicy and
//! BaselineAdminNetworkPolicy (v1alpha1), which came before it. They differ in tier, in order and in a word or two.

use serde::Deserialize;

use super::Direction;
use super::admin_rule::{
    ACCEPT_DENY_PASS, ALLOW_DENY, ALLOW_DENY_PASS, Actions, RuleSpec, rule, selected_pods,
};
use super::one_of::OneOf;
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::shown;
use crate::state::policy::{HostUse, Order, Policy, Rule};

/// The policy, and what of it is not in force as written.
pub(in crate::manifest) type InPart = (Policy, Vec<Invalid>);

#[derive(Debug, Deserialize)]
pub(in crate::manifest) struct Resource {
    spec: Spec,
}

#[derive(Debug, Deserialize)]
struct Spec {
    tier: Option<String>,
    priority: Option<i64>,
    subject: OneOf,
    ingress: Option<Vec<RuleSpec>>,
    egress: Option<Vec<RuleSpec>>,
}

pub(in crate::manifest) fn cluster_network_policy(object: &Resource) -> Result<InPart, Invalid> {
    let spec = &object.spec;
    let field = Field::Root.key("spec");
    let tier = match spec.tier.as_deref() {
        Some("Admin") => "kube-admin",
        Some("Baseline") => "kube-baseline",
        other => {
            let why = format!("{} is neither Admin nor Baseline", shown(other.unwrap_or_default()));
            return Err(field.key("tier").invalid(why));
        }
    };
    policy(spec, tier, priority(&field, spec)?, ACCEPT_DENY_PASS)
}

pub(in crate::manifest) fn admin_network_policy(object: &Resource) -> Result<InPart, Invalid> {
    let order = priority(&Field::Root.key("spec"), &object.spec)?;
    policy(&object.spec, "adminnetworkpolicy", order, ALLOW_DENY_PASS)
}

/// There is one at most, called `default`.
pub(in crate::manifest) fn baseline_admin_network_policy(
    object: &Resource,
    name: &str,
) -> Result<InPart, Invalid> {
    if name != "default" {
        let field = Field::Root.key("metadata");
        return Err(field.key("name").invalid(format!("{} must be \"default\"", shown(name))));
    }
    policy(&object.spec, "baselineadminnetworkpolicy", Order::NONE, ALLOW_DENY)
}

fn priority(field: &Field<'_>, spec: &Spec) -> Result<Order, Invalid> {
    let field = field.key("priority");
    match spec.priority.map(u16::try_from) {
        Some(Ok(priority @ 0..=1000)) => Ok(Order::new(priority.into())),
        Some(_) => Err(field.invalid("is not a priority (0 to 1000)")),
        None => Err(field.invalid("is required")),
    }
}

fn policy(spec: &Spec, tier: &str, order: Order, actions: Actions) -> Result<InPart, Invalid> {
    let field = Field::Root.key("spec");
    let subject = field.key("subject");
    let (key, value) = spec.subject.only(&subject, &["namespaces", "pods"])?;
    let subject = selected_pods(&subject, key, value)?;
    let mut problems = Vec::new();
    let mut list = |direction: Direction, written: Option<&[RuleSpec]>| {
        let Some(written) = written.filter(|written| !written.is_empty()) else { return Ok(None) };
        let list = field.key(direction.list_key());
        let mut rules: Vec<Rule> = Vec::new();
        for (i, written) in written.iter().enumerate() {
            rules.extend(rule(&list.index(i), (i, written), direction, actions, &mut problems)?);
        }
        Ok::<_, Invalid>(Some(rules))
    };
    let ingress = list(Direction::Ingress, spec.ingress.as_deref())?;
    let egress = list(Direction::Egress, spec.egress.as_deref())?;
    let (tier, host) = (tier.to_owned(), HostUse::default());
    Ok((Policy { tier, order, subject, ingress, egress, staged: None, host }, problems))
}
