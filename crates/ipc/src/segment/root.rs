//! What is published: handles that others find by name.
//!
//! # Purpose
//!
//! A process that has opened a named segment has no handle yet, and nobody who could send it one. So a
//! *root* is an object that names others, and that is itself known by a name: it keeps alive what it
//! names, and lives until it is unpublished, whoever made it.
//!
//! # Shared layout
//!
//! ```text
//! RawRoot   published u64 | length u64
//! then      `count` names of objects, u64 each | the handles as a message, `length` bytes
//! ```
//!
//! The root's own name, and the structure of what it holds, stand in its catalog entry.
//!
//! # States
//!
//! | `published` | meaning | if its maker dies |
//! |---|---|---|
//! | 0 | being made, or unpublished: lives while somebody is attached | collected |
//! | 1 | to be found: lives with all that it names | stays |
//!
//! # Invariants
//!
//! - I1 `published` changes only under the catalog's lock, and only while the entry is live. No two
//!   published roots have the same name.
//! - I2 All else of a root is written before its entry is live, and never changes.
//!
//! # If a process dies
//!
//! Publishing: before `published` is set, the root is one that only the dead was attached to, and the
//! sweep collects it; after that it is published. Unpublishing: before `published` is cleared, nothing
//! has happened; after that, the sweep collects the root and what only it named.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::catalog::{Entry, Kind, ObjectId, Phase, Spec, name_words};
use super::layout::Raw;
use super::lifetime::Catalog;
use super::{Object, Segment};
use crate::atomic::AtomicU64;
use crate::atomic::Ordering::{Relaxed, SeqCst};
use crate::codec::{self, Encoded, Route};
use crate::error::Error;
use crate::queue::carried;
use crate::structure::Structure;
use crate::value::words;

/// A handle of something in a segment, or a struct of handles.
///
/// [`Counter`](crate::Counter), [`Mutex`](crate::Mutex), [`Array`](crate::Array),
/// [`Queue`](crate::Queue) and all the others are handles, and so are a `Vec` and an `Option` of them. A
/// struct whose fields are all handles becomes one by deriving this: it is cloned, sent to a child or in
/// a message, and [published](Segment::publish) as one value. The derive implements `Clone`,
/// `Serialize` and `Deserialize` too, field by field.
///
/// ```
/// use multiproc_ipc::{Array, Counter, Handle, Mutex, Queue};
///
/// #[derive(Handle)]
/// struct Stats {
///     requests: Counter,
///     slowest: Mutex<[u64; 2]>,
///     jobs: Jobs<String>,
/// }
///
/// #[derive(Handle)]
/// struct Jobs<T> {
///     waiting: Queue<T>,
///     done_by: Array<u64>,
/// }
/// ```
///
/// Anything else is none of a segment's, and cannot be a field:
///
/// ```compile_fail
/// #[derive(multiproc_ipc::Handle)]
/// struct Named {
///     name: String,
///     requests: multiproc_ipc::Counter,
/// }
/// ```
#[doc(alias = "Shared")]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no handle of anything in a segment",
    note = "a struct whose fields are all handles becomes one by `#[derive(Handle)]`"
)]
pub trait Handle: Clone + Serialize + DeserializeOwned {
    /// Which handles it consists of, and what the data behind them looks like. Not to be written by
    /// hand: the derive knows.
    const STRUCTURE: Structure;
}

impl<H: Handle> Handle for Vec<H> {
    const STRUCTURE: Structure = Structure::of_list(H::STRUCTURE);
}

impl<H: Handle> Handle for Option<H> {
    const STRUCTURE: Structure = Structure::of_option(H::STRUCTURE);
}

/// The head of a root in shared memory; names and message follow.
#[repr(C)]
struct RawRoot {
    published: AtomicU64,
    length: AtomicU64,
}

// SAFETY: atomics only.
unsafe impl Raw for RawRoot {}

const NAMES: u64 = size_of::<RawRoot>() as u64;

