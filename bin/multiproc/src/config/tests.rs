//! Files, good and bad, and what is said about them.

use std::path::Path;
use std::time::Duration;

use multiproc::Limit;
use multiproc::supervisor::core::{Intensity, OnExhausted, Restart, Strategy};

use super::keys::{KEYS, Key, Section};
use super::*;

fn read(text: &str) -> Result<Configuration, Problems> {
    parse("it.toml", Path::new("/etc/it"), text)
}

#[track_caller]
fn good(text: &str) -> Configuration {
    read(text).unwrap_or_else(|problems| panic!("{problems}"))
}

/// A worker that is as short as can be, after which a test goes on.
const WEB: &str = "[worker.web]\ncommand = \"web\"\n";

#[test]
fn file_with_everything_is_read_as_it_says() {
    let file = good(
        r#"
        [supervisor]
        name = "shop"
        log_directory = "logs"

        [worker.web]
        command = "./server --greet 'hello, world'"
        count = 4
        directory = "srv"
        environment = { A = "1", B = "" }
        limits = { memory = "512MiB", core = 0 }
        restart = "transient"
        ready = "fd:5"
        stop_signal = "INT"
        intensity.window = "10m"
        recycle = { tasks = 1000, age = "1h" }
        sockets = ["tcp://127.0.0.1:8000", "unix:///run/x"]
        log = { file = "web.log", size = "1MiB" }
        log_memory = "4KiB"
        user = "root"

        [worker.cache]
        command = ["/bin/cache"]

        [worker.db]
        command = ["db"]

        [group.front]
        workers = ["cache", "web"]
        strategy = "rest_for_one"
        intensity = { deaths = 7 }
        after = ["db"]

        [group.db]
        on_exhausted = "slow_retry"
        "#,
    );
    assert_eq!(file.supervisor.name.as_deref(), Some("shop"));
    assert_eq!(file.supervisor.log_directory, Path::new("/etc/it/logs"));
    let [web, cache, _] = &file.workers[..] else { panic!("three workers: {file:?}") };
    assert_eq!(web.command, ["./server", "--greet", "hello, world"]);
    assert_eq!((web.count, web.directory.as_path()), (4, Path::new("/etc/it/srv")));
    assert_eq!(web.environment.len(), 2);
    assert_eq!(web.limits, [Limit::Memory(512 << 20), Limit::Core(0)]);
    assert_eq!((web.restart, web.ready), (Restart::Transient, Ready::Descriptor(5)));
    assert_eq!(web.stop_signal, 2);
    assert_eq!(web.intensity, Intensity { deaths: 10, window: Duration::from_secs(600) });
    assert_eq!((web.recycle.tasks, web.recycle.jitter), (Some(1000), 10));
    assert_eq!(web.sockets.len(), 2);
    assert_eq!(web.user, Some((0, 0)));
    assert_eq!(web.log.file.as_deref(), Some(Path::new("web.log")));
    assert_eq!((web.log.size, web.log.keep, web.log.memory), (1 << 20, 5, 4096));
    assert_eq!(cache.directory, Path::new("/etc/it"));
    let [front, db] = &file.groups[..] else { panic!("two groups: {file:?}") };
    assert_eq!((&front.name[..], front.strategy), ("front", Strategy::RestForOne));
    assert_eq!(front.workers, ["cache", "web"]);
    assert_eq!(front.intensity.map(|intensity| intensity.deaths), Some(7));
    assert_eq!(front.after, ["db"]);
    assert_eq!(
        (&db.workers[..], db.on_exhausted),
        (&["db".to_string()][..], OnExhausted::SlowRetry)
    );
}

#[test]
fn worker_in_no_group_is_one_by_itself_in_the_order_of_the_file() {
    let file = good("[worker.z]\ncommand = \"z\"\n[worker.a]\ncommand = \"a\"\n");
    let names: Vec<&str> = file.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["z", "a"]);
    assert_eq!(file.groups[0].workers, ["z"]);
}

/// What is said about a file that begins with `WEB`, without the name of the file.
#[track_caller]
fn complaints(rest: &str) -> String {
    let text = format!("{WEB}{rest}");
    let problems = read(&text).expect_err(&text).to_string();
    let lines: Vec<&str> = problems
        .lines()
        .map(|line| line.strip_prefix("it.toml:").expect("the file's name"))
        .collect();
    lines.join("\n")
}

