//! Values as bytes: the one module that knows how a message is encoded.
//!
//! # Shared layout
//!
//! ```text
//! [ codec 1 B | version 1 B | the value, as bincode 2 writes it ]
//! ```
//!
//! Bincode is pinned and fenced: nothing outside this module names it, each frame says what it is
//! written in, and a frame with bytes left over is malformed. Handles of shared objects travel as
//! names; the [`Passage`] around an encoding or decoding collects and resolves them. So do
//! descriptors: to a child by the number that it inherits, through a pipe, or back from a child, as
//! the first, second, … of those that come with the message.

use std::cell::RefCell;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::Arc;

use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::segment::catalog::ObjectId;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment};

const CODEC: u8 = 1;
const VERSION: u8 = 1;
/// Bytes that a message may have before room is made for it again.
const ROOM: usize = 256;

fn configuration() -> impl bincode::config::Config {
    bincode::config::standard()
}

/// What a value needs around it while it is encoded or decoded.
struct Passage {
    /// Where handles are names; none where they cannot travel. Borrowed for as long as the passage
    /// is the thread's.
    segment: Option<NonNull<Segment>>,
    /// The objects that the message names.
    carried: Vec<ObjectId>,
    /// The descriptors that the message names.
    descriptors: Descriptors,
    /// Until when the caller can wait for a process that is stopped in the catalog.
    deadline: Option<Deadline>,
    /// Why a handle could not be reached.
    failed: Option<Error>,
}

/// How descriptors travel.
#[derive(Debug)]
pub(crate) enum Descriptors {
    /// They cannot.
    Kept,
    /// A child inherits them, or has inherited them, by these numbers. Some are copies that were made
    /// for it.
    Inherited { numbers: Vec<RawFd>, copies: Vec<OwnedFd> },
    /// They leave through a socket.
    Leaving(Vec<OwnedFd>),
    /// They came through a socket, and are taken by whoever is named in the message.
    Come(Vec<Option<OwnedFd>>),
}

thread_local! {
    static PASSAGE: RefCell<Option<Passage>> = const { RefCell::new(None) };
}

impl Passage {
    fn segment(&self) -> Option<&Segment> {
        // SAFETY: `within` takes it from the thread before the borrow in `Route` ends.
        self.segment.map(|segment| unsafe { segment.as_ref() })
    }
}

/// Runs `work` within `passage`, and returns what became of that. Passages nest.
fn within<R>(passage: Passage, work: impl FnOnce() -> R) -> (R, Passage) {
    struct Restore(Option<Passage>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PASSAGE.set(self.0.take());
        }
    }
    let _restore = Restore(PASSAGE.replace(Some(passage)));
    let result = work();
    let passage = PASSAGE.take().expect("nobody but `within` takes it");
    (result, passage)
}

/// An encoded value, and what must live and be passed on for it to be decoded.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) carried: Vec<ObjectId>,
    pub(crate) descriptors: Descriptors,
}

/// Where a value is going.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Route<'a> {
    /// Through the segment: handles can travel. If they cannot be reached before a deadline because
    /// of a process that is stopped in the catalog, that is an error.
    Message(&'a Segment, Option<Deadline>),
    /// To a child of this process: descriptors can travel too. When it decodes, those are named
    /// that it has inherited for this.
    Start(&'a Segment, &'a [RawFd]),
    /// Back to the parent: descriptors go beside it, through a socket.
    Result(&'a Segment),
    /// To anybody: nothing can travel with it.
    Alone,
}

impl Route<'_> {
    fn passage(self) -> Passage {
        let (segment, descriptors, deadline) = match self {
            Route::Message(segment, deadline) => (Some(segment), Descriptors::Kept, deadline),
            Route::Start(segment, inherited) => {
                let numbers = inherited.to_vec();
                (Some(segment), Descriptors::Inherited { numbers, copies: Vec::new() }, None)
            }
            Route::Result(segment) => (Some(segment), Descriptors::Leaving(Vec::new()), None),
            Route::Alone => (None, Descriptors::Kept, None),
        };
        let segment = segment.map(NonNull::from);
        Passage { segment, carried: Vec::new(), descriptors, deadline, failed: None }
    }
}

