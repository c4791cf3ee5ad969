//! This library, by its public interface, as programs use it that have nothing in common but the name
//! of a segment: the first participant makes the segment and publishes what is in it, the others find
//! it there.

use std::collections::VecDeque;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::sync::OnceLock;

use multiproc_ipc::{
    Counter, Error, Handle, Inline, Mutex, Queue, RwLock, Segment, SendError, Slices,
};
use serde::{Deserialize, Serialize};

use crate::drive::wire::{Receiver, Sender, Shape, Wire};
use crate::drive::work::Work;
use crate::stage::{Result, Stage};

/// A segment, by its name.
pub(crate) struct Place {
    name: String,
    /// The share that this process has in it.
    segment: OnceLock<Segment>,
}

impl Place {
    pub(crate) fn new(stage: &Stage) -> Place {
        Place { name: stage.name.clone(), segment: OnceLock::new() }
    }

    /// Takes part in the segment; makes it if there is none.
    pub(crate) fn segment(&self) -> Result<&Segment> {
        if let Some(segment) = self.segment.get() {
            return Ok(segment);
        }
        let segment = match Segment::open(&self.name) {
            Err(Error::Missing(_)) => Segment::builder().named(&self.name),
            opened => opened,
        }?;
        Ok(self.segment.get_or_init(|| segment))
    }

    /// What is published under a name; made and published if there is nothing.
    pub(crate) fn find<H: Handle>(
        &self,
        name: &str,
        make: impl FnOnce(&Segment) -> Result<H, Error>,
    ) -> Result<H> {
        let segment = self.segment()?;
        match segment.find(name) {
            Err(Error::NotPublished(_)) => {
                let made = make(segment)?;
                segment.publish(name, &made)?;
                Ok(made)
            }
            found => Ok(found?),
        }
    }
}

/// A handle of this library that is worked on, and how.
pub(crate) trait Object: Handle {
    fn make(segment: &Segment) -> Result<Self, Error>;
    fn once(&self);
    fn sum(&self) -> Option<u64>;
}

/// Work on one of our objects.
pub(crate) struct Ours<O>(Place, PhantomData<fn() -> O>);

impl<O: Object> Work for Ours<O> {
    type Handle<'a>
        = O
    where
        O: 'a;

    fn make(stage: &Stage) -> Result<Ours<O>> {
        Ok(Ours(Place::new(stage), PhantomData))
    }

    fn open(&self) -> Result<O> {
        self.0.find("object", O::make)
    }

    #[inline]
    fn once(handle: &mut O) {
        O::once(handle);
    }

    fn sum(handle: &mut O) -> Option<u64> {
        O::sum(handle)
    }
}

impl Object for Mutex<u64> {
    fn make(segment: &Segment) -> Result<Self, Error> {
        Mutex::new_in(segment, 0)
    }

    #[inline]
    fn once(&self) {
        *self.lock().expect("nobody died") += 1;
    }

    fn sum(&self) -> Option<u64> {
        Some(*self.lock().expect("nobody died"))
    }
}

impl Object for RwLock<u64> {
    fn make(segment: &Segment) -> Result<Self, Error> {
        RwLock::new_in(segment, 1)
    }

    #[inline]
    fn once(&self) {
        assert_eq!(*self.read().expect("nobody died"), 1);
    }

    fn sum(&self) -> Option<u64> {
        None
    }
}

impl Object for Counter {
    fn make(segment: &Segment) -> Result<Self, Error> {
        Counter::new_in(segment)
    }

    #[inline]
    fn once(&self) {
        self.add(1);
    }

    fn sum(&self) -> Option<u64> {
        Some(self.get().cast_unsigned())
    }
}

/// A queue of this library, and how messages go through it.
pub(crate) trait Mode: Sync {
    type Queue: Handle;
    /// What an end keeps beside the queue.
    type Own: Default;

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error>;
    fn send(queue: &Self::Queue, own: &mut Self::Own, shape: Shape, number: u64);
    fn recv(queue: &Self::Queue, own: &mut Self::Own, shape: Shape) -> u64;
    fn flush(_: &Self::Queue, _: &mut Self::Own) {}
}

