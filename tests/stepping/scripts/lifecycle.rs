//! Each kind of object: made, and its last handle dropped.

use multiproc_ipc::{
    Array, Barrier, BoundedSemaphore, Condvar, Error, Event, Mutex, OnceCell, Queue,
    ReentrantMutex, RwLock, Segment, Semaphore, Tally, Value,
};

use super::{Operation, Script, done, join, nothing};
use crate::ledger::Deeds;
use crate::world::World;

macro_rules! lives {
    ($($kind:literal: |$segment:ident| $make:expr;)*) => {
        pub(crate) const SCRIPTS: &[Script] = &[$(
            Script::new(concat!("lifecycle/create-", $kind), nothing, |world| {
                create(world, |$segment| $make)
            }),
            Script::new(concat!("lifecycle/drop-", $kind), nothing, |world| {
                drop_last(world, |$segment| $make)
            }),
        )*];
    };
}

lives! {
    "mutex": |segment| Mutex::new_in(segment, [1_u64; 2]);
    "locked-slice": |segment| Mutex::from_slice_in(segment, &[1_u64; 9]);
    "reentrant-mutex": |segment| ReentrantMutex::new_in(segment, 1_u64);
    "rwlock": |segment| RwLock::new_in(segment, [1_u64; 2]);
    "condvar": |segment| Condvar::new_in(segment);
    "semaphore": |segment| Semaphore::new_in(segment, 3);
    "bounded-semaphore": |segment| BoundedSemaphore::new_in(segment, 3);
    "event": |segment| Event::auto_reset_in(segment);
    "barrier": |segment| Barrier::new_in(segment, 3);
    "once-cell": |segment| OnceCell::<[u64; 2]>::new_in(segment);
    "word": |segment| Value::new_in(segment, 1_u64);
    "value": |segment| Value::new_in(segment, [1_u64; 3]);
    "array": |segment| Array::<u32>::new_in(segment, 9);
    "tally": |segment| Tally::<[i64; 2]>::new_in(segment);
    "inline-queue": |segment| Queue::<u64, _>::inline_builder(3).build_in(segment);
    "slices-queue": |segment| Queue::<u64, _>::slices_builder(3).build_in(segment);
}

fn create<H: 'static>(world: &World, make: fn(&Segment) -> Result<H, Error>) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let handle = make(&segment).expect("room");
        done(Deeds::NOTHING, (handle, segment))
    })
}

fn drop_last<H: 'static>(world: &World, make: fn(&Segment) -> Result<H, Error>) -> Operation {
    let segment = join(world);
    let handle = make(&segment).expect("room");
    Box::new(move || {
        drop(handle);
        done(Deeds::NOTHING, segment)
    })
}
