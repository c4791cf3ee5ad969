//! Who waits at an address for others to connect.
//!
//! Those who have connected and have not proved yet that they know the key are at the *entrance*. None
//! of them is waited for by itself: one set of descriptors tells of all of them, and of who comes.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::poll::{self, PollSet, Timer};
use multiproc_sys::socket;

use super::address::Address;
use super::door::Door;
use super::handshake::{Challenge, Key, Proof};
use super::peer::{ConnectError, Users};
use super::stream::Stream;
use super::{LIMIT, Pipe, PipeError, after, now};
use crate::select::{Sealed, Selectable, Source};

/// How many may be at the entrance. Others wait to be accepted.
const ENTRANCE: usize = 64;
/// How long one may be there, unless it is said.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many may wait to be accepted, unless it is said.
const BACKLOG: u32 = 128;
/// Who may connect by the mode of the socket file, unless it is said: its user.
const MODE: u32 = 0o600;

/// Waits at an [`Address`] for others to connect, each of whom gets a [`Pipe`] of its own: we send them
/// `S` and receive `R`. They need not be related to this process, but must be of the same version.
/// Python's `multiprocessing.connection.Listener`.
///
/// - Only processes of the same user are let in, unless [`users`](ListenerBuilder::users) says
///   otherwise. The socket file has mode 0600, unless [`mode`](ListenerBuilder::mode) does.
/// - An address has one listener. A second one is told that it is [in use](ConnectError::InUse); what a
///   killed one has left is taken over, whoever else tries. For a path, a file `….lock` beside the
///   socket sees to that. Both files go when the listener is dropped, in the process that made it.
/// - With a [`key`](ListenerBuilder::key), each side proves to the other that it knows it. Who says
///   nothing is sent away after a while, and keeps nobody out meanwhile.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Address, Client, Listener};
///
/// let address = Address::abstract_name(format!("multiproc-doc-{}", std::process::id()))?;
/// let listener = Listener::<String, u32>::bind(&address)?;
/// let here = Client::new(&address).connect::<u32, String>()?;
/// let there = listener.accept()?;
/// assert_eq!(there.peer()?.pid, Some(std::process::id()));
/// here.send(&42)?;
/// assert_eq!(there.recv()?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Listener<S, R> {
    /// The listening socket, as long as there is room at the entrance, and who is there.
    set: PollSet,
    /// In the set, too: when somebody must be sent away.
    patience: Timer,
    entrance: Mutex<Entrance>,
    rules: Rules,
    /// Goes before the socket: who connects in between is refused.
    _door: Option<Door>,
    socket: Stream,
    data: PhantomData<fn(S) -> R>,
}

/// Who is let in.
#[derive(Clone, Debug)]
struct Rules {
    address: Address,
    users: Users,
    key: Option<Key>,
    patience: Duration,
}

/// Those who have connected and were given to nobody.
#[derive(Debug, Default)]
struct Entrance {
    asked: VecDeque<Asked>,
    /// One who is let in, or why one is not.
    done: Option<Result<Pipe<(), ()>, ConnectError>>,
    /// Whether the socket is not in the set.
    shut: bool,
}

/// Somebody who was asked for the key.
#[derive(Debug)]
struct Asked {
    pipe: Pipe<(), ()>,
    challenge: Challenge,
    until: Deadline,
}

/// How a [`Listener`] is to be.
#[derive(Clone, Debug)]
#[must_use]
pub struct ListenerBuilder<S, R> {
    rules: Rules,
    mode: u32,
    backlog: u32,
    data: PhantomData<fn(S) -> R>,
}

