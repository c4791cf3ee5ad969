//! What a parent passes to a child, and how the child finds its function.
//!
//! A child is told in one environment variable which place it has, which function it runs and in
//! which executable. [`init`] finds the variable, removes it, and enters the function.

use std::fmt;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::str::FromStr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;

use multiproc_ipc::family::{Seat, Ticket};
use multiproc_sys::descriptor;
use multiproc_sys::process::{Executable, this_executable};

use crate::function;

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
    /// Nothing but its being open is of use: it closes when the child executes another program.
    pub(crate) lifeline: RawFd,
    pub(crate) ticket: Ticket,
    pub(crate) function: usize,
    pub(crate) executable: Executable,
    /// The descriptors that the arguments name.
    pub(crate) descriptors: Vec<RawFd>,
}

impl fmt::Display for Bootstrap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Executable { device, inode, size, mtime_ns } = self.executable;
        write!(formatter, "{} {} {}", self.parent, self.segment, self.lifeline)?;
        write!(formatter, " {} {:x}", self.ticket, self.function)?;
        write!(formatter, " {device} {inode} {size} {mtime_ns}")?;
        self.descriptors.iter().try_for_each(|descriptor| write!(formatter, " {descriptor}"))
    }
}

impl FromStr for Bootstrap {
    type Err = ();

    fn from_str(text: &str) -> Result<Bootstrap, ()> {
        fn number<N: FromStr>(word: Option<&str>) -> Result<N, ()> {
            word.ok_or(())?.parse().map_err(|_| ())
        }
        let mut words = text.split(' ');
        Ok(Bootstrap {
            parent: number(words.next())?,
            segment: number(words.next())?,
            lifeline: number(words.next())?,
            ticket: number(words.next())?,
            function: usize::from_str_radix(words.next().ok_or(())?, 16).map_err(|_| ())?,
            executable: Executable {
                device: number(words.next())?,
                inode: number(words.next())?,
                size: number(words.next())?,
                mtime_ns: number(words.next())?,
            },
            descriptors: words.map(|word| number(Some(word))).collect::<Result<_, _>>()?,
        })
    }
}

/// What a child has from its parent besides its place.
pub(crate) struct Inherited {
    pub(crate) descriptors: Vec<RawFd>,
}

impl Inherited {
    /// Ends the child, which cannot do what it was started for.
    pub(crate) fn give_up(&self, reason: &str) -> ! {
        cannot_enter(reason)
    }
}

fn cannot_enter(reason: &str) -> ! {
    eprintln!("multiproc: this child process {reason}");
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
    let Some(bootstrap) = text.to_str().and_then(|text| text.parse::<Bootstrap>().ok()) else {
        cannot_enter("was passed something unreadable in MULTIPROC_CHILD");
    };
    // A variable that names another parent was inherited through a program that ignored it.
    if bootstrap.parent == parent() {
        enter(bootstrap);
    }
}

fn parent() -> u32 {
    std::os::unix::process::parent_id()
}

/// Enters the function of a child.
fn enter(bootstrap: Bootstrap) -> ! {
    match this_executable() {
        Ok(executable) if executable == bootstrap.executable => {}
        _ => cannot_enter("executes another file than its parent: was it replaced meanwhile?"),
    }
    let Some(entry) = function::find(bootstrap.function) else {
        cannot_enter("was told a function that does not exist");
    };
    // What we inherited for ourselves, our own children do not inherit.
    for descriptor in bootstrap.descriptors.iter().chain([&bootstrap.segment, &bootstrap.lifeline])
    {
        if descriptor::close_on_exec(*descriptor).is_err() {
            cannot_enter("was passed a descriptor that is not open");
        }
    }
    // SAFETY: it is open, and the parent passed it under this number for us to own.
    let segment = unsafe { OwnedFd::from_raw_fd(bootstrap.segment) };
    match Seat::take(segment, bootstrap.ticket) {
        Ok(seat) => {
            entry(&seat, Inherited { descriptors: bootstrap.descriptors });
            unreachable!("an entry exits")
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
        };
        assert_eq!(bootstrap.to_string().parse::<Bootstrap>().unwrap(), bootstrap);
    }

    #[test]
    fn bootstrap_cut_short_is_refused() {
        for text in
            ["", "1", "1 2 3 3.4.5.6 ff 1 2 3", "1 2 3 3 ff 1 2 3 4", "1 2 3 1.2.3.4 zz 1 2 3 4"]
        {
            assert!(text.parse::<Bootstrap>().is_err(), "{text}");
        }
    }
}
