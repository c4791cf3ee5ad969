//! Places that processes take, die in, and leave.

use super::{Stage, execution, pid};
use crate::Event;
use crate::segment::participants::{Phase, Slot};
use crate::testing;

/// The slot that is free at first.
const FREE: usize = 3;

fn stage() -> Stage<Event> {
    Stage::with_free_slots(3, 1, |segment| Event::new_in(segment).unwrap())
}

#[test]
fn slot_wanted_by_two_is_had_by_one() {
    stage().explore(1, |play| {
        let slot = Slot::new(FREE as u16);
        let claim = move |pid| {
            move |me: &super::Participant<Event>| {
                me.segment.participant(slot).claim(pid, pid.into()).is_some()
            }
        };
        let victim = play.doom_watched(0, FREE, claim(pid(FREE as u32)));
        // One that never dies.
        let other = play.start(1, claim(100));
        let mine = play.me().segment.participant(slot).claim(200, 200).is_some();
        let (theirs, others) = (victim.join(), other.join());
        let state = play.me().segment.participant(slot).state();
        match theirs {
            Some(theirs) => {
                assert_eq!([mine, theirs, others].iter().filter(|has| **has).count(), 1);
                assert_eq!(state.phase, Phase::Alive);
            }
            None => assert!(!(mine && others)),
        }
        let owner = if mine {
            200
        } else if others {
            100
        } else {
            0
        };
        assert!(owner == 0 || (state.pid, state.phase) == (owner, Phase::Alive));
    });
}

#[test]
fn slot_of_the_dead_is_swept_by_its_heir_or_by_another_once() {
    stage().explore(2, |play| {
        let victim = play.doom(0, 1, |event| event.set());
        let died = victim.join().is_none();
        // Somebody who has no slot takes the dead one's, in the name of the process in its own.
        let heir = play.doom_watched(1, FREE, |event| {
            let me = pid(FREE as u32);
            execution::impatiently(|| event.segment.inherit(me, me.into()));
        });
        let claimed = play
            .start(2, |event| event.segment.participant(Slot::new(1)).claim(100, 100).is_some());
        play.me().recover();
        heir.join();
        play.me().recover();
        let claimed = claimed.join();
        let state = play.me().segment.participant(Slot::new(1)).state();
        let owner = match (died, claimed) {
            (false, _) => (Phase::Alive, pid(1)),
            (true, true) => (Phase::Alive, 100),
            (true, false) => (Phase::Free, 0),
        };
        assert_eq!((state.phase, state.pid), owner);
        assert_eq!(testing::catalog_owner(&play.me().segment), None);
    });
}
