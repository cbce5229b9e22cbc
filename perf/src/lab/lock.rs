//! One lab at a time: two would measure each other.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context, bail};

/// Where the lock is, on every machine that the lab runs on.
pub const FILE: &str = "/run/margay-perf-lab.lock";

/// The right to measure, until it is dropped or its process ends.
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    pub fn take(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        let opened = File::options().create(true).truncate(false).read(true).write(true).open(path);
        let mut file = opened.with_context(|| format!("cannot open {name}"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.take(20).read_to_string(&mut holder).with_context(|| format!("cannot read {name}"))?;
                bail!(
                    "another lab runs (process {}), and the two would measure each other: wait for its end",
                    holder.trim()
                );
            }
            Err(TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {name}"));
            }
        }
        // For people alone: what holds is the lock.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .with_context(|| format!("cannot write to {name}"))?;
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lab_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = Lock::take(&path).unwrap();
        let error = Lock::take(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {})", std::process::id())), "{error}");
        drop(first);
        Lock::take(&path).unwrap();
    }
}
