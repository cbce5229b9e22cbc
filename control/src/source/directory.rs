//! A directory of manifests as a source: read once, watched for changes after that.
//!
//! The kernel's notices only say when to look; what changed is found by looking. So a notice that is missed (a network
//! file system, a link to a file elsewhere) delays a change by [`POLL`] and loses nothing.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use super::{Source, SourceEvent, Trouble};
use crate::manifest::Directory;

/// How long a change may go unnoticed where the kernel gives no notice.
const POLL: Duration = Duration::from_secs(2);
/// A change is looked at once the directory has been quiet for so long: writers write in steps.
const QUIET: Duration = Duration::from_millis(50);
/// A directory that is never quiet is looked at all the same.
const PATIENCE: Duration = Duration::from_millis(500);

/// A directory of manifests, watched.
#[derive(Debug)]
pub struct DirectorySource {
    directory: Directory,
}

impl DirectorySource {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { directory: Directory::new(path) }
    }
}

impl Source for DirectorySource {
    fn name(&self) -> String {
        format!("directory {}", self.directory.path().display())
    }

    fn run(mut self: Box<Self>, deliver: &mut dyn FnMut(SourceEvent) -> ControlFlow<()>) {
        let mut watch = None;
        let mut state = State::Unread;
        loop {
            // Watch, then look: a change between the two is noticed.
            Watch::renew(&mut watch, self.directory.path());
            let events = match (self.directory.refresh(), &state) {
                (Ok(changed), before) => {
                    let found = (*before == State::Lost).then(|| SourceEvent::Trouble(Vec::new()));
                    let is_due = changed || *before != State::Read;
                    state = State::Read;
                    let changes = is_due.then(|| {
                        let (changes, problems) = self.directory.changes();
                        SourceEvent::Changes { changes, problems, references: Vec::new() }
                    });
                    [found, changes]
                }
                (Err(_), State::Lost) => [None, None],
                (Err(error), _) => {
                    state = State::Lost;
                    [Some(SourceEvent::Trouble(vec![Trouble::new("all objects", error.to_string())])), None]
                }
            };
            if events.into_iter().flatten().any(|event| deliver(event).is_break()) {
                return;
            }
            match &watch {
                Some(watch) => watch.wait(),
                None => std::thread::sleep(POLL),
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Unread,
    Read,
    Lost,
}

/// A watch on a directory, and on the one above it, where the directory itself (or the link to it) may be replaced.
#[derive(Debug)]
struct Watch {
    /// Dropping it ends the watch.
    _watcher: RecommendedWatcher,
    /// Device and inode of the directory that is watched.
    watched: (u64, u64),
    notices: Receiver<()>,
}

impl Watch {
    /// Watches the directory that is at `path` now, if it is not the one that is watched already.
    fn renew(watch: &mut Option<Self>, path: &Path) {
        let present = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
        if watch.as_ref().map(|watch| watch.watched) == present {
            return;
        }
        *watch = present.and_then(|present| match Self::new(path, present) {
            Ok(watch) => Some(watch),
            Err(error) => {
                tracing::warn!(
                    "cannot watch {}: {error}; looking every {} s instead (is fs.inotify.max_user_instances used up?)",
                    path.display(),
                    POLL.as_secs()
                );
                None
            }
        });
    }

    fn new(path: &Path, watched: (u64, u64)) -> Result<Self, notify::Error> {
        let path = std::path::absolute(path)?;
        let (sender, notices) = mpsc::channel();
        let own_name = path.file_name().map(OsStr::to_owned);
        let parent = path.parent().map(Path::to_owned);
        let above = parent.clone();
        let concerns_us = move |changed: &PathBuf| {
            changed.parent() != above.as_deref() || changed.file_name() == own_name.as_deref()
        };
        let mut watcher = notify::recommended_watcher(move |event: Result<notify::Event, _>| {
            // Reading a file is an event too, and we read them.
            let is_change = |event: &notify::Event| {
                !matches!(event.kind, EventKind::Access(_))
                    && (event.paths.is_empty() || event.paths.iter().any(&concerns_us))
            };
            if event.as_ref().map_or(true, is_change) {
                // Nobody listens any more: the watch is about to end.
                sender.send(()).ok();
            }
        })?;
        watcher.watch(&path, RecursiveMode::NonRecursive)?;
        if let Some(parent) = parent {
            watcher.watch(&parent, RecursiveMode::NonRecursive)?;
        }
        Ok(Self { _watcher: watcher, watched, notices })
    }

    /// Returns some time after a change, or when it is time to look anyway.
    fn wait(&self) {
        if self.notices.recv_timeout(POLL).is_err() {
            return;
        }
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.notices.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}
