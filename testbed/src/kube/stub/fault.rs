//! What goes wrong on command: which requests, how, how often.

use std::time::Duration;

/// Requests by what they ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Discovery of what is served.
    Discovery,
    /// A list, or its first page.
    List,
    /// A list's later pages.
    Page,
    Watch,
    /// One object, to be read or written.
    Object,
}

/// Requests that a fault befalls; what is not said is any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct On {
    pub asked: Option<Asked>,
    pub plural: Option<&'static str>,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A `Status` of this code is the answer.
    Status(u16),
    /// The server says that it has not come as far as the version that is asked for.
    Ahead,
    /// 200, and no JSON.
    Garbage,
    /// The connection breaks half-way through the body.
    Half,
    /// The body comes in pieces of so many bytes, with a pause after each.
    Slow { piece: usize, pause: Duration },
    /// The connection closes without an answer.
    Close,
    /// No answer comes.
    Hang,
    /// 200, and nothing after that.
    Mute,
}

/// What becomes of a watch that is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// It ends, as after its time.
    End,
    /// It ends with the event that says that its version is too old.
    Gone,
    /// It ends with an event that says that the server failed.
    Failed,
    /// The connection breaks.
    Break,
    /// The connection breaks in the middle of an event.
    Half,
    /// It says what is no JSON, and ends.
    Garbage,
    /// It stays open and says nothing any more.
    Silence,
}

/// A fault in force.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) on: On,
    pub(super) fault: Fault,
    /// How often still; for good where there is none.
    pub(super) left: Option<u32>,
}

impl On {
    pub const ANY: Self = Self { asked: None, plural: None };

    pub fn list(plural: &'static str) -> Self {
        Self { asked: Some(Asked::List), plural: Some(plural) }
    }

    pub fn page(plural: &'static str) -> Self {
        Self { asked: Some(Asked::Page), plural: Some(plural) }
    }

    pub fn watch(plural: &'static str) -> Self {
        Self { asked: Some(Asked::Watch), plural: Some(plural) }
    }

    /// Everything that is asked of the kind.
    pub fn kind(plural: &'static str) -> Self {
        Self { asked: None, plural: Some(plural) }
    }

    /// Everything of this sort, whatever the kind.
    pub fn all(asked: Asked) -> Self {
        Self { asked: Some(asked), plural: None }
    }

    fn covers(&self, asked: Asked, plural: Option<&str>) -> bool {
        self.asked.is_none_or(|own| own == asked) && self.plural.is_none_or(|own| Some(own) == plural)
    }
}

/// The fault that befalls a request, which counts against it.
pub(super) fn take(rules: &mut [Rule], asked: Asked, plural: Option<&str>) -> Option<Fault> {
    let rule = rules.iter_mut().find(|rule| rule.left != Some(0) && rule.on.covers(asked, plural))?;
    rule.left = rule.left.map(|left| left - 1);
    Some(rule.fault)
}