#[test]
fn mistakes_are_named_by_line_and_key_with_the_way_out() {
    let table = [
        ("cuont = 4", "3: worker.web.cuont: no such key: is \"count\" meant?"),
        ("count = \"4\"", "3: worker.web.count: this is a string: write an integer"),
        ("count = -1", "3: worker.web.count: -1 is out of bounds: write 0 to 2000"),
        ("count = 0xfff", "3: worker.web.count: 0xfff is out of bounds: write 0 to 2000"),
        ("nice = 20", "3: worker.web.nice: 20 is out of bounds: write -20 to 19"),
        (
            "stop_grace = 10",
            "3: worker.web.stop_grace: this is an integer: write a duration, as \"10s\"",
        ),
        (
            "stop_grace = \"10\"",
            "3: worker.web.stop_grace: \"10\" is no duration: write numbers with ms, s, m, h or d, \
             as \"1m30s\"",
        ),
        ("stall = \"0s\"", "3: worker.web.stall: no time at all: write at least \"1ms\""),
        (
            "limits.memory = \"1K\"",
            "3: worker.web.limits.memory: \"1K\" is no size: write a number with B, KiB, MiB, GiB, \
             TiB, kB, MB, GB or TB",
        ),
        ("limits = 5", "3: worker.web.limits: this is an integer: write a table"),
        ("limits.memori = 5", "3: worker.web.limits.memori: no such key: is \"memory\" meant?"),
        (
            "restart = \"always\"",
            "3: worker.web.restart: \"always\" is none of \"permanent\", \"transient\", \"temporary\"",
        ),
        (
            "stop_signal = \"STAHP\"",
            "3: worker.web.stop_signal: \"STAHP\" is no signal: write a name, as TERM",
        ),
        (
            "environment = { A = 1 }",
            "3: worker.web.environment: A: this is an integer: write a string",
        ),
        (
            "environment = { \"A=B\" = \"\" }",
            "3: worker.web.environment: \"A=B\" is no name of a variable",
        ),
        (
            "ready = \"fd:1\"",
            "3: worker.web.ready: \"fd:1\": write a descriptor from 3 to 1023, as \"fd:3\"",
        ),
        (
            "ready = \"notify\"\nready_after = \"1s\"",
            "4: worker.web.ready_after: means something with `ready = \"survive\"` only",
        ),
        (
            "sockets = [\"localhost\"]",
            "3: worker.web.sockets: \"localhost\" is no address: write \"tcp://127.0.0.1:8000\" or \
             \"unix:///run/it.sock\"",
        ),
        (
            "sockets = [\"unix:///x\"]\nready = \"fd:3\"",
            "4: worker.web.ready: the sockets have this descriptor: write \"fd:4\"",
        ),
        ("clean_codes = [256]", "3: worker.web.clean_codes: 256 is out of bounds: write 0 to 255"),
        ("backoff.first = \"1h\"", "3: worker.web.backoff: `first` is longer than `max`"),
        ("log.keep = 3", "3: worker.web.log: says nothing without `file`"),
        (
            "log.file = \"x\"\nstdout = \"null\"\nstderr = \"null\"",
            "3: worker.web.log.file: nothing is logged: write `stdout = \"log\"` or `stderr = \"log\"`",
        ),
        ("group = \"root\"", "3: worker.web.group: says nothing without `user`"),
        ("user = 5", "3: worker.web.user: a number has no group: write `group` too"),
        ("user = \"no one\"", "3: worker.web.user: \"no one\" is not in /etc/passwd"),
        ("processors = []", "3: worker.web.processors: it must run somewhere: name at least one"),
        (
            "[worker.two]",
            "3: worker.two.command: missing: write what to run, as [\"./server\", \"--port\", \"8000\"]",
        ),
        (
            "[worker.two]\ncommand = \"echo 'x\"",
            "4: worker.two.command: a quote is not closed, or a backslash is the last letter",
        ),
        ("[worker.two]\ncommand = []", "4: worker.two.command: no program is named"),
        (
            "[worker.two]\ncommand = [1]",
            "4: worker.two.command: this is an integer: write a string",
        ),
        (
            "[worker.two]\ncommand = \"x\"\ncount = 2000",
            "1: worker: 2001 slots in all, where 2000 are possible",
        ),
        (
            "[worker.\"a b\"]\ncommand = \"x\"",
            "3: worker.a b: \"a b\" is no name: 1 to 32 letters, digits, '-' or '_'",
        ),
        (
            "[worker.all]\ncommand = \"x\"",
            "3: worker.all: \"all\" means everything: choose another name",
        ),
        ("[workers.two]\ncommand = \"x\"", "3: workers: no such section: is \"worker\" meant?"),
        ("[job.x]", "3: job: no such section: there are supervisor, worker, group"),
        (
            "[supervisor]\nname = \"a/b\"",
            "4: supervisor.name: \"a/b\" cannot name an instance: 1 to 64 letters, digits, '-' or '_'",
        ),
        (
            "[supervisor]\nexit_code_from = \"wbe\"",
            "4: supervisor.exit_code_from: no such worker: is \"web\" meant?",
        ),
        ("[group.g]\nworkers = [\"wbe\"]", "4: group.g.workers: no such worker: is \"web\" meant?"),
        ("[group.g]\nworkers = [\"web\", \"web\"]", "4: group.g.workers: \"web\" is named twice"),
        (
            "[group.g]\nworkers = []",
            "4: group.g.workers: missing: write the names of its workers, or of a group's section the name of a worker",
        ),
        (
            "[group.g]\nworkers = [\"web\"]\n[group.h]\nworkers = [\"web\"]",
            "6: group.h.workers: \"web\" is in the group \"g\" already",
        ),
        (
            "[group.g]\nintensity.window = \"5s\"\nworkers = [\"web\"]",
            "4: group.g.intensity: says nothing without `deaths`",
        ),
        (
            "[group.g]\nworkers = [\"web\"]\nafter = [\"web\"]",
            "5: group.g.after: the worker \"web\" is in the group \"g\": write that",
        ),
        ("[group.web]\nafter = [\"db\"]", "4: group.web.after: no such group: there are web"),
        (
            "[group.web]\nafter = [\"web\"]",
            "4: group.web.after: web waits for web: take one of these away",
        ),
        (
            "[worker.db]\ncommand = \"x\"\n[group.db]\nafter = [\"web\"]\n[group.web]\nafter = [\"db\"]",
            "8: group.web.after: web waits for db waits for web: take one of these away",
        ),
        (
            "sockets = [\"unix:///x\"]\n[worker.db]\ncommand = \"x\"\nsockets = [\"unix:///x\"]",
            "6: worker.db.sockets: the worker \"web\" listens at one of these already",
        ),
        (
            "log.file = \"x\"\n[worker.db]\ncommand = \"x\"\nlog.file = \"x\"",
            "6: worker.db.log.file: the worker \"web\" writes to this file already",
        ),
    ];
    for (rest, expected) in table {
        assert_eq!(complaints(rest), expected, "of:\n{rest}");
    }
}

