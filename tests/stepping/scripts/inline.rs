//! Sending and receiving numbers, which stand in the ring.

use multiproc_ipc::{Segment, testing};

use super::{Operation, Script, after_death_of, done, join, nothing, unnoticed_death_of};
use crate::ledger::{Deeds, Sender};
use crate::sleeper::{PUTTER, TAKER};
use crate::streams::{Stream, Which, number};
use crate::sweep::patience;
use crate::world::{CAPACITY, World};

const WRITES: Deeds = Deeds { put_in: 1, ..Deeds::NOTHING };
const READS: Deeds = Deeds { got: 1, ..Deeds::NOTHING };
const SHUTS: Deeds = Deeds { shut: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("inline/send-empty", nothing, send).most(WRITES).sleeper(&TAKER),
    Script::new("inline/send-full", |world| fill(world, CAPACITY), send).most(WRITES),
    Script::new("inline/send-later-lap", |world| laps(world, 2, 1), send).most(WRITES),
    Script::new("inline/send-batch", |world| laps(world, 1, 0), send_batch)
        .most(Deeds { put_in: 2, ..Deeds::NOTHING })
        .sleeper(&TAKER),
    Script::new("inline/send-behind-dead", before_skip, send).most(WRITES).sleeper(&TAKER),
    Script::new("inline/send-over-skip", before_full_of_skip, send_surely).most(WRITES),
    Script::new("inline/send-waiting", |world| fill(world, CAPACITY), send_waiting).most(WRITES),
    Script::new("inline/recv-one", |world| fill(world, 1), recv).most(READS),
    Script::new("inline/recv-full", |world| laps(world, 1, CAPACITY), recv)
        .most(READS)
        .sleeper(&PUTTER),
    Script::new("inline/recv-empty", nothing, recv).most(READS),
    Script::new("inline/recv-batch", |world| laps(world, 2, CAPACITY), recv_batch)
        .most(Deeds { got: 2, ..Deeds::NOTHING })
        .sleeper(&PUTTER),
    Script::new("inline/recv-over-skip", before_skip_and_message, recv).most(READS),
    Script::new("inline/recv-behind-dead", before_dead_writer, recv).most(READS),
    Script::new("inline/recv-waiting", nothing, recv_waiting).most(READS).sleeper(&TAKER),
    Script::new("inline/close", |world| fill(world, 1), close).most(SHUTS),
    Script::new("inline/close-empty", nothing, close).most(SHUTS).sleeper(&TAKER),
];

fn fill(world: &mut World, count: usize) {
    world.fill(Which::Numbers, count);
}

fn laps(world: &mut World, laps: usize, left: usize) {
    world.laps(Which::Numbers, laps, left);
}

/// Begins to write a number.
fn claim(world: &World, segment: Segment) {
    let queue = world.names.numbers.reach(&segment);
    testing::claim_cells(&segment);
    std::mem::forget((queue, segment));
}

/// Somebody died while it wrote a number.
fn before_skip(world: &mut World) {
    after_death_of(world, claim);
}

fn before_skip_and_message(world: &mut World) {
    before_skip(world);
    fill(world, 1);
}

/// The cell that the next message needs is one to be skipped.
fn before_full_of_skip(world: &mut World) {
    before_skip(world);
    fill(world, CAPACITY - 1);
}

/// Somebody died while it wrote a number, and nobody has noticed.
fn before_dead_writer(world: &mut World) {
    unnoticed_death_of(world, claim);
    fill(world, 1);
}

fn send(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        let put_in = queue.put((Sender::Victim, 0)).is_ok().into();
        done(Deeds { put_in, ..Deeds::NOTHING }, (queue, segment))
    })
}

/// Sends where there is room, although a cell stands in the way.
fn send_surely(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        queue.put((Sender::Victim, 0)).expect("the dead take no room");
        done(WRITES, (queue, segment))
    })
}

fn send_batch(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        let sent = queue.try_send_batch([0, 1].map(|it| number((Sender::Victim, it))));
        let put_in = sent.map_or_else(|error| error.sent, |()| 2) as i64;
        done(Deeds { put_in, ..Deeds::NOTHING }, (queue, segment))
    })
}

/// Waits in vain while everybody else is stopped, so that falling asleep and waking are observed.
fn send_waiting(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        let message = number((Sender::Victim, 0));
        let put_in = queue.send_timeout(message, patience()).is_ok().into();
        done(Deeds { put_in, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn recv(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        let got = queue.take().expect("a whole message").is_some().into();
        done(Deeds { got, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn recv_batch(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    let mut received = Vec::with_capacity(2);
    Box::new(move || {
        let got = queue.try_recv_batch(&mut received, 2).unwrap_or(0) as i64;
        done(Deeds { got, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn recv_waiting(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        let got = queue.recv_timeout(patience()).is_ok().into();
        done(Deeds { got, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn close(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.numbers.reach(&segment);
    Box::new(move || {
        queue.close();
        done(SHUTS, (queue, segment))
    })
}
