//! A desk: where one process hands work to one other, and takes what came of it.
//!
//! # Purpose
//!
//! A queue is for many, and gives a message to whoever comes first. A desk is for two, its *owner* and
//! its *worker*, and says at any time which piece of work the worker is at, and which it has done. So
//! when the worker dies, its owner knows exactly what is to be done again, and what not.
//!
//! The owner puts *messages* into trays, one after another, each with a number of items in it. The
//! worker takes them in that order, and publishes what came of each item as soon as it is done. What is
//! published is done, whatever happens to the worker. The owner may take back a message that the
//! worker has not begun with.
//!
//! # Shared layout
//!
//! ```text
//! RawDesk    order u32 | status u32 | commit u64, pending u64 | began u64
//! RawTray    word u64, bytes u32, items u32 | done u64, nanoseconds u64         for each tray
//! areas      the message | what came of it                                      for each tray
//! word       u64   [ lap 32 | state 32 ]
//! done       u64   [ letter 1 | items 31 | bytes 32 ]
//! commit     u64   [ tray 32 | sequence 32 ]
//! ```
//!
//! # States
//!
//! | a tray | meaning | who may change it | if the worker dies |
//! |---|---|---|---|
//! | `Free` | nothing in it | the owner: `Ready` | – |
//! | `Ready` | a message waits | the worker: `Running`; the owner: `Free`, next lap | its owner takes it back |
//! | `Running` | the worker is at it | the worker: `Done` | items that are published are done |
//! | `Done` | the worker is through with it | the owner: `Free`, next lap | as before |
//!
//! # Invariants
//!
//! - I1 Position `p` is in tray `p` modulo [`TRAYS`], in lap `p` divided by it. A worker that finds a
//!   later lap goes on to the next position: its owner has taken this one back.
//! - I2 What came of items stands in the tray's second area up to the bytes in `done`. The worker writes
//!   behind that only, and the owner reads up to it only.
//! - I3 `commit` and `pending` say which item a tally names that is not published yet: one at a time.
//!
//! # Orderings
//!
//! - `desk`: the message before the word becomes `Ready` (Release), which the worker's CAS acquires; what
//!   came of an item before `done` (Release), which the owner's load acquires. What a tally named last
//!   before `pending` (Release), and that before `commit` (Release), which recovery's load acquires.
//!
//! Nobody sleeps here: who hands over something sets an event, after a full fence.
//!
//! # If a process dies
//!
//! The worker: nothing is to be repaired but one thing. If one of its tallies names the item of
//! `commit`, it was counted, and so it is published: see [`recover`]. The owner: the worker is its child,
//! and dies too.

use std::sync::Arc;

use multiproc_sys::clock;

use crate::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use crate::atomic::{AtomicU32, AtomicU64};
use crate::error::Error;
use crate::mutant::mutant;
use crate::segment::catalog::{Entry, Kind, ObjectId};
use crate::segment::layout::{Geometry, Raw};
use crate::segment::lifetime::Shared;
use crate::segment::memory::Extent;
use crate::segment::{Object, Segment, handle};
use crate::value::tally::{Name, Numbers, Tally};

/// How many messages can be at a desk at one time.
pub const TRAYS: u32 = 16;
/// Bytes that an area may have.
const AREA: std::ops::RangeInclusive<u64> = 256..=1 << 24;
/// How many positions a worker looks at in one call: more than its owner can have taken back meanwhile,
/// and few enough to come to an end if the laps of all trays are nonsense.
const LOOKS: usize = 1 << 24;
/// Before the areas: the desk's own lines, and those of the trays.
const HEAD: u64 = size_of::<RawDesk>() as u64;

const FREE: u32 = 0;
const READY: u32 = 1;
const RUNNING: u32 = 2;
const DONE: u32 = 3;

/// The mark in `done` of a last item that came by another way.
const LETTER: u64 = 1 << 63;

#[repr(C, align(128))]
struct RawDesk {
    order: AtomicU32,
    status: AtomicU32,
    commit: AtomicU64,
    pending: AtomicU64,
    began: AtomicU64,
    trays: [RawTray; TRAYS as usize],
}

