//! The segment as a heap: whatever processes make and drop in it, of whatever size, and whenever they
//! are killed over it, no two objects overlap, new ones are zeros, and everything is given back.
//!
//! Held against Python's `heap`, whose 5000 random allocations have the same end: one free block.
//! What is looked at is the whole segment, by the same audit that the stepping tests use.

use std::time::Duration;

use multiproc::{
    Array, BoundedSemaphore, Counter, Error, Mutex, Process, Queue, RwLock, Segment, Spawner, Value,
};
use multiproc_ipc::testing::{audit, leftovers};
use serde::{Deserialize, Serialize};
use support::{Random, SOON, eventually, guard, kill, queue_in};

multiproc::init_before_main!();

/// How often something is made or dropped in each test.
const STEPS: i64 = 5_000;
const MIB: u64 = 1 << 20;

/// An object that is full of one number, and so tells when another one overlaps it.
#[derive(Debug, Serialize, Deserialize)]
struct Piece {
    numbers: Array<u32>,
    number: u32,
}

impl Piece {
    /// A new one, of any size up to 64 KiB; small ones are as frequent as large ones. `None` if there
    /// is no room, or no place in the catalog.
    fn new(segment: &Segment, random: &mut Random) -> Option<Piece> {
        let magnitude = random.below(15);
        let len = random.below(1 << magnitude) as usize;
        let numbers = match Array::new_in(segment, len) {
            Ok(numbers) => numbers,
            Err(Error::OutOfMemory { .. } | Error::TooManyObjects(_)) => return None,
            Err(error) => panic!("{error}"),
        };
        assert!(numbers.iter().all(|number| number == 0), "a new one is zeros");
        let number = random.number() as u32;
        numbers.fill(number);
        Some(Piece { numbers, number })
    }

    /// Looks whether it is untouched.
    fn check(&self) {
        assert!(self.numbers.iter().all(|number| number == self.number), "{self:?}");
    }
}

/// Pieces, of which some are made and some dropped in each step.
struct Heap {
    segment: Segment,
    random: Random,
    pieces: Vec<Piece>,
}

impl Heap {
    fn new(segment: &Segment, random: Random) -> Heap {
        Heap { segment: segment.clone(), random, pieces: Vec::new() }
    }

    fn any(&mut self) -> Option<Piece> {
        let count = self.pieces.len() as u64;
        (count > 0).then(|| self.pieces.swap_remove(self.random.below(count) as usize))
    }

    fn step(&mut self, most: u64) {
        if self.pieces.len() as u64 <= self.random.below(most) {
            match Piece::new(&self.segment, &mut self.random) {
                Some(piece) => self.pieces.push(piece),
                None => self.pieces.iter().for_each(Piece::check),
            }
        }
        if self.pieces.len() as u64 > self.random.below(most)
            && let Some(piece) = self.any()
        {
            piece.check();
        }
    }
}

/// The largest gap: how much is left for one object.
fn room(segment: &Segment) -> u64 {
    match Array::<u8>::new_in(segment, usize::MAX / 2) {
        Err(Error::OutOfMemory { left, .. }) => left,
        other => panic!("{other:?}"),
    }
}

/// What contradicts the segment's invariants, while this is the only process that takes part.
fn violations(segment: &Segment) -> Vec<String> {
    audit(segment, &[segment.participant_index()])
}

#[test]
fn objects_made_and_dropped_at_random_leave_no_gap_overlap_or_leak() {
    let _guard = guard();
    let segment = Segment::builder().participants(2).objects(64).bytes(2 * MIB);
    let segment = segment.anonymous().unwrap();
    let before = room(&segment);
    let mut heap = Heap::new(&segment, Random::seeded());
    for step in 0..STEPS {
        heap.step(50);
        if step % 100 == 0 {
            assert_eq!(violations(&segment), [""; 0]);
        }
    }
    while let Some(piece) = heap.any() {
        piece.check();
    }
    assert_eq!(violations(&segment), [""; 0]);
    assert_eq!(leftovers(&segment), [""; 0]);
    assert_eq!(room(&segment), before, "all that was free is free again, in one piece");
}

/// Makes objects of every other kind, drops some, and passes some on.
fn bystanders(segment: &Segment, random: &mut Random) -> Result<(), Error> {
    let number = random.number();
    match random.below(6) {
        0 => Counter::new_in(segment)?.add(number as i64),
        1 => *Mutex::new_in(segment, 0)?.lock().unwrap() = number,
        2 => Value::new_in(segment, [0; 5])?.set([number; 5]),
        3 => drop(RwLock::new_in(segment, number)?.read().unwrap()),
        4 => drop(BoundedSemaphore::new_in(segment, number as usize % 100)?.try_acquire()),
        _ => {
            let queue = Queue::<Counter>::builder(3).build_in(segment)?;
            let _ = queue.try_send(Counter::new_in(segment)?);
        }
    }
    Ok(())
}

#[test]
fn objects_of_processes_killed_at_random_are_all_given_back() {
    let _guard = guard();
    const WORKERS: usize = 3;
    fn work(seed: u64, traded: Queue<Piece>, steps: Counter, ready: Queue<()>) {
        ready.send(()).unwrap();
        let mut heap = Heap::new(&Segment::current().unwrap(), Random::from_seed(seed));
        loop {
            heap.step(20);
            // What one makes another may drop.
            if let Some(piece) = heap.any()
                && let Err(unsent) = traded.try_send(piece)
            {
                heap.pieces.push(unsent.into_value());
            }
            heap.pieces.extend(traded.try_recv().ok());
            match bystanders(&heap.segment, &mut heap.random) {
                Ok(()) | Err(Error::OutOfMemory { .. } | Error::TooManyObjects(_)) => {}
                Err(error) => panic!("{error}"),
            }
            steps.add(1);
        }
    }
    let segment = Segment::builder().participants(8).objects(128).bytes(8 * MIB);
    let segment = segment.anonymous().unwrap();
    let mut random = Random::seeded();
    let traded = queue_in::<Piece>(&segment, 8);
    let (steps, ready) = (Counter::new_in(&segment).unwrap(), queue_in(&segment, WORKERS));
    let start = |seed| -> Process<()> {
        let arguments = (seed, traded.clone(), steps.clone(), ready.clone());
        let child = Spawner::new().segment(&segment).spawn(work, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let (before, owned) = (room(&segment), leftovers(&segment));
    let mut rounds = 0;
    while steps.get() < STEPS || rounds < 20 {
        let mut workers: Vec<_> = (0..WORKERS).map(|_| start(random.number())).collect();
        for _ in 0..3 {
            random.pause(Duration::from_millis(10));
            let place = random.below(WORKERS as u64) as usize;
            kill(&workers[place]);
            workers[place] = start(random.number());
        }
        random.pause(Duration::from_millis(10));
        // All at once: whoever is in the middle of something, nobody is left to finish it.
        workers.iter().for_each(|worker| assert!(worker.child().kill().unwrap()));
        workers.iter().for_each(kill);
        drop(workers);
        while let Ok(piece) = traded.try_recv() {
            piece.check();
        }
        // Whoever watched over the workers lets go of their mailboxes last.
        eventually("nothing else is left", || leftovers(&segment) == owned);
        assert_eq!(violations(&segment), [""; 0]);
        assert_eq!(room(&segment), before, "all that was free is free again, in one piece");
        rounds += 1;
    }
}
