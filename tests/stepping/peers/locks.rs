//! Locks, and what they protect.

use multiproc_ipc::LockError;

use super::{Peer, SOME_TIME};
use crate::verdict::Lock;

impl Peer<'_> {
    /// Takes every lock; `held` is whether the victim has one.
    pub(super) fn locks(&mut self, held: bool) {
        let mutex = self.world.objects.mutex.clone();
        let changed = mutex.lock_timeout(SOME_TIME).map(|mut guard| {
            // An owner before the victim may have died.
            guard.mark_consistent();
            crate::scripts::bump(&mut guard);
        });
        self.world.ledger.others.changed += self.changed(Lock::Mutex, held, changed);
        self.world.objects.condvar.notify_all();
        let rwlock = self.world.objects.rwlock.clone();
        let read = rwlock.read_timeout(SOME_TIME).map(|guard| {
            let (data, died) = (*guard, guard.owner_died());
            self.expect(died || data[0] == data[1], || format!("half changed data {data:?}"));
        });
        self.changed(Lock::ReadWrite, held, read);
        let written = rwlock.write_timeout(SOME_TIME).map(|mut guard| {
            guard.mark_consistent();
            crate::scripts::bump(&mut guard);
        });
        self.world.ledger.others.written += self.changed(Lock::ReadWrite, held, written);
        let reentrant = self.world.objects.reentrant.clone();
        let nested = reentrant.lock_timeout(SOME_TIME).map(|guard| {
            guard.mark_consistent();
            let (once, twice) = (guard.depth(), reentrant.try_lock().map(|again| again.depth()));
            self.expect(twice == Ok(once + 1), || format!("{once} deep, then {twice:?}"));
            guard.set(guard.get().map(|part| part + 1));
        });
        self.world.ledger.others.nested += self.changed(Lock::Reentrant, held, nested);
    }

    /// Judges an attempt to take a lock; returns how often it succeeded.
    fn changed(&mut self, lock: Lock, held: bool, changed: Result<(), LockError>) -> i64 {
        match changed {
            Ok(()) => return 1,
            Err(LockError::Held) => {
                let ours = self.world.ledger.held.is_some_and(|(held, _)| held == lock);
                let held = held || ours;
                self.expect(held, || format!("nobody holds the {lock:?}, which is held"));
            }
            Err(LockError::Poisoned) => {
                let may = self.script.poisons == Some(lock);
                self.expect(may, || format!("the {lock:?} is poisoned"));
            }
            Err(error) => self.violations.push(format!("the {lock:?}: {error}")),
        }
        0
    }
}
