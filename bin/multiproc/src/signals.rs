//! The operator's signals, while a pool is at work.

use std::thread::{self, JoinHandle};

use multiproc::Pool;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

use crate::failure::Failure;

/// A thread that terminates a pool when it is asked to by a signal.
pub(crate) struct Stopping {
    signals: Handle,
    thread: JoinHandle<()>,
}

/// The signals, which kill nobody any more.
pub(crate) struct Caught(Signals);

impl Caught {
    /// From now on, SIGTERM, SIGINT and SIGQUIT wait for a pool that they terminate.
    pub(crate) fn now() -> Result<Caught, Failure> {
        let signals = Signals::new([SIGTERM, SIGINT, SIGQUIT]);
        signals.map(Caught).map_err(Failure::system("waiting for signals"))
    }

    /// From now on they terminate this one; also those that have come before.
    pub(crate) fn terminate(self, pool: Pool) -> Result<Stopping, Failure> {
        let Caught(mut signals) = self;
        let handle = signals.handle();
        let wait = move || {
            if signals.forever().next().is_some() {
                pool.terminate();
            }
        };
        let thread = thread::Builder::new().name("signals".into()).spawn(wait);
        let thread = thread.map_err(Failure::system("waiting for signals"))?;
        Ok(Stopping { signals: handle, thread })
    }
}

impl Stopping {
    /// Signals are of no interest any more.
    pub(crate) fn end(self) {
        self.signals.close();
        let _ = self.thread.join();
    }
}
