//! Heartbeats, and who falls silent.

use std::time::Duration;

use crate::core::testing::*;
use crate::core::{Action, Activity, Cause, Event, Notice, Phase, Place, Policy, Sample};

const PLACE: Place = Place { slot: crate::core::SlotId { worker: 0, index: 0 }, incarnation: 1 };

fn watched() -> Driver {
    Driver::all_ready(alone(1, Policy { stall: Some(secs(8)), ..Policy::default() }))
}

fn working(beat: u64) -> Sample {
    let activity = Activity::Working;
    Sample { beat: Some(beat), activity, tasks: 0, memory: 0, hindered: false }
}

/// Waits for the next look, which comes so late, and answers it.
fn look(driver: &mut Driver, late: Duration, sample: Sample) -> Vec<Action> {
    driver.now = driver.machine.next_deadline().expect("a look is due") + late;
    assert_eq!(driver.step(Event::Tick), [Action::Sample { place: PLACE }]);
    driver.step(Event::Sampled { place: PLACE, sample })
}

#[test]
fn silence_is_noticed_after_half_of_the_time_and_ended_after_all_of_it() {
    let mut driver = watched();
    assert_eq!(driver.machine.next_deadline(), Some(driver.now + secs(2)));
    assert_eq!(look(&mut driver, Duration::ZERO, working(1)), []);
    assert_eq!(look(&mut driver, Duration::ZERO, working(1)), []);
    let quiet = look(&mut driver, Duration::ZERO, working(1));
    assert_eq!(notices(&quiet), [Notice::Quiet { place: PLACE }]);
    assert_eq!(driver.phase(0, 0), Phase::Stalled);
    assert_eq!(look(&mut driver, Duration::ZERO, working(1)), []);
    let abort = look(&mut driver, Duration::ZERO, working(1));
    assert_eq!(abort, [Action::Abort { place: PLACE, pid: pid(PLACE) }]);
    let kill = Action::KillTree { place: PLACE, pid: pid(PLACE) };
    assert_eq!(driver.wait(secs(5)), [kill], "nobody looks any more");
    assert_eq!(driver.exited_report(PLACE, KILLED).cause, Cause::Stalled);
}

#[test]
fn beat_after_a_silence_is_life() {
    let mut driver = watched();
    for _ in 0..3 {
        look(&mut driver, Duration::ZERO, working(1));
    }
    assert_eq!(driver.phase(0, 0), Phase::Stalled);
    let life = look(&mut driver, Duration::ZERO, working(0));
    assert_eq!(notices(&life), [Notice::BeatsAgain { place: PLACE }]);
    assert_eq!(driver.phase(0, 0), Phase::Ready);
}

#[test]
fn silence_that_is_excused_never_counts() {
    let beat = Some(1);
    let excuses: [fn(Duration) -> Sample; 4] = [
        |_| Sample { activity: Activity::Parked, ..working(1) },
        |now| Sample { activity: Activity::Busy { until: now + secs(9) }, ..working(1) },
        |_| Sample { hindered: true, ..working(1) },
        |_| Sample { beat: None, ..working(1) },
    ];
    for excuse in excuses {
        let mut driver = watched();
        for _ in 0..100 {
            let sample = excuse(driver.now);
            assert_eq!(look(&mut driver, Duration::ZERO, sample), [], "{sample:?}");
        }
        let busy = Sample { beat, activity: Activity::Busy { until: driver.now }, ..working(1) };
        let ends = (0..6).any(|_| causes_abort(&look(&mut driver, Duration::ZERO, busy)));
        assert!(ends, "what is over is no excuse");
    }
}

fn causes_abort(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Abort { .. }))
}

#[test]
fn silence_while_the_machine_was_late_is_no_evidence() {
    let mut driver = watched();
    for _ in 0..100 {
        assert_eq!(look(&mut driver, millis(1001), working(1)), []);
    }
    assert!((0..6).any(|_| causes_abort(&look(&mut driver, millis(1000), working(1)))));
}

#[test]
fn nobody_is_looked_at_who_is_not_judged() {
    let driver = Driver::all_ready(alone(3, Policy::default()));
    assert_eq!(driver.machine.next_deadline(), None);
}
