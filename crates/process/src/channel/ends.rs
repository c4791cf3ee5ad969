//! The typed ends, and waiting.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use ipc_channel::IpcError;
use ipc_channel::ipc::{self, IpcReceiver, IpcSender};
use multiproc_ipc::family;
use multiproc_sys::clock::Deadline;
use multiproc_sys::{descriptor, poll, socket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::{ChannelError, RecvError, SendError};
use super::packet::{Packet, Waiting};
use super::{exchange, memory, packet};

/// The two ends of a new channel.
///
/// See the [module](crate::channel) for what can be sent, and where.
///
/// # Errors
/// When there are no descriptors left, or the directory of temporary files cannot be written to.
pub fn pair<T>() -> io::Result<(Sender<T>, Receiver<T>)> {
    let (sender, receiver) = ipc::channel::<Packet>()?;
    let sender = exchange::of_sender(sender.to_opaque())?;
    let receiver = exchange::of_receiver(receiver.to_opaque())?;
    // For whoever has a copy, in whichever process: waiting is done by `poll`.
    socket::never_block(&sender)?;
    socket::never_block(&receiver)?;
    Ok((Sender::over(sender)?, Receiver::over(receiver)?))
}

/// The sending end of a channel; clones of it send to the same receiver.
///
/// Several threads may use it at once. What one sender sends comes in the order in which it was sent.
pub struct Sender<T> {
    end: Arc<End<IpcSender<Packet>>>,
    data: PhantomData<fn(T)>,
}

impl<T> Sender<T> {
    fn over(descriptor: OwnedFd) -> io::Result<Sender<T>> {
        let endpoint = exchange::to_sender(descriptor.try_clone()?)?;
        Ok(Sender { end: End::new(endpoint.to(), descriptor), data: PhantomData })
    }
}

impl<T: Serialize> Sender<T> {
    /// Sends `value`. Blocks while there is no room.
    ///
    /// # Errors
    /// [`SendError`], but not `Full` and `Timeout`.
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        self.send_by(value, None).map_err(|(value, why)| why.of(value, SendError::Timeout))
    }

    /// As [`send`](Sender::send), if there is room. Never blocks.
    ///
    /// # Errors
    /// [`SendError`], but not `Timeout`.
    pub fn try_send(&self, value: T) -> Result<(), SendError<T>> {
        let now = Some(Deadline::after(Duration::ZERO));
        self.send_by(value, now).map_err(|(value, why)| why.of(value, SendError::Full))
    }

    /// As [`send`](Sender::send), waiting for room for at most `timeout`.
    ///
    /// # Errors
    /// [`SendError`], but not `Full`.
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendError<T>> {
        let deadline = Some(Deadline::after(timeout));
        self.send_by(value, deadline).map_err(|(value, why)| why.of(value, SendError::Timeout))
    }

    fn send_by(&self, value: T, deadline: Option<Deadline>) -> Result<(), (T, Unsent)> {
        // What goes along is dropped here once it has gone, and the ends in it with it.
        self.deliver(&value, deadline).map_err(|why| (value, why))
    }

    fn deliver(&self, value: &T, deadline: Option<Deadline>) -> Result<(), Unsent> {
        let refused = |error| Unsent::Refused(ChannelError::Message(error));
        let (bytes, descriptors) = family::encode_with_descriptors(value).map_err(refused)?;
        let packet = Packet::new(bytes, descriptors).map_err(Unsent::Refused)?;
        loop {
            // A clone is not more than a count, and lets others send meanwhile.
            let endpoint = self.end.endpoint().clone().ok_or(Unsent::Disconnected)?;
            let sent = exchange::guarded(|| Ok(endpoint.send(packet.clone())));
            let error = match sent.map_err(Unsent::system)? {
                Ok(()) => return Ok(()),
                Err(IpcError::Disconnected) => return Err(Unsent::Disconnected),
                Err(IpcError::Io(error)) => error,
                Err(IpcError::SerializationError(error)) => {
                    return Err(Unsent::system(io::Error::other(error)));
                }
            };
            match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock => {
                    if !poll::writable(&self.end.descriptor, deadline).map_err(Unsent::system)? {
                        return Err(Unsent::NoRoom);
                    }
                }
                io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NotConnected => return Err(Unsent::Disconnected),
                _ => return Err(Unsent::system(error)),
            }
        }
    }
}

