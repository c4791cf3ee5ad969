//! The paths named on the command line, where mistakes are told at once and symlinks followed.

use std::path::{Path, PathBuf};
use std::{error, fmt, fs, io};

use super::read::open_regular;
use super::text::{path_text, printable};

/// Why a path named on the command line can't be walked.
#[derive(Debug)]
pub(crate) struct RootError {
    path: PathBuf,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Missing,
    Unreadable(io::Error),
    NeitherFileNorDirectory,
}

/// Whether `path` is, or leads to, a file or a directory that can be opened.
pub(crate) fn check(path: &Path) -> Result<(), RootError> {
    problem(path).map_or(Ok(()), |problem| Err(RootError { path: path.to_path_buf(), problem }))
}

fn problem(path: &Path) -> Option<Problem> {
    let opened = fs::metadata(path).and_then(|seen| {
        if seen.is_dir() {
            fs::read_dir(path).map(|_| true)
        } else if seen.is_file() {
            open_regular(&real_path(path)?).map(|_| true)
        } else {
            Ok(false)
        }
    });
    match opened {
        Ok(true) => None,
        Ok(false) => Some(Problem::NeitherFileNorDirectory),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some(Problem::Missing),
        Err(error) => Some(Problem::Unreadable(error)),
    }
}

/// `path` itself, or where it leads if it is a symlink.
pub(crate) fn real_path(path: &Path) -> io::Result<PathBuf> {
    if fs::symlink_metadata(path)?.is_symlink() {
        fs::canonicalize(path)
    } else {
        Ok(path.to_path_buf())
    }
}

impl fmt::Display for RootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = printable(&path_text(&self.path));
        match &self.problem {
            Problem::Missing => write!(f, "'{path}' does not exist"),
            Problem::Unreadable(error) => write!(f, "'{path}' is not readable: {error}"),
            Problem::NeitherFileNorDirectory => {
                write!(f, "'{path}' is neither a file nor a directory")
            }
        }
    }
}

impl error::Error for RootError {}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use tempfile::tempdir;

    use super::*;
    use crate::census::walk::Walk;

    fn complaint(path: &Path) -> String {
        check(path).unwrap_err().to_string()
    }

    #[test]
    fn check_files_directories_and_symlinks_to_them_passes() {
        let root = tempdir().unwrap();
        let (file, link) = (root.path().join("file"), root.path().join("link"));
        fs::write(&file, "").unwrap();
        symlink("file", &link).unwrap();
        Walk::check(&[root.path().to_path_buf(), file, link]).unwrap();
    }

    #[test]
    fn check_missing_path_names_it() {
        let paths = [PathBuf::from("/"), PathBuf::from("/no\u{1b}where"), PathBuf::from("/other")];
        let error = Walk::check(&paths).unwrap_err();
        assert_eq!(error.to_string(), "'/no\\u{1b}where' does not exist");
        assert_eq!(complaint(Path::new("")), "'' does not exist");
    }

    #[test]
    fn check_dangling_symlink_does_not_exist() {
        let root = tempdir().unwrap();
        let link = root.path().join("link");
        symlink("nowhere", &link).unwrap();
        assert!(complaint(&link).ends_with("link' does not exist"));
    }

    #[test]
    fn check_path_below_a_file_is_not_readable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text = complaint(&file.path().join("below"));
        assert!(text.contains("' is not readable: Not a directory"), "{text}");
    }

    #[test]
    fn check_device_or_socket_is_neither() {
        let root = tempdir().unwrap();
        let socket = root.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        for path in [socket.as_path(), Path::new("/dev/null")] {
            let text = complaint(path);
            assert!(text.ends_with("' is neither a file nor a directory"), "{text}");
        }
    }

    #[test]
    fn check_path_without_permission_is_not_readable() {
        let root = tempdir().unwrap();
        let (file, directory) = (root.path().join("file"), root.path().join("directory"));
        fs::write(&file, "").unwrap();
        fs::create_dir(&directory).unwrap();
        for path in [&file, &directory] {
            fs::set_permissions(path, Permissions::from_mode(0o000)).unwrap();
            if fs::read_dir(&directory).is_ok() || fs::read(&file).is_ok() {
                continue; // The superuser may read everything.
            }
            let text = complaint(path);
            assert!(text.contains("' is not readable: Permission denied"), "{text}");
        }
    }
}
