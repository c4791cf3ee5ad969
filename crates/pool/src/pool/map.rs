//! One function over many items, and over the parts of an array.

use std::ops::Range;

use multiproc_ipc::family::desk;
use multiproc_ipc::{Array, Plain};
use multiproc_process::{Target, family};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Place, Pool, run_here};
use crate::error::{PoolError, TaskError};
use crate::guest;
use crate::stream::{Feeder, Imap, ImapUnordered, Source};
use crate::worker::entry_of;

/// What is to be done about a map.
enum Begun<I, R> {
    /// Its items are to be fed to the pool.
    Fed(Feeder<I, R>),
    /// Nothing: this has come of them.
    Done(Vec<Result<R, TaskError>>),
}

impl Pool {
    fn feeder<F, A, I>(&self, function: F, items: I) -> Result<Source<I, F::Output>, PoolError>
    where
        F: Target<A>,
        F::Output: Serialize + DeserializeOwned + Send + 'static,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A> + Send + 'static,
    {
        if let Place::Guest { requests, segment, .. } = &self.place {
            let (requests, segment, terms) = (requests.clone(), segment.clone(), self.conditions());
            let next =
                guest::stream::<F, A, F::Output>(requests, segment, items, terms, self.chunk);
            return Ok(Source::Here(Box::new(next)));
        }
        let Some(engine) = self.engine() else {
            let mut items = items;
            let next = move || items.next().map(|item| run_here(|| function.call(item)));
            return Ok(Source::Here(Box::new(next)));
        };
        if let Some(refusal) = engine.refusal() {
            return Err(refusal);
        }
        let entry = entry_of::<F, A>()?;
        let feeder = Feeder::new(engine, items, self.chunk, self.hook.clone(), |sink| {
            self.job(entry, sink, engine, true)
        });
        Ok(Source::Pool(feeder))
    }

    /// Runs a function on every item, and gives the values in the items' order. Blocks until all are
    /// done, whether some have failed or not.
    ///
    /// # Errors
    /// That of the first item that has one. For those of all, see [`imap`](Pool::imap).
    pub fn map<F, T, I, R>(&self, function: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.run_all(function, items.into_iter().map(|item| (item,)))
    }

    /// As [`map`](Pool::map), for a function of several arguments: each item is a tuple of them.
    pub fn starmap<F, A, I, R>(&self, function: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = A>,
        I::IntoIter: Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.run_all(function, items.into_iter())
    }

