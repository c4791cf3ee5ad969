//! A supervisor at work, and all that it tells.

use std::cell::RefCell;
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};

use multiproc::supervisor::control::protocol::{
    CrashReport, EventLine, LogLine, Outcome, Reply, Request, SlotStatus, Until,
};
use multiproc::supervisor::{Builder, Group, Handle, Summary, SuperviseError, Supervisor};
use multiproc_sys::pidfd::PidFd;
use support::{SOON, eventually};

/// A supervisor in a thread of its own. What is left of it when a test fails is killed.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    thread: Option<JoinHandle<Result<Summary, SuperviseError>>>,
    news: Receiver<EventLine>,
    seen: RefCell<Vec<EventLine>>,
    crashes: Receiver<CrashReport>,
}

impl Running {
    /// One that runs these groups.
    pub(crate) fn of(groups: impl IntoIterator<Item = impl Into<Group>>) -> Running {
        let builder = Supervisor::builder();
        Running::start(
            groups.into_iter().fold(builder, |builder, group| builder.group(group.into())),
        )
    }

    pub(crate) fn start(builder: Builder) -> Running {
        let ((tell, news), (report, crashes)) = (channel(), channel());
        let builder = builder.observe(move |event| drop(tell.send(event.clone())));
        let builder = builder.on_crash(move |crash| drop(report.send(crash.clone())));
        let supervisor = builder.build().unwrap();
        let handle = supervisor.handle();
        let thread = Some(thread::spawn(move || supervisor.run()));
        Running { handle, thread, news, seen: RefCell::default(), crashes }
    }

    /// Waits for the next event of a kind that concerns a target.
    #[track_caller]
    pub(crate) fn until(&self, kind: &str, target: &str) -> EventLine {
        loop {
            let Ok(event) = self.news.recv_timeout(SOON) else {
                panic!("in vain: {kind} of {target}; seen: {:#?}", self.log());
            };
            self.seen.borrow_mut().push(event.clone());
            if event.kind == kind && event.target.as_deref() == Some(target) {
                return event;
            }
        }
    }

    /// What has happened so far, as `KIND NAME:SLOT#INCARNATION`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.seen.borrow_mut().extend(self.news.try_iter());
        self.seen.borrow().iter().map(line_of).collect()
    }

    /// What has happened since it was last asked, or told of.
    pub(crate) fn forget_log(&self) {
        self.log();
        self.seen.borrow_mut().clear();
    }

    /// The next death that was a failure.
    #[track_caller]
    pub(crate) fn crash(&self) -> CrashReport {
        self.crashes.recv_timeout(SOON).expect("a crash is reported")
    }

    /// All that is answered.
    pub(crate) fn ask(&self, request: Request) -> Vec<Reply> {
        self.handle.ask(request).into_iter().collect()
    }

    /// Has something done.
    #[track_caller]
    pub(crate) fn order(&self, request: Request) -> Vec<Reply> {
        let replies = self.ask(request.clone());
        let done = Some(&Reply::Done { ok: true, message: None });
        assert_eq!(replies.last(), done, "{request:?}: {replies:#?}");
        replies
    }

    /// Has something tried that fails; says of whom, and why.
    #[track_caller]
    pub(crate) fn order_in_vain(&self, request: Request) -> Vec<Outcome> {
        let replies = self.ask(request.clone());
        let failed = Some(&Reply::Done { ok: false, message: None });
        assert_eq!(replies.last(), failed, "{request:?}: {replies:#?}");
        let outcomes = replies.into_iter().filter_map(|reply| match reply {
            Reply::Target(outcome) if !outcome.ok => Some(outcome),
            _ => None,
        });
        outcomes.collect()
    }

    pub(crate) fn status(&self) -> Vec<SlotStatus> {
        let replies = self.ask(Request::Status { targets: vec!["all".into()] });
        let slots = replies.into_iter().filter_map(|reply| match reply {
            Reply::Slot(slot) => Some(slot),
            _ => None,
        });
        slots.collect()
    }

    #[track_caller]
    pub(crate) fn slot(&self, target: &str) -> SlotStatus {
        let status = self.status();
        let found = status.iter().find(|slot| format!("{}:{}", slot.worker, slot.slot) == target);
        found.unwrap_or_else(|| panic!("no {target} among {status:#?}")).clone()
    }

    /// Waits until a slot is in a state.
    #[track_caller]
    pub(crate) fn until_state(&self, target: &str, state: &str) -> SlotStatus {
        let mut slot = self.slot(target);
        eventually(&format!("{target} is {state}, and not {slot:?}"), || {
            slot = self.slot(target);
            slot.state == state
        });
        slot
    }

    /// The processes of all slots.
    pub(crate) fn pids(&self) -> Vec<Option<u32>> {
        self.status().into_iter().map(|slot| slot.pid).collect()
    }

    #[track_caller]
    pub(crate) fn pid(&self, target: &str) -> u32 {
        let slot = self.slot(target);
        slot.pid.unwrap_or_else(|| panic!("{slot:?} has no process"))
    }

    /// Sends a signal to the process of a slot.
    #[track_caller]
    pub(crate) fn signal(&self, target: &str, signal: i32) {
        assert!(PidFd::open(self.pid(target)).unwrap().signal(signal).unwrap());
    }

    /// Waits until all is ready that is to run.
    #[track_caller]
    pub(crate) fn ready(&self) {
        self.order(Request::Wait { targets: all(), until: Until::Ready, timeout_ms: None });
    }

    /// The lines that are remembered of a worker.
    pub(crate) fn lines(&self, target: &str) -> Vec<LogLine> {
        let (targets, lines, follow) = (vec![target.into()], u32::MAX, false);
        let replies = self.ask(Request::Logs { targets, lines, follow }).into_iter();
        let lines = replies.filter_map(|reply| match reply {
            Reply::Line(line) => Some(line),
            _ => None,
        });
        lines.collect()
    }

    /// Ends it, and waits until it has ended.
    #[track_caller]
    pub(crate) fn stop(self) -> Summary {
        self.handle.shut_down(false);
        self.end()
    }

    /// Waits until it has ended by itself.
    #[track_caller]
    pub(crate) fn end(mut self) -> Summary {
        let thread = self.thread.take().expect("it has not been waited for");
        thread.join().expect("it does not panic").expect("the kernel refuses nothing")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.handle.shut_down(true);
            let _ = thread.join();
        }
    }
}

fn line_of(event: &EventLine) -> String {
    let target = event.target.as_deref().unwrap_or_default();
    let number = event.incarnation.map(|number| format!("#{number}")).unwrap_or_default();
    format!("{} {target}{number}", event.kind)
}

/// Everybody.
pub(crate) fn all() -> Vec<String> {
    vec!["all".into()]
}

/// These.
pub(crate) fn targets(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// Checks that all of this has happened, each after the one before it.
#[track_caller]
pub(crate) fn assert_order(log: &[String], wanted: &[&str]) {
    let mut rest = log.iter();
    for one in wanted {
        assert!(rest.any(|line| line == one), "{one} is not there, or too early: {log:#?}");
    }
}
