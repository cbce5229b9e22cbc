//! What a request asks for: its path and query read.

use hyper::Uri;

use super::fault::Asked;
use super::selector::FieldSelector;
use super::world::{Key, Scope};
use crate::kube::resource::Resource;

/// A request as the stub remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: Vec<(String, String)>,
}

/// What it is about.
#[derive(Debug)]
pub(super) enum Target {
    /// Groups, versions and resources, by the path's segments.
    Discovery(Vec<String>),
    Collection {
        resource: Resource,
        namespace: Option<String>,
    },
    Object {
        resource: Resource,
        key: Key,
    },
    Nothing,
}

impl Request {
    pub(super) fn new(method: &str, uri: &Uri) -> Self {
        let query = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        Self { method: method.to_owned(), path: uri.path().to_owned(), query: query.into_owned().collect() }
    }

    /// The parameter's value; an empty one is as good as none.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let found = self.query.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    pub fn flag(&self, name: &str) -> bool {
        matches!(self.parameter(name), Some("true" | "1"))
    }

    pub fn is_watch(&self) -> bool {
        self.flag("watch")
    }

    /// The target among what is served.
    pub(super) fn target<'a>(&self, served: impl IntoIterator<Item = &'a Resource>) -> Target {
        let segments: Vec<&str> = self.path.split('/').filter(|segment| !segment.is_empty()).collect();
        let (group, version, rest) = match segments.as_slice() {
            ["readyz" | "version" | "api" | "apis"] | ["api" | "apis", _] | ["apis", _, _] => {
                return Target::Discovery(segments.into_iter().map(str::to_owned).collect());
            }
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Target::Nothing,
        };
        let (namespace, rest) = match rest {
            // Parts of a namespace itself.
            ["namespaces", _, "status" | "finalize"] => (None, &rest[..2]),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some((*namespace).to_owned()), rest),
            _ => (None, rest),
        };
        let plural = rest.first().copied().unwrap_or_default();
        let resource = served
            .into_iter()
            .find(|resource| (resource.group, resource.version, resource.plural) == (group, version, plural));
        match (resource.copied(), rest) {
            (Some(resource), [_]) => Target::Collection { resource, namespace },
            (Some(resource), [_, name] | [_, name, "status"]) => {
                let key = (namespace.unwrap_or_default(), (*name).to_owned());
                Target::Object { resource, key }
            }
            _ => Target::Nothing,
        }
    }

    /// What it asks for, in the words of faults.
    pub(super) fn asked(&self, target: &Target) -> Asked {
        match target {
            Target::Discovery(_) => Asked::Discovery,
            Target::Collection { .. } if self.method != "GET" => Asked::Object,
            Target::Collection { .. } if self.is_watch() => Asked::Watch,
            Target::Collection { .. } if self.parameter("continue").is_some() => Asked::Page,
            Target::Collection { .. } => Asked::List,
            Target::Object { .. } | Target::Nothing => Asked::Object,
        }
    }

    /// What a list or watch covers; `None` where it selects by what the stub does not know.
    pub(super) fn scope(&self, resource: Resource, namespace: Option<String>) -> Option<Scope> {
        let fields = FieldSelector::parse(self.parameter("fieldSelector").unwrap_or_default())?;
        self.parameter("labelSelector").is_none().then_some(Scope { resource, namespace, fields })
    }
}

impl Target {
    pub(super) fn plural(&self) -> Option<&'static str> {
        match self {
            Self::Collection { resource, .. } | Self::Object { resource, .. } => Some(resource.plural),
            Self::Discovery(_) | Self::Nothing => None,
        }
    }
}
