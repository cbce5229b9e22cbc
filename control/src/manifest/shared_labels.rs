//! Equal labels kept once: a Deployment's pods have the same, and in a large cluster labels are most of what pods weigh.

use std::collections::HashSet;
use std::sync::Arc;

use crate::state::Labels;

#[derive(Debug, Default)]
pub(crate) struct SharedLabels(HashSet<Arc<Labels>>);

impl SharedLabels {
    /// Makes `labels` the shared ones that are equal, or shares it from now on.
    pub(crate) fn share(&mut self, labels: &mut Arc<Labels>) {
        match self.0.get(labels) {
            Some(shared) => *labels = Arc::clone(shared),
            None => drop(self.0.insert(Arc::clone(labels))),
        }
    }

    /// Lets go of those that nobody has any more.
    pub(crate) fn forget_unused(&mut self) {
        self.0.retain(|labels| Arc::strong_count(labels) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_labels_are_one_allocation_while_somebody_has_them() {
        let labels = |value: &str| Arc::new(Labels::from([("app".to_owned(), value.to_owned())]));
        let mut shared = SharedLabels::default();
        let [mut a, mut b, mut other] = [labels("a"), labels("a"), labels("b")];
        for labels in [&mut a, &mut b, &mut other] {
            shared.share(labels);
        }
        assert!(Arc::ptr_eq(&a, &b) && !Arc::ptr_eq(&a, &other));
        drop(other);
        shared.forget_unused();
        assert_eq!(shared.0, HashSet::from([a]));
    }
}