/// What the owner writes stands in one line, and what the worker writes in another.
#[repr(C, align(128))]
struct RawTray {
    word: AtomicU64,
    bytes: AtomicU32,
    items: AtomicU32,
    worker: Line,
}

impl RawTray {
    /// Changes how it stands, if that is still so: the worker and the owner both take what is `Ready`.
    fn change(&self, now: u64, next: u64) -> bool {
        if mutant!(LookedBeforeTaken) {
            let same = self.word.load(SeqCst) == now;
            if same {
                self.word.store(next, SeqCst);
            }
            return same;
        }
        self.word.compare_exchange(now, next, SeqCst, Relaxed).is_ok()
    }
}

#[repr(C, align(64))]
struct Line {
    done: AtomicU64,
    nanoseconds: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Raw for RawDesk {}

fn word(lap: u32, state: u32) -> u64 {
    u64::from(lap) << 32 | u64::from(state)
}

fn lap_of(position: u64) -> u32 {
    (position / u64::from(TRAYS)) as u32
}

fn tray_of(position: u64) -> u32 {
    (position % u64::from(TRAYS)) as u32
}

/// What has become of a message so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether the worker has begun with it.
    pub begun: bool,
    /// Whether the worker is through with it.
    pub finished: bool,
    /// How many of its items are done.
    pub items: u32,
    /// Bytes of what came of them.
    pub bytes: u32,
    /// Whether what came of the last of these is not in the bytes, but was sent another way.
    pub letter: bool,
    /// How long the worker was at it, once it is through.
    pub nanoseconds: u64,
}

impl Progress {
    /// As the word says, so far as that can be.
    fn of_done(done: u64, items: u32, area: u64) -> Progress {
        Progress {
            items: (done >> 32) as u32 & 0x7fff_ffff,
            bytes: done as u32,
            letter: done & LETTER != 0,
            ..Progress::default()
        }
        .checked(items, area)
    }

    fn checked(mut self, items: u32, area: u64) -> Progress {
        self.items = self.items.min(items);
        self.bytes = self.bytes.min(area as u32);
        self
    }

    fn to_done(self) -> u64 {
        let letter = if self.letter { LETTER } else { 0 };
        letter | u64::from(self.items) << 32 | u64::from(self.bytes)
    }
}

/// A desk. A handle: clone it, send it to the worker as an argument.
///
/// Its owner's calls are for one thread at a time.
pub struct Desk {
    object: Arc<Object>,
    data: std::marker::PhantomData<()>,
}

impl Desk {
    /// A desk with areas of so many bytes, at least 256, for messages and for what comes of them.
    ///
    /// # Errors
    /// When the segment has no room for it.
    pub fn new_in(segment: &Segment, area: usize) -> Result<Desk, Error> {
        let area = (area as u64).clamp(*AREA.start(), *AREA.end()).next_multiple_of(64);
        let spec = Self::spec(segment.geometry(), area)?;
        Ok(Desk { object: segment.create(spec, |_| ())?, data: std::marker::PhantomData })
    }

