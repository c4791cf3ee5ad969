//! A lock around one number.

use multiproc_ipc::Mutex;

use super::{Better, Section, score, with_peer};
use crate::crew::Cast::{Processes, Threads};
use crate::drive::work::play;
use crate::peers::floor::FetchAdd;
use crate::peers::ours::Ours;
#[cfg(feature = "peers")]
use crate::peers::parking_lot::ParkingLotMutex;
use crate::peers::threads::StdMutex;
use crate::peers::{pthread, python};

pub(super) fn sections() -> Vec<Section> {
    let alone = Section::new(
        "mutex-uncontended",
        "lock, add one, unlock, with nobody else about",
        Better::Less,
    );
    let contended = [2, 4].map(|size| {
        let name = format!("mutex-contended-{size}");
        let what = format!("lock, add one, unlock, by {size} at once: all of them together");
        let columns = ["M/s", "least share %", "most share %", "longest wait µs"];
        let section = Section::new(name, what, Better::More).scored(columns, |recording| {
            let (least, most) = score::shares(recording);
            [score::millions(recording), least, most, score::worst_microseconds(recording)]
        });
        with_all(section, size)
    });
    let alone = alone.scored(["ns"], |recording| [score::nanoseconds(recording)]);
    [with_all(alone, 1)].into_iter().chain(contended).collect()
}

fn with_all(section: Section, size: usize) -> Section {
    let section = section
        .with("multiproc Mutex", move |stage| play::<Ours<Mutex<u64>>>(stage, Processes, size))
        .with("floor: fetch_add", move |stage| play::<FetchAdd>(stage, Processes, size))
        .with("pthread", move |stage| play::<pthread::Mutex<false>>(stage, Processes, size))
        .with("pthread robust", move |stage| play::<pthread::Mutex<true>>(stage, Processes, size))
        .with("std, threads", move |stage| play::<StdMutex>(stage, Threads, size));
    with_peer!(section, "parking_lot, threads", move |stage| {
        play::<ParkingLotMutex>(stage, Threads, size)
    })
    .with("Python Lock", move |stage| python::play(stage, "lock", &[size]))
}