#[test]
fn mistakes_are_all_named_at_once_in_the_order_of_the_lines() {
    let text =
        "[group.g]\nworkers = [\"x\"]\n[worker.web]\ncount = \"1\"\ncolour = 1\n[worker.db]\n";
    let problems = read(text).unwrap_err().to_string();
    assert_eq!(
        problems.lines().map(|line| line.split(": ").take(2).collect()).collect::<Vec<String>>(),
        [
            "it.toml:2group.g.workers",
            "it.toml:3worker.web.command",
            "it.toml:4worker.web.count",
            "it.toml:5worker.web.colour",
            "it.toml:6worker.db.command",
        ]
    );
}

#[test]
fn file_that_is_no_toml_or_says_nothing_is_refused() {
    let problems = read("[worker.web]\ncommand = \"x\ncount = 1\n").unwrap_err().to_string();
    assert!(problems.starts_with("it.toml:2: "), "{problems}");
    assert_eq!(
        read("").unwrap_err().to_string(),
        "it.toml:1: worker: nothing to run: write a section [worker.NAME]"
    );
    let twice = read("[worker.a]\ncommand = \"x\"\ncommand = \"y\"\n").unwrap_err().to_string();
    assert!(twice.starts_with("it.toml:3: duplicate key"), "{twice}");
    assert!(read("worker = 5\nsupervisor = 6\ngroup = 7\n").is_err());
}

