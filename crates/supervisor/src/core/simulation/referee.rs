//! Judges every step of a simulation: keeps an account of its own, from events and actions alone,
//! of what may happen, and compares it with what did. Who goes before whom is in `rules`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::rules;
use super::tally::Tally;
use super::{Child, Happening};
use crate::core::{
    Action, Activity, Cause, Decision, Event, Intensity, Machine, Notice, OnExhausted, Order,
    Phase, Place, Policy, Report, Restart, SlotId, StopStage, Target, Tree, Want,
};

#[derive(Default)]
pub(super) struct Referee {
    accounts: BTreeMap<SlotId, Account>,
    /// The deaths of all slots of a group that counted and were followed by a restart.
    deaths: BTreeMap<u32, Vec<Duration>>,
    /// Slots that an operator, or the end of their group, wants down.
    unwanted: BTreeSet<SlotId>,
    /// Processes that are up: when each was last seen to live, and how often it was not since.
    lives: BTreeMap<Place, (Duration, u32)>,
    /// When each process was looked at last, under which tree.
    looks: BTreeMap<Place, (Duration, u64)>,
    given_up: BTreeSet<Place>,
    trees: u64,
    /// An order is out whose end was not announced yet.
    pending: bool,
    /// The longest that a process may take to stop, under any policy so far.
    longest: Duration,
    pub(super) tally: Tally,
}

/// What is known of the past of one slot.
#[derive(Clone, Default)]
struct Account {
    /// Deaths in a row without progress, and those within the window.
    streak: u32,
    deaths: Vec<Duration>,
    /// The restart is not due earlier.
    not_before: Duration,
}

/// One step, seen from outside.
pub(super) struct Scene<'a> {
    pub(super) before: &'a Machine,
    pub(super) happening: &'a Happening,
    pub(super) after: &'a Machine,
    pub(super) now: Duration,
}

impl Scene<'_> {
    pub(super) fn order(&self) -> Option<Order> {
        match self.happening {
            Happening::Event(Event::Order(order)) => Some(*order),
            _ => None,
        }
    }

    /// Whether an operator has said anything.
    pub(super) fn is_operators(&self) -> bool {
        self.order().is_some() || matches!(self.happening, Happening::Reconfigure(_))
    }

    /// Whether a process has ended: then others may join its restart, and its delay is theirs.
    fn is_end(&self) -> bool {
        let ends = |event| matches!(event, &Event::Exited { .. } | &Event::StartFailed { .. });
        matches!(self.happening, Happening::Event(event) if ends(event))
    }

    fn policy(&self, slot: SlotId) -> &Policy {
        &self.before.workers[&slot.worker].spec.policy
    }
}

impl Referee {
    pub(super) fn new(tree: &Tree) -> Self {
        let mut referee = Referee::default();
        referee.learn(tree);
        referee
    }

    fn learn(&mut self, tree: &Tree) {
        self.trees += 1;
        for worker in tree.groups.iter().flat_map(|group| &group.workers) {
            let policy = &worker.policy;
            let grace = policy.stop_grace.max(policy.abort_grace) + policy.kill_grace;
            self.longest = self.longest.max(grace);
        }
    }

    /// How long it may take until all slots are down, one worker after the other.
    pub(super) fn longest_stop(&self, machine: &Machine) -> Duration {
        let extension = Duration::from_millis(500);
        (self.longest + extension) * (machine.workers.len() as u32 + 1)
    }

    /// Panics unless `actions`, and what became of the machine, are right.
    pub(super) fn judge(
        &mut self,
        before: &Machine,
        happening: &Happening,
        actions: &[Action],
        after: &Machine,
        children: &BTreeMap<Place, Child>,
        now: Duration,
    ) {
        self.tally.count("event");
        let scene = Scene { before, happening, after, now };
        self.take_note(&scene);
        let mut reports = 0;
        for action in actions {
            match *action {
                Action::Spawn { place } => self.spawn(&scene, place),
                Action::AskStop { place } => rules::check_stop(&scene, place, &mut self.tally),
                Action::Abort { place, .. } => self.abort(&scene, place),
                Action::KillTree { place, .. } => self.kill(&scene, place),
                Action::Sample { place } => self.look(&scene, place),
                Action::Report(report) if report.cause == Cause::Unkillable => {
                    self.give_up(&scene, report);
                }
                Action::Report(report) => {
                    reports += 1;
                    self.report(&scene, report);
                }
                Action::Notice(notice) => self.notice(&scene, notice),
                Action::Removed { slot } => {
                    self.tally.count("removed");
                    assert!(after.slot(slot).is_none() && before.slot(slot).is_some());
                    self.accounts.remove(&slot);
                    self.given_up.retain(|place| place.slot != slot);
                    self.unwanted.remove(&slot);
                }
                Action::Terminate { .. } | Action::AllDone => {}
            }
        }
        assert_eq!(reports, self.expected_reports(&scene), "each end is reported, and once");
        check_children(after, children);
        self.check_slots(&scene);
        rules::check_waiting(&scene);
        rules::check_patience(&scene);
        self.check_rest(actions, &scene);
    }