/// A queue of this library as a wire.
pub(crate) struct Through<M>(Place, Shape, PhantomData<fn() -> M>);

/// Either end.
pub(crate) struct End<M: Mode> {
    queue: M::Queue,
    own: M::Own,
    shape: Shape,
}

impl<M: Mode> Through<M> {
    fn end(&self, lane: usize) -> Result<End<M>> {
        let Through(place, shape, _) = self;
        let queue = place.find(&format!("lane {lane}"), |segment| M::make(segment, *shape))?;
        Ok(End { queue, own: M::Own::default(), shape: *shape })
    }
}

impl<M: Mode> Wire for Through<M> {
    type Sender<'a>
        = End<M>
    where
        M: 'a;
    type Receiver<'a>
        = End<M>
    where
        M: 'a;

    fn make(stage: &Stage, shape: Shape) -> Result<Through<M>> {
        Ok(Through(Place::new(stage), shape, PhantomData))
    }

    fn sender(&self, lane: usize) -> Result<End<M>> {
        self.end(lane)
    }

    fn receiver(&self, lane: usize) -> Result<End<M>> {
        self.end(lane)
    }
}

impl<M: Mode> Sender for End<M> {
    #[inline]
    fn send(&mut self, number: u64) {
        M::send(&self.queue, &mut self.own, self.shape, number);
    }

    fn flush(&mut self) {
        M::flush(&self.queue, &mut self.own);
    }
}

impl<M: Mode> Receiver for End<M> {
    #[inline]
    fn recv(&mut self) -> u64 {
        M::recv(&self.queue, &mut self.own, self.shape)
    }
}

/// `Queue::inline`, one message a call. With `POLL`, its receiver tries again and never sleeps.
pub(crate) struct InlineWords<const POLL: bool>;

impl<const POLL: bool> Mode for InlineWords<POLL> {
    type Queue = Queue<u64, Inline>;
    type Own = ();

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        Queue::inline_builder(shape.capacity).build_in(segment)
    }

    #[inline]
    fn send(queue: &Self::Queue, _: &mut (), _: Shape, number: u64) {
        queue.send(number).expect("it is open");
    }

    #[inline]
    fn recv(queue: &Self::Queue, _: &mut (), _: Shape) -> u64 {
        if !POLL {
            return queue.recv().expect("it is open");
        }
        loop {
            if let Ok(number) = queue.try_recv() {
                return number;
            }
            spin_loop();
        }
    }
}

/// How many messages one call takes at most.
const BATCH: usize = 64;

/// `Queue::inline`, up to 64 messages a call.
pub(crate) struct InlineBatches;

#[derive(Default)]
pub(crate) struct Batch {
    out: Vec<u64>,
    into: Vec<u64>,
    waiting: VecDeque<u64>,
}

impl Mode for InlineBatches {
    type Queue = Queue<u64, Inline>;
    type Own = Batch;

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        Queue::inline_builder(shape.capacity).build_in(segment)
    }

    #[inline]
    fn send(queue: &Self::Queue, own: &mut Batch, _: Shape, number: u64) {
        own.out.push(number);
        if own.out.len() == BATCH {
            Self::flush(queue, own);
        }
    }

    #[inline]
    fn recv(queue: &Self::Queue, own: &mut Batch, _: Shape) -> u64 {
        if own.waiting.is_empty() {
            queue.recv_batch(&mut own.into, BATCH).expect("it is open");
            own.waiting.extend(own.into.drain(..));
        }
        own.waiting.pop_front().expect("at least one was received")
    }

    fn flush(queue: &Self::Queue, own: &mut Batch) {
        queue.send_batch(own.out.drain(..)).expect("it is open");
    }
}

/// `Queue::bounded`, of numbers.
pub(crate) struct EncodedWords;

impl Mode for EncodedWords {
    type Queue = Queue<u64>;
    type Own = ();

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        Queue::builder(shape.capacity).build_in(segment)
    }

    #[inline]
    fn send(queue: &Self::Queue, _: &mut (), _: Shape, number: u64) {
        queue.send(number).expect("it is open");
    }

    #[inline]
    fn recv(queue: &Self::Queue, _: &mut (), _: Shape) -> u64 {
        queue.recv().expect("it is open")
    }
}

