//! Judges every step of a simulation: keeps an account of its own, from events and actions alone,
//! of what may happen, and compares it with what did.

use std::time::Duration;

use super::tally::Tally;
use crate::core::{
    Action, Cause, Decision, Event, Intensity, Machine, OnExhausted, Phase, Policy, Report,
    Restart, Slot, Want,
};

pub(super) struct Referee {
    policy: Policy,
    group_intensity: Intensity,
    accounts: Vec<Account>,
    /// The deaths of all slots that counted and were followed by a restart.
    deaths: Vec<Duration>,
    /// Since the last start an operator has asked for a stop.
    stop_asked: bool,
    /// An order is out whose end was not announced yet.
    pending: bool,
    pub(super) tally: Tally,
}

/// What is known of one slot.
#[derive(Clone, Default)]
struct Account {
    /// The incarnation that was spawned and whose end was not told.
    alive: Option<u64>,
    started: bool,
    given_up: bool,
    ready_since: Option<Duration>,
    asked_at: Option<Duration>,
    /// Since when nothing but KILL is for it, whether there was a pid to send it to or not.
    condemned_at: Option<Duration>,
    terminated: bool,
    killed: bool,
    /// Deaths in a row without progress, and those within the window.
    streak: u32,
    deaths: Vec<Duration>,
    /// The restart is not due earlier.
    not_before: Duration,
}

/// One step, seen from outside.
struct Scene<'a> {
    before: &'a [Slot],
    event: Event,
    now: Duration,
    /// The slot whose process has just ended; none once that was reported.
    ended: Option<usize>,
    progressed: bool,
    /// The operator has lost patience.
    no_grace: bool,
}

impl Referee {
    pub(super) fn new(slots: usize, policy: Policy) -> Self {
        Referee {
            group_intensity: policy.group_intensity.unwrap_or_else(|| Intensity::of_group(slots)),
            policy,
            accounts: vec![Account::default(); slots],
            deaths: Vec::new(),
            stop_asked: false,
            pending: false,
            tally: Tally::default(),
        }
    }

    /// Panics unless `actions`, and what became of the `machine`, are right.
    pub(super) fn judge(
        &mut self,
        before: &[Slot],
        event: Event,
        actions: &[Action],
        machine: &Machine,
        now: Duration,
    ) {
        self.tally.count("event");
        let mut scene = self.set(before, event, now);
        for action in actions {
            match *action {
                Action::Spawn { slot, incarnation } => self.spawn(&scene, slot, incarnation),
                Action::AskStop { slot } => self.ask(&scene, slot),
                Action::Terminate { slot, .. } => self.terminate(slot),
                Action::KillTree { slot, .. } => self.kill(&scene, slot),
                Action::Report(report) => self.report(&mut scene, report),
                Action::GroupFailed | Action::AllDone => {}
            }
        }
        assert_eq!(scene.ended, None, "an end that was not reported");
        self.check_slots(&scene, machine);
        self.check_group(actions, machine);
        check_deadline(machine, now);
    }