impl<S, R> ListenerBuilder<S, R> {
    /// Sets the mode of the socket file, 0600 unless it is said: who may write may connect. An abstract
    /// name has none.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o777;
        self
    }

    /// Sets how many may wait to be accepted, 128 unless it is said; the kernel has a limit of its own.
    pub fn backlog(mut self, backlog: u32) -> Self {
        self.backlog = backlog;
        self
    }

    /// Sets of which users the processes may be that are let in, [`Users::Same`] unless it is said. The
    /// mode of the file must let them connect, too.
    pub fn users(mut self, users: Users) -> Self {
        self.rules.users = users;
        self
    }

    /// Sets the key that clients must have, too.
    #[doc(alias = "authkey")]
    pub fn key(mut self, key: &[u8]) -> Self {
        self.rules.key = Some(Key::new(key));
        self
    }

    /// Sets how long somebody who has connected has to prove to know the key, five seconds unless it is
    /// said. Then it is sent away.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.rules.patience = patience;
        self
    }

    /// Begins to listen.
    ///
    /// # Errors
    /// [`ConnectError::InUse`], [`Occupied`](ConnectError::Occupied),
    /// [`System`](ConnectError::System).
    pub fn bind(self) -> Result<Listener<S, R>, ConnectError> {
        let ListenerBuilder { rules, mode, backlog, .. } = self;
        let address = &rules.address;
        let system = |doing| ConnectError::system(address, doing);
        let mut door = address.as_path().map(|path| Door::take(address, path)).transpose()?;
        let socket = socket::stream_socket().map_err(system("making a socket"))?;
        let to = address.to_kernel().map_err(system("writing the address down"))?;
        socket::bind(&socket, &to).map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => ConnectError::InUse { address: address.clone() },
            _ => system("binding a socket")(error),
        })?;
        // Nobody can connect before the mode is set.
        if let Some(door) = &mut door {
            door.set_mode(mode).map_err(system("setting the mode of the socket file"))?;
        }
        socket::listen(&socket, backlog).map_err(system("listening"))?;
        let set = PollSet::new().map_err(system("making a set of descriptors"))?;
        set.add(&socket, 0).map_err(system("watching a socket"))?;
        let patience = Timer::new().map_err(system("making a timer"))?;
        set.add(&patience, 0).map_err(system("watching a timer"))?;
        let entrance = Mutex::default();
        let (socket, data) = (socket.into(), PhantomData);
        Ok(Listener { set, patience, entrance, rules, _door: door, socket, data })
    }
}

impl<S, R> Listener<S, R> {
    /// A listener of the usual kind.
    ///
    /// # Errors
    /// Those of [`ListenerBuilder::bind`].
    pub fn bind(address: &Address) -> Result<Listener<S, R>, ConnectError> {
        Listener::builder(address).bind()
    }

    /// A listener of another kind.
    pub fn builder(address: &Address) -> ListenerBuilder<S, R> {
        let address = address.clone();
        let rules = Rules { address, users: Users::Same, key: None, patience: PATIENCE };
        ListenerBuilder { rules, mode: MODE, backlog: BACKLOG, data: PhantomData }
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.rules.address
    }

    /// Gives the pipe to the next one who has connected and is let in. Blocks until somebody is.
    ///
    /// An error says that somebody in particular was not let in, or that the process has no descriptors
    /// left. The listener goes on listening: call it again.
    ///
    /// # Errors
    /// [`ConnectError::AuthenticationFailed`], [`OtherUser`](ConnectError::OtherUser),
    /// [`System`](ConnectError::System).
    pub fn accept(&self) -> Result<Pipe<S, R>, ConnectError> {
        self.accept_by(None)
    }

    /// As [`accept`](Listener::accept), if there is somebody now. Never blocks.
    ///
    /// # Errors
    /// Those of [`accept`](Listener::accept), [`ConnectError::Timeout`].
    pub fn try_accept(&self) -> Result<Pipe<S, R>, ConnectError> {
        self.accept_by(now())
    }

    /// As [`accept`](Listener::accept), for at most `timeout`. Who is in the middle of proving that it
    /// knows the key stays there for the next call.
    ///
    /// # Errors
    /// Those of [`accept`](Listener::accept), [`ConnectError::Timeout`].
    pub fn accept_timeout(&self, timeout: Duration) -> Result<Pipe<S, R>, ConnectError> {
        self.accept_by(after(timeout))
    }

