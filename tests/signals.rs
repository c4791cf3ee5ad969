//! Conditions, events, barriers and what is made once: between processes, some of which are killed.
//!
//! Held against Python's `Condition`, `Event` and `Barrier`. Where these differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | a sleeper killed in `Condition.wait` makes the next `notify` hang | notifying waits for nobody |
//! | a waiter killed in `Event.wait` makes every later `set` hang | setting waits for nobody |
//! | a party killed at a `Barrier` makes the others hang, past their timeouts | the barrier breaks for all at once |
//! | `notify` without the lock is an `AssertionError` | notifying needs no lock |
//! | `wait_for` gives what the predicate gave last | `wait_timeout_while` says whether it came true |
//! | a `Barrier` has an action and a timeout | they are given where it is waited for |
//! | a `Barrier` of no parties can be made | it is refused |

use std::thread;
use std::time::Duration;

use multiproc::{
    Array, Barrier, Broken, Condvar, Counter, Error, Event, LockError, Mutex, OnceCell, Passed,
    Plain, Process, Queue,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use support::{SHORT, SOON, asleep, eventually, guard, kill, kill_when_ready, taking};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

multiproc::init_before_main!();

fn ready() -> Queue<()> {
    Queue::bounded(8).unwrap()
}

// Conditions ------------------------------------------------------------------------------------

/// What sleepers and those who wake them tell each other.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, FromBytes, Immutable, IntoBytes, KnownLayout, Plain,
)]
#[repr(C)]
struct Bedroom {
    asleep: u32,
    /// How many may get up.
    calls: u32,
    up: u32,
}

/// A bedroom and its two doors: for who is called, and for who looks how they are doing. Who is up
/// stays until it is over, because whoever ends wakes the others to look again.
#[derive(Clone, Serialize, Deserialize)]
struct Sleepers {
    bedroom: Mutex<Bedroom>,
    called: Condvar,
    changed: Condvar,
    over: Event,
}

impl Sleepers {
    fn new() -> Sleepers {
        Sleepers {
            bedroom: Mutex::new(Bedroom::default()).unwrap(),
            called: Condvar::new().unwrap(),
            changed: Condvar::new().unwrap(),
            over: Event::new().unwrap(),
        }
    }

    /// Sleeps until it is called and may get up.
    fn sleep(&self) {
        let mut guard = self.bedroom.lock().unwrap();
        guard.asleep += 1;
        self.changed.notify_all();
        guard = self.called.wait_while(guard, |bedroom| bedroom.calls == 0).unwrap();
        guard.asleep -= 1;
        guard.calls -= 1;
        guard.up += 1;
        self.changed.notify_all();
        drop(guard);
        self.over.wait();
    }

    /// Sleeps for a while, and gets up without having been called.
    fn doze(&self) {
        let guard = self.bedroom.lock().unwrap();
        let nobody_calls = |bedroom: &mut Bedroom| bedroom.calls == 0;
        let dozed = || self.called.wait_timeout_while(guard, SHORT, nobody_calls);
        let (_, called) = taking(SHORT, dozed).unwrap();
        assert!(!called);
    }

    /// Sleeps for a while in which nobody calls and nobody ends; whether it was notified.
    fn disturbed(&self) -> bool {
        let guard = self.bedroom.lock().unwrap();
        self.called.wait_timeout(guard, SHORT).unwrap().1
    }

    fn call(&self, calls: u32, notify: impl FnOnce(&Condvar)) {
        self.bedroom.lock().unwrap().calls += calls;
        notify(&self.called);
    }

    fn wait_until(&self, mut it_is_so: impl FnMut(Bedroom) -> bool) {
        let guard = self.bedroom.lock_timeout(SOON).unwrap();
        let waited = self.changed.wait_timeout_while(guard, SOON, |bedroom| !it_is_so(*bedroom));
        let (guard, so) = waited.unwrap();
        assert!(so, "{:?}", *guard);
    }
}

fn sleep(sleepers: Sleepers) {
    sleepers.sleep();
}

/// Has three processes and three threads sleep, while `work` wakes them.
fn with_six_asleep(sleepers: &Sleepers, work: impl FnOnce()) {
    let children = [(); 3].map(|()| Process::spawn(sleep, (sleepers.clone(),)).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| sleepers.sleep());
        }
        sleepers.wait_until(|bedroom| bedroom.asleep == 6);
        work();
        sleepers.wait_until(|bedroom| bedroom.up == 6);
        sleepers.over.set();
        children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
    });
    assert_eq!(*sleepers.bedroom.lock().unwrap(), Bedroom { up: 6, ..Bedroom::default() });
}