impl Segment {
    /// Publishes a handle, or a struct of handles, under a name: whoever takes part in the segment can
    /// [find](Segment::find) it, processes that have nothing to do with this one among them. What is
    /// published lives, whoever ends or dies, until it is [unpublished](Segment::unpublish) or the
    /// segment is gone.
    ///
    /// The names of [`Counter::named`](crate::Counter::named) and its like are for listings only; they
    /// need not differ, and nothing is found by them.
    ///
    /// Kill the process at any instruction: either all of it is published, or nothing. A queue that is
    /// published is not disconnected, for somebody may yet find it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_ipc::{Counter, Handle, Mutex, Segment};
    ///
    /// #[derive(Handle)]
    /// struct Stats {
    ///     requests: Counter,
    ///     best: Mutex<u64>,
    /// }
    ///
    /// # let name = format!("multiproc-doc-publish.{}", std::process::id());
    /// let segment = Segment::builder().bytes(1 << 20).objects(64).named(&name)?;
    /// let stats =
    ///     Stats { requests: Counter::new_in(&segment)?, best: Mutex::new_in(&segment, 0)? };
    /// stats.requests.add(1);
    /// segment.publish("stats", &stats)?;
    ///
    /// // In whatever program:
    /// let segment = Segment::open(&name)?;
    /// let stats: Stats = segment.find("stats")?;
    /// assert_eq!(stats.requests.get(), 1);
    ///
    /// segment.unpublish("stats")?;
    /// Segment::unlink(&name)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Unpublishable`] if the name is none, [`Error::Taken`] if something is published under it
    /// already, [`Error::Codec`] if a handle is one of another segment, and what making an object may
    /// meet.
    #[doc(alias = "BaseManager")]
    #[doc(alias = "register")]
    pub fn publish<H: Handle>(&self, name: &str, handle: &H) -> Result<(), Error> {
        let wanted = checked(name)?;
        let message = codec::encode(Route::Message(self, None), handle)?;
        let root = self.create(spec(H::STRUCTURE, &message), |root| {
            root.set_name(name);
            fill(root, &message);
        })?;
        // Whoever finds a queue knows it as whoever receives it does.
        message.carried.iter().for_each(|id| carried::note_shared(self, *id));
        // Let go of before `root` is: that takes the lock itself.
        let catalog = self.catalog()?;
        if self.published(&catalog, &wanted).is_some() {
            return Err(Error::Taken(name.into()));
        }
        // DEATH: before, nobody but us is attached to the root, and it is collected; after, it is
        // published.
        root.raw::<RawRoot>(0).published.store(1, SeqCst);
        Ok(())
    }

    /// Finds what was [published](Segment::publish) under a name. Doesn't wait for it to be published.
    ///
    /// # Errors
    /// [`Error::NotPublished`] if nothing is published under this name, and [`Error::OtherType`] if it is
    /// a handle of another kind, or a struct of other fields, or of data of another structure. What a
    /// queue's messages are is told when they are received.
    pub fn find<H: Handle>(&self, name: &str) -> Result<H, Error> {
        let wanted = checked(name)?;
        let mut before = None;
        let root = loop {
            let found = self.published(&self.catalog()?, &wanted);
            let id = found.ok_or_else(|| Error::NotPublished(name.into()))?;
            match self.attach(
                id,
                Kind::Root,
                None,
                |entry| entry.kind == Some(Kind::Root),
                |_| Ok(()),
            ) {
                // Unpublished meanwhile; another one may be published in its place.
                Err(Error::NoSuchObject(_)) if before != Some(id) => before = Some(id),
                attached => break attached?,
            }
        };
        if root.entry.structure != H::STRUCTURE.number() {
            return Err(Error::OtherType(name.into()));
        }
        // While we are attached to the root, everything that it names lives.
        codec::decode(Route::Message(self, None), &message(&root)?)
    }

