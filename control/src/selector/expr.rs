//! The canonical expression of a selector: what it is made of, how it is kept canonical, asked and printed.
//!
//! Negation stands at the terms alone. Lists hold two parts or more, sorted and unique, none of them a list of the same
//! kind or a constant; a constant is an empty list. The value sets of one key are one term.

use std::collections::BTreeMap;
use std::fmt;

use super::LabelSource;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Expr {
    Term(Term),
    /// Empty: holds always.
    AllOf(Box<[Expr]>),
    /// Empty: never holds.
    AnyOf(Box<[Expr]>),
}

/// `test` of a label, or with `holds` unset its opposite. A missing label passes no test.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Term {
    pub(super) key: Box<str>,
    pub(super) test: Test,
    pub(super) holds: bool,
}

pub(super) type Values = Box<[Box<str>]>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Test {
    Present,
    /// Sorted and unique, at least one.
    In(Values),
    Contains(Box<str>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
}

impl Expr {
    pub(super) fn constant(holds: bool) -> Self {
        if holds { Self::AllOf([].into()) } else { Self::AnyOf([].into()) }
    }

    fn is_constant(&self, holds: bool) -> bool {
        match self {
            Self::Term(_) => false,
            Self::AllOf(parts) => holds && parts.is_empty(),
            Self::AnyOf(parts) => !holds && parts.is_empty(),
        }
    }

    /// The label has one of the values, or with `holds` unset none of them.
    pub(super) fn values(key: Box<str>, mut values: Vec<Box<str>>, holds: bool) -> Self {
        if values.is_empty() {
            return Self::constant(!holds);
        }
        values.sort_unstable();
        values.dedup();
        Self::Term(Term { key, test: Test::In(values.into()), holds })
    }

    /// A test for a piece of the value. The empty piece is in every value.
    pub(super) fn piece(key: Box<str>, piece: Box<str>, test: fn(Box<str>) -> Test, holds: bool) -> Self {
        let test = if piece.is_empty() { Test::Present } else { test(piece) };
        Self::Term(Term { key, test, holds })
    }

    /// All of the parts, or any of them.
    pub(super) fn join(parts: Vec<Self>, all: bool) -> Self {
        let mut flat = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Self::AllOf(inner) if all => flat.extend(inner),
                Self::AnyOf(inner) if !all => flat.extend(inner),
                other => flat.push(other),
            }
        }
        let mut flat = merge_values(flat, all);
        if flat.iter().any(|part| part.is_constant(!all)) {
            return Self::constant(!all);
        }
        flat.sort_unstable();
        flat.dedup();
        match flat.len() {
            1 => flat.remove(0),
            _ if all => Self::AllOf(flat.into()),
            _ => Self::AnyOf(flat.into()),
        }
    }

    pub(super) fn negated(self) -> Self {
        let each = |parts: Box<[Self]>| parts.into_iter().map(Self::negated).collect();
        match self {
            Self::Term(term) => Self::Term(Term { holds: !term.holds, ..term }),
            Self::AllOf(parts) => Self::join(each(parts), false),
            Self::AnyOf(parts) => Self::join(each(parts), true),
        }
    }

    pub(super) fn prefixed(&self, prefix: &str) -> Self {
        // One prefix before every key leaves their order as it is.
        let each = |parts: &[Self]| parts.iter().map(|part| part.prefixed(prefix)).collect();
        match self {
            Self::Term(term) => {
                let key = format!("{prefix}{}", term.key).into();
                Self::Term(Term { key, test: term.test.clone(), holds: term.holds })
            }
            Self::AllOf(parts) => Self::AllOf(each(parts)),
            Self::AnyOf(parts) => Self::AnyOf(each(parts)),
        }
    }

    pub(super) fn matches(&self, labels: &impl LabelSource) -> bool {
        match self {
            Self::Term(term) => term.matches(labels),
            Self::AllOf(parts) => parts.iter().all(|part| part.matches(labels)),
            Self::AnyOf(parts) => parts.iter().any(|part| part.matches(labels)),
        }
    }
}

/// Makes one term of the value sets of each key that are asked in the same sense.
fn merge_values(parts: Vec<Expr>, all: bool) -> Vec<Expr> {
    let mut sets: BTreeMap<(Box<str>, bool), Vec<Values>> = BTreeMap::new();
    let mut merged = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Expr::Term(Term { key, test: Test::In(values), holds }) => {
                sets.entry((key, holds)).or_default().push(values);
            }
            other => merged.push(other),
        }
    }
    for ((key, holds), sets) in sets {
        // Any of several sets, or none of all of them: their union.
        let values = if all == holds { intersection(sets) } else { sets.into_iter().flatten().collect() };
        merged.push(Expr::values(key, values, holds));
    }
    merged
}

fn intersection(mut sets: Vec<Values>) -> Vec<Box<str>> {
    let mut common = sets.pop().map(Vec::from).unwrap_or_default();
    for set in sets {
        common.retain(|value| set.binary_search(value).is_ok());
    }
    common
}

impl Term {
    fn matches(&self, labels: &impl LabelSource) -> bool {
        let passes = |value: &str| match &self.test {
            Test::Present => true,
            Test::In(values) => values.binary_search_by(|candidate| (**candidate).cmp(value)).is_ok(),
            Test::Contains(piece) => value.contains(&**piece),
            Test::StartsWith(piece) => value.starts_with(&**piece),
            Test::EndsWith(piece) => value.ends_with(&**piece),
        };
        labels.label(&self.key).is_some_and(passes) == self.holds
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Term(term) => term.fmt(f),
            Self::AllOf(parts) if parts.is_empty() => f.write_str("all()"),
            Self::AnyOf(parts) if parts.is_empty() => f.write_str("!all()"),
            Self::AllOf(parts) => list(f, parts, " && "),
            Self::AnyOf(parts) => list(f, parts, " || "),
        }
    }
}

fn list(f: &mut fmt::Formatter<'_>, parts: &[Expr], operator: &str) -> fmt::Result {
    for (i, part) in parts.iter().enumerate() {
        if i > 0 {
            f.write_str(operator)?;
        }
        match part {
            // `&&` binds closer.
            Expr::AnyOf(_) => write!(f, "({part})")?,
            _ => fmt::Display::fmt(part, f)?,
        }
    }
    Ok(())
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, test, holds } = self;
        let not = if *holds { "" } else { "!" };
        match test {
            Test::Present => write!(f, "{not}has({key})"),
            Test::In(values) if values.len() == 1 => {
                write!(f, "{key} {} {}", if *holds { "==" } else { "!=" }, Quoted(&values[0]))
            }
            Test::In(values) => {
                write!(f, "{key} {} {{{}", if *holds { "in" } else { "not in" }, Quoted(&values[0]))?;
                values[1..].iter().try_for_each(|value| write!(f, ", {}", Quoted(value)))?;
                f.write_str("}")
            }
            Test::Contains(piece) => write!(f, "{not}{key} contains {}", Quoted(piece)),
            Test::StartsWith(piece) => write!(f, "{not}{key} starts with {}", Quoted(piece)),
            Test::EndsWith(piece) => write!(f, "{not}{key} ends with {}", Quoted(piece)),
        }
    }
}

/// A string of the grammar, which has no escapes.
struct Quoted<'a>(&'a str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quote = if self.0.contains('"') { '\'' } else { '"' };
        write!(f, "{quote}{}{quote}", self.0)
    }
}
