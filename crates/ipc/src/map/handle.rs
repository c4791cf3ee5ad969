//! The typed map: making and reading it.

use std::borrow::Borrow;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cell::Stored;
use super::layout::Shape;
use super::table::{self, Key, RawTable};
use crate::codec::{self, Encoded, Route};
use crate::error::Error;
use crate::segment::catalog::{Entry, Kind};
use crate::segment::layout::Geometry;
use crate::segment::lifetime::Shared;
use crate::segment::{Object, Segment, named, travels};

/// Bytes of an encoded key and of an encoded value, when nobody says how many.
const KEY_BYTES: u32 = 64;
const VALUE_BYTES: u32 = 192;

/// A hash map in shared memory, for any number of readers and writers in any processes.
///
/// A handle: clone it, send it to another process as an argument or in a message. It holds up to
/// as many entries as it was made for, in memory that is taken when it is made: for each entry, the
/// room of a key and of two values, and about a hundred bytes. Python's `Manager().dict()` and, with
/// strings as keys, `Manager().Namespace()`, without the server process.
///
/// Keys and values are encoded with serde. Two keys are the same if their encodings are; a key can
/// be looked up by anything that it borrows as, a `String` by a `&str`, as long as both are encoded
/// alike. Handles of other shared objects may be in values, and live on in the map, as Python's
/// nested proxies do: a map of queues, say, or of maps. They cannot be in keys.
///
/// Readers never block, and see each value whole. Writers of one key take turns; see
/// [`update`](Map::update) for changing a value by what it was.
///
/// Kill any process at any instruction: a change has happened or it hasn't, no entry is lost or there
/// twice, and the room of an entry that was not finished is free again. A writer that is killed in
/// [`update`](Map::update) has changed nothing, and nobody waits for it.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use multiproc_ipc::Map;
///
/// let words = Map::<String, u64>::new(1000)?;
/// for word in "the cat and the dog".split(' ') {
///     words.update(word, |count| Some(count.unwrap_or(0) + 1))?;
/// }
/// assert_eq!(words.get("the")?, Some(2));
/// assert_eq!(words.remove("cat")?, Some(1));
/// assert_eq!(words.len(), 3);
/// # Ok(())
/// # }
/// ```
///
/// # In the place of Python's other containers
///
/// A `ShareableList` of numbers is an [`Array`](crate::Array). One whose items differ in type, or
/// change it, is a `Map<usize, Item>`, where `Item` is an enum of what they may be: each item is whole
/// at any time, and one that is too long is refused. A `Manager().list()` of fixed length is either;
/// one that grows at an end is rather a [`Queue`](crate::Queue).
///
/// # Limits
///
/// Key and value have room for 64 and 192 bytes when encoded, unless the [builder](Map::builder) says
/// otherwise; two bytes of each are the codec's. The fuller the map, the longer the searches: make it a
/// quarter larger than needed. Keys are spread by a hash without a secret, so who chooses keys with
/// malice can make it slow.
#[doc(alias = "Manager")]
#[doc(alias = "dict")]
#[doc(alias = "Namespace")]
#[doc(alias = "ShareableList")]
#[doc(alias = "HashMap")]
pub struct Map<K, V> {
    object: Arc<Object>,
    data: PhantomData<fn(K) -> V>,
}

/// What a new [`Map`] is to be like.
#[must_use = "nothing is made until `build` is called"]
pub struct MapBuilder<K, V> {
    capacity: usize,
    key_bytes: u32,
    value_bytes: u32,
    data: PhantomData<fn(K) -> V>,
}

impl<K, V> MapBuilder<K, V> {
    /// How many bytes a key may have when encoded: 64 by default, 32,760 at most.
    pub fn key_bytes(self, key_bytes: u32) -> MapBuilder<K, V> {
        MapBuilder { key_bytes, ..self }
    }

    /// How many bytes a value may have when encoded, with 8 for each handle in it: 192 by default,
    /// 8,388,600 at most.
    pub fn value_bytes(self, value_bytes: u32) -> MapBuilder<K, V> {
        MapBuilder { value_bytes, ..self }
    }

    /// Makes the map in the current segment.
    ///
    /// # Errors
    /// [`Error::Geometry`] for a capacity of 0 or beyond 16 million, or too long keys or values, and
    /// what making an object may meet.
    pub fn build(self) -> Result<Map<K, V>, Error> {
        self.build_in(&Segment::current()?)
    }

