//! Long messages through pipes: what arrives must have been copied into the kernel and out of it.

use std::time::Duration;

use super::{Better, Section, score};
use crate::crew::Cast::Processes;
use crate::drive::transfer::play;
use crate::drive::wire::{Shape, WORD};
use crate::peers::{kernel, pipes, python};
use crate::stage::Stage;

/// A window is so long at least: a message takes a tenth of it, where everything takes its time.
const WINDOW: Duration = Duration::from_secs(1);

/// Words of 64 MiB.
const WORDS: usize = 64 << 17;

pub(super) fn sections() -> Vec<Section> {
    let shape = Shape { words: WORDS, capacity: 1, ..WORD };
    let bytes = shape.bytes();
    let what = "messages of 64 MiB through pipes, all of it written and read";
    vec![
        Section::new("pipe-64MiB", what, Better::More)
            .scored(["GiB/s"], move |recording| [score::gibibytes(recording, bytes)])
            .with("multiproc Pipe, recv_bytes_into", move |stage| {
                play::<kernel::Bytes<pipes::Bytes<false>>>(&longer(stage), Processes, shape)
            })
            .with("multiproc Pipe, recv_bytes", move |stage| {
                play::<kernel::Bytes<pipes::Bytes<true>>>(&longer(stage), Processes, shape)
            })
            .with("socket pair, STREAM", move |stage| {
                play::<kernel::Bytes<kernel::Stream>>(&longer(stage), Processes, shape)
            })
            .with("pipe", move |stage| {
                play::<kernel::Bytes<kernel::Pipe>>(&longer(stage), Processes, shape)
            })
            .with("Python Pipe, send_bytes", move |stage| {
                python::play(&longer(stage), "pipe_bytes", &[bytes])
            }),
    ]
}

/// The same, with time for some messages.
fn longer(stage: &Stage) -> Stage {
    Stage { window: (4 * stage.window).max(WINDOW), ..stage.clone() }
}
