//! What starting a child takes: a place in the segment, and a mailbox for arguments and result.
//!
//! For crates that start processes; everybody else uses what they offer. The parent reserves the
//! child's slot and attaches the mailbox in its name before the child exists, so that nothing is
//! lost or leaked whoever dies when. The mailbox is a queue for one message: first the arguments,
//! then the result.

use std::fmt;
use std::io::IoSlice;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use multiproc_sys::socket::{self, DESCRIPTORS_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::atomic::AtomicU32;
use crate::atomic::Ordering::Relaxed;
use crate::codec::{self, Descriptors, Encoded, Route};
use crate::error::Error;
use crate::queue::block::Role;
use crate::queue::raw::{self, Published};
use crate::segment::catalog::{Kind, ObjectId, write_name};
use crate::segment::participants::Slot;
use crate::segment::{Object, Place, Segment, holdings, watcher};

const ARGUMENTS: u8 = 0;
const RESULT: u8 = 1;
const FAILURE: u8 = 2;

/// Bytes of arguments or result that fit the mailbox itself.
const MESSAGE_BYTES: u64 = 448;

/// Where a pool hands work to a worker.
pub mod desk {
    use std::ops::Range;

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::raw;
    use crate::codec::{self, Route};
    pub use crate::desk::{Desk, Progress, TRAYS, Taken, Worker};
    use crate::error::Error;
    use crate::plain::Plain;
    use crate::queue::Queue;
    use crate::queue::block::Role;
    use crate::segment::Segment;
    use crate::value::{Array, Numbers, Tally};

    /// Whether a tally is in this segment, as the desks are whose items contribute to it.
    pub fn can_contribute<T: Numbers>(tally: &Tally<T>, segment: &Segment) -> bool {
        tally.is_in(segment)
    }

    /// Writes a value into `room`, without a frame, where it may stand among others; says how many bytes it
    /// took. None if there is no room, or it names what can only travel in a message.
    pub fn write<T: Serialize>(value: &T, room: &mut [u8]) -> Option<usize> {
        codec::write_bare(value, room)
    }

    /// Appends a value; false, and nothing, if it names what can only travel in a message.
    pub fn append<T: Serialize>(value: &T, bytes: &mut Vec<u8>) -> bool {
        codec::append_bare(value, bytes)
    }

    /// Reads the value at the beginning of `bytes`; says how many bytes it took.
    ///
    /// # Errors
    /// When there is no value of this type.
    pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, usize), Error> {
        codec::read_bare(bytes)
    }

    /// The same queue, for messages of another type.
    pub fn retyped<T, U>(queue: &Queue<T>) -> Queue<U> {
        queue.retyped()
    }

    /// A message that this process has received, and not read yet.
    #[derive(Debug)]
    pub struct Letter {
        queue: Queue<()>,
        block: u32,
    }

    impl Letter {
        /// Receives the oldest message, if there is one.
        pub fn take(queue: &Queue<()>) -> Option<Letter> {
            let block = raw::ring(queue.object()).take(Role::Held)?;
            Some(Letter { queue: queue.clone(), block })
        }

        /// What it says.
        ///
        /// # Errors
        /// When it holds no value of this type.
        pub fn read<T: DeserializeOwned>(&self) -> Result<T, Error> {
            let object = self.queue.object();
            let route = Route::Message(object.segment(), None);
            raw::ring(object).message(self.block).and_then(|frame| codec::decode(route, frame))
        }
    }

    impl Drop for Letter {
        fn drop(&mut self) {
            raw::ring(self.queue.object()).release(self.block, None);
        }
    }

    /// What the message at the front says, which stays for others.
    ///
    /// # Errors
    /// When there is none, or it is of another type.
    pub fn peek<T: DeserializeOwned>(queue: &Queue<T>) -> Result<T, Error> {
        let object = queue.object();
        let ring = raw::ring(object);
        // DEATH: a lease, which comes back.
        let block = ring.take(Role::Leased).ok_or(Error::Malformed("an empty parcel"))?;
        let route = Route::Message(object.segment(), None);
        let value = ring.message(block).and_then(|frame| codec::decode(route, frame));
        ring.give_back(block);
        value
    }

    /// The elements of a range of an array, for who alone uses them.
    ///
    /// # Safety
    /// For as long as the slice is used, nobody else reads or writes them.
    ///
    /// # Panics
    /// When they are not all there, as a slice does.
    #[expect(clippy::mut_from_ref, reason = "they are shared memory; the caller sees to it")]
    pub unsafe fn part_mut<T: Plain>(array: &Array<T>, range: Range<usize>) -> &mut [T] {
        // SAFETY: as the caller promises.
        unsafe { array.part_mut(range) }
    }

    /// The name of a queue, by which [`find`] finds it while somebody keeps it.
    pub fn name<T>(queue: &Queue<T>) -> u64 {
        queue.object().id.pack()
    }

    /// The queue of a name.
    ///
    /// # Errors
    /// When it is gone, or something else.
    pub fn find<T>(beside: &Queue<()>, name: u64) -> Result<Queue<T>, Error> {
        Queue::named_by(beside.object().segment(), name)
    }
}

