//! What is made once.

use super::{Stage, point};
use crate::OnceCell;

#[test]
fn once_maker_that_dies_leaves_it_to_the_next_one() {
    let stage = Stage::new(3, |segment| OnceCell::<[u64; 2]>::new_in(segment).unwrap());
    stage.explore(1, |play| {
        let victim = play.doom_watched(0, 1, |cell| {
            cell.get_or_init(|| {
                point();
                [1, 1]
            })
        });
        let other = play.start(2, |cell| cell.get_or_init(|| [2, 2]));
        let seen = play.me().get();
        let (theirs, made) = (victim.join(), other.join());
        assert!([[1, 1], [2, 2]].contains(&made));
        assert!(theirs.is_none_or(|theirs| theirs == made));
        assert!(seen.is_none_or(|seen| seen == made));
        assert_eq!(play.me().get(), Some(made));
    });
}
