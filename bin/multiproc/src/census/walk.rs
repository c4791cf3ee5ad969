//! Finding the regular files below some paths, cut into pieces that are tasks.
//!
//! # What is found
//!
//! * Regular files, in the order of their names within each directory, depth first. Sockets, fifos
//!   and devices are passed over.
//! * Below the roots no symlink is followed, so a directory can't be met inside itself. A root that
//!   is a symlink *is* followed, as by `find -H`; if it leads to a file, that file goes by its
//!   real path.
//! * What is named twice counts twice: the same root given again, a root inside another, a file
//!   with several hard links.
//!
//! # Limits
//!
//! * Memory holds one sorted list of names per level of the current path, one piece, nothing else;
//!   one directory at a time is open.
//! * Paths longer than the kernel takes at once (4096 bytes) are unreadable.
//! * A directory that somebody replaces by a symlink in the instant between being looked at and
//!   being listed is listed through that symlink.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::{fs, io, vec};

use super::piece::Piece;
use super::root::{self, RootError};

/// What a [`Walk`] comes across.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Work.
    Piece(Piece),
    /// A directory that can't be listed (to its end), or an entry that can't be looked at.
    Unreadable {
        /// Where it is.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
    },
}

impl Found {
    fn unreadable(path: PathBuf, error: &io::Error) -> Found {
        Found::Unreadable { path, reason: error.to_string() }
    }
}

/// Iterates over all pieces of all regular files below the roots.
#[derive(Debug)]
pub(crate) struct Walk {
    roots: vec::IntoIter<PathBuf>,
    /// The directories on the way to where we are, with the names not visited yet.
    listings: Vec<Listing>,
    /// The next piece of the file that is being cut.
    cutting: Option<Piece>,
    files: u64,
}

#[derive(Debug)]
struct Listing {
    directory: PathBuf,
    names: vec::IntoIter<OsString>,
}

impl Walk {
    /// Starts before the first of `paths`, each a file or a directory.
    pub(crate) fn new(paths: Vec<PathBuf>) -> Walk {
        Walk { roots: paths.into_iter(), listings: Vec::new(), cutting: None, files: 0 }
    }

    /// Whether each of `paths` can be walked at all, so that a mistyped one is told before the work
    /// starts.
    ///
    /// # Errors
    /// The first path that doesn't exist, can't be opened, or is neither a file nor a directory.
    pub(crate) fn check(paths: &[PathBuf]) -> Result<(), RootError> {
        paths.iter().try_for_each(|path| root::check(path))
    }

    /// Looks at what stands at `path`; `None` if that yields nothing by itself.
    fn visit(&mut self, path: PathBuf, is_root: bool) -> Option<Found> {
        let seen = if is_root { fs::metadata(&path) } else { fs::symlink_metadata(&path) };
        match seen {
            Ok(seen) if seen.is_dir() => self.enter(path),
            Ok(seen) if seen.is_file() => self.cut(path, seen.len(), is_root),
            Ok(_) => None,
            Err(error) => Some(Found::unreadable(path, &error)),
        }
    }

    fn enter(&mut self, directory: PathBuf) -> Option<Found> {
        let (names, trouble) = list(&directory);
        let found = trouble.map(|error| Found::unreadable(directory.clone(), &error));
        self.listings.push(Listing { directory, names: names.into_iter() });
        found
    }

    fn cut(&mut self, path: PathBuf, size: u64, is_root: bool) -> Option<Found> {
        // Reading refuses symlinks, whose place any file below may have taken; a root may be one.
        let path = match is_root.then(|| root::real_path(&path)) {
            None => path,
            Some(Ok(real)) => real,
            Some(Err(error)) => return Some(Found::unreadable(path, &error)),
        };
        self.cutting = Some(Piece::first(self.files, path, size));
        self.files += 1;
        None
    }

    /// The next path to look at, and whether it is a root.
    fn next_path(&mut self) -> Option<(PathBuf, bool)> {
        while let Some(listing) = self.listings.last_mut() {
            if let Some(name) = listing.names.next() {
                return Some((listing.directory.join(name), false));
            }
            self.listings.pop();
        }
        Some((self.roots.next()?, true))
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(piece) = self.cutting.take() {
                self.cutting = piece.following();
                return Some(Found::Piece(piece));
            }
            let (path, is_root) = self.next_path()?;
            if let Some(found) = self.visit(path, is_root) {
                return Some(found);
            }
        }
    }
}

