//! iceoryx2: publish and subscribe, told to lose nothing: no overflow, and who sends waits for room.
//!
//! Its files go below the stage's own directory, and bear the stage's name.

use std::fmt::Debug;
use std::hint::spin_loop;
use std::marker::PhantomData;
use std::mem::MaybeUninit;

use iceoryx2::config::Config;
use iceoryx2::node::Node;
use iceoryx2::port::backpressure_strategy::BackpressureStrategy;
use iceoryx2::port::listener::Listener;
use iceoryx2::port::notifier::Notifier;
use iceoryx2::port::publisher::Publisher;
use iceoryx2::port::subscriber::Subscriber;
use iceoryx2::prelude::*;

use crate::drive::wire::{self, Receiver, Shape, Wire};
use crate::stage::{Result, Stage, Trouble};

type Ipc = ipc::Service;

/// How messages are carried, and how they are waited for.
pub(crate) trait Manner: Sync {
    type Publisher;
    type Subscriber;

    fn publisher(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Publisher>;
    fn subscriber(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Subscriber>;
    fn send(publisher: &mut Self::Publisher, shape: Shape, number: u64);
    fn try_recv(subscriber: &mut Self::Subscriber, shape: Shape) -> Option<u64>;

    /// Waits until there may be something to receive.
    fn wait(_: &mut Self::Subscriber) {
        spin_loop();
    }
}

pub(crate) struct Service<M> {
    config: Config,
    shape: Shape,
    manner: PhantomData<fn() -> M>,
}

pub(crate) struct End<P> {
    port: P,
    shape: Shape,
    _node: Node<Ipc>,
}

/// What `M` sends, and receives, from.
pub(crate) struct Out<M: Manner>(End<M::Publisher>);
pub(crate) struct In<M: Manner>(End<M::Subscriber>);

fn failed(error: impl Debug) -> Trouble {
    Trouble::Failed(format!("{error:?}"))
}

impl<M: Manner> Service<M> {
    fn node(&self) -> Result<Node<Ipc>> {
        set_log_level(LogLevel::Fatal);
        let builder = NodeBuilder::new().signal_handling_mode(SignalHandlingMode::Disabled);
        builder.config(&self.config).create().map_err(failed)
    }

    fn end<P>(
        &self,
        lane: usize,
        open: impl FnOnce(&Node<Ipc>, &ServiceName, Shape) -> Result<P>,
    ) -> Result<End<P>> {
        let node = self.node()?;
        let name = ServiceName::new(&format!("lane {lane}")).map_err(failed)?;
        Ok(End { port: open(&node, &name, self.shape)?, shape: self.shape, _node: node })
    }
}

impl<M: Manner> Wire for Service<M> {
    type Sender<'a>
        = Out<M>
    where
        M: 'a;
    type Receiver<'a>
        = In<M>
    where
        M: 'a;

    fn make(stage: &Stage, shape: Shape) -> Result<Service<M>> {
        let mut config = Config::default();
        let directory = stage.directory.as_os_str().as_encoded_bytes();
        config.global.set_root_path(&Path::new(directory).map_err(failed)?);
        config.global.prefix = FileName::new(stage.name.as_bytes()).map_err(failed)?;
        Ok(Service { config, shape, manner: PhantomData })
    }

    fn sender(&self, lane: usize) -> Result<Out<M>> {
        self.end(lane, M::publisher).map(Out)
    }

    fn receiver(&self, lane: usize) -> Result<In<M>> {
        self.end(lane, M::subscriber).map(In)
    }
}

impl<M: Manner> wire::Sender for Out<M> {
    #[inline]
    fn send(&mut self, number: u64) {
        M::send(&mut self.0.port, self.0.shape, number);
    }
}

impl<M: Manner> Receiver for In<M> {
    #[inline]
    fn recv(&mut self) -> u64 {
        loop {
            if let Some(number) = M::try_recv(&mut self.0.port, self.0.shape) {
                return number;
            }
            M::wait(&mut self.0.port);
        }
    }
}

/// A service of `T`, by its name, that loses nothing.
macro_rules! service {
    ($node:expr, $name:expr, $shape:expr, $type:ty) => {
        $node
            .service_builder($name)
            .publish_subscribe::<$type>()
            .enable_safe_overflow(false)
            .subscriber_max_buffer_size($shape.capacity)
            .max_publishers($shape.senders)
            .max_subscribers($shape.receivers)
            .max_nodes(16)
            .open_or_create()
            .map_err(failed)?
    };
}

const WAIT: BackpressureStrategy = BackpressureStrategy::RetryUntilDelivered;

/// Numbers, copied; the receiver looks again and again.
pub(crate) struct Words;

impl Manner for Words {
    type Publisher = Publisher<Ipc, u64, ()>;
    type Subscriber = Subscriber<Ipc, u64, ()>;

    fn publisher(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Publisher> {
        let service = service!(node, name, shape, u64);
        service.publisher_builder().backpressure_strategy(WAIT).create().map_err(failed)
    }

    fn subscriber(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Subscriber> {
        let service = service!(node, name, shape, u64);
        service.subscriber_builder().buffer_size(shape.capacity).create().map_err(failed)
    }

    #[inline]
    fn send(publisher: &mut Self::Publisher, _: Shape, number: u64) {
        publisher.send_copy(number).expect("it waits for room");
    }

    #[inline]
    fn try_recv(subscriber: &mut Self::Subscriber, _: Shape) -> Option<u64> {
        subscriber.receive().expect("it is connected").map(|sample| *sample)
    }
}

/// Numbers, copied; an event tells the receiver, who sleeps.
pub(crate) struct WordsWithEvents;

impl Manner for WordsWithEvents {
    type Publisher = (Publisher<Ipc, u64, ()>, Notifier<Ipc>);
    type Subscriber = (Subscriber<Ipc, u64, ()>, Listener<Ipc>);

    fn publisher(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Publisher> {
        let event = node.service_builder(name).event().open_or_create().map_err(failed)?;
        let notifier = event.notifier_builder().create().map_err(failed)?;
        Ok((Words::publisher(node, name, shape)?, notifier))
    }

    fn subscriber(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Subscriber> {
        let event = node.service_builder(name).event().open_or_create().map_err(failed)?;
        let listener = event.listener_builder().create().map_err(failed)?;
        Ok((Words::subscriber(node, name, shape)?, listener))
    }

    fn send((publisher, notifier): &mut Self::Publisher, shape: Shape, number: u64) {
        Words::send(publisher, shape, number);
        notifier.notify().expect("somebody listens");
    }

    fn try_recv((subscriber, _): &mut Self::Subscriber, shape: Shape) -> Option<u64> {
        Words::try_recv(subscriber, shape)
    }

    fn wait((_, listener): &mut Self::Subscriber) {
        listener.blocking_wait(|_| ()).expect("somebody notifies");
    }
}

/// Slices, written and read where they stand; with `COPIED`, copied in, and out before they are read.
pub(crate) struct Slices<const COPIED: bool>;

impl<const COPIED: bool> Manner for Slices<COPIED> {
    type Publisher = (Publisher<Ipc, [u64], ()>, Vec<u64>);
    type Subscriber = (Subscriber<Ipc, [u64], ()>, Vec<u64>);

    fn publisher(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Publisher> {
        let service = service!(node, name, shape, [u64]);
        let builder = service.publisher_builder().backpressure_strategy(WAIT);
        let publisher = builder.initial_max_slice_len(shape.words).create().map_err(failed)?;
        Ok((publisher, vec![0; shape.words]))
    }

    fn subscriber(node: &Node<Ipc>, name: &ServiceName, shape: Shape) -> Result<Self::Subscriber> {
        let service = service!(node, name, shape, [u64]);
        let builder = service.subscriber_builder().buffer_size(shape.capacity);
        Ok((builder.create().map_err(failed)?, vec![0; shape.words]))
    }

    #[inline]
    fn send((publisher, copy): &mut Self::Publisher, shape: Shape, number: u64) {
        let mut loan = publisher.loan_slice_uninit(shape.words).expect("it waits for room");
        let loan = if COPIED {
            shape.write(copy, number);
            loan.write_from_slice(copy)
        } else {
            let words: &mut [MaybeUninit<u64>] = loan.payload_mut();
            // SAFETY: any bytes are words; what stands there already is the last message.
            shape.write(unsafe { words.assume_init_mut() }, number);
            // SAFETY: as above.
            unsafe { loan.assume_init() }
        };
        loan.send().expect("it waits for room");
    }

    #[inline]
    fn try_recv((subscriber, copy): &mut Self::Subscriber, shape: Shape) -> Option<u64> {
        let sample = subscriber.receive().expect("it is connected")?;
        if COPIED {
            copy.copy_from_slice(&sample);
            drop(sample);
            Some(shape.read(copy))
        } else {
            Some(shape.read(&sample))
        }
    }
}
