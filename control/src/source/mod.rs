//! Where the cluster's objects come from.
//!
//! Nothing is published before a source has delivered its whole first state; a source that is lost after that keeps what
//! it said last. Whoever runs the source holds to this rule, and [`SourceEvent`] leaves no other choice: the first state
//! comes whole, and what changes together later comes together.

mod directory;
pub mod kubernetes;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

pub use directory::DirectorySource;
pub use kubernetes::KubernetesSource;

use crate::clock;
use crate::manifest::{Problem, Reference};
use crate::state::Change;
use crate::state::policy::PolicyId;

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// What became of its objects since it last said so, to be taken as one, and all that is not in force as written.
    /// The first is the whole of its objects.
    Changes { changes: Vec<Change>, problems: Vec<Problem>, references: References },
    /// All that it cannot learn any more, or not yet; what it said last stands. It goes on trying, and says so again when
    /// the list is another, or empty.
    Trouble(Vec<Trouble>),
}

/// What the API server calls policies that came, went (`None`) or were made anew with the changes; of kinds alone that may
/// be valid and count for nobody.
pub type References = Vec<(PolicyId, Option<Arc<Reference>>)>;

/// Something that a source cannot learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// A kind of objects, or all there is.
    pub what: String,
    pub why: String,
    /// By the clock, for people, and by one that nobody sets.
    pub since: Timestamp,
    pub began: Instant,
}

impl Trouble {
    /// From now on.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), since: clock::wall(), began: Instant::now() }
    }
}

/// A place that objects come from, kept in step with for as long as the program runs.
pub trait Source: Send + 'static {
    /// As logs and status name it.
    fn name(&self) -> String;

    /// Delivers the whole state, then each change. Blocks until `deliver` breaks: it wants a thread of its own.
    fn run(self: Box<Self>, deliver: &mut dyn FnMut(SourceEvent) -> ControlFlow<()>);
}
