//! NetworkPolicy, GlobalNetworkPolicy, and the staged forms of these and of Kubernetes' NetworkPolicy.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Resource;
use super::rule::{self, RuleSpec, rules};
use super::selector::selector;
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::shown;
use crate::manifest::{kubernetes_policy, scope, validate};
use crate::selector::{Origin, Selector};
use crate::state::policy::{HostUse, Order, Policy, StagedAction};

/// Fields of all of these kinds. One that is not known may be a condition: it is refused, as the API server's strict
/// validation does.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::manifest) struct Spec {
    tier: Option<String>,
    order: Option<f64>,
    selector: Option<String>,
    namespace_selector: Option<String>,
    service_account_selector: Option<String>,
    types: Option<Vec<String>>,
    ingress: Option<Vec<RuleSpec>>,
    egress: Option<Vec<RuleSpec>>,
    apply_on_forward: Option<bool>,
    #[serde(rename = "preDNAT")]
    pre_dnat: Option<bool>,
    do_not_track: Option<bool>,
    staged_action: Option<String>,
    #[expect(dead_code, reason = "it never changes what a policy enforces")]
    performance_hints: Option<Value>,
}

pub(in crate::manifest) fn network_policy(
    object: &Resource<Spec>,
    namespace: &str,
) -> Result<Policy, Invalid> {
    enforced(&object.spec)?;
    policy(&object.spec, Some(namespace), None)
}

pub(in crate::manifest) fn global_network_policy(object: &Resource<Spec>) -> Result<Policy, Invalid> {
    enforced(&object.spec)?;
    policy(&object.spec, None, None)
}

pub(in crate::manifest) fn staged_network_policy(
    object: &Resource<Spec>,
    namespace: &str,
) -> Result<Policy, Invalid> {
    staged(&object.spec, Some(namespace))
}

pub(in crate::manifest) fn staged_global_network_policy(object: &Resource<Spec>) -> Result<Policy, Invalid> {
    staged(&object.spec, None)
}

/// Its spec is Kubernetes' with one more field.
pub(in crate::manifest) fn staged_kubernetes_network_policy(
    object: &Resource<Map<String, Value>>,
    namespace: &str,
) -> Result<Policy, Invalid> {
    let mut spec = object.spec.clone();
    let field = Field::Root.key("spec");
    let action = spec.remove("stagedAction").unwrap_or_default();
    let action: Option<String> = field.key("stagedAction").read(action)?;
    match staged_action(action.as_deref())? {
        StagedAction::Delete => deletion(None),
        action => kubernetes_policy::staged_network_policy(&field.read(spec.into())?, namespace, action),
    }
}

fn enforced(spec: &Spec) -> Result<(), Invalid> {
    if spec.staged_action.is_none() {
        return Ok(());
    }
    let field = Field::Root.key("spec");
    Err(field.key("stagedAction").invalid("is for the staged kinds alone"))
}

fn staged(spec: &Spec, namespace: Option<&str>) -> Result<Policy, Invalid> {
    match staged_action(spec.staged_action.as_deref())? {
        StagedAction::Delete => deletion(spec.tier.as_deref()),
        action => policy(spec, namespace, Some(action)),
    }
}

fn staged_action(text: Option<&str>) -> Result<StagedAction, Invalid> {
    match text {
        None | Some("" | "Set") => Ok(StagedAction::Set),
        Some("Delete") => Ok(StagedAction::Delete),
        Some("Learn") => Ok(StagedAction::Learn),
        Some("Ignore") => Ok(StagedAction::Ignore),
        Some(other) => {
            let field = Field::Root.key("spec");
            let why = format!("{} is none of Set, Delete, Learn, Ignore", shown(other));
            Err(field.key("stagedAction").invalid(why))
        }
    }
}

/// A staged policy that says of the enforced one of its name that it would be gone, and nothing else.
fn deletion(tier: Option<&str>) -> Result<Policy, Invalid> {
    Ok(Policy {
        tier: tier_name(tier)?,
        order: Order::NONE,
        subject: Selector::none(),
        ingress: None,
        egress: None,
        staged: Some(StagedAction::Delete),
        host: HostUse::default(),
    })
}

