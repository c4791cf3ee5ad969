//! Starting, restarting, stopping, and the supervisor's own death.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, Instant};

use support::{Random, SOON, eventually, is_running};

use crate::place::{
    AT_ONCE, Background, Place, SIGINT, SIGKILL, SIGQUIT, SIGSTOP, SIGTERM, eventually_written,
    shell, wait_until_stopped, words,
};
use crate::tree::{Counted, make_sparse, plant};

/// A worker that does nothing until it is ended.
fn idle() -> [std::ffi::OsString; 3] {
    words!["--", "sleep", "1000"]
}

/// Starts a command that nothing but a signal ends.
fn start_shell(place: &Place, name: &str, script: &str) -> Background {
    place.start_instance(name, &words!["-n", "1", "--", "sh", "-c", script])
}

#[test]
fn supervisor_killed_half_way_takes_its_workers_along_and_can_be_started_again() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("half");
    plant(&place.files(), 500, &mut Random::seeded());
    let endless = place.files().join("endless");
    make_sparse(&endless, 1 << 40);
    let running = place.start_instance(&name, &words!["-n", "4", place.files()]);
    eventually("the census is half-way", || {
        place.workers(&name).iter().any(|worker| worker.progress > 2)
    });
    running.kill();
    place.wait_until_deserted();

    // What it has left can be looked at.
    let status = place.json(&words!["status", "--json", "--name", &name]);
    assert!(status["pid"].is_null(), "{status}");
    let workers = place.workers(&name);
    assert_eq!(workers.len(), 4);
    assert!(workers.iter().all(|worker| worker.phase == "gone"), "{workers:?}");
    let finished = place.expect(0, &words!["status", "--name", &name]);
    assert!(finished.stdout.contains("its supervisor is dead"), "{finished:#?}");
    let totals = place.json(&words!["inspect", "show", "totals", "--json", "--name", &name]);
    assert!(totals["content"]["sums"][0].as_u64() > Some(0), "{totals}");
    let unnamed = place.expect(4, &words!["status"]);
    assert!(unnamed.stderr.contains(&name), "{unnamed:#?}");

    // The same name counts from zero.
    fs::remove_file(endless).unwrap();
    let again = words!["run", "--json", "--name", &name, "-n", "4", place.files()];
    assert_eq!(Counted::read(&place.json(&again)), Counted::below(&[place.files()]));
    place.assert_nothing_left(&name);
}

#[test]
fn supervisor_killed_at_any_moment_leaves_a_name_that_works() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("any-moment");
    let mut random = Random::seeded();
    plant(&place.files(), 300, &mut random);
    let run = words!["run", "--json", "--name", &name, "-n", "2", place.files()];
    for _ in 0..40 {
        let running = place.start(&run);
        random.pause(Duration::from_millis(60));
        running.kill();
        place.wait_until_deserted();
        // Looking never fails for a wrong reason: there is something, or there is nothing yet.
        let status = place.run(&words!["status", "--name", &name]);
        let half_made = status.stderr.contains("half made");
        assert!(matches!(status.status.code(), Some(0 | 4)) || half_made, "{status:#?}");
    }
    assert_eq!(Counted::read(&place.json(&run)), Counted::below(&[place.files()]));
    place.assert_nothing_left(&name);
}

#[test]
fn name_of_a_running_instance_is_refused_and_the_process_named() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("busy");
    let running = place.start_instance(&name, &[&words!["-n", "1"][..], &idle()].concat());
    for arguments in [&words!["--", "true"][..], &words![place.files()]] {
        let refused = place.expect(75, &[&words!["run", "--name", &name], arguments].concat());
        let pid = format!("process {}", running.pid());
        assert!(refused.stderr.contains(&name) && refused.stderr.contains(&pid), "{refused:#?}");
    }
    assert!(!running.has_ended());
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn names_by_default_are_the_first_ones_that_are_free() {
    let _guard = support::guard();
    let place = Place::new();
    let start = || place.start(&[&words!["run", "-n", "1"][..], &idle()].concat());
    let locks = || {
        let mut files = place.instance_files();
        files.retain(|file| file.as_bytes().ends_with(b".lock"));
        files
    };
    let mut running = Vec::new();
    for number in 1..=3 {
        running.push(start());
        eventually("it runs", || locks().len() == number);
        eventually("it is ready", || running[number - 1].stderr().contains("process"));
    }
    assert_eq!(locks(), ["default-2.lock", "default-3.lock", "default.lock"]);
    let second = running.remove(1);
    second.signal(SIGTERM);
    second.expect(0);
    running.push(start());
    eventually("it is ready", || running[2].stderr().contains("\"default-2\""));
    for one in running {
        one.signal(SIGTERM);
        one.expect(0);
    }
    place.wait_until_deserted();
}

