//! Why something could not be made, opened or carried.

use std::io;

/// Why a segment or an object in it could not be made, opened or reached.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The segment, or the machine, has no room for it.
    #[error("out of memory: {wanted} bytes wanted, {left} left ({of})")]
    OutOfMemory {
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that were left.
        left: u64,
        /// Left of what.
        of: &'static str,
    },
    /// All entries of the catalog are in use.
    #[error(
        "the segment's {0} objects are all in use; drop some, or make it with a larger geometry"
    )]
    TooManyObjects(u32),
    /// All slots for participants are in use.
    #[error("the segment's {0} participants are all in use; make it with a larger geometry")]
    TooManyParticipants(u32),
    /// The geometry asked for is outside the format's limits.
    #[error("impossible geometry: {0}")]
    Geometry(&'static str),
    /// The file is not a segment: it begins with something else, or others than its user may open it.
    #[error("not a segment")]
    NotASegment,
    /// The segment has no header yet: its creator is at work, or died there.
    #[error("the segment is half made: its creator is still at work or died there")]
    HalfMade,
    /// The file is shorter than its header says.
    #[error("the segment is truncated: {found} bytes of {expected}")]
    Truncated {
        /// Bytes that the header promises.
        expected: u64,
        /// Bytes that are there.
        found: u64,
    },
    /// Another version of the format.
    #[error("the segment has format {found}, this program speaks {expected}")]
    Format {
        /// What this program speaks.
        expected: u32,
        /// What the segment is written in.
        found: u32,
    },
    /// The same format with another layout: the programs were built apart.
    #[error("the segment's layout differs from this program's: both must be built alike")]
    Layout,
    /// The segment was made before the last boot.
    #[error("the segment was made before this machine was last booted")]
    OtherBoot,
    /// The segment's participants live in another pid namespace.
    #[error("the segment belongs to another pid namespace: here it can only be inspected")]
    OtherNamespace,
    /// A segment of this name exists already.
    #[error("a segment named {0:?} exists already")]
    Exists(String),
    /// No segment of this name exists.
    #[error("no segment named {0:?} exists")]
    Missing(String),
    /// The name cannot be one of a segment.
    #[error("{0:?} cannot name a segment: 1 to 200 letters, digits, '.', '-' or '_'")]
    Name(String),
    /// The segment belongs to another user.
    #[error("the segment belongs to user {0}")]
    OtherUser(u32),
    /// A message, or a key or value of a map, is longer than what bounds it.
    #[error("{bytes} bytes are more than {of}: {limit} bytes")]
    TooLong {
        /// Bytes of the message, key or value.
        bytes: u64,
        /// How many there may be.
        limit: u64,
        /// What bounds it.
        of: &'static str,
    },
    /// A handle names an object that is gone, or one of another kind or type.
    #[error("a handle names no {0} in this segment: the object is gone, or of another type")]
    NoSuchObject(&'static str),
    /// Nothing can be published under this name.
    #[error("nothing can be published as {0:?}: 1 to 48 bytes without control characters")]
    Unpublishable(String),
    /// Something is published under this name already.
    #[error("something is published as {0:?} already")]
    Taken(String),
    /// Nothing is published under this name.
    #[error("nothing is published as {0:?}")]
    NotPublished(String),
    /// What is published under this name is a handle of another kind, or of data of another structure.
    #[error("what is published as {0:?} is of another type, or of another structure")]
    OtherType(String),
    /// A handle was encoded outside a message, into a message of another segment, or into the key of
    /// a map.
    #[error("a handle can only be sent within its own segment: as an argument or in a message")]
    ForeignHandle,
    /// A pipe, the end of a channel or another descriptor was encoded where none can travel.
    #[error(
        "a pipe, an end of a channel or another descriptor can only be sent as an argument or a \
         result, or through a pipe or a channel of such"
    )]
    ForeignDescriptor,
    /// A message is malformed.
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    /// The value cannot be encoded, or a message does not hold one of the type asked for.
    #[error("codec: {0}")]
    Codec(String),
    /// Another process has held the catalog for seconds: it is alive, so it must be stopped.
    #[error("a stopped process holds the segment's catalog: continue it or kill it")]
    CatalogHeld,
    /// Shared memory holds what no program of ours writes.
    #[error("the segment is corrupt: {0}")]
    Corrupt(&'static str),
    /// The place reserved for this process is gone.
    #[error("the slot reserved for this process is gone: its parent has ended")]
    ReservationGone,
    /// The kernel refused.
    #[error("{doing}: {source}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: the kernel refused while we were `doing` something.
    pub(crate) fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |source| Error::System { doing, source }
    }
}