    fn raw(&self) -> RawDeskAt<'_> {
        RawDeskAt { extent: self.object.extent(), area: self.object.entry.count }
    }

    /// Bytes of an area.
    pub fn area(&self) -> usize {
        self.object.entry.count as usize
    }

    /// What the worker says of itself; 0 at first.
    pub fn status(&self) -> u32 {
        self.raw().desk().status.load(SeqCst)
    }

    /// Says something of the worker, for its owner.
    pub fn set_status(&self, status: u32) {
        self.raw().desk().status.store(status, SeqCst);
    }

    /// What the owner wants besides; 0 at first.
    pub fn order(&self) -> u32 {
        self.raw().desk().order.load(SeqCst)
    }

    /// Tells the worker what its owner wants besides.
    pub fn set_order(&self, order: u32) {
        self.raw().desk().order.store(order, SeqCst);
    }

    /// When the item began at which the worker is, on the monotonic clock, in nanoseconds; 0 if it is at
    /// none, or does not say.
    pub fn began(&self) -> u64 {
        self.raw().desk().began.load(Acquire)
    }

    /// Puts a message of so many items at `position`; false if the tray is not free in that lap, or
    /// the message is longer than an area. For the owner.
    pub fn put(&self, position: u64, message: &[u8], items: u32) -> bool {
        let raw = self.raw();
        let (tray, lap) = (raw.tray(tray_of(position)), lap_of(position));
        let fits = message.len() as u64 <= raw.area;
        if !fits || tray.word.load(Acquire) != word(lap, FREE) {
            return false;
        }
        if mutant!(ReadyBeforeMessage) {
            tray.word.store(word(lap, READY), SeqCst);
        }
        // SAFETY: inside, as was just checked. The tray is free: nobody but its owner uses its areas.
        unsafe { raw.area_at(tray_of(position), 0).copy_from(message.as_ptr(), message.len()) };
        tray.bytes.store(message.len() as u32, Relaxed);
        tray.items.store(items, Relaxed);
        tray.worker.done.store(0, Relaxed);
        // ORDERING(desk): Release, after the message; and the owner looks for sleepers afterwards.
        tray.word.store(word(lap, READY), SeqCst);
        true
    }

    /// Takes the message at `position` back, unless the worker has begun with it. For the owner.
    pub fn take_back(&self, position: u64) -> bool {
        let (tray, lap) = (self.raw().tray(tray_of(position)), lap_of(position));
        tray.change(word(lap, READY), word(lap.wrapping_add(1), FREE))
    }

    /// What has become of the message at `position`, which has so many items. For the owner.
    pub fn progress(&self, position: u64, items: u32) -> Progress {
        let raw = self.raw();
        let (tray, lap) = (raw.tray(tray_of(position)), lap_of(position));
        // ORDERING(desk): Acquire: what came of the items, and how many before how it stands.
        let now = tray.word.load(Acquire);
        let begun = now == word(lap, RUNNING) || now == word(lap, DONE);
        if !begun {
            return Progress::default();
        }
        let done = tray.worker.done.load(Acquire);
        Progress {
            begun,
            finished: now == word(lap, DONE),
            nanoseconds: tray.worker.nanoseconds.load(Relaxed),
            ..Progress::of_done(done, items, raw.area)
        }
    }

    /// Copies what came of items, from byte `from` up to byte `to`, which [`progress`](Desk::progress)
    /// has given. For the owner.
    pub fn read(&self, position: u64, from: u32, to: u32, into: &mut Vec<u8>) {
        let raw = self.raw();
        let to = u64::from(to).min(raw.area) as usize;
        let from = (from as usize).min(to);
        into.reserve(to - from);
        // SAFETY: inside; published, so that the worker writes it no more (I2); and there is room.
        unsafe {
            let area = raw.area_at(tray_of(position), 1).add(from);
            area.copy_to_nonoverlapping(into.as_mut_ptr().add(into.len()), to - from);
            into.set_len(into.len() + to - from);
        }
    }

    /// Frees the tray of a message with which the worker is through. For the owner.
    pub fn free(&self, position: u64) {
        let (tray, lap) = (self.raw().tray(tray_of(position)), lap_of(position));
        tray.word.store(word(lap.wrapping_add(1), FREE), Release);
    }
}

/// The worker's side of a desk: the position to which it has come.
#[derive(Debug)]
pub struct Worker {
    desk: Desk,
    position: u64,
}

impl Worker {
    /// The worker of a desk at which nobody has worked yet.
    pub fn at(desk: &Desk) -> Worker {
        Worker { desk: desk.clone(), position: 0 }
    }

    /// Whether so many messages wait, at least one. A guess: some may be taken back.
    pub fn has(&self, messages: u64) -> bool {
        let last = self.position + messages - 1;
        let tray = self.desk.raw().tray(tray_of(last));
        tray.word.load(Relaxed) == word(lap_of(last), READY)
    }

