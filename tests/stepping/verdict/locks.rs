//! Locks, and what they protect.

use std::time::Duration;

use multiproc_ipc::LockError;

use super::{Bounds, Verdict};
use crate::ledger::{Deeds, Ledger};
use crate::world::Objects;

/// How long a lock that nobody has is waited for.
const LONGEST: Duration = Duration::from_secs(2);

/// Which lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    Mutex,
}

/// What a lock was found with: the data, and whether an owner is said to have died.
type Found = Result<([u64; 2], bool), LockError>;

impl Verdict {
    pub(super) fn locks(&mut self, objects: &Objects, ledger: &Ledger, bounds: &Bounds) {
        let found = objects.mutex.lock_timeout(LONGEST).map(|mut guard| {
            let died = guard.owner_died();
            guard.mark_consistent();
            (*guard, died)
        });
        let changed = self.lock(Lock::Mutex, found, bounds, ledger, |deeds| deeds.changed);
        self.seen.changed = changed;
    }

    /// Judges how a lock was found; returns how often the victim is seen to have changed its data.
    fn lock(
        &mut self,
        lock: Lock,
        found: Found,
        bounds: &Bounds,
        ledger: &Ledger,
        changes: fn(Deeds) -> i64,
    ) -> i64 {
        let least = changes(bounds.least);
        match found {
            Ok((data, true)) => {
                let may = bounds.bereft == Some(lock) || least < changes(bounds.most);
                self.expect(may, || format!("an owner of the {lock:?} is said to have died"));
                self.expect(data[0].abs_diff(data[1]) <= 1, || format!("{lock:?}: data {data:?}"));
                // Not known; whatever it is allowed to be.
                least
            }
            Ok((data, false)) => {
                let whole = data[0] == data[1];
                self.expect(whole, || format!("{lock:?}: half changed data {data:?}"));
                data[0] as i64 - changes(ledger.others)
            }
            Err(LockError::Poisoned) => {
                let may = bounds.poisons == Some(lock);
                self.expect(may, || format!("the {lock:?} is poisoned"));
                least
            }
            Err(error) => {
                self.violations.push(format!("the {lock:?}: {error}"));
                least
            }
        }
    }
}
