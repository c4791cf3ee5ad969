//! The desk.

use std::collections::BTreeMap;

use multiproc_ipc::family::desk::{TRAYS, Worker};

use super::Verdict;
use crate::desk::{Job, work};
use crate::ledger::Ledger;
use crate::world::Objects;

/// What a tally counts.
type Earned = [u64; 2];

fn sum(of: impl Iterator<Item = Earned>) -> Earned {
    of.fold([0; 2], |sum, one| [sum[0] + one[0], sum[1] + one[1]])
}

impl Verdict {
    /// Accounts for every job and every item, and has a new worker do what is left.
    pub(super) fn desk(&mut self, objects: &Objects, ledger: &Ledger) {
        let (desk, jobs) = (&objects.desk, &ledger.jobs);
        for position in jobs.taken_back() {
            let begun = desk.progress(position, 1).begun;
            self.expect(!begun, || format!("job {position} is done, and was taken back"));
        }
        // The last is the victim's, if it has put one.
        let next = jobs.next();
        let all: Vec<_> = jobs.each().chain([(next, Job::new(next, true))]).collect();
        let mut begun = BTreeMap::new();
        for (position, job) in &all {
            match job.progress(desk, *position) {
                Ok(progress) if progress.begun => _ = begun.insert(*position, progress.items),
                Ok(_) => {}
                Err(wrong) => return self.violations.push(wrong),
            }
        }
        self.seen.worked =
            begun.values().copied().map(i64::from).sum::<i64>() - ledger.others.worked;
        let of = |(position, job): &(u64, Job)| job.earned(*begun.get(position).unwrap_or(&0));
        self.earned(objects, sum(all.iter().map(of).chain([jobs.earned()])));

        let Some(found) = self.find_jobs(objects) else { return };
        let known: Vec<u32> = all.iter().map(|(_, job)| job.number).collect();
        let once = found.iter().all(|it| known.contains(it) && !begun.contains_key(&(*it).into()));
        self.expect(once && found.is_sorted(), || format!("{found:?} wait, {begun:?} are begun"));
        let is_there =
            |position: &u64| begun.contains_key(position) || found.contains(&(*position as u32));
        self.seen.issued = is_there(&next).into();
        self.seen.recalled = jobs.each().filter(|(position, _)| !is_there(position)).count() as i64;

        // Of those that are begun and not finished, the rest is another message.
        let there: Vec<_> = all.into_iter().filter(|(position, _)| is_there(position)).collect();
        there.iter().for_each(|(position, _)| desk.free(*position));
        let mut next = next + self.seen.issued as u64;
        for (position, job) in &there {
            let rest = job.rest(begun.get(position).copied().unwrap_or(job.items()));
            if rest.items() != 0 {
                self.expect(rest.put(desk, next), || format!("no tray for {rest:?} at {next}"));
                let found = self.find_jobs(objects);
                self.expect(found == Some(vec![job.number]), || format!("{found:?}, not {rest:?}"));
                desk.free(next);
                next += 1;
            }
        }
        self.earned(
            objects,
            sum(there.iter().map(|(_, job)| job.earned(job.items())).chain([jobs.earned()])),
        );
        self.brim_desk(objects, next);
    }

    /// Each item that is done was counted, and nothing else.
    fn earned(&mut self, objects: &Objects, expected: Earned) {
        let total = objects.earned.total();
        self.expect(total == expected, || format!("{total:?} counted, and {expected:?} done"));
    }

    /// The jobs that wait, each of which a new worker does.
    fn find_jobs(&mut self, objects: &Objects) -> Option<Vec<u32>> {
        let mut worker = Worker::at(&objects.desk);
        let mut found = Vec::new();
        loop {
            match work(&mut worker, &objects.earned) {
                Ok(Some(job)) => found.push(job.number),
                Ok(None) => return Some(found),
                Err(torn) => {
                    self.violations.push(format!("a torn job: {torn}"));
                    return None;
                }
            }
        }
    }

    /// As many messages fit as there are trays, and all can be taken back, once.
    fn brim_desk(&mut self, objects: &Objects, next: u64) {
        let put = |position: &u64| Job::new(*position, true).put(&objects.desk, *position);
        let room = (next..).take_while(put).count();
        self.expect(room == TRAYS as usize, || format!("{room} jobs fit"));
        let last = next + room as u64;
        let took_back = (next..last).filter(|it| objects.desk.take_back(*it)).count();
        let again = (next..last).filter(|it| objects.desk.take_back(*it)).count();
        self.expect((took_back, again) == (room, 0), || format!("{took_back}, {again} taken back"));
    }
}
