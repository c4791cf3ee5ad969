//! Restart type × cause → decision, as one table (after OTP's own test of its supervisor).

use super::testing::{Driver, KILLED, first_report};
use super::{Action, Cause, Decision, Event, Exit, Policy, Readiness, Restart};

/// How the first incarnation of the only slot comes to its end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Exits { exit: Exit, dirty: bool },
    CannotStart,
    IsNotReadyInTime,
    IsStopped,
    IsStoppedAndWantedAgain,
    IsStoppedInVain,
}

use Decision::{Done, Failed, Idle, Restart as Again};
use Ending::*;

const TYPES: [Restart; 3] = [Restart::Permanent, Restart::Transient, Restart::Temporary];

const SEGV: Exit = Exit::Signal { signal: 11, core: true };

#[rustfmt::skip]
const GRID: [(Ending, Cause, [Decision; 3]); 11] = [
    // the slot's process …      so the cause is …              permanent, transient, temporary
    (exits_with(0),           Cause::Clean,                   [Again,  Done,   Done]),
    (dirty(0),                Cause::Dirty,                   [Again,  Again,  Done]),
    (exits_with(3),           Cause::Code(3),                 [Again,  Again,  Done]),
    (dies(KILLED),            killed_by(9, false),            [Again,  Again,  Done]),
    (dies(SEGV),              killed_by(11, true),            [Again,  Again,  Done]),
    (exits_with(78),          Cause::Fatal(78),               [Failed, Failed, Failed]),
    (CannotStart,             Cause::ExecError { errno: 13 }, [Again,  Again,  Done]),
    (IsNotReadyInTime,        Cause::StartTimeout,            [Again,  Again,  Done]),
    (IsStopped,               Cause::Requested,               [Idle,   Idle,   Idle]),
    (IsStoppedAndWantedAgain, Cause::Requested,               [Idle,   Idle,   Idle]),
    (IsStoppedInVain,         Cause::Unkillable,              [Failed, Failed, Failed]),
];

#[test]
fn slot_of_each_type_ended_by_each_cause_decides_as_in_the_grid() {
    for (ending, cause, decisions) in GRID {
        for (restart, decision) in TYPES.into_iter().zip(decisions) {
            let ready = Readiness::OnNotice;
            let policy = Policy { restart, ready, ..Policy::default() };
            let actions = provoke(ending, policy);
            let report = first_report(&actions);
            assert_eq!(report.cause, cause, "{restart:?}, {ending:?}");
            assert_eq!(report.decision, decision, "{restart:?}, {ending:?}: {cause}");
            let again = actions.contains(&Action::Spawn { slot: 0, incarnation: 2 });
            let expected = decision == Again || matches!(ending, IsStoppedAndWantedAgain);
            assert_eq!(again, expected, "{restart:?}, {ending:?}: the first restart is immediate");
        }
    }
}

#[test]
fn slot_that_exits_decides_alike_in_every_living_phase() {
    for restart in TYPES {
        for (ending, cause, _) in GRID {
            let Exits { exit, dirty } = ending else {
                continue;
            };
            let mut spawning = Driver::new(1, Policy { restart, ..Policy::default() });
            let _ = spawning.step(Event::Start);
            let mut starting = Driver::new(1, Policy { restart, ..Policy::default() });
            let _ = starting.step(Event::Start);
            starting.started(0);
            let ready = Driver::all_ready(1, Policy { restart, ..Policy::default() });
            let reports = [spawning, starting, ready].map(|mut driver| {
                let report = first_report(&exits(&mut driver, exit, dirty));
                (report.cause, report.decision, report.delay)
            });
            assert!(reports.iter().all(|report| *report == reports[0]), "{restart:?}: {cause}");
        }
    }
}

/// The actions from the report on.
fn provoke(ending: Ending, policy: Policy) -> Vec<Action> {
    let mut driver = Driver::new(1, policy);
    let _ = driver.step(Event::Start);
    let incarnation = 1;
    match ending {
        CannotStart => driver.step(Event::StartFailed { slot: 0, incarnation, errno: 13 }),
        IsNotReadyInTime => {
            driver.started(0);
            driver.wait(Policy::default().start_timeout);
            driver.exited(0, KILLED)
        }
        Exits { exit, dirty } => {
            driver.up(0);
            exits(&mut driver, exit, dirty)
        }
        IsStopped => {
            driver.up(0);
            let _ = driver.step(Event::StopAll);
            driver.exited(0, Exit::Code(78))
        }
        IsStoppedAndWantedAgain => {
            driver.up(0);
            let _ = driver.step(Event::StopAll);
            let _ = driver.step(Event::Start);
            driver.exited(0, KILLED)
        }
        IsStoppedInVain => {
            driver.up(0);
            let _ = driver.step(Event::StopNow);
            driver.wait(Policy::default().kill_grace)
        }
    }
}

fn exits(driver: &mut Driver, exit: Exit, dirty: bool) -> Vec<Action> {
    let (incarnation, progressed) = (1, false);
    driver.step(Event::Exited { slot: 0, incarnation, exit, dirty, progressed })
}

const fn exits_with(code: i32) -> Ending {
    Exits { exit: Exit::Code(code), dirty: false }
}

const fn dirty(code: i32) -> Ending {
    Exits { exit: Exit::Code(code), dirty: true }
}

const fn dies(exit: Exit) -> Ending {
    Exits { exit, dirty: false }
}

const fn killed_by(signal: i32, core: bool) -> Cause {
    Cause::Signal { signal, core }
}
