//! The desk: what its messages are, what comes of their items, and what was put there.

use multiproc_ipc::Tally;
use multiproc_ipc::family::desk::{Desk, Progress, Worker};

use crate::world::World;

/// How many items each job has.
pub(crate) const ITEMS: u32 = 3;

/// What a message at the desk is: a job, or the rest of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Job {
    /// The position at which it was put first.
    pub(crate) number: u32,
    /// The items before this one are done.
    first: u32,
    /// Whether its items are counted.
    counts: bool,
}

impl Job {
    pub(crate) fn new(position: u64, counts: bool) -> Job {
        Job { number: position as u32, first: 0, counts }
    }

    /// What is left when so many items are done.
    pub(crate) fn rest(self, done: u32) -> Job {
        Job { first: self.first + done, ..self }
    }

    pub(crate) fn items(self) -> u32 {
        ITEMS - self.first
    }

    /// Each byte says something of it, and where it stands.
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let said = [self.number as u8, self.first as u8, self.counts.into()];
        (0..41).map(|place| said[place % 3] ^ place as u8).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Job> {
        let [number, first, counts] = *bytes.first_chunk()?;
        let (number, first, counts) = (number.into(), u32::from(first ^ 1), counts ^ 2 == 1);
        let job = Job { number, first, counts };
        (first < ITEMS && job.to_bytes() == bytes).then_some(job)
    }

    /// What comes of an item.
    fn result(self, item: u32) -> Vec<u8> {
        vec![(self.number * ITEMS + item + 1) as u8; 5 + item as usize]
    }

    /// What an item adds to the tally.
    fn earns(self, item: u32) -> [u64; 2] {
        if self.counts { [1, 1000 + u64::from(self.number * ITEMS + item)] } else { [0; 2] }
    }

    /// What the next so many items add.
    pub(crate) fn earned(self, done: u32) -> [u64; 2] {
        let items = (self.first..self.first + done).map(|item| self.earns(item));
        items.fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }

    /// What has become of it at a position, if what came of its items is what must come of them.
    pub(crate) fn progress(self, desk: &Desk, position: u64) -> Result<Progress, String> {
        let progress = desk.progress(position, self.items());
        let mut results = Vec::new();
        desk.read(position, 0, progress.bytes, &mut results);
        let done = self.first..self.first + progress.items;
        let right = done.flat_map(|item| self.result(item)).eq(results.iter().copied());
        let whole = !progress.finished || progress.items == self.items();
        match right && whole && !progress.letter {
            true => Ok(progress),
            false => Err(format!("{self:?} has come to {progress:?} {results:?}")),
        }
    }

    /// Puts it there.
    pub(crate) fn put(self, desk: &Desk, position: u64) -> bool {
        desk.put(position, &self.to_bytes(), self.items())
    }
}

/// Takes a job and does its items, if one waits; an error if it is torn.
pub(crate) fn work(worker: &mut Worker, tally: &Tally<[u64; 2]>) -> Result<Option<Job>, String> {
    let Some(mut taken) = worker.take() else { return Ok(None) };
    let job = Job::from_bytes(taken.message()).filter(|job| job.items() == taken.items());
    let Some(job) = job else {
        return Err(format!("{} items of {:?}", taken.items(), taken.message()));
    };
    for item in job.first..ITEMS {
        let result = job.result(item);
        taken.room()[..result.len()].copy_from_slice(&result);
        match job.counts {
            true => taken.publish_with(result.len(), false, tally, &job.earns(item)),
            false => taken.publish(result.len(), false),
        }
    }
    Ok(Some(job))
}

/// The jobs that the controller has put at the desk.
#[derive(Clone, Default)]
pub(crate) struct Jobs {
    /// How many were done, and are gone.
    past: u64,
    /// Those that came after them; none where one was taken back.
    put: Vec<Option<Job>>,
}

impl Jobs {
    /// Where the next is to be put.
    pub(crate) fn next(&self) -> u64 {
        self.past + self.put.len() as u64
    }

    /// Those that are there, and where.
    pub(crate) fn each(&self) -> impl Iterator<Item = (u64, Job)> {
        (self.past..).zip(&self.put).filter_map(|(position, job)| Some((position, (*job)?)))
    }

    /// Where some were taken back.
    pub(crate) fn taken_back(&self) -> impl Iterator<Item = u64> {
        (self.past..).zip(&self.put).filter(|(_, job)| job.is_none()).map(|(position, _)| position)
    }

    /// What those have added to the tally that are gone.
    pub(crate) fn earned(&self) -> [u64; 2] {
        let past = (0..self.past).map(|position| Job::new(position, true).earned(ITEMS));
        past.fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
    }
}

impl World {
    /// Puts the next job at the desk and notes it, if its tray is free.
    pub(crate) fn put_job(&mut self, counts: bool) -> bool {
        let position = self.ledger.jobs.next();
        let job = Job::new(position, counts);
        let put = job.put(&self.objects.desk, position);
        if put {
            self.ledger.jobs.put.push(Some(job));
        }
        put
    }

    /// Takes the job at a position back and notes it, unless somebody is at it.
    pub(crate) fn take_job_back(&mut self, position: u64) -> bool {
        let taken_back = self.objects.desk.take_back(position);
        if taken_back {
            self.ledger.jobs.put[(position - self.ledger.jobs.past) as usize] = None;
        }
        taken_back
    }

    /// Does every job that waits, and says how many items that were.
    pub(crate) fn do_jobs(&mut self) -> Result<u32, String> {
        let mut worker = Worker::at(&self.objects.desk);
        let mut items = 0;
        while let Some(job) = work(&mut worker, &self.objects.earned)? {
            items += job.items();
        }
        Ok(items)
    }

    /// Has so many jobs put, done and forgotten.
    pub(crate) fn pass_jobs(&mut self, count: u64) {
        for _ in 0..count {
            assert!(self.put_job(true));
            assert_eq!(self.do_jobs(), Ok(ITEMS));
            self.objects.desk.free(self.ledger.jobs.past);
            self.ledger.jobs.put.clear();
            self.ledger.jobs.past += 1;
        }
    }
}
