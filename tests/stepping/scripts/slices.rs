//! Slices, written and read in place, of which only so many bytes may wait.

use super::{Operation, Script, done, join, nothing};
use crate::ledger::{Deeds, Sender};
use crate::sleeper::LENDER;
use crate::streams::{Stream, Which, slice};
use crate::world::{CAPACITY, World};

const LENDS: Deeds = Deeds { lent: 1, ..Deeds::NOTHING };
const RETURNS: Deeds = Deeds { returned: 1, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("slices/send", nothing, send).most(LENDS),
    Script::new("slices/send-later-lap", |world| world.laps(Which::Slices, 2, 2), send).most(LENDS),
    Script::new("slices/send-full", |world| world.fill(Which::Slices, CAPACITY), send).most(LENDS),
    Script::new("slices/loan-dropped", nothing, loan),
    Script::new("slices/loan-long-dropped", nothing, loan_long),
    Script::new("slices/recv", |world| world.laps(Which::Slices, 1, 2), recv).most(RETURNS),
    Script::new("slices/recv-for-bytes", |world| world.fill(Which::Slices, 2), recv_two)
        .most(Deeds { returned: 2, ..Deeds::NOTHING })
        .sleeper(&LENDER),
];

fn send(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.slices.reach(&segment);
    Box::new(move || {
        let message = slice((Sender::Victim, 0));
        let mut loan = queue.loan(message.len()).expect("a free block");
        loan.copy_from_slice(&message);
        let lent = loan.try_send().is_ok().into();
        done(Deeds { lent, ..Deeds::NOTHING }, (queue, segment))
    })
}

fn loan(world: &World) -> Operation {
    let segment = join(world);
    let queue = world.names.slices.reach(&segment);
    Box::new(move || {
        drop(queue.loan(8).expect("a free block"));
        done(Deeds::NOTHING, (queue, segment))
    })
}

/// More bytes than a block has, in a queue without a bound.
fn loan_long(world: &World) -> Operation {
    let segment = join(world);
    let builder = multiproc_ipc::Queue::<u32, _>::slices_builder(1);
    let queue = builder.build_in(&segment).expect("room");
    Box::new(move || {
        drop(queue.loan(100).expect("room for a buffer"));
        done(Deeds::NOTHING, (queue, segment))
    })
}

fn recv(world: &World) -> Operation {
    receiving(world, 1)
}

fn recv_two(world: &World) -> Operation {
    receiving(world, 2)
}

fn receiving(world: &World, count: usize) -> Operation {
    let segment = join(world);
    let queue = world.names.slices.reach(&segment);
    Box::new(move || {
        let mut returned = 0;
        for _ in 0..count {
            returned += i64::from(queue.take().expect("a whole message").is_some());
        }
        done(Deeds { returned, ..Deeds::NOTHING }, (queue, segment))
    })
}