    /// Takes note of what has happened.
    fn take_note(&mut self, scene: &Scene) {
        match scene.happening {
            Happening::Reconfigure(tree) => {
                self.learn(tree);
                self.tally.count("reconfigure");
                self.pending |= scene.before.started;
                // What is new, or was gone, is judged by its wants from here on.
                self.unwanted.retain(|slot| is_down(scene.after, *slot));
            }
            Happening::Event(Event::Order(order)) => self.take_order(scene, *order),
            Happening::Event(Event::Sampled { place, sample }) => {
                if let Some((life, stale)) = self.lives.get_mut(place) {
                    let before = scene.before.slot(place.slot).map(|slot| slot.watch.beat());
                    let excused = match sample.activity {
                        Activity::Working => false,
                        Activity::Parked => true,
                        Activity::Busy { until } => scene.now < until,
                    };
                    let beats = sample.beat.is_none() || before != Some(sample.beat);
                    if sample.hindered || beats || excused {
                        (*life, *stale) = (scene.now, 0);
                    } else {
                        *stale += 1;
                    }
                }
            }
            _ => {}
        }
    }

    fn take_order(&mut self, scene: &Scene, order: Order) {
        self.pending = true;
        let (target, clears) = match order {
            Order::Start(target) | Order::Restart(target) => (target, true),
            Order::Reset(target) => (target, true),
            Order::Stop(target) | Order::Kill(target) => (target, false),
            Order::Reload(_) => return,
            Order::Scale { .. } => {
                self.unwanted.retain(|slot| is_down(scene.after, *slot));
                return;
            }
        };
        for slot in scene.before.slots() {
            let worker = &scene.before.workers[&slot.id().worker];
            let concerned = match target {
                Target::All => true,
                Target::Group(id) => worker.group == id,
                Target::Worker(id) => slot.id().worker == id,
                Target::Slot(id) => slot.id() == id,
            };
            let skipped = match order {
                Order::Start(Target::All) => !worker.spec.autostart,
                Order::Restart(Target::All) => !worker.spec.autostart && slot.want() == Want::Down,
                _ => false,
            };
            if !concerned {
                continue;
            }
            match order {
                Order::Reset(_) => {}
                _ if !clears => {
                    self.unwanted.insert(slot.id());
                }
                _ if skipped || slot.retiring => continue,
                _ => {
                    self.unwanted.remove(&slot.id());
                }
            }
            if clears {
                self.deaths.remove(&worker.group);
                let is_down = match order {
                    Order::Start(_) => {
                        matches!(slot.phase(), Phase::Idle | Phase::Done | Phase::Failed)
                    }
                    Order::Restart(_) => {
                        !slot.phase().is_live() && slot.phase() != Phase::Unkillable
                    }
                    _ => true,
                };
                if is_down {
                    self.accounts.remove(&slot.id());
                }
            }
        }
    }

    fn spawn(&mut self, scene: &Scene, place: Place) {
        let slot = scene.after.slot(place.slot).expect("what is spawned exists");
        assert_eq!(slot.want(), Want::Up, "I2");
        assert!(!self.unwanted.contains(&place.slot), "I2: {place:?}");
        let policy = &scene.after.workers[&place.slot.worker].spec.policy;
        match scene.before.slot(place.slot) {
            None => assert_eq!(place.incarnation, 1),
            Some(before) => {
                assert_eq!(place.incarnation, before.youngest + 1);
                if before.next_start().is_some() && !scene.is_operators() && !scene.is_end() {
                    let not_before = self.accounts.get(&place.slot).map(|it| it.not_before);
                    assert!(not_before.is_some_and(|at| at <= scene.now), "too early");
                    rules::check_places(scene);
                    self.tally.count("release");
                }
                let by_death = before.restarts() < slot.restarts();
                assert!(slot.restarts() <= before.restarts() + 1);
                if by_death && policy.restart == Restart::Temporary {
                    // Only if it was decided under another policy.
                    assert!(self.trees > 1, "temporary, but restarted");
                }
            }
        }
        rules::check_start(scene, place, &mut self.tally);
        self.tally.count("spawn");
    }