/// `Queue::slices`: written where it stands, and read there. With `POLL`, neither end ever sleeps.
pub(crate) struct Loans<const POLL: bool>;

impl<const POLL: bool> Mode for Loans<POLL> {
    type Queue = Queue<u64, Slices>;
    type Own = ();

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        let builder = Queue::slices_builder(shape.capacity);
        builder.message_bytes(shape.bytes() as u32).build_in(segment)
    }

    #[inline]
    fn send(queue: &Self::Queue, _: &mut (), shape: Shape, number: u64) {
        let mut loan = queue.loan(shape.words).expect("there is room");
        shape.write(&mut loan, number);
        if !POLL {
            return loan.send().expect("it is open");
        }
        while let Err(refused) = loan.try_send() {
            let SendError::Full(back) = refused else { panic!("it is open") };
            loan = back;
            spin_loop();
        }
    }

    #[inline]
    fn recv(queue: &Self::Queue, _: &mut (), shape: Shape) -> u64 {
        if !POLL {
            return shape.read(&queue.recv().expect("it is open"));
        }
        loop {
            if let Ok(message) = queue.try_recv() {
                return shape.read(&message);
            }
            spin_loop();
        }
    }
}

/// `Queue::slices`: copied in, and copied out before it is read.
pub(crate) struct Copies;

impl Mode for Copies {
    type Queue = Queue<u64, Slices>;
    type Own = Vec<u64>;

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        Loans::<false>::make(segment, shape)
    }

    fn send(queue: &Self::Queue, own: &mut Vec<u64>, shape: Shape, number: u64) {
        own.resize(shape.words, 0);
        shape.write(own, number);
        queue.send(own).expect("it is open");
    }

    fn recv(queue: &Self::Queue, own: &mut Vec<u64>, shape: Shape) -> u64 {
        own.resize(shape.words, 0);
        own.copy_from_slice(&queue.recv().expect("it is open"));
        shape.read(own)
    }
}

/// `Queue::bounded`, of `Vec<u64>`: encoded, as any value.
pub(crate) struct EncodedSlices;

impl Mode for EncodedSlices {
    type Queue = Queue<Vec<u64>>;
    type Own = ();

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        let builder = Queue::builder(shape.capacity);
        builder.message_bytes(2 * shape.bytes() as u32).build_in(segment)
    }

    fn send(queue: &Self::Queue, _: &mut (), shape: Shape, number: u64) {
        let mut words = vec![0; shape.words];
        shape.write(&mut words, number);
        queue.send(words).expect("it is open");
    }

    fn recv(queue: &Self::Queue, _: &mut (), shape: Shape) -> u64 {
        shape.read(&queue.recv().expect("it is open"))
    }
}

/// A value of some structure, of about 200 bytes.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    number: u64,
    name: String,
    values: Vec<u32>,
}

impl Record {
    pub(crate) fn new(number: u64) -> Record {
        Record {
            number,
            name: "what a job of ordinary size is called, in sixty-four characters.".into(),
            values: vec![number as u32; 32],
        }
    }

    /// The number of the record, if all that is in it is of that number.
    pub(crate) fn number(&self) -> u64 {
        assert_eq!((self.name.len(), self.values.len()), (64, 32));
        let sum = self.values.iter().map(|value| u64::from(*value)).sum::<u64>();
        assert_eq!(sum, 32 * self.number);
        self.number
    }
}

/// `Queue::bounded`, of records.
pub(crate) struct Records;

impl Mode for Records {
    type Queue = Queue<Record>;
    type Own = ();

    fn make(segment: &Segment, shape: Shape) -> Result<Self::Queue, Error> {
        Queue::builder(shape.capacity).message_bytes(256).build_in(segment)
    }

    fn send(queue: &Self::Queue, _: &mut (), _: Shape, number: u64) {
        queue.send(Record::new(number)).expect("it is open");
    }

    fn recv(queue: &Self::Queue, _: &mut (), _: Shape) -> u64 {
        queue.recv().expect("it is open").number()
    }
}
