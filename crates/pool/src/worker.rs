//! What a worker does: takes messages from its desk, and runs the items in them.
//!
//! What comes of an item is `[ VALUE | the value ]`, `[ PANIC | what it said ]`,
//! `[ RESULT | why it cannot be encoded ]` or `[ ARGUMENTS | why they cannot be read ]`, each after its
//! length, so that one that cannot be read costs no other. What is too long for the room that is left, or
//! names what can only travel in a message of its own, is sent as a *letter*, with which the worker is
//! through with the message: its owner gives out the rest again.
//!
//! The code of an item's types is as foreign as its function: all of it runs where a panic is caught, and
//! has run when the item is published.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU64, fence};
use std::time::Duration;

use multiproc_ipc::family::desk::{self, Desk, Taken, Worker};
use multiproc_ipc::{Error, Event, Numbers, Queue, Segment, SendError, Tally};
use multiproc_process::{Panic, Target, family};
use multiproc_sys::clock::Deadline;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::job::{BARE, HEADER_BYTES, PARCEL, QUIET, TIMED, discard};

pub(crate) const VALUE: u8 = 0;
pub(crate) const PANIC: u8 = 1;
pub(crate) const RESULT: u8 = 2;
pub(crate) const ARGUMENTS: u8 = 3;

/// Bytes before what comes of an item: how long it is, and the tag.
const PREFIX_BYTES: usize = 4;

fn prefix(tag: u8, bytes: usize) -> [u8; PREFIX_BYTES] {
    ((bytes as u32) << 8 | u32::from(tag)).to_le_bytes()
}

/// The tag of what came of the first item of `bytes`, what came of it, and the bytes of the others.
#[inline]
pub(crate) fn first_outcome(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (prefix, rest) = bytes.split_first_chunk()?;
    let prefix = u32::from_le_bytes(*prefix);
    let (outcome, others) = rest.split_at_checked((prefix >> 8) as usize)?;
    Some((prefix as u8, outcome, others))
}

/// What a worker says of itself: it is about to run the initializer.
pub(crate) const STARTING: u32 = 0;
/// It takes messages.
pub(crate) const READY: u32 = 1;
/// It takes messages, and has more memory than it should.
pub(crate) const HEAVY: u32 = 2;

/// What its owner wants: that it ends, once it is through with its messages.
pub(crate) const LEAVE: u32 = 1;

/// An item is not begun with less room than this for what comes of it.
const ROOM_MIN: usize = 128;
/// How often the worker's memory is looked at.
const MEMORY_EVERY: Duration = Duration::from_millis(20);

/// With so many messages left, a worker tells its pool even what nobody waits for.
const LOW: u64 = 2;

/// What a worker is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Post {
    pub(crate) pool: u64,
    pub(crate) desk: Desk,
    /// Set when there may be something at the desk.
    pub(crate) work: Event,
    /// Where results go that do not fit the desk.
    pub(crate) letters: Queue<()>,
    /// Set when there may be something for the pool.
    pub(crate) bell: Event,
    /// Bytes of resident memory from which on the worker is to be replaced.
    pub(crate) memory: Option<u64>,
}

impl Post {
    /// Sees to it that the pool looks at this desk.
    fn ring(&self) {
        // Between what was done before and the look; the pool clears the bell before it looks at desks.
        fence(SeqCst);
        if !self.bell.is_set() {
            self.bell.set();
        }
    }
}

/// Runs the items of a message.
pub(crate) type Entry = fn(&mut Taken<'_>, &Post);

/// The pool whose worker this process is.
static POOL: AtomicU64 = AtomicU64::new(0);

/// The pool whose worker this process is; 0 if it is none.
pub(crate) fn own_pool() -> u64 {
    POOL.load(Relaxed)
}

thread_local! {
    /// What the item under way will add to a tally when it is done.
    static CONTRIBUTION: RefCell<Option<Contribution>> = const { RefCell::new(None) };
}

/// Publishes an item together with what it contributes.
type Contribution = Box<dyn FnOnce(&mut Taken<'_>, usize, bool)>;

/// Adds to a tally what the task that calls this contributes: when the task is done, and exactly once,
/// however many workers die of it.
///
/// The contribution counts as soon as the task's result is published, and not before: both or neither,
/// whenever the worker is killed. A task that panics contributes nothing. One that runs in the process
/// that submitted it (see [`Pool`](crate::Pool#nesting)) contributes when this is called, as does any code that is no
/// task.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # multiproc_process::init();
/// use multiproc_ipc::Tally;
/// use multiproc_pool::{Pool, contribute};
///
/// let words = Tally::<u64>::new()?;
/// let pool = Pool::new(2)?;
/// let texts = ["to be or not", "to be"];
/// let tasks = texts.map(|text| (words.clone(), text.to_string()));
/// pool.starmap(|words: Tally<u64>, text: String| {
///     contribute(&words, &(text.split(' ').count() as u64));
/// }, tasks)?;
/// assert_eq!(words.total(), 6);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
/// When the task has contributed already: one store says that it is done, and what it contributed. And when
/// the tally is in another segment than the pool.
pub fn contribute<T: Numbers + 'static>(tally: &Tally<T>, contribution: &T) {
    if own_pool() == 0 || !is_under_way() {
        return tally.add(contribution);
    }
    let here = Segment::current().is_ok_and(|segment| desk::can_contribute(tally, &segment));
    assert!(here, "a tally of another segment");
    let (tally, contribution) = (tally.clone(), *contribution);
    let publish = move |taken: &mut Taken<'_>, bytes, letter| {
        taken.publish_with(bytes, letter, &tally, &contribution);
    };
    CONTRIBUTION.with_borrow_mut(|staged| {
        assert!(staged.is_none(), "a task can contribute once");
        *staged = Some(Box::new(publish));
    });
}

