//! Which signals a thread receives.

use nix::sys::signal::{SigSet, SigmaskHow};

/// Runs `work` with all signals blocked in this thread; a thread that it starts inherits that.
pub fn blocked<R>(work: impl FnOnce() -> R) -> R {
    struct Restore(SigSet);
    impl Drop for Restore {
        fn drop(&mut self) {
            // It cannot fail for a mask that the kernel gave us.
            let _ = self.0.thread_set_mask();
        }
    }
    let _restore = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK).ok().map(Restore);
    work()
}

/// Lets all signals come to this thread again, in a program that was [executed](crate::process::execute)
/// with them blocked.
pub fn unblock() {
    // It cannot fail for a mask of the system's own signals.
    let _ = SigSet::empty().thread_set_mask();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocked_restores_the_mask() {
        let before = SigSet::thread_get_mask().unwrap();
        blocked(|| assert!(SigSet::thread_get_mask().unwrap().contains(nix::sys::signal::SIGTERM)));
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
    }
}