    /// Takes back what was [published](Segment::publish) under a name: nobody can find it any more. What
    /// it names lives on as long as somebody has a handle.
    ///
    /// # Errors
    /// [`Error::NotPublished`].
    pub fn unpublish(&self, name: &str) -> Result<(), Error> {
        let wanted = checked(name)?;
        let catalog = self.catalog()?;
        let found = self.published(&catalog, &wanted);
        let id = found.ok_or_else(|| Error::NotPublished(name.into()))?;
        if let Some(root) = head(self, &self.entry(id.index).read()) {
            // DEATH: before, nothing has happened; after, the sweep collects what nobody reaches.
            root.published.store(0, SeqCst);
        }
        self.reference_removed(&catalog, id);
        Ok(())
    }

    /// The root that is published under a name.
    fn published(&self, _: &Catalog<'_>, wanted: &[u64; 6]) -> Option<ObjectId> {
        let index = self.entries().find(|index| {
            let mut words = self.entry(*index).name.iter().zip(wanted);
            self.is_published(*index) && words.all(|(word, wanted)| word.load(Relaxed) == *wanted)
        })?;
        Some(ObjectId { index, generation: self.entry(index).state().0 })
    }

    /// Whether the object at `index` is a root that is published. Under the catalog's lock.
    pub(super) fn is_published(&self, index: u32) -> bool {
        let raw = self.entry(index);
        let live = raw.state().1 == Phase::Live;
        live && head(self, &raw.read()).is_some_and(|root| root.published.load(SeqCst) != 0)
    }
}

/// A name that something can be published under, as an entry has it.
fn checked(name: &str) -> Result<[u64; 6], Error> {
    let words = name_words(name);
    let fits = !name.is_empty() && name.len() <= size_of_val(&words);
    if fits && !name.contains(char::is_control) {
        Ok(words)
    } else {
        Err(Error::Unpublishable(name.into()))
    }
}

fn spec(structure: Structure, message: &Encoded) -> Spec {
    let names = message.carried.len() as u64;
    let bytes = NAMES + 8 * names + message.bytes.len() as u64;
    Spec { structure: structure.number(), ..Spec::opaque(Kind::Root, bytes, names) }
}

/// Fills in a root that is being made.
fn fill(root: &Object, message: &Encoded) {
    for (place, id) in message.carried.iter().enumerate() {
        root.raw::<AtomicU64>(NAMES + 8 * place as u64).store(id.pack(), Relaxed);
    }
    root.raw::<RawRoot>(0).length.store(message.bytes.len() as u64, Relaxed);
    let start = NAMES + 8 * message.carried.len() as u64;
    // SAFETY: nobody else sees the object yet, and it has room for the message, by `spec`.
    // DEATH: the object is not in the catalog; recovery frees its extent.
    unsafe { words::write(root.address(start), &message.bytes) };
}

/// A copy of the message that a root holds.
fn message(root: &Object) -> Result<Vec<u8>, Error> {
    let inside = || {
        let length = head(root.segment(), &root.entry)?.length.load(Relaxed);
        let start = root.entry.count.checked_mul(8)?.checked_add(NAMES)?;
        (start.checked_add(length)? <= root.entry.bytes).then_some((start, length))
    };
    let outside = Error::Corrupt("a published message lies outside its object");
    let (start, length) = inside().ok_or(outside)?;
    let mut bytes = vec![0; length as usize];
    // SAFETY: inside the object, as was just checked, and accessed by atomics alone.
    unsafe { words::read(root.address(start), &mut bytes) };
    Ok(bytes)
}

/// The head of the root that `entry` describes, if it is one.
fn head<'a>(segment: &'a Segment, entry: &Entry) -> Option<&'a RawRoot> {
    let fits = entry.kind == Some(Kind::Root) && entry.bytes >= NAMES && segment.is_inside(entry);
    fits.then(|| segment.raw(entry.offset))
}