thread_local! {
    static UNDER_WAY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

fn is_under_way() -> bool {
    UNDER_WAY.get()
}

/// The worker's process, without an initializer.
pub(crate) fn work(post: Post) {
    POOL.store(post.pool, Relaxed);
    serve(&post);
}

/// The worker's process, with an initializer.
pub(crate) fn work_after<F: Target<A, Output = ()>, A>(post: Post, arguments: A) {
    POOL.store(post.pool, Relaxed);
    family::conjure::<F>().call(arguments);
    serve(&post);
}

fn serve(post: &Post) {
    let mut worker = Worker::at(&post.desk);
    let mut look = Deadline::after(MEMORY_EVERY);
    post.desk.set_status(READY);
    post.ring();
    loop {
        let Some(mut taken) = worker.take() else {
            if post.desk.order() == LEAVE {
                return;
            }
            post.work.wait();
            // Cleared before the next look, which therefore sees what it was set for.
            post.work.clear();
            fence(SeqCst);
            continue;
        };
        let quiet = taken.message().get(8).is_some_and(|flags| flags & QUIET != 0);
        run(&mut taken, post);
        drop(taken);
        if let Some(limit) = post.memory
            && look.passed()
        {
            look = Deadline::after(MEMORY_EVERY);
            if resident_bytes().is_some_and(|bytes| bytes > limit) {
                post.desk.set_status(HEAVY);
            }
        }
        if !quiet || !worker.has(LOW) {
            post.ring();
        }
    }
}

fn run(taken: &mut Taken<'_>, post: &Post) {
    let entry = taken.message().first_chunk::<8>().map(|name| u64::from_le_bytes(*name) as usize);
    let Some(address) = entry.and_then(family::find_code) else {
        return put_reason(taken, ARGUMENTS, "a message that names no function".into());
    };
    // SAFETY: the pool, which executes the same file (checked when this process was started), took the
    // name from an `Entry` inside the image's code.
    let entry = unsafe { std::mem::transmute::<usize, Entry>(address) };
    entry(taken, post);
}

/// The memory of this process that is resident, without what it shares.
fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').skip(1).map(|word| word.parse::<u64>().ok());
    let (resident, shared) = (pages.next()??, pages.next()??);
    Some(resident.saturating_sub(shared) * 4096)
}

/// The name of the code that calls `F` on arguments of type `A`.
pub(crate) fn entry_of<F, A>() -> Result<usize, multiproc_process::SpawnError>
where
    F: Target<A>,
    F::Output: Serialize + DeserializeOwned,
    A: Serialize + DeserializeOwned,
{
    let entry: Entry = run_items::<F, A>;
    family::name_of_code(entry as usize)
}

