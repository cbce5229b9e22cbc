//! Tier.

use serde::Deserialize;

use super::Resource;
use crate::manifest::problem::{Field, Invalid};
use crate::manifest::validate::shown;
use crate::state::policy::{Order, TierAction, TierSpec};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::manifest) struct Spec {
    order: Option<f64>,
    default_action: Option<String>,
}

/// The tiers that are always there have their order and their action by nature; an object may say the same, or nothing.
pub(in crate::manifest) fn tier(object: &Resource<Spec>, name: &str) -> Result<TierSpec, Invalid> {
    if name.contains('.') {
        let why = format!("{} has a dot, which ends a tier's name in a policy's", shown(name));
        return Err(Field::Root.key("metadata").key("name").invalid(why));
    }
    let field = Field::Root.key("spec");
    let action = match object.spec.default_action.as_deref() {
        None => None,
        Some("Deny") => Some(TierAction::Deny),
        Some("Pass") => Some(TierAction::Pass),
        Some(other) => {
            let why = format!("{} is neither Deny nor Pass", shown(other));
            return Err(field.key("defaultAction").invalid(why));
        }
    };
    let order = object.spec.order.map(Order::new);
    let Some(implied) = TierSpec::implied(name) else {
        let default_action = action.unwrap_or(TierAction::Deny);
        return Ok(TierSpec { order: order.unwrap_or(Order::NONE), default_action });
    };
    if order.is_some_and(|order| order != implied.order) {
        let why = format!("must be {} for the tier {name}", implied.order);
        return Err(field.key("order").invalid(why));
    }
    if action.is_some_and(|action| action != implied.default_action) {
        let why = format!("must be {} for the tier {name}", implied.default_action);
        return Err(field.key("defaultAction").invalid(why));
    }
    Ok(implied)
}
