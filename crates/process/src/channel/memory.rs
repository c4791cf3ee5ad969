//! Bytes that are shared.

use std::fmt;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use ipc_channel::ipc::IpcSharedMemory;
use multiproc_ipc::{Error, family};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::exchange;

/// Bytes that do not change, and that go to another process without being copied: through a channel,
/// as an argument or as a result.
///
/// Everybody who has them reads the same memory, which is given back when nobody has them any more.
/// For memory that changes there are [`Array`](multiproc_ipc::Array) and the like. Who writes to the
/// memory behind our back, or shortens it, by means of another library, breaks all who read.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_process::channel::{self, SharedMemory};
///
/// let (sender, receiver) = channel::pair()?;
/// let picture = SharedMemory::from_bytes(&[7; 1 << 20])?;
/// sender.send(picture.clone())?;
/// assert_eq!(receiver.recv()?[1 << 19], 7);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SharedMemory(Option<Arc<Mapped>>);

/// Empty memory needs none of it.
struct Mapped {
    bytes: IpcSharedMemory,
    descriptor: OwnedFd,
}

impl SharedMemory {
    /// A copy of `bytes`.
    ///
    /// # Errors
    /// When there are no descriptors left, or no memory.
    pub fn from_bytes(bytes: &[u8]) -> io::Result<SharedMemory> {
        if bytes.is_empty() {
            return Ok(SharedMemory(None));
        }
        let made = exchange::guarded(|| Ok(IpcSharedMemory::from_bytes(bytes)))?;
        let copy = exchange::guarded(|| Ok(made.clone()))?;
        let descriptor = exchange::of_memory(copy)?;
        Ok(SharedMemory(Some(Arc::new(Mapped { bytes: made, descriptor }))))
    }

    fn over(descriptor: OwnedFd) -> io::Result<SharedMemory> {
        let bytes = exchange::to_memory(descriptor.try_clone()?)?;
        Ok(SharedMemory(Some(Arc::new(Mapped { bytes, descriptor }))))
    }
}

impl Deref for SharedMemory {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |mapped| &mapped.bytes)
    }
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SharedMemory({} bytes)", self.len())
    }
}

impl Serialize for SharedMemory {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        let name = self.0.as_ref().map(|mapped| pass(&mapped.descriptor)).transpose();
        name.map_err(serde::ser::Error::custom)?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let Some(name) = Option::<u32>::deserialize(deserializer)? else {
            return Ok(SharedMemory(None));
        };
        let descriptor = family::take_descriptor(name).map_err(D::Error::custom)?;
        SharedMemory::over(descriptor).map_err(D::Error::custom)
    }
}

/// Has a copy of a descriptor go with the value under way.
pub(super) fn pass(descriptor: &OwnedFd) -> Result<u32, Error> {
    let copy = descriptor.as_fd().try_clone_to_owned();
    let copy = copy.map_err(|source| Error::System { doing: "copying a descriptor", source })?;
    family::pass_descriptor(copy)
}