#[test]
fn key_that_would_command_the_terminal_is_escaped() {
    let problems = read("[worker.\"\\u001b[2J\"]\ncommand = \"x\"\n").unwrap_err().to_string();
    assert!(!problems.contains('\u{1b}'), "{problems:?}");
}

/// A file in which a key is said, beside what it needs.
fn file_with(key: &Key, value: &str) -> String {
    let mut lines = vec!["[worker.db]", "command = \"db\"", "[group.db]"];
    let said = format!("{} = {value}", key.name);
    let section = |section| if key.section == section { said.as_str() } else { "" };
    lines.extend(["[supervisor]", section(Section::Supervisor), "[worker.web]"]);
    if key.name != "command" {
        lines.push("command = \"web\"");
    }
    if key.name.starts_with("log.") && key.name != "log.file" {
        lines.push("log.file = \"x\"");
    }
    if (key.section, key.name) == (Section::Worker, "group") {
        lines.push("user = \"root\"");
    }
    lines.extend([section(Section::Worker), "[group.front]"]);
    if key.name != "workers" {
        lines.push("workers = [\"web\"]");
    }
    if key.section == Section::Group && key.name == "intensity.window" {
        lines.push("intensity.deaths = 9");
    }
    lines.extend([section(Section::Group), ""]);
    lines.join("\n")
}

#[test]
fn keys_of_the_table_are_read() {
    for key in KEYS {
        good(&file_with(key, key.example));
        // What isn't read could have any type.
        let problems = read(&file_with(key, "1979-05-27")).expect_err(key.name).to_string();
        assert!(problems.contains(&format!("{}: ", key.name)), "{}: {problems}", key.name);
        assert!(problems.contains("this is a datetime"), "{}: {problems}", key.name);
    }
}

#[test]
fn keys_of_the_table_have_the_defaults_that_it_says() {
    for key in KEYS.iter().filter(|key| !key.default.is_empty()) {
        let (without, with) = (file_with(key, key.default), file_with(key, key.default));
        let said = format!("{} = {}\n", key.name, key.default);
        let without = without.replacen(&said, "\n", 1);
        assert_ne!(without, with);
        assert_eq!(good(&without), good(&with), "{}", key.name);
        assert_ne!(good(&without), good(&file_with(key, key.example)), "{}", key.name);
    }
}

#[test]
fn keys_of_the_table_are_documented_in_the_file() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    let command = "cargo run -p multiproc-cli -- document configuration > docs/configuration.md";
    assert!(written == document(), "docs/configuration.md is out of date: {command}");
}

/// A file below docs/.
fn example(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn example_of_a_configuration_is_right() {
    let file = good(&example("multiproc.toml"));
    let groups: Vec<&str> = file.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(groups, ["front", "mailer", "migrate"]);
}

#[test]
fn example_of_a_unit_runs_this_command_and_is_what_it_relies_on() {
    let unit = example("multiproc.service");
    let mut section = "";
    let mut settings = std::collections::BTreeMap::new();
    for line in unit.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            Some(name) => section = name,
            None => {
                let (key, value) = line.split_once('=').expect(line);
                let twice = settings.insert(format!("{section}.{key}"), value);
                assert_eq!(twice, None, "{line}");
            }
        }
    }
    let setting = |key: &str| *settings.get(key).unwrap_or_else(|| panic!("no {key}"));
    assert_eq!(setting("Service.Type"), "notify");
    assert_eq!(setting("Service.KillMode"), "mixed");
    assert_eq!(setting("Service.Delegate"), "yes");
    assert_eq!(setting("Service.ExecReload"), "/bin/kill -HUP $MAINPID");
    let words: Vec<&str> = setting("Service.ExecStart").split(' ').collect();
    assert!(words[0].ends_with("/multiproc"));
    assert_eq!(words[1..3], ["run", "-c"]);
}
