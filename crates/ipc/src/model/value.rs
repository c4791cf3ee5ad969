//! A value that is never seen half written.

use super::Stage;
use crate::Value;

fn stage() -> Stage<Value<[u64; 2]>> {
    Stage::new(3, |segment| Value::new_in(segment, [0, 0]).unwrap())
}

#[test]
fn value_set_by_one_who_dies_is_whole() {
    stage().explore(1, |play| {
        let victim = play.doom_watched(0, 1, |value| value.set([1, 1]));
        let reader = play.start(2, |value| [value.get(), value.get()]);
        let mine = play.me().update(|[one, other]| [one + 2, other + 2]);
        assert!([[2, 2], [3, 3]].contains(&mine));
        for [one, other] in reader.join() {
            assert_eq!(one, other);
        }
        let died = victim.join().is_none();
        let ends: &[u64] = if died { &[1, 2, 3] } else { &[1, 3] };
        let [one, other] = play.me().get();
        assert!(one == other && ends.contains(&one), "{one} {other}");
    });
}

#[test]
fn value_read_while_it_is_set_twice_is_whole() {
    stage().explore(0, |play| {
        let reader = play.start(1, |value| value.get());
        play.me().set([1, 1]);
        play.me().set([2, 2]);
        let [one, other] = reader.join();
        assert_eq!(one, other);
    });
}
