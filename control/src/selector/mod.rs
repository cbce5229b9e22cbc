//! Selectors: the one form that Kubernetes' and Calico's share, Calico's grammar as a canonical expression.
//!
//! `expr.rs` holds the expression, `parse.rs` the grammar, `labels.rs` the labels that an item is selected by, `index.rs`
//! which selectors select which items (`postings.rs`: where it looks for them).

mod expr;
mod index;
mod labels;
mod parse;
mod postings;

use std::fmt;
use std::sync::Arc;

use expr::{Expr, Term, Test};

pub use index::LabelIndex;
pub use labels::{
    EffectiveLabels, Inherited, LabelSource, NAME_LABEL, NAMESPACE_LABEL, ORCHESTRATOR_KUBERNETES,
    ORCHESTRATOR_LABEL, Origin, SERVICE_ACCOUNT_LABEL,
};
pub use parse::SelectorError;

/// What selects items by their labels. Cheap to clone.
///
/// Spellings of one selector that differ in order, repetition, parentheses, negation or the operator (`a == "x"` is
/// `a in {"x"}`) are equal. It prints as text that parses to itself, if its keys and values are such that the grammar
/// can write them: no key is longer than 512, no value has both kinds of quotes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector(Arc<Expr>);

impl Selector {
    /// A selector over an item's labels. Empty text selects everything.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        Self::parse_for(Origin::Own, text)
    }

    /// A selector over the labels that items have from `origin`: a rule's `namespaceSelector` with
    /// [`Origin::Namespace`]. There `all()` selects what is in any namespace and `global()` what is in none.
    pub fn parse_for(origin: Origin, text: &str) -> Result<Self, SelectorError> {
        parse::parse(origin, text).map(Self::new)
    }

    /// Selects everything.
    pub fn all() -> Self {
        Self::new(Expr::constant(true))
    }

    /// Selects nothing.
    pub fn none() -> Self {
        Self::new(Expr::constant(false))
    }

    /// Items that have the label. Its negation is Kubernetes' `DoesNotExist`.
    pub fn has(key: impl Into<Box<str>>) -> Self {
        Self::new(Expr::Term(Term { key: key.into(), test: Test::Present, holds: true }))
    }

    pub fn label_is(key: impl Into<Box<str>>, value: impl Into<Box<str>>) -> Self {
        Self::is_in(key, [value])
    }

    /// Items whose label has one of the values.
    pub fn is_in(key: impl Into<Box<str>>, values: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        Self::new(Expr::values(key.into(), values.into_iter().map(Into::into).collect(), true))
    }

    /// Items whose label has none of the values, or that do not have the label.
    pub fn not_in(key: impl Into<Box<str>>, values: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        Self::new(Expr::values(key.into(), values.into_iter().map(Into::into).collect(), false))
    }

    /// Items that all of the selectors select.
    pub fn all_of(selectors: impl IntoIterator<Item = Self>) -> Self {
        Self::new(Expr::join(selectors.into_iter().map(Self::into_expr).collect(), true))
    }

    /// Items that any of the selectors selects.
    pub fn any_of(selectors: impl IntoIterator<Item = Self>) -> Self {
        Self::new(Expr::join(selectors.into_iter().map(Self::into_expr).collect(), false))
    }

    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::all_of([self, other])
    }

    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self::any_of([self, other])
    }

    /// Selects what this one does not.
    #[must_use]
    #[expect(
        clippy::should_implement_trait,
        reason = "it stands beside `and` and `or`, which no operator spells"
    )]
    pub fn not(self) -> Self {
        Self::new(self.into_expr().negated())
    }

    /// The same of other labels: every key gets the prefix.
    #[must_use]
    pub fn prefixed(&self, prefix: &str) -> Self {
        Self::new(self.0.prefixed(prefix))
    }

    pub fn matches(&self, labels: &impl LabelSource) -> bool {
        self.0.matches(labels)
    }

    fn new(expr: Expr) -> Self {
        Self(Arc::new(expr))
    }

    fn into_expr(self) -> Expr {
        Arc::unwrap_or_clone(self.0)
    }
}

impl Default for Selector {
    fn default() -> Self {
        Self::all()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({self})")
    }
}
