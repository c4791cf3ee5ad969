//! Restart type × cause × strategy × position → who is restarted, as tables (after OTP's own test
//! of its supervisor).

use super::testing::{
    Driver, KILL, KILLED, START, STOP, asked, first_report, group, spawned, tree,
};
use super::{
    Cause, Decision, Event, Evidence, Exit, Phase, Place, Policy, Readiness, Restart, SlotId,
    Strategy, Tree,
};

/// How a process comes to its end.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Exits { exit: Exit, evidence: Evidence },
    CannotStart,
    IsNotReadyInTime,
    IsStopped,
    IsStoppedAndWantedAgain,
    IsStoppedInVain,
}

use Decision::{Done, Failed, Idle, Restart as Again};
use Ending::*;

const TYPES: [Restart; 3] = [Restart::Permanent, Restart::Transient, Restart::Temporary];
const STRATEGIES: [Strategy; 3] = [Strategy::OneForOne, Strategy::OneForAll, Strategy::RestForOne];

const SEGV: Exit = Exit::Signal { signal: 11, core: true };
const NOTHING: Evidence = Evidence { dirty: false, progressed: false, out_of_memory: false };
const DIRTY: Evidence = Evidence { dirty: true, ..NOTHING };
const STARVED: Evidence = Evidence { out_of_memory: true, ..NOTHING };

#[rustfmt::skip]
const GRID: [(Ending, Cause, [Decision; 3]); 12] = [
    // the process …                     so the cause is …              permanent, transient, temporary
    (exits(Exit::Code(0), NOTHING),  Cause::Clean,                   [Again,  Done,   Done]),
    (exits(Exit::Code(0), DIRTY),    Cause::Dirty,                   [Again,  Again,  Done]),
    (exits(Exit::Code(3), NOTHING),  Cause::Code(3),                 [Again,  Again,  Done]),
    (exits(KILLED, NOTHING),         killed_by(9, false),            [Again,  Again,  Done]),
    (exits(SEGV, NOTHING),           killed_by(11, true),            [Again,  Again,  Done]),
    (exits(KILLED, STARVED),         Cause::OutOfMemory,             [Again,  Again,  Done]),
    (exits(Exit::Code(78), NOTHING), Cause::Fatal(78),               [Failed, Failed, Failed]),
    (CannotStart,                    Cause::ExecError { errno: 13 }, [Again,  Again,  Done]),
    (IsNotReadyInTime,               Cause::StartTimeout,            [Again,  Again,  Done]),
    (IsStopped,                      Cause::Requested,               [Idle,   Idle,   Idle]),
    (IsStoppedAndWantedAgain,        Cause::Requested,               [Again,  Again,  Again]),
    (IsStoppedInVain,                Cause::Unkillable,              [Failed, Failed, Failed]),
];

/// Two workers of two slots each, of one restart type.
fn square(restart: Restart, strategy: Strategy) -> Tree {
    let mut group = group(&[2, 2]);
    group.strategy = strategy;
    for worker in &mut group.workers {
        worker.policy = Policy { restart, ready: Readiness::OnNotice, ..Policy::default() };
    }
    tree([group])
}

fn all_slots() -> impl Iterator<Item = SlotId> {
    (0..2).flat_map(|worker| (0..2).map(move |index| SlotId { worker, index }))
}

#[test]
fn slot_of_each_type_ended_by_each_cause_decides_as_in_the_grid() {
    for strategy in STRATEGIES {
        for position in all_slots() {
            for (ending, cause, decisions) in GRID {
                for (restart, decision) in TYPES.into_iter().zip(decisions) {
                    let (report, _) = provoke(ending, position, square(restart, strategy));
                    let story = format!("{strategy:?}, {position:?}, {restart:?}, {ending:?}");
                    assert_eq!(report.cause, cause, "{story}");
                    assert_eq!(report.decision, decision, "{story}: {cause}");
                }
            }
        }
    }
}

