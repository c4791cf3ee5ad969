//! Messages, of 8 bytes and more, from one or many to one or many.

use super::{Better, Section, score, with_peer};
use crate::crew::Cast::Processes;
#[cfg(feature = "peers")]
use crate::crew::Cast::Threads;
use crate::drive::transfer::play;
use crate::drive::wire::{Shape, WORD};
#[cfg(feature = "peers")]
use crate::peers::{crossbeam, iceoryx2, ipc_channel, kanal};
use crate::peers::{kernel, ours, python, ring};

/// Why a contestant is not among us.
const CROSSMIST: &str = "crossmist 1.1.2 panics at its first spawn, on this compiler; \
                         try a later release";

/// Messages of 8 bytes.
pub(super) fn small() -> Vec<Section> {
    [(1, 1), (4, 1), (4, 4)].map(|(senders, receivers)| of_words(senders, receivers)).into()
}

fn of_words(senders: usize, receivers: usize) -> Section {
    let shape = Shape { senders, receivers, ..WORD };
    let name = format!("queue-8B-{senders}to{receivers}");
    let what = format!("messages of 8 bytes, {senders} sending, {receivers} receiving");
    let (alone, one_receiver) = (senders == 1, receivers == 1);
    let mut section = Section::new(name, what, Better::More)
        .scored(["M msgs/s"], |recording| [score::millions(recording)])
        .with("multiproc Queue::inline", move |stage| {
            play::<ours::Through<ours::InlineWords<false>>>(stage, Processes, shape)
        });
    if alone {
        section = section.with("multiproc Queue::inline, batches of 64", move |stage| {
            play::<ours::Through<ours::InlineBatches>>(stage, Processes, shape)
        });
    }
    section = section.with("multiproc Queue::bounded", move |stage| {
        play::<ours::Through<ours::EncodedWords>>(stage, Processes, shape)
    });
    if alone {
        section = section.with("floor: ring, spinning", move |stage| {
            play::<ring::InPlace>(stage, Processes, shape)
        });
    }
    section = with_peer!(section, "crossbeam-channel, threads", move |stage| {
        play::<crossbeam::Bounded>(stage, Threads, shape)
    });
    section = with_peer!(section, "kanal, threads", move |stage| {
        play::<kanal::Bounded>(stage, Threads, shape)
    });
    if one_receiver {
        section = with_peer!(section, "iceoryx2, copied, polling", move |stage| {
            play::<iceoryx2::Service<iceoryx2::Words>>(stage, Processes, shape)
        });
        section = with_peer!(section, "ipc-channel", move |stage| {
            play::<ipc_channel::Channels<ipc_channel::Words>>(stage, Processes, shape)
        });
    }
    section = section.with("pipe, a write each", move |stage| {
        play::<kernel::Bytes<kernel::Pipe>>(stage, Processes, shape)
    });
    if alone {
        section = section
            .with("socket pair, SEQPACKET", move |stage| {
                play::<kernel::Bytes<kernel::Packets>>(stage, Processes, shape)
            })
            .with("POSIX message queue", move |stage| {
                play::<kernel::Bytes<kernel::MessageQueue>>(stage, Processes, shape)
            })
            .without("crossmist", CROSSMIST);
    }
    section.with("Python Queue", move |stage| python::play(stage, "queue", &[senders, receivers]))
}

/// Messages of 4 KiB.
pub(super) fn large() -> Vec<Section> {
    vec![of_slices("queue-4KiB", "messages of 4 KiB", 512, 64)]
}

/// Messages of 1 MiB.
pub(super) fn huge() -> Vec<Section> {
    vec![of_slices("transfer-1MiB", "messages of 1 MiB", 1 << 17, 8)]
}

fn of_slices(name: &str, what: &str, words: usize, capacity: usize) -> Section {
    let shape = Shape { words, capacity, ..WORD };
    let what = format!("{what}, all of it written and read");
    let bytes = shape.bytes();
    let section = Section::new(name, what, Better::More)
        .scored(["GiB/s", "k msgs/s"], move |recording| {
            [score::gibibytes(recording, bytes), score::millions(recording) * 1e3]
        })
        .with("multiproc Queue::slices, by loan", move |stage| {
            play::<ours::Through<ours::Loans<false>>>(stage, Processes, shape)
        })
        .with("multiproc Queue::slices, copied", move |stage| {
            play::<ours::Through<ours::Copies>>(stage, Processes, shape)
        })
        .with("multiproc Queue::bounded, encoded", move |stage| {
            play::<ours::Through<ours::EncodedSlices>>(stage, Processes, shape)
        })
        .with("floor: ring, in place", move |stage| play::<ring::InPlace>(stage, Processes, shape))
        .with("floor: ring, copied", move |stage| play::<ring::Copied>(stage, Processes, shape));
    let section = with_peer!(section, "iceoryx2, by loan, polling", move |stage| {
        play::<iceoryx2::Service<iceoryx2::Slices<false>>>(stage, Processes, shape)
    });
    let section = with_peer!(section, "iceoryx2, copied, polling", move |stage| {
        play::<iceoryx2::Service<iceoryx2::Slices<true>>>(stage, Processes, shape)
    });
    let section = with_peer!(section, "ipc-channel, bytes", move |stage| {
        play::<ipc_channel::Channels<ipc_channel::Bytes>>(stage, Processes, shape)
    });
    section.with("pipe", move |stage| play::<kernel::Bytes<kernel::Pipe>>(stage, Processes, shape))
}

/// Handing a message over, whatever its size: only its first word is written and read.
pub(super) fn handed_over() -> Vec<Section> {
    [("4KiB", 512), ("64KiB", 1 << 13), ("1MiB", 1 << 17)]
        .map(|(size, words)| {
            let shape = Shape { words, capacity: 8, whole: false, ..WORD };
            let what = format!("handing a message of {size} over, one word of it written and read");
            let section = Section::new(format!("hand-over-{size}"), what, Better::Less)
                .scored(["ns"], |recording| [score::nanoseconds(recording)])
                .with("multiproc Queue::slices, by loan", move |stage| {
                    play::<ours::Through<ours::Loans<false>>>(stage, Processes, shape)
                })
                .with("multiproc Queue::slices, by loan, polling", move |stage| {
                    play::<ours::Through<ours::Loans<true>>>(stage, Processes, shape)
                })
                .with("floor: ring, in place", move |stage| {
                    play::<ring::InPlace>(stage, Processes, shape)
                });
            with_peer!(section, "iceoryx2, by loan, polling", move |stage| {
                play::<iceoryx2::Service<iceoryx2::Slices<false>>>(stage, Processes, shape)
            })
        })
        .into()
}

/// Values of some structure.
pub(super) fn encoded() -> Vec<Section> {
    let what = "values with a text and a list in them, of about 200 bytes";
    let section = Section::new("serde-200B", what, Better::More)
        .scored(["k msgs/s"], |recording| [score::millions(recording) * 1e3])
        .with("multiproc Queue::bounded", |stage| {
            play::<ours::Through<ours::Records>>(stage, Processes, WORD)
        });
    let section = with_peer!(section, "ipc-channel", |stage| {
        play::<ipc_channel::Channels<ipc_channel::Records>>(stage, Processes, WORD)
    });
    vec![section.with("Python Queue", |stage| python::play(stage, "records", &[]))]
}
