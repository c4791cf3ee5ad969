//! How a process says that it is ready: by a message, or by a line.

use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use multiproc_sys::{host, poll, socket};

use crate::core::Place;

/// The longest message that is read; systemd's limit is the same.
const MESSAGE_MAX: usize = 4096;

/// What a process has said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    Ready,
    /// It needs so much more time from now on.
    Extend(Duration),
    /// A line for people.
    Status(String),
}

/// Where it says so.
#[derive(Debug)]
pub(super) enum Ear {
    /// A socket of its own, so that whoever of its tree says it, it is known for whom.
    Socket {
        socket: OwnedFd,
        name: String,
    },
    Pipe(PipeReader),
}

/// The supervisor's end, and the process's.
pub(super) struct Pair {
    pub(super) ear: Ear,
    pub(super) end: Option<Arc<OwnedFd>>,
}

impl Ear {
    /// A socket for a process; nobody can guess its name.
    pub(super) fn socket(place: Place) -> io::Result<Ear> {
        let Place { slot, incarnation } = place;
        let (own, random) = (std::process::id(), host::random()?);
        let name =
            format!("multiproc/{own}/{}.{}.{incarnation}/{random:x}", slot.worker, slot.index);
        let socket = socket::datagram_socket(name.as_bytes())?;
        Ok(Ear::Socket { socket, name: format!("@{name}") })
    }

    /// One that this process had before it executed the program that runs now.
    pub(super) fn resume(descriptor: OwnedFd, name: Option<String>) -> Ear {
        match name {
            Some(name) => Ear::Socket { socket: descriptor, name },
            None => Ear::Pipe(descriptor.into()),
        }
    }

    /// What a process knows it by, if it is a socket.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Ear::Socket { name, .. } => Some(name.clone()),
            Ear::Pipe(_) => None,
        }
    }

    /// A pipe for a process, and the end that it gets.
    pub(super) fn pipe() -> io::Result<Pair> {
        let (reader, writer): (PipeReader, PipeWriter) = io::pipe()?;
        socket::never_block(&reader)?;
        Ok(Pair { ear: Ear::Pipe(reader), end: Some(Arc::new(writer.into())) })
    }

    /// What has been said; whoever is neither this process's user nor root nor `user` is not heard. The
    /// second value is whether there is nothing more to be heard.
    pub(super) fn hear(&self, user: Option<u32>) -> (Vec<Said>, bool) {
        let mut buffer = [0; MESSAGE_MAX];
        match self {
            Ear::Socket { socket, .. } => {
                let mut said = Vec::new();
                while let Ok(Some((len, sender))) = socket::receive_from_user(socket, &mut buffer) {
                    let known = [Some(host::effective_user()), Some(0), user];
                    if sender.is_some() && known.contains(&sender) {
                        said.extend(understood(&buffer[..len]));
                    }
                }
                (said, false)
            }
            Ear::Pipe(pipe) => match poll::receive_some(pipe.as_fd(), &mut buffer) {
                Ok(None) => (Vec::new(), false),
                Ok(Some(len)) if buffer[..len].contains(&b'\n') => (vec![Said::Ready], true),
                Ok(Some(len)) => (Vec::new(), len == 0),
                Err(_) => (Vec::new(), true),
            },
        }
    }
}

impl AsFd for Ear {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Ear::Socket { socket, .. } => socket.as_fd(),
            Ear::Pipe(pipe) => pipe.as_fd(),
        }
    }
}

/// What a message of `sd_notify` says, as far as it is of interest.
fn understood(message: &[u8]) -> Vec<Said> {
    let text = String::from_utf8_lossy(message);
    let each = text.lines().filter_map(|line| match line.split_once('=')? {
        ("READY", "1") => Some(Said::Ready),
        ("EXTEND_TIMEOUT_USEC", micros) => {
            Some(Said::Extend(Duration::from_micros(micros.parse().ok()?)))
        }
        ("STATUS", status) => Some(Said::Status(status.into())),
        _ => None,
    });
    each.collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    use super::*;
    use crate::core::SlotId;

    #[test]
    fn message_is_understood_line_by_line() {
        let said = understood(b"STATUS=warm\nREADY=1\nEXTEND_TIMEOUT_USEC=2000000\nREADY=0\nX\n");
        let two = Duration::from_secs(2);
        assert_eq!(said, [Said::Status("warm".into()), Said::Ready, Said::Extend(two)]);
        assert_eq!(understood(b"EXTEND_TIMEOUT_USEC=-1\n\xff=1"), []);
    }

    #[test]
    fn socket_hears_messages_and_does_not_wait() {
        let place = Place { slot: SlotId { worker: 1, index: 2 }, incarnation: 3 };
        let ear = Ear::socket(place).unwrap();
        assert_eq!(ear.hear(None), (vec![], false));
        let Ear::Socket { name, .. } = &ear else { unreachable!() };
        let address = SocketAddr::from_abstract_name(&name.as_bytes()[1..]).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.send_to_addr(b"READY=1", &address).unwrap();
        assert_eq!(ear.hear(None), (vec![Said::Ready], false));
    }

    #[test]
    fn pipe_hears_a_line_or_that_it_was_closed() {
        let Pair { ear, end } = Ear::pipe().unwrap();
        assert_eq!(ear.hear(None), (vec![], false));
        let mut writer = PipeWriter::from(Arc::into_inner(end.unwrap()).unwrap());
        writer.write_all(b"rea").unwrap();
        assert_eq!(ear.hear(None), (vec![], false));
        writer.write_all(b"dy\n").unwrap();
        assert_eq!(ear.hear(None), (vec![Said::Ready], true));
        drop(writer);
        assert_eq!(ear.hear(None), (vec![], true));
    }
}
