//! Changing a map.

use std::borrow::Borrow;
use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cell::Stored;
use super::handle::Map;
use super::table::{Added, Found, Key};
use crate::codec::Encoded;
use crate::error::Error;
use crate::sync::mutex::Hold;
use crate::sync::wait::Wait;

/// Why a [`Map`] was not changed, with the value that was not stored.
///
/// For [`update`](Map::update) and [`get_or_insert_with`](Map::get_or_insert_with) that is what the
/// closure made, if it was called; where there is none, `T` is `()`.
#[non_exhaustive]
pub enum MapError<T = ()> {
    /// The map holds as many entries as it may.
    Full(T),
    /// `insert_new`: the key has a value.
    Exists(T),
    /// The deadline passed, or for `try_…`: another thread is changing the entry.
    Held(T),
    /// Key or value cannot be encoded, or are too long; or the value that is there is not of the type
    /// asked for.
    Refused {
        /// The value.
        value: T,
        /// Why.
        error: Error,
    },
}

impl<T> MapError<T> {
    /// The value that was not stored.
    pub fn into_value(self) -> T {
        match self {
            MapError::Full(value)
            | MapError::Exists(value)
            | MapError::Held(value)
            | MapError::Refused { value, .. } => value,
        }
    }
}

impl<T> fmt::Display for MapError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Full(_) => formatter.write_str("the map is full"),
            MapError::Exists(_) => formatter.write_str("the key has a value"),
            MapError::Held(_) => formatter.write_str("somebody else is changing the entry"),
            MapError::Refused { error, .. } => error.fmt(formatter),
        }
    }
}

impl<T> fmt::Debug for MapError<T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MapError({self})")
    }
}

impl<T> std::error::Error for MapError<T> {}