    /// Makes the map in `segment`.
    ///
    /// # Errors
    /// Those of [`build`](MapBuilder::build).
    pub fn build_in(self, segment: &Segment) -> Result<Map<K, V>, Error> {
        let capacity = self.capacity as u64;
        let shape = Shape::new(capacity, self.key_bytes.into(), self.value_bytes.into()).ok_or(
            Error::Geometry(
                "a map holds 1 to 16,777,216 entries, of keys of up to 32,760 bytes and values of up \
                 to 8,388,600",
            ),
        )?;
        Ok(Map { object: segment.create(shape.spec(), |_| ())?, data: PhantomData })
    }
}

impl<K, V> fmt::Debug for MapBuilder<K, V> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MapBuilder { capacity, key_bytes, value_bytes, .. } = self;
        write!(formatter, "MapBuilder({capacity} entries of {key_bytes} + {value_bytes} bytes)")
    }
}

impl<K, V> Map<K, V> {
    /// A map of up to `capacity` entries, in the current segment.
    ///
    /// # Errors
    /// Those of [`MapBuilder::build`].
    pub fn new(capacity: usize) -> Result<Map<K, V>, Error> {
        Map::builder(capacity).build()
    }

    /// As [`new`](Map::new), in `segment`.
    ///
    /// # Errors
    /// Those of [`MapBuilder::build`].
    pub fn new_in(segment: &Segment, capacity: usize) -> Result<Map<K, V>, Error> {
        Map::builder(capacity).build_in(segment)
    }

    /// How many entries the map may hold, and how long they may be.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_ipc::{Error, Map, MapError};
    ///
    /// let texts = Map::<u32, String>::builder(16).key_bytes(8).value_bytes(1000).build()?;
    /// texts.insert(&1, "x".repeat(990))?;
    /// let Err(MapError::Refused { error, .. }) = texts.insert(&2, "x".repeat(1000)) else { panic!() };
    /// assert!(matches!(error, Error::TooLong { limit: 1000, .. }));
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(capacity: usize) -> MapBuilder<K, V> {
        let data = PhantomData;
        MapBuilder { capacity, key_bytes: KEY_BYTES, value_bytes: VALUE_BYTES, data }
    }

    pub(super) fn table(&self) -> RawTable<'_> {
        table::table(&self.object)
    }

    /// How many entries the map may hold.
    pub fn capacity(&self) -> usize {
        self.table().shape().capacity as usize
    }

    /// How many entries there are: exact while nobody adds or removes one. They are counted, which
    /// takes a moment in a large map. Never blocks.
    pub fn len(&self) -> usize {
        self.table().len() as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes every entry that is there when its turn comes; those that others add meanwhile may
    /// stay. Blocks while another thread changes an entry.
    pub fn clear(&self) {
        let table = self.table();
        (0..table.shape().capacity).for_each(|bucket| table.empty(bucket));
    }
}

const OUTSIDE: Error = Error::Corrupt("an entry of a map lies outside its cell");

const KEY: &str = "a key of the map may have (see `MapBuilder::key_bytes`)";
const VALUE: &str = "a value of the map may have (see `MapBuilder::value_bytes`)";

/// Refuses what does not fit.
fn fitting(of: &'static str, length: u64, limit: u32) -> Result<(), Error> {
    let limit = u64::from(limit);
    if length > limit { Err(Error::TooLong { bytes: length, limit, of }) } else { Ok(()) }
}

