//! What goes through ipc-channel, and what is let through to it.
//!
//! A value is encoded as everywhere in this library, and what it names beside it. ipc-channel carries
//! sockets as endpoints and memory as shared memory, each kind in a list of its own, and makes one
//! packet of each message:
//!
//! ```text
//! [ bytes of the packet 8 B | bytes of the message 8 B | the message, as postcard writes it ]
//! ```
//!
//! What it does with a packet that it has not written is undefined, in the worst sense. So each is
//! looked at while it still waits, and let through if it is one packet with its whole message, and what
//! comes with it is nothing but sockets and memory. How many of each is then known, and the message is
//! not asked.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc_channel::ipc::{IpcSharedMemory, OpaqueIpcSender};
use multiproc_sys::{memory, poll, socket};
use serde::de::IntoDeserializer;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ChannelError;
use super::exchange;

/// Bytes of a value that go in the packet itself; longer ones go as shared memory.
const PACKET_BYTES: usize = 32 << 10;
/// Descriptors that ipc-channel sends with one packet.
const DESCRIPTORS: usize = 64;
/// Bytes of memory, at most, that are mapped for a peer.
const MEMORY_BYTES: u64 = 1 << 40;
/// Bytes before the message.
const HEADER_BYTES: usize = 16;

/// How many sockets and memories there are with a packet.
type Counts = (usize, usize);

thread_local! {
    /// Those with the packet that is being received.
    static COUNTS: Cell<Counts> = const { Cell::new((0, 0)) };
}

/// A value and what it names, on its way.
#[derive(Clone)]
pub(super) struct Packet(Arc<Content>);

struct Content {
    /// The encoded value, unless that is long.
    bytes: Vec<u8>,
    /// Whether it is the last memory.
    long: bool,
    /// Of each of the value's descriptors, whether it is memory.
    kinds: Vec<bool>,
    sockets: Vec<OpaqueIpcSender>,
    memories: Vec<IpcSharedMemory>,
}

impl Packet {
    /// Of an encoded value and the descriptors that it names.
    pub(super) fn new(bytes: Vec<u8>, descriptors: Vec<OwnedFd>) -> Result<Packet, ChannelError> {
        if descriptors.len() >= DESCRIPTORS {
            return Err(ChannelError::TooMany(descriptors.len()));
        }
        let (kinds, sockets, memories) = Default::default();
        let mut content = Content { bytes, long: false, kinds, sockets, memories };
        for descriptor in descriptors {
            let is_endpoint = exchange::is_endpoint(&descriptor);
            content.kinds.push(!is_endpoint);
            if is_endpoint {
                content.sockets.push(exchange::to_sender(descriptor)?);
            } else if is_memory(&descriptor) {
                content.memories.push(exchange::to_memory(descriptor)?);
            } else {
                return Err(ChannelError::NotCarried);
            }
        }
        if content.bytes.len() > PACKET_BYTES {
            let bytes = std::mem::take(&mut content.bytes);
            let memory = exchange::guarded(|| Ok(IpcSharedMemory::from_bytes(&bytes)))?;
            content.memories.push(memory);
            content.long = true;
        }
        Ok(Packet(Arc::new(content)))
    }

    /// The encoded value and the descriptors that it names.
    pub(super) fn open(self) -> Result<(Vec<u8>, Vec<OwnedFd>), ChannelError> {
        const OTHERS: ChannelError = ChannelError::Malformed("other descriptors than it names");
        let content = Arc::into_inner(self.0).expect("it was just received");
        let Content { mut bytes, long, kinds, sockets, mut memories } = content;
        if long {
            bytes = memories.pop().ok_or(OTHERS)?.to_vec();
        }
        let (mut sockets, mut memories) = (sockets.into_iter(), memories.into_iter());
        let mut descriptors = Vec::new();
        for is_memory in kinds {
            descriptors.push(match is_memory {
                true => exchange::of_memory(memories.next().ok_or(OTHERS)?)?,
                false => exchange::of_sender(sockets.next().ok_or(OTHERS)?)?,
            });
        }
        if sockets.next().is_some() || memories.next().is_some() {
            return Err(OTHERS);
        }
        Ok((bytes, descriptors))
    }
}