/// What a type outside needs, to be [`Selectable`](crate::Selectable): to say by which descriptor.
pub use crate::select::{Sealed, Source};

/// What a child needs to know to take its place; passed on as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    place: Place,
    mailbox: u64,
}

impl fmt::Display for Ticket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { slot, generation, parent } = self.place;
        write!(formatter, "{slot}.{generation}.{parent}.{}", self.mailbox)
    }
}

impl FromStr for Ticket {
    type Err = Error;

    fn from_str(text: &str) -> Result<Ticket, Error> {
        let malformed = || Error::Malformed("a ticket consists of four numbers");
        let numbers = text.split('.').map(|number| number.parse().map_err(|_| malformed()));
        let numbers: Vec<u64> = numbers.collect::<Result<_, _>>()?;
        let [slot, generation, parent, mailbox] = numbers[..] else {
            return Err(malformed());
        };
        let small = |number: u64| u32::try_from(number).map_err(|_| malformed());
        let place =
            Place { slot: small(slot)?, generation: small(generation)?, parent: small(parent)? };
        Ok(Ticket { place, mailbox })
    }
}

fn put(object: &Object, tag: u8, mut message: Encoded) -> Result<(), Error> {
    message.bytes.insert(0, tag);
    let ring = raw::ring(object);
    let block = ring.allocate(&object.cursor, None)?;
    let filled = ring.fill(block, &message, None);
    match filled.map(|()| ring.publish(block)) {
        Ok(Published::Done) => Ok(()),
        Ok(Published::Full) => {
            ring.release(block, None);
            Err(Error::Malformed("the mailbox is full"))
        }
        Err(error) => {
            ring.release(block, None);
            Err(error)
        }
    }
}

/// The descriptors that the arguments name, which a child must have under the same numbers.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Their numbers.
    pub numbers: Vec<RawFd>,
    /// Those of them that were made for the child, to be kept until it has them.
    pub copies: Vec<OwnedFd>,
}

/// A child's place and mailbox, as its parent holds them.
#[derive(Debug)]
pub struct Berth {
    segment: Segment,
    place: Place,
    mailbox: Arc<Object>,
    /// The child's number, once it was started.
    child: AtomicU32,
    /// The block of the result, once the child has ended.
    settled: Mutex<Option<Settled>>,
    /// Its places in other segments, if it is to be forked.
    others: Vec<(Segment, Place)>,
}

/// What a child had come to when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It never received its arguments.
    NeverReady,
    /// It received them, and left no result.
    NoResult,
    /// It left a result.
    Result(Letter),
    /// It left word of its failure.
    Failure(Letter),
}

/// A message of the mailbox that the parent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Letter(u32);

impl Berth {
    /// Reserves a slot, and makes the mailbox.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], and what making an object may meet.
    pub fn reserve(segment: &Segment) -> Result<Berth, Error> {
        segment.watch()?;
        let spec = raw::spec(1, MESSAGE_BYTES).expect("a mailbox is a possible queue");
        let mailbox = segment.create(spec, |_| ())?;
        let place = segment.reserve()?;
        holdings::want(segment, place);
        let berth = Berth {
            segment: segment.clone(),
            place,
            mailbox,
            child: AtomicU32::new(0),
            settled: Mutex::new(None),
            others: Vec::new(),
        };
        if let Err(error) = segment.attach_for(place, &berth.mailbox) {
            berth.settle();
            return Err(error);
        }
        Ok(berth)
    }

    /// Prepares for a child that is forked from this process, and so has its handles: it gets a place in
    /// every segment that this process takes part in, and is attached to all that this process is.
    ///
    /// # Errors
    /// [`Error::TooManyParticipants`], [`Error::OutOfMemory`].
    pub fn share_all(&mut self) -> Result<(), Error> {
        for segment in Segment::all_joined() {
            if segment.is(&self.segment) {
                segment.share_all_with(self.place)?;
            } else {
                let place = segment.reserve()?;
                self.others.push((segment.clone(), place));
                segment.share_all_with(place)?;
            }
        }
        Ok(())
    }

