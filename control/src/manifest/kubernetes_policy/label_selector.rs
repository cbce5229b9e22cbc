//! Kubernetes label selectors to [`Selector`], checked as the API server checks them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::{self, shown};
use crate::selector::Selector;

/// All requirements hold; without one, and where the selector is missing, it selects everything.
pub(super) fn selector(field: &Field<'_>, selector: Option<&LabelSelector>) -> Result<Selector, Invalid> {
    let Some(selector) = selector else { return Ok(Selector::all()) };
    let mut requirements = Vec::new();
    if let Some(labels) = &selector.match_labels {
        validate::labels(&field.key("matchLabels"), labels)?;
        let equal = |(key, value): (&String, &String)| Selector::label_is(key.as_str(), value.as_str());
        requirements.extend(labels.iter().map(equal));
    }
    let list = field.key("matchExpressions");
    for (i, expression) in selector.match_expressions.iter().flatten().enumerate() {
        requirements.push(requirement(&list.index(i), expression)?);
    }
    Ok(Selector::all_of(requirements))
}

fn requirement(field: &Field<'_>, expression: &LabelSelectorRequirement) -> Result<Selector, Invalid> {
    let key = expression.key.as_str();
    validate::label_key(&field.key("key"), key)?;
    let values_field = field.key("values");
    let values = expression.values.clone().unwrap_or_default();
    for (i, value) in values.iter().enumerate() {
        validate::label_value(&values_field.index(i), value)?;
    }
    match (expression.operator.as_str(), values.is_empty()) {
        ("In", false) => Ok(Selector::is_in(key, values)),
        ("NotIn", false) => Ok(Selector::not_in(key, values)),
        ("Exists", true) => Ok(Selector::has(key)),
        ("DoesNotExist", true) => Ok(Selector::has(key).not()),
        ("In" | "NotIn", true) => Err(values_field.invalid("is empty: In and NotIn need values")),
        ("Exists" | "DoesNotExist", false) => {
            Err(values_field.invalid("must be empty beside Exists and DoesNotExist"))
        }
        (other, _) => {
            let why = format!("{} is none of In, NotIn, Exists, DoesNotExist", shown(other));
            Err(field.key("operator").invalid(why))
        }
    }
}
