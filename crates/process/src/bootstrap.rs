//! What a parent passes to a child, and how the child finds its function.
//!
//! A child is told in one environment variable which place it has, which function it runs and in
//! which executable. [`init`] finds the variable, removes it, and enters the function.

use std::convert::Infallible;
use std::fmt;
use std::io::Write;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicI32};

use multiproc_ipc::family::{Seat, Ticket};
use multiproc_sys::descriptor;
use multiproc_sys::process::{Executable, this_executable};

use crate::outcome::PANICKED;
use crate::{function, relatives, server};

/// The variable that makes a process a child.
pub(crate) const VARIABLE: &str = "MULTIPROC_CHILD";

/// Exit code of a child that cannot enter its function: `EX_CONFIG`.
const CANNOT_ENTER: i32 = 78;

static INITIALISED: AtomicBool = AtomicBool::new(false);

/// What the variable says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bootstrap {
    pub(crate) parent: u32,
    pub(crate) segment: RawFd,
    /// It closes when the child executes another program; descriptors of a result go through it.
    pub(crate) lifeline: RawFd,
    /// Closed by the child when it enters its function, if it is detached: its parent waits for that.
    pub(crate) ready: Option<RawFd>,
    pub(crate) ticket: Ticket,
    pub(crate) function: usize,
    pub(crate) executable: Executable,
    /// The descriptors that the arguments name.
    pub(crate) descriptors: Vec<RawFd>,
    /// What the child is called.
    pub(crate) name: String,
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Executable { device, inode, size, mtime_ns } = self.executable;
        let ready = self.ready.unwrap_or(-1);
        write!(formatter, "{} {} {} {ready}", self.parent, self.segment, self.lifeline)?;
        write!(formatter, " {} {:x}", self.ticket, self.function)?;
        write!(formatter, " {device} {inode} {size} {mtime_ns}")?;
        self.descriptors.iter().try_for_each(|descriptor| write!(formatter, " {descriptor}"))?;
        write!(formatter, "\n{}", self.name)
    }
}

impl FromStr for Bootstrap {
    type Err = ();

    fn from_str(text: &str) -> Result<Bootstrap, ()> {
        fn number<N: FromStr>(word: Option<&str>) -> Result<N, ()> {
            word.ok_or(())?.parse().map_err(|_| ())
        }
        let (words, name) = text.split_once('\n').ok_or(())?;
        let mut words = words.split(' ');
        Ok(Bootstrap {
            parent: number(words.next())?,
            segment: number(words.next())?,
            lifeline: number(words.next())?,
            ready: Some(number(words.next())?).filter(|ready| *ready >= 0),
            ticket: number(words.next())?,
            function: usize::from_str_radix(words.next().ok_or(())?, 16).map_err(|_| ())?,
            executable: Executable {
                device: number(words.next())?,
                inode: number(words.next())?,
                size: number(words.next())?,
                mtime_ns: number(words.next())?,
            },
            descriptors: words.map(|word| number(Some(word))).collect::<Result<_, _>>()?,
            name: name.into(),
        })
    }
}

/// What a child has from its parent besides its place.
pub(crate) struct Inherited {
    pub(crate) descriptors: Vec<RawFd>,
    /// What descriptors of a result go through.
    pub(crate) lifeline: OwnedFd,
    ready: Option<OwnedFd>,
    /// Whether it has what its parent would do at its exit, and must not.
    forked: bool,
}

impl Inherited {
    /// What a child has that was forked from the parent itself.
    pub(crate) fn by_fork(
        descriptors: Vec<RawFd>,
        lifeline: OwnedFd,
        ready: Option<OwnedFd>,
    ) -> Inherited {
        Inherited { descriptors, lifeline, ready, forked: true }
    }

    /// Says that the function begins.
    pub(crate) fn begin(&mut self) {
        self.ready = None;
    }

    /// Ends the child.
    pub(crate) fn exit(&self, code: i32) -> ! {
        if self.forked {
            let _ = std::io::stdout().flush();
            multiproc_sys::process::exit_at_once(code)
        }
        std::process::exit(code)
    }

    /// Ends the child, which cannot do what it was started for.
    pub(crate) fn give_up(&self, reason: &str) -> ! {
        tell(reason);
        self.exit(CANNOT_ENTER)
    }
}

/// The number of this process's end of its lifeline; -1 if it has none.
static LIFELINE: AtomicI32 = AtomicI32::new(-1);

/// Notes a lifeline as this process's own. A forked child closes its parent's, whose other end would not
/// be hung up otherwise.
pub(crate) fn own_lifeline(own: RawFd) {
    let inherited = LIFELINE.swap(own, SeqCst);
    if inherited >= 0 {
        // SAFETY: it was noted for this, and who owns it in this copy of the parent is never dropped.
        drop(unsafe { OwnedFd::from_raw_fd(inherited) });
    }
}

/// What a forked child does instead of returning. A panic must not unwind into what it has of its parent.
pub(crate) fn never_return(work: impl FnOnce() -> Infallible) -> ! {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(never) => match never {},
        Err(_) => multiproc_sys::process::exit_at_once(PANICKED),
    }
}

fn tell(reason: &str) {
    eprintln!("multiproc: this child process {reason}");
}

