//! Counting, each on a cache line of its own.

use multiproc_ipc::Counter;

use super::{Better, Section, score};
use crate::crew::Cast::Processes;
use crate::drive::work::play;
use crate::peers::floor::{FetchAdd, OwnWords};
use crate::peers::ours::Ours;

pub(super) fn sections() -> Vec<Section> {
    [1, 2]
        .map(|size| {
            let what = format!("add one to a sum, by {size} at once");
            Section::new(format!("counter-add-{size}"), what, Better::Less)
                .scored(["ns", "M/s"], |recording| {
                    [score::nanoseconds(recording), score::millions(recording)]
                })
                .with("multiproc Counter", move |stage| {
                    play::<Ours<Counter>>(stage, Processes, size)
                })
                .with("floor: own words", move |stage| play::<OwnWords>(stage, Processes, size))
                .with("floor: one word", move |stage| play::<FetchAdd>(stage, Processes, size))
        })
        .into()
}
