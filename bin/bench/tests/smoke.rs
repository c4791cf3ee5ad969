//! The whole, once and shortly: us and the floors, with windows so small that the figures mean nothing.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs the bench, which kills contestants that hang, and makes sure that it leaves no file.
fn bench(arguments: &[&str]) -> Output {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.args(arguments).env("TMPDIR", temporary.path());
    let bench = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ours = format!("bench-{}", bench.id());
    let output = bench.wait_with_output().unwrap();
    let names = |directory: &Path| {
        let files = fs::read_dir(directory).unwrap().flatten();
        files.map(|file| file.file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names(temporary.path()), [""; 0]);
    let left = names(Path::new("/dev/shm")).into_iter().find(|name| name.starts_with(&ours));
    assert_eq!(left, None);
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Plays everything that `filter` means once, and gives its JSON.
fn played(filter: &str) -> serde_json::Value {
    let output = bench(&["--quick", "--rounds", "1", "--window", "10", "--json", "-", filter]);
    let said = stdout(&output);
    let report: serde_json::Value = serde_json::from_str(&said)
        .unwrap_or_else(|_| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
    let failures = failures(&report);
    assert_eq!(output.status.success(), failures.is_empty(), "{said}");
    // On a busy machine hardly anybody is asleep when a message comes, and that round fails.
    let are_busy = |failure: &String| failure.ends_with("found their receiver awake");
    assert!(failures.iter().all(are_busy), "{failures:?}");
    report
}

/// What contestants have failed with.
fn failures(report: &serde_json::Value) -> Vec<String> {
    let list = |of: &serde_json::Value, name: &str| of[name].as_array().unwrap().clone();
    let results = list(report, "sections").into_iter().flat_map(|it| list(&it, "results"));
    let troubles = results.flat_map(|it| list(&it, "troubles"));
    troubles.filter_map(|it| Some(it["Failed"].as_str()?.to_string())).collect()
}

fn names(report: &serde_json::Value, section: &str) -> Vec<String> {
    let sections = report["sections"].as_array().unwrap();
    let section = sections.iter().find(|it| it["name"] == section).unwrap();
    let results = section["results"].as_array().unwrap().iter();
    let has_figures = |it: &&serde_json::Value| it["figures"][0]["median"].as_f64().is_some();
    results.filter(has_figures).map(|it| it["name"].as_str().unwrap().to_string()).collect()
}

#[test]
fn floors_are_measured_and_leave_nothing() {
    let report = played("floor");
    assert_eq!(names(&report, "mutex-uncontended"), ["floor: fetch_add"]);
    assert_eq!(names(&report, "queue-8B-1to1"), ["floor: ring, spinning"]);
    assert_eq!(names(&report, "round-trip-awake"), ["floor: words, spinning"]);
    assert_eq!(names(&report, "recovery"), ["floor: pthread robust, nothing else"]);
    for section in ["supervise-restart", "supervise-restart-at-once", "supervise-100"] {
        assert_eq!(names(&report, section), ["floor: posix_spawn, waitpid"]);
    }
    let starts = ["floor: posix_spawn, this program", "floor: fork, no program"];
    assert_eq!(names(&report, "start-and-join-1GiB"), starts);
}

#[test]
fn ours_are_measured_and_leave_nothing() {
    let report = played("multiproc");
    assert!(names(&report, "mutex-contended-4").contains(&"multiproc Mutex".into()));
    assert!(names(&report, "queue-8B-4to4").contains(&"multiproc Queue::inline".into()));
    assert!(names(&report, "transfer-1MiB").contains(&"multiproc Queue::slices, by loan".into()));
    let starts = names(&report, "start-and-join");
    assert!(starts.contains(&"multiproc Process, Spawn".into()), "{starts:?}");
    for section in ["supervise-restart", "supervise-restart-at-once", "supervise-1000"] {
        let names = names(&report, section);
        assert!(names.contains(&"multiproc Supervisor, commands".into()), "{section}: {names:?}");
        assert!(names.contains(&"multiproc Supervisor, functions".into()), "{section}: {names:?}");
    }
    assert_eq!(names(&report, "array-doubled").len(), 3);
    let through_pipes = names(&report, "pipe-64MiB");
    assert!(through_pipes.contains(&"multiproc Pipe, recv_bytes".into()), "{through_pipes:?}");
    let command = report["machine"]["command"].as_str().unwrap();
    assert!(command.contains("multiproc"), "{command}");
}

#[test]
fn html_page_stands_alone() {
    let directory = tempfile::tempdir().unwrap();
    let page = directory.path().join("page.html");
    let path = page.to_str().unwrap();
    let output = bench(&["--rounds", "1", "--window", "5", "--html", path, "counter-add-1"]);
    assert!(output.status.success());
    let page = fs::read_to_string(&page).unwrap();
    assert!(page.contains("<svg") && page.contains("multiproc Counter"));
    assert!(!page.contains("http"), "it refers to something else");
}

#[test]
fn list_names_what_the_filter_means() {
    let said = stdout(&bench(&["--list", "serde"]));
    assert!(said.contains("serde-200B") && said.contains("multiproc Queue::bounded"));
    assert!(!said.contains("mutex"));
}

#[test]
fn filter_that_means_nothing_is_misuse() {
    let output = bench(&["nothing-is-called-this"]);
    assert_eq!(output.status.code(), Some(2));
}