fn tier_name(tier: Option<&str>) -> Result<String, Invalid> {
    let tier = tier.filter(|tier| !tier.is_empty()).unwrap_or("default");
    validate::name(&Field::Root.key("spec").key("tier"), tier)?;
    Ok(tier.to_owned())
}

fn policy(spec: &Spec, namespace: Option<&str>, staged: Option<StagedAction>) -> Result<Policy, Invalid> {
    let field = Field::Root.key("spec");
    let host = host_use(&field, spec, namespace)?;
    let (isolates_ingress, isolates_egress) = types(&field, spec)?;
    if host.pre_dnat && isolates_egress {
        let why = "is for what comes in: the policy may have no egress rules, and no type Egress";
        return Err(field.key("preDNAT").invalid(why));
    }
    let list = |key, list: &Option<Vec<RuleSpec>>, services| {
        rules(&field.key(key), list.as_deref().unwrap_or_default(), namespace, services)
    };
    let ingress = list("ingress", &spec.ingress, rule::INGRESS)?;
    let egress = list("egress", &spec.egress, rule::EGRESS)?;
    Ok(Policy {
        tier: tier_name(spec.tier.as_deref())?,
        order: spec.order.map_or(Order::NONE, Order::new),
        subject: subject(&field, spec, namespace)?,
        ingress: isolates_ingress.then_some(ingress),
        egress: isolates_egress.then_some(egress),
        staged,
        host,
    })
}

/// Directions that the policy is for (ingress, egress). Without `types` each direction that has rules; ingress where none
/// has.
fn types(field: &Field<'_>, spec: &Spec) -> Result<(bool, bool), Invalid> {
    let field = field.key("types");
    let types = spec.types.as_deref().unwrap_or_default();
    if types.is_empty() {
        let has_rules = |list: &Option<Vec<RuleSpec>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let egress = has_rules(&spec.egress);
        return Ok((has_rules(&spec.ingress) || !egress, egress));
    }
    let is = |direction: &'static str| move |text: &String| text.eq_ignore_ascii_case(direction);
    let (is_ingress, is_egress) = (is("Ingress"), is("Egress"));
    for (i, text) in types.iter().enumerate() {
        if !is_ingress(text) && !is_egress(text) {
            return Err(field.index(i).invalid(format!("{} is neither Ingress nor Egress", shown(text))));
        }
    }
    Ok((types.iter().any(is_ingress), types.iter().any(is_egress)))
}

fn subject(field: &Field<'_>, spec: &Spec, namespace: Option<&str>) -> Result<Selector, Invalid> {
    let part = |key, origin, text: &Option<String>| selector(&field.key(key), origin, text.as_deref());
    let parts = [
        part("selector", Origin::Own, &spec.selector)?,
        part("namespaceSelector", Origin::Namespace, &spec.namespace_selector)?,
        part("serviceAccountSelector", Origin::ServiceAccount, &spec.service_account_selector)?,
        namespace.map(scope::in_namespace),
    ];
    Ok(Selector::all_of(parts.into_iter().flatten()))
}

fn host_use(field: &Field<'_>, spec: &Spec, namespace: Option<&str>) -> Result<HostUse, Invalid> {
    let global_alone = [
        ("namespaceSelector", spec.namespace_selector.is_some()),
        ("applyOnForward", spec.apply_on_forward == Some(true)),
        ("preDNAT", spec.pre_dnat == Some(true)),
        ("doNotTrack", spec.do_not_track == Some(true)),
    ];
    if let (Some(_), Some((key, _))) = (namespace, global_alone.iter().find(|(_, given)| *given)) {
        return Err(field.key(key).invalid("is for policies without a namespace"));
    }
    let host = HostUse {
        // Either of the others means forwarded traffic too, and only who says so outright is refused.
        apply_on_forward: spec.apply_on_forward.unwrap_or(false)
            || spec.pre_dnat == Some(true)
            || spec.do_not_track == Some(true),
        pre_dnat: spec.pre_dnat.unwrap_or(false),
        do_not_track: spec.do_not_track.unwrap_or(false),
    };
    if host.pre_dnat && host.do_not_track {
        return Err(field.key("preDNAT").invalid("stands beside doNotTrack: only one of them can be true"));
    }
    if host.apply_on_forward && spec.apply_on_forward == Some(false) {
        return Err(field.key("applyOnForward").invalid("must be true beside preDNAT or doNotTrack"));
    }
    Ok(host)
}
