//! Work that is handed over, taken back, and counted once. What a message says is plain data; a model
//! sees the words only.

use super::{Participant, Stage};
use crate::Tally;
use crate::desk::{Desk, Worker};

/// The desk of the first participant, and what its items are counted in.
type Office = (Desk, Tally<u64>);

fn stage(participants: u32) -> Stage<Office> {
    Stage::new(participants, |segment| {
        (Desk::new_in(segment, 256).unwrap(), Tally::new_in(segment).unwrap())
    })
}

/// Takes the next message, and does its items, each of which counts 1, one after the other.
fn work(worker: &mut Worker, tally: &Tally<u64>) -> bool {
    let Some(mut taken) = worker.take() else { return false };
    for _ in 0..taken.items() {
        taken.publish_with(1, false, tally, &1);
    }
    true
}

#[test]
fn desk_message_is_taken_or_taken_back() {
    stage(2).explore(0, |play| {
        let desk = &play.me().0;
        assert!(desk.put(0, b"one", 1) && desk.put(1, b"two", 1));
        let worker = play.start(1, |office| {
            let mut worker = Worker::at(&office.0);
            [(); 2].map(|()| worker.take().map_or(0, |taken| 1 + taken.items()))
        });
        let taken_back = [0, 1].map(|position| desk.take_back(position));
        let taken = worker.join().into_iter().filter(|items| *items == 2).count();
        let given = taken_back.iter().filter(|back| !**back).count();
        assert_eq!(taken, given, "{taken_back:?}");
        for (position, back) in (0..).zip(taken_back) {
            let progress = desk.progress(position, 1);
            assert_eq!((progress.begun, progress.finished), (!back, !back));
        }
    });
}

#[test]
fn desk_message_put_over_one_that_was_taken_back_is_whole() {
    stage(2).explore(0, |play| {
        let desk = &play.me().0;
        let later = u64::from(crate::desk::TRAYS);
        assert!(desk.put(0, b"one", 1));
        let worker = play.start(1, |office| {
            let mut worker = Worker::at(&office.0);
            worker.take().map(|taken| (taken.items(), taken.message().len()))
        });
        let taken_back = desk.take_back(0) && desk.put(later, b"three", 3);
        // The worker comes to the second message when the trays between have been used, too.
        assert_eq!(worker.join(), (!taken_back).then_some((1, 3)));
    });
}

#[test]
fn desk_item_is_done_and_counted_before_its_owner_sees_it() {
    stage(2).explore(0, |play| {
        let desk = &play.me().0;
        assert!(desk.put(0, b"one", 2));
        let worker = play.start(1, |office| work(&mut Worker::at(&office.0), &office.1));
        let owner = play.start(0, |office| {
            let first = office.0.progress(0, 2);
            (first, office.1.total(), office.0.progress(0, 2))
        });
        let (first, counted, second) = owner.join();
        assert!(worker.join());
        assert!(u64::from(first.items) <= counted && first.items <= second.items);
        for progress in [first, second] {
            assert!(progress.items == progress.bytes);
            assert!(!progress.finished || progress.items == 2);
        }
        assert!(desk.progress(0, 2).finished && play.me().1.total() == 2);
    });
}

#[test]
fn desk_item_of_a_worker_that_dies_is_done_if_it_is_counted() {
    stage(2).explore(1, |play| {
        let desk = &play.me().0;
        assert!(desk.put(0, b"one", 2));
        let victim = play.doom_watched(0, 1, |office| work(&mut Worker::at(&office.0), &office.1));
        let owner = play.start(0, |office| office.0.progress(0, 2));
        let seen = owner.join();
        let died = victim.join().is_none();
        let progress = desk.progress(0, 2);
        assert!(seen.items <= progress.items && (died || progress.items == 2));
        assert_eq!(play.me().1.total(), u64::from(progress.items));
    });
}

#[test]
fn desk_item_is_done_if_it_is_counted_also_if_the_sweeper_dies() {
    stage(3).explore(2, |play| {
        let desk = &play.me().0;
        assert!(desk.put(0, b"one", 1));
        let victim = play.doom(0, 1, |office| work(&mut Worker::at(&office.0), &office.1));
        if victim.join().is_none() {
            play.doom_watched(1, 2, Participant::recover).join();
        }
        play.me().recover();
        assert_eq!(play.me().1.total(), u64::from(desk.progress(0, 1).items));
    });
}
