//! Tasks that are all done when a piece of code is.

use std::fmt;

use multiproc_process::Target;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::Pool;
use crate::error::PoolError;
use crate::task::Task;

impl Pool {
    /// Runs `work`, which may submit tasks through the scope that it is given, and waits until they are all
    /// done. Blocks. If `work` panics, those that have not begun are forgotten, and the panic goes on when the
    /// others are done.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # multiproc_process::init();
    /// use multiproc_ipc::Counter;
    ///
    /// let pool = multiproc_pool::Pool::new(2)?;
    /// let sum = Counter::new()?;
    /// pool.scope(|scope| {
    ///     for number in 1..=10_i64 {
    ///         scope.submit(|sum: Counter, number: i64| sum.add(number), (sum.clone(), number))?;
    ///     }
    ///     Ok::<(), multiproc_pool::PoolError>(())
    /// })?;
    /// assert_eq!(sum.get(), 55);
    /// # Ok(())
    /// # }
    /// ```
    pub fn scope<T>(&self, work: impl FnOnce(&Scope<'_>) -> T) -> T {
        let scope = Scope { pool: self, tasks: std::cell::RefCell::default() };
        // Its drop waits.
        work(&scope)
    }
}

/// Tasks that are all done when the scope ends: see [`Pool::scope`].
pub struct Scope<'a> {
    pool: &'a Pool,
    tasks: std::cell::RefCell<Vec<Box<dyn Scoped>>>,
}

/// A task of any type.
trait Scoped {
    fn forget(&self);
    fn settle(&self);
}

impl<R: Serialize + DeserializeOwned + Send + 'static> Scoped for Task<R> {
    fn forget(&self) {
        if let Some(engine) = &self.engine
            && let Some(job) = self.job.as_ref().and_then(std::sync::Weak::upgrade)
        {
            engine.forget(&job);
        }
    }

    fn settle(&self) {
        Task::settle(self);
    }
}

impl Scope<'_> {
    /// As [`Pool::submit`].
    ///
    /// # Errors
    /// Those of [`Pool::submit`].
    pub fn submit<F, A, R>(&self, function: F, arguments: A) -> Result<Task<R>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let task = self.pool.submit(function, arguments)?;
        self.tasks.borrow_mut().push(Box::new(task.clone()));
        Ok(task)
    }
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        let tasks = std::mem::take(self.tasks.get_mut());
        if std::thread::panicking() {
            tasks.iter().for_each(|task| task.forget());
        }
        tasks.iter().for_each(|task| task.settle());
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Scope({} tasks)", self.tasks.borrow().len())
    }
}
