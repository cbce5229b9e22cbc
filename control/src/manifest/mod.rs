//! Manifests: objects as `kubectl get -o yaml` (or `-o json`) prints them, to the objects of [`Cluster`].
//!
//! An external format ends here. Whatever leaves this module has been checked as the API server would check it; what
//! is wrong is a [`Problem`] that names file, line, object and field, and takes nothing else down with it.
//!
//! [`Cluster`]: crate::state::Cluster

mod calico;
mod directory;
mod kubernetes_policy;
mod node;
mod object;
mod parse;
mod pod;
mod problem;
mod read;
mod scope;
mod service;
mod shared_labels;
mod validate;
pub(crate) mod yaml;

pub use directory::{Directory, Unlistable, load_dir};
pub(crate) use node::NAMESPACE_NAME_LABEL;
pub(crate) use object::Object;
pub use object::{Id, Kind};
pub(crate) use pod::CNI_PREFIX;
pub use problem::{FieldPath, Invalid, Place, Problem, Reason, Reference, Step};
pub(crate) use read::{identify, is_tiered, read};
pub(crate) use shared_labels::SharedLabels;
