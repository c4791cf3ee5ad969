//! Barriers between processes, some of which are late, give up or are killed.
//!
//! Held against Python's `Barrier`. Where ours differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | a killed party makes the others hang, past their timeouts | the barrier breaks for all at once |
//! | the action and the timeout are the barrier's | they are given where it is waited for |
//! | a barrier of no parties can be made | it is refused |

use std::thread;
use std::time::Duration;

use multiproc::{Array, Barrier, Broken, Error, Passed, Process, Queue};
use serde::Serialize;
use serde::de::DeserializeOwned;
use support::{SHORT, SOON, eventually, guard, kill_when_ready, taking};

multiproc::init_before_main!();

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
        let (barrier, ready) = (Barrier::new(4).unwrap(), Queue::bounded(2).unwrap());
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