/// Slots, by worker and index, for each of four positions.
type Others = [&'static [(u32, u32)]; 4];

/// Whom the death of each slot concerns, besides itself.
#[rustfmt::skip]
const CONCERNED: [(Strategy, Others); 3] = [
    // of the slot …          0:0                       0:1               1:0        1:1
    (Strategy::OneForOne,  [&[],                     &[],              &[],       &[]]),
    (Strategy::OneForAll,  [&[(0, 1), (1, 0), (1, 1)], &[(0, 0), (1, 0), (1, 1)],
                            &[(0, 0), (0, 1), (1, 1)], &[(0, 0), (0, 1), (1, 0)]]),
    (Strategy::RestForOne, [&[(0, 1), (1, 0), (1, 1)], &[(1, 0), (1, 1)], &[(1, 1)], &[]]),
];

#[test]
fn death_in_each_position_restarts_whom_the_strategy_says() {
    for (strategy, concerned) in CONCERNED {
        for (position, concerned) in all_slots().zip(concerned) {
            for restart in [Restart::Permanent, Restart::Transient] {
                let story = format!("{strategy:?}, {position:?}, {restart:?}");
                let ending = exits(Exit::Code(1), NOTHING);
                let mut driver = Driver::all_ready(square(restart, strategy));
                let mut actions = end(&mut driver, position, ending);
                let mut stopped = Vec::new();
                while let Some(place) = asked(&actions).first().copied() {
                    let round = asked(&actions);
                    assert!(round.iter().all(|it| it.slot.worker == place.slot.worker), "{story}");
                    actions = Vec::new();
                    for place in round {
                        stopped.push((place.slot.worker, place.slot.index));
                        actions.extend(driver.exited(place, KILLED));
                    }
                }
                assert!(stopped.is_sorted_by(|a, b| a > b), "{story}: {stopped:?}");
                stopped.reverse();
                assert_eq!(stopped, concerned, "{story}");
                let _ = driver.bring_up(actions);
                for slot in driver.machine.slots() {
                    let id = (slot.id().worker, slot.id().index);
                    let restarted = slot.id() == position || concerned.contains(&id);
                    assert_eq!(slot.incarnation(), 1 + u64::from(restarted), "{story}");
                    assert_eq!(slot.phase(), Phase::Ready, "{story}");
                }
            }
        }
    }
}

#[test]
fn death_without_a_restart_concerns_nobody() {
    for strategy in STRATEGIES {
        for position in all_slots() {
            let tree = square(Restart::Temporary, strategy);
            let (_, driver) = provoke(exits(Exit::Code(1), NOTHING), position, tree);
            let others = driver.machine.slots().filter(|slot| slot.id() != position);
            assert!(others.into_iter().all(|slot| slot.phase() == Phase::Ready));
        }
    }
}

#[test]
fn slot_that_exits_decides_alike_in_every_living_phase() {
    for restart in TYPES {
        for (ending, cause, _) in GRID {
            let Exits { .. } = ending else { continue };
            let tree = || super::testing::alone(1, Policy { restart, ..Policy::default() });
            let position = SlotId { worker: 0, index: 0 };
            let mut spawning = Driver::new(tree());
            let _ = spawning.step(START);
            let mut starting = Driver::new(tree());
            let _ = starting.step(START);
            let _ = starting.started(starting.at(0, 0));
            let ready = Driver::all_ready(tree());
            let reports = [spawning, starting, ready].map(|mut driver| {
                let report = first_report(&end(&mut driver, position, ending));
                (report.cause, report.decision, report.delay)
            });
            assert!(reports.iter().all(|report| *report == reports[0]), "{restart:?}: {cause}");
        }
    }
}

/// The report of the end of a slot, and the machine.
fn provoke(ending: Ending, slot: SlotId, tree: Tree) -> (super::Report, Driver) {
    let mut driver = Driver::all_ready(tree);
    let actions = match ending {
        CannotStart | IsNotReadyInTime => {
            let order = super::Order::Restart(super::Target::Slot(slot));
            let _ = driver.step(Event::Order(order));
            let old = driver.at(slot.worker, slot.index);
            let place = spawned(&driver.exited(old, KILLED))[0];
            if let CannotStart = ending {
                driver.step(Event::StartFailed { place, errno: 13 })
            } else {
                let _ = driver.started(place);
                driver.wait(Policy::default().start_timeout);
                driver.exited(place, KILLED)
            }
        }
        _ => end(&mut driver, slot, ending),
    };
    (first_report(&actions), driver)
}

/// The actions from the report of the end on.
fn end(driver: &mut Driver, slot: SlotId, ending: Ending) -> Vec<super::Action> {
    let place: Place = driver.at(slot.worker, slot.index);
    match ending {
        Exits { exit, evidence } => driver.step(Event::Exited { place, exit, evidence }),
        IsStopped => {
            let _ = driver.step(STOP);
            let _ = driver.step(STOP);
            driver.exited(place, Exit::Code(78))
        }
        IsStoppedAndWantedAgain => {
            let _ = driver.step(KILL);
            let _ = driver.step(START);
            driver.exited(place, KILLED)
        }
        _ => {
            let _ = driver.step(KILL);
            driver.wait(Policy::default().kill_grace)
        }
    }
}

const fn exits(exit: Exit, evidence: Evidence) -> Ending {
    Exits { exit, evidence }
}

const fn killed_by(signal: i32, core: bool) -> Cause {
    Cause::Signal { signal, core }
}
