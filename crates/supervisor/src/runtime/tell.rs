//! What the operator is told, and who hears it.

use multiproc_process::{Exit, SpawnError};
use multiproc_sys::clock;

use super::Runtime;
use super::live::Live;
use crate::board::cause_word;
use crate::control::protocol::{CrashReport, EventLine, LogLine, Stream};
use crate::control::target::{Chosen, Names};
use crate::core::{Activity, Cause, Decision, Notice, Place, Report, SlotId};
use crate::logs;
use crate::pulse::Word;

/// What a shell adds to the number of the signal that has killed a command.
const SIGNALLED: i32 = 128;

/// What is known of an end before the machine has decided what follows.
#[derive(Debug, Default)]
pub(super) struct End {
    exit_code: Option<i32>,
    report: CrashReport,
}

impl Runtime {
    /// Tells everybody that something has happened.
    pub(super) fn tell(&mut self, kind: &str, place: Option<Place>, text: String) {
        self.publish(EventLine {
            kind: kind.into(),
            target: place.map(|place| self.plan.name(place.slot)),
            pid: place.and_then(|place| self.live_at(place)).map(|live| live.child.pid()),
            incarnation: place.map(|place| place.incarnation).filter(|number| *number > 0),
            text,
            ..EventLine::default()
        });
    }

    /// Tells of a worker or a group.
    fn tell_of(&mut self, kind: &str, target: Option<String>, text: &str) {
        let (kind, text) = (kind.into(), text.into());
        self.publish(EventLine { kind, target, text, ..EventLine::default() });
    }

    fn publish(&mut self, event: EventLine) {
        let event = EventLine { time_ms: logs::now_ms(), ..event };
        if let Some(observe) = &mut self.options.observe {
            observe(&event);
        }
        self.clients.tell_event(&event);
        self.history.add(event);
    }

    pub(super) fn tell_started(&mut self, place: Place, pid: u32) {
        self.tell("started", Some(place), format!("was started as process {pid}"));
    }

    pub(super) fn tell_start_failed(&mut self, place: Place, error: &SpawnError) {
        self.tell("start_failed", Some(place), format!("could not be started: {error}"));
    }

    pub(super) fn notice(&mut self, notice: &Notice) {
        let slot = |slot: SlotId| Place { slot, incarnation: 0 };
        match *notice {
            Notice::Quiet { place } => {
                self.tell("stalled", Some(place), "has not beaten for a while".into());
            }
            Notice::BeatsAgain { place } => {
                self.tell("resumed", Some(place), "beats again".into());
            }
            Notice::Recycled { place, why } => {
                let why = format!("{why:?}").to_lowercase();
                self.tell("recycled", Some(place), format!("is worn out ({why}), and is replaced"));
            }
            Notice::Replaced { place } => {
                self.tell("replaced", Some(place), "was replaced, and is told to end".into());
            }
            Notice::ReplacementFailed { slot: id } => {
                self.fail_goals(id.worker);
                let text = "has no replacement: the new process did not become ready";
                self.tell("replacement_failed", Some(slot(id)), text.into());
            }
            Notice::Reloaded { worker } => {
                let target = self.plan.workers.get(&worker).map(|worker| worker.name.clone());
                self.tell_of("reloaded", target, "all slots were replaced");
            }
            Notice::GroupFailed { group } => {
                let target = self.plan.groups.get(&group).cloned();
                self.tell_of("group_failed", target, "died too often, and is stopped");
            }
            Notice::GroupDone { group } => {
                let target = self.plan.groups.get(&group).cloned();
                self.tell_of("group_done", target, "has done what mattered, and is stopped");
            }
        }
    }

    /// Notes what is to be told of a process that has ended, before it is forgotten.
    pub(super) fn note_end(&mut self, live: &Live, word: &Word, held: Vec<String>) {
        let ended = live.child.ended().ok().flatten();
        let stderr = live.taps[1].as_ref().map(logs::Tap::tail).unwrap_or_default();
        let milliseconds = |time: std::time::Duration| super::milliseconds(time);
        let beat = live.last_beat().map(|at| milliseconds(clock::now().saturating_sub(at)));
        let activity = match word.activity {
            None => None,
            Some(Activity::Parked) => Some("parked".to_string()),
            Some(_) if word.task != 0 => Some(format!("task {}", word.task)),
            Some(Activity::Busy { .. }) => Some("busy".to_string()),
            Some(Activity::Working) => Some("at work".to_string()),
        };
        let report = CrashReport {
            pid: Some(live.child.pid()),
            user_ms: ended.map_or(0, |ended| milliseconds(ended.user)),
            system_ms: ended.map_or(0, |ended| milliseconds(ended.system)),
            max_rss_bytes: ended.map_or(0, |ended| ended.max_rss_bytes),
            beat_age_ms: beat,
            progress: live.child.progress().max(word.tasks),
            activity,
            held,
            stderr,
            ..CrashReport::default()
        };
        let exit_code = ended.map(|ended| match ended.exit {
            Exit::Code(code) => code,
            Exit::Signal { signal, .. } => SIGNALLED + signal,
        });
        self.noted.insert(live.place, End { exit_code, report });
    }

