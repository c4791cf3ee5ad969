//! Python's `multiprocessing` for Rust: processes that share counters, arrays, locks and queues
//! through shared memory, pools of them that run functions, and a supervisor that keeps them alive.
//!
//! > **Kill anything, at any instruction. Nothing hangs, nothing is corrupted, nothing is lost but
//! > what the dead process alone was holding, and a task of a pool not even then.**
//!
//! ```
//! use multiproc::{Array, Counter, Process, Queue};
//!
//! fn worker(id: usize, jobs: Queue<String>, bytes: Counter, per_worker: Array<u64>) -> u64 {
//!     let mut done = 0;
//!     for job in &jobs {
//!         bytes.add(job.len() as i64);
//!         per_worker.fetch_add(id, 1);
//!         done += 1;
//!     }
//!     done
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     multiproc::init(); // a child enters its function here and never returns
//!     let jobs = Queue::bounded(1024)?;
//!     let bytes = Counter::new()?;
//!     let per_worker = Array::new(4)?;
//!     let children = (0..4)
//!         .map(|id| Process::spawn(worker, (id, jobs.clone(), bytes.clone(), per_worker.clone())))
//!         .collect::<Result<Vec<_>, _>>()?;
//!     for number in 0..100 {
//!         jobs.send(format!("job {number}"))?;
//!     }
//!     jobs.close();
//!     let mut done = 0;
//!     for child in children {
//!         done += child.join()?; // an error says how it died
//!     }
//!     assert_eq!((done, bytes.get()), (100, 590));
//!     Ok(())
//! }
//! ```
//!
//! # Coming from Python
//!
//! | Python | here |
//! |---|---|
//! | `Process(target=f, args=(..)).start()` | [`Process::spawn(f, (..))`](Process::spawn) |
//! | `p.join()`, `p.exitcode` | [`Process::join`] gives the value, or says how it ended |
//! | `p.terminate()`, `p.kill()`, `p.interrupt()` | the same of [`Child`]; [`Child::kill_tree`] |
//! | `p.sentinel` | a [`Process`] is [`Selectable`], and has a descriptor |
//! | `daemon=True` | always, unless it is [`detached`](Spawner::detached) |
//! | `set_start_method`, `get_context` | [`Spawner::method`] |
//! | `current_process().name`, `parent_process()` | [`current_name`], [`parent_process`] |
//! | `active_children()`, `process_cpu_count()` | [`active_children`], [`cpu_count`] |
//! | `Pool(n)`, `ProcessPoolExecutor(n)` | [`Pool::new`], [`Pool::builder`] |
//! | `map`, `starmap`, `imap`, `imap_unordered` | the same names of [`Pool`]; [`Pool::map_all`] gives errors beside values |
//! | `apply`, `apply_async`, `executor.submit` | [`Pool::apply`], [`Pool::submit`], which gives a [`Task`] |
//! | `Future.result`, `cancel`, `add_done_callback` | [`Task::wait`], [`Task::cancel`], [`Task::on_done`] |
//! | `as_completed`, `wait` | [`as_completed`], [`pool::wait`] |
//! | `subprocess.Popen` | [`Command`] |
//! | `Queue(n)`, `put`, `get` | [`Queue::bounded`], [`send`](Queue::send), [`recv`](Queue::recv) |
//! | `Queue(n)` of numbers | [`Queue::inline`], which is faster |
//! | `JoinableQueue`, `task_done`, `join` | [`Queue::lease`], [`Lease::ack`], [`Queue::join`] |
//! | `connection.wait([..])` | [`select()`] |
//! | `Pipe()`, `send`, `recv`, `poll` | [`Pipe::pair`], the same names |
//! | `send_bytes`, `recv_bytes`, `recv_bytes_into` | the same names of [`Pipe`] |
//! | `recv_bytes(maxlength)` | [`Pipe::set_limit`] |
//! | `Pipe(duplex=False)` | [`Pipe::simplex`], or [`channel()`], which is in the segment |
//! | a connection that is sent through another | [`channel::pair`], whose ends go in messages, arguments and results |
//! | `Listener(address, authkey=..)` | [`Listener::bind`], [`ListenerBuilder::key`] |
//! | `Client(address, authkey=..)` | [`Client::connect`] |
//! | `reduction.DupFd`, `send_handle` | [`Descriptor`], in any value that goes through a pipe |
//! | `Value('i', 0)` with its lock, to count | [`Counter`] |
//! | `Value(..)` | [`Value`] |
//! | `Array('d', n)` | [`Array`] |
//! | `Array('d', n)` with its lock held | [`Mutex<[T]>`](Mutex::zeroed), which gives out a slice |
//! | `Lock()`, `RLock()` around something | [`Mutex`], [`ReentrantMutex`] with the something inside |
//! | `Semaphore`, `BoundedSemaphore` | [`Semaphore`], [`BoundedSemaphore`] |
//! | `Condition`, `Event`, `Barrier` | [`Condvar`], [`Event`], [`Barrier`] |
//! | `Manager().dict()`, `Namespace()` | [`Map`] |
//! | `ShareableList(..)` | [`Array`] for numbers, else [`Map`] |
//! | `SharedMemory(name)` | [`Builder::named`], [`Segment::open`] |
//! | a `BaseManager` that others connect to | [`Segment::publish`], [`Segment::find`] |
//! | `get_logger()`, `log_to_stderr()` | `Spawner::logs`, `Logs::forward_to`, with the feature `tracing` |
//! | `if __name__ == "__main__":` | [`init()`](init) first in `main` |
//!
//! The parts alone: `multiproc-ipc` is what to embed without processes; [`supervisor`] keeps workers
//! running.

// The traits alone: the derives beside them name `multiproc-ipc`, and ours this crate.
pub use multiproc_derive::{MultiprocHandle as Handle, MultiprocPlain as Plain};
pub use multiproc_ipc::__private::{Handle, Plain};
pub use multiproc_ipc::{
    Address, AddressError, Array, Barrier, BatchError, BoundedSemaphore, Broken, Builder, ByValue,
    Client, Condvar, ConnectError, Counter, Descriptor, Element, Encoded, Error, Event, Guarded,
    Inline, Integer, Iter, Kind, Lease, Listener, ListenerBuilder, Loan, LockError, Map,
    MapBuilder, MapError, MapIter, Mode, Mutex, MutexGuard, Numbers, OnceCell, OverRelease, Passed,
    Peer, Permit, Pipe, PipeError, Queue, QueueBuilder, Received, Receiver, RecvError,
    ReentrantGuard, ReentrantMutex, RwLock, RwLockReadGuard, RwLockWriteGuard, Segment, Selectable,
    Semaphore, SendError, Sender, Slices, Tally, Transport, TryIter, Users, Value, channel, select,
    select_timeout, try_select, view,
};
#[doc(inline)]
pub use multiproc_pool as pool;
pub use multiproc_pool::{Pool, PoolError, Task, TaskError, as_completed, contribute};
#[cfg(feature = "channel")]
pub use multiproc_process::channel;
pub use multiproc_process::{
    Child, Command, Ended, Exit, JoinError, Limit, OutOfMemory, Panic, Parent, Process, Scope,
    SpawnError, Spawner, StartMethod, Stdio, Target, active_children, cpu_count, current_name,
    init, init_before_main, parent_process,
};
#[cfg(feature = "tracing")]
pub use multiproc_process::{Forwarder, Logs, Record};
#[doc(inline)]
pub use multiproc_supervisor as supervisor;

/// The README's example, compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// What the derives name.
#[doc(hidden)]
pub use multiproc_ipc::__private;
