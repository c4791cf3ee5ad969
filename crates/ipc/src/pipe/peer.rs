//! Who is at the other end, and who is let in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use multiproc_sys::{host, socket};

use super::address::Address;

/// Who was at the other end of a [`Pipe`](crate::Pipe) when the connection was made, by the kernel's
/// word.
#[derive(Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Its process; `None` if it is in another pid namespace. It may have ended since, and another one
    /// may have the number: a signal goes through the pidfd.
    pub pid: Option<u32>,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
    /// A descriptor of the process itself, from Linux 6.5 on, as long as it lives.
    pub pidfd: Option<OwnedFd>,
}

impl Peer {
    pub(super) fn of(stream: impl AsFd) -> io::Result<Peer> {
        let pidfd = socket::peer_pidfd(&stream);
        let socket::Credentials { pid, uid, gid } = socket::peer(stream)?;
        Ok(Peer { pid: Some(pid).filter(|pid| *pid != 0), uid, gid, pidfd })
    }
}

/// Of which users the processes may be that a [`Listener`](crate::Listener) lets in, or that a
/// [`Client`](crate::Client) talks to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Users {
    /// The user of this process.
    Same,
    /// These, by their numbers.
    These(Vec<u32>),
    /// All who can reach the address.
    Any,
}

impl Users {
    /// Makes sure that who is at the other end of `stream` is one of them.
    pub(super) fn check(&self, stream: impl AsFd, address: &Address) -> Result<(), ConnectError> {
        let peer = socket::peer(stream);
        let peer = peer.map_err(ConnectError::system(address, "asking who is there"))?;
        let is_one = match self {
            Users::Same => peer.uid == host::effective_user(),
            Users::These(users) => users.contains(&peer.uid),
            Users::Any => true,
        };
        if is_one {
            return Ok(());
        }
        Err(ConnectError::OtherUser { address: address.clone(), uid: peer.uid, pid: peer.pid })
    }
}

/// Why a [`Listener`](crate::Listener) or a [`Client`](crate::Client) came to no connection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Somebody listens there already.
    #[error(
        "{address} is in use: another listener is alive there; stop it, or choose another address"
    )]
    InUse {
        /// Where that is.
        address: Address,
    },
    /// Something is there that is no socket, and is not touched.
    #[error("{address} is something else than a socket: remove it, or choose another address")]
    Occupied {
        /// Where that is.
        address: Address,
    },
    /// Nobody listens there.
    #[error("nobody listens at {address}: start the listener first")]
    NobodyListens {
        /// Where that is.
        address: Address,
    },
    /// Nobody came, or there was no answer, until the deadline.
    #[error("nothing came of it at {address} until the deadline")]
    Timeout {
        /// Where that is.
        address: Address,
    },
    /// One side does not know the key of the other.
    #[error("authentication at {address} failed: both sides need the same key")]
    AuthenticationFailed {
        /// Where that is.
        address: Address,
    },
    /// Whoever listens there closed the connection before it was one.
    #[error(
        "the listener at {address} closed the connection: it is gone, or does not let this user in"
    )]
    Refused {
        /// Where that is.
        address: Address,
    },
    /// The process at the other end is of a user that is not let in, or not trusted.
    #[error(
        "process {pid} at the other end of {address} is of user {uid}: to let that one in, say so \
         with `users`"
    )]
    OtherUser {
        /// Where that is.
        address: Address,
        /// Whose process it is.
        uid: u32,
        /// Its number; 0 if it is in another pid namespace.
        pid: u32,
    },
    /// The kernel refused.
    #[error("{address}: {doing}: {source}")]
    System {
        /// Where that is.
        address: Address,
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ConnectError {
    /// For `map_err`: the kernel refused while we were `doing` something.
    pub(super) fn system(
        address: &Address,
        doing: &'static str,
    ) -> impl FnOnce(io::Error) -> ConnectError {
        move |source| ConnectError::System { address: address.clone(), doing, source }
    }
}