impl<K, V> Map<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// The value of `key`, if it has one. Never blocks, but starts over while others keep setting it.
    ///
    /// # Errors
    /// When the key cannot be encoded or is too long, or the value is not a `V`.
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.look_up(&self.key(key)?)
    }

    /// Whether `key` has a value. Never blocks.
    ///
    /// # Errors
    /// When the key cannot be encoded or is too long.
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.table().find(&self.key(key)?, |_, _| ()).is_some())
    }

    pub(super) fn look_up(&self, key: &Key) -> Result<Option<V>, Error> {
        let table = self.table();
        loop {
            let Some(found) = table.find(key, |cell, version| cell.value(version)) else {
                return Ok(None);
            };
            match self.value(found.content.as_ref()) {
                // Objects that it names may be gone with it.
                Err(_) if !table.is_still(&found) => {}
                value => return value.map(Some),
            }
        }
    }

    pub(super) fn key<Q: Serialize + ?Sized>(&self, key: &Q) -> Result<Key, Error> {
        let encoded = codec::encode(Route::Message(self.object.segment(), None), &key)?;
        if !encoded.carried.is_empty() {
            return Err(Error::ForeignHandle);
        }
        fitting(KEY, encoded.bytes.len() as u64, self.table().shape().key_bytes)?;
        Ok(Key::new(encoded.bytes))
    }

    pub(super) fn encoded(&self, value: &V) -> Result<Encoded, Error> {
        let encoded = codec::encode(Route::Message(self.object.segment(), None), value)?;
        fitting(VALUE, Stored::room(&encoded), self.table().shape().value_bytes)?;
        Ok(encoded)
    }

    /// The value that was read from a cell, if there was one.
    pub(super) fn value(&self, stored: Option<&Stored>) -> Result<V, Error> {
        codec::decode(Route::Message(self.object.segment(), None), &stored.ok_or(OUTSIDE)?.bytes)
    }

    /// The entries, each copied out when its turn comes. Never blocks.
    ///
    /// Each pair is whole. Of an entry that is there all the time, the iterator gives its pair once,
    /// with a value that it had meanwhile. One that others add or remove meanwhile it may give or not,
    /// and one that is removed and added again even twice. Nothing says that two pairs were in the map
    /// at the same time. An item is an error where an entry does not hold a `K` and a `V`.
    #[doc(alias = "items")]
    pub fn iter(&self) -> MapIter<'_, K, V> {
        MapIter { map: self, next: 0 }
    }

    /// The keys, as [`iter`](Map::iter) finds them.
    pub fn keys(&self) -> impl Iterator<Item = Result<K, Error>> + '_ {
        let table = self.table();
        let buckets = 0..table.shape().capacity;
        let keys = buckets.filter_map(move |bucket| table.read(bucket, None, |cell, _| cell.key()));
        keys.map(|found| decode_key(found.content.as_deref()))
    }

    /// The values, as [`iter`](Map::iter) finds them.
    pub fn values(&self) -> impl Iterator<Item = Result<V, Error>> + '_ {
        self.iter().map(|pair| pair.map(|(_, value)| value))
    }

    /// A copy of all entries, as [`iter`](Map::iter) finds them, in no order that means anything.
    ///
    /// # Errors
    /// When an entry does not hold a `K` and a `V`.
    #[doc(alias = "copy")]
    pub fn to_vec(&self) -> Result<Vec<(K, V)>, Error> {
        self.iter().collect()
    }

    fn pair(&self, bucket: u32) -> Option<Result<(K, V), Error>> {
        let table = self.table();
        loop {
            let found =
                table.read(bucket, None, |cell, version| (cell.key(), cell.value(version)))?;
            let (key, value) = &found.content;
            match decode_key(key.as_deref()).and_then(|key| Ok((key, self.value(value.as_ref())?)))
            {
                // Objects that it names may be gone with it.
                Err(_) if !table.is_still(&found) => {}
                pair => return Some(pair),
            }
        }
    }
}

/// The key that was read from a cell, if there was one.
fn decode_key<K: DeserializeOwned>(bytes: Option<&[u8]>) -> Result<K, Error> {
    codec::decode(Route::Alone, bytes.ok_or(OUTSIDE)?)
}

/// The entries of a [`Map`].
#[derive(Debug)]
pub struct MapIter<'a, K, V> {
    map: &'a Map<K, V>,
    next: u32,
}

impl<K, V> Iterator for MapIter<'_, K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    type Item = Result<(K, V), Error>;

    fn next(&mut self) -> Option<Result<(K, V), Error>> {
        let buckets = self.next..self.map.table().shape().capacity;
        for bucket in buckets {
            self.next = bucket + 1;
            if let Some(pair) = self.map.pair(bucket) {
                return Some(pair);
            }
        }
        None
    }
}

impl<'a, K, V> IntoIterator for &'a Map<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    type Item = Result<(K, V), Error>;
    type IntoIter = MapIter<'a, K, V>;

    fn into_iter(self) -> MapIter<'a, K, V> {
        self.iter()
    }
}

named!(Map<K, V>);
travels!(impl [K, V] Map<K, V>);

impl<K, V> Shared for Map<K, V> {
    const KIND: Kind = Kind::Map;
    type Element = ();

    fn bytes(_: &Geometry, capacity: u64) -> Option<u64> {
        Some(Shape::new(capacity, KEY_BYTES.into(), VALUE_BYTES.into())?.spec().bytes)
    }

    fn fits(_: &Geometry, entry: &Entry) -> bool {
        Shape::of(entry).is_some()
    }
}
