//! Messages from senders to receivers, as many as go through.
//!
//! The last sender to stop sends each receiver the message that ends it. What was sent and what was
//! received must be the same number of messages, with the same sum.

use std::hint::black_box;
use std::thread;
use std::time::Duration;

use super::wire::{END, Receiver, Sender, Shape, Wire};
use crate::crew::Cast;
use crate::stage::{Part, Recording, Result, Stage, Trouble, Troupe};

/// Plays a round: the senders are the first participants, the receivers the others.
pub(crate) fn play<W: Wire>(stage: &Stage, cast: Cast, shape: Shape) -> Result<Recording> {
    let wire = W::make(stage, shape)?;
    // Publishing one's progress costs next to nothing, beside 512 bytes nothing at all.
    let stride = (64 / shape.words).max(1) as u64;
    let (senders, size) = (shape.senders, shape.senders + shape.receivers);
    let troupe = Troupe { cast, size, counted: senders, singly: false };
    let played = stage.play(troupe, |part| {
        if part.number < senders {
            send(part, &wire, shape, stride)
        } else {
            receive(part, &wire, shape, stride)
        }
    })?;
    let all = |of: &[u64]| of.iter().fold(0_u64, |sum, one| sum.wrapping_add(*one));
    let both = |of: &[u64]| (all(&of[..senders]), all(&of[senders..]));
    for ((sent, received), of) in
        [(both(&played.totals), "messages"), (both(&played.checksums), "as the sum of them")]
    {
        if sent != received {
            return Err(Trouble::Failed(format!("{sent} {of} sent, {received} received")));
        }
    }
    let counts = played.counts[senders..].to_vec();
    Ok(Recording { seconds: played.seconds, counts, figures: Vec::new() })
}

fn send<W: Wire>(part: &Part<'_>, wire: &W, shape: Shape, stride: u64) -> Result<()> {
    let mut sender = part.open(|| wire.sender(0))?;
    let (mut count, mut checksum) = (0_u64, 0_u64);
    while part.is_on() {
        for _ in 0..stride {
            let number = count % END;
            sender.send(black_box(number));
            checksum = checksum.wrapping_add(number);
            count += 1;
        }
        part.note(count);
    }
    sender.flush();
    part.report(count, checksum, 0.0);
    if part.board.note_sender_ended(count) == shape.senders {
        (0..shape.receivers).for_each(|_| sender.send(END));
        sender.flush();
    }
    // What was sent may be gone with its sender.
    while part.board.receivers_ended() < shape.receivers {
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn receive<W: Wire>(part: &Part<'_>, wire: &W, shape: Shape, stride: u64) -> Result<()> {
    let mut receiver = part.open(|| wire.receiver(0))?;
    let (mut count, mut checksum, mut ended) = (0_u64, 0_u64, false);
    // A wire may carry each sender's messages by itself: the last message of all may overtake others.
    while !ended || (shape.receivers == 1 && count < part.board.sent()) {
        let number = receiver.recv();
        if number == END {
            ended = true;
            continue;
        }
        checksum = checksum.wrapping_add(number);
        count += 1;
        if count.is_multiple_of(stride) {
            part.note(count);
        }
    }
    part.report(count, checksum, 0.0);
    part.board.note_receiver_ended();
    Ok(())
}
