//! Waiting for descriptors, and the two that this workspace makes itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::event::{EventfdFlags, epoll};
pub use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify;
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::clock::Deadline;

/// Waits until one of `descriptors` is ready or the deadline passes; says how many are. A signal
/// handler that runs meanwhile does not end the wait.
pub fn wait(descriptors: &mut [PollFd<'_>], deadline: Option<Deadline>) -> io::Result<usize> {
    loop {
        let timeout = deadline.map(time_left);
        match rustix::event::poll(descriptors, timeout.as_ref()) {
            Ok(ready) => return Ok(ready),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn time_left(deadline: Deadline) -> Timespec {
    let left = deadline.remaining();
    Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(left.subsec_nanos()) as _,
    }
}

/// Whether `descriptor` becomes readable, or is hung up, before the deadline.
pub fn readable(descriptor: impl AsFd, deadline: Option<Deadline>) -> io::Result<bool> {
    Ok(wait(&mut [PollFd::new(&descriptor, PollFlags::IN)], deadline)? > 0)
}

/// Whether `descriptor` becomes writable, or is hung up, before the deadline.
pub fn writable(descriptor: impl AsFd, deadline: Option<Deadline>) -> io::Result<bool> {
    Ok(wait(&mut [PollFd::new(&descriptor, PollFlags::OUT)], deadline)? > 0)
}

/// Whether nothing more can come to a socket than what is there.
pub fn hung_up(socket: impl AsFd) -> io::Result<bool> {
    let now = Some(Deadline::after(std::time::Duration::ZERO));
    Ok(wait(&mut [PollFd::new(&socket, PollFlags::RDHUP)], now)? > 0)
}

/// What a pipe that can be written takes at once, without blocking: `PIPE_BUF`.
const AT_ONCE: usize = 4096;

/// Writes a line to `stream` if it takes it now, without blocking; says whether it did. What is longer than
/// a pipe takes at once is cut.
pub fn write_line_now(stream: impl AsFd, mut line: Vec<u8>) -> bool {
    line.truncate(AT_ONCE - 1);
    line.push(b'\n');
    let now = Some(Deadline::after(std::time::Duration::ZERO));
    writable(&stream, now).unwrap_or(false) && crate::descriptor::write_all(stream, &line).is_ok()
}

/// Descriptors that are waited for again and again. However many there are, waiting costs no more.
#[derive(Debug)]
pub struct PollSet(OwnedFd);

impl PollSet {
    /// An empty set.
    pub fn new() -> io::Result<PollSet> {
        Ok(PollSet(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Adds a descriptor: `name` is told for as long as it is readable, or hung up.
    pub fn add(&self, descriptor: impl AsFd, name: u64) -> io::Result<()> {
        let data = epoll::EventData::new_u64(name);
        Ok(epoll::add(&self.0, descriptor, data, epoll::EventFlags::IN)?)
    }

    /// Whether `name` is also told while the descriptor can be written.
    pub fn set_writable(&self, descriptor: impl AsFd, name: u64, writable: bool) -> io::Result<()> {
        let data = epoll::EventData::new_u64(name);
        let output = if writable { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
        Ok(epoll::modify(&self.0, descriptor, data, epoll::EventFlags::IN | output)?)
    }

    /// Takes a descriptor out, before it is closed: a forked process may have a copy, of which the
    /// kernel would go on telling.
    pub fn remove(&self, descriptor: impl AsFd) {
        // It can only fail for one that is not there.
        let _ = epoll::delete(&self.0, descriptor);
    }

    /// Waits until something is ready, or the deadline passes; gives the names of some that are. A
    /// signal handler that runs meanwhile does not end the wait.
    pub fn wait(&self, deadline: Option<Deadline>) -> io::Result<Vec<u64>> {
        let mut events = Vec::with_capacity(64);
        loop {
            let timeout = deadline.map(time_left);
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.0, room, timeout.as_ref()) {
                Ok(_) => return Ok(events.iter().map(|event| event.data.u64()).collect()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// It is readable while something in it is ready.
impl AsFd for PollSet {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A flag that [`wait`] can wait for.
#[derive(Debug)]
pub struct Notice(OwnedFd);

impl Notice {
    /// A lowered flag.
    pub fn new() -> io::Result<Notice> {
        Ok(Notice(rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    /// Raises the flag. Never blocks.
    pub fn raise(&self) {
        // The counter can only be full, and then the flag is up.
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Lowers the flag.
    pub fn lower(&self) {
        // EAGAIN says that it was down.
        let _ = rustix::io::read(&self.0, &mut [0u8; 8]);
    }
}

impl AsFd for Notice {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Is readable from a moment on.
#[derive(Debug)]
pub struct Timer(OwnedFd);

impl Timer {
    /// A timer that is not set.
    pub fn new() -> io::Result<Timer> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Timer(timerfd_create(TimerfdClockId::Monotonic, flags)?))
    }

    /// Makes it readable from `deadline` on, and not before; never, if there is none.
    pub fn set(&self, deadline: Option<Deadline>) {
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = deadline.map_or(never, Deadline::timespec);
        let once = Itimerspec { it_interval: never, it_value };
        // It can only fail for a time that is none.
        let _ = timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once);
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A pipe that carries nothing: its first end is hung up once nobody has the second any more. Both
/// are closed on exec.
pub fn lifeline() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Tells when somebody opens a file.
#[derive(Debug)]
pub struct Bell(OwnedFd);

impl Bell {
    /// Listens at the file at `path` from now on.
    pub fn at(path: &Path) -> io::Result<Bell> {
        let bell = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
        inotify::add_watch(&bell, path, inotify::WatchFlags::OPEN)?;
        Ok(Bell(bell))
    }

    /// Forgets that it rang.
    pub fn hush(&self) {
        let mut events = [0u8; 4096];
        while matches!(receive_some(&self.0, &mut events), Ok(Some(1..))) {}
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Reads a part of a stream: how many bytes, zero at its end, or `None` if it would block.
pub fn receive_some(stream: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    loop {
        match rustix::io::read(&stream, &mut *buffer) {
            Ok(count) => return Ok(Some(count)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn notice_raised_is_readable_until_lowered() {
        let notice = Notice::new().unwrap();
        let soon = || Some(Deadline::after(Duration::ZERO));
        assert!(!readable(&notice, soon()).unwrap());
        notice.raise();
        assert!(readable(&notice, soon()).unwrap());
        notice.lower();
        assert!(!readable(&notice, soon()).unwrap());
    }

    #[test]
    fn set_tells_the_names_of_what_is_ready_until_it_is_taken_out() {
        let set = PollSet::new().unwrap();
        let (one, two) = (Notice::new().unwrap(), Notice::new().unwrap());
        set.add(&one, 1).unwrap();
        set.add(&two, u64::MAX).unwrap();
        let ready = || set.wait(Some(Deadline::after(Duration::ZERO))).unwrap();
        assert_eq!(ready(), []);
        two.raise();
        assert_eq!(ready(), [u64::MAX]);
        assert_eq!(ready(), [u64::MAX], "it still is");
        one.raise();
        two.lower();
        assert_eq!(ready(), [1]);
        let _copy = one.as_fd().try_clone_to_owned().unwrap();
        set.remove(&one);
        drop(one);
        assert_eq!(ready(), []);
    }

    #[test]
    fn timer_is_readable_from_its_moment_on_until_it_is_set_again() {
        let timer = Timer::new().unwrap();
        let now = || Some(Deadline::after(Duration::ZERO));
        assert!(!readable(&timer, now()).unwrap());
        let deadline = Deadline::after(Duration::from_millis(5));
        timer.set(Some(deadline));
        assert!(readable(&timer, Some(Deadline::after(Duration::from_secs(30)))).unwrap());
        assert!(deadline.passed());
        timer.set(Some(Deadline::after(Duration::from_secs(30))));
        assert!(!readable(&timer, now()).unwrap());
        timer.set(Some(deadline));
        assert!(readable(&timer, now()).unwrap());
        timer.set(None);
        assert!(!readable(&timer, now()).unwrap());
    }

    #[test]
    fn bell_rings_when_the_file_is_opened() {
        let path = std::env::temp_dir().join(format!("multiproc-bell-{}", std::process::id()));
        std::fs::write(&path, "x").unwrap();
        let bell = Bell::at(&path).unwrap();
        assert!(!readable(&bell, Some(Deadline::after(Duration::ZERO))).unwrap());
        drop(std::fs::File::open(&path).unwrap());
        assert!(readable(&bell, Some(Deadline::after(Duration::from_secs(30)))).unwrap());
        bell.hush();
        assert!(!readable(&bell, Some(Deadline::after(Duration::ZERO))).unwrap());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn lifeline_is_hung_up_when_its_other_end_is_gone() {
        let (near, far) = lifeline().unwrap();
        assert!(!readable(&near, Some(Deadline::after(Duration::ZERO))).unwrap());
        drop(far);
        assert!(readable(&near, Some(Deadline::after(Duration::ZERO))).unwrap());
    }
}
