//! The requests and the replies: lines of JSON. See [`control`](super) for the format.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::lines::LINE_MAX;

/// The version of the protocol, which each line names.
pub const VERSION: u32 = 1;

/// What an operator wants. Targets are words, as [`target`](super::target) reads them.
///
/// Where there is a `wait_ms`, the supervisor answers when all targets have come to where they
/// should be, or after so many milliseconds; with `None` at once, when it has taken the order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Request {
    /// A [`Reply::Slot`] for each slot.
    Status {
        /// Which slots.
        targets: Vec<String>,
    },
    /// Up.
    Start {
        /// Which slots.
        targets: Vec<String>,
        /// How long to wait until they are ready.
        wait_ms: Option<u64>,
    },
    /// Down, gracefully.
    Stop {
        /// Which slots.
        targets: Vec<String>,
        /// How long to wait until they are down.
        wait_ms: Option<u64>,
    },
    /// Down at once: killed.
    Kill {
        /// Which slots.
        targets: Vec<String>,
        /// How long to wait until they are down.
        wait_ms: Option<u64>,
    },
    /// Down and up again: each target as a whole.
    Restart {
        /// Which slots.
        targets: Vec<String>,
        /// How long to wait until they are ready again.
        wait_ms: Option<u64>,
    },
    /// Replaced, one slot of a worker after the other, the next when the last is ready.
    Reload {
        /// Which slots.
        targets: Vec<String>,
        /// How long to wait until they are replaced.
        wait_ms: Option<u64>,
    },
    /// Another number of slots.
    Scale {
        /// Of which worker, by its name.
        worker: String,
        /// How many.
        change: Change,
        /// How long to wait until the new ones are ready and those that went are down.
        wait_ms: Option<u64>,
    },
    /// A signal to the leader of each process tree.
    Signal {
        /// Which slots.
        targets: Vec<String>,
        /// Its number.
        signal: i32,
    },
    /// Forget deaths: what has failed is started again, what waits is started now.
    Reset {
        /// Which slots.
        targets: Vec<String>,
        /// How long to wait until they are ready.
        wait_ms: Option<u64>,
    },
    /// Nothing but waiting.
    Wait {
        /// For which slots.
        targets: Vec<String>,
        /// Until they are where.
        until: Until,
        /// How long at most; for ever without.
        timeout_ms: Option<u64>,
    },
    /// A [`Reply::Line`] for each line that is remembered.
    Logs {
        /// Of which slots.
        targets: Vec<String>,
        /// At most so many of the last lines of each.
        lines: u32,
        /// Go on with those that come.
        follow: bool,
    },
    /// A [`Reply::Event`] for each event that is remembered.
    Events {
        /// At most so many of the last.
        lines: u32,
        /// Go on with those that come.
        follow: bool,
    },
    /// A [`Reply::Crash`] for each death that is remembered, the oldest first.
    Crashes {
        /// Of which slots.
        targets: Vec<String>,
        /// At most so many of the last of each.
        number: u32,
    },
    /// Read the configuration again, and make it so.
    ReloadConfiguration {
        /// How long to wait until what has changed is ready.
        wait_ms: Option<u64>,
    },
    /// Down with everything, the supervisor last.
    Shutdown {
        /// Without grace.
        now: bool,
    },
}

/// How many slots a worker is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// So many more, or fewer.
    By(i32),
    /// So many.
    To(u32),
}

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Each target is ready.
    Ready,
    /// No target has a process, nor will have one soon.
    Down,
}

/// A part of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Reply {
    /// What became of a slot.
    Target(Outcome),
    /// A line that a worker has written.
    Line(LogLine),
    /// Something that has happened.
    Event(EventLine),
    /// A death.
    Crash(Box<CrashReport>),
    /// How a slot is.
    Slot(SlotStatus),
    /// The end of an answer.
    Done {
        /// Whether all was done that was asked for.
        ok: bool,
        /// More about it.
        message: Option<String>,
    },
    /// The end of an answer: nothing was done.
    Error {
        /// What was wrong, for programs.
        code: ErrorCode,
        /// What was wrong, for people.
        message: String,
    },
}

impl Reply {
    /// Whether it is the last one of an answer.
    pub fn is_last(&self) -> bool {
        matches!(self, Reply::Done { .. } | Reply::Error { .. })
    }
}

