//! Selectors in Calico's grammar.

use crate::manifest::problem::{Field, Invalid};
use crate::selector::{Origin, Selector};

/// A selector over labels from `origin`; `None` where there is none, which an empty text means too.
pub(super) fn selector(
    field: &Field<'_>,
    origin: Origin,
    text: Option<&str>,
) -> Result<Option<Selector>, Invalid> {
    if text.is_some_and(|text| text.contains("global(")) {
        return Err(field.invalid("global() stands alone in the namespaceSelector of a rule, or nowhere"));
    }
    parse(field, origin, text)
}

/// The `namespaceSelector` of a rule. There, and there alone, it may be `global()`: what lies in no namespace.
pub(super) fn peer_namespaces(field: &Field<'_>, text: Option<&str>) -> Result<Option<Selector>, Invalid> {
    let is_global = |text: &str| text.split_whitespace().collect::<String>() == "global()";
    if text.is_some_and(is_global) {
        return parse(field, Origin::Namespace, text);
    }
    selector(field, Origin::Namespace, text)
}

fn parse(field: &Field<'_>, origin: Origin, text: Option<&str>) -> Result<Option<Selector>, Invalid> {
    let text = text.filter(|text| !text.trim().is_empty());
    let parsed = text.map(|text| Selector::parse_for(origin, text)).transpose();
    parsed.map_err(|error| field.invalid(error.to_string()))
}
