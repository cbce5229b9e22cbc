//! Objects of which exactly one field is set, where a field that is not known must not go unseen.
//!
//! The admin policies' API says that a peer without a known field is one of a newer API, and that its rule then fails
//! closed: ignoring the field would turn a peer into everyone.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::manifest::problem::{Field, Invalid};

#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct OneOf(Map<String, Value>);

/// Why a rule is not in force as written.
#[derive(Debug)]
pub(super) enum Fault {
    /// The API server would refuse the object.
    Refused(Invalid),
    /// The object stands, and the rule fails closed.
    FailsClosed(Invalid),
}

impl From<Invalid> for Fault {
    fn from(invalid: Invalid) -> Self {
        Self::Refused(invalid)
    }
}

impl From<Fault> for Invalid {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused(invalid) | Fault::FailsClosed(invalid) => invalid,
        }
    }
}

impl OneOf {
    /// The field that is set, one of `known`, and its value.
    pub(super) fn only<'k>(&self, field: &Field<'_>, known: &[&'k str]) -> Result<(&'k str, &Value), Fault> {
        no_others(field, &self.0, known)?;
        let mut set = known.iter().filter_map(|key| Some((*key, self.0.get(*key).filter(|v| !v.is_null())?)));
        match (set.next(), set.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => {
                let why = format!("has no field that is known here: it needs one of {}", known.join(", "));
                Err(Fault::FailsClosed(field.invalid(why)))
            }
            (Some((first, _)), Some((second, _))) => {
                let why = format!("has {first} and {second}: make two of it");
                Err(Fault::Refused(field.invalid(why)))
            }
        }
    }
}

/// Whether the object has no field but those that are known.
pub(super) fn no_others(field: &Field<'_>, object: &Map<String, Value>, known: &[&str]) -> Result<(), Fault> {
    let is_unknown = |(key, value): &(&String, &Value)| !value.is_null() && !known.contains(&key.as_str());
    match object.iter().find(is_unknown) {
        Some((key, _)) => {
            Err(Fault::FailsClosed(field.key(key).invalid("is a field that is not known here")))
        }
        None => Ok(()),
    }
}