    /// Takes note of what the event says, if it is about a process that exists.
    fn set<'a>(&mut self, before: &'a [Slot], event: Event, now: Duration) -> Scene<'a> {
        let mut scene =
            Scene { before, event, now, ended: None, progressed: false, no_grace: false };
        match event {
            Event::Start => {
                self.pending = true;
                self.stop_asked = false;
                self.deaths.clear();
                for (account, slot) in self.accounts.iter_mut().zip(before) {
                    if slot.phase().is_settled() {
                        account.forget();
                    }
                }
            }
            Event::StopAll | Event::StopNow => {
                self.pending = true;
                scene.no_grace = self.stop_asked || event == Event::StopNow;
                self.stop_asked = true;
                for account in self.accounts.iter_mut().filter(|_| scene.no_grace) {
                    if let (Some(_), Some(asked_at)) = (account.alive, account.asked_at) {
                        let silently = asked_at + self.policy.stop_grace;
                        account.condemned_at.get_or_insert(now.min(silently));
                    }
                }
            }
            Event::Started { slot, incarnation, .. } => {
                if let Some(account) = self.living(slot, incarnation) {
                    account.started = true;
                }
            }
            Event::StartFailed { slot, incarnation, .. } => {
                let account = self.living(slot, incarnation).filter(|account| !account.started);
                scene.ended = account.and_then(Account::bury).map(|()| slot);
            }
            Event::Exited { slot, incarnation, progressed, .. } => {
                scene.progressed = progressed;
                let account = self.living(slot, incarnation);
                scene.ended = account.and_then(Account::bury).map(|()| slot);
            }
            Event::Ready { .. } | Event::Tick => {}
        }
        scene
    }

    fn living(&mut self, slot: usize, incarnation: u64) -> Option<&mut Account> {
        self.accounts.get_mut(slot).filter(|account| account.alive == Some(incarnation))
    }

    fn spawn(&mut self, scene: &Scene, slot: usize, incarnation: u64) {
        let account = &mut self.accounts[slot];
        let before = &scene.before[slot];
        assert_eq!(account.alive, None, "I1");
        assert_eq!(incarnation, before.incarnation() + 1);
        assert!(scene.now >= account.not_before, "spawned before its backoff was over");
        if before.phase().is_settled() {
            assert_eq!(scene.event, Event::Start, "I2: {:?} is left by operators", before.phase());
        }
        account.alive = Some(incarnation);
        account.started = false;
        account.asked_at = None;
        account.condemned_at = None;
        account.terminated = false;
        account.killed = false;
        self.tally.count("spawn");
    }

    fn ask(&mut self, scene: &Scene, slot: usize) {
        let account = &mut self.accounts[slot];
        assert!(account.alive.is_some() && account.asked_at.is_none());
        account.asked_at = Some(scene.now);
        account.condemned_at = scene.no_grace.then_some(scene.now);
    }

    fn terminate(&mut self, slot: usize) {
        let account = &mut self.accounts[slot];
        assert!(account.asked_at.is_some() && !account.terminated && !account.killed);
        account.terminated = true;
    }

    fn kill(&mut self, scene: &Scene, slot: usize) {
        let account = &mut self.accounts[slot];
        assert!(!account.killed, "killed twice");
        account.killed = true;
        let asked_at = account.asked_at.expect("asked before it is killed");
        let due_at = asked_at.saturating_add(self.policy.stop_grace);
        assert!(scene.now >= due_at || account.condemned_at.is_some(), "killed within its grace");
        // A process that appears now may have been condemned, silently, since its grace was over.
        let appears = matches!(scene.event, Event::Started { .. });
        account.condemned_at.get_or_insert(if appears { due_at } else { scene.now });
    }

    fn report(&mut self, scene: &mut Scene, report: Report) {
        if report.cause == Cause::Unkillable {
            return self.given_up(scene, report);
        }
        let slot = report.slot;
        assert_eq!(scene.ended.take(), Some(slot), "a report without an end: {report:?}");
        assert_eq!(report.incarnation, scene.before[slot].incarnation());
        let ours = matches!(report.cause, Cause::Requested | Cause::StartTimeout);
        assert_eq!(ours, self.accounts[slot].asked_at.is_some(), "I4: {report:?}");
        if let Phase::Stopping { cause, .. } = scene.before[slot].phase() {
            assert_eq!(report.cause, cause, "I4");
        }
        let expected = self.expected(scene, report);
        assert_eq!(report.decision, expected, "{report:?}");
        if expected == Decision::Restart {
            self.restart(scene, report);
        } else {
            assert_eq!(report.delay, Duration::ZERO);
            self.accounts[slot].forget();
        }
        self.tally.count(match (report.decision, report.cause) {
            (Decision::Restart, _) if !report.delay.is_zero() => "backoff",
            (Decision::Restart, Cause::StartTimeout) => "restart after a start timeout",
            (Decision::Restart, _) => "immediate restart",
            (Decision::Idle, _) => "idle",
            (Decision::Done, _) => "done",
            (Decision::Failed, _) => "failed",
            (Decision::Exhausted, _) => "exhausted",
        });
    }

    /// The decision by the rules, told once more in other words.
    fn expected(&self, scene: &Scene, report: Report) -> Decision {
        let Report { slot, cause, .. } = report;
        if scene.before[slot].want() == Want::Down || cause == Cause::Requested {
            return Decision::Idle;
        }
        if let Cause::Fatal(_) = cause {
            return Decision::Failed;
        }
        match self.policy.restart {
            Restart::Temporary => return Decision::Done,
            Restart::Transient if cause == Cause::Clean => return Decision::Done,
            Restart::Transient | Restart::Permanent => {}
        }
        let own = is_spent(&self.accounts[slot].deaths, self.policy.intensity, scene.now);
        let group = is_spent(&self.deaths, self.group_intensity, scene.now);
        if !scene.progressed && (own || group) { Decision::Exhausted } else { Decision::Restart }
    }

    fn restart(&mut self, scene: &Scene, report: Report) {
        let account = &mut self.accounts[report.slot];
        let backoff = self.policy.backoff;
        if scene.progressed {
            account.streak = 0;
            assert_eq!(report.delay, Duration::ZERO);
        } else {
            let steady = |since| scene.now - since >= backoff.reset_after;
            if account.ready_since.is_some_and(steady) {
                account.streak = 0;
            }
            let longest = match account.streak {
                0 => Duration::ZERO,
                k => (backoff.first * (1 << (k - 1).min(20))).min(backoff.max),
            };
            assert!(longest / 2 <= report.delay && report.delay <= longest, "{report:?}");
            account.streak += 1;
            account.deaths.push(scene.now);
            self.deaths.push(scene.now);
        }
        account.not_before = scene.now + report.delay;
    }

    fn given_up(&mut self, scene: &Scene, report: Report) {
        let account = &mut self.accounts[report.slot];
        assert_eq!(account.alive, Some(report.incarnation));
        assert_eq!(report.decision, Decision::Failed);
        assert!(!account.given_up, "given up twice");
        account.given_up = true;
        let asked_at = account.asked_at.expect("asked before it is given up");
        let condemned_at = account.condemned_at.unwrap_or(asked_at + self.policy.stop_grace);
        let patience = condemned_at + self.policy.kill_grace;
        assert!(scene.now >= patience, "given up within its grace");
        self.tally.count("unkillable");
    }

    fn check_slots(&mut self, scene: &Scene, machine: &Machine) {
        for ((account, slot), before) in
            self.accounts.iter_mut().zip(machine.slots()).zip(scene.before)
        {
            let phase = slot.phase();
            let is_up = match phase {
                Phase::Spawning
                | Phase::Starting { .. }
                | Phase::Ready
                | Phase::Stopping { .. } => true,
                Phase::Unkillable => account.given_up,
                Phase::Idle | Phase::Backoff { .. } | Phase::Done | Phase::Failed => false,
            };
            assert_eq!(is_up, account.alive.is_some(), "{phase:?}");
            assert_eq!(slot.pid().is_some(), is_up && account.started, "{phase:?}");
            match slot.want() {
                Want::Up => assert_ne!(phase, Phase::Idle),
                Want::Down => {
                    let going_down = matches!(phase, Phase::Stopping { .. });
                    assert!(going_down || phase.is_settled(), "I2: unwanted, but {phase:?}");
                }
            }
            if account.alive.is_some() && account.started {
                let signalled = account.terminated || account.killed;
                assert!(signalled || account.asked_at.is_none(), "asked, but not signalled");
                assert!(account.killed || account.condemned_at.is_none(), "condemned, not killed");
            }
            let restarted = u64::from(slot.incarnation() > before.incarnation());
            assert!(slot.restarts() - before.restarts() <= restarted, "the total never resets");
            let ready_since = account.ready_since.unwrap_or(scene.now);
            account.ready_since = (phase == Phase::Ready).then_some(ready_since);
        }
        self.check_places(scene, machine);
    }

    /// Restarts out of a backoff take free places only, as soon as there are some, in the order
    /// in which they are due.
    fn check_places(&mut self, scene: &Scene, machine: &Machine) {
        let places = self.policy.starting_max.max(1);
        let starting = machine.slots().filter(|slot| slot.phase().is_starting()).count();
        let released = scene.before.iter().zip(machine.slots());
        let released = released.filter(|(_, after)| after.phase() == Phase::Spawning);
        let last = released.filter_map(|(before, _)| before.next_start()).max();
        let overdue = machine.slots().filter_map(Slot::next_start).filter(|at| *at <= scene.now);
        let first = overdue.min();
        assert!(last.is_none() || starting <= places, "{starting} start in {places} places");
        assert!(first.is_none() || starting >= places, "a free place was not taken");
        if let (Some(last), Some(first)) = (last, first) {
            assert!(last <= first, "passed over");
        }
        if first.is_some() {
            self.tally.count("crowded");
        }
    }

    fn check_group(&mut self, actions: &[Action], machine: &Machine) {
        let exhausted = actions.iter().any(|action| {
            matches!(action, Action::Report(Report { decision: Decision::Exhausted, .. }))
        });
        let fails = exhausted && self.policy.on_exhausted == OnExhausted::StopGroup;
        assert_eq!(actions.contains(&Action::GroupFailed), fails);
        if fails {
            assert!(machine.slots().all(|slot| slot.want() == Want::Down));
            self.tally.count("group failure");
        }

        let settled = machine.slots().all(|slot| slot.phase().is_settled());
        let ends = settled && self.pending;
        assert_eq!(actions.contains(&Action::AllDone), ends, "said when all is done, and once");
        if ends {
            assert_eq!(actions.last(), Some(&Action::AllDone), "the last word");
            self.pending = false;
            self.tally.count("all done");
        }
    }
}

/// I5: a loop that sleeps until the deadline neither spins nor wakes for nothing.
fn check_deadline(machine: &Machine, now: Duration) {
    let deadline = machine.next_deadline();
    assert!(deadline.is_none_or(|deadline| deadline > now), "{deadline:?} at {now:?}");
    if machine.slots().all(|slot| slot.phase().is_settled()) {
        assert_eq!(deadline, None);
    }
}

fn is_spent(deaths: &[Duration], intensity: Intensity, now: Duration) -> bool {
    let recent = deaths.iter().filter(|death| now - **death < intensity.window).count();
    assert!(recent <= intensity.deaths as usize, "the budget was exceeded");
    recent == intensity.deaths as usize
}

impl Account {
    /// The process is gone; nothing, if it was given up and its end reported before.
    fn bury(&mut self) -> Option<()> {
        self.alive = None;
        let reported = std::mem::take(&mut self.given_up);
        (!reported).then_some(())
    }

    /// An operator's start comes next, or nothing.
    fn forget(&mut self) {
        self.streak = 0;
        self.deaths.clear();
        self.not_before = Duration::ZERO;
    }
}