    /// The next message, if one waits.
    pub fn take(&mut self) -> Option<Taken<'_>> {
        let raw = self.desk.raw();
        for _ in 0..LOOKS {
            let position = self.position;
            let (tray, lap) = (raw.tray(tray_of(position)), lap_of(position));
            let now = tray.word.load(Acquire);
            // In the lap before, its owner has yet to look what came of that.
            let is_earlier = ((now >> 32) as u32).wrapping_sub(lap).cast_signed() < 0;
            if now == word(lap, FREE) || is_earlier {
                return None;
            }
            self.position += 1;
            // ORDERING(desk): Acquire: the message.
            // DEATH: it is being run, and nothing of it is done.
            if now == word(lap, READY) && tray.change(now, word(lap, RUNNING)) {
                let begun = clock::now();
                let bytes = u64::from(tray.bytes.load(Relaxed)).min(raw.area) as usize;
                let items = tray.items.load(Relaxed);
                let so_far = Progress::default();
                return Some(Taken { desk: &self.desk, position, begun, bytes, items, so_far });
            }
        }
        None
    }
}

/// A message that the worker is at. When it is dropped, the worker is through with it, unless it dies of a
/// panic.
#[derive(Debug)]
pub struct Taken<'a> {
    desk: &'a Desk,
    position: u64,
    begun: std::time::Duration,
    bytes: usize,
    items: u32,
    so_far: Progress,
}

impl Taken<'_> {
    fn tray(&self) -> &RawTray {
        self.desk.raw().tray(tray_of(self.position))
    }

    /// What the owner has put there.
    pub fn message(&self) -> &[u8] {
        // SAFETY: inside, and nobody writes there until the worker is through with it.
        unsafe {
            let area = self.desk.raw().area_at(tray_of(self.position), 0);
            std::slice::from_raw_parts(area, self.bytes)
        }
    }

    /// How many items it has.
    pub fn items(&self) -> u32 {
        self.items
    }

    /// Room for what comes of the next item.
    pub fn room(&mut self) -> &mut [u8] {
        let used = self.so_far.bytes as usize;
        // SAFETY: inside; nobody but the worker uses what is not published (I2), and this borrows it
        // from the worker.
        unsafe {
            let area = self.desk.raw().area_at(tray_of(self.position), 1).add(used);
            std::slice::from_raw_parts_mut(area, self.desk.area() - used)
        }
    }

    /// Notes when the item began that comes now, for an owner that asks.
    pub fn begin_item(&self) {
        self.desk.raw().desk().began.store(clock::now().as_nanos() as u64, Release);
    }

    /// Notes that no item is under way.
    pub fn end_item(&self) {
        self.desk.raw().desk().began.store(0, Release);
    }

    fn next(&self, bytes: usize, letter: bool) -> Progress {
        let bytes = (self.so_far.bytes as usize + bytes).min(self.desk.area()) as u32;
        Progress { items: self.so_far.items + 1, bytes, letter, ..self.so_far }
    }

    /// One more item is done; what came of it are the first `bytes` of the [`room`](Taken::room), or,
    /// if it is a `letter`, was sent another way.
    #[inline]
    pub fn publish(&mut self, bytes: usize, letter: bool) {
        self.so_far = self.next(bytes, letter);
        // ORDERING(desk): Release, after what came of it.
        // DEATH: before, the item is not done; after, it is.
        self.tray().worker.done.store(self.so_far.to_done(), Release);
    }

    /// As [`publish`](Taken::publish), and adds what the item contributed to a tally: both or neither,
    /// whenever the worker is killed.
    ///
    /// # Panics
    /// When the tally is in another segment.
    pub fn publish_with<T: Numbers>(
        &mut self,
        bytes: usize,
        letter: bool,
        tally: &Tally<T>,
        contribution: &T,
    ) {
        assert!(tally.is_in(self.desk.object.segment()), "a tally of another segment");
        if mutant!(DoneBeforeCounted) {
            self.publish(bytes, letter);
            return tally.add(contribution);
        }
        let next = self.next(bytes, letter).to_done();
        let desk = self.desk.raw().desk();
        let sequence = (desk.commit.load(Relaxed) as u32).wrapping_add(1);
        let tray = tray_of(self.position);
        // ORDERING(desk): Release: I3, the one before is published by now, and named by no tally.
        desk.pending.store(next, Release);
        desk.commit.store(u64::from(tray) << 32 | u64::from(sequence), Release);
        let name = Name::new(self.desk.object.id, tray, sequence);
        // DEATH: before the tally's store the item is neither counted nor done; after it, recovery finds
        // the name, and publishes.
        tally.commit_as(name, contribution, || self.publish(bytes, letter));
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let nanoseconds = clock::now().saturating_sub(self.begun).as_nanos() as u64;
        let tray = self.tray();
        tray.worker.nanoseconds.store(nanoseconds, Relaxed);
        tray.word.store(word(lap_of(self.position), DONE), SeqCst);
    }
}

