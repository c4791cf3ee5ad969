//! Trees of files, and a count of them that is too simple to be wrong.

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::Random;

/// How long the census's pieces of a file are.
pub(crate) const PIECE: usize = 4 << 20;

/// What a census ought to find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    files: u64,
    bytes: u64,
    lines: u64,
    words: u64,
    histogram: Vec<u64>,
    largest: Vec<(String, u64)>,
}

impl Counted {
    /// Counts what is below some directories, a file and a byte at a time.
    pub(crate) fn below(roots: &[PathBuf]) -> Counted {
        let mut counted = Counted::nothing();
        roots.iter().for_each(|root| counted.add_directory(root));
        counted.largest.sort_by_key(|(path, bytes)| (Reverse(*bytes), path.clone()));
        counted.largest.truncate(10);
        counted
    }

    pub(crate) fn nothing() -> Counted {
        let histogram = vec![0; 256];
        Counted { files: 0, bytes: 0, lines: 0, words: 0, histogram, largest: Vec::new() }
    }

    fn add_directory(&mut self, directory: &Path) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            if metadata.is_dir() {
                self.add_directory(&path);
            } else if metadata.is_file() {
                self.add_file(&path);
            }
        }
    }

    fn add_file(&mut self, path: &Path) {
        let content = fs::read(path).unwrap();
        let mut in_word = false;
        for &byte in &content {
            let space = matches!(byte, b' ' | 9..=13);
            self.words += u64::from(in_word && space);
            in_word = !space;
            self.histogram[usize::from(byte)] += 1;
        }
        self.words += u64::from(in_word);
        self.lines += content.iter().filter(|byte| **byte == b'\n').count() as u64;
        self.bytes += content.len() as u64;
        self.files += 1;
        self.largest.push((escaped(path), content.len() as u64));
    }

    /// What the census printed as JSON.
    pub(crate) fn read(report: &Value) -> Counted {
        let number = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key}: {report}"));
        let list = |key: &str| report[key].as_array().unwrap().iter();
        Counted {
            files: number("files"),
            bytes: number("bytes"),
            lines: number("lines"),
            words: number("words"),
            histogram: list("histogram").map(|count| count.as_u64().unwrap()).collect(),
            largest: list("largest")
                .map(|file| {
                    (file["path"].as_str().unwrap().into(), file["bytes"].as_u64().unwrap())
                })
                .collect(),
        }
    }

    /// The same without the list of the largest files.
    pub(crate) fn numbers(mut self) -> Counted {
        self.largest.clear();
        self
    }

    /// The same, each file found `times` times, without the list of the largest files.
    pub(crate) fn times(mut self, times: u64) -> Counted {
        let numbers = [&mut self.files, &mut self.bytes, &mut self.lines, &mut self.words];
        numbers.into_iter().chain(&mut self.histogram).for_each(|number| *number *= times);
        self.numbers()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// How reports write a path: bytes that are no UTF-8 in hexadecimal.
fn escaped(path: &Path) -> String {
    let chunks = path.as_os_str().as_bytes().utf8_chunks();
    chunks
        .map(|chunk| {
            let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
            chunk.valid().to_owned() + &invalid.collect::<String>()
        })
        .collect()
}

/// Names that have led programs astray.
pub(crate) const HOSTILE: [&[u8]; 7] = [
    b"new\nline",
    b"not\xff\xfeutf8",
    b"\x1b[2J\x1b]0;owned\x07",
    b"back\x08\rspace\x7f",
    b"-rf",
    b"\xe2\x80\xaegnp.exe", // from right to left
    b" ",
];

/// A path that ends in any bytes.
pub(crate) fn named(directory: &Path, name: &[u8]) -> PathBuf {
    directory.join(OsStr::from_bytes(name))
}

/// Makes a tree of about `files` small files in directories of 100, and what is no file.
pub(crate) fn plant(root: &Path, files: usize, random: &mut Random) {
    let soil = text(64 << 10, random);
    for number in 0..files {
        let directory = root.join(format!("d{}/d{}", number / 1000, number / 100));
        if number % 100 == 0 {
            fs::create_dir_all(&directory).unwrap();
        }
        let bytes = match number % 10 {
            0 => 0,
            1 => 1,
            _ => random.below(8 << 10) as usize,
        };
        let from = random.below((soil.len() - bytes) as u64) as usize;
        fs::write(directory.join(format!("f{number}")), &soil[from..from + bytes]).unwrap();
    }
    let odd = root.join("odd");
    fs::create_dir_all(odd.join("empty")).unwrap();
    for (number, name) in HOSTILE.into_iter().enumerate() {
        fs::write(named(&odd, name), &soil[..100 + number]).unwrap();
    }
    fs::write(odd.join("x".repeat(255)), "a long name\n").unwrap();
    fs::hard_link(odd.join("-rf"), odd.join("hard link")).unwrap();
    symlink("-rf", odd.join("link to a file")).unwrap();
    symlink("..", odd.join("link to a directory above")).unwrap();
    symlink("nowhere", odd.join("dangling link")).unwrap();
    make_fifo(&odd.join("fifo"));
    UnixListener::bind(odd.join("socket")).unwrap();
}

/// Adds files of several pieces, with borders within words, right before one, and right behind one.
pub(crate) fn plant_large(root: &Path, random: &mut Random) {
    let directory = root.join("large");
    fs::create_dir(&directory).unwrap();
    let soil = text(2 * PIECE + 12_345, random);
    for bytes in [PIECE + 1, 2 * PIECE + 12_345] {
        let mut content = soil[..bytes].to_vec();
        for border in (PIECE..bytes).step_by(PIECE) {
            content[border - 3..(border + 3).min(bytes)].fill(b'w');
        }
        fs::write(directory.join(format!("within words {bytes}")), &content).unwrap();
    }
    let mut content = vec![b'x'; 2 * PIECE + 10];
    content[PIECE - 1] = b' ';
    content[2 * PIECE] = b'\n';
    fs::write(directory.join("around words"), &content).unwrap();
}

/// Words, spaces of all kinds, and bytes that are no text.
pub(crate) fn text(bytes: usize, random: &mut Random) -> Vec<u8> {
    let numbers = std::iter::repeat_with(|| random.number().to_le_bytes());
    let any = numbers.flatten().map(|byte| match byte {
        0..40 => b' ',
        40..50 => b'\n',
        50..60 => b'\t' + byte % 5,
        60..200 => b'a' + byte % 26,
        _ => byte,
    });
    any.take(bytes).collect()
}

pub(crate) fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg("--").arg(path).status().unwrap().success());
}

/// A file that is long, and takes no room.
pub(crate) fn make_sparse(path: &Path, bytes: u64) {
    File::create(path).unwrap().set_len(bytes).unwrap();
}