/// What became of a slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The slot, as `NAME:INDEX`.
    pub target: String,
    /// Whether it is where it should be, or, of who does not wait, on its way.
    pub ok: bool,
    /// The phase that it is in.
    pub state: String,
    /// Why it is not where it should be, or what was worth saying.
    pub message: Option<String>,
}

/// Which of the two streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Its standard output.
    Stdout,
    /// Its standard error.
    Stderr,
}

/// A line that a worker has written. Nothing of it is escaped: who prints it must.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The worker's name.
    pub worker: String,
    /// Which of its slots.
    pub slot: u32,
    /// Where it was written to.
    pub stream: Stream,
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// The line, without its newline; what is no UTF-8 is replaced.
    pub text: String,
}

/// Something that has happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventLine {
    /// When, in milliseconds since 1970.
    pub time_ms: u64,
    /// What, a stable word in snake_case.
    pub kind: String,
    /// To which slot (`NAME:INDEX`), worker or group; none if it concerns the supervisor.
    pub target: Option<String>,
    /// The process, if there is one.
    pub pid: Option<u32>,
    /// Which incarnation of the slot, if it concerns one.
    pub incarnation: Option<u64>,
    /// The code that it exited with, or 128 and the number of the signal that killed it, if it has ended.
    #[serde(default)]
    pub exit_code: Option<i32>,
    /// What, for people. Parts that come from workers are not escaped.
    pub text: String,
}

/// A death, and what followed from it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CrashReport {
    /// The worker's name.
    pub worker: String,
    /// Which of its slots.
    pub slot: u32,
    /// Which incarnation of it.
    pub incarnation: u64,
    /// The process that there was, if it was started.
    pub pid: Option<u32>,
    /// When it ended, in milliseconds since 1970.
    pub time_ms: u64,
    /// Why it ended, a stable word in snake_case.
    pub cause: String,
    /// Why it ended, for people.
    pub text: String,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The code that it exited with.
    pub code: Option<i32>,
    /// Whether a core dump was written.
    pub core: bool,
    /// For how long it lived.
    pub uptime_ms: u64,
    /// Processor time that it spent in its own code.
    pub user_ms: u64,
    /// Processor time that the kernel spent for it.
    pub system_ms: u64,
    /// The most memory that it had at once.
    pub max_rss_bytes: u64,
    /// For how long it had not beaten; none if it never beat.
    pub beat_age_ms: Option<u64>,
    /// What it had done, by its own count.
    pub progress: u64,
    /// What it was at, by its own word.
    pub activity: Option<String>,
    /// The locks and leases that it held, by their names.
    pub held: Vec<String>,
    /// The last that it wrote to its standard error, at most 4 KiB, not escaped.
    pub stderr: String,
    /// What follows, a stable word in snake_case.
    pub decision: String,
    /// Until the restart at the earliest; zero if there is none, or no pause.
    pub delay_ms: u64,
}

/// How a slot is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SlotStatus {
    /// The worker's name.
    pub worker: String,
    /// Which of its slots.
    pub slot: u32,
    /// The phase that it is in.
    pub state: String,
    /// Its process.
    pub pid: Option<u32>,
    /// How often it was started.
    pub incarnation: u64,
    /// How often it was restarted, ever.
    pub restarts: u64,
    /// For how long it has been in this phase.
    pub state_age_ms: u64,
    /// For how long its process has lived.
    pub uptime_ms: Option<u64>,
    /// What its process has done, by its own count.
    pub progress: u64,
    /// For how long it has not beaten; none if it never beat.
    pub beat_age_ms: Option<u64>,
    /// Why its last process ended.
    pub last_cause: Option<String>,
}

/// Why a request was not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorCode {
    /// It names another version of the protocol.
    Version,
    /// It is no request.
    Malformed,
    /// There is no such target.
    NoTarget,
    /// It makes no sense: a number out of bounds, a signal that does not exist.
    Invalid,
    /// The sender may not.
    Denied,
    /// Too many ask at once.
    Busy,
    /// The supervisor is ending.
    Ending,
    /// The configuration has errors; nothing was changed.
    Configuration,
    /// The supervisor was not able to.
    Internal,
    /// Something that this version does not know.
    #[serde(other)]
    Unknown,
}

/// Why a line is no message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It names another version.
    #[error("version {0} of the protocol, where {VERSION} is spoken")]
    Version(u32),
    /// It is no JSON, or not of the expected form.
    #[error("not understood: {0}")]
    Malformed(#[from] serde_json::Error),
    /// It would be too long.
    #[error("a message of {0} bytes, where {LINE_MAX} fit")]
    TooLong(usize),
}

