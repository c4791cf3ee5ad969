//! Children that are killed where a test wants it.

use multiproc::{JoinError, Process, Queue};
use serde::de::DeserializeOwned;

use crate::{SOON, eventually, state_of};

/// Kills a child, and waits until it is dead and cleaned up after.
///
/// # Panics
/// When it ends in another way.
#[track_caller]
pub fn kill<R: DeserializeOwned>(child: &Process<R>) {
    child.child().kill().expect("killing a child");
    let error = child.join_timeout(SOON).err().expect("it does not end by itself");
    assert!(matches!(error, JoinError::Killed { signal: 9, .. }), "{error}");
}

/// As [`kill`], once the child has said that it is where it should be killed.
///
/// # Panics
/// When it says nothing, or ends in another way.
#[track_caller]
pub fn kill_when_ready<R: DeserializeOwned>(child: &Process<R>, ready: &Queue<()>) {
    ready.recv_timeout(SOON).expect("it gets there");
    kill(child);
}

/// Waits until a child, which has said that it is about to wait for something, sleeps over it.
///
/// # Panics
/// When it never does.
#[track_caller]
pub fn asleep<R>(child: &Process<R>) {
    eventually("it sleeps", || state_of(child.pid()) == Some('S'));
}