/// Calls `visit` with every object that the root that `entry` describes names.
pub(crate) fn each(segment: &Segment, entry: &Entry, visit: &mut dyn FnMut(ObjectId)) {
    if head(segment, entry).is_none() {
        return;
    }
    for place in 0..entry.count.min((entry.bytes - NAMES) / 8) {
        let word: &AtomicU64 = segment.raw(entry.offset + NAMES + 8 * place);
        // Of a name that no program of ours wrote, nothing follows.
        let id = ObjectId::unpack(word.load(Relaxed));
        id.filter(|id| id.index < segment.geometry().objects).map(&mut *visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, Counter, Handle, Mutex, Plain, Queue, Value};

    fn segment() -> Segment {
        let builder = Segment::builder().participants(4).objects(64).bytes(1 << 20);
        builder.anonymous().unwrap()
    }

    fn objects(segment: &Segment) -> usize {
        let live = |index: &u32| segment.entry(*index).state().1 != Phase::Free;
        segment.entries().filter(live).count()
    }

    #[derive(Handle)]
    struct Stats {
        hits: Counter,
        best: Mutex<[u32]>,
        inner: Inner<String>,
        many: Vec<Value<u8>>,
        none: Option<Counter>,
    }

    #[derive(Handle)]
    struct Inner<T>(Queue<T>, Array<f64>);

    fn stats(segment: &Segment) -> Stats {
        Stats {
            hits: Counter::new_in(segment).unwrap(),
            best: Mutex::from_slice_in(segment, &[1, 2, 3]).unwrap(),
            inner: Inner(
                Queue::builder(2).build_in(segment).unwrap(),
                Array::new_in(segment, 2).unwrap(),
            ),
            many: (0..3).map(|number| Value::new_in(segment, number).unwrap()).collect(),
            none: None,
        }
    }

    #[test]
    fn published_struct_lives_without_handles_until_it_is_unpublished() {
        let segment = segment();
        let made = stats(&segment);
        made.hits.add(5);
        made.inner.0.send("hello".into()).unwrap();
        segment.publish("stats", &made).unwrap();
        drop(made);
        // Others come and go meanwhile, in whatever room is free.
        (0..100).for_each(|_| drop(Array::<u64>::new_in(&segment, 100).unwrap()));
        assert_eq!(objects(&segment), 8);
        let found: Stats = segment.find("stats").unwrap();
        assert_eq!((found.hits.get(), found.inner.0.recv().unwrap()), (5, "hello".into()));
        assert_eq!(*found.best.lock().unwrap(), [1, 2, 3]);
        assert_eq!(found.many.iter().map(Value::get).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(found.none.is_none());
        segment.unpublish("stats").unwrap();
        assert!(matches!(segment.find::<Stats>("stats"), Err(Error::NotPublished(_))));
        assert_eq!(objects(&segment), 7, "what is held lives");
        drop(found);
        assert_eq!(objects(&segment), 0);
    }

    #[test]
    fn publish_under_a_name_that_is_taken_is_an_error_and_leaves_nothing() {
        let segment = segment();
        let (one, other) = (Counter::new_in(&segment).unwrap(), Counter::new_in(&segment).unwrap());
        one.add(1);
        segment.publish("hits", &one).unwrap();
        let taken = segment.publish("hits", &other).unwrap_err();
        assert!(matches!(&taken, Error::Taken(name) if name == "hits"), "{taken}");
        assert_eq!(objects(&segment), 3);
        assert_eq!(segment.find::<Counter>("hits").unwrap().get(), 1);
        segment.publish("hits2", &one).unwrap();
        segment.unpublish("hits").unwrap();
        segment.publish("hits", &other).unwrap();
        assert_eq!(segment.find::<Counter>("hits").unwrap().get(), 0);
        assert_eq!(segment.find::<Counter>("hits2").unwrap().get(), 1);
    }

    #[test]
    fn names_of_1_to_48_bytes_can_be_published_under() {
        let segment = segment();
        let counter = Counter::new_in(&segment).unwrap();
        for name in ["", "a\0", "a\nb", &"x".repeat(49), &"ä".repeat(25)] {
            let unpublishable =
                |error: &Error| matches!(error, Error::Unpublishable(it) if it == name);
            assert!(
                segment.publish(name, &counter).is_err_and(|it| unpublishable(&it)),
                "{name:?}"
            );
            assert!(segment.find::<Counter>(name).is_err_and(|it| unpublishable(&it)), "{name:?}");
            assert!(segment.unpublish(name).is_err_and(|it| unpublishable(&it)), "{name:?}");
        }
        for name in ["x", "a b/c", &"x".repeat(47), &"x".repeat(48), &"ä".repeat(24)] {
            segment.publish(name, &counter).unwrap();
            assert!(segment.find::<Counter>(name).is_ok(), "{name:?}");
        }
        assert!(matches!(segment.unpublish("y"), Err(Error::NotPublished(_))));
    }

    #[test]
    fn find_of_another_type_says_so() {
        #[derive(Handle)]
        struct One {
            hits: Counter,
            best: Mutex<u64>,
        }
        #[derive(Handle)]
        struct Renamed {
            hits: Counter,
            best: Mutex<u64>,
        }
        #[derive(Handle)]
        struct OtherName {
            hits: Counter,
            worst: Mutex<u64>,
        }
        #[derive(Handle)]
        struct OtherData {
            hits: Counter,
            best: Mutex<i64>,
        }
        let segment = segment();
        let one = One {
            hits: Counter::new_in(&segment).unwrap(),
            best: Mutex::new_in(&segment, 7).unwrap(),
        };
        segment.publish("one", &one).unwrap();
        fn found<H: Handle>(segment: &Segment, name: &str) -> bool {
            match segment.find::<H>(name) {
                Ok(_) => true,
                Err(Error::OtherType(_)) => false,
                Err(error) => panic!("{error}"),
            }
        }
        let Renamed { hits, best } = segment.find("one").unwrap();
        assert_eq!((hits.get(), *best.lock().unwrap()), (0, 7));
        assert!(!found::<OtherName>(&segment, "one"));
        assert!(!found::<OtherData>(&segment, "one"));
        assert!(!found::<Counter>(&segment, "one"));
        assert!(!found::<Vec<Counter>>(&segment, "one"));
        segment.publish("array", &Array::<u32>::new_in(&segment, 2).unwrap()).unwrap();
        assert!(found::<Array<u32>>(&segment, "array"));
        assert!(!found::<Array<f32>>(&segment, "array"));
        assert!(!found::<Value<u32>>(&segment, "array"));
        assert!(!found::<Option<Array<u32>>>(&segment, "array"));
        assert_ne!(<Mutex<u64> as Handle>::STRUCTURE, <Mutex<[u64]> as Handle>::STRUCTURE);
        assert_ne!(<Mutex<u64> as Handle>::STRUCTURE, u64::STRUCTURE);
    }

    #[test]
    fn publish_of_a_handle_of_another_segment_is_an_error_and_leaves_nothing() {
        let (here, there) = (segment(), segment());
        let counter = Counter::new_in(&there).unwrap();
        let error = here.publish("hits", &counter).unwrap_err();
        assert!(error.to_string().contains("within its own segment"), "{error}");
        assert_eq!(objects(&here), 0);
    }

    #[test]
    fn struct_of_handles_in_a_message_arrives_whole() {
        let segment = segment();
        let queue = Queue::<Stats>::builder(1).build_in(&segment).unwrap();
        let sent = stats(&segment);
        queue.send(sent.clone()).unwrap();
        sent.hits.add(3);
        drop(sent);
        let received = queue.recv().unwrap();
        assert_eq!((received.hits.get(), received.many[2].get()), (3, 2));
    }

    #[test]
    fn published_names_that_nobody_wrote_are_errors_and_no_crash() {
        let segment = segment();
        segment.publish("stats", &stats(&segment)).unwrap();
        let id = segment.published(&segment.catalog().unwrap(), &name_words("stats")).unwrap();
        let entry = segment.entry(id.index).read();
        let words = entry.bytes / 8;
        for word in 1..words {
            for scribble in [0, 1, 77, u64::MAX, 1 << 63] {
                let place: &AtomicU64 = segment.raw(entry.offset + 8 * word);
                let was = place.swap(scribble, SeqCst);
                // An error, or luck; what is named no more is not collected behind its handles.
                let _ = segment.find::<Stats>("stats");
                place.store(was, SeqCst);
            }
        }
    }
}
