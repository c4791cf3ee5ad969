//! A message there, and one back.

use super::{Better, Section, score, with_peer};
use crate::crew::Cast::Processes;
#[cfg(feature = "peers")]
use crate::crew::Cast::Threads;
use crate::drive::round_trip::{awake, parked};
use crate::peers::floor::{Futex, Spin};
#[cfg(feature = "peers")]
use crate::peers::{crossbeam, iceoryx2, ipc_channel};
use crate::peers::{kernel, ours, pipes, python};

pub(super) fn sections() -> Vec<Section> {
    vec![between_awake(), between_parked()]
}

fn between_awake() -> Section {
    let what = "8 bytes there and back, both awake";
    let section = Section::new("round-trip-awake", what, Better::Less)
        .scored(["ns"], |recording| [score::nanoseconds(recording)])
        .with("multiproc Queue::inline", |stage| {
            awake::<ours::Through<ours::InlineWords<false>>>(stage, Processes)
        })
        .with("multiproc Queue::inline, polling", |stage| {
            awake::<ours::Through<ours::InlineWords<true>>>(stage, Processes)
        })
        .with("floor: words, spinning", |stage| awake::<Spin>(stage, Processes));
    let section = with_peer!(section, "crossbeam-channel, threads", |stage| {
        awake::<crossbeam::Bounded>(stage, Threads)
    });
    with_peer!(section, "iceoryx2, polling", |stage| {
        awake::<iceoryx2::Service<iceoryx2::Words>>(stage, Processes)
    })
}

fn between_parked() -> Section {
    let what = "8 bytes there and back, each asleep when its message comes";
    let section = Section::new("round-trip-parked", what, Better::Less)
        .scored(["µs"], |recording| [recording.figures.iter().sum::<f64>() / 1e3])
        .with("multiproc Queue::inline", |stage| {
            parked::<ours::Through<ours::InlineWords<false>>>(stage, Processes)
        })
        .with("multiproc Queue::bounded", |stage| {
            parked::<ours::Through<ours::EncodedWords>>(stage, Processes)
        })
        .with("multiproc Pipe, bytes", |stage| {
            parked::<kernel::Bytes<pipes::Bytes<false>>>(stage, Processes)
        })
        .with("floor: futex", |stage| parked::<Futex>(stage, Processes));
    let section = with_peer!(section, "ipc-channel", |stage| {
        parked::<ipc_channel::Channels<ipc_channel::Words>>(stage, Processes)
    });
    let section = with_peer!(section, "iceoryx2, with events", |stage| {
        parked::<iceoryx2::Service<iceoryx2::WordsWithEvents>>(stage, Processes)
    });
    with_peer!(section, "crossbeam-channel, threads", |stage| {
        parked::<crossbeam::Bounded>(stage, Threads)
    })
    .with("pipe", |stage| parked::<kernel::Bytes<kernel::Pipe>>(stage, Processes))
    .with("socket pair, STREAM", |stage| parked::<kernel::Bytes<kernel::Stream>>(stage, Processes))
    .with("POSIX message queue", |stage| {
        parked::<kernel::Bytes<kernel::MessageQueue>>(stage, Processes)
    })
    .with("Python Pipe", |stage| python::play(stage, "parked_pipe", &[]))
}
