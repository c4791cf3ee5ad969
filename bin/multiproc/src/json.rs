//! `docs/json.md`: the JSON that the command prints, by an example of each form.

use std::fmt::Write;

use multiproc::supervisor::control::protocol::{
    CrashReport, ErrorCode, EventLine, LogLine, Outcome, Reply, SlotStatus, Stream, encode,
};

use crate::status;

const HEAD: &str = "\
# The JSON that the command prints

Each object has a `version`. Within a version members are added, and none is changed or taken away: ignore those that
you don't know. Names are in snake_case; `_ms` are milliseconds, `time_ms` since 1970, `_bytes` are bytes. What is not
known is `null`. Texts are as the workers wrote them, with control characters escaped as JSON has it.

This file is made by `cargo run -p multiproc-cli -- document json > docs/json.md`.

## `multiproc status --json`

One object. `state` is one of idle, waiting, spawning, starting, ready, stalled, stopping, unkillable, backoff, done,
failed; gone if the supervisor was killed.

";

const STREAMS: &str = "
## What a supervisor answers

`logs`, `events` and `crashes` with `--json` print an object per line; `start`, `stop`, `restart`, `reload`, `reset`,
`scale`, `signal` and `wait` print a `target` per slot, and a `done` at the end. The same objects come through the
control socket, `NAME.sock` beside `NAME.lock` in the directory of instances: send a request, a line of JSON, and read
lines until `done` or `error`.

";

/// The text of the file.
pub(crate) fn document() -> String {
    let status = serde_json::to_string_pretty(&status::example()).unwrap_or_default();
    let mut text = format!("{HEAD}```json\n{status}\n```\n{STREAMS}");
    for (title, reply) in replies() {
        let line = encode(&reply).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        let _ = write!(text, "### `{title}`\n\n```json\n{line}```\n\n");
    }
    text.trim_end().to_string() + "\n"
}

/// An example of each reply.
fn replies() -> Vec<(&'static str, Reply)> {
    let (worker, time_ms) = (String::from("web"), 1_795_318_772_123);
    let target = Outcome {
        target: "web:0".into(),
        ok: false,
        state: "backoff".into(),
        message: Some("not ready in time".into()),
    };
    let line = LogLine {
        worker: worker.clone(),
        slot: 0,
        stream: Stream::Stdout,
        time_ms,
        text: "listening".into(),
    };
    let event = EventLine {
        time_ms,
        kind: "started".into(),
        target: Some("web:0".into()),
        pid: Some(4711),
        incarnation: Some(3),
        exit_code: None,
        text: "restarted as process 4711".into(),
    };
    let crash = CrashReport {
        worker: worker.clone(),
        incarnation: 2,
        pid: Some(4702),
        time_ms,
        cause: "signal".into(),
        text: "killed by SIGSEGV (core dumped)".into(),
        signal: Some(11),
        core: true,
        uptime_ms: 61_005,
        user_ms: 900,
        system_ms: 100,
        max_rss_bytes: 8_388_608,
        beat_age_ms: Some(120),
        progress: 1_042,
        activity: Some("request 5".into()),
        held: vec!["lock totals".into()],
        stderr: "panicked\n".into(),
        decision: "restart".into(),
        delay_ms: 250,
        ..CrashReport::default()
    };
    let slot = SlotStatus {
        worker,
        state: "ready".into(),
        pid: Some(4711),
        incarnation: 3,
        restarts: 2,
        state_age_ms: 61_000,
        uptime_ms: Some(62_000),
        progress: 1_042,
        beat_age_ms: Some(120),
        last_cause: Some("signal".into()),
        ..SlotStatus::default()
    };
    vec![
        ("target", Reply::Target(target)),
        ("line", Reply::Line(line)),
        ("event", Reply::Event(event)),
        ("crash", Reply::Crash(Box::new(crash))),
        ("slot", Reply::Slot(slot)),
        ("done", Reply::Done { ok: false, message: Some("1 of 2 are not ready".into()) }),
        (
            "error",
            Reply::Error { code: ErrorCode::NoTarget, message: "nothing is named \"wbe\"".into() },
        ),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn json_is_documented_as_it_is() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/json.md");
        let written = std::fs::read_to_string(path).unwrap_or_default();
        let command = "cargo run -p multiproc-cli -- document json > docs/json.md";
        assert!(written == document(), "docs/json.md is out of date: {command}");
    }

    #[test]
    fn json_has_integers_and_names_in_snake_case_only() {
        fn check(value: &Value) {
            match value {
                Value::Number(number) => assert!(!number.is_f64(), "{number}"),
                Value::Array(values) => values.iter().for_each(check),
                Value::Object(members) => members.iter().for_each(|(name, value)| {
                    let plain = |letter: char| letter.is_ascii_lowercase() || letter == '_';
                    assert!(name.chars().all(plain), "{name}");
                    check(value);
                }),
                _ => {}
            }
        }
        check(&serde_json::to_value(status::example()).unwrap());
        for (title, reply) in replies() {
            let value: Value = serde_json::from_slice(&encode(&reply).unwrap()).unwrap();
            assert_eq!((&value["version"], &value["reply"]), (&1.into(), &title.into()));
            check(&value);
        }
    }
}
