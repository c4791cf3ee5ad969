//! Those that are measured: us, the least that it can cost, and the others.
//!
//! | module | what |
//! |---|---|
//! | [`ours`], [`pipes`] | this library, by its public interface, as any program uses it |
//! | [`children`], [`doubling`] | starting children, and work on a large array: we, and the least |
//! | [`floor`], [`ring`] | the least that the machine allows: bare words and a ring in shared memory |
//! | [`pthread`], [`kernel`] | what the system offers: locks; pipes, sockets, message queues |
//! | [`threads`] | the standard library's lock, which cannot leave its process |
//! | [`python`] | Python's `multiprocessing` |
//! | [`keepers`], [`supervisors`] | what keeps workers running: we, the least, and others |
//! | the others | crates of these names, with the feature `peers` |

pub(crate) mod children;
#[cfg(feature = "peers")]
pub(crate) mod crossbeam;
pub(crate) mod doubling;
pub(crate) mod floor;
#[cfg(feature = "peers")]
pub(crate) mod iceoryx2;
#[cfg(feature = "peers")]
pub(crate) mod ipc_channel;
#[cfg(feature = "peers")]
pub(crate) mod kanal;
pub(crate) mod keepers;
pub(crate) mod kernel;
pub(crate) mod ours;
#[cfg(feature = "peers")]
pub(crate) mod parking_lot;
pub(crate) mod pipes;
pub(crate) mod pool;
#[cfg(feature = "peers")]
pub(crate) mod procspawn;
pub(crate) mod pthread;
pub(crate) mod python;
#[cfg(feature = "peers")]
pub(crate) mod rayon;
pub(crate) mod ring;
pub(crate) mod supervisors;
pub(crate) mod threads;