#[test]
fn condvar_notify_one_wakes_one_after_the_other_of_threads_and_processes() {
    let _guard = guard();
    let sleepers = Sleepers::new();
    with_six_asleep(&sleepers, || {
        for up in 1..=6 {
            sleepers.call(1, Condvar::notify_one);
            sleepers.wait_until(|bedroom| bedroom.up == up && bedroom.asleep == 6 - up);
        }
    });
}

#[test]
fn condvar_notify_all_wakes_everybody_after_others_have_given_up() {
    let _guard = guard();
    fn doze(sleepers: Sleepers) {
        sleepers.doze();
    }
    let sleepers = Sleepers::new();
    let children = [(); 3].map(|()| Process::spawn(doze, (sleepers.clone(),)).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| sleepers.doze());
        }
    });
    children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
    with_six_asleep(&sleepers, || sleepers.call(6, Condvar::notify_all));
}

#[test]
fn condvar_notify_wakes_as_many_as_it_is_told() {
    let _guard = guard();
    let sleepers = Sleepers::new();
    with_six_asleep(&sleepers, || {
        sleepers.call(2, |called| called.notify(2));
        sleepers.wait_until(|bedroom| bedroom.up == 2);
        sleepers.call(4, |called| called.notify(4));
        sleepers.wait_until(|bedroom| bedroom.up == 6);
    });
    // What was notified when nobody slept is not kept for who comes later.
    sleepers.call(0, |called| called.notify(3));
    assert!(!sleepers.disturbed());
}

#[test]
fn condvar_wait_while_gives_up_despite_notifications() {
    let _guard = guard();
    fn notify(sleepers: Sleepers, notified: Event) {
        (0..3).for_each(|_| sleepers.call(0, Condvar::notify_all));
        notified.set();
    }
    let (sleepers, notified) = (Sleepers::new(), Event::new().unwrap());
    let guard = sleepers.bedroom.lock().unwrap();
    let child = Process::spawn(notify, (sleepers.clone(), notified.clone())).unwrap();
    let waited = taking(SHORT, || {
        sleepers.called.wait_timeout_while(guard, SHORT, |bedroom| bedroom.calls == 0)
    });
    let (guard, came_true) = waited.unwrap();
    assert!(!came_true);
    let refused = sleepers.bedroom.try_lock().map(drop);
    assert_eq!(refused, Err(LockError::Held), "who gave up has the lock");
    drop(guard);
    assert!(notified.wait_timeout(SOON), "the notifications came, before or after");
    child.join_timeout(SOON).unwrap();
}

#[test]
fn condvar_wait_says_whether_it_was_notified() {
    let _guard = guard();
    fn wait(sleepers: Sleepers, waits: Event) -> bool {
        let guard = sleepers.bedroom.lock().unwrap();
        waits.set();
        let (guard, notified) = sleepers.called.wait_timeout(guard, SOON).unwrap();
        notified && guard.calls == 1
    }
    let (sleepers, waits) = (Sleepers::new(), Event::new().unwrap());
    assert!(!taking(SHORT, || sleepers.disturbed()));
    let child = Process::spawn(wait, (sleepers.clone(), waits.clone())).unwrap();
    assert!(waits.wait_timeout(SOON));
    // It has the lock until it waits.
    sleepers.call(1, Condvar::notify_one);
    assert!(child.join_timeout(SOON).unwrap());
}

#[test]
fn condvar_sleepers_killed_do_not_hold_up_who_notifies_with_the_lock_held() {
    let _guard = guard();
    let sleepers = Sleepers::new();
    let children = [(); 3].map(|()| Process::spawn(sleep, (sleepers.clone(),)).unwrap());
    sleepers.wait_until(|bedroom| bedroom.asleep == 3);
    children.iter().for_each(asleep);
    let mut guard = sleepers.bedroom.lock().unwrap();
    assert!(children.iter().all(|child| child.child().kill().unwrap()));
    // Their deaths may or may not be known yet.
    sleepers.called.notify_one();
    sleepers.called.notify_all();
    guard.asleep = 0;
    drop(guard);
    children.iter().for_each(kill);
    with_six_asleep(&sleepers, || sleepers.call(6, Condvar::notify_all));
}

