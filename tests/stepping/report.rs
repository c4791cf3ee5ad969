//! What is counted and found, and the alarm that ends what hangs.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering::Relaxed;

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

/// How long a case may take before it counts as hanging.
const CASE_SECONDS_MAX: u32 = 15;
/// How many violations of one script are told.
const TOLD_MAX: usize = 20;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Operations,
    Instructions,
    States,
    Kills,
    Hangs,
    Violations,
}

/// The counts, as text: `operations 1, instructions 2, ...`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts([u64; 6]);

const NAMES: [&str; 6] = ["operations", "instructions", "states", "kills", "hangs", "violations"];

impl Counts {
    pub(crate) fn add(&mut self, what: Count, count: u64) {
        self.0[what as usize] += count;
    }

    pub(crate) fn merge(&mut self, other: Counts) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, count)| *sum += count);
    }

    pub(crate) fn get(&self, what: Count) -> u64 {
        self.0[what as usize]
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> =
            NAMES.iter().zip(self.0).map(|(name, count)| format!("{name} {count}")).collect();
        formatter.write_str(&parts.join(", "))
    }
}

impl FromStr for Counts {
    type Err = ();

    fn from_str(text: &str) -> Result<Counts, ()> {
        let mut counts = Counts::default();
        let mut parts = text.trim().split(", ");
        for (name, count) in NAMES.iter().zip(&mut counts.0) {
            let part = parts.next().and_then(|part| part.strip_prefix(name)).ok_or(())?;
            *count = part.trim().parse().map_err(|_| ())?;
        }
        Ok(counts)
    }
}

/// What one controller has counted and found.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) counts: Counts,
    case: String,
}

/// The line that the signal handler prints: the case under way hangs. Zeros behind it.
static HANGS: [AtomicU8; 200] = [const { AtomicU8::new(0) }; 200];

extern "C" fn hanging(_: i32) {
    let mut line = [0; 200];
    line.iter_mut().zip(&HANGS).for_each(|(to, from)| *to = from.load(Relaxed));
    let len = line.iter().position(|byte| *byte == 0).unwrap_or(line.len());
    // SAFETY: `write` and `_exit` may be called in a handler, and the line is ours.
    unsafe {
        nix::libc::write(1, line.as_ptr().cast(), len);
        nix::libc::_exit(3)
    }
}

impl Report {
    /// Arms the alarm: from now on, a case that takes too long ends this process.
    pub(crate) fn new() -> Report {
        let handler = SigHandler::Handler(hanging);
        let action = SigAction::new(handler, SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does only what handlers may.
        unsafe { sigaction(Signal::SIGALRM, &action) }.expect("a handler for SIGALRM");
        Report::default()
    }

    /// A case begins: `how` state `state` of `script` is tried.
    pub(crate) fn begin(&mut self, script: &str, how: &str, state: usize) {
        self.case = format!("STEPPING_ONLY={script}:{state} ({how})");
        let line = format!("\nviolation: {}: it hangs\n", self.case);
        let bytes = line.bytes().chain(std::iter::repeat(0));
        HANGS.iter().zip(bytes).for_each(|(to, byte)| to.store(byte, Relaxed));
        self.alive();
    }

    /// Something that is good to know about the script.
    pub(crate) fn note(&self, what: String) {
        println!("\nnote: {what}");
    }

    /// The case goes on: it does not hang.
    pub(crate) fn alive(&self) {
        nix::unistd::alarm::set(CASE_SECONDS_MAX);
    }

    pub(crate) fn count(&mut self, what: Count, count: u64) {
        self.counts.add(what, count);
    }

    /// Something is wrong in this case.
    pub(crate) fn violation(&mut self, what: String) {
        self.counts.add(Count::Violations, 1);
        if self.counts.get(Count::Violations) <= TOLD_MAX as u64 {
            println!("\nviolation: {}: {what}", self.case);
        }
    }
}