    fn accept_by(&self, deadline: Option<Deadline>) -> Result<Pipe<S, R>, ConnectError> {
        loop {
            let mut entrance = self.entrance();
            self.look(&mut entrance);
            if let Some(done) = entrance.done.take() {
                return done.map(Pipe::retyped);
            }
            drop(entrance);
            let ready = poll::readable(&self.set, deadline).map_err(self.system("waiting"))?;
            if !ready {
                return Err(ConnectError::Timeout { address: self.address().clone() });
            }
        }
    }

    fn entrance(&self) -> MutexGuard<'_, Entrance> {
        self.entrance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks who has come and who has answered, until somebody is done with. Never blocks.
    fn look(&self, entrance: &mut Entrance) {
        self.hear(entrance);
        // All have the same patience.
        self.patience.set(entrance.asked.front().map(|asked| asked.until));
        while entrance.done.is_none() && entrance.asked.len() < ENTRANCE {
            match socket::accept(&self.socket) {
                Ok(Some(stream)) => self.greet(stream, entrance),
                Ok(None) => break,
                Err(error) => entrance.done = Some(Err(self.system("accepting")(error))),
            }
        }
        let shut = entrance.asked.len() >= ENTRANCE;
        if shut && !entrance.shut {
            // Or the set would be ready for nothing that can be done.
            self.set.remove(&self.socket);
        } else if entrance.shut
            && !shut
            && let Err(error) = self.set.add(&self.socket, 0)
        {
            entrance.done = Some(Err(self.system("watching a socket")(error)));
            return;
        }
        entrance.shut = shut;
    }

    /// Lets somebody in who has connected, or asks for the key first.
    fn greet(&self, stream: OwnedFd, entrance: &mut Entrance) {
        if let Err(error) = self.rules.users.check(&stream, self.address()) {
            entrance.done = Some(Err(error));
            return;
        }
        let pipe = Pipe::over(stream);
        if self.rules.key.is_none() {
            entrance.done = Some(Ok(pipe));
            return;
        }
        // If that fails, it is gone again.
        if let Ok(challenge) = Challenge::send(&pipe)
            && self.set.add(&pipe, 0).is_ok()
        {
            let until = Deadline::after(self.rules.patience);
            if entrance.asked.is_empty() {
                self.patience.set(Some(until));
            }
            entrance.asked.push_back(Asked { pipe, challenge, until });
        }
    }

    /// Judges those who have answered, and sends those away who take too long.
    fn hear(&self, entrance: &mut Entrance) {
        let Some(key) = &self.rules.key else { return };
        let mut place = 0;
        while entrance.done.is_none()
            && let Some(asked) = entrance.asked.get(place)
        {
            let judged = asked.challenge.answered(key, &asked.pipe);
            if matches!(judged, Err(PipeError::Timeout)) && !asked.until.passed() {
                place += 1;
                continue;
            }
            let Some(Asked { pipe, .. }) = entrance.asked.remove(place) else { return };
            self.set.remove(&pipe);
            match judged {
                Ok(Proof::Given) => {
                    pipe.set_limit(LIMIT);
                    entrance.done = Some(Ok(pipe));
                }
                Ok(Proof::Wrong) => {
                    let address = self.address().clone();
                    entrance.done = Some(Err(ConnectError::AuthenticationFailed { address }));
                }
                // It is gone, or took too long.
                Err(_) => {}
            }
        }
    }

    fn system(&self, doing: &'static str) -> impl FnOnce(std::io::Error) -> ConnectError {
        ConnectError::system(self.address(), doing)
    }
}

impl<S, R> Selectable for Listener<S, R> {
    fn is_ready(&self) -> bool {
        let mut entrance = self.entrance();
        if entrance.done.is_none() {
            self.look(&mut entrance);
        }
        entrance.done.is_some()
    }

    fn source(&self) -> Source<'_> {
        Source::Descriptor(self.as_fd())
    }
}

impl<S, R> Sealed for Listener<S, R> {}

/// It is readable when [`try_accept`](Listener::try_accept) has something to do, which may come to
/// nothing.
impl<S, R> AsFd for Listener<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }
}
