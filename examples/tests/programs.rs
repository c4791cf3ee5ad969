//! The examples, run as a user runs them.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use image::{GrayImage, RgbImage};
use server::{Files, Mood, Server};
use support::{Finished, SOON};

#[path = "../downloader/server.rs"]
mod server;

/// Runs an example that complains of nothing.
fn run(name: &str) -> Finished {
    let finished = run_whatever_it_says(name);
    assert_eq!(finished.stderr, "");
    finished
}

/// Runs an example.
fn run_whatever_it_says(name: &str) -> Finished {
    let finished = run_with(name, &[]);
    assert!(finished.status.success(), "{finished:#?}");
    finished
}

/// Runs an example with arguments, whatever comes of it; `cargo test` has built it beside us.
fn run_with(name: &str, arguments: &[&OsStr]) -> Finished {
    let this = std::env::current_exe().expect("this program's path");
    let built = this.ancestors().nth(2).expect("programs are built in `PROFILE/deps`");
    let example: PathBuf = built.join("examples").join(name);
    assert!(example.exists(), "{example:?} is built by a plain `cargo test`, not by `--test`");
    support::run(Command::new(example).args(arguments), SOON)
}

/// Runs an example with arguments that it cannot make sense of, and gives its complaint.
fn complaint(name: &str, arguments: &[&str]) -> String {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    let finished = run_with(name, &arguments);
    assert_eq!((finished.status.code(), &*finished.stdout), (Some(1), ""), "{finished:#?}");
    finished.stderr
}

