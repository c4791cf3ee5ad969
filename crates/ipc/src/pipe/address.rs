//! Where a listener is found.

use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use multiproc_sys::socket::SocketAddrUnix;

/// Bytes of a path, or of an abstract name, at most: the kernel has place for one more.
const BYTES: usize = 107;

/// Where a [`Listener`](crate::Listener) is found: at the path of a socket file, or by a name that is in
/// no file system.
///
/// As text, a name begins with `@`, and everything else is a path: `@jobs`, `/run/jobs.sock`. A file
/// called `@jobs` is `./@jobs`.
///
/// A path has the permissions of its directory and of the file. An *abstract* name is gone with its
/// listener, and can be used, and taken, by every process of the same network namespace.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Address;
///
/// let address: Address = "/run/user/1000/jobs.sock".parse()?;
/// assert_eq!(address, Address::path("/run/user/1000/jobs.sock")?);
/// assert_eq!(Address::abstract_name("jobs")?.to_string(), "@jobs");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address(Place);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Place {
    Path(PathBuf),
    Abstract(Vec<u8>),
}

/// Why something is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is nothing in it.
    #[error("an address is a path, or '@' and a name, and neither is empty")]
    Empty,
    /// The kernel has no place for it.
    #[error(
        "the address {address:?} has {bytes} bytes, of which the kernel takes {BYTES}: choose a \
         shorter path, or a name that begins with '@'"
    )]
    TooLong {
        /// What it would be.
        address: String,
        /// Bytes that it has.
        bytes: usize,
    },
    /// There is a zero byte in a path.
    #[error("the address {0:?} has a zero byte in it")]
    Zero(String),
}

impl Address {
    /// A socket file. A relative path is one from the current directory, whenever it is used.
    ///
    /// # Errors
    /// When it is empty, longer than 107 bytes, or has a zero byte in it.
    pub fn path(path: impl AsRef<Path>) -> Result<Address, AddressError> {
        let path = path.as_ref();
        let bytes = path.as_os_str().as_bytes();
        check(bytes, || path.display().to_string())?;
        if bytes.contains(&0) {
            return Err(AddressError::Zero(path.display().to_string()));
        }
        Ok(Address(Place::Path(path.to_owned())))
    }

    /// A name that is in no file system.
    ///
    /// # Errors
    /// When it is empty, or longer than 107 bytes.
    pub fn abstract_name(name: impl AsRef<[u8]>) -> Result<Address, AddressError> {
        let name = name.as_ref();
        check(name, || format!("@{}", name.escape_ascii()))?;
        Ok(Address(Place::Abstract(name.to_owned())))
    }

    /// The path, if it is one.
    pub fn as_path(&self) -> Option<&Path> {
        match &self.0 {
            Place::Path(path) => Some(path),
            Place::Abstract(_) => None,
        }
    }

    /// As the kernel wants it.
    pub(super) fn to_kernel(&self) -> std::io::Result<SocketAddrUnix> {
        Ok(match &self.0 {
            Place::Path(path) => SocketAddrUnix::new(path)?,
            Place::Abstract(name) => SocketAddrUnix::new_abstract_name(name)?,
        })
    }
}

fn check(bytes: &[u8], text: impl FnOnce() -> String) -> Result<(), AddressError> {
    match bytes.len() {
        0 => Err(AddressError::Empty),
        1..=BYTES => Ok(()),
        bytes => Err(AddressError::TooLong { address: text(), bytes }),
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        match text.strip_prefix('@') {
            Some(name) => Address::abstract_name(name),
            None => Address::path(text),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            // Or it would be read as a name.
            Place::Path(path) if path.as_os_str().as_bytes().starts_with(b"@") => {
                write!(formatter, "./{}", path.display())
            }
            Place::Path(path) => path.display().fmt(formatter),
            Place::Abstract(name) => match std::str::from_utf8(name) {
                Ok(name) => write!(formatter, "@{name}"),
                Err(_) => write!(formatter, "@{}", name.escape_ascii()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_written_and_read_is_the_same() {
        for text in ["@jobs", "/run/jobs", "jobs.sock", "./@jobs", "@/run", "@\u{e4}"] {
            let address: Address = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(address.as_path().is_none(), text.starts_with('@'), "{text}");
        }
        let odd = Address::path("@jobs").unwrap();
        assert_eq!(odd.to_string(), "./@jobs");
    }

    #[test]
    fn address_that_the_kernel_cannot_take_is_an_error() {
        for text in ["", "@"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError::Empty));
        }
        for first in ['/', '@'] {
            let longest = format!("{first}{}", "x".repeat(106 + usize::from(first == '@')));
            longest.parse::<Address>().unwrap().to_kernel().unwrap();
            let error = format!("{longest}x").parse::<Address>().unwrap_err();
            assert!(matches!(error, AddressError::TooLong { bytes: 108, .. }), "{error}");
        }
        assert!(matches!(Address::path("a\0b"), Err(AddressError::Zero(_))));
    }
}
