//! How a function is named across processes.
//!
//! Parent and child execute the same file, so a function is the same distance from the start of the
//! image in both. What is named is not the function itself but an entry made for it by the compiler,
//! which knows the types of its arguments and result, so nothing about them is guessed.

use std::os::fd::AsFd;
use std::ptr::NonNull;

use multiproc_ipc::family::Seat;
use multiproc_sys::image::main_executable;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::bootstrap::Inherited;
#[cfg(feature = "tracing")]
use crate::logs::Logs;
use crate::outcome::{PANICKED, SpawnError, catch};

/// A function that a child process can run on arguments of type `A`, a tuple.
///
/// Implemented for functions and for closures that capture nothing, of up to eight arguments. That
/// nothing is captured is checked when it is compiled: the type must have no size. (A closure that
/// captures a value without size, as a token of something, would pass the check; the child makes up
/// another one.)
pub trait Target<A>: Copy + Send + 'static {
    /// What it returns.
    type Output;

    #[doc(hidden)]
    fn call(self, arguments: A) -> Self::Output;
}

macro_rules! targets {
    ($(($($argument:ident),*))*) => {$(
        impl<F, O, $($argument),*> Target<($($argument,)*)> for F
        where
            F: Fn($($argument),*) -> O + Copy + Send + 'static,
        {
            type Output = O;

            #[allow(non_snake_case, reason = "the arguments are named like their types")]
            fn call(self, ($($argument,)*): ($($argument,)*)) -> O {
                self($($argument),*)
            }
        }
    )*};
}

targets! {
    ()
    (A)
    (A, B)
    (A, B, C)
    (A, B, C, D)
    (A, B, C, D, E)
    (A, B, C, D, E, G)
    (A, B, C, D, E, G, H)
    (A, B, C, D, E, G, H, I)
}

/// Runs a function on the arguments in the mailbox, and leaves the result there.
pub(crate) type Entry = fn(&Seat, Inherited) -> !;

fn entry<F, A>(seat: &Seat, inherited: Inherited) -> !
where
    F: Target<A>,
    F::Output: Serialize,
    A: DeserializeOwned,
{
    run::<F, A, A>(seat, inherited, |arguments| arguments)
}

/// As [`entry`], of a process that logs: where, comes before the arguments.
#[cfg(feature = "tracing")]
fn logging_entry<F, A>(seat: &Seat, inherited: Inherited) -> !
where
    F: Target<A>,
    F::Output: Serialize,
    A: DeserializeOwned,
{
    run::<F, A, (Logs, A)>(seat, inherited, |(logs, arguments)| {
        // It fails in a process that was forked from one that logs: they are installed.
        let _ = logs.install();
        arguments
    })
}

/// Runs a function on the arguments that `unpack` finds in what was passed.
fn run<F, A, P>(seat: &Seat, mut inherited: Inherited, unpack: impl FnOnce(P) -> A) -> !
where
    F: Target<A>,
    F::Output: Serialize,
    P: DeserializeOwned,
{
    let function = conjure::<F>();
    let arguments = match seat.take_arguments::<P>(&inherited.descriptors) {
        Ok(passed) => unpack(passed),
        Err(error) => inherited.give_up(&format!("cannot read the arguments: {error}")),
    };
    inherited.begin();
    let (put, code) = match catch(|| function.call(arguments)) {
        Ok(result) => (seat.put_result_through(inherited.lifeline.as_fd(), &result), 0),
        Err(panic) => (seat.put_failure(&panic), PANICKED),
    };
    match put {
        Ok(()) => inherited.exit(code),
        Err(error) => inherited.give_up(&format!("cannot return the result: {error}")),
    }
}

/// What a child does that runs `F` and logs, to [`Logs`] that are passed before its arguments.
#[cfg(feature = "tracing")]
pub(crate) fn logging_entry_of<F, A>() -> Entry
where
    F: Target<A>,
    F::Output: Serialize,
    A: DeserializeOwned,
{
    let _checked = entry_of::<F, A>();
    logging_entry::<F, A>
}

/// What a child does that runs `F`.
pub(crate) fn entry_of<F, A>() -> Entry
where
    F: Target<A>,
    F::Output: Serialize,
    A: DeserializeOwned,
{
    const { assert!(size_of::<F>() == 0, "a function that crosses processes must capture nothing") };
    entry::<F, A>
}

/// One more of a function that captures nothing.
pub(crate) fn conjure<F: Copy + 'static>() -> F {
    const { assert!(size_of::<F>() == 0, "a function that crosses processes must capture nothing") };
    // SAFETY: it has no size, so there is nothing to read; it is `Copy`, so one more of it is as good as
    // any.
    unsafe { NonNull::<F>::dangling().read() }
}

/// The name of an entry.
pub(crate) fn name(entry: Entry) -> Result<usize, SpawnError> {
    name_of_address(entry as usize)
}

/// The name of code: its distance from the start of the image.
pub(crate) fn name_of_address(address: usize) -> Result<usize, SpawnError> {
    let image = main_executable().ok_or(SpawnError::NotInExecutable)?;
    if !image.code.contains(&address) {
        return Err(SpawnError::NotInExecutable);
    }
    Ok(address - image.base)
}

/// The entry of a name, if it can be one.
pub(crate) fn find(name: usize) -> Option<Entry> {
    let address = address_of_name(name)?;
    // SAFETY: the parent, which executes the same file (checked before this), took the name from
    // an `Entry` inside the image's code.
    Some(unsafe { std::mem::transmute::<usize, Entry>(address) })
}

/// Where the code is that has this name, if there can be any.
pub(crate) fn address_of_name(name: usize) -> Option<usize> {
    let image = main_executable()?;
    image.base.checked_add(name).filter(|address| image.code.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(number: u64) -> u64 {
        2 * number
    }

    #[test]
    fn find_of_a_name_is_the_entry_itself() {
        fn name_of<F: Target<(u64,), Output = u64>>(_: F) -> usize {
            name(entry_of::<F, (u64,)>()).unwrap()
        }
        let names = [name_of(twice), name_of(|number| 3 * number)];
        assert_ne!(names[0], names[1]);
        assert!(names.into_iter().all(|name| find(name).is_some()));
    }

    #[test]
    fn find_of_a_name_outside_the_code_is_none() {
        assert!(find(usize::MAX).is_none());
        assert!(find(1 << 40).is_none());
    }
}
