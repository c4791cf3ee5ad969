//! Sockets that are opened once, and shared by all processes of a worker.

use std::fmt;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// The longest path that the kernel takes, in bytes.
const PATH_MAX: usize = 107;

/// Where a socket listens.
///
/// ```
/// use multiproc_supervisor::Address;
///
/// let address: Address = "tcp://127.0.0.1:8000".parse()?;
/// assert_eq!(address.to_string(), "tcp://127.0.0.1:8000");
/// assert!("8000".parse::<Address>().is_err());
/// # Ok::<(), multiproc_supervisor::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A TCP port, of one of this machine's addresses or names.
    Tcp(String),
    /// A path in the file system. What a dead process has left there is removed.
    Unix(PathBuf),
}

/// Why a text is no [`Address`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no address: write \"tcp://127.0.0.1:8000\" or \"unix:///run/it.sock\"")]
pub struct AddressError(String);

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        let error = || AddressError(text.into());
        match text.split_once("://") {
            Some(("tcp", place)) => {
                let (host, port) = place.rsplit_once(':').ok_or_else(error)?;
                match !host.is_empty() && port.parse::<u16>().is_ok() {
                    true => Ok(Address::Tcp(place.into())),
                    false => Err(error()),
                }
            }
            Some(("unix", path)) if path.starts_with('/') && path.len() <= PATH_MAX => {
                Ok(Address::Unix(path.into()))
            }
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(place) => write!(formatter, "tcp://{place}"),
            Address::Unix(path) => write!(formatter, "unix://{}", path.display()),
        }
    }
}

impl Address {
    /// Listens there.
    fn listen(&self) -> io::Result<OwnedFd> {
        match self {
            Address::Tcp(place) => {
                let addresses: Vec<SocketAddr> = place.to_socket_addrs()?.collect();
                Ok(TcpListener::bind(&addresses[..])?.into())
            }
            Address::Unix(path) => match UnixListener::bind(path) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && is_dead(path) => {
                    fs::remove_file(path)?;
                    Ok(UnixListener::bind(path)?.into())
                }
                bound => Ok(bound?.into()),
            },
        }
    }

    /// Takes away what listening has left in the file system.
    fn forget(&self) {
        if let Address::Unix(path) = self
            && is_socket(path)
        {
            let _ = fs::remove_file(path);
        }
    }
}

/// A socket that listens, until this is dropped. A name in the file system goes with it.
#[derive(Debug)]
pub(crate) struct Listening {
    address: Address,
    socket: Arc<OwnedFd>,
}

impl Listening {
    pub(crate) fn at(address: &Address) -> io::Result<Listening> {
        Ok(Listening { socket: Arc::new(address.listen()?), address: address.clone() })
    }

    /// One that this process had before it executed the program that runs now.
    pub(crate) fn resume(address: Address, socket: OwnedFd) -> Listening {
        Listening { address, socket: Arc::new(socket) }
    }

    pub(crate) fn socket(&self) -> Arc<OwnedFd> {
        self.socket.clone()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.address.forget();
    }
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Whether there is a socket at which nobody listens.
fn is_dead(path: &Path) -> bool {
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    is_socket(path) && UnixStream::connect(path).is_err_and(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_without_a_scheme_a_host_or_a_port_is_refused() {
        for wrong in
            ["", "8000", "tcp://", "tcp://:80", "tcp://a", "tcp://a:b", "unix://x", "udp://a:1"]
        {
            let error = wrong.parse::<Address>().unwrap_err();
            assert!(error.to_string().contains("tcp://127.0.0.1:8000"), "{error}");
        }
        for right in ["tcp://127.0.0.1:0", "tcp://[::1]:80", "tcp://localhost:8000", "unix:///a"] {
            assert_eq!(right.parse::<Address>().unwrap().to_string(), right);
        }
    }

    #[test]
    fn socket_of_the_dead_is_taken_over_and_of_the_living_not() {
        let path = std::env::temp_dir().join(format!("multiproc-socket-{}", std::process::id()));
        let address = Address::Unix(path);
        let first = address.listen().unwrap();
        assert_eq!(address.listen().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(address.listen().unwrap());
        address.forget();
        address.forget();
    }
}