    /// Tells of an end and of what follows.
    pub(super) fn report(&mut self, report: &Report) {
        let Report { place, cause, uptime, decision, delay } = *report;
        let noted = self.noted.remove(&place).unwrap_or_default();
        let (word, _) = cause_word(cause);
        let worker = self.plan.workers.get(&place.slot.worker);
        let signal_and_core = match cause {
            Cause::Signal { signal, core } => (Some(signal), core),
            _ => (None, false),
        };
        let crash = CrashReport {
            worker: worker.map(|worker| worker.name.clone()).unwrap_or_default(),
            slot: place.slot.index,
            incarnation: place.incarnation,
            time_ms: logs::now_ms(),
            cause: word.into(),
            text: cause.to_string(),
            signal: signal_and_core.0,
            core: signal_and_core.1,
            code: match cause {
                Cause::Code(code) | Cause::Fatal(code) => Some(code),
                _ => None,
            },
            uptime_ms: super::milliseconds(uptime),
            decision: decision_word(decision).into(),
            delay_ms: super::milliseconds(delay),
            ..noted.report
        };
        let text = told(&crash, decision, uptime.as_secs_f64(), delay.as_secs_f64());
        self.publish(EventLine {
            kind: "ended".into(),
            target: Some(self.plan.name(place.slot)),
            pid: crash.pid,
            incarnation: Some(place.incarnation),
            exit_code: noted.exit_code,
            text,
            ..EventLine::default()
        });
        if cause.is_failure() {
            if let Some(observe) = &mut self.options.on_crash {
                observe(&crash);
            }
            self.history.add_crash(place.slot, crash);
        }
    }

    /// Takes lines that a process has written.
    pub(super) fn log(&mut self, slot: SlotId, stream: usize, lines: Vec<String>) {
        if lines.is_empty() {
            return;
        }
        let worker = self.plan.workers.get(&slot.worker).map(|worker| worker.name.clone());
        let worker = worker.unwrap_or_default();
        let stream = if stream == 0 { Stream::Stdout } else { Stream::Stderr };
        let time_ms = logs::now_ms();
        for text in lines {
            let line = LogLine { worker: worker.clone(), slot: slot.index, stream, time_ms, text };
            if let Some(echo) = &mut self.echo {
                echo.write(&line);
            }
            let tree = &self.plan.tree;
            self.clients.tell_line(&line, |chosen| {
                chosen.iter().any(|one| match *one {
                    Chosen::All => true,
                    Chosen::Worker(id) => id == slot.worker,
                    Chosen::Slot { worker, index } => (worker, index) == (slot.worker, slot.index),
                    Chosen::Group(id) => tree.groups.iter().any(|group| {
                        group.id == id && group.workers.iter().any(|it| it.id == slot.worker)
                    }),
                })
            });
            let complaint = self.logs.get_mut(&slot.worker).and_then(|log| log.write(line));
            if let Some(complaint) = complaint {
                self.tell_of("log_failed", Some(worker.clone()), &complaint);
            }
        }
    }

    /// The names that there are.
    pub(super) fn names(&self) -> Names {
        use crate::control::target::{GroupName, WorkerName};
        let slots = |worker: u32| {
            let own = self.machine.slots().map(|slot| slot.id()).filter(|id| id.worker == worker);
            own.map(|id| id.index + 1).max().unwrap_or(0)
        };
        let groups = &self.plan.tree.groups;
        let workers = groups.iter().flat_map(|group| &group.workers).map(|spec| WorkerName {
            id: spec.id,
            name: self.plan.workers.get(&spec.id).map(|it| it.name.clone()).unwrap_or_default(),
            slots: slots(spec.id),
        });
        let groups = groups.iter().map(|group| GroupName {
            id: group.id,
            name: self.plan.groups.get(&group.id).cloned().unwrap_or_default(),
            workers: group.workers.iter().map(|spec| spec.id).collect(),
        });
        Names { workers: workers.collect(), groups: groups.collect() }
    }
}

pub(super) fn decision_word(decision: Decision) -> &'static str {
    match decision {
        Decision::Idle => "idle",
        Decision::Restart => "restart",
        Decision::Done => "done",
        Decision::Failed => "failed",
        Decision::Exhausted => "exhausted",
        Decision::Replaced => "replaced",
        Decision::Kept => "kept",
    }
}

/// What is told of an end, in a sentence whose subject is the slot.
fn told(crash: &CrashReport, decision: Decision, uptime: f64, delay: f64) -> String {
    let what = match decision {
        Decision::Idle => "has stopped".into(),
        Decision::Done => "is done".into(),
        Decision::Restart if delay == 0.0 => "is restarted".into(),
        Decision::Restart => format!("is restarted in {delay:.1} s"),
        Decision::Failed => "is given up".into(),
        Decision::Exhausted if delay > 0.0 => {
            format!("died too often, and is restarted in {delay:.1} s")
        }
        Decision::Exhausted => "is given up: it died too often".into(),
        Decision::Replaced => "has left its place".into(),
        Decision::Kept => "was to be a replacement, and is none".into(),
    };
    let held = match crash.held.is_empty() {
        true => String::new(),
        false => format!("; it held {}", crash.held.join(", ")),
    };
    let activity = crash.activity.as_ref().map(|what| format!(" ({what})")).unwrap_or_default();
    format!("{what} after {uptime:.1} s: {}{activity}{held}", crash.text)
}