fn sorted(lines: &[&str]) -> Vec<String> {
    let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

#[test]
fn hello_runs_both_tasks_and_all_workers() {
    let _guard = support::guard();
    let stdout = run("hello").stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    let tasks = [["Task 1 executing"; 5], ["Task 2 executing"; 5]].concat();
    assert_eq!(sorted(&lines[..10]), sorted(&tasks));
    assert_eq!(lines[10], "All processes executed");
    let mut workers = lines[11..16].to_vec();
    workers.sort_unstable();
    let mut pids: Vec<&str> = Vec::new();
    for (number, line) in workers.into_iter().enumerate() {
        let pid = line.strip_prefix(&format!("Worker {number} is running in process "));
        pids.push(pid.unwrap_or_else(|| panic!("{line}")));
    }
    pids.sort_unstable();
    pids.dedup();
    assert_eq!(pids.len(), 5, "each worker is a process of its own: {pids:?}");
    assert_eq!(lines[16..], ["All workers have finished"]);
}

#[test]
fn counter_and_array_loses_no_addition() {
    let _guard = support::guard();
    assert_eq!(
        run("counter_and_array").stdout,
        "shared number: 100000\nshared array: [100001, 100002, 100003, 100004, 100005]\n"
    );
}

#[test]
fn producer_consumer_hands_every_item_over_once() {
    let _guard = support::guard();
    let stdout = run("producer_consumer").stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(sorted(&lines[..2]), ["Consumer 0 is done", "Consumer 1 is done"]);
    assert_eq!(lines[2..], ["3000 items consumed, their sum is 4498500"]);
}

#[test]
fn locks_lose_no_increment_and_pass_on_from_the_dead() {
    let _guard = support::guard();
    assert_eq!(
        run("locks").stdout,
        "1000 increments: 1000\nkilled with the lock: true, the next owner knows: true\n\
         taken 2 times by one thread\nbalance: 150\n"
    );
}

#[test]
fn limits_give_the_permits_of_the_dead_back() {
    let _guard = support::guard();
    assert_eq!(
        run("limits").stdout,
        "3 were killed with a permit, and the others made 300 visits\n2 of 2 permits are available\n"
    );
}

#[test]
fn condition_lets_as_many_go_on_as_there_are_places() {
    let _guard = support::guard();
    assert_eq!(run("condition").stdout, "3 wait\n1 may go on, 2 wait\n2 may go on, 0 wait\n");
}

#[test]
fn event_and_barrier_keep_all_in_step_until_one_dies() {
    let _guard = support::guard();
    assert_eq!(
        run("event_and_barrier").stdout,
        "30 steps in 10 rounds, each with one leader\nthe barrier is broken by a death: true\n"
    );
}

#[test]
fn joinable_queue_does_every_task_once_whoever_dies() {
    let _guard = support::guard();
    let stdout = run("joinable_queue").stdout;
    assert!(stdout.starts_with("100 tasks are done, their sum is 5050\n"), "{stdout}");
}

#[test]
fn shared_map_loses_no_update_whoever_dies() {
    let _guard = support::guard();
    assert_eq!(
        run("shared_map").stdout,
        "on: 4000\nthe: 4000\ncat: 3000\n10 words of 100 that have room\n\
         killed in the middle: true, and nobody waited\nfinished: 4\n"
    );
}

#[test]
fn pipes_carry_values_bytes_and_pipes() {
    let _guard = support::guard();
    assert_eq!(
        run("pipes").stdout,
        "2 squared is 4\n3 squared is 9\n12 squared is 144\n\
         the child answered 3 times\n\
         1000000 bytes want to be received\n1000000 bytes, the last one is 63\n\
         the painter is gone: true\n\
         greeted by the child: true\ngreeted by the child: true\n"
    );
}

#[test]
fn channels_carry_ends_to_whoever_asks_for_them() {
    let _guard = support::guard();
    assert_eq!(
        run("channels").stdout,
        "6000 words\n2000 lines\nnobody counts pages\nserved 1\nserved 1\n"
    );
}

#[test]
fn listener_lets_in_who_knows_the_key() {
    let _guard = support::guard();
    let failed = "authentication at @.. failed: both sides need the same key";
    assert_eq!(
        run("listener").stdout,
        format!(
            "somebody was not let in: {failed}\nit could not connect: {failed}\n\
             the client is the process that we started: true\nit learnt the lengths [3, 5, 9]\n"
        )
    );
}

#[test]
fn logging_writes_whole_lines_of_whoever_exits() {
    let _guard = support::guard();
    assert_eq!(
        run("logging").stdout,
        "[DEBUG/careful] word{word=the}: so far letters=3\n\
         [DEBUG/careful] word{word=cat}: so far letters=6\n\
         [INFO/careful] done letters=6\n\
         [DEBUG/careless] word{word=sat}: so far letters=3\n\
         [ERROR/careless] word{word=}: it has no letters: giving up\n\
         careful has counted 6 letters\n\
         careless: it exited with code 1\n"
    );
}

#[test]
fn processes_tell_how_each_of_them_ended() {
    let _guard = support::guard();
    let Finished { stdout: told, stderr, .. } = run_whatever_it_says("processes");
    assert!(stderr.contains("no way") && stderr.matches("panicked at").count() == 1, "{stderr}");
    let lines: Vec<&str> = told.lines().collect();
    let heads = ["A: 0 1 2", "B: 0 1 2", "worker 0 was process ", "worker 1 was process "];
    for head in heads {
        assert!(lines.iter().any(|line| line.starts_with(head)), "{head}: {told}");
    }
    let ends = [
        "returned: it returned 42",
        "panicked: it panicked: no way (",
        "exited: it exited with code 3",
        "killed: it was killed by signal 9 (SIGKILL)",
        "too slow: it is still running",
        "too slow: it was killed by signal 15 (SIGTERM)",
        "sh: it exited with code 4",
        "no-such-program: exec of \"no-such-program\" failed: No such file or directory (os error 2)",
        "forked: it returned \"forked\"",
        "served: it returned \"served\"",
        "active: 0",
    ];
    for end in ends {
        assert!(lines.iter().any(|line| line.starts_with(end)), "{end}: {told}");
    }
}

#[test]
fn embedded_ipc_is_found_by_a_program_that_knows_its_name() {
    let _guard = support::guard();
    assert_eq!(
        run("embedded_ipc").stdout,
        "request 1 has 5 bytes\nrequest 2 has 12 bytes\nrequest 3 has 20 bytes\n\
         request 4 has 7 bytes\n4 requests of a client that succeeded: true\n\
         the longest: Some(Longest { bytes: 20, request: 3 })\n"
    );
}

#[test]
fn pool_map_gives_values_in_order_and_as_they_come() {
    let _guard = support::guard();
    let stdout = run("pool_map").stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[..2], ["squares: [1, 4, 9, 16, 25]", "powers: [1024, 81, 1000]"]);
    let steps = [(27, 111), (97, 118), (871, 178)];
    for (place, (number, steps)) in steps.into_iter().enumerate() {
        let line = format!("number {place} is {number}, and takes {steps} steps");
        assert!(lines[2..5].contains(&&*line), "{line}: {stdout}");
    }
    assert_eq!(
        lines[5..],
        [
            "2463 is the first that takes more than 200 steps: 208",
            "25 % are done",
            "50 % are done",
            "75 % are done",
            "100 % are done",
            "the longest way below 100000: Some((77031, 350))",
        ]
    );
}

#[test]
fn executor_tells_how_each_task_ended_and_goes_on() {
    let _guard = support::guard();
    let Finished { stdout, stderr, .. } = run_whatever_it_says("executor");
    assert_eq!(stderr.matches("panicked at").count(), 1, "{stderr}");
    let lines: Vec<&str> = stdout.lines().collect();
    let divisions = ["60 / 0: 60 cannot be divided by 0", "60 / 4 = 15", "60 / 5 = 12"];
    assert_eq!(sorted(&lines[..3]), divisions);
    assert_eq!(
        lines[3..],
        [
            "it panicked: index out of bounds: the len is 2 but the index is 2",
            "task 1 was done first: it has happened",
            "task 0 is cancelled: true",
            "task 0 has no value: it was cancelled",
            "its worker died: signal 6 (SIGABRT)",
            "the others went on: Ok(42)",
        ]
    );
}

