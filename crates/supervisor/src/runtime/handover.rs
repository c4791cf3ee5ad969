//! Handing everything over to another program that this process executes: a new version of its own.
//!
//! The process stays the same, and with it its children, their sockets and pipes, and the locks it has. What
//! it knows travels in a file in memory. Signals that come in between wait, since they are blocked.
//!
//! # Limits
//!
//! Processes are commands: a function's child shares memory in the name of a participant, which the program
//! that comes does not take over. Followers of logs and events are cut off, and ask again. What a process has
//! written of a line that is not at its end is a line of its own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, PipeReader, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use multiproc_process::family;
use multiproc_sys::descriptor;
use multiproc_sys::memory;
use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::live::Live;
use super::notify::Ear;
use super::{Runtime, name};
use crate::control::protocol::{CrashReport, EventLine};
use crate::core::{Machine, Place, SlotId};
use crate::group::Numbers;
use crate::logs::Tap;
use crate::sockets::{Address, Listening};
use crate::supervisor::{SuperviseError, system};
use crate::worker::Program;

/// What is handed over has this version: a program of another one starts anew, which it cannot.
const VERSION: u32 = 1;

/// What this process is, for whoever goes on with it.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    id: String,
    machine: Machine,
    numbers: Numbers,
    live: Vec<Handed>,
    /// The sockets, by their addresses.
    sockets: Vec<(String, RawFd)>,
    guard: Option<(u32, RawFd)>,
    lines: Vec<(SlotId, usize)>,
    free_lines: Vec<usize>,
    free_pulses: Vec<usize>,
    board: String,
    segment: Option<String>,
    stopped: Vec<SlotId>,
    events: Vec<EventLine>,
    crashes: Vec<(SlotId, Vec<CrashReport>)>,
}

/// A process.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    place: Place,
    pid: u32,
    taps: [Option<RawFd>; 2],
    ear: Option<(RawFd, Option<String>)>,
    user: Option<u32>,
    line: Option<usize>,
    started: Duration,
    ready: Option<Duration>,
}

/// Everything that a supervisor hands over, in the process that goes on with it.
#[derive(Debug)]
pub struct Handover {
    state: Box<State>,
}

impl Handover {
    /// Takes what was handed over under the number of a descriptor.
    ///
    /// # Errors
    /// When there is no such descriptor, or it is of another version of this library.
    pub fn take(number: RawFd) -> io::Result<Handover> {
        let wrong = |text: String| io::Error::new(io::ErrorKind::InvalidData, text);
        descriptor::close_on_exec(number)?;
        // SAFETY: it is open, as was seen, and was handed over to whoever calls this.
        let mut file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text)?;
        let state: State = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("not understood: {error}")))?;
        match state.version {
            VERSION => Ok(Handover { state: Box::new(state) }),
            other => Err(wrong(format!("version {other}, where {VERSION} is understood"))),
        }
    }

    /// The name of the segment that the supervisor's board is in, if it has one.
    pub fn segment(&self) -> Option<&str> {
        self.state.segment.as_deref()
    }

    /// The name under which the board is published there.
    pub(crate) fn board(&self) -> &str {
        &self.state.board
    }

    /// The numbers of workers and groups.
    pub(super) fn numbers(&self) -> Numbers {
        self.state.numbers.clone()
    }

    /// The number by which the supervisor's processes are known.
    pub(crate) fn id(&self) -> &str {
        &self.state.id
    }
}

impl Runtime {
    /// Has the program go on as another one. Returns if that was impossible: then everything is as before.
    pub(super) fn reexecute(&mut self) {
        let error = match self.try_reexecute() {
            Err(error) => error,
            Ok(never) => match never {},
        };
        self.tell("not_reexecuted", None, format!("goes on as it is: {error}"));
    }

    fn try_reexecute(&mut self) -> io::Result<std::convert::Infallible> {
        let Some(mut execute) = self.options.reexecute.take() else {
            return Err(io::Error::other("this program does not do that"));
        };
        let done = self.hand_over(&mut *execute);
        self.options.reexecute = Some(execute);
        done
    }

    fn hand_over(
        &mut self,
        execute: &mut dyn FnMut(RawFd) -> io::Error,
    ) -> io::Result<std::convert::Infallible> {
        let is_function = |live: &&Live| {
            let worker = self.plan.workers.get(&live.place.slot.worker);
            worker.is_some_and(|worker| matches!(worker.program, Program::Function(_)))
        };
        if self.live.values().any(|live| is_function(&live)) {
            return Err(io::Error::other("functions cannot be handed over"));
        }
        self.clients.flush(&self.set, name::client);
        let (state, descriptors) = self.state();
        let text = serde_json::to_vec(&state).map_err(io::Error::from)?;
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut file = File::from(memory::anonymous(c"multiproc handover", length)?);
        file.write_all(&text)?;
        let descriptors: Vec<RawFd> = descriptors.into_iter().chain([file.as_raw_fd()]).collect();
        for number in &descriptors {
            descriptor::keep_on_exec(*number)?;
        }
        let error = execute(file.as_raw_fd());
        for number in &descriptors {
            descriptor::close_on_exec(*number)?;
        }
        Err(error)
    }

