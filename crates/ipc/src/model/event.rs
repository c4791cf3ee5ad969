//! Event counts, by way of events: no wake-up is lost, whoever dies.

use super::{Play, Running, Stage};
use crate::Event;
use crate::sync::wait::EventCount;

/// Where an event's waiters are counted.
const WAITERS: u64 = 8;

fn stage(participants: u32) -> Stage<Event> {
    Stage::new(participants, |segment| Event::new_in(segment).unwrap())
}

fn auto_reset(participants: u32) -> Stage<Event> {
    Stage::new(participants, |segment| Event::auto_reset_in(segment).unwrap())
}

fn assert_nobody_is_announced(play: &Play<Event>) {
    assert_eq!(play.me().raw::<EventCount>(WAITERS).waiters(), 0);
}

#[test]
fn event_set_wakes_all_who_wait() {
    stage(3).explore(0, |play| {
        let others = [1, 2].map(|slot| play.start(slot, |event| event.wait()));
        play.me().set();
        others.into_iter().for_each(Running::join);
        assert_nobody_is_announced(play);
    });
}

#[test]
fn event_auto_reset_is_handed_from_one_to_the_next() {
    auto_reset(3).explore(0, |play| {
        let others = [1, 2].map(|slot| {
            play.start(slot, |event| {
                event.wait();
                event.set();
            })
        });
        play.me().set();
        others.into_iter().for_each(Running::join);
        assert!(play.me().try_wait() && !play.me().try_wait());
        assert_nobody_is_announced(play);
    });
}

#[test]
fn event_of_which_the_setter_dies_lets_pass_who_waits() {
    stage(3).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |event| event.set());
        let other = play.start(2, |event| event.wait());
        if victim.join().is_none() && !play.me().is_set() {
            play.me().set();
        }
        other.join();
        assert_nobody_is_announced(play);
    });
}

#[test]
fn event_of_which_a_waiter_dies_lets_pass_the_others() {
    stage(3).explore(1, |play| {
        let victim = play.doom_watched(0, 1, |event| event.wait());
        let other = play.start(2, |event| event.wait());
        play.me().set();
        victim.join();
        other.join();
        assert_nobody_is_announced(play);
    });
}

#[test]
fn event_auto_reset_that_a_dead_waiter_swallowed_is_missed_once() {
    auto_reset(3).explore(1, |play| {
        let hand_on = |event: &super::Participant<Event>| {
            event.wait();
            event.set();
        };
        let victim = play.doom_watched(0, 1, hand_on);
        let other = play.start(2, hand_on);
        play.me().set();
        if victim.join().is_none() {
            // It may have died with what was set.
            play.me().set();
        }
        other.join();
        assert!(play.me().try_wait());
        assert_nobody_is_announced(play);
    });
}
