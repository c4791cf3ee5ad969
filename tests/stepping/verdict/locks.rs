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
    ReadWrite,
    Reentrant,
}

/// What a lock was found with: the data, and whether an owner is said to have died.
type Found = Result<([u64; 2], bool), LockError>;

impl Verdict {
    pub(super) fn locks(&mut self, objects: &Objects, ledger: &Ledger, bounds: &Bounds) {
        self.seen.changed = self.lock(
            Lock::Mutex,
            ledger,
            bounds,
            |it| it.changed,
            |patience| {
                let mut guard = objects.mutex.lock_timeout(patience)?;
                let died = guard.owner_died();
                guard.mark_consistent();
                Ok((*guard, died))
            },
        );
        if let Some((Lock::ReadWrite, Some(then))) = ledger.held {
            let now = objects.rwlock.try_read().map(|guard| *guard);
            self.expect(now == Ok(then), || format!("{then:?} was read, and is {now:?}"));
        }
        let to_reader = objects.rwlock.try_read().map(|guard| guard.owner_died());
        let mut to_writer = to_reader;
        self.seen.written = self.lock(
            Lock::ReadWrite,
            ledger,
            bounds,
            |it| it.written,
            |patience| {
                let mut guard = objects.rwlock.write_timeout(patience)?;
                let died = guard.owner_died();
                to_writer = Ok(died);
                guard.mark_consistent();
                Ok((*guard, died))
            },
        );
        self.expect(to_reader == to_writer, || {
            format!("of a death, a reader is told {to_reader:?}, a writer {to_writer:?}")
        });
        self.seen.nested = self.lock(
            Lock::Reentrant,
            ledger,
            bounds,
            |it| it.nested,
            |patience| {
                let guard = objects.reentrant.lock_timeout(patience)?;
                let died = guard.owner_died();
                guard.mark_consistent();
                Ok((guard.get(), died))
            },
        );
    }

    /// Takes a lock and judges how it was found; returns how often the victim is seen to have changed
    /// its data.
    fn lock(
        &mut self,
        lock: Lock,
        ledger: &Ledger,
        bounds: &Bounds,
        changes: fn(Deeds) -> i64,
        take: impl FnOnce(Duration) -> Found,
    ) -> i64 {
        let least = changes(bounds.least);
        let held = ledger.held.is_some_and(|(held, _)| held == lock);
        match take(if held { Duration::ZERO } else { LONGEST }) {
            Ok(_) if held => self.violations.push(format!("the {lock:?} was taken from its owner")),
            Ok((data, true)) => {
                let may = bounds.bereft == Some(lock) || least < changes(bounds.most);
                self.expect(may, || format!("an owner of the {lock:?} is said to have died"));
                self.expect(data[0].abs_diff(data[1]) <= 1, || format!("{lock:?}: data {data:?}"));
            }
            Ok((data, false)) => {
                let whole = data[0] == data[1];
                self.expect(whole, || format!("{lock:?}: half changed data {data:?}"));
                return data[0] as i64 - changes(ledger.others);
            }
            Err(LockError::Held) if held => {}
            Err(LockError::Poisoned) => {
                let may = bounds.poisons == Some(lock);
                self.expect(may, || format!("the {lock:?} is poisoned"));
            }
            Err(error) => self.violations.push(format!("the {lock:?}: {error}")),
        }
        // Not known; whatever it is allowed to be.
        least
    }
}
