//! What is asked of a supervisor through its control socket, and how its answers are printed.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use multiproc::supervisor::control::client::{Client, ClientError, Replies};
use multiproc::supervisor::control::protocol::{Outcome, Reply, Request, Until, encode};
use multiproc_sys::clock::Deadline;

use crate::arguments::{self, State, Waiting};
use crate::census::text::printable;
use crate::failure::Failure;
use crate::{instance, watch};

/// How long a supervisor may take to answer, besides what it was asked to wait.
const ANSWER: Duration = Duration::from_secs(10);

/// Asks an instance, and prints each reply with `print`, which returns nothing for those that people
/// need not see. The exit code is 1 if not all was done.
///
/// `wait` is how long the supervisor itself may wait; without it, it answers when it answers.
pub(crate) fn ask(
    name: Option<&str>,
    request: &Request,
    wait: Option<Duration>,
    print: impl FnMut(&Reply) -> Option<String>,
) -> Result<ExitCode, Failure> {
    let instance = instance::select(name)?;
    let name = instance.name;
    if instance.pid.is_none() {
        return Err(Failure::Dead(name));
    }
    let soon = Some(Deadline::after(ANSWER));
    let asked = Client::connect(&instance::control_path(&name)?, soon)
        .and_then(|client| client.ask(request, soon))
        .map_err(Told::Client);
    let deadline = wait.map(|wait| Deadline::after(ANSWER.saturating_add(wait)));
    asked.and_then(|replies| tell(replies, deadline, print)).map_err(|error| match error {
        Told::Client(error) => Failure::Control { name, error },
        Told::Output(error) => Failure::Output(error),
    })
}

/// Why an answer was not printed.
#[derive(Debug)]
enum Told {
    Client(ClientError),
    Output(std::io::Error),
}

impl From<ClientError> for Told {
    fn from(error: ClientError) -> Told {
        Told::Client(error)
    }
}

fn tell(
    mut replies: Replies,
    deadline: Option<Deadline>,
    mut print: impl FnMut(&Reply) -> Option<String>,
) -> Result<ExitCode, Told> {
    let mut output = std::io::stdout().lock();
    let mut all_done = true;
    while let Some(reply) = replies.next(deadline)? {
        if let Reply::Done { ok, message } = &reply {
            all_done = *ok;
            if let Some(message) = message {
                eprintln!("multiproc: {}", printable(message));
            }
        }
        if let Some(text) = print(&reply) {
            // Each at once: somebody may watch.
            let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
            written.map_err(Told::Output)?;
        }
    }
    Ok(if all_done { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// A reply as it came, a line of JSON.
pub(crate) fn json(reply: &Reply) -> Option<String> {
    encode(reply).ok().and_then(|line| String::from_utf8(line).ok())
}

/// What became of a slot, for people.
fn outcome(reply: &Reply) -> Option<String> {
    let Reply::Target(Outcome { target, ok, state, message }) = reply else { return None };
    let not = if *ok { "" } else { "not done: " };
    let message = message.as_ref().map_or(String::new(), |message| format!(": {message}"));
    Some(printable(&format!("{target}: {not}{state}{message}")) + "\n")
}

fn order(
    whom: &arguments::Whom,
    as_json: bool,
    waiting: &Waiting,
    request: impl FnOnce(Option<u64>) -> Request,
) -> Result<ExitCode, Failure> {
    let request = request((!waiting.no_wait).then(|| watch::millis(waiting.timeout)));
    let print = if as_json { json } else { outcome };
    ask(whom.name.as_deref(), &request, Some(waiting.timeout), print)
}

pub(crate) fn start(arguments: arguments::Order) -> Result<ExitCode, Failure> {
    let arguments::Order { targets, whom, waiting, json } = arguments;
    order(&whom, json, &waiting, |wait_ms| Request::Start { targets, wait_ms })
}

pub(crate) fn restart(arguments: arguments::Order) -> Result<ExitCode, Failure> {
    let arguments::Order { targets, whom, waiting, json } = arguments;
    order(&whom, json, &waiting, |wait_ms| Request::Restart { targets, wait_ms })
}

pub(crate) fn reset(arguments: arguments::Order) -> Result<ExitCode, Failure> {
    let arguments::Order { targets, whom, waiting, json } = arguments;
    order(&whom, json, &waiting, |wait_ms| Request::Reset { targets, wait_ms })
}

pub(crate) fn reload(arguments: arguments::Reload) -> Result<ExitCode, Failure> {
    let arguments::Reload { targets, whom, waiting, json } = arguments;
    order(&whom, json, &waiting, |wait_ms| {
        if targets.is_empty() {
            Request::ReloadConfiguration { wait_ms }
        } else {
            Request::Reload { targets, wait_ms }
        }
    })
}

/// Stops slots; the whole instance is stopped by [`stop`](crate::stop).
pub(crate) fn stop(arguments: arguments::Stop) -> Result<ExitCode, Failure> {
    let arguments::Stop { targets, whom, waiting, now, json } = arguments;
    order(&whom, json, &waiting, |wait_ms| {
        if now { Request::Kill { targets, wait_ms } } else { Request::Stop { targets, wait_ms } }
    })
}

pub(crate) fn scale(arguments: arguments::Scale) -> Result<ExitCode, Failure> {
    let arguments::Scale { worker, change, whom, waiting, json } = arguments;
    order(&whom, json, &waiting, |wait_ms| Request::Scale { worker, change, wait_ms })
}

pub(crate) fn signal(arguments: arguments::Signal) -> Result<ExitCode, Failure> {
    let arguments::Signal { signal, targets, whom, json: as_json } = arguments;
    let print = if as_json { json } else { outcome };
    ask(whom.name.as_deref(), &Request::Signal { targets, signal }, Some(Duration::ZERO), print)
}

pub(crate) fn wait(arguments: arguments::Wait) -> Result<ExitCode, Failure> {
    let arguments::Wait { targets, whom, until, timeout, json: as_json } = arguments;
    let until = match until {
        State::Ready => Until::Ready,
        State::Down => Until::Down,
    };
    let request = Request::Wait { targets, until, timeout_ms: timeout.map(watch::millis) };
    ask(whom.name.as_deref(), &request, timeout, if as_json { json } else { outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_is_a_line_that_commands_no_terminal() {
        let target = |ok, state: &str, message: Option<&str>| {
            let message = message.map(String::from);
            let outcome = Outcome { target: "web:0".into(), ok, state: state.into(), message };
            super::outcome(&Reply::Target(outcome)).unwrap()
        };
        assert_eq!(target(true, "ready", None), "web:0: ready\n");
        assert_eq!(
            target(false, "backoff", Some("too\nlate")),
            "web:0: not done: backoff: too\\nlate\n"
        );
        assert_eq!(super::outcome(&Reply::Done { ok: true, message: None }), None);
    }
}
