//! What the operator's signals ask for.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{
    SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// TERM, INT: a graceful stop; the second time, one without further grace.
    Stop,
    /// QUIT: a stop at once.
    StopNow,
    /// HUP: the configuration anew.
    Reload,
    /// USR1: log files anew.
    Reopen,
    /// USR2: this program anew.
    Reexecute,
    /// TTIN: a slot more.
    More,
    /// TTOU: a slot less.
    Less,
    /// CHLD: a child has ended, which may be one that nobody waits for.
    ChildEnded,
}

const WISHES: [(i32, Wish); 9] = [
    (SIGTERM, Wish::Stop),
    (SIGINT, Wish::Stop),
    (SIGQUIT, Wish::StopNow),
    (SIGHUP, Wish::Reload),
    (SIGUSR1, Wish::Reopen),
    (SIGUSR2, Wish::Reexecute),
    (SIGTTIN, Wish::More),
    (SIGTTOU, Wish::Less),
    (SIGCHLD, Wish::ChildEnded),
];

/// The signals of a process that is run by an operator, until it is dropped.
#[derive(Debug)]
pub(crate) struct Signals(SignalDelivery<UnixStream, SignalOnly>);

impl Signals {
    pub(crate) fn register() -> io::Result<Signals> {
        let (read, write) = UnixStream::pair()?;
        let numbers = WISHES.map(|(number, _)| number);
        Ok(Signals(SignalDelivery::with_pipe(read, write, SignalOnly, numbers)?))
    }

    /// What was asked for since the last time.
    pub(crate) fn take(&mut self) -> Vec<Wish> {
        let wish = |signal| WISHES.iter().find(|(number, _)| *number == signal);
        self.0.pending().filter_map(wish).map(|(_, wish)| *wish).collect()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_read().as_fd()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.0.handle().close();
    }
}