#[test]
fn condvar_notifier_killed_inside_is_told_to_who_waits_and_nobody_is_shut_out() {
    let _guard = guard();
    fn die_inside(sleepers: Sleepers, ready: Queue<()>) {
        let mut guard = sleepers.bedroom.lock().unwrap();
        guard.calls += 1;
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    fn wait(sleepers: Sleepers, looks: Counter) -> bool {
        let guard = sleepers.bedroom.lock().unwrap();
        let look = |bedroom: &mut Bedroom| {
            looks.add(1);
            bedroom.calls < 2
        };
        let mut guard = sleepers.called.wait_while(guard, look).unwrap();
        let told = guard.owner_died();
        guard.mark_consistent();
        told
    }
    let (sleepers, ready, looks) = (Sleepers::new(), ready(), Counter::new().unwrap());
    let start = || Process::spawn(wait, (sleepers.clone(), looks.clone())).unwrap();
    let waiters = [start(), start()];
    eventually("both wait", || looks.get() == 2);
    let kill_inside = || {
        let victim = Process::spawn(die_inside, (sleepers.clone(), ready.clone())).unwrap();
        kill_when_ready(&victim, &ready);
    };
    kill_inside();
    eventually("both look, and wait on", || looks.get() >= 4);
    let guard = sleepers.bedroom.lock_timeout(SOON).unwrap();
    assert!(guard.owner_died(), "the data is still suspect");
    let (mut guard, _) = sleepers.changed.wait_timeout(guard, Duration::ZERO).unwrap();
    assert!(guard.owner_died(), "to wait is not to have repaired");
    assert_eq!(guard.calls, 1);
    guard.mark_consistent();
    drop(guard);
    kill_inside();
    let told = waiters.map(|waiter| waiter.join_timeout(SOON).unwrap());
    assert_eq!(told.into_iter().filter(|told| *told).count(), 1, "the one that came first");
}

// Events ----------------------------------------------------------------------------------------

#[test]
fn event_stays_set_for_every_process_until_it_is_cleared() {
    let _guard = guard();
    fn set(event: Event, go: Queue<()>) {
        while go.recv().is_ok() {
            event.set();
        }
    }
    let (event, go) = (Event::new().unwrap(), ready());
    let child = Process::spawn(set, (event.clone(), go.clone())).unwrap();
    for _ in 0..3 {
        assert!(!event.is_set() && !event.try_wait());
        assert!(!event.wait_timeout(Duration::ZERO));
        assert!(!taking(SHORT, || event.wait_timeout(SHORT)));
        go.send(()).unwrap();
        event.wait();
        assert!(event.is_set() && event.try_wait());
        assert!(event.wait_timeout(Duration::ZERO) && event.wait_timeout(SOON));
        event.set();
        event.wait();
        event.clear();
        event.clear();
    }
    go.close();
    child.join_timeout(SOON).unwrap();
}

/// Has four children sleep over an event, while `work` lets them pass and looks how many have. Who has
/// passed stays until it is over, because whoever ends wakes the others to look again.
fn with_four_waiting(event: &Event, work: impl FnOnce(&Counter)) {
    fn pass(event: Event, ready: Queue<()>, passed: Counter, over: Event) {
        ready.send(()).unwrap();
        event.wait();
        passed.add(1);
        over.wait();
    }
    let (ready, passed, over) = (ready(), Counter::new().unwrap(), Event::new().unwrap());
    let children = [(); 4].map(|()| {
        let arguments = (event.clone(), ready.clone(), passed.clone(), over.clone());
        let child = Process::spawn(pass, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        asleep(&child);
        child
    });
    work(&passed);
    over.set();
    children.iter().for_each(|child| child.join_timeout(SOON).unwrap());
}

#[test]
fn event_set_wakes_every_process_that_waits() {
    let _guard = guard();
    let event = Event::new().unwrap();
    with_four_waiting(&event, |passed| {
        event.set();
        eventually("all have passed", || passed.get() == 4);
    });
}

#[test]
fn event_with_auto_reset_lets_one_process_pass_each_time() {
    let _guard = guard();
    let event = Event::auto_reset().unwrap();
    with_four_waiting(&event, |passed| {
        for one in 1..=4 {
            event.set();
            eventually("one has passed", || passed.get() == one);
            assert!(!event.is_set(), "it has taken the event with it");
        }
    });
}

#[test]
fn event_waiters_killed_do_not_hold_up_who_sets_it() {
    let _guard = guard();
    fn wait(event: Event, ready: Queue<()>) {
        ready.send(()).unwrap();
        event.wait();
    }
    fn set(event: Event) {
        event.set();
    }
    let (event, ready) = (Event::new().unwrap(), ready());
    for _ in 0..5 {
        let start = || {
            let child = Process::spawn(wait, (event.clone(), ready.clone())).unwrap();
            ready.recv_timeout(SOON).unwrap();
            asleep(&child);
            child
        };
        let (victim, survivor) = (start(), start());
        kill(&victim);
        Process::spawn(set, (event.clone(),)).unwrap().join_timeout(SOON).unwrap();
        survivor.join_timeout(SOON).unwrap();
        event.set();
        event.clear();
    }
}

// Barriers --------------------------------------------------------------------------------------

const PARTIES: u32 = 5;

/// Has four children and this thread do the same with a barrier of five, and with room for notes.
/// Returns both, and what each got, this thread last.
fn together<F, R>(work: F) -> (Barrier, Array<u32>, Vec<R>)
where
    F: Fn(Barrier, Array<u32>, usize) -> R + Copy + Send + 'static,
    R: Serialize + DeserializeOwned,
{
    let (barrier, notes) = (Barrier::new(PARTIES).unwrap(), Array::new(100).unwrap());
    let last = PARTIES as usize - 1;
    let start = |me| Process::spawn(work, (barrier.clone(), notes.clone(), me)).unwrap();
    let children: Vec<_> = (0..last).map(start).collect();
    let mine = work(barrier.clone(), notes.clone(), last);
    let children = children.iter().map(|child| child.join_timeout(SOON).unwrap());
    let all = children.collect::<Vec<R>>().into_iter().chain([mine]).collect();
    (barrier, notes, all)
}

/// What a party has got: its place and whether it leads, or that the barrier is broken.
type Outcome = Option<(usize, bool)>;

fn outcome(passed: Result<Passed, Broken>) -> Outcome {
    passed.ok().map(|passed| (passed.index(), passed.is_leader()))
}

#[test]
fn barrier_keeps_processes_in_step() {
    let _guard = guard();
    let (_, notes, _) = together(|barrier, notes, _| {
        for step in 0..10 {
            notes.fetch_add(step, 1);
            barrier.wait().unwrap();
            assert_eq!(notes.get(step), PARTIES, "everybody has taken this step");
            assert_eq!(notes.get(step + 1), 0, "and nobody the next one");
            barrier.wait_timeout(SOON).unwrap();
        }
    });
    assert_eq!(notes.iter().sum::<u32>(), 10 * PARTIES);
}

#[test]
fn barrier_passed_a_thousand_times_never_mixes_two_rounds() {
    let _guard = guard();
    together(|barrier, rounds, me| {
        for round in 1..=1000 {
            rounds.set(me, round);
            barrier.wait_timeout(SOON).unwrap();
            // Who is fast may be about to end the next round, but cannot without us.
            let mut all = rounds.iter().take(PARTIES as usize);
            assert!(all.all(|other| (round..=round + 1).contains(&other)), "{round}");
        }
    });
}

#[test]
fn barrier_gives_each_process_its_own_place_and_one_the_lead() {
    let _guard = guard();
    let (_, _, mut outcomes) = together(|barrier, _, _| outcome(barrier.wait_timeout(SOON)));
    outcomes.sort_unstable();
    let expected: Vec<Outcome> = (0..5).map(|place| Some((place, place == 4))).collect();
    assert_eq!(outcomes, expected);
}

#[test]
fn barrier_action_runs_once_before_anybody_passes() {
    let _guard = guard();
    together(|barrier, notes, _| {
        let count = || {
            notes.fetch_add(0, 1);
        };
        barrier.wait_with(count).unwrap();
        assert_eq!(notes.get(0), 1);
        barrier.wait_timeout_with(SOON, count).unwrap();
        assert_eq!(notes.get(0), 2);
    });
}

#[test]
fn barrier_action_that_panics_breaks_it_for_all() {
    let _guard = guard();
    let (barrier, notes, broken) = together(|barrier, notes, _| {
        let fail = || {
            notes.fetch_add(0, 1);
            panic!("in the action of the barrier");
        };
        let wait = || barrier.wait_timeout_with(SOON, fail);
        let waited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(wait));
        waited.map_or(true, |passed| passed == Err(Broken))
    });
    assert_eq!(broken, [true; PARTIES as usize]);
    assert_eq!(notes.get(0), 1, "only one runs it");
    assert!(barrier.is_broken());
}

#[test]
fn barrier_aborted_fails_everybody_until_it_is_reset() {
    let _guard = guard();
    let (barrier, _, outcomes) = together(|barrier, notes, me| {
        barrier.wait().unwrap();
        if me == 2 {
            barrier.abort();
            return (false, 0);
        }
        let broken = barrier.wait() == Err(Broken) && barrier.is_broken();
        (broken && barrier.wait_timeout(SOON) == Err(Broken), notes.fetch_add(0, 1))
    });
    assert_eq!(outcomes.iter().filter(|(broken, _)| *broken).count(), 4);
    assert!(barrier.is_broken());
    assert_eq!(barrier.waiting(), 0);
    barrier.reset();
    assert!(!barrier.is_broken());
}

#[test]
fn barrier_broken_and_reset_is_as_good_as_new() {
    let _guard = guard();
    let (barrier, _, _) = together(|barrier, notes, me| {
        barrier.wait().unwrap();
        if me == 2 {
            barrier.abort();
        } else {
            assert_eq!(barrier.wait(), Err(Broken));
        }
        // Another way to meet: nobody resets before all have seen it broken, nor comes before that.
        notes.fetch_add(0, 1);
        eventually("all have come", || notes.get(0) == PARTIES);
        if me == 2 {
            barrier.reset();
            notes.set(1, 1);
        }
        eventually("it is reset", || notes.get(1) == 1);
        barrier.wait_timeout(SOON).unwrap();
    });
    assert!(!barrier.is_broken());
}

#[test]
fn barrier_reset_fails_those_who_wait_and_nobody_else() {
    let _guard = guard();
    let (barrier, _, outcomes) = together(|barrier, _, me| {
        barrier.wait().unwrap();
        let first = if me == 2 {
            eventually("the others wait", || barrier.waiting() == PARTIES - 1);
            barrier.reset();
            assert!(!barrier.is_broken());
            Ok(())
        } else {
            barrier.wait_timeout(SOON).map(drop)
        };
        (first == Err(Broken), barrier.wait_timeout(SOON).is_ok())
    });
    assert_eq!(outcomes.iter().filter(|(failed, _)| *failed).count(), 4);
    assert!(outcomes.iter().all(|(_, passed)| *passed));
    assert!(!barrier.is_broken());
}

#[test]
fn barrier_party_that_is_late_breaks_it_for_all() {
    let _guard = guard();
    let (barrier, _, outcomes) = together(|barrier, _, me| {
        barrier.wait().unwrap();
        outcome(match me {
            2 => {
                eventually("somebody has had enough", || barrier.is_broken());
                barrier.wait()
            }
            3 => taking(SHORT, || barrier.wait_timeout(SHORT)),
            _ => barrier.wait(),
        })
    });
    assert_eq!(outcomes, [None; PARTIES as usize]);
    assert!(barrier.is_broken());
}

#[test]
fn barrier_with_more_comers_than_parties_lets_them_pass_in_turn() {
    let _guard = guard();
    const COMERS: u32 = 2_000;
    fn come(barrier: Barrier, come: Array<u32>) -> u32 {
        let mut led = 0;
        while come.fetch_add(0, 1) < COMERS {
            led += u32::from(barrier.wait().unwrap().is_leader());
        }
        led
    }
    let (barrier, comers) = (Barrier::new(2).unwrap(), Array::new(1).unwrap());
    let start = || Process::spawn(come, (barrier.clone(), comers.clone())).unwrap();
    let children = [start(), start(), start(), start(), start()];
    let led = children.map(|child| child.join_timeout(SOON).unwrap());
    assert_eq!(led.iter().sum::<u32>(), COMERS / 2, "each pair has one");
    assert_eq!(barrier.waiting(), 0);
}

#[test]
fn barrier_waited_for_alone_gives_up_and_breaks() {
    let _guard = guard();
    let barrier = Barrier::new(2).unwrap();
    for timeout in [Duration::ZERO, SHORT, 2 * SHORT] {
        assert_eq!(taking(timeout, || barrier.wait_timeout(timeout)), Err(Broken));
        assert!(barrier.is_broken());
        assert_eq!(barrier.wait(), Err(Broken), "also for who would wait for ever");
        barrier.reset();
    }
}

#[test]
fn barrier_of_one_lets_it_pass_and_of_none_is_refused() {
    let _guard = guard();
    let barrier = Barrier::new(1).unwrap();
    assert_eq!(outcome(barrier.wait()), Some((0, true)));
    assert_eq!(outcome(barrier.wait_timeout(Duration::ZERO)), Some((0, true)));
    for parties in [0, 1 << 23, u32::MAX] {
        assert!(matches!(Barrier::new(parties), Err(Error::Geometry(_))), "{parties}");
    }
}

#[test]
fn barrier_party_killed_breaks_it_for_all_at_once() {
    let _guard = guard();
    fn arrive(barrier: Barrier, ready: Queue<()>, waits: bool) -> bool {
        ready.send(()).unwrap();
        if waits {
            barrier.wait() == Err(Broken)
        } else {
            thread::sleep(SOON);
            false
        }
    }
    // The one that is killed waits at it, or has not come yet.
    for waits in [true, false] {
        let (barrier, ready) = (Barrier::new(4).unwrap(), ready());
        let start =
            |waits| Process::spawn(arrive, (barrier.clone(), ready.clone(), waits)).unwrap();
        let (waiting, victim) = (start(true), start(waits));
        ready.recv_timeout(SOON).unwrap();
        eventually("who waits is there", || barrier.waiting() == 1 + u32::from(waits));
        kill_when_ready(&victim, &ready);
        assert!(waiting.join_timeout(SOON).unwrap());
        assert_eq!(barrier.wait(), Err(Broken));
        barrier.reset();
        assert!(!barrier.is_broken());
    }
}

#[test]
fn barrier_party_that_ends_orderly_before_it_is_used_breaks_nothing() {
    let _guard = guard();
    let barrier = Barrier::new(1).unwrap();
    fn forget(barrier: Barrier) {
        drop(barrier);
    }
    Process::spawn(forget, (barrier.clone(),)).unwrap().join_timeout(SOON).unwrap();
    assert!(barrier.wait_timeout(SOON).unwrap().is_leader());
}

// What is made once -----------------------------------------------------------------------------

#[test]
fn once_cell_is_made_by_one_of_many_processes() {
    let _guard = guard();
    fn make(cell: OnceCell<u64>, made: Counter, me: u64) -> u64 {
        cell.get_or_init(|| {
            made.add(1);
            me
        })
    }
    for _ in 0..5 {
        let (cell, made) = (OnceCell::new().unwrap(), Counter::new().unwrap());
        let start = |me| Process::spawn(make, (cell.clone(), made.clone(), me)).unwrap();
        let children: Vec<_> = (0..4).map(start).collect();
        let value = cell.get_or_init(|| 7);
        for child in children {
            assert_eq!(child.join_timeout(SOON).unwrap(), value);
        }
        assert_eq!((cell.get(), cell.set(8)), (Some(value), Err(8)));
        assert_eq!(made.get(), i64::from(value != 7));
    }
}

#[test]
fn once_cell_whose_maker_is_killed_is_made_by_one_who_waits() {
    let _guard = guard();
    fn make(cell: OnceCell<u64>, ready: Queue<()>, value: Option<u64>) -> u64 {
        if value.is_some() {
            ready.send(()).unwrap();
        }
        cell.get_or_init(|| {
            value.unwrap_or_else(|| {
                ready.send(()).unwrap();
                thread::sleep(SOON);
                1
            })
        })
    }
    let (cell, ready) = (OnceCell::new().unwrap(), ready());
    let start = |value| {
        let child = Process::spawn(make, (cell.clone(), ready.clone(), value)).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let maker = start(None);
    let waiters = [start(Some(2)), start(Some(2)), start(Some(2))];
    waiters.iter().for_each(asleep);
    assert_eq!(cell.get(), None);
    // One who waits may die too.
    kill(&waiters[0]);
    kill(&maker);
    assert_eq!(waiters[1].join_timeout(SOON).unwrap(), 2);
    assert_eq!(waiters[2].join_timeout(SOON).unwrap(), 2);
    assert_eq!(cell.get_or_init(|| 3), 2);
}
