//! Calico's objects, as `projectcalico.org/v3` and `crd.projectcalico.org/v1` write them.

mod entity;
mod felix;
mod host_endpoint;
mod ipam;
mod network_set;
mod policy;
mod rule;
mod selector;
mod tier;
mod value;

pub(super) use felix::felix_configuration;
pub(super) use host_endpoint::host_endpoint;
pub(super) use ipam::{block_affinity, ip_pool, ipam_block};
pub(super) use network_set::network_set;
pub(super) use policy::{
    global_network_policy, network_policy, staged_global_network_policy, staged_kubernetes_network_policy,
    staged_network_policy,
};
pub(super) use tier::tier;

use std::collections::BTreeMap;

use serde::Deserialize;

use super::problem::{Field, Invalid};
use super::validate;
use crate::state::Labels;

#[derive(Debug, Deserialize)]
pub(super) struct Resource<Spec> {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Default, Deserialize)]
struct Metadata {
    name: Option<String>,
    labels: Option<Labels>,
    annotations: Option<BTreeMap<String, String>>,
}

/// Where the `crd.projectcalico.org/v1` form of an object keeps the metadata of its `projectcalico.org/v3` form.
pub(super) const METADATA_ANNOTATION: &str = "projectcalico.org/metadata";

impl Metadata {
    /// With those of the other form.
    fn labels(self) -> Result<Labels, Invalid> {
        let metadata = Field::Root.key("metadata");
        let annotation =
            self.annotations.as_ref().and_then(|annotations| annotations.get(METADATA_ANNOTATION));
        let mut labels = self.labels.unwrap_or_default();
        if let Some(text) = annotation {
            labels.extend(Self::of_annotation(text)?.labels.unwrap_or_default());
        }
        validate::labels(&metadata.key("labels"), &labels)?;
        Ok(labels)
    }

    fn of_annotation(text: &str) -> Result<Self, Invalid> {
        let field = Field::Root.key("metadata");
        let field = field.key("annotations");
        let field = field.key(METADATA_ANNOTATION);
        let not_json = |error: serde_json::Error| field.invalid(format!("is no JSON: {error}"));
        field.read(serde_json::from_str(text).map_err(not_json)?)
    }
}

/// The name of a policy in its `projectcalico.org/v3` form, which is what `annotation` says, if there is one. Versions
/// that wrote none put the tier's name before that of a policy in the tier `default`, in `crd.projectcalico.org/v1` alone.
pub(super) fn policy_name(
    name: &str,
    api_version: Option<&str>,
    annotation: Option<&str>,
    tier: Option<&str>,
) -> Result<String, Invalid> {
    let annotated = annotation.map(Metadata::of_annotation).transpose()?.and_then(|metadata| metadata.name);
    let is_stored_form = api_version.is_some_and(|version| version.starts_with("crd.projectcalico.org/"));
    let name = match (annotated.as_deref(), tier) {
        (Some(annotated), _) if !annotated.is_empty() => annotated,
        (_, None | Some("" | "default")) if is_stored_form => name.strip_prefix("default.").unwrap_or(name),
        _ => name,
    };
    validate::name(&Field::Root.key("metadata").key("name"), name)?;
    Ok(name.to_owned())
}
