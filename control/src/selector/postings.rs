//! Items by each label they have, and each selector filed by a label without which an item cannot match it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use super::expr::{Expr, Term, Test};
use super::{EffectiveLabels, Origin};

#[derive(Clone, Debug)]
pub(super) struct Postings<I, S> {
    /// By [`Origin`].
    keys: [HashMap<Box<str>, Key<I, S>>; 3],
}

#[derive(Clone, Debug)]
struct Key<I, S> {
    values: HashMap<Box<str>, Value<I, S>>,
    /// Items that have the label, with any value.
    items: usize,
    /// Selectors filed by the label with any value.
    selectors: BTreeSet<S>,
}

#[derive(Clone, Debug)]
struct Value<I, S> {
    items: BTreeSet<I>,
    selectors: BTreeSet<S>,
}

/// A label, with one value or (None) any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Anchor<'a> {
    key: &'a str,
    value: Option<&'a str>,
}

impl<I: Copy + Ord, S: Copy + Ord> Postings<I, S> {
    pub(super) fn new() -> Self {
        Self { keys: [HashMap::new(), HashMap::new(), HashMap::new()] }
    }

    pub(super) fn add_item(&mut self, item: I, labels: &EffectiveLabels) {
        for (origin, key, value) in labels.iter() {
            let key = self.keys[origin as usize].entry(key.into()).or_default();
            key.items += 1;
            key.values.entry(value.into()).or_default().items.insert(item);
        }
    }

    pub(super) fn remove_item(&mut self, item: I, labels: &EffectiveLabels) {
        for (origin, key, value) in labels.iter() {
            let Entry::Occupied(mut key) = self.keys[origin as usize].entry(key.into()) else { continue };
            key.get_mut().items -= 1;
            key.get_mut().change_value(value, |value| value.items.remove(&item));
            if key.get().is_empty() {
                key.remove();
            }
        }
    }

    /// Files a selector where few other selectors are and few items look; false if it asks for no label.
    pub(super) fn file(&mut self, selector: S, expr: &Expr) -> bool {
        let load = |anchor| {
            let (items, selectors) = self.at(anchor);
            items.saturating_add(1).saturating_mul(selectors + 1)
        };
        let Some((_, anchors)) = anchors(expr, &load) else { return false };
        for Anchor { key, value } in anchors {
            let (origin, key) = Origin::of(key);
            let key = self.keys[origin as usize].entry(key.into()).or_default();
            match value {
                Some(value) => key.values.entry(value.into()).or_default().selectors.insert(selector),
                None => key.selectors.insert(selector),
            };
        }
        true
    }

    /// Takes a selector out, wherever it was filed.
    pub(super) fn unfile(&mut self, selector: S, expr: &Expr) {
        match expr {
            Expr::AllOf(parts) | Expr::AnyOf(parts) => {
                parts.iter().for_each(|part| self.unfile(selector, part));
            }
            Expr::Term(Term { holds: false, .. }) => {}
            Expr::Term(Term { key, test, holds: true }) => {
                let (origin, key) = Origin::of(key);
                let Entry::Occupied(mut key) = self.keys[origin as usize].entry(key.into()) else { return };
                if let Test::In(values) = test {
                    for value in values {
                        key.get_mut().change_value(value, |value| value.selectors.remove(&selector));
                    }
                } else {
                    key.get_mut().selectors.remove(&selector);
                }
                if key.get().is_empty() {
                    key.remove();
                }
            }
        }
    }

    /// Adds the selectors that are filed by one of the labels. One may come more than once.
    pub(super) fn selectors(&self, labels: &EffectiveLabels, found: &mut Vec<S>) {
        for (origin, key, value) in labels.iter() {
            let Some(key) = self.keys[origin as usize].get(key) else { continue };
            found.extend(&key.selectors);
            found.extend(key.values.get(value).into_iter().flat_map(|value| &value.selectors));
        }
    }

    /// Items among which are all that match: those with the rarest label that the selector asks for. None if it asks
    /// for no label, or for one that `most` items or more have. One may come more than once.
    pub(super) fn items(&self, expr: &Expr, most: usize) -> Option<Vec<I>> {
        let (count, anchors) = anchors(expr, &|anchor| self.at(anchor).0).filter(|found| found.0 < most)?;
        let mut found = Vec::with_capacity(count);
        for Anchor { key, value } in anchors {
            let Some(key) = self.key(key) else { continue };
            match value {
                Some(value) => found.extend(key.values.get(value).into_iter().flat_map(|value| &value.items)),
                None => found.extend(key.values.values().flat_map(|value| &value.items)),
            }
        }
        Some(found)
    }

