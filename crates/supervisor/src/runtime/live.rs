//! A process of a worker, from its start to its end.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use multiproc_process::{Child, SpawnError, Stdio};
use multiproc_sys::clock;

use super::notify::{Ear, Pair};
use super::vitals::Vitals;
use crate::board::Board;
use crate::core::{Activity, Place, Readiness, Sample};
use crate::logs::Tap;
use crate::pulse::{self, Word};
use crate::sockets::{Address, Listening};
use crate::worker::{Output, Program, ReadyBy, Worker};

/// What all processes are given.
pub(super) struct Ground {
    pub(super) board: Option<Board>,
    /// The name under which the board is published.
    pub(super) board_name: String,
    /// The segment's name, if it has one.
    pub(super) segment: Option<String>,
    /// Descriptors that all inherit.
    pub(super) keep: Vec<Arc<OwnedFd>>,
    /// Variables that all have.
    pub(super) variables: Vec<(String, String)>,
    pub(super) sockets: BTreeMap<Address, Arc<Listening>>,
    /// Lines of the board's words and pulses that no process has.
    pub(super) free_lines: Vec<usize>,
}

/// A process that was started and is not known to have ended.
pub(super) struct Live {
    pub(super) place: Place,
    pub(super) child: Child,
    pub(super) ear: Option<Ear>,
    /// The user that it became.
    pub(super) user: Option<u32>,
    /// Its standard output and error.
    pub(super) taps: [Option<Tap>; 2],
    /// Its line in shared memory.
    pub(super) line: Option<usize>,
    pub(super) started: Duration,
    /// When it became ready.
    pub(super) ready: Option<Duration>,
    /// Its last beat, and when that was seen to be new.
    beat: Option<(u64, Duration)>,
    vitals: Option<Vitals>,
}

/// A macro, as a command and a spawner have the same methods and no trait.
macro_rules! completed {
    ($start:expr, $extras:expr) => {{
        let extras = $extras;
        let mut start = $start;
        for (name, value) in &extras.variables {
            start = match value {
                Some(value) => start.env(name, value),
                None => start.env_remove(name),
            };
        }
        for kept in &extras.keep {
            start = start.keep(kept.clone());
        }
        let [stdout, stderr] = extras.streams.clone();
        start.stdout(stdout).stderr(stderr)
    }};
}

/// What a process gets besides what its worker says.
struct Extras {
    variables: Vec<(String, Option<String>)>,
    keep: Vec<Arc<OwnedFd>>,
    streams: [Stdio; 2],
}

impl Live {
    /// Starts a process.
    pub(super) fn start(
        worker: &Worker,
        place: Place,
        ground: &mut Ground,
        cgroup: Option<Arc<OwnedFd>>,
    ) -> Result<Live, SpawnError> {
        let pair = ear_of(worker, place).map_err(SpawnError::Descriptors)?;
        let (ear, end) = pair.map_or((None, None), |Pair { ear, end }| (Some(ear), end));
        let line = ground.free_lines.pop();
        if let (Some(board), Some(line)) = (&ground.board, line) {
            board.ask_stop(line, false);
        }
        let extras = Extras {
            variables: variables(worker, place, ground, line, ear.as_ref()),
            keep: ground.keep.clone(),
            streams: worker.output.map(|output| match output {
                Output::Log => Stdio::Piped,
                Output::Inherit => Stdio::Inherit,
                Output::Null => Stdio::Null,
            }),
        };
        let started = match &worker.program {
            Program::Command(command) => {
                let mut command = completed!(command.as_ref().clone(), &extras).attended();
                if let Some(processes) = cgroup {
                    command = command.cgroup(processes);
                }
                for address in &worker.sockets {
                    if let Some(socket) = ground.sockets.get(address) {
                        command = command.listen_on(&address.to_string(), socket.socket());
                    }
                }
                if let (ReadyBy::Descriptor(number), Some(end)) = (worker.ready_by, end) {
                    command = command.pass(end, number);
                }
                command.spawn()
            }
            Program::Function(launch) => launch(&|spawner| completed!(spawner, &extras)),
        };
        let child = started.inspect_err(|_| ground.free_lines.extend(line))?;
        let tap = |pipe: Option<io::PipeReader>| pipe.and_then(|pipe| Tap::new(pipe).ok());
        let taps = [tap(child.take_stdout()), tap(child.take_stderr())];
        let user = match &worker.program {
            Program::Command(command) => command.user_id(),
            Program::Function(_) => None,
        };
        let mut live = Live::of(place, child, ear, taps);
        (live.user, live.line) = (user, line);
        Ok(live)
    }

