//! What has happened, for who asks later: events, and a report of each death.

use std::collections::{BTreeMap, VecDeque};

use crate::control::protocol::{CrashReport, EventLine};
use crate::core::SlotId;

/// How many events are remembered.
const EVENTS: usize = 1000;
/// How many deaths of each slot.
const CRASHES: usize = 16;

/// What a supervisor remembers.
#[derive(Debug, Default)]
pub(super) struct History {
    events: VecDeque<EventLine>,
    crashes: BTreeMap<SlotId, VecDeque<CrashReport>>,
}

impl History {
    pub(super) fn add(&mut self, event: EventLine) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    pub(super) fn add_crash(&mut self, slot: SlotId, report: CrashReport) {
        let reports = self.crashes.entry(slot).or_default();
        if reports.len() == CRASHES {
            reports.pop_front();
        }
        reports.push_back(report);
    }

    /// The last events, at most so many.
    pub(super) fn last(&self, most: usize) -> impl Iterator<Item = &EventLine> {
        self.events.iter().skip(self.events.len().saturating_sub(most))
    }

    /// The last deaths of a slot, at most so many.
    pub(super) fn crashes(&self, slot: SlotId, most: usize) -> Vec<CrashReport> {
        let reports = self.crashes.get(&slot);
        let last = reports.map(|all| all.iter().skip(all.len().saturating_sub(most)).cloned());
        last.into_iter().flatten().collect()
    }

    /// The slots of which deaths are remembered, also those that are no more.
    pub(super) fn crashed(&self) -> impl Iterator<Item = SlotId> {
        self.crashes.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_keeps_the_latest() {
        let mut history = History::default();
        let slot = SlotId { worker: 1, index: 0 };
        for number in 0..2000u32 {
            let (kind, text) = ("started".into(), number.to_string());
            let (target, pid, incarnation, time_ms) = (None, None, None, 0);
            history.add(EventLine { time_ms, kind, target, pid, incarnation, text });
            history.add_crash(slot, CrashReport { slot: number, ..CrashReport::default() });
        }
        assert_eq!(history.last(usize::MAX).count(), EVENTS);
        assert_eq!(
            history.last(2).map(|event| event.text.clone()).collect::<Vec<_>>(),
            ["1998", "1999"]
        );
        let slots: Vec<u32> = history.crashes(slot, 2).iter().map(|report| report.slot).collect();
        assert_eq!((slots, history.crashes(slot, 99).len()), (vec![1998, 1999], CRASHES));
        assert_eq!(history.crashed().collect::<Vec<_>>(), [slot]);
    }
}
