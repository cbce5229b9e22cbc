//! Reports as files: read within bounds, written whole or not at all.

use std::fs::{File, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context, ensure};

/// Bytes of a report at most: a full run's details have a hundredth of it.
const MOST: u64 = 64 << 20;

pub(super) fn read(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let opened = File::open(file).with_context(|| format!("cannot read {name}"))?;
    let mut text = String::new();
    opened.take(MOST + 1).read_to_string(&mut text).with_context(|| format!("cannot read {name}"))?;
    ensure!(text.len() as u64 <= MOST, "{name} is longer than {} MiB, which no report is", MOST >> 20);
    Ok(text)
}

/// Through a neighbour of another name, so that nobody ever sees half of it.
pub(super) fn write(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let written = || -> anyhow::Result<()> {
        // As open(2) would make it: the mask applies.
        let permissions = Permissions::from_mode(0o666);
        let mut neighbour = tempfile::Builder::new().permissions(permissions).tempfile_in(directory)?;
        neighbour.write_all(bytes)?;
        neighbour.persist(file)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", file.display()))
}