impl ProtocolError {
    /// What a supervisor answers.
    pub fn code(&self) -> ErrorCode {
        match self {
            ProtocolError::Version(_) => ErrorCode::Version,
            ProtocolError::Malformed(_) => ErrorCode::Malformed,
            ProtocolError::TooLong(_) => ErrorCode::Invalid,
        }
    }
}

/// A [`Request`] or a [`Reply`].
pub trait Message: Serialize + DeserializeOwned {}

impl Message for Request {}
impl Message for Reply {}

#[derive(Serialize)]
struct Outgoing<'a, M> {
    version: u32,
    #[serde(flatten)]
    message: &'a M,
}

#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// A message as a line, with its newline.
///
/// # Errors
/// [`TooLong`](ProtocolError::TooLong).
///
/// ```
/// use multiproc_supervisor::control::protocol::{Request, encode};
///
/// let line = encode(&Request::Shutdown { now: true })?;
/// assert_eq!(line, b"{\"version\":1,\"request\":\"shutdown\",\"now\":true}\n");
/// # Ok::<(), multiproc_supervisor::control::protocol::ProtocolError>(())
/// ```
pub fn encode<M: Message>(message: &M) -> Result<Vec<u8>, ProtocolError> {
    let mut line = serde_json::to_vec(&Outgoing { version: VERSION, message })?;
    line.push(b'\n');
    if line.len() > LINE_MAX { Err(ProtocolError::TooLong(line.len())) } else { Ok(line) }
}

/// The message of a line, with or without its newline. Members that are not known are ignored.
///
/// # Errors
/// [`Version`](ProtocolError::Version) and [`Malformed`](ProtocolError::Malformed).
pub fn decode<M: Message>(line: &[u8]) -> Result<M, ProtocolError> {
    let Versioned { version } = serde_json::from_slice(line)?;
    if version != VERSION {
        return Err(ProtocolError::Version(version));
    }
    Ok(serde_json::from_slice(line)?)
}

#[cfg(test)]
mod tests {
    use std::fmt::Debug;

    use super::*;

    /// What is sent for a message, which is read again as the same.
    fn sent<M: Message + Debug + PartialEq>(message: M) -> String {
        let line = encode(&message).unwrap();
        assert_eq!(decode::<M>(&line).unwrap(), message);
        let text = String::from_utf8(line).unwrap();
        text.strip_suffix('\n').unwrap().to_string()
    }

    fn web() -> Vec<String> {
        vec!["web".into()]
    }