/// A desk in shared memory.
#[derive(Clone, Copy)]
struct RawDeskAt<'a> {
    extent: Extent<'a>,
    area: u64,
}

impl<'a> RawDeskAt<'a> {
    fn desk(self) -> &'a RawDesk {
        self.extent.raw(0)
    }

    fn tray(self, tray: u32) -> &'a RawTray {
        &self.desk().trays[tray as usize]
    }

    /// The first, or the second, area of a tray.
    fn area_at(self, tray: u32, which: u64) -> *mut u8 {
        let offset = HEAD + (2 * u64::from(tray) + which) * self.area;
        self.extent.part(offset, self.area).start().as_ptr()
    }
}

/// Publishes the item that `dead` has committed to a tally and not published, as `is_committed` says of
/// its name.
pub(crate) fn recover(
    segment: &Segment,
    id: ObjectId,
    entry: &Entry,
    is_committed: impl Fn(Name) -> bool,
) {
    if !Desk::fits(segment.geometry(), entry) {
        return;
    }
    let desk = RawDeskAt { extent: segment.extent(entry), area: entry.count };
    let commit = desk.desk().commit.load(Acquire);
    let (tray, sequence) = ((commit >> 32) as u32, commit as u32);
    if tray < TRAYS && is_committed(Name::new(id, tray, sequence)) && !mutant!(CommitForgotten) {
        let pending = desk.desk().pending.load(Relaxed);
        // DEATH: the sweep is done again, and stores the same.
        desk.tray(tray).worker.done.store(pending, Release);
    }
}

/// How many messages are at the desk that `entry` describes, and how many of their items are done.
pub(crate) fn state(segment: &Segment, entry: &Entry) -> Option<(u64, u64)> {
    if !Desk::fits(segment.geometry(), entry) {
        return None;
    }
    let desk = RawDeskAt { extent: segment.extent(entry), area: entry.count };
    let busy = desk.desk().trays.iter().filter(|tray| tray.word.load(Relaxed) as u32 != FREE);
    let items = busy.clone().map(|tray| tray.worker.done.load(Relaxed) >> 32 & 0x7fff_ffff);
    Some((busy.count() as u64, items.sum()))
}

handle!(Desk);

impl Shared for Desk {
    const KIND: Kind = Kind::Desk;
    type Element = ();

