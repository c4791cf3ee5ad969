//! The machine: a policy, the group of slots it rules, and one function that moves time on.

use std::time::Duration;

use super::group::Group;
use super::{Action, Event, Policy, Slot};

/// A supervisor without hands: it decides what the event loop around it carries out.
///
/// See the [module documentation](super) for its states and what never happens.
#[derive(Clone, Debug)]
pub struct Machine {
    policy: Policy,
    group: Group,
}

impl Machine {
    /// A machine whose `slots` are all down. The same seed and events give the same actions.
    pub fn new(slots: usize, policy: Policy, seed: u64) -> Self {
        let group = Group::new(slots, &policy, seed);
        Machine { policy, group }
    }

    /// Takes note of an event and of the time, and says what to do now, in order.
    ///
    /// `now` is the time since any fixed moment, on a clock that never goes back.
    #[must_use]
    pub fn step(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut step = Step { policy: &self.policy, now, actions: Vec::new() };
        self.group.handle(event, &mut step);
        self.group.expire(&mut step);
        self.group.release(&mut step);
        self.group.announce(&mut step);
        step.actions
    }

    /// When to call [`Machine::step`] with [`Event::Tick`] unless another event comes first;
    /// `None` if only an event can change anything. Always later than the last step.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.group.next_deadline(&self.policy)
    }

    /// What is known of each slot, by index.
    pub fn slots(&self) -> impl ExactSizeIterator<Item = &Slot> {
        self.group.slots().iter()
    }

    /// The policy given at the beginning.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// One step under way: what it may consult, and what it has decided so far.
pub(super) struct Step<'a> {
    pub(super) policy: &'a Policy,
    pub(super) now: Duration,
    actions: Vec<Action>,
}

impl Step<'_> {
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// The moment after `wait`; the last of all moments never comes.
    pub(super) fn after(&self, wait: Duration) -> Duration {
        self.now.saturating_add(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Driver;
    use super::super::{Exit, Phase};
    use super::*;

    #[test]
    fn machine_at_rest_has_no_deadline() {
        let machine = Machine::new(2, Policy::default(), 0);
        assert_eq!(machine.next_deadline(), None);
        assert_eq!(machine.slots().len(), 2);
        let driver = Driver::all_ready(2, Policy::default());
        assert_eq!(driver.machine.next_deadline(), None, "all is well: nothing to wake for");
    }

    #[test]
    fn event_of_an_old_incarnation_is_ignored() {
        let exit = Exit::Code(1);
        let (dirty, progressed) = (false, false);
        let mut driver = Driver::all_ready(1, Policy::default());
        driver.exited(0, exit);
        driver.up(0);
        for incarnation in [0, 1, 3, u64::MAX] {
            for event in [
                Event::Started { slot: 0, incarnation, pid: 1 },
                Event::StartFailed { slot: 0, incarnation, errno: 2 },
                Event::Ready { slot: 0, incarnation },
                Event::Exited { slot: 0, incarnation, exit, dirty, progressed },
            ] {
                assert_eq!(driver.step(event), [], "{event:?}");
                assert_eq!(driver.phase(0), Phase::Ready, "{event:?}");
            }
        }
    }

    #[test]
    fn event_of_a_slot_that_does_not_exist_is_ignored() {
        let mut driver = Driver::all_ready(1, Policy::default());
        let exit = Exit::Code(1);
        let (slot, incarnation, dirty, progressed) = (1, 1, false, false);
        assert_eq!(driver.step(Event::Ready { slot: usize::MAX, incarnation }), []);
        assert_eq!(driver.step(Event::Exited { slot, incarnation, exit, dirty, progressed }), []);
    }

    #[test]
    fn time_gone_back_does_no_harm() {
        let mut driver = Driver::all_ready(1, Policy::default());
        driver.now = Duration::ZERO;
        driver.exited(0, Exit::Code(1));
        assert_eq!(driver.phase(0), Phase::Spawning);
    }
}
