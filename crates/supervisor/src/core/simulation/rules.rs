//! Who goes before whom, told once more in other words, slot by slot.

use std::collections::BTreeSet;

use super::referee::Scene;
use super::tally::Tally;
use crate::core::slot::Gate;
use crate::core::{Cause, Machine, Order, Phase, Place, Slot, StopStage, Target, Want};

/// Where a slot stands: its group in the plan, and its worker in that.
fn position(machine: &Machine, slot: &Slot) -> (usize, usize) {
    let groups = machine.plan.groups.iter().enumerate();
    let mut found = groups.filter_map(|(group, planned)| {
        let worker = planned.workers.iter().position(|id| *id == slot.id().worker)?;
        Some((group, worker))
    });
    found.next().expect("every slot has its place")
}

/// Those that must be up before a slot is started by an order, and why one of them is not.
fn obstacle<'a>(machine: &'a Machine, slot: &Slot) -> Option<&'a Slot> {
    let (group, worker) = position(machine, slot);
    machine.slots().find(|other| {
        let (its_group, its_worker) = position(machine, other);
        let idle = other.want() == Want::Down && other.phase() == Phase::Idle;
        let up = other.phase().is_up() && other.down_for.is_none();
        let fine = up || other.phase() == Phase::Done || other.retiring;
        if its_group == group {
            its_worker < worker && !fine && !idle
        } else {
            let counts = machine.workers[&other.id().worker].spec.autostart || !idle;
            machine.plan.groups[group].after.contains(&its_group) && !fine && counts
        }
    })
}

/// Those of its group that come up before a slot that its group's strategy has restarted.
fn forerunner<'a>(machine: &'a Machine, slot: &Slot) -> Option<&'a Slot> {
    let (group, worker) = position(machine, slot);
    machine.slots().find(|other| {
        let (its_group, its_worker) = position(machine, other);
        let up = other.phase().is_up() && other.down_for.is_none();
        let comes = !up && !other.retiring && !other.phase().is_settled();
        its_group == group && its_worker < worker && other.want() == Want::Up && comes
    })
}

/// Whether a slot is part of a restart of several of which some are not down.
fn is_held(machine: &Machine, slot: &Slot) -> bool {
    slot.down_for.is_some() || slot.episode.is_some_and(|id| machine.is_open(id))
}

/// Whether a slot was up in this step, before it was stopped to be replaced.
fn is_just_replaced(scene: &Scene, slot: &Slot) -> bool {
    slot.replacement.is_some() && slot.since() == scene.now
}

/// What is spawned after a wait has waited for long enough.
pub(super) fn check_start(scene: &Scene, place: Place, tally: &mut Tally) {
    let after = scene.after.slot(place.slot).expect("it exists");
    let before = scene.before.slot(place.slot);
    let is_heir = after.incarnation() != place.incarnation;
    let (was_down, gate) = before.map_or((true, Gate::Order), |slot| {
        let down = matches!(slot.phase(), Phase::Idle | Phase::Done | Phase::Failed);
        (down && scene.is_operators() || slot.phase() == Phase::Waiting, slot.gate)
    });
    if is_heir || !was_down {
        return; // it takes the place of another, or has waited before
    }
    let episode = before.and_then(|slot| slot.episode);
    let is_open = episode.is_some_and(|id| scene.after.is_open(id));
    assert!(!is_open || scene.is_operators(), "{place:?} restarted while others are not down");
    if gate == Gate::Order || before.is_none_or(|slot| slot.phase() != Phase::Waiting) {
        let obstacle = obstacle(scene.after, after).filter(|other| !is_just_replaced(scene, other));
        assert!(obstacle.is_none(), "{place:?} started before {obstacle:?}");
        tally.count("ordered start");
    } else {
        let forerunner = forerunner(scene.after, after);
        let forerunner = forerunner.filter(|other| !is_just_replaced(scene, other));
        assert!(forerunner.is_none(), "{place:?} restarted before {forerunner:?}");
        tally.count("start after an episode");
    }
}

/// No slot waits for nothing.
pub(super) fn check_waiting(scene: &Scene) {
    for slot in scene.after.slots().filter(|slot| slot.phase() == Phase::Waiting) {
        let waits = is_held(scene.after, slot)
            || match slot.gate {
                Gate::Order => obstacle(scene.after, slot).is_some(),
                Gate::Strategy => forerunner(scene.after, slot).is_some(),
            };
        assert!(waits, "{:?} waits for nothing", slot.id());
    }
    for slot in scene.after.slots().filter(|slot| slot.is_pending()) {
        assert!(dependent(scene.after, slot).is_some(), "{:?} is not told", slot.id());
    }
}

/// One that depends on a slot, is to go down, and is not.
fn dependent<'a>(machine: &'a Machine, slot: &Slot) -> Option<&'a Slot> {
    let (group, worker) = position(machine, slot);
    machine.slots().find(|other| {
        let (its_group, its_worker) = position(machine, other);
        let depends = if its_group == group {
            its_worker > worker
        } else {
            machine.plan.groups[group].dependents.contains(&its_group)
        };
        depends && other.down_for.is_some()
    })
}

/// What goes down in order goes down after those that depend on it.
pub(super) fn check_stop(scene: &Scene, place: Place, tally: &mut Tally) {
    let slot = scene.after.slot(place.slot).expect("it exists");
    let Phase::Stopping { cause, stage, .. } = slot.phase() else { return };
    let in_order = matches!(cause, Cause::Requested | Cause::Sibling)
        && slot.incarnation() == place.incarnation
        && slot.down_for == Some(cause);
    let pressed = matches!(scene.order(), Some(Order::Stop(_) | Order::Kill(_)))
        && stage == StopStage::Killed;
    if in_order && !pressed {
        let dependent = dependent(scene.after, slot);
        assert!(dependent.is_none(), "{place:?} stopped before {dependent:?}");
        tally.count("ordered stop");
    }
}

/// Who is ordered down a second time, or at once, has no grace.
pub(super) fn check_patience(scene: &Scene) {
    let (Some(Order::Stop(target)) | Some(Order::Kill(target))) = scene.order() else { return };
    let is_kill = matches!(scene.order(), Some(Order::Kill(_)));
    for before in scene.before.slots().filter(|_| target == Target::All) {
        let Some(after) = scene.after.slot(before.id()) else { continue };
        if before.phase().is_live() && (is_kill || before.stop_asked) && after.phase().is_live() {
            let killed = matches!(after.phase(), Phase::Stopping { stage, .. } if stage == StopStage::Killed);
            assert!(killed, "{:?} still has a grace", before.id());
        }
    }
}

/// Restarts out of a backoff take free places only.
pub(super) fn check_places(scene: &Scene) {
    let starting = |machine: &Machine| {
        let runs = machine.slots().flat_map(|slot| slot.beside.iter().chain([&slot.main]));
        let starting = runs.filter(|run| run.phase.is_starting()).map(|run| run.place);
        starting.collect::<BTreeSet<Place>>()
    };
    let released = |slot: &&Slot| {
        let before = scene.before.slot(slot.id());
        let waited = before.is_some_and(|it| it.next_start().is_some() && it.episode.is_none());
        slot.phase() == Phase::Spawning && waited
    };
    let (before, after) = (starting(scene.before), starting(scene.after));
    let taken = before.intersection(&after).count() + scene.after.slots().filter(released).count();
    let places = scene.after.tree().starting_max.max(1) as usize;
    assert!(taken <= places, "{taken} start in {places} places");
}
