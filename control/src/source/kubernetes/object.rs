//! An object as the API server wrote it, less what nobody reads.

use serde_json::Value;

use super::kinds::Watched;
use crate::state::Name;

/// An object of a kind that is known from where it came.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiObject {
    /// As the API server calls it; empty where it says nothing of the kind.
    pub(super) name: Name,
    /// Tells it from others of that name, before and after it.
    pub(super) uid: String,
    pub(super) value: Value,
}

impl ApiObject {
    /// Reads the JSON of an object of the kind.
    pub fn read(watched: &Watched, json: &[u8]) -> Result<Self, serde_json::Error> {
        let value = watched.keep.read(json)?;
        let text = |key| text(&value, &["metadata", key]).unwrap_or_default().to_owned();
        let name = Name::new(text("namespace"), text("name"));
        Ok(Self { name, uid: text("uid"), value })
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