    /// A process that was started just now, of which nothing else is known.
    pub(super) fn of(place: Place, child: Child, ear: Option<Ear>, taps: [Option<Tap>; 2]) -> Live {
        let (user, line, ready, beat, vitals) = Default::default();
        Live { place, child, ear, user, taps, line, started: clock::now(), ready, beat, vitals }
    }

    /// What its line says.
    pub(super) fn word(&self, board: Option<&Board>) -> Word {
        match (board, self.line) {
            (Some(board), Some(line)) => Word::read(board.pulses(), line, self.place.incarnation),
            _ => Word::default(),
        }
    }

    /// Looks how it fares.
    pub(super) fn sample(&mut self, board: Option<&Board>) -> Sample {
        let word = self.word(board);
        self.note_beat(&word);
        let vitals = Vitals::of(self.child.pid());
        let before = std::mem::replace(&mut self.vitals, vitals);
        let hindered = match (vitals, before) {
            (Some(now), Some(before)) => now.is_hindered_since(&before),
            _ => false,
        };
        Sample {
            beat: word.beat,
            activity: word.activity.unwrap_or(Activity::Working),
            tasks: word.tasks.max(self.child.progress()),
            memory: vitals.map_or(0, |vitals| vitals.memory),
            hindered,
        }
    }

    fn note_beat(&mut self, word: &Word) {
        if let Some(beat) = word.beat
            && self.beat.is_none_or(|(last, _)| last != beat)
        {
            self.beat = Some((beat, clock::now()));
        }
    }

    /// When it was last seen to beat.
    pub(super) fn last_beat(&self) -> Option<Duration> {
        self.beat.map(|(_, at)| at)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        // One that has not ended, as it could not be killed, is left to the library.
        let _ = self.child.watch();
    }
}

/// By what it says that it is ready, if somebody waits for that.
fn ear_of(worker: &Worker, place: Place) -> io::Result<Option<Pair>> {
    match (worker.policy.ready, worker.ready_by, &worker.program) {
        (Readiness::Survive(_), ..) => Ok(None),
        (_, ReadyBy::Descriptor(_), Program::Command(_)) => Ear::pipe().map(Some),
        _ => Ok(Some(Pair { ear: Ear::socket(place)?, end: None })),
    }
}

fn variables(
    worker: &Worker,
    place: Place,
    ground: &Ground,
    line: Option<usize>,
    ear: Option<&Ear>,
) -> Vec<(String, Option<String>)> {
    let given = ground.variables.iter().map(|(name, value)| (name.clone(), Some(value.clone())));
    let notify = ear.and_then(Ear::name);
    // A command reaches a segment by its name; a function is in it.
    let is_function = matches!(worker.program, Program::Function(_));
    let reachable = ground.board.is_some() && (is_function || ground.segment.is_some());
    let line = line.filter(|_| reachable).map(|line| line.to_string());
    let own = [
        ("MULTIPROC_WORKER", Some(worker.name.clone())),
        ("MULTIPROC_SLOT", Some(place.slot.index.to_string())),
        (pulse::INCARNATION, Some(place.incarnation.to_string())),
        (pulse::LINE, line),
        (pulse::BOARD, reachable.then(|| ground.board_name.clone())),
        (pulse::SEGMENT, ground.segment.clone().filter(|_| !is_function)),
        (pulse::NOTIFY_SOCKET, notify),
    ];
    given.chain(own.map(|(name, value)| (name.to_string(), value))).collect()
}