    /// To be called in the child that was forked after [`share_all`](Berth::share_all): takes its places.
    ///
    /// # Errors
    /// [`Error::ReservationGone`] if the parent has ended.
    pub fn take(&self) -> Result<Seat, Error> {
        self.segment.move_to(self.place)?;
        self.others.iter().try_for_each(|(segment, place)| segment.move_to(*place))?;
        self.segment.make_current();
        Ok(Seat { segment: self.segment.clone(), mailbox: self.mailbox.clone() })
    }

    /// What the child needs to know.
    pub fn ticket(&self) -> Ticket {
        Ticket { place: self.place, mailbox: self.mailbox.id.pack() }
    }

    /// The segment's file, which the child inherits.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.segment.file()
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// The child's place among the participants.
    pub fn participant_index(&self) -> u32 {
        self.place.slot
    }

    /// Sets what the child is called in listings of the segment.
    pub fn set_name(&self, name: &str) {
        let slot = Slot::new(self.place.slot as u16);
        write_name(&self.segment.participant(slot).name, name);
    }

    /// What the child has noted as done so far, or had when it ended.
    pub fn progress(&self) -> u64 {
        let participant = self.segment.participant(Slot::new(self.place.slot as u16));
        participant.progress_of(self.place.generation).unwrap_or(0)
    }

    /// To be called when the child, process `pid`, has closed what only an exec of another program
    /// should close: if it has indeed no map of the segment any more, it has left, although it lives
    /// on. What it held is put right.
    pub fn vacate_if_left(&self, pid: u32) {
        if self.segment.is_unmapped_in(pid) {
            // If this fails, `settle` does it.
            let _ = self.segment.release_place(self.place, pid);
        }
    }

    /// Says which process the child is.
    pub fn started(&self, pid: u32) {
        self.child.store(pid, Relaxed);
    }

    /// Puts the arguments into the mailbox; returns the descriptors that the child must inherit.
    ///
    /// # Errors
    /// When they cannot be encoded, or the segment has no room.
    pub fn put_arguments<A: Serialize>(&self, arguments: &A) -> Result<Inheritance, Error> {
        let mut message = codec::encode(Route::Start(&self.segment, &[]), arguments)?;
        let descriptors = std::mem::replace(&mut message.descriptors, Descriptors::Kept);
        put(&self.mailbox, ARGUMENTS, message)?;
        Ok(match descriptors {
            Descriptors::Inherited { numbers, copies } => Inheritance { numbers, copies },
            _ => Inheritance::default(),
        })
    }

    /// To be called once the child has ended, or will never begin: takes what it left in the
    /// mailbox and cleans up after it. Calling it again changes nothing.
    pub fn settle(&self) -> Settled {
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        *settled.get_or_insert_with(|| {
            // First the sweep: it finishes what the child had half done in the mailbox, too.
            let child = self.child.load(Relaxed);
            let _ = self.segment.release_place(self.place, child);
            for (segment, place) in &self.others {
                let _ = segment.release_place(*place, child);
            }
            let ring = raw::ring(&self.mailbox);
            let Some(block) = ring.take(Role::Held) else {
                return Settled::NoResult;
            };
            match ring.message(block).ok().and_then(|message| message.first().copied()) {
                Some(RESULT) => Settled::Result(Letter(block)),
                Some(FAILURE) => Settled::Failure(Letter(block)),
                tag => {
                    // What the arguments kept alive goes now: somebody may wait for it to go.
                    ring.release(block, None);
                    if tag == Some(ARGUMENTS) { Settled::NeverReady } else { Settled::NoResult }
                }
            }
        })
    }

    /// What the child held when it died, in words, as far as it is known: to be called once, when it has
    /// settled.
    pub fn take_held(&self) -> Vec<String> {
        holdings::take(&self.segment, self.place)
    }

    /// Reads the result, or the word of a failure, that [`settle`](Berth::settle) found.
    ///
    /// # Errors
    /// When it does not hold a value of this type.
    pub fn read<R: DeserializeOwned>(&self, letter: Letter) -> Result<R, Error> {
        let message = raw::ring(&self.mailbox).message(letter.0)?;
        let frame = message.get(1..).ok_or(Error::Malformed("an empty letter"))?;
        codec::decode(Route::Message(&self.segment, None), frame)
    }