/// Whether ipc-channel can map it.
fn is_memory(descriptor: impl AsFd) -> bool {
    memory::shareable_length(descriptor).is_some_and(|length| (1..=MEMORY_BYTES).contains(&length))
}

impl Serialize for Packet {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let Content { bytes, long, kinds, sockets, memories } = &*self.0;
        (long, kinds, bytes, sockets, memories).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Packet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // All that came is taken, before anything can fail and whatever the message names: ipc-channel
        // panics on what is left over, and on what is missing.
        let (sockets, memories) = COUNTS.get();
        let at = |index: usize| IntoDeserializer::<D::Error>::into_deserializer(index);
        let sockets = (0..sockets).map(|index| OpaqueIpcSender::deserialize(at(index)));
        let sockets: Vec<_> = sockets.collect::<Result<_, _>>()?;
        let memories = (0..memories).map(|index| IpcSharedMemory::deserialize(at(index)));
        let memories: Vec<_> = memories.collect::<Result<_, _>>()?;
        // What it names of them, in the end, is of no interest.
        type Written = (bool, Vec<bool>, Vec<u8>, Vec<usize>, Vec<usize>);
        let (long, kinds, bytes, ..) = Written::deserialize(deserializer)?;
        Ok(Packet(Arc::new(Content { bytes, long, kinds, sockets, memories })))
    }
}

/// What waits at a receiver.
pub(super) enum Waiting {
    /// Nothing, for now or for ever.
    Nothing,
    End,
    /// A packet that can be received within [`expecting`].
    Packet(Counts),
    /// One that cannot, for this reason; it is gone.
    Dropped(&'static str),
}

/// Looks at what waits at a receiver's socket.
pub(super) fn inspect(receiver: impl AsFd) -> io::Result<Waiting> {
    let mut header = [0; HEADER_BYTES];
    let peeked = match socket::peek(&receiver, &mut header) {
        Ok(None) => return Ok(Waiting::Nothing),
        Ok(Some(peeked)) => peeked,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(Waiting::End),
        Err(error) => return Err(error),
    };
    if peeked.bytes == 0 && poll::hung_up(&receiver)? {
        return Ok(Waiting::End);
    }
    match judge(&header, &peeked) {
        Ok(counts) => Ok(Waiting::Packet(counts)),
        Err(reason) => {
            socket::receive(&receiver, &mut [0; 1], false)?;
            Ok(Waiting::Dropped(reason))
        }
    }
}

fn judge(header: &[u8; HEADER_BYTES], peeked: &socket::Peeked) -> Result<Counts, &'static str> {
    let (packet, message) = header.split_at(HEADER_BYTES / 2);
    let number = |bytes: &[u8]| usize::from_ne_bytes(bytes.try_into().expect("eight bytes"));
    if peeked.bytes < HEADER_BYTES || number(packet) != peeked.bytes {
        return Err("its length is another than it says");
    }
    if number(message) != peeked.bytes - HEADER_BYTES {
        return Err("it is a part of a longer one");
    }
    if peeked.more || peeked.descriptors.len() > DESCRIPTORS {
        return Err("more came with it than can be received");
    }
    let (sockets, others): (Vec<_>, Vec<_>) =
        peeked.descriptors.iter().partition(|descriptor| exchange::is_endpoint(descriptor));
    if !others.iter().all(is_memory) {
        return Err("a descriptor came with it that is neither a socket nor memory");
    }
    Ok((sockets.len(), others.len()))
}

/// Receives a packet with so many sockets and memories.
pub(super) fn expecting<R>(counts: Counts, receive: impl FnOnce() -> R) -> R {
    COUNTS.set(counts);
    receive()
}