    #[test]
    fn requests_have_the_shapes_that_they_always_had() {
        let wait_ms = Some(5);
        let shapes = [
            (Request::Status { targets: web() }, r#""status","targets":["web"]"#),
            (
                Request::Start { targets: web(), wait_ms },
                r#""start","targets":["web"],"wait_ms":5"#,
            ),
            (
                Request::Stop { targets: web(), wait_ms: None },
                r#""stop","targets":["web"],"wait_ms":null"#,
            ),
            (Request::Kill { targets: web(), wait_ms }, r#""kill","targets":["web"],"wait_ms":5"#),
            (
                Request::Restart { targets: web(), wait_ms },
                r#""restart","targets":["web"],"wait_ms":5"#,
            ),
            (
                Request::Reload { targets: web(), wait_ms },
                r#""reload","targets":["web"],"wait_ms":5"#,
            ),
            (
                Request::Scale { worker: "web".into(), change: Change::By(-1), wait_ms },
                r#""scale","worker":"web","change":{"by":-1},"wait_ms":5"#,
            ),
            (
                Request::Scale { worker: "web".into(), change: Change::To(4), wait_ms },
                r#""scale","worker":"web","change":{"to":4},"wait_ms":5"#,
            ),
            (
                Request::Signal { targets: web(), signal: 1 },
                r#""signal","targets":["web"],"signal":1"#,
            ),
            (
                Request::Reset { targets: web(), wait_ms },
                r#""reset","targets":["web"],"wait_ms":5"#,
            ),
            (
                Request::Wait { targets: web(), until: Until::Down, timeout_ms: Some(7) },
                r#""wait","targets":["web"],"until":"down","timeout_ms":7"#,
            ),
            (
                Request::Logs { targets: web(), lines: 10, follow: true },
                r#""logs","targets":["web"],"lines":10,"follow":true"#,
            ),
            (Request::Events { lines: 10, follow: false }, r#""events","lines":10,"follow":false"#),
            (
                Request::Crashes { targets: web(), number: 3 },
                r#""crashes","targets":["web"],"number":3"#,
            ),
            (Request::ReloadConfiguration { wait_ms }, r#""reload_configuration","wait_ms":5"#),
            (Request::Shutdown { now: false }, r#""shutdown","now":false"#),
        ];
        for (request, shape) in shapes {
            assert_eq!(sent(request), format!(r#"{{"version":1,"request":{shape}}}"#));
        }
    }

    #[test]
    fn replies_have_the_shapes_that_they_always_had() {
        let shapes = [
            (
                Reply::Target(Outcome {
                    target: "web:0".into(),
                    ok: true,
                    state: "ready".into(),
                    message: None,
                }),
                r#""target","target":"web:0","ok":true,"state":"ready","message":null"#,
            ),
            (
                Reply::Line(LogLine {
                    worker: "web".into(),
                    slot: 1,
                    stream: Stream::Stderr,
                    time_ms: 5,
                    text: "\u{1b}".into(),
                }),
                r#""line","worker":"web","slot":1,"stream":"stderr","time_ms":5,"text":"\u001b""#,
            ),
            (
                Reply::Event(EventLine {
                    time_ms: 5,
                    kind: "started".into(),
                    target: Some("web:0".into()),
                    pid: Some(42),
                    incarnation: Some(1),
                    exit_code: None,
                    text: "x".into(),
                }),
                concat!(
                    r#""event","time_ms":5,"kind":"started","target":"web:0","pid":42,"#,
                    r#""incarnation":1,"exit_code":null,"text":"x""#,
                ),
            ),
            (
                Reply::Crash(Box::default()),
                concat!(
                    r#""crash","worker":"","slot":0,"incarnation":0,"pid":null,"time_ms":0,"#,
                    r#""cause":"","text":"","signal":null,"code":null,"core":false,"uptime_ms":0,"#,
                    r#""user_ms":0,"system_ms":0,"max_rss_bytes":0,"beat_age_ms":null,"#,
                    r#""progress":0,"activity":null,"held":[],"stderr":"","decision":"","#,
                    r#""delay_ms":0"#,
                ),
            ),
            (
                Reply::Slot(SlotStatus::default()),
                concat!(
                    r#""slot","worker":"","slot":0,"state":"","pid":null,"incarnation":0,"#,
                    r#""restarts":0,"state_age_ms":0,"uptime_ms":null,"progress":0,"#,
                    r#""beat_age_ms":null,"last_cause":null"#,
                ),
            ),
            (Reply::Done { ok: true, message: None }, r#""done","ok":true,"message":null"#),
            (
                Reply::Error { code: ErrorCode::NoTarget, message: "x".into() },
                r#""error","code":"no_target","message":"x""#,
            ),
        ];
        for (reply, shape) in shapes {
            assert_eq!(sent(reply), format!(r#"{{"version":1,"reply":{shape}}}"#));
        }
    }

    #[test]
    fn line_of_another_version_is_told_from_one_that_is_nonsense() {
        let error = |line: &str| decode::<Request>(line.as_bytes()).unwrap_err().code();
        assert_eq!(error(r#"{"version":2,"request":"what"}"#), ErrorCode::Version);
        for line in ["", "x", "{}", "[]", r#"{"version":1}"#, r#"{"version":1,"request":"what"}"#] {
            assert_eq!(error(line), ErrorCode::Malformed, "{line}");
        }
    }

    #[test]
    fn line_with_members_of_a_later_day_is_understood() {
        let line = br#"{"version":1,"request":"shutdown","now":true,"gently":{"very":[]}}"#;
        assert_eq!(decode::<Request>(line).unwrap(), Request::Shutdown { now: true });
        let line = br#"{"version":1,"reply":"error","code":"tired","message":"x"}"#;
        let Reply::Error { code, .. } = decode(line).unwrap() else { panic!("an error") };
        assert_eq!(code, ErrorCode::Unknown);
    }

    #[test]
    fn message_that_is_too_long_is_not_sent() {
        let long = Request::Status { targets: vec!["x".repeat(LINE_MAX)] };
        assert!(matches!(encode(&long), Err(ProtocolError::TooLong(_))));
    }
}
