//! Descriptors, and pipes, as parts of values.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::incoming::{Incoming, Unreceived};
use super::outgoing::Outgoing;
use super::{Pipe, now};
use crate::codec;

/// An open file, socket or anything else that the kernel knows by a descriptor, which can be sent: to a
/// child as an argument, back as a result, and through a [`Pipe`].
///
/// Who receives it has a descriptor of the same open file, with the same position in it, that is
/// closed on exec; who sends it keeps the own one until it is dropped. One message takes 253 of them.
/// Python's `multiprocessing.reduction.DupFd`, `send_handle`.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::fs::File;
/// use std::io::Read;
/// use std::os::fd::OwnedFd;
///
/// use multiproc_ipc::{Descriptor, Pipe};
///
/// let (here, there) = Pipe::<Descriptor, ()>::pair()?;
/// here.send(&Descriptor::new(File::open("/proc/self/stat")?))?;
/// let mut file = File::from(OwnedFd::from(there.recv()?));
/// let mut text = String::new();
/// file.read_to_string(&mut text)?;
/// assert!(text.starts_with(&std::process::id().to_string()));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[doc(alias = "DupFd")]
#[doc(alias = "send_handle")]
pub struct Descriptor(OwnedFd);

impl Descriptor {
    /// Of a file, a socket, or whatever else is open.
    pub fn new(open: impl Into<OwnedFd>) -> Descriptor {
        Descriptor(open.into())
    }
}

impl From<OwnedFd> for Descriptor {
    fn from(open: OwnedFd) -> Descriptor {
        Descriptor(open)
    }
}

impl From<Descriptor> for OwnedFd {
    fn from(descriptor: Descriptor) -> OwnedFd {
        descriptor.0
    }
}

impl AsFd for Descriptor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A descriptor that goes with the value under way.
struct Going<'a>(BorrowedFd<'a>);

impl Serialize for Going<'_> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        use serde::ser::Error as _;
        codec::pass_descriptor(self.0).map_err(Z::Error::custom)?.serialize(serializer)
    }
}

impl Serialize for Descriptor {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        Going(self.as_fd()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Descriptor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let name = u32::deserialize(deserializer)?;
        codec::take_descriptor(name).map(Descriptor).map_err(D::Error::custom)
    }
}

/// As a pipe is sent: its stream, its limit, and what has arrived and was not received, bytes and
/// descriptors.
type Moved<D> = (D, u64, Vec<u8>, Vec<(u64, Vec<D>)>);

impl<S, R> Serialize for Pipe<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        use serde::ser::Error as _;
        const USED: &str = "a pipe cannot be sent while another thread uses it";
        const MIDDLE: &str =
            "a pipe cannot be sent in the middle of a message that is not received";
        const BROKEN: &str = "a pipe cannot be sent once a message went out in part";
        let outgoing = self.outgoing.take(now()).ok_or(Z::Error::custom(USED))?;
        if *outgoing == Outgoing::Broken {
            return Err(Z::Error::custom(BROKEN));
        }
        let incoming = self.incoming.take(now()).ok_or(Z::Error::custom(USED))?;
        let Unreceived { bytes, batches } =
            incoming.unreceived().ok_or(Z::Error::custom(MIDDLE))?;
        fn going(batch: &[OwnedFd]) -> Vec<Going<'_>> {
            batch.iter().map(|one| Going(one.as_fd())).collect()
        }
        let batches = batches.into_iter().map(|(place, batch)| (place, going(batch))).collect();
        let limit = self.limit.load(std::sync::atomic::Ordering::Relaxed);
        let moved: Moved<Going<'_>> = (Going(self.stream.as_fd()), limit, bytes, batches);
        moved.serialize(serializer)
    }
}

impl<'de, S, R> Deserialize<'de> for Pipe<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (stream, limit, bytes, batches) = Moved::<Descriptor>::deserialize(deserializer)?;
        let owned = |(place, batch): (u64, Vec<Descriptor>)| {
            (place, batch.into_iter().map(|one| one.0).collect())
        };
        let batches: VecDeque<_> = batches.into_iter().map(owned).collect();
        Ok(Pipe::continued(stream.0, Incoming::continued(bytes, batches), limit))
    }
}