#[test]
fn cpu_bound_finds_the_same_primes_alone_and_with_others() {
    let _guard = support::guard();
    let stdout = run("cpu_bound").stdout;
    let counts = stdout.matches(": 41538 primes below 500000, in ").count();
    assert_eq!(counts, 2, "{stdout}");
    let usage = "usage: cpu_bound [LIMIT], a whole number\n";
    assert_eq!(complaint("cpu_bound", &["many"]), usage);
}

#[test]
fn data_processing_doubles_every_number_once_in_each_way() {
    let _guard = support::guard();
    assert_eq!(
        run("data_processing").stdout,
        "in chunks: 1000000 numbers, all doubled: true\n\
         one by one: 1000000 numbers, all doubled: true\n\
         in place: 1000000 numbers, all doubled: true\n"
    );
}

#[test]
fn matrix_multiply_computes_the_product_whatever_the_size() {
    let _guard = support::guard();
    for size in ["1", "7", "300"] {
        let finished = run_with("matrix_multiply", &[size.as_ref()]);
        assert!(finished.status.success(), "{finished:#?}");
        assert!(finished.stdout.starts_with(&format!("{size} × {size} numbers, in ")));
        assert!(finished.stdout.ends_with("the same as a.dot(&b): true\n"), "{finished:#?}");
    }
    let usage = "usage: matrix_multiply [SIZE], a whole number from 1 to 10000\n";
    for size in ["0", "10001", "large"] {
        assert_eq!(complaint("matrix_multiply", &[size]), usage);
    }
}

#[test]
fn images_leave_out_what_is_broken_and_do_the_rest() {
    let _guard = support::guard();
    let stdout = run("images").stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    let (broken, rest): (Vec<&str>, Vec<&str>) =
        lines.into_iter().partition(|line| line.starts_with("broken.png: left out: "));
    assert_eq!(broken.len(), 1, "{stdout}");
    let done = ["a.png: 64 × 64", "b.jpg: 64 × 53", "c.jpeg: 64 × 46", "d.PNG: 64 × 40"];
    assert_eq!(rest, [&done[..], &["4 of 5 pictures are done"]].concat());
}

#[test]
fn images_makes_small_grey_soft_files_of_those_in_a_folder() {
    let _guard = support::guard();
    let folder = support::scratch();
    let (from, to) = (folder.path().join("from"), folder.path().join("to"));
    fs::create_dir(&from).expect("making a folder");
    // Red on the left, and black on the right.
    let halves = RgbImage::from_fn(256, 128, |x, _| [if x < 128 { 255 } else { 0 }, 0, 0].into());
    for name in ["halves.png", "halves.jpg"] {
        halves.save(from.join(name)).expect("saving a picture");
    }
    fs::write(from.join("broken.jpg"), "no picture").expect("writing a file");
    fs::write(from.join("notes.txt"), "no picture either").expect("writing a file");

    let finished = run_with("images", &[from.as_os_str(), to.as_os_str()]);
    assert_eq!((finished.status.code(), &*finished.stderr), (Some(1), ""), "{finished:#?}");
    assert!(finished.stdout.ends_with("\n2 of 3 pictures are done\n"), "{finished:#?}");
    assert_eq!(fs::read_dir(&to).expect("the folder of results").count(), 2);
    for name in ["halves.png", "halves.jpg"] {
        let result = image::open(to.join(name)).expect("a picture");
        let result: &GrayImage = result.as_luma8().expect("a grey one");
        assert_eq!(result.dimensions(), (64, 32));
        let [left, edge, right] = [2, 32, 61].map(|x| result.get_pixel(x, 16)[0]);
        assert!(right < 8 && right + 8 < edge && edge + 8 < left, "{left} {edge} {right}");
    }

    let nowhere = folder.path().join("nowhere");
    let nowhere = nowhere.to_str().expect("a path that is a text");
    let error = format!("images: {nowhere}: No such file or directory (os error 2)\n");
    assert_eq!(complaint("images", &[nowhere]), error);
}

