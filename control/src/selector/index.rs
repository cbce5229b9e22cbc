//! Which selectors select which items, while both come and go.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

use super::postings::Postings;
use super::{EffectiveLabels, Selector};

/// Items and selectors, by ids that are the caller's.
///
/// Whatever is asked, only those are held against each other that share a label which the selector asks for; a selector
/// that asks for none (`a != "x"`) is held against every item. What matches is not kept: with many wide selectors it
/// would be much larger than both. Lists of ids ascend.
#[derive(Clone, Debug)]
pub struct LabelIndex<I, S> {
    items: HashMap<I, EffectiveLabels>,
    selectors: HashMap<S, Selector>,
    /// Selectors that ask for no label.
    unfiled: BTreeSet<S>,
    postings: Postings<I, S>,
}

impl<I: Copy + Ord + Hash, S: Copy + Ord + Hash> LabelIndex<I, S> {
    pub fn new() -> Self {
        Self {
            items: HashMap::new(),
            selectors: HashMap::new(),
            unfiled: BTreeSet::new(),
            postings: Postings::new(),
        }
    }

    /// Enters an item, in place of one that has the id, and gives the selectors that select it.
    pub fn insert_item(&mut self, item: I, labels: EffectiveLabels) -> Vec<S> {
        self.take_item(item);
        self.postings.add_item(item, &labels);
        let selectors = self.selectors_matching(&labels);
        self.items.insert(item, labels);
        selectors
    }

    /// Takes an item out, and gives the selectors that selected it.
    pub fn remove_item(&mut self, item: &I) -> Vec<S> {
        self.take_item(*item).map_or_else(Vec::new, |labels| self.selectors_matching(&labels))
    }

    /// Enters a selector, in place of one that has the id, and gives the items that it selects.
    pub fn insert_selector(&mut self, id: S, selector: Selector) -> Vec<I> {
        self.take_selector(id);
        if !self.postings.file(id, &selector.0) {
            self.unfiled.insert(id);
        }
        let items = self.items_matching(&selector);
        self.selectors.insert(id, selector);
        items
    }

    /// Takes a selector out, and gives the items that it selected.
    pub fn remove_selector(&mut self, id: &S) -> Vec<I> {
        self.take_selector(*id).map_or_else(Vec::new, |selector| self.items_matching(&selector))
    }

    pub fn labels_of(&self, item: &I) -> Option<&EffectiveLabels> {
        self.items.get(item)
    }

    pub fn items_of(&self, id: &S) -> Vec<I> {
        self.selectors.get(id).map_or_else(Vec::new, |selector| self.items_matching(selector))
    }

    pub fn selectors_of(&self, item: &I) -> Vec<S> {
        self.items.get(item).map_or_else(Vec::new, |labels| self.selectors_matching(labels))
    }

    /// The items that a selector selects, be it entered or not.
    pub fn items_matching(&self, selector: &Selector) -> Vec<I> {
        let found = self.postings.items(&selector.0, self.items.len());
        let mut items = found.unwrap_or_else(|| self.items.keys().copied().collect());
        items.retain(|item| self.items.get(item).is_some_and(|labels| selector.matches(labels)));
        items.sort_unstable();
        items.dedup();
        items
    }

    /// The selectors that select what has the labels, be it entered or not.
    pub fn selectors_matching(&self, labels: &EffectiveLabels) -> Vec<S> {
        let mut selectors: Vec<S> = self.unfiled.iter().copied().collect();
        self.postings.selectors(labels, &mut selectors);
        selectors.retain(|id| self.selectors.get(id).is_some_and(|selector| selector.matches(labels)));
        selectors.sort_unstable();
        selectors.dedup();
        selectors
    }

    fn take_item(&mut self, item: I) -> Option<EffectiveLabels> {
        let labels = self.items.remove(&item)?;
        self.postings.remove_item(item, &labels);
        Some(labels)
    }

    fn take_selector(&mut self, id: S) -> Option<Selector> {
        let selector = self.selectors.remove(&id)?;
        self.unfiled.remove(&id);
        self.postings.unfile(id, &selector.0);
        Some(selector)
    }
}

impl<I: Copy + Ord + Hash, S: Copy + Ord + Hash> Default for LabelIndex<I, S> {
    fn default() -> Self {
        Self::new()
    }
}