/// In each of these, *blocks* means: while another thread, in any process, is changing the entry of
/// the same key or, rarely, of another one that shares its lock. Nobody waits for the dead.
impl<K, V> Map<K, V>
where
    K: Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    /// Gives `key` this value; returns the one that it had. Blocks.
    ///
    /// # Errors
    /// [`MapError::Full`] and [`MapError::Refused`], with the value. Then nothing has changed.
    pub fn insert<Q>(&self, key: &Q, value: V) -> Result<Option<V>, MapError<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert_by(key, value, Wait::Until(None))
    }

    /// As [`insert`](Map::insert), unless it had to wait. Never blocks.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`insert`](Map::insert).
    pub fn try_insert<Q>(&self, key: &Q, value: V) -> Result<Option<V>, MapError<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert_by(key, value, Wait::Never)
    }

    /// As [`insert`](Map::insert), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`insert`](Map::insert).
    pub fn insert_timeout<Q>(
        &self,
        key: &Q,
        value: V,
        timeout: Duration,
    ) -> Result<Option<V>, MapError<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert_by(key, value, Wait::for_at_most(timeout))
    }

    fn insert_by<Q>(&self, key: &Q, value: V, wait: Wait) -> Result<Option<V>, MapError<V>>
    where
        Q: Serialize + ?Sized,
    {
        let (key, encoded) = match self.encoded_pair(key, &value) {
            Ok(pair) => pair,
            Err(error) => return Err(MapError::Refused { value, error }),
        };
        let Some(hold) = self.table().hold(key.hash, wait) else {
            return Err(MapError::Held(value));
        };
        match self.current(&key) {
            Ok((now, old)) => match self.put(hold, &key, now, Some(&encoded)) {
                Added::Done => Ok(old),
                Added::Full => Err(MapError::Full(value)),
            },
            Err(error) => Err(MapError::Refused { value, error }),
        }
    }

    /// Gives `key` this value if it has none: of all who try, one does. Blocks.
    ///
    /// # Errors
    /// [`MapError::Exists`], [`MapError::Full`] and [`MapError::Refused`], with the value.
    pub fn insert_new<Q>(&self, key: &Q, value: V) -> Result<(), MapError<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert_new_by(key, value, Wait::Until(None))
    }

    /// As [`insert_new`](Map::insert_new), unless it had to wait. Never blocks.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`insert_new`](Map::insert_new).
    pub fn try_insert_new<Q>(&self, key: &Q, value: V) -> Result<(), MapError<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert_new_by(key, value, Wait::Never)
    }

    /// As [`insert_new`](Map::insert_new), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`insert_new`](Map::insert_new).
    pub fn insert_new_timeout<Q>(
        &self,
        key: &Q,
        value: V,
        timeout: Duration,
    ) -> Result<(), MapError<V>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.insert_new_by(key, value, Wait::for_at_most(timeout))
    }

    fn insert_new_by<Q>(&self, key: &Q, value: V, wait: Wait) -> Result<(), MapError<V>>
    where
        Q: Serialize + ?Sized,
    {
        let (key, encoded) = match self.encoded_pair(key, &value) {
            Ok(pair) => pair,
            Err(error) => return Err(MapError::Refused { value, error }),
        };
        let Some(hold) = self.table().hold(key.hash, wait) else {
            return Err(MapError::Held(value));
        };
        if self.table().find(&key, |_, _| ()).is_some() {
            return Err(MapError::Exists(value));
        }
        match self.put(hold, &key, None, Some(&encoded)) {
            Added::Done => Ok(()),
            Added::Full => Err(MapError::Full(value)),
        }
    }

    /// The value of `key`; if it has none, gives it the one that `make` makes. Of all who try, one
    /// makes it. Blocks if the key has no value.
    ///
    /// The closure must not change this map: it might wait for itself.
    ///
    /// # Errors
    /// [`MapError::Full`] and [`MapError::Refused`].
    #[doc(alias = "setdefault")]
    pub fn get_or_insert_with<Q>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
    ) -> Result<V, MapError<Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.get_or_insert_by(key, make, Wait::Until(None))
    }

    /// As [`get_or_insert_with`](Map::get_or_insert_with), unless it had to wait. Never blocks.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`get_or_insert_with`](Map::get_or_insert_with).
    pub fn try_get_or_insert_with<Q>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
    ) -> Result<V, MapError<Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.get_or_insert_by(key, make, Wait::Never)
    }

    /// As [`get_or_insert_with`](Map::get_or_insert_with), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`get_or_insert_with`](Map::get_or_insert_with).
    pub fn get_or_insert_with_timeout<Q>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
        timeout: Duration,
    ) -> Result<V, MapError<Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.get_or_insert_by(key, make, Wait::for_at_most(timeout))
    }

    fn get_or_insert_by<Q>(
        &self,
        key: &Q,
        make: impl FnOnce() -> V,
        wait: Wait,
    ) -> Result<V, MapError<Option<V>>>
    where
        Q: Serialize + ?Sized,
    {
        let refused = |error| MapError::Refused { value: None, error };
        let key = self.key(key).map_err(refused)?;
        if let Some(value) = self.look_up(&key).map_err(refused)? {
            return Ok(value);
        }
        let changed = self.change(&key, wait, |now| Some(now.unwrap_or_else(make)))?;
        Ok(changed.expect("it is what the closure made"))
    }

    /// Gives `key` the value that `change` makes of the one it has, or takes it away, as one step:
    /// nobody else changes it meanwhile, and who reads it meanwhile gets the old one. If the process
    /// is killed in it, or `change` panics, nothing has changed. Blocks.
    ///
    /// Returns the new value. The closure must not change this map: it might wait for itself.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use multiproc_ipc::Map;
    ///
    /// let stock = Map::<String, u32>::new(100)?;
    /// stock.insert("apples", 2)?;
    /// let take_one = |count: Option<u32>| count?.checked_sub(1).filter(|left| *left > 0);
    /// assert_eq!(stock.update("apples", take_one)?, Some(1));
    /// assert_eq!(stock.update("apples", take_one)?, None); // the last one
    /// assert!(!stock.contains_key("apples")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`MapError::Full`] and [`MapError::Refused`].
    pub fn update<Q>(
        &self,
        key: &Q,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, MapError<Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.update_by(key, change, Wait::Until(None))
    }

    /// As [`update`](Map::update), unless it had to wait. Never blocks.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`update`](Map::update).
    pub fn try_update<Q>(
        &self,
        key: &Q,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, MapError<Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.update_by(key, change, Wait::Never)
    }

    /// As [`update`](Map::update), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`update`](Map::update).
    pub fn update_timeout<Q>(
        &self,
        key: &Q,
        change: impl FnOnce(Option<V>) -> Option<V>,
        timeout: Duration,
    ) -> Result<Option<V>, MapError<Option<V>>>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.update_by(key, change, Wait::for_at_most(timeout))
    }

    fn update_by<Q>(
        &self,
        key: &Q,
        change: impl FnOnce(Option<V>) -> Option<V>,
        wait: Wait,
    ) -> Result<Option<V>, MapError<Option<V>>>
    where
        Q: Serialize + ?Sized,
    {
        let key = self.key(key).map_err(|error| MapError::Refused { value: None, error })?;
        self.change(&key, wait, change)
    }

    /// Takes `key` out of the map; returns the value that it had. Blocks.
    ///
    /// # Errors
    /// [`MapError::Refused`]; then nothing has changed.
    #[doc(alias = "pop")]
    pub fn remove<Q>(&self, key: &Q) -> Result<Option<V>, MapError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.remove_by(key, Wait::Until(None))
    }

    /// As [`remove`](Map::remove), unless it had to wait. Never blocks.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`remove`](Map::remove).
    pub fn try_remove<Q>(&self, key: &Q) -> Result<Option<V>, MapError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.remove_by(key, Wait::Never)
    }

    /// As [`remove`](Map::remove), but blocks for at most `timeout`.
    ///
    /// # Errors
    /// [`MapError::Held`], and those of [`remove`](Map::remove).
    pub fn remove_timeout<Q>(&self, key: &Q, timeout: Duration) -> Result<Option<V>, MapError>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.remove_by(key, Wait::for_at_most(timeout))
    }

    fn remove_by<Q>(&self, key: &Q, wait: Wait) -> Result<Option<V>, MapError>
    where
        Q: Serialize + ?Sized,
    {
        let refused = |error| MapError::Refused { value: (), error };
        let key = self.key(key).map_err(refused)?;
        let hold = self.table().hold(key.hash, wait).ok_or(MapError::Held(()))?;
        let (now, old) = self.current(&key).map_err(refused)?;
        let _ = self.put(hold, &key, now, None);
        Ok(old)
    }

    fn change(
        &self,
        key: &Key,
        wait: Wait,
        change: impl FnOnce(Option<V>) -> Option<V>,
    ) -> Result<Option<V>, MapError<Option<V>>> {
        let hold = self.table().hold(key.hash, wait).ok_or(MapError::Held(None))?;
        let (now, old) =
            self.current(key).map_err(|error| MapError::Refused { value: None, error })?;
        let value = change(old);
        match value.as_ref().map(|value| self.encoded(value)).transpose() {
            Ok(encoded) => match self.put(hold, key, now, encoded.as_ref()) {
                Added::Done => Ok(value),
                Added::Full => Err(MapError::Full(value)),
            },
            Err(error) => Err(MapError::Refused { value, error }),
        }
    }

    fn encoded_pair<Q>(&self, key: &Q, value: &V) -> Result<(Key, Encoded), Error>
    where
        Q: Serialize + ?Sized,
    {
        Ok((self.key(key)?, self.encoded(value)?))
    }

    /// The entry of `key`, and its value. Under its home's lock.
    fn current(&self, key: &Key) -> Result<(Option<Found<Stored>>, Option<V>), Error> {
        let Some(found) = self.table().find(key, |cell, version| cell.value(version)) else {
            return Ok((None, None));
        };
        // Decoded while it still names what it names: then this process is attached to that too.
        let value = self.value(found.content.as_ref())?;
        Ok((found.filter_map(|stored| stored), Some(value)))
    }

    /// Puts `next` in the place of `now`, under the lock of the key's home, which is then let go.
    fn put(
        &self,
        hold: Hold<'_>,
        key: &Key,
        now: Option<Found<Stored>>,
        next: Option<&Encoded>,
    ) -> Added {
        let table = self.table();
        match (&now, next) {
            (Some(found), Some(next)) => table.replace(&hold, found, next),
            (Some(found), None) => table.remove(&hold, found),
            (None, Some(next)) => {
                if table.add(&hold, key, next) == Added::Full {
                    return Added::Full;
                }
            }
            (None, None) => {}
        }
        drop(hold);
        if let Some(found) = now {
            table.forget(&found.content);
        }
        Added::Done
    }
}
