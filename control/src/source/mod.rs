//! Where the cluster's objects come from.
//!
//! Nothing is published before a source has delivered its whole first state; a source that is lost after that keeps what
//! it said last. Whoever runs the source holds to this rule, and [`SourceEvent`] leaves no other choice: a state comes
//! whole or not at all.

mod directory;

use std::ops::ControlFlow;

pub use directory::DirectorySource;

use crate::manifest::Problem;
use crate::state::Cluster;

/// What a source has to say.
#[derive(Clone, Debug)]
pub enum SourceEvent {
    /// The whole of its objects, and what of them is not in force as written.
    Snapshot(Box<Cluster>, Vec<Problem>),
    /// It cannot be reached any more, or not yet; what it said last stands. It goes on trying.
    Lost { why: String },
}

/// A place that objects come from, kept in step with for as long as the program runs.
pub trait Source: Send + 'static {
    /// As logs and status name it.
    fn name(&self) -> String;

    /// Delivers the whole state, then the whole state again after each change. Blocks until `deliver` breaks: it wants a
    /// thread of its own.
    fn run(self: Box<Self>, deliver: &mut dyn FnMut(SourceEvent) -> ControlFlow<()>);
}
