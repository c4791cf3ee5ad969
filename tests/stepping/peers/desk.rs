//! The desk.

use multiproc_ipc::family::desk::TRAYS;

use super::{Amount, Peer};

impl Peer<'_> {
    /// Has the part that the victim does not have.
    pub(super) fn desk(&mut self, amount: Amount) {
        match self.script.most.worked {
            _ if self.script.group() != "desk" => {}
            0 => self.work(),
            _ => self.employ(amount),
        }
    }

    fn work(&mut self) {
        match self.world.do_jobs() {
            Ok(items) => self.world.ledger.others.worked += i64::from(items),
            Err(torn) => self.violations.push(torn),
        }
    }

    /// Looks how far the victim is, takes back what it can, and puts more.
    fn employ(&mut self, amount: Amount) {
        self.look();
        for _ in 0..if amount == Amount::Laps { 3 } else { 0 } {
            let jobs = &self.world.ledger.jobs;
            let oldest = jobs.each().next().map_or(jobs.next(), |(position, _)| position);
            while self.world.put_job(true) {}
            let next = self.world.ledger.jobs.next();
            let room = next - oldest;
            self.expect(room == u64::from(TRAYS), || format!("{oldest} to {next} at the desk"));
            let there: Vec<_> = self.world.ledger.jobs.each().collect();
            for (position, job) in there {
                let begun = self.world.objects.desk.progress(position, job.items()).begun;
                let taken_back = self.world.take_job_back(position);
                self.expect(taken_back != begun, || format!("{job:?} taken back, and begun"));
            }
        }
        // The victim, when it goes on, finds one, unless it is still at one from a lap ago.
        self.world.put_job(true);
        self.look();
    }

    fn look(&mut self) {
        let jobs: Vec<_> = self.world.ledger.jobs.each().collect();
        for (position, job) in jobs {
            if let Err(wrong) = job.progress(&self.world.objects.desk, position) {
                self.violations.push(wrong);
            }
        }
    }
}
