//! Facts about this machine and this process that outlive no reboot.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The kernel's identity since it was booted: memory that names another one is not ours.
pub fn boot_id() -> io::Result<[u8; 16]> {
    static KNOWN: OnceLock<[u8; 16]> = OnceLock::new();
    if let Some(known) = KNOWN.get() {
        return Ok(*known);
    }
    let read = read_boot_id()?;
    Ok(*KNOWN.get_or_init(|| read))
}

fn read_boot_id() -> io::Result<[u8; 16]> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: Vec<u8> = text
        .bytes()
        .filter_map(|digit| (digit as char).to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    let mut id = [0; 16];
    if digits.len() != 2 * id.len() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the boot id is not a UUID"));
    }
    for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
        *byte = pair[0] << 4 | pair[1];
    }
    Ok(id)
}

/// The inode of the pid namespace in which this process has its number.
pub fn pid_namespace() -> io::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/pid")?.ino())
}

/// A number that nobody else has drawn.
pub fn random() -> io::Result<u64> {
    random_bytes().map(u64::from_ne_bytes)
}

/// Bytes that nobody can guess.
pub fn random_bytes<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(bytes)
}

/// This process's number.
pub fn pid() -> u32 {
    std::process::id()
}

/// The real user who runs this process.
pub fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// The user in whose name this process acts.
pub fn effective_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// How many ticks a second has, by which the kernel tells times in `/proc`.
pub fn clock_ticks() -> u64 {
    rustix::param::clock_ticks_per_second()
}

/// Bytes in a page of memory.
pub fn page_size() -> usize {
    rustix::param::page_size()
}

/// How many processors the machine has: this process may be kept to one while its peers run on others.
/// Two if the kernel doesn't tell.
pub fn processors_online() -> usize {
    let ranges = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    count_of_ranges(&ranges).unwrap_or(2)
}

/// How many numbers there are in `0-3,5,7-8`.
fn count_of_ranges(ranges: &str) -> Option<usize> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        Some(last.checked_sub(first)? + 1)
    };
    ranges.trim().split(',').map(count).sum()
}

/// How many processors this process may run on.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// An extended attribute of a file, of 64 bytes at most; `None` if it has none of this name.
pub fn attribute(path: &std::path::Path, name: &std::ffi::CStr) -> Option<Vec<u8>> {
    let mut value = [0; 64];
    let length = rustix::fs::getxattr(path, name, &mut value[..]).ok()?;
    value.get(..length).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boot_id_read_twice_is_the_same() {
        assert_eq!(boot_id().unwrap(), boot_id().unwrap());
        assert_ne!(boot_id().unwrap(), [0; 16]);
    }

    #[test]
    fn random_drawn_twice_differs() {
        assert_ne!(random().unwrap(), random().unwrap());
    }

    #[test]
    fn count_of_ranges_counts_both_ends_of_each() {
        assert_eq!(count_of_ranges("0\n"), Some(1));
        assert_eq!(count_of_ranges("0-3,5,7-8\n"), Some(7));
        for wrong in ["", "3-1", "0-", "all"] {
            assert_eq!(count_of_ranges(wrong), None, "{wrong}");
        }
        assert!(processors_online() >= processors());
    }
}
