//! What is to run, and how that changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use multiproc_sys::clock;

use super::Runtime;
use crate::board::Line;
use crate::core::{Event, Order, SlotId};
use crate::group::{Group, Plan};
use crate::logs::Log;
use crate::sockets::{Address, Listening};
use crate::supervisor::SuperviseError;

impl Runtime {
    /// Opens the sockets and logs of the plan, and lets go of those that it has no more.
    pub(super) fn prepare(&mut self) -> Result<(), SuperviseError> {
        let mut sockets = BTreeMap::new();
        for worker in self.plan.workers.values() {
            for address in &worker.sockets {
                let open = self.ground.sockets.get(address).or(sockets.get(address)).cloned();
                let socket = match open {
                    Some(socket) => socket,
                    None => Arc::new(listen(address)?),
                };
                sockets.insert(address.clone(), socket);
            }
        }
        self.ground.sockets = sockets;
        for (id, worker) in &self.plan.workers {
            self.logs.entry(*id).or_insert_with(|| Log::new(&worker.log));
        }
        Ok(())
    }

    /// Makes the first worker one slot larger or smaller.
    pub(super) fn scale_first(&mut self, by: i64) {
        let first = self.plan.tree.groups.first().and_then(|group| group.workers.first());
        let Some(worker) = first.map(|worker| worker.id) else { return };
        let count = i64::from(self.count_of(worker)) + by;
        if let Ok(count) = u32::try_from(count)
            && self.has_room_for(worker, count)
        {
            self.events.push_back(Event::Order(Order::Scale { worker, count }));
        }
    }

    /// How many slots a worker has, not counting those that go.
    pub(super) fn count_of(&self, worker: u32) -> u32 {
        let own = self.machine.slots().filter(|slot| slot.id().worker == worker);
        own.filter(|slot| !slot.is_retiring()).count() as u32
    }

    pub(super) fn has_room_for(&self, worker: u32, count: u32) -> bool {
        let more = count.saturating_sub(self.count_of(worker)) as usize;
        self.ground.board.is_none() || more <= self.free_lines.len()
    }

    /// Reads the configuration anew, if there is one, and makes it so.
    pub(super) fn reload_configuration(&mut self) -> Result<(), SuperviseError> {
        let Some(read) = &mut self.options.reload else {
            return Err(SuperviseError::Configuration("there is none to be read".into()));
        };
        let done = match read() {
            Ok(groups) => self.reconfigure(&groups),
            Err(text) => Err(SuperviseError::Configuration(text)),
        };
        match &done {
            Ok(()) => self.tell("configured", None, "the configuration was read again".into()),
            Err(error) => {
                self.tell("not_configured", None, format!("nothing was changed: {error}"));
            }
        }
        done
    }

    /// Makes it so that these groups run, and touches only what differs. Nothing is changed if that is
    /// impossible.
    pub(super) fn reconfigure(&mut self, groups: &[Group]) -> Result<(), SuperviseError> {
        let mut numbers = self.numbers.clone();
        let plan = Plan::new(groups, self.options.starting_max, &mut numbers)?;
        let before = std::mem::replace(&mut self.plan, plan);
        if let Err(error) = self.prepare() {
            self.plan = before;
            return Err(error);
        }
        for (id, worker) in &self.plan.workers {
            if before.workers.get(id).is_none_or(|old| old.log != worker.log) {
                self.logs.insert(*id, Log::new(&worker.log));
            }
        }
        self.numbers = numbers;
        let actions = self.machine.reconfigure(self.plan.tree.clone(), clock::now());
        // Those that go are still to be stopped by what was said of them.
        for (id, worker) in before.workers {
            self.plan.workers.entry(id).or_insert(worker);
        }
        self.carry_out_all(actions);
        Ok(())
    }

    pub(super) fn remove(&mut self, slot: SlotId) {
        if let Some(line) = self.lines.remove(&slot) {
            if let Some(board) = &self.ground.board {
                board.set_line(line, Line::default());
            }
            self.free_lines.push(line);
        }
        self.told.remove(&slot);
        self.stopped.remove(&slot);
    }
}

fn listen(address: &Address) -> Result<Listening, SuperviseError> {
    Listening::at(address)
        .map_err(|source| SuperviseError::Socket { address: address.clone(), source })
}
