//! Field selectors: `path=value` and `path!=value`, joined by commas.

use serde_json::Value;

/// A selector that was parsed; the empty one selects everything.
#[derive(Clone, Debug, Default)]
pub(super) struct FieldSelector(Vec<Term>);

#[derive(Clone, Debug)]
struct Term {
    pointer: String,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// `None` where a term is neither form.
    pub(super) fn parse(text: &str) -> Option<Self> {
        text.split(',').filter(|term| !term.is_empty()).map(Term::parse).collect::<Option<_>>().map(Self)
    }

    pub(super) fn selects(&self, object: &Value) -> bool {
        self.0.iter().all(|term| {
            let value = object.pointer(&term.pointer).and_then(Value::as_str).unwrap_or_default();
            (value == term.value) == term.equal
        })
    }
}

impl Term {
    fn parse(text: &str) -> Option<Self> {
        let (path, value) = text.split_once('=')?;
        let (path, equal) = match path.strip_suffix('!') {
            Some(path) => (path, false),
            None => (path, true),
        };
        let pointer = format!("/{}", path.replace('.', "/"));
        Some(Self { pointer, value: value.trim_start_matches('=').to_owned(), equal })
    }
}
