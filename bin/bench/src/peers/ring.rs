//! The least that messages can cost: a ring in shared memory for one sender and one receiver, who spin.
//!
//! Each end keeps a copy of how far the other one was when it last looked. Nothing here bears a death,
//! a second sender, or a receiver that is slow for long.

use std::hint::spin_loop;
use std::slice;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Release};

use crate::drive::wire::{Receiver, Sender, Shape, Wire};
use crate::memory::{CacheLine, Shared, Zeroed};
use crate::stage::{Result, Stage};

/// With `COPIED`, a message is made elsewhere and copied in, and copied out before it is read;
/// without, it is written and read where it stands.
pub(crate) struct Ring<const COPIED: bool> {
    lanes: Vec<Shared<Cursors>>,
    shape: Shape,
}

pub(crate) type InPlace = Ring<false>;
pub(crate) type Copied = Ring<true>;

/// How many messages were sent and received; the slots stand behind.
#[repr(C)]
pub(crate) struct Cursors {
    sent: CacheLine<AtomicU64>,
    received: CacheLine<AtomicU64>,
}

// SAFETY: atomics only.
unsafe impl Zeroed for Cursors {}

/// Either end.
pub(crate) struct End<'a, const COPIED: bool> {
    cursors: &'a Cursors,
    slots: *mut u64,
    shape: Shape,
    /// How far it is itself, and how far the other one was.
    mine: u64,
    theirs: u64,
    copy: Vec<u64>,
}

impl<const COPIED: bool> Ring<COPIED> {
    fn end(&self, lane: usize) -> End<'_, COPIED> {
        let Ring { lanes, shape } = self;
        let (cursors, slots) = (&lanes[lane], lanes[lane].extra().cast());
        End { cursors, slots, shape: *shape, mine: 0, theirs: 0, copy: vec![0; shape.words] }
    }
}

impl<const COPIED: bool> End<'_, COPIED> {
    fn slot(&self) -> *mut u64 {
        let slot = self.mine as usize % self.shape.capacity;
        // SAFETY: there are `capacity` slots of `words` words each.
        unsafe { self.slots.add(slot * self.shape.words) }
    }
}

impl<const COPIED: bool> Wire for Ring<COPIED> {
    type Sender<'a> = End<'a, COPIED>;
    type Receiver<'a> = End<'a, COPIED>;

    fn make(_: &Stage, shape: Shape) -> Result<Ring<COPIED>> {
        let bytes = shape.capacity * shape.bytes();
        let lanes = (0..shape.lanes).map(|_| Shared::with_extra(bytes)).collect::<Result<_>>()?;
        Ok(Ring { lanes, shape })
    }

    fn sender(&self, lane: usize) -> Result<End<'_, COPIED>> {
        Ok(self.end(lane))
    }

    fn receiver(&self, lane: usize) -> Result<End<'_, COPIED>> {
        Ok(self.end(lane))
    }
}

impl<const COPIED: bool> Sender for End<'_, COPIED> {
    #[inline]
    fn send(&mut self, number: u64) {
        while self.mine - self.theirs == self.shape.capacity as u64 {
            self.theirs = self.cursors.received.load(Acquire);
            spin_loop();
        }
        // SAFETY: the receiver is done with the slot, and reads it only after the store below.
        let slot = unsafe { slice::from_raw_parts_mut(self.slot(), self.shape.words) };
        if COPIED {
            self.shape.write(&mut self.copy, number);
            slot.copy_from_slice(&self.copy);
        } else {
            self.shape.write(slot, number);
        }
        self.mine += 1;
        self.cursors.sent.store(self.mine, Release);
    }
}

impl<const COPIED: bool> Receiver for End<'_, COPIED> {
    #[inline]
    fn recv(&mut self) -> u64 {
        while self.theirs == self.mine {
            self.theirs = self.cursors.sent.load(Acquire);
            spin_loop();
        }
        // SAFETY: the sender has written the slot, and writes it again only after the store below.
        let slot = unsafe { slice::from_raw_parts(self.slot(), self.shape.words) };
        let number = if COPIED {
            self.copy.copy_from_slice(slot);
            self.shape.read(&self.copy)
        } else {
            self.shape.read(slot)
        };
        self.mine += 1;
        self.cursors.received.store(self.mine, Release);
        number
    }
}