fn run_items<F, A>(taken: &mut Taken<'_>, post: &Post)
where
    F: Target<A>,
    F::Output: Serialize + DeserializeOwned,
    A: Serialize + DeserializeOwned,
{
    let function = family::conjure::<F>();
    let timed = taken.message().get(8).is_some_and(|flags| flags & TIMED != 0);
    let mut at = HEADER_BYTES;
    for item in 0..taken.items() {
        if item > 0 && taken.room().len() < ROOM_MIN {
            return;
        }
        if timed {
            taken.begin_item();
        }
        let mut next = None;
        let written = family::catch(|| {
            let bytes = taken.message().get(at..).unwrap_or_default();
            let (arguments, bytes) = match read_item::<A>(bytes, post) {
                Ok(read) => read,
                Err(error) => return Written::Refused(ARGUMENTS, error.to_string()),
            };
            next = Some(at + bytes);
            UNDER_WAY.set(true);
            let value = function.call(arguments);
            UNDER_WAY.set(false);
            write_value(taken.room(), post, value)
        });
        UNDER_WAY.set(false);
        if timed {
            // Before the next one can seem to be under way.
            taken.end_item();
        }
        let letter = matches!(written, Ok(Written::Letter));
        match written {
            Ok(Written::Here(bytes)) => publish(taken, bytes, false),
            Ok(Written::Letter) => publish(taken, 0, true),
            Ok(Written::Refused(tag, reason)) => put_reason(taken, tag, reason),
            Err(panic) => put_panic(taken, panic),
        }
        match next {
            Some(next) if !letter => at = next,
            // If its arguments could not be read, it is not known where those of the next one begin. It
            // comes again, in a message of its own.
            _ => return,
        }
    }
}

fn read_item<A>(bytes: &[u8], post: &Post) -> Result<(A, usize), Error>
where
    A: Serialize + DeserializeOwned,
{
    match bytes {
        [BARE, bare @ ..] => desk::read(bare).map(|(arguments, used)| (arguments, used + 1)),
        [PARCEL, named @ ..] => {
            let name = named.first_chunk().ok_or(Error::Malformed("a parcel without a name"))?;
            let parcel = desk::find::<A>(&post.letters, u64::from_le_bytes(*name))?;
            Ok((desk::peek(&parcel)?, 9))
        }
        _ => Err(Error::Malformed("an item that is neither bare nor a parcel")),
    }
}

/// Publishes what came of an item, and what it contributes.
#[inline]
fn publish(taken: &mut Taken<'_>, bytes: usize, letter: bool) {
    match CONTRIBUTION.take() {
        None => taken.publish(bytes, letter),
        Some(contribution) => contribution(taken, bytes, letter),
    }
}

/// How a value was passed on, or why not.
enum Written {
    /// It takes so many bytes of the room.
    Here(usize),
    Letter,
    Refused(u8, String),
}

/// A value that is sent, and stays here.
struct Lent<R>(Rc<R>);

impl<R: Serialize> Serialize for Lent<R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, R: Deserialize<'de>> Deserialize<'de> for Lent<R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Lent<R>, D::Error> {
        R::deserialize(deserializer).map(|value| Lent(Rc::new(value)))
    }
}

#[inline]
fn write_value<R>(room: &mut [u8], post: &Post, value: R) -> Written
where
    R: Serialize + DeserializeOwned,
{
    if let Some((place, room)) = room.split_first_chunk_mut()
        && let Some(bytes) = desk::write(&value, room)
    {
        *place = prefix(VALUE, bytes);
        discard(value);
        return Written::Here(PREFIX_BYTES + bytes);
    }
    let value = Rc::new(value);
    // Sent is sent: a panic of its drop would leave a letter behind that stands for another item.
    let sent = desk::retyped::<(), Lent<R>>(&post.letters).send(Lent(value.clone()));
    let written = match &sent {
        Ok(()) => Written::Letter,
        Err(SendError::Refused { error, .. }) => Written::Refused(RESULT, error.to_string()),
        Err(error) => Written::Refused(RESULT, error.to_string()),
    };
    drop(sent);
    discard(value);
    written
}

fn put_panic(taken: &mut Taken<'_>, mut panic: Panic) {
    let room = taken.room().len();
    if panic.message.len() + panic.backtrace.len() + panic.location.len() + ROOM_MIN / 2 > room {
        shorten(&mut panic.backtrace, room / 2);
        shorten(&mut panic.message, room / 4);
        shorten(&mut panic.location, room / 8);
    }
    put_failure(taken, PANIC, &panic);
}

fn put_reason(taken: &mut Taken<'_>, tag: u8, mut reason: String) {
    shorten(&mut reason, taken.room().len().saturating_sub(ROOM_MIN / 2));
    put_failure(taken, tag, &reason);
}

fn shorten(text: &mut String, bytes: usize) {
    text.truncate(text.floor_char_boundary(bytes));
}

fn put_failure<E: Serialize>(taken: &mut Taken<'_>, tag: u8, failure: &E) {
    CONTRIBUTION.take();
    let bytes = match taken.room().split_first_chunk_mut() {
        Some((place, room)) => {
            let bytes = desk::write(failure, room).unwrap_or(0);
            *place = prefix(tag, bytes);
            PREFIX_BYTES + bytes
        }
        None => 0,
    };
    taken.publish(bytes, false);
}
