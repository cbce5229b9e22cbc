//! What can be wrong with a manifest, and where: file, line, object, field.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::validate::shown;
use super::{Id, Kind, yaml};
use crate::state::Name;

/// Something in an object that is not in force as written. Displays as `FILE:LINE: OBJECT: reason`, without a place where
/// the object is the API server's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub place: Place,
    /// The object, where it could be named.
    pub object: Option<Id>,
    pub reason: Reason,
    /// The last good version of the object, or of all that the file held, stays in force.
    pub last_good_stands: bool,
}

/// Where an object is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A position in a file, from line 1; without a line it is the file as a whole.
    File {
        file: Arc<Path>,
        line: Option<usize>,
    },
    Api(Arc<Reference>),
}

/// An object of the API server, by what that calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    pub kind: Kind,
    /// As it is written there; the namespace of a cluster-wide one is empty.
    pub name: Name,
    pub uid: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("cannot be read: {0}")]
    Unreadable(String),
    #[error("is not valid YAML: {0}")]
    Syntax(String),
    #[error("is no Kubernetes object: {0}")]
    NotAnObject(String),
    #[error("{0}")]
    Invalid(Invalid),
    /// A part of an object that is in force otherwise.
    #[error("{0}; the rest is in force")]
    InPart(Invalid),
    /// An object whose name or namespace is not one.
    #[error("{0}: {1}")]
    Unnamed(Kind, Invalid),
    #[error("is already defined at {0}; that one stands, remove one of them")]
    Duplicate(Place),
    /// Two objects of the API server that are one by another way of writing its name.
    #[error("is the same policy as {0}, which stands: remove one of them")]
    SameName(String),
    #[error("{kind} of {api_version} is not a kind that Margay reads: skipped")]
    UnknownKind { api_version: String, kind: String },
}

/// A field whose value the API server would refuse, or whose type is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {why}")]
pub struct Invalid {
    pub field: FieldPath,
    pub why: String,
}

impl Problem {
    pub(crate) fn new(place: Place, object: Option<Id>, reason: Reason) -> Self {
        Self { place, object, reason, last_good_stands: false }
    }

    /// The object is in force but for a part of it.
    pub fn is_in_part(&self) -> bool {
        matches!(self.reason, Reason::InPart(_))
    }

    /// A kind passed over: worth a line, and nothing that was meant for Margay is out of force.
    pub fn is_skip(&self) -> bool {
        matches!(self.reason, Reason::UnknownKind { .. })
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.reference().is_none() {
            write!(f, "{}: ", self.place)?;
        }
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        write!(f, "{}", self.reason)?;
        if self.last_good_stands { write!(f, " (the last good version stays in force)") } else { Ok(()) }
    }
}

impl Place {
    pub(super) fn file(file: impl Into<PathBuf>) -> Self {
        Self::File { file: file.into().into(), line: None }
    }

    /// A line of the same file.
    pub(super) fn at(&self, line: usize) -> Self {
        match self {
            Self::File { file, .. } => Self::File { file: file.clone(), line: Some(line) },
            Self::Api(_) => self.clone(),
        }
    }

    pub fn line(&self) -> Option<usize> {
        match self {
            Self::File { line, .. } => *line,
            Self::Api(_) => None,
        }
    }

    /// The object, where it is the API server's.
    pub fn reference(&self) -> Option<&Arc<Reference>> {
        match self {
            Self::File { .. } => None,
            Self::Api(reference) => Some(reference),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line: Some(line) } => write!(f, "{}:{line}", file.display()),
            Self::File { file, line: None } => file.display().fmt(f),
            Self::Api(_) => f.write_str("the API server"),
        }
    }
}

/// The way from an object's root to a field, displayed as `spec.ingress[0].from`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Key(String),
    Index(usize),
}

/// Longer than any that an object has, with the longest prefix and name of a label.
const LONGEST_KEY: usize = 320;

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if key.len() > LONGEST_KEY => write!(f, "[{}]", shown(key))?,
                // Keys of labels and annotations hold dots and slashes.
                Step::Key(key) if key.contains(['.', '/']) => write!(f, "[\"{key}\"]")?,
                Step::Key(key) if i == 0 => write!(f, "{key}")?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        if self.0.is_empty() { write!(f, "the object") } else { Ok(()) }
    }
}

impl From<&serde_path_to_error::Path> for FieldPath {
    fn from(path: &serde_path_to_error::Path) -> Self {
        use serde_path_to_error::Segment;
        let step = |segment: &Segment| match segment {
            Segment::Seq { index } => Some(Step::Index(*index)),
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Enum { .. } | Segment::Unknown => None,
        };
        Self(path.iter().filter_map(step).collect())
    }
}

/// A field while an object is read: grows on the stack, and becomes a [`FieldPath`] only where something is wrong.
#[derive(Clone, Copy, Debug)]
pub(super) enum Field<'a> {
    Root,
    Key(&'a Field<'a>, &'a str),
    Index(&'a Field<'a>, usize),
}

impl<'a> Field<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> Self {
        Field::Key(self, key)
    }

    pub(super) fn index(&'a self, index: usize) -> Self {
        Field::Index(self, index)
    }

    pub(super) fn invalid(&self, why: impl Into<String>) -> Invalid {
        Invalid { field: self.path(), why: why.into() }
    }

    /// Reads the field's value into `T`; an error names the field below this one.
    pub(super) fn read<T: DeserializeOwned>(&self, value: Value) -> Result<T, Invalid> {
        yaml::read(value).map_err(|invalid| {
            let mut field = self.path();
            field.0.extend(invalid.field.0);
            Invalid { field, ..invalid }
        })
    }

    fn path(&self) -> FieldPath {
        let (parent, step) = match self {
            Field::Root => return FieldPath::default(),
            Field::Key(parent, key) => (parent, Step::Key((*key).to_owned())),
            Field::Index(parent, index) => (parent, Step::Index(*index)),
        };
        let mut path = parent.path();
        path.0.push(step);
        path
    }
}
