//! What the operator's signals ask for.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use multiproc_sys::poll;
use signal_hook::SigId;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::{pipe, unregister};

use crate::core::Event;

/// The signals of a process that is run by an operator, until it is dropped.
#[derive(Debug)]
pub(crate) struct Signals {
    gentle: UnixStream,
    urgent: UnixStream,
    registered: Vec<SigId>,
}

impl Signals {
    /// From now on, TERM and INT ask for a graceful stop and, the second time, for one without
    /// further grace; QUIT asks for the latter at once.
    pub(crate) fn register() -> io::Result<Signals> {
        let (gentle, gentle_end) = UnixStream::pair()?;
        let (urgent, urgent_end) = UnixStream::pair()?;
        let registered = vec![
            pipe::register(SIGTERM, gentle_end.try_clone()?)?,
            pipe::register(SIGINT, gentle_end)?,
            pipe::register(SIGQUIT, urgent_end)?,
        ];
        gentle.set_nonblocking(true)?;
        urgent.set_nonblocking(true)?;
        Ok(Signals { gentle, urgent, registered })
    }

    /// What becomes readable when a signal has come.
    pub(crate) fn streams(&self) -> [&UnixStream; 2] {
        [&self.gentle, &self.urgent]
    }

    /// The events for the signals that have come.
    pub(crate) fn take(&self) -> Vec<Event> {
        let arrived = |stream: &UnixStream| {
            let mut bytes = [0; 64];
            // One byte per signal; what is left over is read the next time.
            poll::receive_some(stream.as_fd(), &mut bytes).ok().flatten().unwrap_or(0)
        };
        let urgent = (0..arrived(&self.urgent)).map(|_| Event::StopNow);
        urgent.chain((0..arrived(&self.gentle)).map(|_| Event::StopAll)).collect()
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.registered.drain(..).for_each(|id| {
            unregister(id);
        });
    }
}
