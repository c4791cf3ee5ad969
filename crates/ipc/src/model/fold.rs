//! Sums of what participants contribute, dead ones too.

use super::{Participant, Stage, point};
use crate::{Counter, Tally};

#[test]
fn counter_share_of_the_dead_is_counted_once_at_any_time() {
    let stage = Stage::new(3, |segment| Counter::new_in(segment).unwrap());
    stage.explore(1, |play| {
        let victim = play.doom_watched(0, 1, |counter| {
            counter.add(5);
            counter.add(2);
            counter.add(-2);
        });
        let reader = play.start(2, |counter| [counter.get(), counter.get()]);
        let seen = reader.join();
        victim.join();
        assert!(seen.iter().all(|sum| [0, 5, 7].contains(sum)), "{seen:?}");
        assert!([0, 5, 7].contains(&play.me().get()));
    });
}

#[test]
fn counter_whose_sweeper_dies_counts_once() {
    let stage = Stage::new(4, |segment| Counter::new_in(segment).unwrap());
    stage.explore(2, |play| {
        let victim = play.doom(0, 1, |counter| {
            counter.add(5);
            point();
        });
        let died = victim.join().is_none();
        let before = play.me().get();
        assert!(died || before == 5);
        let sweeper = play.doom_watched(1, 2, Participant::recover);
        let reader = play.start(3, |counter| [counter.get(), counter.get()]);
        sweeper.join();
        assert_eq!(reader.join(), [before; 2]);
        assert_eq!(play.me().get(), before);
    });
}

#[test]
fn tally_lane_of_the_dead_is_counted_once_and_whole() {
    let stage = Stage::new(3, |segment| Tally::<[u64; 2]>::new_in(segment).unwrap());
    stage.explore(1, |play| {
        let victim = play.doom_watched(0, 1, |tally| {
            tally.add(&[1, 1]);
            tally.add(&[2, 2]);
        });
        let reader = play.start(2, |tally| tally.total());
        let [seen, beside] = reader.join();
        victim.join();
        let [known, also] = play.me().total();
        assert!(seen == beside && known == also, "{seen} {beside}, {known} {also}");
        assert!(seen <= known && [0, 1, 3].contains(&seen) && [0, 1, 3].contains(&known));
    });
}