/// The passage through a pipe.
fn through_pipe(descriptors: Descriptors) -> Passage {
    Passage { descriptors, ..Route::Alone.passage() }
}

/// Writes a value into `room`, without a frame around it, where it may be among others; says how many
/// bytes it took. None if it has no room, or names what can only travel in a message.
pub(crate) fn write_bare<T: Serialize>(value: &T, room: &mut [u8]) -> Option<usize> {
    bincode::serde::encode_into_slice(value, room, configuration()).ok()
}

/// Appends a value, without a frame around it; false if it names what can only travel in a message.
pub(crate) fn append_bare<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> bool {
    let len = bytes.len();
    let written = bincode::serde::encode_into_std_write(value, bytes, configuration()).is_ok();
    if !written {
        bytes.truncate(len);
    }
    written
}

/// Reads the value at the beginning of `bytes`; says how many bytes it took.
pub(crate) fn read_bare<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), Error> {
    decode_bounded(bytes).map_err(|error| Error::Codec(error.to_string()))
}

fn write<T: Serialize>(passage: Passage, value: &T) -> Result<(Vec<u8>, Passage), Error> {
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.extend([CODEC, VERSION]);
    let (written, passage) = within(passage, || {
        bincode::serde::encode_into_std_write(value, &mut bytes, configuration())
    });
    written.map_err(|error| Error::Codec(error.to_string()))?;
    Ok((bytes, passage))
}

/// Encodes `value` for `route`.
pub(crate) fn encode<T: Serialize>(route: Route<'_>, value: &T) -> Result<Encoded, Error> {
    let (bytes, passage) = write(route.passage(), value)?;
    Ok(Encoded { bytes, carried: passage.carried, descriptors: passage.descriptors })
}

/// Encodes `value` for a pipe; with it go copies of the descriptors that it names.
pub(crate) fn encode_for_pipe<T: Serialize>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
    let (bytes, passage) = write(through_pipe(Descriptors::Leaving(Vec::new())), value)?;
    match passage.descriptors {
        Descriptors::Leaving(descriptors) => Ok((bytes, descriptors)),
        _ => unreachable!("nobody changes how they travel"),
    }
}

/// Decodes a value without believing the lengths in it: a string that claims to be much longer than
/// the whole message must not be made room for. What 1 byte encodes takes up to 16 when decoded.
fn decode_bounded<T: DeserializeOwned>(
    value: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    use bincode::serde::decode_from_slice;
    let standard = bincode::config::standard();
    match value.len() {
        0..0x1000 => decode_from_slice(value, standard.with_limit::<{ 1 << 17 }>()),
        0x1000..0x10_0000 => decode_from_slice(value, standard.with_limit::<{ 1 << 25 }>()),
        0x10_0000..0x1000_0000 => decode_from_slice(value, standard.with_limit::<{ 1 << 33 }>()),
        _ => decode_from_slice(value, standard.with_limit::<{ 1 << 37 }>()),
    }
}

/// Decodes a frame that came by `route`.
pub(crate) fn decode<T: DeserializeOwned>(route: Route<'_>, frame: &[u8]) -> Result<T, Error> {
    read(route.passage(), frame)
}

