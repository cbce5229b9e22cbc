//! Network namespaces: their names, entering one on a thread, the processes that live in one, their end.
//!
//! Owns no links: what stands inside a namespace goes with it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha1::{Digest, Sha1};

use crate::ip;

/// Where iproute2 keeps a file for each named namespace.
const DIRECTORY: &str = "/var/run/netns";

/// How long a killed process may take to leave its namespace.
const PROCESS_EXIT: Duration = Duration::from_secs(10);

/// Longest file name (`NAME_MAX`), in bytes.
const LONGEST: usize = 255;

/// Name prefix of everything that belongs to the lab `lab`. The dot cannot stand in a lab's name, so the prefix of one
/// lab never begins the names of another.
pub fn prefix(lab: &str) -> String {
    format!("mgl-{lab}.")
}

/// Namespace name of `what` in the lab, short enough for a file name.
pub fn name(lab: &str, what: &str) -> String {
    shorten(&(prefix(lab) + what), LONGEST)
}

/// The name, or where it has more than `limit` bytes, as much of it as fits before a digest of the whole.
pub fn shorten(name: &str, limit: usize) -> String {
    if name.len() <= limit {
        return name.to_owned();
    }
    let digest = Sha1::digest(name.as_bytes());
    let hex = digest[..6].iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let kept = name.char_indices().map(|(at, _)| at).take_while(|&at| at + 13 <= limit).last().unwrap_or(0);
    format!("{}.{hex}", &name[..kept])
}

/// The file that stands for the namespace.
pub fn path(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether a namespace of this name exists.
pub fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Names of all namespaces that begin with `prefix`, sorted.
pub fn list(prefix: &str) -> Result<Vec<String>> {
    let entries = match fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("cannot list {DIRECTORY}")),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.with_context(|| format!("cannot list {DIRECTORY}"))?.file_name();
        names.extend(name.to_str().filter(|name| name.starts_with(prefix)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// Runs `work` on a thread of its own inside the namespace. Sockets that it makes stay in that namespace wherever they
/// are used later, and processes that it starts live there.
pub fn within<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T> {
    let file = open(name)?;
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(&file, CloneFlags::CLONE_NEWNET)
                .with_context(|| format!("cannot enter namespace {name} (root is needed)"))?;
            Ok(work())
        });
        inside.join().map_err(|_| anyhow!("the thread in namespace {name} panicked"))?
    })
}

fn open(name: &str) -> Result<File> {
    let path = path(name);
    File::open(&path).with_context(|| format!("no namespace {}: is the lab up?", path.display()))
}

/// Creates the namespaces; none may exist yet.
pub fn create(names: &[String]) -> Result<()> {
    ip::Batch::new().extend(names.iter().map(|name| format!("netns add {name}"))).run(None)
}

/// Kills what lives in the namespaces and removes them. Links inside go with them.
pub fn remove(names: &[String]) -> Result<()> {
    kill_all_in(names)?;
    ip::Batch::new().extend(names.iter().map(|name| format!("netns del {name}"))).run(None)
}

/// Sends SIGKILL to every process in any of the namespaces until none is left.
fn kill_all_in(names: &[String]) -> Result<()> {
    let deadline = Instant::now() + PROCESS_EXIT;
    loop {
        let left = processes(names)?;
        if left.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("processes {left:?} do not leave the lab's namespaces after SIGKILL");
        }
        for pid in left {
            match kill(Pid::from_raw(pid), Signal::SIGKILL) {
                // A process that ended by itself in between is as good.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => bail!("cannot kill process {pid} of the lab: {errno}"),
            }
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Ids of the processes whose network namespace is one of these.
pub fn processes(names: &[String]) -> Result<Vec<i32>> {
    // A namespace file that is no mount (its creation was cut short) has an inode of another file system: no process
    // has that one.
    let namespaces: BTreeSet<(u64, u64)> = names.iter().filter_map(|name| identity(&path(name))).collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")? {
        let Ok(entry) = entry else { continue };
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // A zombie has no namespace any more, so what waits for its parent does not count.
        if identity(&entry.path().join("ns/net")).is_some_and(|net| namespaces.contains(&net)) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_begins_the_names_of_another_lab() {
        assert!(name("a", "n.gw-a").starts_with(&prefix("a")));
        assert!(!name("a-b", "n.gw-a").starts_with(&prefix("a")));
    }

    #[test]
    fn long_names_fit_a_file_name_and_stay_apart() {
        let one = name("lab", &format!("p.{}.{}", "n".repeat(63), "p".repeat(252)));
        let other = name("lab", &format!("p.{}.{}q", "n".repeat(63), "p".repeat(251)));
        assert!(one.len() <= 255 && other.len() <= 255);
        assert_ne!(one, other);
    }
}