    /// As [`map`](Pool::map), and gives what has come of each item: values beside errors.
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks.
    #[doc(alias = "return_exceptions")]
    pub fn map_all<F, T, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        self.run_each(function, items.into_iter().map(|item| (item,)))
    }

    pub(crate) fn run_each<F, A, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        Ok(match self.begin(function, items)? {
            Begun::Fed(feeder) => feeder.run_each(),
            Begun::Done(outcomes) => outcomes,
        })
    }

    fn run_all<F, A, I, R>(&self, function: F, items: I) -> Result<Vec<R>, TaskError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        match self.begin(function, items)? {
            Begun::Fed(feeder) => feeder.run(),
            Begun::Done(outcomes) => outcomes.into_iter().collect(),
        }
    }

    /// Makes it possible to feed items to the pool, or has all of them run where there is nothing to feed.
    fn begin<F, A, I, R>(&self, function: F, items: I) -> Result<Begun<I, R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Send + 'static,
        I: Iterator<Item = A>,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let engine = match &self.place {
            Place::Owner(owner) => &owner.engine,
            Place::Worker(_) => {
                let outcomes = items.map(|item| run_here(|| function.call(item)));
                return Ok(Begun::Done(outcomes.collect()));
            }
            Place::Guest { requests, segment, .. } => {
                let (requests, segment, terms) =
                    (requests.clone(), segment.clone(), self.conditions());
                let next = guest::stream::<F, A, R>(requests, segment, items, terms, self.chunk);
                return Ok(Begun::Done(std::iter::from_fn(next).collect()));
            }
        };
        if let Some(refusal) = engine.refusal() {
            return Err(refusal);
        }
        let entry = entry_of::<F, A>()?;
        let job = |sink| self.job(entry, sink, engine, true);
        Ok(Begun::Fed(Feeder::new(engine, items, self.chunk, self.hook.clone(), job)))
    }

    /// Runs a function on every item, for its effects. Blocks until all are done.
    ///
    /// # Errors
    /// Those of [`map`](Pool::map).
    pub fn for_each<F, T, I>(&self, function: F, items: I) -> Result<(), TaskError>
    where
        F: Target<(T,), Output = ()>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
    {
        self.map(function, items).map(drop)
    }

    /// Runs a function on items as they are taken from an iterator, which may be endless, and gives what
    /// comes of each in their order: a value or an error. An item is taken as soon as a worker can use
    /// it, and no sooner: a bounded number of them is neither done nor looked at.
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks.
    pub fn imap<F, T, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<Imap<impl Iterator<Item = (T,)> + use<F, T, I, R>, R>, PoolError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let items = items.into_iter().map(|item| (item,));
        Ok(Imap::of(self.feeder(function, items)?))
    }

    /// As [`imap`](Pool::imap), but gives outcomes as they come, each with its item's place.
    ///
    /// # Errors
    /// Those of [`imap`](Pool::imap).
    pub fn imap_unordered<F, T, I, R>(
        &self,
        function: F,
        items: I,
    ) -> Result<ImapUnordered<impl Iterator<Item = (T,)> + use<F, T, I, R>, R>, PoolError>
    where
        F: Target<(T,), Output = R>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send + 'static,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let items = items.into_iter().map(|item| (item,));
        Ok(ImapUnordered::of(self.feeder(function, items)?))
    }

    /// Makes one value of many, in the items' order: workers make one of neighbours, and this process one of
    /// what they have made. None of none. Blocks.
    ///
    /// It must not matter which neighbours are taken together first: `function(function(a, b), c)` is the
    /// same as `function(a, function(b, c))`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # multiproc_process::init();
    /// let pool = multiproc_pool::Pool::new(2)?;
    /// assert_eq!(pool.reduce(|a: u64, b: u64| a + b, 1..=100_000)?, Some(5_000_050_000));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Those of [`map`](Pool::map).
    pub fn reduce<F, T, I>(&self, function: F, items: I) -> Result<Option<T>, TaskError>
    where
        F: Target<(T, T), Output = T>,
        T: Serialize + DeserializeOwned + Send + 'static,
        I: IntoIterator<Item = T>,
        I::IntoIter: Send,
    {
        let mut items = items.into_iter();
        let chunks = std::iter::from_fn(move || {
            let chunk: Vec<T> = items.by_ref().take(REDUCED).collect();
            (!chunk.is_empty()).then_some((chunk,))
        });
        let parts = self.run_all(reduce_chunk::<F, T>, chunks)?;
        run_here(|| parts.into_iter().flatten().reduce(|a, b| function.call((a, b))))
    }

    /// Runs a function on all elements of a shared array, in place: each worker has some of them to itself,
    /// as a slice, with the place of the first. Nothing is copied. Blocks.
    ///
    /// Nobody else may use the array meanwhile. A part whose worker dies is not run again, since it may be
    /// half changed: the error names it.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # multiproc_process::init();
    /// use multiproc_ipc::Array;
    ///
    /// let numbers = Array::from_slice(&[1_u64, 2, 3, 4])?;
    /// let pool = multiproc_pool::Pool::new(2)?;
    /// pool.map_chunks(&numbers, |_, part| part.iter_mut().for_each(|number| *number *= 2))?;
    /// assert_eq!(numbers.to_vec(), [2, 4, 6, 8]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The first part that was not done, and why.
    pub fn map_chunks<F, T>(&self, array: &Array<T>, _function: F) -> Result<(), PartError>
    where
        F: Fn(usize, &mut [T]) + Copy + Send + 'static,
        T: Plain + 'static,
    {
        let workers = self.engine().map_or(1, |engine| engine.settings.workers);
        let size = array.len().div_ceil(workers * PARTS).next_multiple_of(ALIGNED).max(1);
        let parts = (0..array.len()).step_by(size);
        let parts: Vec<_> = parts.map(|start| start..array.len().min(start + size)).collect();
        let whole = Pool { chunk: Some(1), ..self.with_retries(0) };
        let items: Vec<_> =
            parts.iter().map(|part| (array.clone(), part.start, part.end)).collect();
        let failed =
            |(part, error): (&Range<usize>, TaskError)| PartError { part: part.clone(), error };
        let outcomes = match whole.feeder(run_part::<F, T>, items.into_iter()) {
            Ok(source) => Imap::of(source),
            Err(error) => return Err(failed((&(0..array.len()), error.into()))),
        };
        let outcomes = parts.iter().zip(outcomes);
        let mut errors = outcomes.filter_map(|(part, outcome)| Some((part, outcome.err()?)));
        let first = errors.next();
        // All are done when this returns.
        errors.for_each(drop);
        first.map_or(Ok(()), |error| Err(failed(error)))
    }
}

/// How many items a worker makes one value of.
const REDUCED: usize = 1024;

fn reduce_chunk<F: Target<(T, T), Output = T>, T>(items: Vec<T>) -> Option<T> {
    let function = family::conjure::<F>();
    items.into_iter().reduce(|a, b| function.call((a, b)))
}

/// How many parts of an array each worker is to have, if all take the same time.
const PARTS: usize = 8;
/// Of how many elements a part is to have a multiple: neighbours then share no cache line.
const ALIGNED: usize = 128;

fn run_part<F, T>(array: Array<T>, start: usize, end: usize)
where
    F: Fn(usize, &mut [T]) + Copy + Send + 'static,
    T: Plain,
{
    // SAFETY: each element is in one part, which is given to one worker, once; and who calls
    // `map_chunks` is told that nobody else may use the array meanwhile.
    let part = unsafe { desk::part_mut(&array, start..end) };
    family::conjure::<F>()(start, part);
}

/// A part of an array that was not done.
#[derive(Clone, Debug, thiserror::Error)]
#[error("elements {part:?}: {error}")]
pub struct PartError {
    /// Its elements, of which some may have been changed.
    pub part: Range<usize>,
    /// Why.
    pub error: TaskError,
}