/// Decodes what a child left for its parent, together with the descriptors that came beside it.
pub(crate) fn decode_result<T: DeserializeOwned>(
    segment: &Segment,
    frame: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<T, Error> {
    let come = Descriptors::Come(descriptors.into_iter().map(Some).collect());
    read(Passage { descriptors: come, ..Route::Result(segment).passage() }, frame)
}

/// Decodes a frame that came through a pipe, together with `descriptors`. Those that the value does
/// not take are closed.
pub(crate) fn decode_from_pipe<T: DeserializeOwned>(
    frame: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<T, Error> {
    let come = descriptors.into_iter().map(Some).collect();
    read(through_pipe(Descriptors::Come(come)), frame)
}

fn read<T: DeserializeOwned>(passage: Passage, frame: &[u8]) -> Result<T, Error> {
    let value = match frame {
        [CODEC, VERSION, value @ ..] => value,
        _ => return Err(Error::Malformed("written by another codec, or cut short")),
    };
    let (read, passage) = within(passage, || decode_bounded(value));
    let (decoded, used) = match (read, passage.failed) {
        (Ok(read), _) => read,
        (Err(_), Some(Error::CatalogHeld)) => return Err(Error::CatalogHeld),
        (Err(error), _) => return Err(Error::Codec(error.to_string())),
    };
    if used != value.len() {
        return Err(Error::Malformed("bytes are left over: it holds a value of another type"));
    }
    Ok(decoded)
}

/// Notes that the value under way names `object`, or refuses where it cannot travel.
pub(crate) fn carry(object: &Object) -> Result<(), Error> {
    PASSAGE.with_borrow_mut(|passage| {
        let passage = passage.as_mut().ok_or(Error::ForeignHandle)?;
        if !passage.segment().is_some_and(|segment| segment.is(object.segment())) {
            return Err(Error::ForeignHandle);
        }
        if !passage.carried.contains(&object.id) {
            passage.carried.push(object.id);
        }
        Ok(())
    })
}

/// The object that a word in the value under way names, if it is a `T`.
pub(crate) fn reach<T: Shared>(word: u64) -> Result<Arc<Object>, Error> {
    let (segment, deadline) = PASSAGE
        .with_borrow(|passage| {
            let passage = passage.as_ref()?;
            Some((passage.segment()?.clone(), passage.deadline))
        })
        .ok_or(Error::ForeignHandle)?;
    let id = ObjectId::unpack(word).ok_or(Error::NoSuchObject(T::KIND.name()))?;
    let fits = |entry: &_| T::fits(segment.geometry(), entry);
    let reached = segment.attach(id, T::KIND, deadline, fits, T::attached);
    if let Err(Error::CatalogHeld) = reached {
        PASSAGE.with_borrow_mut(|passage| {
            passage.as_mut().expect("it was just there").failed = Some(Error::CatalogHeld);
        });
    }
    reached
}

/// Has `descriptor` go with the value under way, or refuses where none can travel; the name by which
/// it is [taken](take_descriptor).
pub(crate) fn pass_descriptor(descriptor: BorrowedFd<'_>) -> Result<u32, Error> {
    PASSAGE.with_borrow_mut(|passage| {
        match passage.as_mut().map(|passage| &mut passage.descriptors) {
            Some(Descriptors::Inherited { numbers, .. }) => {
                let number = descriptor.as_raw_fd();
                if numbers.contains(&number) {
                    return Err(Error::Malformed("the same descriptor twice"));
                }
                numbers.push(number);
                Ok(number as u32)
            }
            Some(Descriptors::Leaving(descriptors)) => {
                // A copy of our own: the value may have made this one for the occasion.
                let copy = descriptor.try_clone_to_owned();
                descriptors.push(copy.map_err(Error::system("copying a descriptor"))?);
                Ok(descriptors.len() as u32 - 1)
            }
            _ => Err(Error::ForeignDescriptor),
        }
    })
}

/// As [`pass_descriptor`], for one that was made for the occasion: it is kept until it has gone.
pub(crate) fn pass_copy(copy: OwnedFd) -> Result<u32, Error> {
    PASSAGE.with_borrow_mut(|passage| {
        match passage.as_mut().map(|passage| &mut passage.descriptors) {
            Some(Descriptors::Inherited { numbers, copies }) => {
                let number = copy.as_raw_fd();
                numbers.push(number);
                copies.push(copy);
                Ok(number as u32)
            }
            Some(Descriptors::Leaving(descriptors)) => {
                descriptors.push(copy);
                Ok(descriptors.len() as u32 - 1)
            }
            _ => Err(Error::ForeignDescriptor),
        }
    })
}

/// Takes the descriptor that the value under way names, if it came with that.
pub(crate) fn take_descriptor(name: u32) -> Result<OwnedFd, Error> {
    const MISSING: Error = Error::Malformed("it names a descriptor that did not come with it");
    PASSAGE.with_borrow_mut(|passage| {
        match passage.as_mut().map(|passage| &mut passage.descriptors) {
            Some(Descriptors::Inherited { numbers, .. }) => {
                let place = numbers.iter().position(|number| *number as u32 == name);
                let number = numbers.swap_remove(place.ok_or(MISSING)?);
                // SAFETY: it is one of those that the parent passed on for these arguments, open,
                // and was just taken off their list, so nobody else owns it.
                Ok(unsafe { OwnedFd::from_raw_fd(number) })
            }
            Some(Descriptors::Come(descriptors)) => {
                let place = descriptors.get_mut(name as usize);
                place.and_then(Option::take).ok_or(MISSING)
            }
            _ => Err(Error::ForeignDescriptor),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_of_what_was_encoded_gives_it_back() {
        let value = (1u64, "two".to_string(), vec![3.0f64], Some(()));
        let (bytes, _) = encode_for_pipe(&value).unwrap();
        let decoded: (u64, String, Vec<f64>, Option<()>) =
            decode_from_pipe(&bytes, vec![]).unwrap();
        assert_eq!(decoded, value);
    }

    #[test]
    fn decode_with_bytes_left_over_is_malformed() {
        let (mut bytes, _) = encode_for_pipe(&7u64).unwrap();
        bytes.push(0);
        let error = decode_from_pipe::<u64>(&bytes, vec![]).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
    }

    #[test]
    fn decode_of_a_frame_cut_anywhere_is_an_error() {
        let (bytes, _) = encode_for_pipe(&("hello", 7u64)).unwrap();
        for len in 0..bytes.len() {
            assert!(decode_from_pipe::<(String, u64)>(&bytes[..len], vec![]).is_err());
        }
    }

    #[test]
    fn decode_of_a_string_that_claims_to_be_endless_is_an_error() {
        let mut frame = vec![CODEC, VERSION, 253];
        frame.extend_from_slice(&(1u64 << 62).to_le_bytes());
        frame.extend_from_slice(b"short");
        assert!(decode_from_pipe::<String>(&frame, vec![]).is_err());
        assert!(decode_from_pipe::<Vec<u64>>(&frame, vec![]).is_err());
    }

    #[test]
    fn decode_of_long_values_is_not_bounded_too_tightly() {
        for len in [100, 5_000, 300_000, 2_000_000] {
            let value = (vec![1u64; len], "x".repeat(len));
            let (bytes, _) = encode_for_pipe(&value).unwrap();
            assert!(decode_from_pipe::<(Vec<u64>, String)>(&bytes, vec![]).unwrap() == value);
        }
    }

    #[test]
    fn decode_of_a_frame_of_another_codec_is_malformed() {
        let bytes = postcard::to_stdvec(&7u64).unwrap();
        assert!(matches!(decode_from_pipe::<u64>(&bytes, vec![]), Err(Error::Malformed(_))));
    }

    #[test]
    fn values_survive_this_codec_as_they_survive_postcard() {
        // The alternative that would take over if bincode had to go must say the same of a value.
        let value = (i128::MIN, 'ß', [Some(1u8), None], Ok::<u32, String>(7), f32::INFINITY);
        let (ours, _) = encode_for_pipe(&value).unwrap();
        let theirs = postcard::to_stdvec(&value).unwrap();
        let decoded: (i128, char, [Option<u8>; 2], Result<u32, String>, f32) =
            decode_from_pipe(&ours, vec![]).unwrap();
        assert_eq!(decoded, value);
        assert_eq!(decoded, postcard::from_bytes(&theirs).unwrap());
    }
}
