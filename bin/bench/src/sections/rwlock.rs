//! A lock that many may read under.

use multiproc_ipc::RwLock;

use super::{Better, Section, score, with_peer};
use crate::crew::Cast::Processes;
#[cfg(feature = "peers")]
use crate::crew::Cast::Threads;
use crate::drive::work::play;
use crate::peers::ours::Ours;
#[cfg(feature = "peers")]
use crate::peers::parking_lot::ParkingLotRwLock;
use crate::peers::pthread;

pub(super) fn sections() -> Vec<Section> {
    [1, 2]
        .map(|size| {
            let name = format!("rwlock-read-{size}");
            let what = format!("lock for reading, read, unlock, by {size}: all of them together");
            let section = Section::new(name, what, Better::More)
                .scored(["M/s"], |recording| [score::millions(recording)])
                .with("multiproc RwLock", move |stage| {
                    play::<Ours<RwLock<u64>>>(stage, Processes, size)
                })
                .with("pthread", move |stage| play::<pthread::RwLock>(stage, Processes, size));
            with_peer!(section, "parking_lot, threads", move |stage| {
                play::<ParkingLotRwLock>(stage, Threads, size)
            })
        })
        .into()
}
