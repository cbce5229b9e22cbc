//! A directory of manifests: which files it holds, what they said when last read, and which objects are in force.
//!
//! Files that did not change are not read again. What is wrong now but was right before stays in force.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::object::{Id, Object};
use super::parse::{Found, Parsed, parse};
use super::problem::{Place, Problem, Reason};
use super::shared_labels::SharedLabels;
use crate::state::{Change, Cluster};

/// A directory that cannot be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the manifest directory {}: {error}", path.display())]
pub struct Unlistable {
    path: PathBuf,
    error: io::Error,
}

/// The files of one directory (`*.yaml`, `*.yml`, `*.json`, neither hidden nor in a directory below), in the order of
/// their names.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: BTreeMap<PathBuf, File>,
    in_force: BTreeMap<Id, Object>,
    labels: SharedLabels,
}

#[derive(Debug, Default)]
struct File {
    /// What the file system said of the file before it was read; `None` where it said nothing.
    stamp: Option<Stamp>,
    parsed: Parsed,
    /// Objects of the last version that could be parsed, while the present one cannot.
    last_good: Vec<Id>,
}

/// Tells one content of a file from another without reading it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            len: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Reads a directory once.
pub fn load_dir(path: impl Into<PathBuf>) -> Result<(Cluster, Vec<Problem>), Unlistable> {
    let mut directory = Directory::new(path);
    directory.refresh()?;
    let (changes, problems) = directory.changes();
    let mut cluster = Cluster::default();
    for mut change in changes {
        cluster.apply(&mut change);
    }
    Ok((cluster, problems))
}

impl Directory {
    /// The directory as yet unread.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            files: BTreeMap::new(),
            in_force: BTreeMap::new(),
            labels: SharedLabels::default(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what changed since the last time. Says whether anything did.
    pub fn refresh(&mut self) -> Result<bool, Unlistable> {
        let listed = self.list().map_err(|error| Unlistable { path: self.path.clone(), error })?;
        let before = self.files.len();
        self.files.retain(|path, _| listed.contains(path));
        let mut changed = self.files.len() != before;
        for path in listed {
            let metadata = fs::metadata(&path);
            if metadata.as_ref().is_ok_and(Metadata::is_dir) {
                continue;
            }
            let stamp = metadata.ok().as_ref().map(Stamp::of);
            let known = self.files.get(&path);
            if known.is_none_or(|file| file.stamp != stamp) {
                let file = self.files.entry(path.clone()).or_default();
                file.read(&path, stamp, &mut self.labels);
                changed = true;
            }
        }
        Ok(changed)
    }

    fn list(&self) -> io::Result<BTreeSet<PathBuf>> {
        let is_manifest = |path: &PathBuf| {
            let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            let extension = path.extension().and_then(|extension| extension.to_str());
            !is_hidden && matches!(extension, Some("yaml" | "yml" | "json"))
        };
        let entries = fs::read_dir(&self.path)?.map(|entry| entry.map(|entry| entry.path()));
        entries.filter(|path| path.as_ref().map_or(true, is_manifest)).collect()
    }

    /// What became of the objects in force from one call to the next, as of the last [`refresh`](Self::refresh), and
    /// all that is not in force as written.
    pub fn changes(&mut self) -> (Vec<Change>, Vec<Problem>) {
        let mut merge = Merge::default();
        for file in self.files.values() {
            merge.take(&file.parsed, &self.in_force);
        }
        for file in self.files.values() {
            merge.keep_last_good(file, &self.in_force);
        }
        let Merge { objects, problems, .. } = merge;
        let gone = self.in_force.iter().filter(|(id, _)| !objects.contains_key(id));
        let mut changes: Vec<Change> = gone.map(|(id, object)| object.change(&id.name, false)).collect();
        let differs = |id: &Id, object: &Object| self.in_force.get(id) != Some(object);
        let put = objects.iter().filter(|(id, (object, _))| differs(id, object));
        changes.extend(put.map(|(id, (object, _))| object.change(&id.name, true)));
        self.in_force = objects.into_iter().map(|(id, (object, _))| (id, object)).collect();
        self.labels.forget_unused();
        (changes, problems)
    }
}

impl File {
    /// Reads and parses the file; where that fails, what it held before is remembered as the last good version.
    fn read(&mut self, path: &Path, stamp: Option<Stamp>, labels: &mut SharedLabels) {
        let place = Place::file(path);
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => Reason::Syntax("it is not UTF-8".to_owned()),
            _ => Reason::Unreadable(error.to_string()),
        };
        let parsed = fs::read_to_string(path)
            .map_err(|error| Box::new(Problem::new(place.clone(), None, unreadable(error))))
            .and_then(|text| parse(&text, &place));
        self.stamp = stamp;
        match parsed {
            Ok(mut parsed) => {
                parsed.objects.iter_mut().for_each(|found| found.object.share_labels(labels));
                self.parsed = parsed;
                self.last_good.clear();
            }
            Err(problem) => {
                let Parsed { objects, problems } = std::mem::take(&mut self.parsed);
                self.last_good.extend(objects.into_iter().map(|found| found.id));
                self.last_good.extend(problems.into_iter().filter_map(|problem| problem.object));
                self.parsed.problems.push(*problem);
            }
        }
    }
}

/// The files of a directory on their way to one set of objects.
#[derive(Default)]
struct Merge<'a> {
    /// With where it was found; an object that stays in force from before was not.
    objects: BTreeMap<Id, (Object, Option<&'a Found>)>,
    problems: Vec<Problem>,
    unknown_kinds: BTreeSet<(String, String)>,
}

impl<'a> Merge<'a> {
    /// Takes what is valid in a file. An object that says what it said before keeps its allocation, so that what is
    /// compiled from it can be kept too.
    fn take(&mut self, parsed: &'a Parsed, before: &BTreeMap<Id, Object>) {
        for found in &parsed.objects {
            let Found { id, place, object, .. } = found;
            if let Some((_, first)) = self.objects.get(id) {
                let first = first.unwrap_or(found);
                if !found.is_other_form_of(first) {
                    let reason = Reason::Duplicate(first.place.clone());
                    self.problems.push(Problem::new(place.clone(), Some(id.clone()), reason));
                }
                continue;
            }
            let object = before.get(id).filter(|known| *known == object).unwrap_or(object);
            self.objects.insert(id.clone(), (object.clone(), Some(found)));
        }
    }

    /// Takes the file's problems, and for what is wrong now the version that was in force before.
    fn keep_last_good(&mut self, file: &File, before: &BTreeMap<Id, Object>) {
        for id in &file.last_good {
            self.restore(id, before);
        }
        for problem in &file.parsed.problems {
            if let Reason::UnknownKind { api_version, kind } = &problem.reason
                && !self.unknown_kinds.insert((api_version.clone(), kind.clone()))
            {
                continue;
            }
            let last_good_stands = match &problem.object {
                Some(_) if problem.is_in_part() => false,
                Some(id) => self.restore(id, before),
                None => !file.last_good.is_empty(),
            };
            self.problems.push(Problem { last_good_stands, ..problem.clone() });
        }
    }

    fn restore(&mut self, id: &Id, before: &BTreeMap<Id, Object>) -> bool {
        let Some(object) = before.get(id) else { return false };
        self.objects.entry(id.clone()).or_insert_with(|| (object.clone(), None));
        true
    }
}