#[test]
fn name_with_a_survivor_is_refused_until_it_is_gone() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("survivor");
    let escaped = place.files().join("escaped");
    // It leaves the group, the kernel's wish to die with a parent is not inherited, and without this
    // variable the guard does not know it.
    let script = format!(
        "env -u MULTIPROC_ID setsid sh -c 'echo $$ > {}; exec sleep 1000' & wait",
        shell(&escaped).replace('\'', "\"")
    );
    let running = start_shell(&place, &name, &script);
    let survivor: u32 = eventually_written(&escaped).trim().parse().unwrap();
    running.kill();
    eventually("only the survivor is left", || place.processes() == [survivor]);

    let begun = Instant::now();
    let refused = place.expect(75, &words!["run", "--name", &name, "--", "true"]);
    assert!(begun.elapsed() >= Duration::from_secs(2), "it did not wait for the survivor");
    assert!(refused.stderr.contains(&name) && refused.stderr.contains("alive"), "{refused:#?}");
    assert!(refused.stderr.contains(&format!("({survivor})")), "{refused:#?}");
    assert!(is_running(survivor), "the survivor is the operator's to end");
    // Refused, it has not taken away what the dead one has left.
    place.expect(0, &words!["status", "--name", &name]);

    assert!(place.signal(survivor, SIGKILL));
    place.wait_until_deserted();
    place.expect(0, &words!["run", "--name", &name, "-n", "1", "--", "true"]);
    place.assert_nothing_left(&name);
}

#[test]
fn supervisor_of_a_command_asked_to_stop_ends_its_workers_and_succeeds() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("stop");
    for signal in [SIGTERM, SIGINT, SIGQUIT] {
        let script = "sleep 1000 & sleep 1000 & wait";
        let arguments = words!["-n", "2", "--", "sh", "-c", script];
        let running = place.start_instance(&name, &arguments);
        // Besides them, the supervisor and its guard.
        eventually("the workers' children run", || place.processes().len() == 2 + 2 * 3);
        let begun = Instant::now();
        running.signal(signal);
        let finished = running.expect(0);
        assert!(finished.stderr.contains("stopped on request"), "signal {signal}: {finished:#?}");
        assert!(begun.elapsed() < AT_ONCE, "signal {signal} let the grace go by");
        place.assert_nothing_left(&name);
    }
}

#[test]
fn supervisor_of_a_census_asked_to_stop_says_that_it_is_not_done() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("stopped");
    make_sparse(&place.files().join("endless"), 1 << 40);
    for signal in [SIGTERM, SIGINT] {
        let running = place.start_instance(&name, &words!["--json", "-n", "2", place.files()]);
        running.signal(signal);
        let finished = running.expect(1);
        assert!(finished.stderr.contains("stopped before the census was done"), "{finished:#?}");
        assert_eq!(finished.stdout, "");
        place.assert_nothing_left(&name);
    }
}

#[test]
fn worker_that_exits_cleanly_is_done() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("done");
    let finished = place.expect(0, &words!["run", "--name", &name, "-n", "3", "--", "true"]);
    assert_eq!(finished.stderr.matches("is done").count(), 3, "{finished:#?}");
    assert!(!finished.stderr.contains("restarted"), "{finished:#?}");
    place.assert_nothing_left(&name);
}