    fn key(&self, key: &str) -> Option<&Key<I, S>> {
        let (origin, key) = Origin::of(key);
        self.keys[origin as usize].get(key)
    }

    /// How many items have the label, and how many selectors are filed by it.
    fn at(&self, Anchor { key, value }: Anchor<'_>) -> (usize, usize) {
        let Some(key) = self.key(key) else { return (0, 0) };
        match value {
            Some(value) => key.values.get(value).map_or((0, 0), |v| (v.items.len(), v.selectors.len())),
            None => (key.items, key.selectors.len()),
        }
    }
}

/// Labels of which everything that the expression selects has one, chosen for the least sum of `cost`, and that sum.
fn anchors<'a>(expr: &'a Expr, cost: &impl Fn(Anchor<'a>) -> usize) -> Option<(usize, Vec<Anchor<'a>>)> {
    match expr {
        Expr::Term(Term { holds: false, .. }) => None,
        Expr::Term(Term { key, test, holds: true }) => {
            let anchors: Vec<_> = match test {
                Test::In(values) => values.iter().map(|v| Anchor { key, value: Some(v) }).collect(),
                _ => vec![Anchor { key, value: None }],
            };
            Some((anchors.iter().fold(0, |sum, anchor| cost(*anchor).saturating_add(sum)), anchors))
        }
        Expr::AllOf(parts) => {
            parts.iter().filter_map(|part| anchors(part, cost)).min_by_key(|(total, _)| *total)
        }
        Expr::AnyOf(parts) => {
            let mut all = (0_usize, Vec::new());
            for part in parts {
                let (total, part) = anchors(part, cost)?;
                all.0 = all.0.saturating_add(total);
                all.1.extend(part);
            }
            Some(all)
        }
    }
}

impl<I: Ord, S: Ord> Key<I, S> {
    fn is_empty(&self) -> bool {
        self.values.is_empty() && self.selectors.is_empty()
    }

    /// Takes something from a value's lists, and the value with its last.
    fn change_value(&mut self, value: &str, take: impl FnOnce(&mut Value<I, S>) -> bool) {
        let Some(found) = self.values.get_mut(value) else { return };
        take(found);
        if found.items.is_empty() && found.selectors.is_empty() {
            self.values.remove(value);
        }
    }
}

impl<I, S> Default for Key<I, S> {
    fn default() -> Self {
        Self { values: HashMap::new(), items: 0, selectors: BTreeSet::new() }
    }
}

impl<I, S> Default for Value<I, S> {
    fn default() -> Self {
        Self { items: BTreeSet::new(), selectors: BTreeSet::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Inherited, Selector};
    use super::*;
    use crate::state::Labels;

    #[test]
    fn what_is_taken_out_leaves_nothing() {
        let labels = |key: &str| Arc::new(Labels::from([(key.to_owned(), "x".to_owned())]));
        let parent = Arc::new(Inherited { name: "n".into(), labels: Labels::new() });
        let item = EffectiveLabels::pod(labels("a"), parent.clone(), Some(parent));
        let global = EffectiveLabels::network_set(labels("pcns.a"), None);
        let texts =
            ["a == 'x'", "a in {'x', 'y'} && has(b)", "has(b) || pcns.a == 'y' && c contains 'x'", "!has(a)"];
        let selectors = texts.map(|text| Selector::parse(text).unwrap());
        let mut postings = Postings::new();
        for round in 0..2 {
            postings.add_item(1, &item);
            postings.add_item(2, &global);
            let filed = selectors.iter().zip(0..).map(|(selector, id)| postings.file(id, &selector.0));
            assert_eq!(filed.collect::<Vec<_>>(), [true, true, true, false], "{round}");
            for (selector, id) in selectors.iter().zip(0..) {
                postings.unfile(id, &selector.0);
            }
            postings.remove_item(1, &item);
            postings.remove_item(2, &global);
            assert!(postings.keys.iter().all(HashMap::is_empty), "{postings:?}");
        }
    }
}
