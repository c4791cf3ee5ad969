//! Messages on their way, in both kinds of rings, and tasks that count once.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Participant, Running, Stage};
use crate::segment::Segment;
use crate::{Inline, Queue, RecvError, Tally};

/// What both kinds of queues do.
trait Ring: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// One of this capacity.
    fn of(capacity: usize, segment: &Segment) -> Self;
    fn put(&self, message: u64);
    fn get(&self) -> u64;
    fn try_get(&self) -> Option<u64>;
}

macro_rules! ring {
    ($queue:ty, $builder:path) => {
        impl Ring for $queue {
            fn of(capacity: usize, segment: &Segment) -> Self {
                $builder(capacity).build_in(segment).unwrap()
            }

            fn put(&self, message: u64) {
                self.send(message).unwrap();
            }

            fn get(&self) -> u64 {
                self.recv().unwrap()
            }

            fn try_get(&self) -> Option<u64> {
                match self.try_recv() {
                    Ok(message) => Some(message),
                    Err(RecvError::Empty) => None,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
}

/// Messages stand in blocks, which the cells name.
type Blocks = Queue<u64>;
/// Messages stand in the cells.
type InRing = Queue<u64, Inline>;

ring!(Blocks, Queue::builder);
ring!(InRing, Queue::inline_builder);

fn stage<R: Ring>(participants: u32, capacity: usize) -> Stage<R> {
    Stage::new(participants, move |segment| R::of(capacity, segment))
}

/// What is left, once nobody sends or receives any more.
fn rest<R: Ring>(queue: &R) -> Vec<u64> {
    std::iter::from_fn(|| queue.try_get()).collect()
}

fn messages_pass_in_order<R: Ring>() {
    stage::<R>(2, 1).explore(0, |play| {
        let sender = play.start(1, |queue| {
            queue.put(1);
            queue.put(2);
        });
        assert_eq!([play.me().get(), play.me().get()], [1, 2]);
        sender.join();
        assert_eq!(rest(&**play.me()), []);
    });
}

fn two_receivers_get_one_each<R: Ring>() {
    stage::<R>(3, 2).explore(0, |play| {
        play.me().put(1);
        let receivers = [1, 2].map(|slot| play.start(slot, |queue| queue.get()));
        play.me().put(2);
        let mut got = receivers.map(Running::join);
        got.sort_unstable();
        assert_eq!(got, [1, 2]);
    });
}

/// There is room for one: the one who lives waits for the one who dies.
fn sender_dies<R: Ring>() {
    stage::<R>(3, 1).shallower().explore(1, |play| {
        let victim = play.doom_watched(0, 1, |queue| queue.put(1));
        let sender = play.start(2, |queue| queue.put(2));
        let first = play.me().get();
        let died = victim.join().is_none();
        let others = if died && first == 2 { None } else { Some(play.me().get()) };
        sender.join();
        let mut got: Vec<u64> =
            [first].into_iter().chain(others).chain(rest(&**play.me())).collect();
        got.sort_unstable();
        assert!(got == [1, 2] || died && got == [2], "{got:?}");
    });
}

fn receiver_dies<R: Ring>() {
    stage::<R>(3, 1).shallower().explore(1, |play| {
        play.me().put(1);
        let victim = play.doom_watched(0, 1, |queue| queue.get());
        let receiver = play.start(2, |queue| queue.get());
        play.me().put(2);
        let (theirs, got) = (victim.join(), receiver.join());
        let left = rest(&**play.me());
        // At most one was lost, and only with who received it.
        let mut all: Vec<u64> = [got].into_iter().chain(theirs).chain(left).collect();
        all.sort_unstable();
        assert!(all == [1, 2] || theirs.is_none() && all.len() == 1, "{all:?}");
    });
}

fn sender_and_its_sweeper_die<R: Ring>() {
    stage::<R>(4, 1).explore(2, |play| {
        let receiver = play.start(3, |queue| queue.get());
        if play.doom(0, 1, |queue| queue.put(1)).join().is_none() {
            play.doom_watched(1, 2, Participant::recover).join();
        }
        play.me().put(2);
        let got = receiver.join();
        let left = rest(&**play.me());
        assert!(matches!((got, &*left), (1, [2]) | (2, [])), "{got} {left:?}");
    });
}

macro_rules! of_both_kinds {
    ($($model:ident: $blocks:ident, $inline:ident;)*) => {
        $(
            #[test]
            fn $blocks() {
                $model::<Blocks>();
            }

            #[test]
            fn $inline() {
                $model::<InRing>();
            }
        )*
    };
}

of_both_kinds! {
    messages_pass_in_order: blocks_messages_pass_in_order, inline_messages_pass_in_order;
    two_receivers_get_one_each: blocks_two_receivers_get_one_each, inline_two_receivers_get_one_each;
    sender_dies: blocks_sender_dies_and_holds_nobody_up, inline_sender_dies_and_holds_nobody_up;
    receiver_dies: blocks_receiver_dies_with_its_message, inline_receiver_dies_with_its_message;
    sender_and_its_sweeper_die: blocks_sender_and_its_sweeper_die, inline_sender_and_its_sweeper_die;
}

#[test]
fn lease_of_the_dead_comes_back() {
    stage::<Blocks>(3, 2).explore(1, |play| {
        play.me().put(1);
        let work = |queue: &Participant<Blocks>| {
            let lease = queue.lease().unwrap();
            let message = *lease;
            lease.ack();
            message
        };
        let victim = play.doom_watched(0, 1, work);
        let other = play.start(2, work);
        play.me().put(2);
        let done = victim.join();
        if done.is_none() {
            // It may have done one.
            play.me().put(3);
        }
        let others = other.join();
        let left = rest(&**play.me());
        let mut all: Vec<u64> = [others].into_iter().chain(done).chain(left).collect();
        all.sort_unstable();
        let all_but = |missing: &[u64]| {
            [1, 2, 3].into_iter().filter(|it| !missing.contains(it)).collect::<Vec<_>>()
        };
        match done {
            Some(_) => assert_eq!(all, [1, 2]),
            None => assert!(
                [&[] as &[u64], &[1], &[2]].iter().any(|lost| all == all_but(lost)),
                "{all:?}"
            ),
        }
    });
}

#[test]
fn task_of_the_dead_counts_once() {
    let stage =
        Stage::new(3, |segment| (Blocks::of(2, segment), Tally::<u64>::new_in(segment).unwrap()));
    stage.explore(1, |play| {
        let work = |queue: &Blocks, tally: &Tally<u64>| {
            while let Ok(task) = queue.try_lease() {
                let amount = *task;
                tally.commit(task, &amount);
            }
        };
        play.me().0.put(1);
        let victim = play.doom_watched(0, 1, move |me| work(&me.0, &me.1));
        let other = play.start(2, move |me| work(&me.0, &me.1));
        play.me().0.put(10);
        victim.join();
        other.join();
        work(&play.me().0, &play.me().1);
        assert_eq!(play.me().1.total(), 11);
    });
}
