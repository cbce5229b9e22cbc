//! NetworkSet and GlobalNetworkSet: addresses with labels.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Resource, value};
use crate::manifest::problem::{Field, Invalid};
use crate::selector::NAMESPACE_LABEL;
use crate::state::policy::NetworkSet;

#[derive(Debug, Deserialize)]
pub(in crate::manifest) struct Spec {
    nets: Option<Vec<String>>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The set, and what of it is not in force: members that are not written as addresses (domain names, in other products).
pub(in crate::manifest) fn network_set(
    object: Resource<Spec>,
) -> Result<(NetworkSet, Vec<Invalid>), Invalid> {
    let labels = object.metadata.labels()?;
    if labels.contains_key(NAMESPACE_LABEL) {
        let metadata = Field::Root.key("metadata");
        let why = "is given by the set's namespace, and by nothing else";
        return Err(metadata.key("labels").key(NAMESPACE_LABEL).invalid(why));
    }
    let field = Field::Root.key("spec");
    let nets = value::nets(&field.key("nets"), object.spec.nets.as_deref())?;
    let unknown = |key: &String| field.key(key).invalid("is not known here: what it names is not in the set");
    Ok((NetworkSet { labels, nets }, object.spec.others.keys().map(unknown).collect()))
}
