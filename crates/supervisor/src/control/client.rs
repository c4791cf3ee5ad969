//! The operator's end of the control socket.

use std::io::{self, IoSlice};
use std::os::fd::OwnedFd;
use std::path::Path;

use multiproc_sys::clock::Deadline;
use multiproc_sys::{host, poll, socket};

use super::lines::{Lines, TooLong};
use super::protocol::{ErrorCode, ProtocolError, Reply, Request, decode, encode};

/// Why a supervisor could not be asked, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no supervisor listens there")]
    NoInstance,
    /// The kernel does not let us.
    #[error("the control socket may not be opened: {0}")]
    Refused(io::Error),
    /// Another user's process listens there.
    #[error("process {pid} of user {uid} listens there, which is not ours")]
    NotOurs {
        /// The process.
        pid: u32,
        /// Its user.
        uid: u32,
    },
    /// It says something else.
    #[error("the answer: {0}")]
    Protocol(#[from] ProtocolError),
    /// It says too much.
    #[error("the answer: {0}")]
    TooLong(#[from] TooLong),
    /// It has ended, or closed the connection, in the middle of an answer.
    #[error("the supervisor closed the connection before it had answered")]
    Closed,
    /// The deadline has passed.
    #[error("no answer in time")]
    TimedOut,
    /// It does not do what it was asked.
    #[error("{message}")]
    Answered {
        /// What was wrong, for programs.
        code: ErrorCode,
        /// What was wrong, for people.
        message: String,
    },
    /// The kernel refused something else.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

fn system(doing: &'static str) -> impl FnOnce(io::Error) -> ClientError {
    move |source| ClientError::System { doing, source }
}

/// A connection to a supervisor of this user, good for one request.
///
/// ```no_run
/// use multiproc_supervisor::control::client::Client;
/// use multiproc_supervisor::control::protocol::{Reply, Request};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::connect("/run/user/1000/multiproc/web.sock".as_ref(), None)?;
/// let mut replies = client.ask(&Request::Status { targets: vec!["all".into()] }, None)?;
/// while let Some(reply) = replies.next(None)? {
///     if let Reply::Slot(slot) = reply {
///         println!("{}:{} is {}", slot.worker, slot.slot, slot.state);
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Client {
    stream: OwnedFd,
}

impl Client {
    /// Connects to the supervisor that listens at `path`. Blocks until it has room for one more who
    /// asks, or until the deadline.
    ///
    /// # Errors
    /// When nobody listens there, or not this user.
    pub fn connect(path: &Path, deadline: Option<Deadline>) -> Result<Client, ClientError> {
        let address = socket::SocketAddrUnix::new(path)
            .map_err(|error| system("naming the control socket")(error.into()))?;
        let stream = socket::stream_socket().map_err(system("making a socket"))?;
        match socket::connect(&stream, &address, deadline) {
            Ok(true) => {}
            Ok(false) => return Err(ClientError::TimedOut),
            // The file of one that was killed is still there.
            Err(error) => {
                return Err(match error.kind() {
                    io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                        ClientError::NoInstance
                    }
                    io::ErrorKind::PermissionDenied => ClientError::Refused(error),
                    _ => system("connecting to the supervisor")(error),
                });
            }
        }
        let peer = socket::peer(&stream).map_err(system("asking who listens"))?;
        if peer.uid != host::effective_user() {
            return Err(ClientError::NotOurs { pid: peer.pid, uid: peer.uid });
        }
        Ok(Client { stream })
    }

    /// Sends the request. Blocks until it is sent, or until the deadline.
    ///
    /// # Errors
    /// When it is too long, or the supervisor does not take it.
    pub fn ask(
        self,
        request: &Request,
        deadline: Option<Deadline>,
    ) -> Result<Replies, ClientError> {
        let line = encode(request)?;
        let mut rest = &line[..];
        while !rest.is_empty() {
            if !poll::writable(&self.stream, deadline).map_err(system("waiting"))? {
                return Err(ClientError::TimedOut);
            }
            match socket::send(&self.stream, &[IoSlice::new(rest)], &[], false) {
                Ok(sent) => rest = &rest[sent.unwrap_or(0)..],
                // It does not take requests now, and may have said why.
                Err(error) if is_end(&error) => break,
                Err(error) => return Err(system("sending the request")(error)),
            }
        }
        Ok(Replies { stream: self.stream, lines: Lines::default(), over: false })
    }
}

fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What a supervisor answers to one request.
#[derive(Debug)]
pub struct Replies {
    stream: OwnedFd,
    lines: Lines,
    over: bool,
}

impl Replies {
    /// The next reply; the last one is a [`Reply::Done`], and behind it there is `None`. Blocks until
    /// it comes, or until the deadline.
    ///
    /// # Errors
    /// [`Answered`](ClientError::Answered) if it was an error, and when the connection breaks. No
    /// replies follow.
    pub fn next(&mut self, deadline: Option<Deadline>) -> Result<Option<Reply>, ClientError> {
        if self.over {
            return Ok(None);
        }
        let reply = self.receive(deadline);
        self.over = reply.as_ref().map_or(true, Reply::is_last);
        match reply? {
            Reply::Error { code, message } => Err(ClientError::Answered { code, message }),
            reply => Ok(Some(reply)),
        }
    }

    fn receive(&mut self, deadline: Option<Deadline>) -> Result<Reply, ClientError> {
        loop {
            if let Some(line) = self.lines.take()? {
                return Ok(decode(&line)?);
            }
            if !poll::readable(&self.stream, deadline).map_err(system("waiting"))? {
                return Err(ClientError::TimedOut);
            }
            let mut buffer = [0; 4096];
            match socket::receive(&self.stream, &mut buffer, false) {
                Ok(None) => {}
                Ok(Some(0)) => return Err(ClientError::Closed),
                Ok(Some(count)) => self.lines.push(&buffer[..count]),
                Err(error) if is_end(&error) => return Err(ClientError::Closed),
                Err(error) => return Err(system("reading the answer")(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::Shutdown;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::thread::{self, JoinHandle};
    use std::time::Duration;

    use tempfile::TempDir;

    use super::super::lines::LINE_MAX;
    use super::super::protocol::{EventLine, Outcome};
    use super::*;

    const REQUEST: Request = Request::Shutdown { now: false };

    fn soon() -> Option<Deadline> {
        Some(Deadline::after(Duration::from_secs(20)))
    }

    /// A supervisor that answers whatever it is asked with these bytes, each part as one write, and
    /// then hangs up. Joined, it gives what it was asked.
    struct Fake {
        directory: TempDir,
        thread: JoinHandle<Vec<u8>>,
    }

    impl Fake {
        fn answering(parts: Vec<Vec<u8>>) -> Fake {
            let directory = tempfile::tempdir().unwrap();
            let listener = UnixListener::bind(directory.path().join("it.sock")).unwrap();
            let thread = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut asked = vec![0; LINE_MAX];
                let mut length = 0;
                while !asked[..length].ends_with(b"\n") {
                    length += stream.read(&mut asked[length..]).unwrap();
                }
                for part in parts {
                    // Who has read enough has gone.
                    let _ = stream.write_all(&part);
                }
                let _ = stream.shutdown(Shutdown::Both);
                asked.truncate(length);
                asked
            });
            Fake { directory, thread }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("it.sock")
        }

        fn ask(&self) -> Replies {
            Client::connect(&self.path(), soon()).unwrap().ask(&REQUEST, soon()).unwrap()
        }

        fn asked(self) -> Vec<u8> {
            self.thread.join().unwrap()
        }
    }

    fn event(number: u64) -> Reply {
        Reply::Event(EventLine {
            time_ms: number,
            kind: "started".into(),
            target: None,
            pid: None,
            incarnation: None,
            exit_code: None,
            text: "x".repeat(1000),
        })
    }

    fn done() -> Reply {
        Reply::Done { ok: true, message: None }
    }

    #[test]
    fn replies_come_in_order_however_the_stream_was_cut() {
        let replies: Vec<Reply> = (0..20).map(event).chain([done()]).collect();
        let bytes: Vec<u8> = replies.iter().flat_map(|reply| encode(reply).unwrap()).collect();
        for size in [7, 1000, 5000, bytes.len()] {
            let fake = Fake::answering(bytes.chunks(size).map(Vec::from).collect());
            let mut answer = fake.ask();
            for reply in &replies {
                assert_eq!(answer.next(soon()).unwrap().as_ref(), Some(reply));
            }
            assert_eq!(answer.next(soon()).unwrap(), None);
            assert_eq!(fake.asked(), encode(&REQUEST).unwrap());
        }
    }

    #[test]
    fn answer_that_is_an_error_is_one() {
        let message = "nothing is named \"x\"".to_string();
        let error = Reply::Error { code: ErrorCode::NoTarget, message: message.clone() };
        let fake = Fake::answering(vec![encode(&error).unwrap()]);
        let mut answer = fake.ask();
        let error = answer.next(soon()).unwrap_err();
        assert!(matches!(error, ClientError::Answered { code: ErrorCode::NoTarget, .. }));
        assert_eq!(error.to_string(), message);
        assert_eq!(answer.next(soon()).unwrap(), None);
        fake.asked();
    }

    #[test]
    fn answer_cut_off_is_told_from_one_that_is_whole() {
        let outcome = Reply::Target(Outcome {
            target: "web:0".into(),
            ok: true,
            state: "ready".into(),
            message: None,
        });
        let (whole, half) = (encode(&outcome).unwrap(), encode(&done()).unwrap()[..20].to_vec());
        let fake = Fake::answering(vec![whole, half]);
        let mut answer = fake.ask();
        assert_eq!(answer.next(soon()).unwrap(), Some(outcome));
        assert!(matches!(answer.next(soon()), Err(ClientError::Closed)));
        assert_eq!(answer.next(soon()).unwrap(), None);
        fake.asked();
    }

    #[test]
    fn answer_that_is_nonsense_is_refused() {
        let nonsense = |bytes: &[u8]| {
            let fake = Fake::answering(vec![bytes.to_vec()]);
            let error = fake.ask().next(soon()).unwrap_err();
            fake.asked();
            error
        };
        assert!(matches!(nonsense(b"hello\n"), ClientError::Protocol(_)));
        assert!(matches!(nonsense(&[b'x'; 2 * LINE_MAX]), ClientError::TooLong(_)));
        let other = nonsense(b"{\"version\":2,\"reply\":\"done\",\"ok\":true}\n");
        assert_eq!(other.to_string(), "the answer: version 2 of the protocol, where 1 is spoken");
    }

    #[test]
    fn answer_that_does_not_come_is_not_waited_for_beyond_the_deadline() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let _silent = UnixListener::bind(&path).unwrap();
        let mut answer = Client::connect(&path, soon()).unwrap().ask(&REQUEST, soon()).unwrap();
        let deadline = Some(Deadline::after(Duration::from_millis(20)));
        assert!(matches!(answer.next(deadline), Err(ClientError::TimedOut)));
    }

    #[test]
    fn socket_of_nobody_is_no_instance() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("it.sock");
        let connect = || Client::connect(&path, soon()).map(drop);
        assert!(matches!(connect(), Err(ClientError::NoInstance)));
        drop(UnixListener::bind(&path).unwrap());
        assert!(matches!(connect(), Err(ClientError::NoInstance)), "the file alone is nobody");
        let long = directory.path().join("x".repeat(200));
        assert!(matches!(Client::connect(&long, soon()), Err(ClientError::System { .. })));
    }
}