#[test]
fn downloader_gets_what_its_moody_server_has() {
    let _guard = support::guard();
    let stdout = run("downloader").stdout;
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(
        lines[..7],
        [
            "begun.bin: requests: 1",
            "busy.bin: requests: 2",
            "cut-short.bin: requests: 2",
            "garbled.bin: requests: 2",
            "good.bin: requests: 1",
            "missing.bin: given up: http status: 404",
            "5 of 6 files are there",
        ]
    );
    let resumed = ["begun.bin", "cut-short.bin"];
    let resumed = resumed.map(|name| format!("{name} was asked for from byte 50000 on"));
    assert_eq!(sorted(&lines[7..]), resumed);
}

#[test]
fn downloader_leaves_whole_files_and_asks_for_none_of_them_again() {
    let _guard = support::guard();
    let folder = support::scratch();
    let content = |seed: usize| (0..30_000 + seed).map(|place| (place * seed) as u8).collect();
    let moods = [
        ("begun", Mood::Good),
        ("begun-otherwise", Mood::Good),
        ("busy", Mood::Busy),
        ("cut-short", Mood::CutShort),
        ("garbled", Mood::Garbled),
        ("missing", Mood::Missing),
        ("too-long", Mood::Good),
    ];
    let mut files: Files = moods
        .into_iter()
        .enumerate()
        .map(|(number, (name, mood))| (name, (mood, content(2 * number + 1))))
        .collect();
    files.insert("empty", (Mood::Good, Vec::new()));
    let whole = |name: &str| -> &Vec<u8> { &files[name].1 };
    // What an earlier download has left: good, bad, and longer than the file.
    let left = [
        ("begun", whole("begun")[..10_000].to_vec()),
        ("begun-otherwise", vec![7; 10_000]),
        ("too-long", vec![7; 40_000]),
    ];
    for (name, bytes) in left {
        fs::write(folder.path().join(name).with_added_extension("part"), bytes).expect("a file");
    }

    let server = Server::start(files.clone()).expect("a server");
    let arguments = [server.url.as_ref(), folder.path().as_os_str()];
    let first = run_with("downloader", &arguments);
    assert_eq!((first.status.code(), &*first.stderr), (Some(1), ""), "{first:#?}");
    assert!(first.stdout.ends_with("\n7 of 8 files are there\n"), "{first:#?}");
    let mut requests = server.requests();
    requests.sort_unstable();
    let expected = [
        ("SHA256SUMS", 0),
        ("begun", 10_000),
        ("begun-otherwise", 0),
        ("begun-otherwise", 10_000),
        ("busy", 0),
        ("busy", 0),
        ("cut-short", 0),
        ("cut-short", whole("cut-short").len() / 2),
        ("empty", 0),
        ("garbled", 0),
        ("garbled", 0),
        ("missing", 0),
        ("too-long", 0),
        ("too-long", 40_000),
    ];
    assert_eq!(requests, expected.map(|(name, start)| (name.to_string(), start)));
    let there = || fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(there(), 7, "no part is left");
    for (name, (mood, bytes)) in &files {
        let file = fs::read(folder.path().join(name)).ok();
        assert_eq!(file.as_ref(), (*mood != Mood::Missing).then_some(bytes), "{name}");
    }

    let again = run_with("downloader", &arguments);
    assert!(again.stdout.ends_with("\n7 of 8 files are there\n"), "{again:#?}");
    let new = server.requests().split_off(expected.len());
    let expected = ["SHA256SUMS", "missing"].map(|name| (name.to_string(), 0));
    assert_eq!((&new[..], there()), (&expected[..], 7));
}

#[test]
fn downloader_refuses_what_is_no_list_of_names() {
    let _guard = support::guard();
    let folder = support::scratch();
    let folder = folder.path().to_str().expect("a path that is a text");
    for name in ["../outside", "/outside", "inside/.."] {
        let server = Server::start([(name, (Mood::Good, Vec::new()))].into()).expect("a server");
        let error = complaint("downloader", &[&server.url, folder]);
        assert!(error.contains("SHA256SUMS: not a checksum and a name: "), "{error}");
    }
    let usage = "downloader: usage: downloader [URL FOLDER]\n";
    assert_eq!(complaint("downloader", &["http://example.invalid/SHA256SUMS"]), usage);
}

#[test]
fn supervised_restarts_who_was_killed_and_squares_every_number_once() {
    let _guard = support::guard();
    assert_eq!(
        run("supervised").stdout,
        "cache:0 is ready, restarts: 0\nproducer:0 is ready, restarts: 0\n\
         squarer:0 is ready, restarts: 0\nsquarer:1 is ready, restarts: 0\n\
         squarer:1 ended\nsquarer:1 started\nsquarer:1 ready\n\
         cache:0 is ready, restarts: 0\nproducer:0 is done, restarts: 0\n\
         squarer:0 is done, restarts: 0\nsquarer:1 is done, restarts: 1\n\
         numbers: 1000, sum of their squares: 333833500\nslots: 4, restarts: 1, failed: 0\n"
    );
}