    fn abort(&mut self, scene: &Scene, place: Place) {
        let limit = scene.policy(place.slot).stall.expect("it is to be judged");
        let (life, stale) = self.lives[&place];
        assert!(stale >= 3 && scene.now >= life + limit, "stalled, but seen to live: {place:?}");
        self.tally.count("abort");
    }

    fn kill(&mut self, scene: &Scene, place: Place) {
        let ordered = matches!(scene.order(), Some(Order::Stop(_) | Order::Kill(_)));
        let appears = matches!(scene.happening, Happening::Event(Event::Started { .. }));
        let (phase, _) = run_of(scene.before, place).expect("it was there");
        let patience = match phase {
            Phase::Stopping { deadline, .. } => deadline,
            _ => scene.now, // asked in this very step, with a grace of zero
        };
        assert!(ordered || appears || patience <= scene.now, "killed within its grace");
        self.tally.count("kill");
    }

    fn look(&mut self, scene: &Scene, place: Place) {
        let policy = &scene.after.workers[&place.slot.worker].spec.policy;
        let wears = policy.recycle.tasks.is_some() || policy.recycle.memory.is_some();
        assert!(policy.stall.is_some() || wears, "nobody wants to know");
        let is_up = |machine| run_of(machine, place).is_some_and(|(phase, _)| phase.is_up());
        assert!(is_up(scene.before) || is_up(scene.after), "not up");
        let stall = policy.stall.map_or(Duration::MAX, |limit| limit / 4);
        let interval = if wears { stall.min(Duration::from_secs(1)) } else { stall };
        if let Some((at, tree)) = self.looks.insert(place, (scene.now, self.trees))
            && tree == self.trees
        {
            assert!(scene.now - at >= interval, "looked at too often");
        }
        self.tally.count("look");
    }

    fn notice(&mut self, scene: &Scene, notice: Notice) {
        let what = match notice {
            Notice::Quiet { .. } => "quiet",
            Notice::BeatsAgain { .. } => "beats again",
            Notice::Recycled { .. } => "recycled",
            Notice::Replaced { place } => {
                let slot = scene.after.slot(place.slot).expect("it exists");
                assert!(slot.incarnation() > place.incarnation);
                "replaced"
            }
            Notice::ReplacementFailed { .. } => "replacement failed",
            Notice::Reloaded { .. } => "reloaded",
            Notice::GroupFailed { group } => self.group_ends(scene, group, "group failed"),
            Notice::GroupDone { group } => self.group_ends(scene, group, "group done"),
        };
        self.tally.count(what);
    }

