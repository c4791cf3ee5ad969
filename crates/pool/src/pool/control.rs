//! A pool as a whole: its workers, and its end.

use std::sync::Arc;
use std::time::Duration;

use multiproc_process::Target;
use multiproc_sys::clock::Deadline;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Pool, run_here};
use crate::engine::{Engine, Phase, Quarantined};
use crate::error::{PoolError, TaskError};
use crate::job::{Batch, Delivery, Sink};
use crate::keeper;
use crate::member::Member;
use crate::task::{Slot, Task};
use crate::worker::entry_of;

/// Kills all workers, and waits until they are gone.
pub(super) fn terminate(engine: &Arc<Engine>) {
    engine.end(&PoolError::Terminated);
    if keeper::is_keeper_of(engine) {
        // A callback dropped the last handle on the one thread that can see to it.
        return;
    }
    wait_until(engine, None, |engine| {
        let state = engine.state();
        state.members.is_empty() && state.starting == 0
    });
}

/// Something about a pool as a whole that one can wait for.
struct When<F> {
    engine: Arc<Engine>,
    holds: F,
}

impl<F: Fn(&Engine) -> bool + Send + Sync> Sink for When<F> {
    fn deliver(&self, _: Delivery) {}

    fn is_ready(&self) -> bool {
        (self.holds)(&self.engine)
    }
}

pub(super) fn wait_until(
    engine: &Arc<Engine>,
    deadline: Option<Deadline>,
    holds: impl Fn(&Engine) -> bool + Send + Sync + 'static,
) -> bool {
    let sink: Arc<dyn Sink> = Arc::new(When { engine: engine.clone(), holds });
    engine.wait(&sink, deadline)
}

/// What is known of a worker.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerInfo {
    /// Which of the pool's workers it is, in the order of their starts, from 1 on.
    pub number: u64,
    /// Its name.
    pub name: Arc<str>,
    /// Its process.
    pub pid: u32,
    /// Its place among the participants of the segment.
    pub participant: Option<u32>,
    /// What it has noted as done, with [`Segment::note_progress`](multiproc_ipc::Segment::note_progress).
    pub progress: u64,
    /// Whether it has come so far as to take tasks.
    pub ready: bool,
    /// Whether it has something to do.
    pub busy: bool,
}

impl Pool {
    /// Runs a function once in each worker, and gives what comes of each. Blocks.
    ///
    /// # Errors
    /// Those of [`PoolError`] that say why the pool takes no tasks.
    pub fn broadcast<F, A, R>(
        &self,
        function: F,
        arguments: A,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        F: Target<A, Output = R>,
        A: Serialize + DeserializeOwned + Clone,
        R: Serialize + DeserializeOwned + Send + 'static,
    {
        let Some(engine) = self.engine() else {
            return Ok(vec![run_here(|| function.call(arguments))]);
        };
        let entry = entry_of::<F, A>()?;
        let (mut tasks, mut batches) = (Vec::new(), Vec::new());
        for worker in engine.staying()? {
            let slot = Arc::new(Slot::new());
            let job = self.job(entry, slot.clone(), engine, false);
            let weak = Arc::downgrade(&job);
            let mut batch = Batch::new(&job, 0);
            batch.only = Some(worker);
            match batch.push(&engine.segment, engine.settings.area, arguments.clone()) {
                Ok(()) => batches.push(batch),
                Err(reason) => slot.set(Err(TaskError::Arguments(reason))),
            }
            tasks.push(Task {
                engine: Some(engine.clone()),
                elsewhere: None,
                job: Some(weak),
                slot,
            });
        }
        engine.submit_to_each(batches);
        Ok(tasks.into_iter().map(Task::wait).collect())
    }

    /// Sets how many workers there are to be. Those that are too many end when they are through with what
    /// they have. Doesn't wait for any of that.
    ///
    /// # Errors
    /// [`PoolError::Impossible`] for none.
    pub fn resize(&self, workers: usize) -> Result<(), PoolError> {
        if workers == 0 {
            return Err(PoolError::Impossible("it needs at least one worker"));
        }
        if let Some(engine) = self.engine() {
            engine.state().target = workers;
            // There may be enough for who waits until they are ready.
            engine.crowd.ring();
            engine.crowd.kick();
        }
        Ok(())
    }

    /// Replaces all workers, one at a time, each as soon as its replacement is ready. Doesn't wait for
    /// that, and nothing that they run is interrupted.
    pub fn recycle(&self) {
        if let Some(engine) = self.engine() {
            engine.state().members.iter_mut().for_each(|member| member.stale = true);
            engine.crowd.kick();
        }
    }

    /// Takes no more tasks. When those that were submitted are done, the workers end.
    pub fn close(&self) {
        if let Some(engine) = self.engine() {
            engine.close();
        }
    }

    /// Waits until nothing is to be done any more. Blocks.
    pub fn drain(&self) {
        self.drain_by(None);
    }

    /// As [`drain`](Pool::drain), for at most `timeout`; false if something was still to be done.
    pub fn drain_timeout(&self, timeout: Duration) -> bool {
        self.drain_by(Some(Deadline::after(timeout)))
    }

    fn drain_by(&self, deadline: Option<Deadline>) -> bool {
        let Some(engine) = self.engine() else { return true };
        wait_until(engine, deadline, |engine| engine.state().is_idle())
    }

    /// Waits until all workers have ended, after [`close`](Pool::close). Blocks, for ever if it was not
    /// closed.
    pub fn join(&self) {
        if let Some(engine) = self.engine() {
            wait_until(engine, None, |engine| {
                let state = engine.state();
                let over = !matches!(state.phase, Phase::Open);
                over && state.members.is_empty() && state.starting == 0
            });
        }
    }

    /// Kills all workers, and waits until they are gone. Who waits for a task that is not done is told
    /// [`PoolError::Terminated`].
    #[doc(alias = "shutdown")]
    #[doc(alias = "kill_workers")]
    pub fn terminate(&self) {
        if let Some(engine) = self.engine() {
            terminate(engine);
        }
    }

    /// Waits until as many workers are ready as there are to be, for at most `timeout`; false if they
    /// are not, or the pool has ended.
    pub fn wait_ready(&self, timeout: Duration) -> bool {
        let Some(engine) = self.engine() else { return true };
        let ready = |engine: &Engine| {
            let state = engine.state();
            state.ready() >= state.target || state.has_ended()
        };
        wait_until(engine, Some(Deadline::after(timeout)), ready) && !engine.state().has_ended()
    }

    /// The workers that there are at this moment.
    pub fn workers(&self) -> Vec<WorkerInfo> {
        let Some(engine) = self.engine() else { return Vec::new() };
        let state = engine.state();
        state.members.iter().map(Member::info).collect()
    }

    /// How many workers have died, but for those that were to end.
    pub fn deaths(&self) -> u64 {
        self.engine().map_or(0, |engine| engine.state().deaths)
    }

    /// The last tasks of which [so many](crate::Builder::poison_after) workers have died that they are run no
    /// more: up to 100.
    pub fn quarantine(&self) -> Vec<Quarantined> {
        let Some(engine) = self.engine() else { return Vec::new() };
        engine.state().quarantine.iter().cloned().collect()
    }
}
