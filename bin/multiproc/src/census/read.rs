//! Reading one piece of a file and counting it.
//!
//! The walk saw a regular file some time ago; anything may stand at its path by now. Opening must
//! neither follow a symlink, wait for the other end of a fifo nor take a terminal, and what was
//! opened is looked at again before a byte is read.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::count::Counts;
use super::piece::Piece;

/// Bytes asked of the kernel at a time: few system calls, and still warm in the second-level cache
/// when they are counted.
const READ_BYTES: usize = 256 << 10;

/// Counts `piece` of its file, all of it or, on an error, nothing.
///
/// Reads at most `piece.length` bytes; a file that shrank has fewer, or none, and that is no error.
/// `buffer` is scratch space: hand in the same one for every piece.
///
/// # Errors
/// What the kernel says to opening or reading the file, or "no longer a regular file".
pub(crate) fn read_piece(piece: &Piece, buffer: &mut Vec<u8>) -> io::Result<Counts> {
    let file = open_regular(&piece.path)?;
    buffer.resize(READ_BYTES, 0);
    let mut counts = Counts::new();
    let mut previous = byte_before(&file, piece.offset)?;
    let end = piece.offset.saturating_add(piece.length);
    let mut at = piece.offset;
    while at < end {
        let wanted = (end - at).min(READ_BYTES as u64) as usize;
        let bytes = read_at(&file, &mut buffer[..wanted], at)?;
        let Some(&last) = bytes.last() else { break };
        counts.add(bytes, previous);
        previous = Some(last);
        at += bytes.len() as u64;
    }
    Ok(counts)
}

/// Opens `path` if it is a regular file and nothing else, without ever waiting.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC)
        .open(path);
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(no_longer_regular()),
        // ELOOP is a symlink, ENXIO a socket or a device that isn't there.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ELOOP | libc::ENXIO)) => {
            Err(no_longer_regular())
        }
        Err(error) => Err(error),
    }
}

fn no_longer_regular() -> io::Error {
    io::Error::other("no longer a regular file")
}

/// The byte right before `offset`, `None` at the start of the file or beyond its end.
fn byte_before(file: &File, offset: u64) -> io::Result<Option<u8>> {
    match offset.checked_sub(1) {
        Some(before) => Ok(read_at(file, &mut [0], before)?.first().copied()),
        None => Ok(None),
    }
}

/// The bytes of `file` from `offset` on, as many as one call gives; none at the end of the file.
fn read_at<'a>(file: &File, buffer: &'a mut [u8], offset: u64) -> io::Result<&'a [u8]> {
    loop {
        match file.read_at(buffer, offset) {
            Ok(len) => return Ok(&buffer[..len]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::census::walk::{Found, Walk};

    fn piece(path: PathBuf, offset: u64, length: u64) -> Piece {
        Piece { file: 0, path, offset, length, size: offset + length }
    }

    fn read(piece: &Piece) -> io::Result<Counts> {
        read_piece(piece, &mut Vec::new())
    }

    /// Words and lines without end, of a period that no block's length is a multiple of.
    fn text(len: usize) -> Vec<u8> {
        b"some words,\tand\nlines \0\xff ".iter().copied().cycle().take(len).collect()
    }

    fn expected(file: &[u8]) -> Counts {
        let mut counts = Counts::new();
        counts.add(file, None);
        counts
    }

    #[test]
    fn read_pieces_of_a_file_sums_up_to_the_whole() {
        let directory = tempfile::tempdir().unwrap();
        let content = text((8 << 20) + 12_345);
        fs::write(directory.path().join("file"), &content).unwrap();
        let mut buffer = Vec::new();
        let mut sum = Counts::new();
        let mut pieces = 0;
        for found in Walk::new(vec![directory.path().to_path_buf()]) {
            let Found::Piece(piece) = found else { panic!("{found:?}") };
            sum += &read_piece(&piece, &mut buffer).unwrap();
            pieces += 1;
        }
        assert_eq!((pieces, sum), (3, expected(&content)));
    }

    #[test]
    fn read_pieces_cut_anywhere_count_each_word_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let content = text(100);
        fs::write(&path, &content).unwrap();
        for border in 0..=100 {
            let mut sum = read(&piece(path.clone(), border, 100 - border)).unwrap();
            sum += &read(&piece(path.clone(), 0, border)).unwrap();
            assert_eq!(sum, expected(&content), "border {border}");
        }
    }

    #[test]
    fn read_empty_file_counts_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let counts = read(&piece(file.path().to_path_buf(), 0, 0)).unwrap();
        assert_eq!(counts, Counts::new());
    }

    #[test]
    fn read_file_that_shrank_counts_what_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "two words").unwrap();
        let counts = read(&piece(path.clone(), 0, 1 << 20)).unwrap();
        assert_eq!((counts.words, counts.bytes), (2, 9));
        assert_eq!(read(&piece(path.clone(), 9, 100)).unwrap(), Counts::new());
        assert_eq!(read(&piece(path, 4096, 100)).unwrap(), Counts::new());
    }

    #[test]
    fn read_file_that_grew_stops_at_the_length() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "one two three").unwrap();
        let counts = read(&piece(path, 0, 7)).unwrap();
        assert_eq!((counts.words, counts.bytes), (2, 7));
    }

    #[test]
    fn read_missing_file_says_so() {
        let error = read(&piece(PathBuf::from("/nowhere/at/all"), 0, 1)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn read_what_took_the_place_of_the_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        fs::write(place("file"), "secret").unwrap();
        symlink(place("file"), place("link")).unwrap();
        fs::create_dir(place("directory")).unwrap();
        let _listener = UnixListener::bind(place("socket")).unwrap();
        assert!(Command::new("mkfifo").arg(place("fifo")).status().unwrap().success());
        let places = ["link", "directory", "socket", "fifo"].map(place);
        for path in places.into_iter().chain([PathBuf::from("/dev/null")]) {
            let error = read_watched(piece(path.clone(), 0, 6)).unwrap_err();
            assert_eq!(error.to_string(), "no longer a regular file", "{path:?}");
        }
    }

    /// Reads in a thread of its own: an open that waits for the writer of a fifo never returns.
    fn read_watched(piece: Piece) -> io::Result<Counts> {
        let (done, result) = mpsc::channel();
        thread::spawn(move || {
            let _ = done.send(read(&piece));
        });
        result.recv_timeout(Duration::from_secs(60)).expect("the read waits")
    }

    #[test]
    fn read_a_smaller_piece_after_a_larger_one_sees_only_its_own_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let (large, small) = (directory.path().join("large"), directory.path().join("small"));
        fs::write(&large, text(READ_BYTES + 10)).unwrap();
        fs::write(&small, "x").unwrap();
        let mut buffer = Vec::new();
        read_piece(&piece(large, 0, READ_BYTES as u64 + 10), &mut buffer).unwrap();
        let counts = read_piece(&piece(small, 0, 1), &mut buffer).unwrap();
        assert_eq!((counts.words, counts.bytes, counts.lines), (1, 1, 0));
    }
}
