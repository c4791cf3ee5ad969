//! Processes, from their start to their end, as the event loop sees them.

use std::os::fd::AsFd;
use std::time::Duration;

use multiproc_process::{Exit, SpawnError};
use multiproc_sys::clock;

use super::guard::Guard;
use super::live::Live;
use super::notify::Said;
use super::{Runtime, name, orphans};
use crate::core::{Event, Evidence, Place};
use crate::logs::Flow;
use crate::supervisor::{SuperviseError, system};
use crate::worker::Program;

const EIO: i32 = 5;
const SIGKILL: i32 = 9;

/// How long a command must have been ready for its death to count as one after progress.
const PROGRESS: Duration = Duration::from_secs(1);

impl Runtime {
    pub(super) fn live_at(&self, place: Place) -> Option<&Live> {
        self.live.get(self.keys.get(&place)?)
    }

    /// Sends signals to a process's tree. Whom they reach is decided by our own record of it.
    pub(super) fn signal(&self, place: Place, signals: &[i32]) {
        if let Some(live) = self.live_at(place) {
            for signal in signals {
                // One that has ended meanwhile is reaped in the next round.
                let _ = live.child.signal_tree(*signal);
            }
        }
    }

    pub(super) fn spawn(&mut self, place: Place) {
        let Some(worker) = self.plan.workers.get(&place.slot.worker).cloned() else { return };
        // Without one, it is killed as others are.
        let cgroup = self.cgroups.as_ref().and_then(|cgroups| cgroups.make(place).ok());
        match Live::start(&worker, place, &mut self.ground, cgroup) {
            Ok(live) => {
                let pid = live.child.pid();
                self.take_charge(live);
                self.events.push_back(Event::Started { place, pid });
                self.tell_started(place, pid);
            }
            Err(error) => {
                let errno = match &error {
                    SpawnError::Start(error) => error.errno,
                    _ => EIO,
                };
                self.tell_start_failed(place, &error);
                self.events.push_back(Event::StartFailed { place, errno });
            }
        }
    }

    /// Listens to a process from now on.
    pub(super) fn take_charge(&mut self, live: Live) {
        let key = self.next_key;
        self.next_key += 1;
        let [stdout, stderr] = &live.taps;
        let ear = live.ear.as_ref().map(|ear| (ear.as_fd(), name::EAR));
        let taps = [(stdout, name::STDOUT), (stderr, name::STDERR)];
        let taps = taps.into_iter().filter_map(|(tap, kind)| Some((tap.as_ref()?.as_fd(), kind)));
        for (descriptor, kind) in taps.chain(ear).chain([(live.child.as_fd(), name::CHILD)]) {
            // It fails when the kernel has no memory left. Then it is noticed when something else happens.
            let _ = self.set.add(descriptor, kind | key);
        }
        self.keys.insert(live.place, key);
        self.live.insert(key, live);
    }

    pub(super) fn sample(&mut self, place: Place) {
        let Some(key) = self.keys.get(&place) else { return };
        let Some(live) = self.live.get_mut(key) else { return };
        let sample = live.sample(self.ground.board.as_ref());
        self.events.push_back(Event::Sampled { place, sample });
    }

    /// Hears what a process says of itself.
    pub(super) fn hear(&mut self, key: u64) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let Some(ear) = &live.ear else { return };
        let (said, over) = ear.hear(live.user);
        if over {
            self.set.remove(ear);
            live.ear = None;
        }
        let place = live.place;
        for said in said {
            match said {
                Said::Ready => self.events.push_back(Event::Ready { place }),
                Said::Extend(by) => self.events.push_back(Event::Extend { place, by }),
                Said::Status(text) => self.tell("status", Some(place), text),
            }
        }
    }

    /// Takes what a process has written.
    pub(super) fn drain(&mut self, key: u64, stream: usize) {
        let Some(live) = self.live.get_mut(&key) else { return };
        let Some(tap) = &mut live.taps[stream] else { return };
        let mut lines = Vec::new();
        let flow = tap.drain(|text| lines.push(text));
        if flow == Flow::Ended {
            tap.end(|text| lines.push(text));
            self.set.remove(&*tap);
        }
        let slot = live.place.slot;
        self.log(slot, stream, lines);
    }

    /// Takes note of a process's end.
    pub(super) fn reap(&mut self, key: u64) {
        let Some(live) = self.live.get(&key) else { return };
        let exit = match live.child.ended() {
            Ok(None) => {
                if live.child.lingers() {
                    self.set.remove(live.child.as_fd());
                    self.lingering.push(key);
                }
                return;
            }
            Ok(Some(ended)) => ended.exit,
            // Somebody else reaped it: it is gone, and how is not to be known.
            Err(_) => Exit::Signal { signal: SIGKILL, core: false },
        };
        self.set.remove(live.child.as_fd());
        for stream in [0, 1] {
            self.drain(key, stream);
        }
        let Some(mut live) = self.live.remove(&key) else { return };
        for stream in [0, 1] {
            if let Some(tap) = &mut live.taps[stream] {
                let mut lines = Vec::new();
                tap.end(|text| lines.push(text));
                self.set.remove(&*tap);
                self.log(live.place.slot, stream, lines);
            }
        }
        if let Some(ear) = &live.ear {
            self.set.remove(ear);
        }
        let place = live.place;
        self.keys.remove(&place);
        let word = live.word(self.ground.board.as_ref());
        self.ground.free_lines.extend(live.line);
        let is_command = self
            .plan
            .workers
            .get(&place.slot.worker)
            .is_some_and(|worker| matches!(worker.program, Program::Command(_)));
        let was_ready =
            live.ready.is_some_and(|since| clock::now().saturating_sub(since) >= PROGRESS);
        let held = live.child.held();
        let evidence = Evidence {
            dirty: !held.is_empty(),
            progressed: live.child.progress() > 0 || word.tasks > 0 || is_command && was_ready,
            out_of_memory: live.child.out_of_memory().is_some(),
        };
        self.note_end(&live, &word, held);
        self.ended.push(place);
        self.events.push_back(Event::Exited { place, exit, evidence });
    }

    pub(super) fn look_for_orphans(&mut self) {
        let ended = std::mem::take(&mut self.ended);
        if let Some(cgroups) = &self.cgroups {
            self.left.extend(&ended);
            self.left.retain(|place| !cgroups.end(*place));
        }
        if self.options.subreaper && !ended.is_empty() {
            orphans::end(&ended, &self.plan, &self.options.id);
            orphans::reap();
        }
    }

    pub(super) fn watch_guard(&mut self, guard: Guard) -> Result<(), SuperviseError> {
        self.set.add(guard.as_fd(), name::GUARD).map_err(system("watching the guard"))?;
        self.guard = Some(guard);
        Ok(())
    }

    pub(super) fn renew_guard(&mut self) -> Result<(), SuperviseError> {
        self.guard = None;
        if self.options.guard {
            let guard = Guard::start(&self.options).map_err(SuperviseError::Guard)?;
            self.watch_guard(guard)?;
        }
        Ok(())
    }
}
