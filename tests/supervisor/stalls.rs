//! Who beats, waits, works, hangs, or is stopped.

use std::time::Duration;

use multiproc::supervisor::core::Policy;
use multiproc::supervisor::{Pulse, Supervisor, Worker};
use multiproc::{Counter, Event, Limit, Process, Segment, Spawner};
use nix::sys::signal::SIGABRT;
use support::{SOON, eventually};

use crate::running::Running;
use crate::{SIGCONT, SIGSTOP, idle, ignore, quick};

/// How long one may go without a beat.
const LIMIT: Duration = Duration::from_millis(400);

fn watched() -> Policy {
    let abort_grace = Duration::from_millis(100);
    Policy { stall: Some(LIMIT), abort_grace, ..quick() }
}

/// Without a core dump of what is to be aborted.
fn spawner() -> Spawner {
    Spawner::new().limit(Limit::Core(0))
}

fn pulse() -> Pulse {
    Pulse::of_this_process().unwrap()
}

fn running(workers: impl IntoIterator<Item = Worker>) -> Running {
    let builder = Supervisor::builder().segment(&Segment::current().unwrap(), None, 8);
    Running::start(workers.into_iter().fold(builder, |builder, worker| builder.worker(worker)))
}

/// Beats for ever, and counts.
fn beats(count: Counter) {
    let pulse = pulse();
    loop {
        pulse.beat();
        count.add(1);
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until it has beaten for so long.
#[track_caller]
fn has_beaten_for(count: &Counter, time: Duration) {
    let (before, beats) = (count.get(), time.as_millis() as i64 / 2);
    eventually("it beats", || count.get() >= before + beats);
}

#[test]
fn who_beats_waits_or_works_by_its_word_is_left_alone() {
    let _guard = support::guard();
    let count = Counter::new().unwrap();
    fn parks() {
        pulse().park();
        std::thread::sleep(SOON);
    }
    fn works() {
        pulse().busy(SOON);
        std::thread::sleep(SOON);
    }
    fn never_beats() {
        std::thread::sleep(SOON);
    }
    let running = running([
        Worker::function("beats", Spawner::new(), beats, (count.clone(),)).policy(watched()),
        Worker::function("parks", Spawner::new(), parks, ()).policy(watched()),
        Worker::function("works", Spawner::new(), works, ()).policy(watched()),
        Worker::function("silent", Spawner::new(), never_beats, ()).policy(watched()),
        idle("command").policy(watched()),
    ]);
    running.ready();
    has_beaten_for(&count, 3 * LIMIT);
    let status = running.status();
    assert!(
        status.iter().all(|slot| slot.incarnation == 1 && slot.state == "ready"),
        "{status:#?}"
    );
    assert!(running.slot("beats:0").beat_age_ms.is_some());
    assert_eq!(running.stop().restarts, 0);
}

#[test]
fn who_spins_without_a_beat_is_aborted_and_the_report_says_at_what() {
    let _guard = support::guard();
    fn spins() {
        pulse().begin(7);
        loop {
            std::hint::spin_loop();
        }
    }
    let running = running([Worker::function("spins", spawner(), spins, ()).policy(watched())]);
    running.until("stalled", "spins:0");
    let crash = running.crash();
    assert_eq!((crash.cause.as_str(), crash.decision.as_str()), ("stalled", "restart"));
    assert_eq!(crash.activity.as_deref(), Some("task 7"));
    assert!(crash.beat_age_ms.unwrap() >= LIMIT.as_millis() as u64, "{crash:#?}");
    running.stop();
}

#[test]
fn who_sleeps_without_a_beat_and_ignores_abort_is_killed() {
    let _guard = support::guard();
    fn hangs() {
        ignore(SIGABRT);
        pulse().beat();
        std::thread::sleep(SOON);
    }
    let running = running([Worker::function("hangs", spawner(), hangs, ()).policy(watched())]);
    let crash = running.crash();
    assert_eq!(crash.cause, "stalled", "the first cause counts, and not our own KILL");
    running.until("ended", "hangs:0");
    running.until("started", "hangs:0");
    running.stop();
}

#[test]
fn who_was_busy_for_longer_than_it_said_has_stalled() {
    let _guard = support::guard();
    fn works() {
        pulse().busy(Duration::from_millis(1));
        std::thread::sleep(SOON);
    }
    let running = running([Worker::function("works", spawner(), works, ()).policy(watched())]);
    let crash = running.crash();
    assert_eq!((crash.cause.as_str(), crash.activity.as_deref()), ("stalled", Some("busy")));
    running.stop();
}

#[test]
fn who_beats_again_after_the_warning_goes_on() {
    let _guard = support::guard();
    fn pauses(gate: Event) {
        let pulse = pulse();
        pulse.beat();
        gate.wait();
        loop {
            pulse.beat();
            std::thread::sleep(Duration::from_millis(2));
        }
    }
    let gate = Event::new().unwrap();
    // It is warned of after half of it.
    let policy = Policy { stall: Some(Duration::from_secs(2)), ..watched() };
    let worker = Worker::function("pauses", spawner(), pauses, (gate.clone(),));
    let running = running([worker.policy(policy)]);
    running.until("stalled", "pauses:0");
    assert_eq!(running.slot("pauses:0").state, "stalled");
    gate.set();
    running.until("resumed", "pauses:0");
    let slot = running.slot("pauses:0");
    assert_eq!((slot.state.as_str(), slot.incarnation), ("ready", 1));
    running.stop();
}

#[test]
fn who_is_stopped_by_a_signal_is_not_killed_for_its_silence() {
    let _guard = support::guard();
    let count = Counter::new().unwrap();
    let worker = Worker::function("beats", Spawner::new(), beats, (count.clone(),));
    let running = running([worker.policy(watched())]);
    running.until("ready", "beats:0");
    has_beaten_for(&count, LIMIT / 4);
    let pid = running.pid("beats:0");
    running.signal("beats:0", SIGSTOP);
    eventually("it is stopped", || support::state_of(pid) == Some('T'));
    std::thread::sleep(4 * LIMIT);
    assert_eq!(running.pid("beats:0"), pid);
    running.signal("beats:0", SIGCONT);
    has_beaten_for(&count, 2 * LIMIT);
    assert_eq!(running.pid("beats:0"), pid);
    assert_eq!(running.stop().restarts, 0);
}

#[test]
fn supervisor_that_was_stopped_kills_nobody_when_it_goes_on() {
    let _guard = support::guard();
    // In a process of its own, so that it can be stopped; it tells how many were restarted.
    fn supervise(count: Counter, done: Event) -> u64 {
        let worker = Worker::function("beats", Spawner::new(), beats, (count,));
        let running = running([worker.policy(watched())]);
        done.wait();
        running.stop().restarts
    }
    let (count, done) = (Counter::new().unwrap(), Event::new().unwrap());
    let child = Process::spawn(supervise, (count.clone(), done.clone())).unwrap();
    has_beaten_for(&count, LIMIT);
    let worker = worker_of(child.pid());
    for both in [false, true] {
        let stopped = [child.pid(), worker];
        let stopped = if both { &stopped[..] } else { &stopped[..1] };
        stopped.iter().for_each(|pid| crate::signal(*pid, SIGSTOP));
        eventually("they are stopped", || {
            stopped.iter().all(|pid| support::state_of(*pid) == Some('T'))
        });
        std::thread::sleep(2 * LIMIT);
        stopped.iter().for_each(|pid| crate::signal(*pid, SIGCONT));
        has_beaten_for(&count, 2 * LIMIT);
    }
    assert_eq!(worker_of(child.pid()), worker);
    done.set();
    assert_eq!(child.join_timeout(SOON).unwrap(), 0);
}

/// The only child of a process.
fn worker_of(pid: u32) -> u32 {
    let marker = "MULTIPROC_WORKER=beats";
    let mut found = support::with_marker(marker);
    found.retain(|worker| *worker != pid);
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}
