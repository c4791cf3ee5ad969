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

impl Stopping {
    /// From now on, SIGTERM, SIGINT and SIGQUIT terminate the pool.
    pub(crate) fn on_signals(pool: Pool) -> Result<Stopping, Failure> {
        let doing = "waiting for signals";
        let signals = Signals::new([SIGTERM, SIGINT, SIGQUIT]);
        let mut signals = signals.map_err(Failure::system(doing))?;
        let handle = signals.handle();
        let wait = move || {
            if signals.forever().next().is_some() {
                pool.terminate();
            }
        };
        let thread = thread::Builder::new().name("signals".into()).spawn(wait);
        Ok(Stopping { signals: handle, thread: thread.map_err(Failure::system(doing))? })
    }

    /// Signals are of no interest any more.
    pub(crate) fn end(self) {
        self.signals.close();
        let _ = self.thread.join();
    }
}