/// Why a value was not sent, without the value.
enum Unsent {
    NoRoom,
    Disconnected,
    Refused(ChannelError),
}

impl Unsent {
    fn system(error: io::Error) -> Unsent {
        Unsent::Refused(ChannelError::System(error))
    }

    fn of<T>(self, value: T, no_room: impl FnOnce(T) -> SendError<T>) -> SendError<T> {
        match self {
            Unsent::NoRoom => no_room(value),
            Unsent::Disconnected => SendError::Disconnected(value),
            Unsent::Refused(error) => SendError::Refused { value, error },
        }
    }
}

/// The receiving end of a channel.
///
/// Several threads may use it at once; a message goes to one of them. One that was sent elsewhere has
/// gone with the messages that wait in it.
pub struct Receiver<T> {
    end: Arc<End<IpcReceiver<Packet>>>,
    data: PhantomData<fn() -> T>,
}

impl<T> Receiver<T> {
    fn over(descriptor: OwnedFd) -> io::Result<Receiver<T>> {
        let endpoint = exchange::to_receiver(descriptor.try_clone()?)?;
        Ok(Receiver { end: End::new(endpoint.to(), descriptor), data: PhantomData })
    }
}

impl<T: DeserializeOwned> Receiver<T> {
    /// Receives the next message. Blocks while there is none.
    ///
    /// # Errors
    /// [`RecvError`], but not `Empty` and `Timeout`.
    pub fn recv(&self) -> Result<T, RecvError> {
        self.recv_by(None, RecvError::Timeout)
    }

    /// As [`recv`](Receiver::recv), if a message is there. Never blocks.
    ///
    /// # Errors
    /// [`RecvError`], but not `Timeout`.
    pub fn try_recv(&self) -> Result<T, RecvError> {
        self.recv_by(Some(Deadline::after(Duration::ZERO)), RecvError::Empty)
    }

    /// As [`recv`](Receiver::recv), for at most `timeout`.
    ///
    /// # Errors
    /// [`RecvError`], but not `Empty`.
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvError> {
        self.recv_by(Some(Deadline::after(timeout)), RecvError::Timeout)
    }

    fn recv_by(&self, deadline: Option<Deadline>, nothing: RecvError) -> Result<T, RecvError> {
        let system = |error| RecvError::Refused(ChannelError::System(error));
        let packet = loop {
            if let Some(packet) = self.next()? {
                break packet;
            }
            if !poll::readable(&self.end.descriptor, deadline).map_err(system)? {
                return Err(nothing);
            }
        };
        let (bytes, descriptors) = packet.open()?;
        let value = family::decode_with_descriptors(&bytes, descriptors);
        Ok(value.map_err(ChannelError::from)?)
    }