/// The sorted names in `directory`, as many as could be read, and what went wrong.
fn list(directory: &Path) -> (Vec<OsString>, Option<io::Error>) {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut trouble = None;
    let mut names = entries
        .map_while(|entry| entry.map_err(|error| trouble = Some(error)).ok())
        .map(|entry| entry.file_name())
        .collect::<Vec<_>>();
    names.sort_unstable();
    (names, trouble)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs::{File, create_dir, create_dir_all, rename, write};
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use tempfile::tempdir;

    use super::*;

    fn walk<const N: usize>(paths: [&Path; N]) -> Vec<Found> {
        // A walk that followed symlinks in a circle would hardly end.
        Walk::new(paths.map(Path::to_path_buf).to_vec()).take(100).collect()
    }

    fn pieces<const N: usize>(paths: [&Path; N]) -> Vec<Piece> {
        let piece = |found| match found {
            Found::Piece(piece) => piece,
            Found::Unreadable { .. } => panic!("{found:?}"),
        };
        walk(paths).into_iter().map(piece).collect()
    }

    /// The paths of all pieces, below `root`.
    fn found_below(root: &Path) -> Vec<PathBuf> {
        let relative = |piece: Piece| piece.path.strip_prefix(root).unwrap().to_path_buf();
        pieces([root]).into_iter().map(relative).collect()
    }

    #[test]
    fn walk_tree_yields_its_files_sorted_by_name() {
        let root = tempdir().unwrap();
        create_dir_all(root.path().join("b/d")).unwrap();
        for name in ["z", "b/d/x", "b/a", "a", "b/e", "B"] {
            write(root.path().join(name), "").unwrap();
        }
        let expected = ["B", "a", "b/a", "b/d/x", "b/e", "z"].map(PathBuf::from);
        assert_eq!(found_below(root.path()), expected);
    }

    #[test]
    fn walk_numbers_files_in_order() {
        let root = tempdir().unwrap();
        for name in ["a", "b", "c"] {
            write(root.path().join(name), "").unwrap();
        }
        let numbers = pieces([root.path()]).iter().map(|piece| piece.file).collect::<Vec<_>>();
        assert_eq!(numbers, [0, 1, 2]);
    }

    #[test]
    fn walk_huge_sparse_file_yields_pieces_without_collecting_them() {
        let root = tempdir().unwrap();
        let path = root.path().join("file");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        let mut walk = Walk::new(vec![path]);
        assert!(matches!(walk.nth(1000), Some(Found::Piece(piece)) if piece.offset == 1000 << 22));
    }

    #[test]
    fn walk_passes_over_what_is_no_regular_file() {
        let root = tempdir().unwrap();
        let _listener = UnixListener::bind(root.path().join("socket")).unwrap();
        create_dir(root.path().join("empty")).unwrap();
        assert_eq!(walk([root.path(), Path::new("/dev/null")]), []);
    }

    #[test]
    fn walk_symlinks_below_the_root_are_not_followed() {
        let root = tempdir().unwrap();
        create_dir(root.path().join("directory")).unwrap();
        write(root.path().join("directory/file"), "").unwrap();
        symlink("directory", root.path().join("to-directory")).unwrap();
        symlink("directory/file", root.path().join("to-file")).unwrap();
        symlink("..", root.path().join("directory/loop")).unwrap();
        symlink("nowhere", root.path().join("dangling")).unwrap();
        assert_eq!(found_below(root.path()), [PathBuf::from("directory/file")]);
    }

    #[test]
    fn walk_symlink_as_a_root_is_followed() {
        let root = tempdir().unwrap();
        let real = root.path().canonicalize().unwrap();
        create_dir(real.join("directory")).unwrap();
        write(real.join("directory/file"), "").unwrap();
        let (directory, file) = (real.join("to-directory"), real.join("to-file"));
        symlink("directory", &directory).unwrap();
        symlink("directory/file", &file).unwrap();
        let pieces = pieces([&directory, &file]);
        let paths = pieces.into_iter().map(|piece| piece.path).collect::<Vec<_>>();
        assert_eq!(paths, [directory.join("file"), real.join("directory/file")]);
    }

    #[test]
    fn walk_root_given_twice_counts_twice() {
        let root = tempdir().unwrap();
        write(root.path().join("file"), "").unwrap();
        let pieces = pieces([root.path(), root.path()]);
        assert_eq!(pieces.len(), 2);
        assert_eq!((pieces[0].file, pieces[1].file), (0, 1));
        assert_eq!(pieces[0].path, pieces[1].path);
    }

    #[test]
    fn walk_names_of_any_bytes_stay_as_they_are() {
        let root = tempdir().unwrap();
        let names = [b"\x01\xff\xfe".as_slice(), b"new\nline"].map(OsStr::from_bytes);
        for name in names {
            write(root.path().join(name), "").unwrap();
        }
        assert_eq!(found_below(root.path()), names.map(PathBuf::from));
    }

    #[test]
    fn walk_entries_deleted_meanwhile_are_unreadable() {
        let root = tempdir().unwrap();
        let (a, b, c) = (root.path().join("a"), root.path().join("b"), root.path().join("c"));
        write(&a, "").unwrap();
        create_dir(&b).unwrap();
        write(&c, "").unwrap();
        let mut walk = Walk::new(vec![root.path().to_path_buf()]);
        assert!(matches!(walk.next(), Some(Found::Piece(piece)) if piece.path == a));
        fs::remove_dir(&b).unwrap();
        let Some(Found::Unreadable { path, reason }) = walk.next() else { panic!("{walk:?}") };
        assert_eq!((path, reason.contains("No such file")), (b, true), "{reason}");
        assert!(matches!(walk.next(), Some(Found::Piece(piece)) if piece.path == c));
        assert_eq!(walk.next(), None);
    }

    #[test]
    fn list_directory_that_cannot_be_listed_says_why() {
        let (names, trouble) = list(Path::new("/nowhere/at/all"));
        assert_eq!((names.len(), trouble.unwrap().kind()), (0, io::ErrorKind::NotFound));
    }

    #[test]
    fn walk_path_longer_than_the_kernel_takes_is_unreadable() {
        let root = tempdir().unwrap();
        // Made as two halves of 2.5 kB, then put one below the other.
        let deep = |half: &str| {
            let top = root.path().join(half);
            let bottom = (0..10).fold(top.clone(), |path, _| path.join("d".repeat(250)));
            create_dir_all(&bottom).unwrap();
            write(bottom.join("file"), "").unwrap();
            (top, bottom)
        };
        let ((_, bottom), (top, _)) = (deep("a"), deep("b"));
        rename(top, bottom.join("b")).unwrap();
        let found = walk([root.path()]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found.iter().any(|found| matches!(found, Found::Piece(_))), "{found:?}");
        assert!(found.iter().any(
            |found| matches!(found, Found::Unreadable { reason, .. } if reason.contains("too long"))
        ));
    }
}
