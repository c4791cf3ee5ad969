//! Lease and tally: tasks of which each counts exactly once, whoever is killed.

use multiproc::{Array, Error, Process, Queue, RecvError, Segment, SpawnError, Spawner, Tally};
use serde::{Deserialize, Serialize};

use super::{Entry, Findings, Job, Role, of_role};
use crate::desk::{Desk, Note, PATIENCE, Stage, breathe, hesitate};

pub(super) const ENTRY: Entry = Entry {
    name: "tasks",
    roles: &[
        Role { name: "submitter", workers: SUBMITTERS, stage: Stage::First },
        Role { name: "worker", workers: 3, stage: Stage::Last },
    ],
    make,
};

const SUBMITTERS: usize = 2;
const SUBMITTER: usize = 0;

/// How many tasks a submitter can submit.
const MOST: usize = 1 << 20;

/// Number of tasks, sum of their numbers, sum of what their numbers are scrambled to.
type Sums = [u64; 3];

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Task {
    submitter: usize,
    number: u64,
}

impl Task {
    fn place(self) -> usize {
        self.submitter * MOST + self.number as usize
    }

    fn contribution(self) -> Sums {
        let place = self.place() as u64;
        [1, place, place.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)]
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Work {
    tasks: Queue<Task>,
    sums: Tally<Sums>,
    /// Whether somebody has ever leased a task, hence whether it was submitted.
    begun: Array<u8>,
}

fn submit(desk: Desk, work: Work) {
    let mut random = desk.random();
    while desk.goes_on() {
        let number = desk.get(Note::Tried) + 1;
        assert!((number as usize) < MOST, "more tasks than there are places for");
        let task = Task { submitter: desk.seat, number };
        desk.count(1, || {
            let sent = desk.op("submit", || work.tasks.send_timeout(task, PATIENCE));
            sent.unwrap_or_else(|error| panic!("task {number} is not submitted: {error}"));
        });
        breathe(&mut random);
    }
}

fn labour(desk: Desk, work: Work) {
    let mut random = desk.random();
    loop {
        let lease = match desk.op("lease", || work.tasks.lease_timeout(PATIENCE)) {
            Ok(lease) => lease,
            Err(RecvError::Closed) => return,
            Err(error) => panic!("no task is leased: {error}"),
        };
        work.begun.set(lease.place(), 1);
        hesitate(&mut random);
        // Now and then two at a time, the second of which is done first.
        let second = match random.below(8) {
            0 => desk.op("lease another", || work.tasks.try_lease()).ok(),
            _ => None,
        };
        for lease in second.into_iter().chain([lease]) {
            work.begun.set(lease.place(), 1);
            match random.below(8) {
                0 => desk.op("give back", || drop(lease)),
                _ => {
                    let contribution = lease.contribution();
                    desk.op("commit", || work.sums.commit(lease, &contribution));
                }
            }
        }
        breathe(&mut random);
    }
}

struct Tasks {
    work: Work,
    /// How many tasks were counted when last looked.
    counted: u64,
    /// How many submitters were killed while they submitted.
    doubts: u64,
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let work = Work {
        tasks: Queue::<Task>::builder(24).build_in(segment)?,
        sums: Tally::new_in(segment)?,
        begun: Array::new_in(segment, SUBMITTERS * MOST)?,
    };
    Ok(Box::new(Tasks { work, counted: 0, doubts: 0 }))
}

impl Job for Tasks {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.work.clone());
        match desk.role {
            SUBMITTER => spawner.spawn(submit, arguments),
            _ => spawner.spawn(labour, arguments),
        }
    }

    fn bury(&mut self, desk: &Desk) {
        if desk.role == SUBMITTER {
            self.doubts += desk.in_doubt();
            desk.assume_counted();
        }
    }

    fn glance(&mut self, findings: &mut Findings) {
        let [counted, ..] = self.work.sums.total();
        let before = std::mem::replace(&mut self.counted, counted);
        findings.expect(before <= counted, || format!("tasks: first {before}, then {counted}"));
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            self.work.tasks.close();
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let idle = self.work.tasks.join_timeout(PATIENCE);
        findings.expect(idle, || "tasks: something is left to do".into());
        let (mut expected, mut never) = ([0_u64; 3], 0);
        for desk in of_role(desks, SUBMITTER) {
            for number in 1..=desk.get(Note::Tried) {
                let task = Task { submitter: desk.seat, number };
                if self.work.begun.get(task.place()) == 0 {
                    never += 1;
                    continue;
                }
                for (sum, part) in expected.iter_mut().zip(task.contribution()) {
                    *sum = sum.wrapping_add(part);
                }
            }
        }
        let doubts = self.doubts;
        findings.expect(never <= doubts, || {
            format!("tasks: {never} never came, {doubts} submitters were killed submitting")
        });
        let total = self.work.sums.total();
        findings.expect(total == expected, || format!("tasks: {total:?} is not {expected:?}"));
    }
}
