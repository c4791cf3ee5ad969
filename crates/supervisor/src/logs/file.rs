//! A file that lines are appended to, and that is put aside when it gets too large.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use super::formatted;
use crate::control::protocol::LogLine;

#[derive(Debug)]
pub(super) struct LogFile {
    path: PathBuf,
    /// How large it may get; 0 is no limit.
    size: u64,
    /// How many are kept besides it.
    keep: u32,
    file: Option<File>,
    written: u64,
    /// Somebody was told that it cannot be written.
    complained: bool,
}

impl LogFile {
    pub(super) fn new(path: PathBuf, size: u64, keep: u32) -> LogFile {
        LogFile { path, size, keep, file: None, written: 0, complained: false }
    }

    pub(super) fn write(&mut self, line: &LogLine) -> Option<String> {
        match self.try_write(formatted(line).as_bytes()) {
            Ok(()) => {
                self.complained = false;
                None
            }
            Err(error) => {
                self.file = None;
                let first = !std::mem::replace(&mut self.complained, true);
                first.then(|| format!("{}: {error}", self.path.display()))
            }
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let len = bytes.len() as u64;
        if self.size > 0 && self.written > 0 && self.written + len > self.size {
            self.rotate()?;
        }
        self.open()?.write_all(bytes)?;
        self.written += len;
        Ok(())
    }

    fn open(&mut self) -> io::Result<&mut File> {
        if self.file.is_none() {
            let file = OpenOptions::new().append(true).create(true).mode(0o640).open(&self.path)?;
            self.written = file.metadata()?.len();
            self.file = Some(file);
        }
        Ok(self.file.as_mut().expect("it was opened just now"))
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut path = OsString::from(&self.path);
        path.push(format!(".{number}"));
        path.into()
    }

    /// Puts the file aside as the first of those that are kept, and the others one further.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        self.written = 0;
        if self.keep == 0 {
            return fs::remove_file(&self.path);
        }
        for number in (1..self.keep).rev() {
            match fs::rename(self.numbered(number), self.numbered(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        fs::rename(&self.path, self.numbered(1))
    }

    pub(super) fn reopen(&mut self) {
        self.file = None;
        self.complained = false;
    }
}

#[cfg(test)]
mod tests {
    use super::super::line;
    use super::*;

    fn read(path: PathBuf) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn file_that_gets_too_large_is_put_aside_and_so_many_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.log");
        let one = formatted(&line(0, "a")).len() as u64;
        let mut file = LogFile::new(path.clone(), 2 * one, 2);
        for text in ["a", "b", "c", "d", "e", "f", "g"] {
            assert_eq!(file.write(&line(0, text)), None);
        }
        assert!(read(path.clone()).contains("web:0 g\n"));
        assert!(read(file.numbered(1)).contains("web:0 e\n"));
        assert!(read(file.numbered(2)).contains("web:0 c\n"));
        assert!(!file.numbered(3).exists());
    }

    #[test]
    fn file_that_somebody_moved_is_begun_anew_when_it_is_reopened() {
        let directory = tempfile::tempdir().unwrap();
        let (path, moved) = (directory.path().join("log"), directory.path().join("moved"));
        let mut file = LogFile::new(path.clone(), 0, 0);
        file.write(&line(0, "before"));
        fs::rename(&path, &moved).unwrap();
        file.write(&line(0, "between"));
        file.reopen();
        file.write(&line(0, "after"));
        assert!(read(moved).ends_with("between\n"));
        assert!(read(path).ends_with("after\n"));
    }

    #[test]
    fn file_that_cannot_be_written_is_told_once() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = LogFile::new(directory.path().join("missing").join("log"), 0, 0);
        assert!(file.write(&line(0, "a")).unwrap().contains("missing"));
        assert_eq!(file.write(&line(0, "b")), None);
        fs::create_dir(directory.path().join("missing")).unwrap();
        assert_eq!(file.write(&line(0, "c")), None);
        assert!(read(file.path.clone()).ends_with("c\n"));
    }
}