#[test]
fn worker_that_fails_once_is_restarted_at_once_in_its_own_place() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("once");
    let script = format!(
        "cd {}; echo \"$MULTIPROC_NAME $MULTIPROC_SLOT\" >> starts; test -e tried.$MULTIPROC_SLOT && \
         exit 0; touch tried.$MULTIPROC_SLOT; exit 3",
        shell(&place.files())
    );
    let run = words!["run", "--name", &name, "-n", "2", "--", "sh", "-c", script];
    let finished = place.expect(0, &run);
    assert_eq!(finished.stderr.matches("is restarted after").count(), 2, "{finished:#?}");
    assert!(finished.stderr.contains("exit code 3"), "{finished:#?}");
    let starts = fs::read_to_string(place.files().join("starts")).unwrap();
    let mut starts: Vec<&str> = starts.lines().collect();
    starts.sort_unstable();
    let [first, second] = ["0", "1"].map(|slot| format!("{name} {slot}"));
    assert_eq!(starts, [&first, &first, &second, &second]);
    place.assert_nothing_left(&name);
}

#[test]
fn workers_that_keep_failing_are_given_up() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("failing");
    let run = words!["run", "--name", &name, "-n", "4", "--", "sh", "-c", "exit 3"];
    let begun = Instant::now();
    let finished = place.expect(1, &run);
    // Twelve deaths of the group are tolerated. Four of one worker have pauses of at least 0.05 and
    // 0.1 s between them.
    assert!(begun.elapsed() >= Duration::from_millis(150));
    let count = |what: &str| finished.stderr.matches(what).count();
    assert_eq!(count("exit code 3"), 13, "{finished:#?}");
    assert_eq!(count("is restarted after"), 4, "the first restart is immediate: {finished:#?}");
    assert_eq!(count("is restarted in 0."), 8, "the others wait: {finished:#?}");
    assert_eq!(count("is given up: it died too often"), 1, "{finished:#?}");
    assert_eq!(count("1 of 4 workers had to be given up"), 1, "{finished:#?}");
    place.assert_nothing_left(&name);
}

#[test]
#[ignore = "waits for half a minute or more of backoff"]
fn worker_that_keeps_failing_alone_is_given_up_after_its_backoff() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("alone");
    let begun = Instant::now();
    let run = words!["run", "--name", &name, "-n", "1", "--", "sh", "-c", "exit 3"];
    let finished = place.start(&run).expect(1);
    // At least half of 0.1 · (1 + 2 + … + 256) s.
    assert!(begun.elapsed() >= Duration::from_millis(25_550), "{:?}", begun.elapsed());
    assert_eq!(finished.stderr.matches("exit code 3").count(), 11, "{finished:#?}");
    place.assert_nothing_left(&name);
}

#[test]
fn worker_with_a_fatal_exit_code_is_given_up_at_once() {
    let _guard = support::guard();
    let place = Place::new();
    let run = words!["run", "-n", "2", "--", "sh", "-c", "exit 78"];
    let finished = place.expect(1, &run);
    assert!(!finished.stderr.contains("restarted"), "{finished:#?}");
    assert!(finished.stderr.contains("2 of 2 workers"), "{finished:#?}");
}

#[test]
fn program_that_is_missing_is_named() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("missing");
    let program = place.files().join("no\u{1b}such");
    let run = words!["run", "--name", &name, "-n", "4", "--", &program];
    let finished = place.expect(1, &run);
    assert!(finished.stderr.contains("no\\u{1b}such"), "{finished:#?}");
    assert!(finished.stderr.contains("No such file or directory"), "{finished:#?}");
    assert!(!finished.stderr.contains('\u{1b}'), "{finished:#?}");
    place.assert_nothing_left(&name);
}

#[test]
fn worker_killed_is_replaced_and_its_children_go_with_it() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("children");
    let children = place.files().join("children");
    let script = format!("sleep 1000 & echo $! >> {}; wait", shell(&children));
    let running = start_shell(&place, &name, &script);
    for restarts in 1..=3 {
        let worker = place.only_worker(&name);
        let mut child = 0;
        eventually("the worker has a child", || {
            let text = fs::read_to_string(&children).unwrap_or_default();
            child = text.lines().last().and_then(|pid| pid.parse().ok()).unwrap_or(0);
            text.ends_with('\n') && text.lines().count() == restarts as usize
        });
        assert!(is_running(child));
        assert!(place.signal(worker, SIGKILL));
        eventually("the child is gone", || !is_running(child));
        eventually("the worker is replaced", || {
            let workers = place.workers(&name);
            workers[0].restarts == restarts && workers[0].pid.is_some_and(|pid| pid != worker)
        });
    }
    running.signal(SIGTERM);
    let finished = running.expect(0);
    assert_eq!(finished.stderr.matches("killed by SIGKILL").count(), 3, "{finished:#?}");
    place.assert_nothing_left(&name);
}