    fn group_ends(&mut self, scene: &Scene, group: u32, what: &'static str) -> &'static str {
        for slot in scene.after.slots() {
            if scene.after.workers[&slot.id().worker].group == group {
                assert_eq!(slot.want(), Want::Down);
                self.unwanted.insert(slot.id());
            }
        }
        what
    }

    fn give_up(&mut self, scene: &Scene, report: Report) {
        assert!(self.given_up.insert(report.place), "given up twice");
        assert_eq!(report.decision, Decision::Failed);
        if let Some((Phase::Stopping { stage: StopStage::Killed, deadline, .. }, _)) =
            run_of(scene.before, report.place)
        {
            assert!(deadline <= scene.now, "given up within its grace");
        }
        self.tally.count("unkillable");
    }

    /// Whether this step is the end of a process that was not reported before.
    fn expected_reports(&mut self, scene: &Scene) -> usize {
        let (place, unborn) = match scene.happening {
            Happening::Event(Event::Exited { place, .. }) => (place, false),
            Happening::Event(Event::StartFailed { place, .. }) => (place, true),
            _ => return 0,
        };
        let ends = run_of(scene.before, *place)
            .is_some_and(|(phase, pid)| phase.is_live() && !(unborn && pid.is_some()));
        if ends {
            self.lives.remove(place);
            self.looks.remove(place);
        }
        usize::from(ends)
    }

    fn report(&mut self, scene: &Scene, report: Report) {
        let slot = scene.before.slot(report.place.slot).expect("it existed");
        let (phase, _) = run_of(scene.before, report.place).expect("it was there");
        match phase {
            Phase::Stopping { cause, .. } => assert_eq!(report.cause, cause, "I4"),
            _ => assert!(!report.cause.is_ours(), "nobody had told it: {report:?}"),
        }
        let is_main = report.place.incarnation == slot.incarnation();
        let has_heir = slot.successor().is_some_and(|(_, phase, _)| phase.is_starting());
        let expected = match () {
            () if !is_main && report.place.incarnation < slot.incarnation() => Decision::Replaced,
            () if !is_main && (slot.want() == Want::Down || slot.down_for.is_some()) => {
                Decision::Idle
            }
            () if !is_main => Decision::Kept,
            () if has_heir && slot.down_for.is_none() => Decision::Replaced,
            () => self.expected(scene, report),
        };
        assert_eq!(report.decision, expected, "{report:?}");
        self.tally.count(match (report.decision, report.cause) {
            (Decision::Restart, _) if !report.delay.is_zero() => "backoff",
            (Decision::Restart, Cause::StartTimeout) => "restart after a start timeout",
            (Decision::Restart, Cause::Stalled) => "restart after a stall",
            (Decision::Restart, Cause::Sibling) => "restart with a sibling",
            (Decision::Restart, _) => "immediate restart",
            (Decision::Idle, _) => "idle",
            (Decision::Done, _) => "done",
            (Decision::Failed, _) => "failed",
            (Decision::Exhausted, _) => "exhausted",
            (Decision::Replaced, _) => "left",
            (Decision::Kept, _) => "kept",
        });
    }

    /// The decision by the rules, told once more in other words. Keeps the account.
    fn expected(&mut self, scene: &Scene, report: Report) -> Decision {
        let (id, cause) = (report.place.slot, report.cause);
        let slot = scene.before.slot(id).expect("it existed");
        let policy = scene.policy(id);
        if report.decision != Decision::Restart && report.decision != Decision::Exhausted {
            assert_eq!(report.delay, Duration::ZERO);
        }
        let with_sibling = slot.down_for == Some(Cause::Sibling);
        if slot.want() == Want::Down {
            return Decision::Idle;
        }
        if with_sibling && policy.restart == Restart::Temporary {
            return Decision::Done;
        }
        if cause.is_ours() || slot.down_for.is_some() && !with_sibling {
            assert_eq!(report.delay, Duration::ZERO);
            return Decision::Restart;
        }
        match (policy.restart, cause) {
            (_, Cause::Fatal(_)) => return Decision::Failed,
            (Restart::Temporary, _) => return Decision::Done,
            (Restart::Transient, Cause::Clean) => return Decision::Done,
            _ => {}
        }
        let group = scene.before.workers[&id.worker].group;
        let episode = scene.before.groups[&group].episode;
        if with_sibling || episode.is_some_and(|id| scene.before.is_open(id)) {
            assert_eq!(report.delay, Duration::ZERO, "deaths in an episode count once");
            return Decision::Restart;
        }
        let account = self.accounts.entry(id).or_default();
        if matches!(scene.happening, Happening::Event(Event::Exited { evidence, .. })
            if evidence.progressed)
        {
            account.streak = 0;
            assert_eq!(report.delay, Duration::ZERO);
            return Decision::Restart;
        }
        let spec = &scene.before.groups[&group].spec;
        let slots = scene.before.groups[&group].workers.iter();
        let count = slots.map(|id| scene.before.workers[id].count as usize).sum();
        let of_group = spec.intensity.unwrap_or_else(|| Intensity::of_group(count));
        let all = self.deaths.entry(group).or_default();
        if is_spent(&mut account.deaths, policy.intensity, scene.now)
            || is_spent(all, of_group, scene.now)
        {
            if spec.on_exhausted == OnExhausted::SlowRetry {
                let longest = policy.backoff.max;
                assert!(longest / 2 <= report.delay && report.delay <= longest, "{report:?}");
                account.not_before = scene.now + report.delay;
            }
            return Decision::Exhausted;
        }
        account.deaths.push(scene.now);
        all.push(scene.now);
        let steady = scene.now.saturating_sub(slot.since()) >= policy.backoff.reset_after;
        if slot.phase().is_up() && steady {
            account.streak = 0;
        }
        let longest = match account.streak {
            0 => Duration::ZERO,
            k => (policy.backoff.first * (1 << (k - 1).min(20))).min(policy.backoff.max),
        };
        assert!(
            longest / 2 <= report.delay && report.delay <= longest,
            "{report:?} {} {slot:?} {longest:?}",
            account.streak
        );
        account.streak += 1;
        account.not_before = scene.now + report.delay;
        Decision::Restart
    }

    fn check_slots(&mut self, scene: &Scene) {
        for slot in scene.after.slots() {
            let before = scene.before.slot(slot.id());
            let phase = slot.phase();
            if slot.want() == Want::Down {
                let unwanted = phase.is_settled() || slot.down_for.is_some();
                assert!(unwanted, "I2: unwanted, but {phase:?}");
            }
            let was_settled = before
                .is_some_and(|slot| slot.phase().is_settled() && slot.phase() != Phase::Unkillable);
            let exits = matches!(scene.happening, Happening::Event(Event::Exited { .. }));
            if was_settled && !scene.is_operators() && !exits {
                let same = before.map(|slot| slot.phase());
                assert_eq!(same, Some(phase), "only an operator ends a rest");
            }
            if let Some(until) = before.and_then(|slot| slot.next_start())
                && phase == Phase::Waiting
            {
                let may = scene.is_end() || scene.is_operators();
                assert!(until <= scene.now || may, "too early");
            }
            if before.is_some_and(|slot| slot.phase() == Phase::Failed) && !scene.is_operators() {
                assert_eq!(phase, Phase::Failed, "no way out of a failure");
            }
            if phase.is_up()
                && !before
                    .is_some_and(|it| it.phase().is_up() && it.incarnation() == slot.incarnation())
            {
                let place = Place { slot: slot.id(), incarnation: slot.incarnation() };
                self.lives.insert(place, (scene.now, 0));
            }
        }
        for id in scene.after.workers.keys() {
            let replacing = scene.after.range(*id);
            let replacing = replacing.filter(|at| scene.after.slots[*at].replacement.is_some());
            assert!(replacing.count() <= 1, "one at a time");
        }
    }

    /// I5, and what is said when all is done.
    fn check_rest(&mut self, actions: &[Action], scene: &Scene) {
        let deadline = scene.after.next_deadline();
        assert!(deadline.is_none_or(|it| it > scene.now), "I5: {deadline:?} at {:?}", scene.now);
        let rests = scene.after.slots().all(|slot| slot.is_down() && slot.next_start().is_none());
        if rests {
            assert_eq!(deadline, None, "I5");
        }
        let ends = rests && self.pending;
        let said = actions.iter().filter(|action| **action == Action::AllDone).count();
        assert_eq!(said, usize::from(ends), "said when all is done, and once");
        if ends {
            assert_eq!(actions.last(), Some(&Action::AllDone), "the last word");
            self.pending = false;
            self.tally.count("all done");
        }
    }
}

/// I1: the processes that live are those that the machine knows, and no slot has more than two;
/// two only while one of them replaces the other.
fn check_children(machine: &Machine, children: &BTreeMap<Place, Child>) {
    let mut known = 0;
    for slot in machine.slots() {
        let beside = slot.successor().or(slot.leaving());
        assert_eq!(beside.is_some(), slot.beside.is_some());
        let main = (slot.incarnation(), slot.phase(), slot.pid());
        for (incarnation, phase, pid) in beside.into_iter().chain([main]) {
            let place = Place { slot: slot.id(), incarnation };
            let child = children.get(&place);
            let is_there = phase.is_live() || phase == Phase::Unkillable;
            assert_eq!(child.is_some(), is_there, "I1: {place:?} is {phase:?}");
            assert_eq!(pid, child.and_then(|child| child.pid), "{place:?}");
            known += usize::from(is_there);
            if let (Phase::Stopping { stage, .. }, Some(child)) = (phase, child)
                && child.pid.is_some()
            {
                let told = if stage == StopStage::Killed { child.killed } else { child.terminated };
                assert!(told, "told to end, but not signalled");
            }
        }
        if let Some((_, phase, _)) = slot.successor() {
            let doomed = !phase.is_starting();
            assert!(doomed || slot.replacement.is_some(), "I1: two without a replacement");
        }
        if let Some((_, phase, _)) = slot.leaving() {
            assert!(matches!(phase, Phase::Stopping { .. } | Phase::Unkillable), "I1: {phase:?}");
        }
    }
    assert_eq!(known, children.len(), "I1: a process without a slot");
}

fn run_of(machine: &Machine, place: Place) -> Option<(Phase, Option<u32>)> {
    let slot = machine.slot(place.slot)?;
    let main = (slot.incarnation(), slot.phase(), slot.pid());
    let mut runs = slot.successor().into_iter().chain(slot.leaving()).chain([main]);
    let (_, phase, pid) = runs.find(|run| run.0 == place.incarnation)?;
    Some((phase, pid))
}

fn is_down(machine: &Machine, slot: SlotId) -> bool {
    machine.slot(slot).is_some_and(|slot| slot.want() == Want::Down)
}

/// What is out of a window is forgotten, should the next window be longer.
fn is_spent(deaths: &mut Vec<Duration>, intensity: Intensity, now: Duration) -> bool {
    deaths.retain(|death| now - *death < intensity.window);
    deaths.len() >= intensity.deaths as usize
}
