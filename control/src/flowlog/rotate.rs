//! A file of lines that is moved aside when it is long: FILE.1 is the newest of those, FILE.N the oldest that is kept.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct RotatedFile {
    path: PathBuf,
    /// Bytes from which on it is moved aside.
    limit: u64,
    kept: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    len: u64,
}

impl RotatedFile {
    pub(super) fn new(path: PathBuf, limit: u64, kept: u32) -> Self {
        Self { path, limit, kept, open: None }
    }

    /// Appends whole lines, all of them or none: where there is no room for all, the file is as it was before.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut open = self.opened()?;
        if open.len > 0 && open.len + lines.len() as u64 > self.limit {
            drop(open);
            self.rotate()?;
            open = self.opened()?;
        }
        match open.file.write_all(lines) {
            Ok(()) => open.len += lines.len() as u64,
            Err(error) => {
                // Of a file that cannot be cut the last line may be half.
                let _ = open.file.set_len(open.len);
                return Err(error);
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// The file at the path, which somebody may have moved or removed since.
    fn opened(&mut self) -> io::Result<Open> {
        let is_there = |open: &Open| {
            let (there, ours) = (fs::metadata(&self.path)?, open.file.metadata()?);
            io::Result::Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino()))
        };
        match self.open.take() {
            Some(open) if is_there(&open).unwrap_or(false) => Ok(open),
            _ => {
                let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                let len = file.metadata()?.len();
                Ok(Open { file, len })
            }
        }
    }

    fn rotate(&self) -> io::Result<()> {
        if self.kept == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.kept).rev() {
            move_if_there(&self.aside(number), &self.aside(number + 1))?;
        }
        move_if_there(&self.path, &self.aside(1))
    }

    fn aside(&self, number: u32) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(format!(".{number}"));
        path.into()
    }
}

fn move_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        moved => moved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(directory: &Path) -> Vec<(String, String)> {
        let files = fs::read_dir(directory).unwrap().map(|file| file.unwrap().path());
        let mut texts: Vec<_> = files
            .map(|path| {
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                (name, fs::read_to_string(path).unwrap())
            })
            .collect();
        texts.sort();
        texts
    }

    #[test]
    fn a_long_file_moves_aside_and_the_oldest_goes() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatedFile::new(directory.path().join("log"), 10, 2);
        for line in ["aaaa\n", "bbbb\n", "cccc\n", "dddddddddddddddddd\n", "eeee\n", "ffff\n"] {
            file.append(line.as_bytes()).unwrap();
        }
        let expected = [("log", "eeee\nffff\n"), ("log.1", "dddddddddddddddddd\n"), ("log.2", "cccc\n")];
        assert_eq!(texts(directory.path()), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
        // One that begins later goes on where this one stopped.
        drop(file);
        RotatedFile::new(directory.path().join("log"), 100, 2).append(b"gggg\n").unwrap();
        assert_eq!(texts(directory.path())[0].1, "eeee\nffff\ngggg\n");
    }

    #[test]
    fn a_file_that_is_not_kept_begins_anew() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = RotatedFile::new(directory.path().join("log"), 10, 0);
        (0..3).for_each(|_| file.append(b"123456\n").unwrap());
        assert_eq!(texts(directory.path()), [("log".to_owned(), "123456\n".to_owned())]);
    }

    #[test]
    fn a_file_that_others_move_or_remove_is_opened_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = RotatedFile::new(path.clone(), 1000, 2);
        file.append(b"one\n").unwrap();
        fs::rename(&path, directory.path().join("log.old")).unwrap();
        file.append(b"two\n").unwrap();
        fs::remove_file(&path).unwrap();
        file.append(b"three\n").unwrap();
        let expected = [("log", "three\n"), ("log.old", "one\n")];
        assert_eq!(texts(directory.path()), expected.map(|(name, text)| (name.to_owned(), text.to_owned())));
    }

    #[test]
    fn a_full_disk_leaves_no_half_of_a_line_and_writing_resumes() {
        // Every write there fails for want of space.
        let mut full = RotatedFile::new("/dev/full".into(), 1000, 0);
        assert_eq!(full.append(b"line\n").unwrap_err().kind(), ErrorKind::StorageFull);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("missing/log");
        let mut file = RotatedFile::new(path.clone(), 1000, 2);
        assert_eq!(file.append(b"one\n").unwrap_err().kind(), ErrorKind::NotFound);
        fs::create_dir(path.parent().unwrap()).unwrap();
        file.append(b"two\n").unwrap();
        assert_eq!(fs::read_to_string(path).unwrap(), "two\n");
    }
}