#[test]
fn worker_that_lives_for_a_second_is_ready() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("ready");
    let running = place.start_instance(&name, &[&words!["-n", "2"][..], &idle()].concat());
    eventually("they are ready", || {
        place.workers(&name).iter().all(|worker| worker.phase == "ready")
    });
    running.signal(SIGTERM);
    running.expect(0);
    place.assert_nothing_left(&name);
}

#[test]
fn worker_that_is_stopped_hears_the_request_to_end() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("asleep");
    let running = place.start_instance(&name, &[&words!["-n", "1"][..], &idle()].concat());
    let worker = place.only_worker(&name);
    assert!(place.signal(worker, SIGSTOP));
    wait_until_stopped(worker);
    let begun = Instant::now();
    running.signal(SIGTERM);
    running.expect(0);
    assert!(begun.elapsed() < AT_ONCE, "it had to be killed after the grace");
    place.assert_nothing_left(&name);
}

/// Starts a worker, with a child, that ignores TERM, once it does.
fn start_deaf(place: &Place, name: &str) -> Background {
    let deaf = place.files().join("deaf");
    let script =
        format!("trap '' TERM; echo deaf > {}; sleep 1000 & exec sleep 1000", shell(&deaf));
    let running = start_shell(place, name, &script);
    eventually_written(&deaf);
    running
}

#[test]
fn worker_deaf_to_term_is_killed_when_asked_again() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("deaf");
    let running = start_deaf(&place, &name);
    let begun = Instant::now();
    running.signal(SIGTERM);
    eventually("the worker is asked to end", || place.workers(&name)[0].phase == "stopping");
    assert!(!running.has_ended());
    running.signal(SIGTERM);
    running.expect(0);
    assert!(begun.elapsed() < AT_ONCE, "it let the grace go by");
    place.assert_nothing_left(&name);
}

#[test]
#[ignore = "waits for the grace of ten seconds"]
fn worker_deaf_to_term_is_killed_after_the_grace() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("grace");
    let running = start_deaf(&place, &name);
    let begun = Instant::now();
    running.signal(SIGTERM);
    running.expect(0);
    assert!(begun.elapsed() >= Duration::from_secs(10), "{:?}", begun.elapsed());
    place.assert_nothing_left(&name);
}

#[test]
fn worker_is_given_no_input_no_descriptor_and_no_signal_disposition() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("given");
    let out = place.files().join("out");
    let script = format!(
        "exec > {}; readlink /proc/self/fd/0; grep -E '^Sig(Blk|Ign)' /proc/self/status; \
         for fd in /proc/$$/fd/*; do readlink $fd; done; exit 0",
        shell(&out)
    );
    let run = words!["run", "--name", &name, "-n", "1", "--", "sh", "-c", script];
    let mut command = place.command(&run);
    // What it has to read itself, it keeps.
    command.stdin(fs::File::open(place.files()).unwrap());
    let finished = support::run(&mut command, SOON);
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
    let text = fs::read_to_string(&out).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/dev/null"));
    for set in ["SigBlk", "SigIgn"] {
        assert_eq!(lines.next(), Some(format!("{set}:\t{:016x}", 0).as_str()), "{text}");
    }
    // Besides the standard streams, and what the shell has opened itself, only the file that says
    // that it lives.
    let descriptors: Vec<&str> = lines.collect();
    let lock = place.runtime().join(format!("multiproc/{name}.lock"));
    assert_eq!(descriptors.iter().filter(|path| **path == lock.to_str().unwrap()).count(), 1);
    assert!(!text.contains("memfd:") && !text.contains("/dev/shm"), "{text}");
    assert!(descriptors.len() <= 5, "{descriptors:#?}");
}