pub(crate) fn cannot_enter(reason: &str) -> ! {
    tell(reason);
    std::process::exit(CANNOT_ENTER)
}

/// To be called first in `main` by a program that starts children.
///
/// In the program itself it returns at once. In a child, which executes the same file, it enters the
/// child's function and never returns. Without it [`Process::spawn`](crate::Process::spawn) is an
/// error.
///
/// ```
/// use multiproc_process::Process;
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     multiproc_process::init();
///     assert_eq!(Process::spawn(|| 42, ())?.join()?, 42);
///     Ok(())
/// }
/// ```
pub fn init() {
    if INITIALISED.swap(true, SeqCst) {
        return;
    }
    let Some(text) = std::env::var_os(VARIABLE) else { return };
    // SAFETY: `init` is called first in `main`, or before it: no other thread reads the environment.
    unsafe { std::env::remove_var(VARIABLE) };
    let text = text.to_str().unwrap_or_default();
    match text.parse::<Order>() {
        // A variable that names another parent was inherited through a program that ignored it.
        Ok(Order::Child(bootstrap)) if bootstrap.is_for_us() => enter(bootstrap),
        Ok(Order::Server { parent: ours, pipe }) if ours == parent() => server::serve(pipe),
        Ok(_) => {}
        Err(()) => cannot_enter("was passed something unreadable in MULTIPROC_CHILD"),
    }
}

/// What a process that executes this program is to become.
pub(crate) enum Order {
    Child(Bootstrap),
    /// A fork server of this parent, which talks to it through this descriptor.
    Server {
        parent: u32,
        pipe: RawFd,
    },
}

/// What an order begins with that makes a fork server.
pub(crate) const SERVER: &str = "server ";

impl FromStr for Order {
    type Err = ();

    fn from_str(text: &str) -> Result<Order, ()> {
        let Some(words) = text.strip_prefix(SERVER) else { return text.parse().map(Order::Child) };
        let (parent, pipe) = words.split_once(' ').ok_or(())?;
        Ok(Order::Server {
            parent: parent.parse().map_err(|_| ())?,
            pipe: pipe.parse().map_err(|_| ())?,
        })
    }
}

impl Bootstrap {
    /// The descriptors that the child must have under these numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = RawFd> + '_ {
        let own = [self.segment, self.lifeline].into_iter().chain(self.ready);
        self.descriptors.iter().copied().chain(own)
    }

    /// Whether this process is the child that is meant, and not a descendant of it. The parent of one
    /// that is detached may be gone, but it leads its session.
    fn is_for_us(&self) -> bool {
        self.parent == parent() || self.ready.is_some() && multiproc_sys::process::leads_session()
    }
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// Enters the function of a child.
pub(crate) fn enter(bootstrap: Bootstrap) -> ! {
    match this_executable() {
        Ok(executable) if executable == bootstrap.executable => {}
        _ => cannot_enter("executes another file than its parent: was it replaced meanwhile?"),
    }
    let Some(entry) = function::find(bootstrap.function) else {
        cannot_enter("was told a function that does not exist");
    };
    // What we inherited for ourselves, our own children do not inherit.
    if bootstrap.numbers().any(|number| descriptor::close_on_exec(number).is_err()) {
        cannot_enter("was passed a descriptor that is not open");
    }
    // SAFETY: they are open, and the parent passed them under these numbers for us to own.
    let own = |number: RawFd| unsafe { OwnedFd::from_raw_fd(number) };
    let (lifeline, ready) = (own(bootstrap.lifeline), bootstrap.ready.map(own));
    own_lifeline(bootstrap.lifeline);
    relatives::introduce(&bootstrap.name, bootstrap.parent);
    match Seat::take(own(bootstrap.segment), bootstrap.ticket) {
        Ok(seat) => {
            let Bootstrap { descriptors, .. } = bootstrap;
            entry(&seat, Inherited { descriptors, lifeline, ready, forked: false })
        }
        Err(error) => cannot_enter(&format!("cannot take its place: {error}")),
    }
}

/// Whether [`init`] was called, and this is no child that missed it.
pub(crate) fn is_initialised() -> bool {
    INITIALISED.load(SeqCst)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bootstrap_written_and_read_is_the_same() {
        let bootstrap = Bootstrap {
            parent: 17,
            segment: 5,
            lifeline: 6,
            ticket: "1.2.3.4".parse().unwrap(),
            function: 0xdead_beef,
            executable: Executable { device: 1, inode: 2, size: 3, mtime_ns: -4 },
            descriptors: vec![7, 9],
            ready: Some(8),
            name: "a name\nof two lines".into(),
        };
        assert_eq!(bootstrap.to_string().parse::<Bootstrap>().unwrap(), bootstrap);
    }

    #[test]
    fn bootstrap_cut_short_is_refused() {
        for text in [
            "",
            "1",
            "1 2 3 -1 3.4.5.6 ff 1 2 3\nname",
            "1 2 3 -1 3 ff 1 2 3 4\nname",
            "1 2 3 -1 1.2.3.4 zz 1 2 3 4\nname",
            "1 2 3 -1 1.2.3.4 ff 1 2 3 4",
        ] {
            assert!(text.parse::<Bootstrap>().is_err(), "{text}");
        }
    }
}
