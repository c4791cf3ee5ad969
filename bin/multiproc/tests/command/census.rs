//! The built-in job: exact, whoever is killed.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Random, SOON, eventually};

use crate::place::{Background, Place, SIGCONT, SIGKILL, SIGSTOP, wait_until_stopped, words};
use crate::tree::{
    Counted, HOSTILE, PIECE, make_fifo, make_sparse, named, plant, plant_large, text,
};

fn census(name: &str, workers: u32, roots: &[PathBuf]) -> Vec<OsString> {
    let mut arguments = words!["run", "--json", "--name", name, "-n", workers.to_string()].to_vec();
    arguments.extend(roots.iter().map(OsString::from));
    arguments
}

fn report(printed: &str) -> Value {
    serde_json::from_str(printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

fn unreadable(report: &Value) -> Vec<(&str, &str)> {
    let list = report["unreadable"].as_array().unwrap().iter();
    list.map(|one| (one["path"].as_str().unwrap(), one["reason"].as_str().unwrap())).collect()
}

#[test]
fn census_of_a_mixed_tree_is_exact_with_any_number_of_workers() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("mixed");
    let mut random = Random::seeded();
    plant(&place.files(), 3000, &mut random);
    plant_large(&place.files(), &mut random);
    let expected = Counted::below(&[place.files()]);
    for workers in [1, 2, 4, 16] {
        let report = place.json(&census(&name, workers, &[place.files()]));
        assert_eq!(Counted::read(&report), expected, "{workers} workers");
        assert_eq!(unreadable(&report), [], "{workers} workers");
        assert_eq!(
            (report["workers"].as_u64(), report["restarts"].as_u64()),
            (Some(workers.into()), Some(0))
        );
        place.assert_nothing_left(&name);
    }
}

/// When workers are killed.
struct Fire {
    interval: Duration,
    /// After so many kills an instance is left alone, so that it gets done on however slow a machine.
    kills_max: u64,
    random: Random,
}

impl Fire {
    /// Kills a random worker again and again; how many were killed.
    fn at(&mut self, place: &Place, name: &str, running: &Background) -> u64 {
        let mut kills = 0;
        while !running.has_ended() && kills < self.kills_max {
            let next = Instant::now() + self.interval;
            let mut pids: Vec<u32> =
                place.workers(name).into_iter().filter_map(|worker| worker.pid).collect();
            if !pids.is_empty() {
                let chosen = pids.swap_remove(self.random.below(pids.len() as u64) as usize);
                kills += u64::from(place.signal(chosen, SIGKILL));
            }
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        kills
    }
}

/// Counts a tree, with each number of workers, so often that it takes a while on this machine in
/// whatever build, while workers are killed.
fn check_census_under_fire(place: &Place, mut fire: Fire, workers: &[u32]) {
    let name = place.name("killed");
    let undisturbed = place.json(&census(&name, 4, &[place.files()]));
    let times = (1.5 / undisturbed["seconds"].as_f64().unwrap()).ceil().clamp(1.0, 500.0) as usize;
    let expected = Counted::below(&[place.files()]).times(times as u64);
    let (mut kills, mut restarts) = (0, 0);
    for round in 0.. {
        // On a busy machine a run may be over before we have seen a worker. Not every time.
        if round >= workers.len() && kills >= 10 {
            break;
        }
        assert!(round < 20, "only {kills} workers were killed");
        let workers = workers[round % workers.len()];
        let running = place.start(&census(&name, workers, &vec![place.files(); times]));
        let killed = fire.at(place, &name, &running);
        let finished = running.expect(0);
        let report = report(&finished.stdout);
        let restarted = report["restarts"].as_u64().unwrap();
        support::say(&format!(
            "{workers} workers, {times} times: {killed} killed, {restarted} restarts, {} s",
            report["seconds"]
        ));
        assert_eq!(Counted::read(&report).numbers(), expected, "{workers} workers: {finished:#?}");
        assert_eq!(unreadable(&report), []);
        // Nobody died but those we killed; not all of these needed to be replaced.
        assert!(restarted <= killed, "{killed} killed, {restarted} restarts: {finished:#?}");
        (kills, restarts) = (kills + killed, restarts + restarted);
        place.assert_nothing_left(&name);
    }
    assert!(restarts > 0, "{kills} kills, and no restart");
}

#[test]
fn census_whose_workers_are_killed_all_the_time_is_exact() {
    let _guard = support::guard();
    let place = Place::new();
    let mut random = Random::seeded();
    plant(&place.files(), 1500, &mut random);
    let fire = Fire { interval: Duration::from_millis(20), kills_max: 75, random };
    check_census_under_fire(&place, fire, &[2, 4, 16]);
}

#[test]
fn census_of_large_files_whose_workers_are_killed_is_exact() {
    let _guard = support::guard();
    let place = Place::new();
    let mut random = Random::seeded();
    plant_large(&place.files(), &mut random);
    // An unoptimised worker takes a while for a piece, and is to get some done.
    let fire = Fire { interval: Duration::from_millis(100), kills_max: 20, random };
    check_census_under_fire(&place, fire, &[4]);
}

/// Counts the files of a place with one worker, which is stopped before it comes to any of them,
/// while `change` changes them; with a ballast to be counted before. What the walk saw is what was
/// there before the change.
fn census_of_files_changed_meanwhile(place: &Place, json: bool, change: impl Fn(&Path)) -> String {
    let name = place.name("changed");
    let ballast = place.files().join("0-ballast");
    for doublings in 0.. {
        assert!(doublings < 10, "the worker is always faster than we are");
        let pieces = 4 << doublings;
        make_sparse(&ballast, pieces * PIECE as u64);
        let mut arguments = census(&name, 1, &[place.files()]);
        arguments.retain(|word| json || word != "--json");
        let running = place.start(&arguments);
        let worker = place.only_worker(&name);
        if !place.signal(worker, SIGSTOP) {
            running.kill();
            continue;
        }
        wait_until_stopped(worker);
        eventually("the walk is over", || {
            let walked = words!["inspect", "show", "walked", "--json", "--name", &name];
            let finished = place.run(&walked);
            serde_json::from_str::<Value>(&finished.stdout)
                .is_ok_and(|walked| walked["content"]["set"] == 1)
        });
        if place.workers(&name)[0].progress >= pieces {
            running.kill();
            place.wait_until_deserted();
            continue;
        }
        change(&place.files());
        assert!(place.signal(worker, SIGCONT));
        let finished = running.expect(0);
        place.assert_nothing_left(&name);
        return finished.stdout;
    }
    unreachable!()
}

#[test]
fn census_file_that_shrank_or_grew_counts_what_is_left_of_what_was_seen() {
    let _guard = support::guard();
    let place = Place::new();
    let mut random = Random::seeded();
    let content = text(2 * PIECE + 100, &mut random);
    let files = place.files();
    for name in ["shrinks", "shrinks to nothing"] {
        fs::write(files.join(name), &content).unwrap();
    }
    fs::write(files.join("grows"), &content[..1000]).unwrap();
    let printed = census_of_files_changed_meanwhile(&place, true, |files| {
        let open = |name| OpenOptions::new().write(true).open(files.join(name)).unwrap();
        open("shrinks").set_len(PIECE as u64 + 7).unwrap();
        open("shrinks to nothing").set_len(0).unwrap();
        open("grows").set_len(2 * PIECE as u64).unwrap();
    });
    // What was appended is not counted.
    let grown = OpenOptions::new().write(true).open(files.join("grows")).unwrap();
    grown.set_len(1000).unwrap();
    let report = report(&printed);
    assert_eq!(Counted::read(&report).numbers(), Counted::below(&[files]).numbers());
    assert_eq!(unreadable(&report), []);
}

#[test]
fn census_file_that_something_else_took_the_place_of_is_unreadable() {
    let _guard = support::guard();
    let place = Place::new();
    let secret = support::scratch();
    fs::write(secret.path().join("secret"), "not below the root").unwrap();
    for name in ["directory", "fifo", "link", "gone", "stays", "twice"] {
        fs::write(place.files().join(name), "some words\n").unwrap();
    }
    // One with several pieces is reported once.
    make_sparse(&place.files().join("twice"), 2 * PIECE as u64);
    let printed = census_of_files_changed_meanwhile(&place, true, |files| {
        for name in ["directory", "fifo", "link", "gone", "twice"] {
            fs::remove_file(files.join(name)).unwrap();
        }
        fs::create_dir(files.join("directory")).unwrap();
        make_fifo(&files.join("fifo"));
        symlink(secret.path().join("secret"), files.join("link")).unwrap();
    });
    let report = report(&printed);
    let found: Vec<(PathBuf, &str)> =
        unreadable(&report).into_iter().map(|(path, reason)| (path.into(), reason)).collect();
    let expected = [
        ("directory", "no longer a regular file"),
        ("fifo", "no longer a regular file"),
        ("gone", "No such file or directory (os error 2)"),
        ("link", "no longer a regular file"),
        ("twice", "No such file or directory (os error 2)"),
    ];
    assert_eq!(found, expected.map(|(name, reason)| (place.files().join(name), reason)));
    assert_eq!(Counted::read(&report).numbers(), Counted::below(&[place.files()]).numbers());
}

#[test]
fn census_file_that_changes_all_the_time_ends_within_bounds() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("unsteady");
    let path = place.files().join("unsteady");
    fs::write(&path, text(3 * PIECE, &mut Random::seeded())).unwrap();
    let over = AtomicBool::new(false);
    let report = thread::scope(|scope| {
        scope.spawn(|| {
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            while !over.load(Relaxed) {
                for bytes in [PIECE / 2, PIECE + 1, 0, 3 * PIECE] {
                    file.set_len(bytes as u64).unwrap();
                }
            }
        });
        let finished = place.run(&census(&name, 2, &[place.files()]));
        over.store(true, Relaxed);
        assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
        report(&finished.stdout)
    });
    let histogram = report["histogram"].as_array().unwrap();
    let counted: u64 = histogram.iter().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!((report["files"].as_u64(), report["bytes"].as_u64()), (Some(1), Some(counted)));
    assert_eq!(report["lines"], histogram[usize::from(b'\n')]);
    assert!(counted <= 3 * PIECE as u64);
    assert_eq!(unreadable(&report), []);
    place.assert_nothing_left(&name);
}

#[test]
fn census_json_has_exactly_the_documented_keys() {
    let _guard = support::guard();
    let place = Place::new();
    fs::write(place.files().join("file"), "three words here\n").unwrap();
    let report = place.json(&words!["run", "--json", "-n", "1", place.files()]);
    let mut keys: Vec<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    let expected = [
        "bytes",
        "files",
        "histogram",
        "largest",
        "lines",
        "restarts",
        "seconds",
        "unreadable",
        "words",
        "workers",
    ];
    assert_eq!(keys, expected);
    assert_eq!(report["histogram"].as_array().unwrap().len(), 256);
    let numbers = ["files", "bytes", "lines", "words", "workers", "restarts"];
    assert_eq!(numbers.map(|key| report[key].as_u64()), [1, 17, 1, 3, 1, 0].map(Some));
    let largest = report["largest"][0].as_object().unwrap();
    assert_eq!(largest.keys().collect::<Vec<_>>(), ["bytes", "path"]);
    assert!(report["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
}

/// Makes a path of more bytes than the kernel takes at once: unreadable for everybody.
fn plant_too_deep(root: &Path, name: &[u8]) {
    let deep = |half: &str| {
        let top = named(root, name).join(half);
        let bottom = (0..10).fold(top.clone(), |path, _| path.join("d".repeat(250)));
        fs::create_dir_all(&bottom).unwrap();
        (top, bottom)
    };
    let ((_, bottom), (top, _)) = (deep("a"), deep("b"));
    fs::rename(top, bottom.join("b")).unwrap();
}

#[test]
fn census_for_people_shows_nothing_that_a_terminal_obeys() {
    let _guard = support::guard();
    let place = Place::new();
    for (number, name) in HOSTILE.into_iter().enumerate() {
        fs::write(named(&place.files(), name), "w ".repeat(100 + number)).unwrap();
    }
    plant_too_deep(&place.files(), b"\x1b[31m deep \xe2\x80\xa8\x9b");
    let finished = place.expect(0, &words!["run", "-n", "2", place.files()]);
    for line in (finished.stdout.clone() + &finished.stderr).split('\n') {
        let obeyed = |char: char| char.is_control() || ('\u{2028}'..='\u{202e}').contains(&char);
        assert!(!line.contains(obeyed), "{line:?}");
    }
    for part in
        ["new\\nline", "not\\xff\\xfeutf8", "\\u{1b}[2J", "unreadable: 1", "\\u{2028}\\x9b/a/"]
    {
        assert!(finished.stdout.contains(part), "{part}: {}", finished.stdout);
    }
    let labels = ["files", "bytes", "lines", "words", "workers", "restarts", "seconds"];
    let lines: Vec<&str> = finished.stdout.lines().take(7).collect();
    assert!(lines.iter().zip(labels).all(|(line, label)| line.starts_with(label)), "{lines:#?}");
}

#[test]
fn census_without_permission_counts_the_rest() {
    let _guard = support::guard();
    let place = Place::new();
    let name = place.name("forbidden");
    let (file, directory) = (place.files().join("file"), place.files().join("directory"));
    fs::write(&file, "not for you").unwrap();
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("below"), "nor you").unwrap();
    fs::write(place.files().join("open"), "for everybody").unwrap();
    let forbid = |mode| {
        for path in [&file, &directory] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    forbid(0o000);
    let mut command = place.command(&census(&name, 2, &[place.files()]));
    if fs::read(&file).is_ok() {
        // The superuser may read everything, but can be somebody else.
        const NOBODY: u32 = 65534;
        let parent = place.runtime().parent().unwrap().to_owned();
        fs::set_permissions(parent, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(place.files(), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(place.runtime(), Some(NOBODY), Some(NOBODY)).unwrap();
        command.uid(NOBODY).gid(NOBODY);
        let mut probe = place.command(&words!["--version"]);
        if probe.uid(NOBODY).gid(NOBODY).output().is_err() {
            support::say("skipped: nobody may execute the command where it is");
            return;
        }
    }
    let finished = support::run(&mut command, SOON);
    assert_eq!(finished.status.code(), Some(0), "{finished:#?}");
    forbid(0o700);
    let report = report(&finished.stdout);
    let mut found = unreadable(&report);
    found.sort_unstable();
    let reason = "Permission denied (os error 13)";
    let [file, directory] = [&file, &directory].map(|path| path.to_str().unwrap());
    assert_eq!(found, [(directory, reason), (file, reason)]);
    assert_eq!((report["files"].as_u64(), report["words"].as_u64()), (Some(1), Some(2)));
    place.assert_nothing_left(&name);
}

#[test]
fn census_of_an_empty_directory_is_nothing() {
    let _guard = support::guard();
    let place = Place::new();
    let report = place.json(&words!["run", "--json", "-n", "2", place.files()]);
    assert_eq!(Counted::read(&report), Counted::nothing());
    let finished = place.expect(0, &words!["run", "-n", "2", place.files()]);
    assert!(finished.stdout.starts_with("files"), "{finished:#?}");
}

#[test]
fn census_path_given_twice_counts_twice() {
    let _guard = support::guard();
    let place = Place::new();
    plant(&place.files(), 100, &mut Random::seeded());
    let once = Counted::below(&[place.files()]);
    let odd = place.files().join("odd");
    let report =
        place.json(&words!["run", "--json", "-n", "2", place.files(), &odd, place.files()]);
    assert_eq!(Counted::read(&report), Counted::below(&[place.files(), odd, place.files()]));
    assert!(Counted::read(&report).bytes() > 2 * once.bytes());
}

#[test]
fn census_path_that_is_missing_is_named_before_anything_starts() {
    let _guard = support::guard();
    let place = Place::new();
    let missing = named(&place.files(), b"no\x1b[31m\xffwhere");
    let finished = place.expect(2, &words!["run", "-n", "2", place.files(), missing]);
    let named = finished.stderr.contains("no\\u{1b}[31m\\xffwhere' does not exist");
    assert!(named && finished.stdout.is_empty(), "{finished:#?}");
    symlink("nowhere", place.files().join("dangling")).unwrap();
    place.expect(2, &words!["run", place.files().join("dangling")]);
    make_fifo(&place.files().join("fifo"));
    place.expect(2, &words!["run", place.files().join("fifo")]);
    assert_eq!(place.instance_files(), Vec::<OsString>::new());
}

#[test]
#[ignore = "counts the tree at $MULTIPROC_TREE"]
fn real_tree_whose_workers_are_killed_all_the_time_is_exact() {
    let _guard = support::guard();
    let Some(tree) = std::env::var_os("MULTIPROC_TREE") else {
        support::say("skipped: MULTIPROC_TREE names no tree");
        return;
    };
    let place = Place::new();
    let name = place.name("real");
    let random = Random::seeded();
    let mut fire = Fire { interval: Duration::from_millis(20), kills_max: u64::MAX, random };
    let expected = Counted::below(&[tree.clone().into()]);
    let running = place.start(&census(&name, 4, &[tree.into()]));
    let kills = fire.at(&place, &name, &running);
    let finished = running.expect(0);
    let report = report(&finished.stdout);
    support::say(&format!("{kills} killed, {} files, {} s", report["files"], report["seconds"]));
    assert_eq!(unreadable(&report), []);
    assert_eq!(Counted::read(&report).numbers(), expected.numbers());
    place.assert_nothing_left(&name);
}
