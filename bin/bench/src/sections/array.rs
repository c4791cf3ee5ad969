//! Work on a large array that stands in shared memory, beside threads on one that does not.

use super::{Better, Section, with_peer};
#[cfg(feature = "peers")]
use crate::peers::rayon;
use crate::peers::{doubling, pool};
use crate::stage::Stage;

/// How many numbers there are: 800 MB of them.
const NUMBERS: u64 = 100_000_000;

pub(super) fn sections() -> Vec<Section> {
    let what =
        "double each u64 of 100 million in place, all in memory already (fewer with --quick)";
    let section = Section::new("array-doubled", what, Better::More)
        .scored(["GiB/s", "ms", "MB"], |recording| {
            let [nanoseconds, bytes] = recording.figures[..] else { return [f64::NAN; 3] };
            let gibibytes = bytes / f64::from(1 << 30);
            [gibibytes / (nanoseconds / 1e9), nanoseconds / 1e6, bytes / 1e6]
        })
        .with("multiproc Pool::map_chunks, two workers", |stage| {
            pool::doubled(stage, numbers(stage), true)
        })
        .with("multiproc Pool::map_chunks, for the first time", |stage| {
            pool::doubled(stage, numbers(stage), false)
        })
        .with("multiproc Mutex<[u64]>, two processes", |stage| {
            doubling::processes(stage, numbers(stage))
        });
    let section = with_peer!(section, "rayon, two threads", |stage| {
        rayon::doubled(stage, numbers(stage))
    });
    let section = section
        .with("one thread", |stage| doubling::in_place(stage, numbers(stage), doubling::double));
    vec![section]
}

fn numbers(stage: &Stage) -> usize {
    (stage.large(NUMBERS * 8) / 8) as usize
}