    /// As [`read`](Berth::read), with the descriptors that the child has sent beside its result.
    ///
    /// # Errors
    /// Those of [`read`](Berth::read).
    pub fn read_result<R: DeserializeOwned>(
        &self,
        letter: Letter,
        descriptors: Vec<OwnedFd>,
    ) -> Result<R, Error> {
        let message = raw::ring(&self.mailbox).message(letter.0)?;
        let frame = message.get(1..).ok_or(Error::Malformed("an empty letter"))?;
        codec::decode_result(&self.segment, frame, descriptors)
    }
}

#[cfg(feature = "testing")]
impl Berth {
    /// The same berth, not settled yet, for a world that is played through again.
    #[doc(hidden)]
    pub fn again(&self) -> Berth {
        let (segment, mailbox) = (self.segment.clone(), self.mailbox.clone());
        let child = AtomicU32::new(self.child.load(Relaxed));
        let (place, settled, others) = (self.place, Mutex::new(None), Vec::new());
        Berth { segment, place, mailbox, child, settled, others }
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.take_held();
        let settled = *self.settled.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Settled::Result(letter) | Settled::Failure(letter)) = settled {
            raw::ring(&self.mailbox).release(letter.0, None);
        }
    }
}

/// A child's place and mailbox, as it holds them itself.
#[derive(Debug)]
pub struct Seat {
    segment: Segment,
    mailbox: Arc<Object>,
}

impl Seat {
    /// Takes the place that the parent reserved, and makes its segment the current one.
    ///
    /// # Errors
    /// Those of [`Segment::open`], and [`Error::ReservationGone`] if the parent has ended.
    pub fn take(file: OwnedFd, ticket: Ticket) -> Result<Seat, Error> {
        let segment = Segment::adopt(file, ticket.place)?;
        let gone = Error::NoSuchObject("mailbox");
        let id = ObjectId::unpack(ticket.mailbox).ok_or(gone)?;
        let is_mailbox = |entry: &_| raw::spec(1, MESSAGE_BYTES).is_some_and(|spec| spec.is(entry));
        let mailbox = segment.attach(id, Kind::Queue, None, is_mailbox, |_| Ok(()))?;
        segment.make_current();
        Ok(Seat { segment, mailbox })
    }

    /// The segment.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Takes the arguments out of the mailbox; `inherited` are the descriptors that the parent
    /// passed on for them.
    ///
    /// # Errors
    /// When they are of another type, or were taken before.
    pub fn take_arguments<A: DeserializeOwned>(&self, inherited: &[RawFd]) -> Result<A, Error> {
        let ring = raw::ring(&self.mailbox);
        let block = ring.take(Role::Held).ok_or(Error::Malformed("the mailbox is empty"))?;
        let frame = ring.message(block).and_then(|message| match message {
            [ARGUMENTS, frame @ ..] => Ok(frame),
            _ => Err(Error::Malformed("the mailbox holds no arguments")),
        });
        let route = Route::Start(&self.segment, inherited);
        let arguments = frame.and_then(|frame| codec::decode(route, frame));
        ring.release(block, None);
        arguments
    }

    /// Puts the result into the mailbox.
    ///
    /// # Errors
    /// When it cannot be encoded, or the segment has no room.
    pub fn put_result<R: Serialize>(&self, result: &R) -> Result<(), Error> {
        put(&self.mailbox, RESULT, codec::encode(Route::Message(&self.segment, None), result)?)
    }

    /// As [`put_result`](Seat::put_result), of what may name descriptors: they go to the parent through
    /// `socket`, at once, before the result can be found. Never blocks.
    ///
    /// # Errors
    /// Those of [`put_result`](Seat::put_result), and when the descriptors cannot be sent.
    pub fn put_result_through<R: Serialize>(
        &self,
        socket: BorrowedFd<'_>,
        result: &R,
    ) -> Result<(), Error> {
        let mut message = codec::encode(Route::Result(&self.segment), result)?;
        let descriptors = std::mem::replace(&mut message.descriptors, Descriptors::Kept);
        if let Descriptors::Leaving(descriptors) = descriptors
            && !descriptors.is_empty()
        {
            if descriptors.len() > DESCRIPTORS_MAX {
                return Err(Error::Malformed("more descriptors than a result can name"));
            }
            // DEATH: the parent finds descriptors and no result, and closes them.
            let sent = socket::send(socket, &[IoSlice::new(&[RESULT])], &descriptors, false);
            sent.map_err(Error::system("sending the descriptors of a result"))?;
        }
        put(&self.mailbox, RESULT, message)
    }

