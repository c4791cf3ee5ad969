//! Who connects to a listener.

use std::time::Duration;

use multiproc_sys::clock::Deadline;
use multiproc_sys::socket;

use super::address::Address;
use super::handshake::{self, Key, Proof};
use super::peer::{ConnectError, Users};
use super::{LIMIT, Pipe, PipeError, after, now};

/// How long [`Client::try_connect`] waits for the listener's part of the authentication.
const ANSWER: Duration = Duration::from_secs(1);

/// Connects to a [`Listener`](crate::Listener). Python's `multiprocessing.connection.Client`.
///
/// The listener must be there: connecting to nobody is an error at once, in all three forms. Unless
/// [`users`](Client::users) says otherwise, it must also be of the same user.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::{Address, Client, Listener};
///
/// let address = Address::abstract_name(format!("multiproc-doc-client-{}", std::process::id()))?;
/// let listener = Listener::<String, u32>::builder(&address).key(b"secret").bind()?;
/// let client = std::thread::spawn(move || {
///     Client::new(&address).key(b"secret").connect::<u32, String>()
/// });
/// let there = listener.accept()?;
/// let here = client.join().expect("it doesn't panic")?;
/// here.send(&42)?;
/// assert_eq!(there.recv()?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Client {
    address: Address,
    users: Users,
    key: Option<Key>,
}

impl Client {
    /// A client of whoever listens at `address`.
    pub fn new(address: &Address) -> Client {
        Client { address: address.clone(), users: Users::Same, key: None }
    }

    /// Sets of which users the listener may be: [`Users::Same`] unless it is said.
    pub fn users(mut self, users: Users) -> Client {
        self.users = users;
        self
    }

    /// Sets the key that the listener has, too. Each side proves to the other that it knows it; it is
    /// not sent. A listener without a key never asks for it, and connecting waits for that.
    #[doc(alias = "authkey")]
    pub fn key(mut self, key: &[u8]) -> Client {
        self.key = Some(Key::new(key));
        self
    }

    /// Connects. Blocks while as many wait to be accepted as the listener has room for; and with a key,
    /// until the listener accepts.
    ///
    /// # Errors
    /// All of [`ConnectError`] but `InUse`, `Occupied` and `Timeout`.
    pub fn connect<S, R>(&self) -> Result<Pipe<S, R>, ConnectError> {
        self.connect_by(None, None)
    }

    /// Connects if there is room among those who wait to be accepted. Never blocks; but with a key, the
    /// listener must accept within a second.
    ///
    /// # Errors
    /// All of [`ConnectError`] but `InUse` and `Occupied`.
    pub fn try_connect<S, R>(&self) -> Result<Pipe<S, R>, ConnectError> {
        self.connect_by(now(), after(ANSWER))
    }

    /// As [`connect`](Client::connect), for at most `timeout`.
    ///
    /// # Errors
    /// All of [`ConnectError`] but `InUse` and `Occupied`.
    pub fn connect_timeout<S, R>(&self, timeout: Duration) -> Result<Pipe<S, R>, ConnectError> {
        let deadline = after(timeout);
        self.connect_by(deadline, deadline)
    }

    fn connect_by<S, R>(
        &self,
        room: Option<Deadline>,
        answer: Option<Deadline>,
    ) -> Result<Pipe<S, R>, ConnectError> {
        let address = || self.address.clone();
        let system = |doing| ConnectError::system(&self.address, doing);
        let socket = socket::stream_socket().map_err(system("making a socket"))?;
        let to = self.address.to_kernel().map_err(system("writing the address down"))?;
        match socket::connect(&socket, &to, room) {
            Ok(true) => {}
            Ok(false) => return Err(ConnectError::Timeout { address: address() }),
            Err(error) => {
                use std::io::ErrorKind::{ConnectionRefused, NotFound};
                return Err(match error.kind() {
                    ConnectionRefused | NotFound => {
                        ConnectError::NobodyListens { address: address() }
                    }
                    _ => system("connecting")(error),
                });
            }
        }
        self.users.check(&socket, &self.address)?;
        let pipe = Pipe::<(), ()>::over(socket);
        if let Some(key) = &self.key {
            let proof = handshake::answer(key, &pipe, answer).map_err(|error| match error {
                PipeError::Timeout => ConnectError::Timeout { address: address() },
                PipeError::Ended | PipeError::CutShort => {
                    ConnectError::Refused { address: address() }
                }
                error => system("authenticating")(std::io::Error::other(error)),
            })?;
            if let Proof::Wrong = proof {
                return Err(ConnectError::AuthenticationFailed { address: address() });
            }
            pipe.set_limit(LIMIT);
        }
        Ok(pipe.retyped())
    }
}