    fn state(&self) -> (State, Vec<RawFd>) {
        let mut descriptors = Vec::new();
        let mut kept = |number: RawFd| {
            descriptors.push(number);
            number
        };
        let mut live = Vec::new();
        for one in self.live.values() {
            let [stdout, stderr] = &one.taps;
            live.push(Handed {
                place: one.place,
                pid: one.child.pid(),
                taps: [stdout, stderr]
                    .map(|tap| tap.as_ref().map(|tap| kept(tap.as_fd().as_raw_fd()))),
                ear: one.ear.as_ref().map(|ear| (kept(ear.as_fd().as_raw_fd()), ear.name())),
                user: one.user,
                line: one.line,
                started: one.started,
                ready: one.ready,
            });
        }
        let sockets = self.ground.sockets.iter();
        let sockets = sockets
            .map(|(address, socket)| (address.to_string(), kept(socket.socket().as_raw_fd())));
        let sockets = sockets.collect();
        let guard = self.guard.as_ref().map(|guard| (guard.pid(), kept(guard.alive())));
        for owned in &self.options.keep {
            kept(owned.as_raw_fd());
        }
        let state = State {
            version: VERSION,
            id: self.options.id.clone(),
            machine: self.machine.clone(),
            numbers: self.numbers.clone(),
            live,
            sockets,
            guard,
            lines: self.lines.iter().map(|(slot, line)| (*slot, *line)).collect(),
            free_lines: self.free_lines.clone(),
            free_pulses: self.ground.free_lines.clone(),
            board: self.ground.board_name.clone(),
            segment: self.ground.segment.clone(),
            stopped: self.stopped.iter().copied().collect(),
            events: self.history.last(usize::MAX).cloned().collect(),
            crashes: self
                .history
                .crashed()
                .map(|slot| (slot, self.history.crashes(slot, usize::MAX)))
                .collect(),
        };
        (state, descriptors)
    }

    /// Goes on where another program has left off. What differs between its plan and ours is to be made so.
    pub(super) fn resume(&mut self, handover: Handover) -> Result<(), SuperviseError> {
        let state = *handover.state;
        let own = |number: RawFd| {
            descriptor::close_on_exec(number).map_err(system("taking over a descriptor"))?;
            // SAFETY: it is open, as was seen, and nobody has owned it since the exec.
            Ok::<_, SuperviseError>(unsafe { OwnedFd::from_raw_fd(number) })
        };
        self.resumed = true;
        self.machine = state.machine;
        for slot in self.machine.slots() {
            self.told.insert(slot.id(), (slot.phase().word(), slot.incarnation()));
        }
        self.lines = state.lines.into_iter().collect();
        self.free_lines = state.free_lines;
        self.ground.free_lines = state.free_pulses;
        self.stopped = state.stopped.into_iter().collect();
        state.events.into_iter().for_each(|event| self.history.add(event));
        for (slot, reports) in state.crashes {
            reports.into_iter().for_each(|report| self.history.add_crash(slot, report));
        }
        let mut sockets = BTreeMap::new();
        for (address, number) in state.sockets {
            let socket = own(number)?;
            if let Ok(address) = address.parse::<Address>() {
                sockets.insert(address.clone(), Arc::new(Listening::resume(address, socket)));
            }
        }
        self.ground.sockets = sockets;
        if let Some((pid, number)) = state.guard {
            let alive = own(number)?;
            // One that has died meanwhile is replaced.
            if let Ok(guard) = Guard::resume(pid, alive) {
                self.watch_guard(guard)?;
            }
        }
        for handed in state.live {
            let mut taps = [None, None];
            for (tap, number) in taps.iter_mut().zip(handed.taps) {
                if let Some(number) = number {
                    *tap = Tap::new(PipeReader::from(own(number)?)).ok();
                }
            }
            let ear = match handed.ear {
                Some((number, name)) => Some(Ear::resume(own(number)?, name)),
                None => None,
            };
            let child = family::adopt(handed.pid, "worker").map_err(SuperviseError::Resume)?;
            let Handed { place, user, line, started, ready, .. } = handed;
            let mut live = Live::of(place, child, ear, taps);
            (live.user, live.line, live.started, live.ready) = (user, line, started, ready);
            self.take_charge(live);
        }
        Ok(())
    }
}