    /// Puts word of a failure into the mailbox, in place of a result.
    ///
    /// # Errors
    /// Those of [`put_result`](Seat::put_result).
    pub fn put_failure<E: Serialize>(&self, failure: &E) -> Result<(), Error> {
        put(&self.mailbox, FAILURE, codec::encode(Route::Message(&self.segment, None), failure)?)
    }
}

/// The descriptors that a child has sent beside its result, once it has ended.
pub fn receive_descriptors(socket: BorrowedFd<'_>) -> Vec<OwnedFd> {
    let mut descriptors = Vec::new();
    // Whatever else a child has written there is of no interest.
    let _ = socket::receive_with_descriptors(socket, &mut [0; 1], &mut descriptors, false);
    descriptors
}

/// For `Serialize` of what a descriptor stands for: has `copy` go with the value under way, and gives
/// the name by which it is [taken](take_descriptor).
///
/// # Errors
/// [`Error::ForeignDescriptor`] where none can travel.
pub fn pass_descriptor(copy: OwnedFd) -> Result<u32, Error> {
    codec::pass_copy(copy)
}

/// For `Deserialize`: takes the descriptor that the value under way names.
///
/// # Errors
/// When none of that name has come with it.
pub fn take_descriptor(name: u32) -> Result<OwnedFd, Error> {
    codec::take_descriptor(name)
}

/// Encodes a value for a socket; with it go the descriptors that it names.
///
/// # Errors
/// When it cannot be encoded.
pub fn encode_with_descriptors<T: Serialize>(value: &T) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
    codec::encode_for_pipe(value)
}

/// Decodes what came through a socket together with `descriptors`.
///
/// # Errors
/// When it is no value of this type.
pub fn decode_with_descriptors<T: DeserializeOwned>(
    frame: &[u8],
    descriptors: Vec<OwnedFd>,
) -> Result<T, Error> {
    codec::decode_from_pipe(frame, descriptors)
}

/// Runs `job` on the thread of this process that never ends, and returns what it returns.
///
/// # Errors
/// When the thread cannot be started, or the job panicked.
pub fn run_on_watcher<R: Send + 'static>(
    job: impl FnOnce() -> R + Send + 'static,
) -> Result<R, Error> {
    watcher::run(job)
}

/// Whether this process has that thread.
pub fn has_watcher() -> bool {
    watcher::is_running()
}

/// Runs `work` while that thread does nothing: for a fork, after which the child has no such thread
/// until it needs one.
///
/// # Errors
/// When the thread is gone.
pub fn with_watcher_paused<R>(work: impl FnOnce() -> R) -> Result<R, Error> {
    watcher::paused(work)
}

/// Hangs up, in a forked child, all pipes but those whose streams have the numbers `given`.
///
/// # Errors
/// When there are no descriptors left.
pub fn hang_up_all_but(given: &[RawFd]) -> Result<(), Error> {
    crate::pipe::hang_up_all_but(given).map_err(Error::system("hanging up pipes"))
}

/// Calls `job` on that thread once `descriptor` is readable or hung up: a pidfd, once its process
/// has ended. If it says that it is not done, it is called again a little later.
///
/// # Errors
/// When the thread cannot be started.
pub fn when_ready(
    descriptor: OwnedFd,
    job: impl FnMut() -> bool + Send + 'static,
) -> Result<(), Error> {
    watcher::when_ready(descriptor, job)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticket_written_and_read_is_the_same() {
        let place = Place { slot: 3, generation: 7, parent: 4242 };
        let ticket = Ticket { place, mailbox: u64::MAX };
        assert_eq!(ticket.to_string().parse::<Ticket>().unwrap(), ticket);
        for wrong in ["", "1.2.3", "1.2.3.4.5", "a.b.c.d", "4294967296.0.0.0"] {
            assert!(wrong.parse::<Ticket>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn settle_without_a_child_says_never_ready_and_frees_the_place() {
        let segment = Segment::builder().participants(2).anonymous().unwrap();
        for _ in 0..3 {
            let berth = Berth::reserve(&segment).unwrap();
            assert!(Berth::reserve(&segment).is_err(), "both places are taken");
            berth.put_arguments(&"hello").unwrap();
            assert_eq!(berth.settle(), Settled::NeverReady);
            assert_eq!(berth.settle(), Settled::NeverReady, "settling again changes nothing");
        }
    }
}
