//! An object as the API server wrote it, less what nobody reads.

use serde_json::Value;

use super::kinds::Watched;
use super::projection::Keep;
use crate::state::Name;

/// An object of a kind that is known from where it came.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiObject {
    /// As the API server calls it; empty where it says nothing of the kind.
    pub(super) name: Name,
    /// Tells it from others of that name, before and after it.
    pub(super) uid: String,
    pub(super) value: Value,
    /// Why nothing but its name could be read.
    pub(super) flaw: Option<String>,
}

const NAME: Keep = Keep::Fields(&[(
    "metadata",
    Keep::Fields(&[
        ("name", Keep::All),
        ("namespace", Keep::All),
        ("uid", Keep::All),
        ("resourceVersion", Keep::All),
    ]),
)]);

impl ApiObject {
    /// Reads the JSON of an object of the kind. One that is JSON and cannot be read all the same, being too deep, is one
    /// with a flaw: it must not keep the others of its kind from being read.
    pub fn read(watched: &Watched, json: &[u8]) -> Result<Self, serde_json::Error> {
        let (value, flaw) = match watched.keep.read(json) {
            Ok(value) => (value, None),
            Err(error) => (NAME.read(json)?, Some(error.to_string())),
        };
        let text = |key| text(&value, &["metadata", key]).unwrap_or_default().to_owned();
        let name = Name::new(text("namespace"), text("name"));
        Ok(Self { name, uid: text("uid"), value, flaw })
    }

    pub(super) fn text(&self, path: &[&str]) -> Option<&str> {
        text(&self.value, path)
    }

    /// Where in the history of its kind it stands.
    pub(super) fn resource_version(&self) -> Option<&str> {
        self.text(&["metadata", "resourceVersion"]).filter(|version| !version.is_empty())
    }
}

/// The string at a path, if there is one.
pub(super) fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter().try_fold(value, |value, key| value.get(key))?.as_str()
}
