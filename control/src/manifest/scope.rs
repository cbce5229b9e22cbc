//! What Kubernetes' selectors are limited to, as selectors themselves.

use crate::selector::{NAMESPACE_LABEL, ORCHESTRATOR_KUBERNETES, ORCHESTRATOR_LABEL, Origin, Selector};

/// Every pod, and nothing that is not one.
pub(super) fn pods() -> Selector {
    Selector::label_is(ORCHESTRATOR_LABEL, ORCHESTRATOR_KUBERNETES)
}

pub(super) fn in_namespace(name: &str) -> Selector {
    Selector::label_is(NAMESPACE_LABEL, name)
}

/// What lies in a namespace whose labels `selector` selects.
pub(super) fn in_namespaces(selector: &Selector) -> Selector {
    selector.prefixed(Origin::Namespace.prefix())
}
