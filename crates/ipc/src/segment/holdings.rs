//! What a dead process held, for whoever reports its death: noted just before it is put right.
//!
//! The note is this process's own. It is made if this process, which started the dead one, is the first to
//! sweep after it; if another has been faster, nobody knows any more.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::catalog::{Entry, Kind};
use super::participants::Slot;
use super::{Place, Segment};
use crate::queue::raw::RawRing;
use crate::sync::{mutex, reentrant, rwlock, semaphore};

/// A life of a participant: the segment, the slot, and which of its lives.
type Life = (u64, u32, u32);

/// The lives of which somebody wants to know, and what they held in the end.
static NOTES: Mutex<Option<HashMap<Life, Vec<String>>>> = Mutex::new(None);

fn notes() -> MutexGuard<'static, Option<HashMap<Life, Vec<String>>>> {
    NOTES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn life(segment: &Segment, slot: u32, generation: u32) -> Life {
    (segment.identity(), slot, generation)
}

/// Has it noted what the process of a place held when it died.
pub(crate) fn want(segment: &Segment, place: Place) {
    let life = life(segment, place.slot, place.generation);
    notes().get_or_insert_default().insert(life, Vec::new());
}

/// What it held, if it has died; it is not noted any more.
pub(crate) fn take(segment: &Segment, place: Place) -> Vec<String> {
    let life = life(segment, place.slot, place.generation);
    notes().as_mut().and_then(|notes| notes.remove(&life)).unwrap_or_default()
}

/// Whether somebody wants to know what this one held.
pub(super) fn is_wanted(segment: &Segment, slot: Slot, generation: u32) -> bool {
    let life = life(segment, slot.index(), generation);
    notes().as_ref().is_some_and(|notes| notes.contains_key(&life))
}

/// Notes what it held.
pub(super) fn note(segment: &Segment, slot: Slot, generation: u32, held: Vec<String>) {
    let life = life(segment, slot.index(), generation);
    if let Some(note) = notes().as_mut().and_then(|notes| notes.get_mut(&life)) {
        note.extend(held);
    }
}

/// What `dead` holds of an object, in words: `None` if nothing.
pub(super) fn of(
    segment: &Segment,
    kind: Kind,
    index: u32,
    entry: &Entry,
    dead: Slot,
) -> Option<String> {
    let is_owner =
        |state: Option<(Option<Slot>, bool)>| state.is_some_and(|(owner, _)| owner == Some(dead));
    let what = match kind {
        Kind::Mutex if is_owner(mutex::state(segment, entry)) => "mutex".into(),
        Kind::ReentrantMutex if is_owner(reentrant::state(segment, entry)) => {
            "reentrant mutex".into()
        }
        Kind::RwLock if is_owner(rwlock::state(segment, entry)) => "rwlock (writing)".into(),
        Kind::RwLock => match rwlock::reads(segment, index, entry, dead) {
            0 => return None,
            _ => "rwlock (reading)".into(),
        },
        Kind::BoundedSemaphore => match semaphore::permits_of(segment, entry, dead) {
            0 => return None,
            permits => format!("{permits} of semaphore"),
        },
        Kind::Queue => match RawRing::new(segment, entry)?.leases_of(dead) {
            0 => return None,
            leases => format!("{leases} leased of queue"),
        },
        _ => return None,
    };
    Some(format!("{what} {}", segment.name_of(index)))
}
