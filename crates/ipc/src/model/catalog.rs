//! Objects that are made and dropped by several, and accounted for whoever dies.

use super::{Participant, Stage};
use crate::Counter;

fn stage(participants: u32) -> Stage<Counter> {
    Stage::new(participants, |segment| Counter::new_in(segment).unwrap())
}

/// Makes something and lets go of it.
fn make_and_drop(me: &Participant<Counter>) {
    drop(Counter::new_in(&me.segment).unwrap());
}

#[test]
fn catalog_wanted_by_two_of_whom_one_dies_is_had_by_the_other() {
    stage(3).explore(1, |play| {
        let victim = play.doom_watched(0, 1, make_and_drop);
        let other = play.start_impatient(2, make_and_drop);
        victim.join();
        other.join();
    });
}

#[test]
fn catalog_whose_sweeper_dies_is_swept_by_the_next() {
    stage(4).explore(2, |play| {
        let victim = play.doom(0, 1, make_and_drop);
        let other = play.start_impatient(3, make_and_drop);
        if victim.join().is_none() {
            play.doom_watched(1, 2, Participant::recover).join();
        }
        other.join();
    });
}