    /// The count is that of the bytes of an area.
    fn bytes(_: &Geometry, area: u64) -> Option<u64> {
        let fits = AREA.contains(&area) && area.is_multiple_of(64);
        fits.then(|| HEAD + 2 * u64::from(TRAYS) * area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desk() -> Desk {
        Desk::new_in(&Segment::current().unwrap(), 256).unwrap()
    }

    /// Does every item of the next message: what comes of each is its place.
    fn work(worker: &mut Worker) -> Option<Vec<u8>> {
        let mut taken = worker.take()?;
        let message = taken.message().to_vec();
        for item in 0..taken.items() {
            taken.room()[0] = item as u8;
            taken.publish(1, false);
        }
        Some(message)
    }

    #[test]
    fn messages_are_taken_in_order_over_many_laps() {
        let desk = desk();
        let mut worker = Worker::at(&desk);
        for position in 0..5 * u64::from(TRAYS) {
            let message = position.to_le_bytes();
            assert!(desk.put(position, &message, 3));
            assert!(!desk.put(position, &message, 3), "the tray is taken");
            assert_eq!(work(&mut worker).unwrap(), message);
            let progress = desk.progress(position, 3);
            assert!(progress.finished && progress.items == 3 && !progress.letter);
            let mut results = Vec::new();
            desk.read(position, 0, progress.bytes, &mut results);
            assert_eq!(results, [0, 1, 2]);
            desk.free(position);
            assert!(work(&mut worker).is_none());
        }
    }

    #[test]
    fn message_taken_back_is_passed_over_also_when_the_tray_is_used_again() {
        let desk = desk();
        let mut worker = Worker::at(&desk);
        for position in 0..u64::from(TRAYS) {
            assert!(desk.put(position, &[position as u8], 1));
        }
        assert!(desk.take_back(0) && desk.take_back(2) && !desk.take_back(2));
        assert!(desk.put(u64::from(TRAYS), &[200], 1), "a lap later");
        let taken: Vec<u8> = std::iter::from_fn(|| work(&mut worker)).flatten().collect();
        let mut expected: Vec<u8> = (0..TRAYS as u8).filter(|it| *it != 0 && *it != 2).collect();
        expected.push(200);
        assert_eq!(taken, expected);
        assert!(!desk.take_back(1), "the worker was through with it");
    }

    #[test]
    fn worker_waits_for_a_tray_that_its_owner_has_not_freed_yet() {
        let desk = desk();
        let mut worker = Worker::at(&desk);
        for position in 0..u64::from(TRAYS) {
            assert!(desk.put(position, &[position as u8], 1));
            work(&mut worker).unwrap();
        }
        assert!(work(&mut worker).is_none());
        desk.free(0);
        assert!(desk.put(u64::from(TRAYS), &[99], 1));
        assert_eq!(work(&mut worker).unwrap(), [99]);
    }

    #[test]
    fn message_longer_than_an_area_is_refused() {
        let desk = desk();
        assert!(desk.put(0, &vec![1; desk.area()], 1));
        assert!(!desk.put(1, &vec![1; desk.area() + 1], 1));
    }

    #[test]
    fn progress_of_an_unfinished_message_counts_what_is_published() {
        let desk = desk();
        let mut worker = Worker::at(&desk);
        desk.put(0, b"two items", 2);
        assert_eq!(desk.progress(0, 2), Progress::default());
        let mut taken = worker.take().unwrap();
        taken.room()[..5].copy_from_slice(b"first");
        assert_eq!(desk.progress(0, 2).items, 0);
        taken.publish(5, false);
        let progress = desk.progress(0, 2);
        assert_eq!((progress.items, progress.bytes, progress.finished), (1, 5, false));
        taken.publish(0, true);
        drop(taken);
        let progress = desk.progress(0, 2);
        assert!(progress.finished && progress.letter);
        assert_eq!(progress.items, 2);
    }

    #[test]
    fn progress_never_claims_more_than_there_is() {
        let desk = desk();
        let mut worker = Worker::at(&desk);
        desk.put(0, b"x", 1);
        drop(worker.take());
        desk.raw().tray(0).worker.done.store(u64::MAX, SeqCst);
        let progress = desk.progress(0, 1);
        assert_eq!((progress.items, progress.bytes), (1, 256));
        desk.read(0, u32::MAX, u32::MAX, &mut Vec::new());
    }

    #[test]
    fn worker_comes_to_an_end_when_all_laps_are_nonsense() {
        let desk = desk();
        let nonsense = word(u32::MAX >> 1, FREE);
        (0..TRAYS).for_each(|tray| desk.raw().tray(tray).word.store(nonsense, SeqCst));
        let mut worker = Worker::at(&desk);
        assert!(worker.take().is_none());
        assert_eq!(worker.position, LOOKS as u64);
    }

    #[test]
    fn publish_with_a_tally_counts_once() {
        let desk = desk();
        let tally = Tally::<u64>::new().unwrap();
        let mut worker = Worker::at(&desk);
        desk.put(0, b"x", 2);
        let mut taken = worker.take().unwrap();
        taken.publish_with(0, false, &tally, &7);
        taken.publish_with(0, false, &tally, &8);
        drop(taken);
        assert_eq!((tally.total(), desk.progress(0, 2).items), (15, 2));
    }
}
