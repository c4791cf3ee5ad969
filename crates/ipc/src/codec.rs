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
//! names; the [`Passage`] around an encoding or decoding collects and resolves them.

use std::cell::RefCell;
use std::os::fd::RawFd;
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
    /// The descriptors that the message names, where they can travel.
    descriptors: Option<Vec<RawFd>>,
    /// Until when the caller can wait for a process that is stopped in the catalog.
    deadline: Option<Deadline>,
    /// Why a handle could not be reached.
    failed: Option<Error>,
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

/// Runs `work` on the way along `route`, and returns what became of that. Passages nest.
fn within<R>(route: Route<'_>, work: impl FnOnce() -> R) -> (R, Passage) {
    struct Restore(Option<Passage>);
    impl Drop for Restore {
        fn drop(&mut self) {
            PASSAGE.set(self.0.take());
        }
    }
    let _restore = Restore(PASSAGE.replace(Some(route.passage())));
    let result = work();
    let passage = PASSAGE.take().expect("nobody but `within` takes it");
    (result, passage)
}

/// An encoded value, and what must live and be passed on for it to be decoded.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) bytes: Vec<u8>,
    pub(crate) carried: Vec<ObjectId>,
    pub(crate) descriptors: Vec<RawFd>,
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
    /// Through a pipe.
    Pipe,
}

impl Route<'_> {
    fn passage(self) -> Passage {
        let (segment, descriptors, deadline) = match self {
            Route::Message(segment, deadline) => (Some(segment), None, deadline),
            Route::Start(segment, inherited) => (Some(segment), Some(inherited.to_vec()), None),
            Route::Pipe => (None, None, None),
        };
        let segment = segment.map(NonNull::from);
        Passage { segment, carried: Vec::new(), descriptors, deadline, failed: None }
    }
}

/// Encodes `value` for `route`.
pub(crate) fn encode<T: Serialize>(route: Route<'_>, value: &T) -> Result<Encoded, Error> {
    let mut bytes = Vec::with_capacity(ROOM);
    bytes.extend([CODEC, VERSION]);
    let (written, passage) =
        within(route, || bincode::serde::encode_into_std_write(value, &mut bytes, configuration()));
    written.map_err(|error| Error::Codec(error.to_string()))?;
    Ok(Encoded {
        bytes,
        carried: passage.carried,
        descriptors: passage.descriptors.unwrap_or_default(),
    })
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
    let value = match frame {
        [CODEC, VERSION, value @ ..] => value,
        _ => return Err(Error::Malformed("written by another codec, or cut short")),
    };
    let (read, passage) = within(route, || decode_bounded(value));
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

/// Notes that the value under way names `descriptor`, or refuses where none can travel.
pub(crate) fn pass_descriptor(descriptor: RawFd) -> Result<(), Error> {
    PASSAGE.with_borrow_mut(|passage| {
        let descriptors = passage.as_mut().and_then(|passage| passage.descriptors.as_mut());
        let descriptors = descriptors.ok_or(Error::ForeignHandle)?;
        if descriptors.contains(&descriptor) {
            return Err(Error::Malformed("the same descriptor twice"));
        }
        descriptors.push(descriptor);
        Ok(())
    })
}

/// Takes the descriptor that the value under way names, if it was inherited for that.
pub(crate) fn take_descriptor(descriptor: RawFd) -> Result<RawFd, Error> {
    PASSAGE.with_borrow_mut(|passage| {
        let descriptors = passage.as_mut().and_then(|passage| passage.descriptors.as_mut());
        let inherited = descriptors.ok_or(Error::ForeignHandle)?;
        let place = inherited.iter().position(|one| *one == descriptor);
        let place = place.ok_or(Error::Malformed("a descriptor was not passed on"))?;
        Ok(inherited.swap_remove(place))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_of_what_was_encoded_gives_it_back() {
        let value = (1u64, "two".to_string(), vec![3.0f64], Some(()));
        let encoded = encode(Route::Pipe, &value).unwrap();
        let decoded: (u64, String, Vec<f64>, Option<()>) =
            decode(Route::Pipe, &encoded.bytes).unwrap();
        assert_eq!(decoded, value);
    }

    #[test]
    fn decode_with_bytes_left_over_is_malformed() {
        let mut encoded = encode(Route::Pipe, &7u64).unwrap();
        encoded.bytes.push(0);
        let error = decode::<u64>(Route::Pipe, &encoded.bytes).unwrap_err();
        assert!(matches!(error, Error::Malformed(_)), "{error}");
    }

    #[test]
    fn decode_of_a_frame_cut_anywhere_is_an_error() {
        let encoded = encode(Route::Pipe, &("hello", 7u64)).unwrap();
        for len in 0..encoded.bytes.len() {
            assert!(decode::<(String, u64)>(Route::Pipe, &encoded.bytes[..len]).is_err());
        }
    }

    #[test]
    fn decode_of_a_string_that_claims_to_be_endless_is_an_error() {
        let mut frame = vec![CODEC, VERSION, 253];
        frame.extend_from_slice(&(1u64 << 62).to_le_bytes());
        frame.extend_from_slice(b"short");
        assert!(decode::<String>(Route::Pipe, &frame).is_err());
        assert!(decode::<Vec<u64>>(Route::Pipe, &frame).is_err());
    }

    #[test]
    fn decode_of_long_values_is_not_bounded_too_tightly() {
        for len in [100, 5_000, 300_000, 2_000_000] {
            let value = (vec![1u64; len], "x".repeat(len));
            let encoded = encode(Route::Pipe, &value).unwrap();
            assert!(decode::<(Vec<u64>, String)>(Route::Pipe, &encoded.bytes).unwrap() == value);
        }
    }

    #[test]
    fn decode_of_a_frame_of_another_codec_is_malformed() {
        let bytes = postcard::to_stdvec(&7u64).unwrap();
        assert!(matches!(decode::<u64>(Route::Pipe, &bytes), Err(Error::Malformed(_))));
    }

    #[test]
    fn values_survive_this_codec_as_they_survive_postcard() {
        // The alternative that would take over if bincode had to go must say the same of a value.
        let value = (i128::MIN, 'ß', [Some(1u8), None], Ok::<u32, String>(7), f32::INFINITY);
        let ours = encode(Route::Pipe, &value).unwrap();
        let theirs = postcard::to_stdvec(&value).unwrap();
        let decoded: (i128, char, [Option<u8>; 2], Result<u32, String>, f32) =
            decode(Route::Pipe, &ours.bytes).unwrap();
        assert_eq!(decoded, value);
        assert_eq!(decoded, postcard::from_bytes(&theirs).unwrap());
    }
}