    /// The packet that waits, if there is one.
    fn next(&self) -> Result<Option<Packet>, RecvError> {
        // While this is held, what was looked at is what is received.
        let endpoint = self.end.endpoint();
        let endpoint = endpoint.as_ref().ok_or(RecvError::Disconnected)?;
        let counts = match packet::inspect(&self.end.descriptor).map_err(ChannelError::from)? {
            Waiting::Nothing => return Ok(None),
            Waiting::End => return Err(RecvError::Disconnected),
            Waiting::Dropped(reason) => return Err(ChannelError::Malformed(reason).into()),
            Waiting::Packet(counts) => counts,
        };
        let received = exchange::guarded(|| Ok(packet::expecting(counts, || endpoint.recv())));
        match received.map_err(ChannelError::from)? {
            Ok(packet) => Ok(Some(packet)),
            Err(IpcError::Disconnected) => Err(RecvError::Disconnected),
            Err(IpcError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(IpcError::Io(error)) => Err(ChannelError::System(error).into()),
            Err(IpcError::SerializationError(_)) => {
                Err(ChannelError::Malformed("it is written by something else").into())
            }
        }
    }
}

/// One end: ipc-channel's, and a descriptor of the same socket, to wait at and to send.
struct End<E> {
    /// None in a forked child, which has hung up its parent's.
    endpoint: Mutex<Option<E>>,
    descriptor: OwnedFd,
}

/// What a forked child does with an end of its parent's.
trait HangUp: Send + Sync {
    fn hang_up(&self) -> io::Result<()>;
}

type Ends = BTreeMap<RawFd, Weak<dyn HangUp>>;

/// All ends of this process, by the numbers of their descriptors.
static ENDS: Mutex<Ends> = Mutex::new(BTreeMap::new());

fn ends() -> MutexGuard<'static, Ends> {
    ENDS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: Send + 'static> End<E> {
    fn new(endpoint: E, descriptor: OwnedFd) -> Arc<End<E>> {
        let number = descriptor.as_raw_fd();
        let end = Arc::new(End { endpoint: Mutex::new(Some(endpoint)), descriptor });
        let weak = Arc::downgrade(&end);
        ends().insert(number, weak);
        end
    }
}

impl<E> End<E> {
    fn endpoint(&self) -> MutexGuard<'_, Option<E>> {
        self.endpoint.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Drop for End<E> {
    fn drop(&mut self) {
        // Before it is closed: afterwards its number may be another's.
        ends().remove(&self.descriptor.as_raw_fd());
    }
}

impl<E: Send> HangUp for End<E> {
    fn hang_up(&self) -> io::Result<()> {
        *self.endpoint() = None;
        let (dead, _) = socket::stream_pair()?;
        descriptor::replace(self.descriptor.as_raw_fd(), dead)
    }
}

/// Hangs up, in a forked child, all ends that it has copies of because its parent has them: whoever has
/// the other ends would never learn that these are gone. What it was given are copies of its own.
pub(crate) fn hang_up_all() -> io::Result<()> {
    let all: Vec<_> = ends().values().filter_map(Weak::upgrade).collect();
    all.iter().try_for_each(|end| end.hang_up())
}

fn take<T>(name: u32, over: impl FnOnce(OwnedFd) -> io::Result<T>) -> Result<T, String> {
    let descriptor = family::take_descriptor(name).map_err(|error| error.to_string())?;
    if !socket::is_packet_socket(&descriptor) {
        return Err("it names what is no end of a channel".into());
    }
    over(descriptor).map_err(|error| error.to_string())
}

macro_rules! travels {
    ($($end:ident)*) => {$(
        impl<T> Serialize for $end<T> {
            fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
                let name = memory::pass(&self.end.descriptor);
                name.map_err(serde::ser::Error::custom)?.serialize(serializer)
            }
        }

        impl<'de, T> Deserialize<'de> for $end<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let name = u32::deserialize(deserializer)?;
                take(name, $end::over).map_err(serde::de::Error::custom)
            }
        }

        impl<T> fmt::Debug for $end<T> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({})", stringify!($end), self.end.descriptor.as_raw_fd())
            }
        }
    )*};
}

travels!(Sender Receiver);

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { end: self.end.clone(), data: PhantomData }
    }
}

impl<T> AsFd for Receiver<T> {
    /// A descriptor that is readable while a message waits, or all senders are gone.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.end.descriptor.as_fd()
    }
}

impl<T: DeserializeOwned> multiproc_ipc::Selectable for Receiver<T> {
    fn is_ready(&self) -> bool {
        // What else there is, receiving tells.
        poll::readable(self, Some(Deadline::after(Duration::ZERO))).unwrap_or(true)
    }

    fn source(&self) -> family::Source<'_> {
        family::Source::Descriptor(self.as_fd())
    }
}

impl<T: DeserializeOwned> family::Sealed for Receiver<T> {}
