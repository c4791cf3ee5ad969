//! A message there, and one back: between two who are awake, and between two who sleep.
//!
//! *Awake*, both wait for nothing else and answer at once. How long a round takes follows from how many
//! were done in the window.
//!
//! *Parked*, each side is asleep in the kernel when its message comes. For that, whoever has received
//! waits for 300 µs before it answers, computing, so that its own core stays awake; meanwhile the other
//! one has finished sending, gone to receive, tried as often as it likes, and fallen asleep. That pause
//! is no part of the figure: the message is the time at which it is sent, on the clock that both
//! processes share, and its receiver looks at the clock when it has it. A round trip is the median way
//! there and the median way back together. That everybody did sleep is proved, not hoped for: the kernel
//! counts how often a thread gave up its core of its own accord, and that must be at least once for
//! each message, or the round fails.

use std::hint::spin_loop;
use std::time::Duration;

use multiproc_sys::clock;
use nix::sys::resource::{UsageWho, getrusage};

use super::wire::{END, Receiver, Sender, Shape, WORD, Wire};
use crate::board::Phase;
use crate::crew::Cast;
use crate::stage::{Part, Recording, Result, Stage, Trouble, Troupe};
use crate::stats;

const SHAPE: Shape = Shape { lanes: 2, capacity: 16, ..WORD };

/// How long the other side is given to fall asleep.
const PAUSE: Duration = Duration::from_micros(300);

/// Of how many messages it is let pass that they found their receiver awake, in a hundred: it was
/// interrupted, say.
const AWAKE_MAX: u64 = 5;

fn pair(cast: Cast) -> Troupe {
    Troupe { cast, size: 2, counted: 0, singly: false }
}

/// Plays a round between two who are awake. What is counted are round trips.
pub(crate) fn awake<W: Wire>(stage: &Stage, cast: Cast) -> Result<Recording> {
    let wire = W::make(stage, SHAPE)?;
    let played = stage.play(pair(cast), |part| {
        if part.number == 0 { ask(part, &wire) } else { answer(part, &wire) }
    })?;
    Ok(Recording { seconds: played.seconds, counts: vec![played.counts[0]], figures: Vec::new() })
}

fn ask<W: Wire>(part: &Part<'_>, wire: &W) -> Result<()> {
    let (mut there, mut back) = part.open(|| Ok((wire.sender(0)?, wire.receiver(1)?)))?;
    let mut count = 0;
    while part.is_on() {
        count += 1;
        there.send(count % END);
        let answer = back.recv();
        assert_eq!(answer, count % END, "the answer to another message");
        part.note(count);
    }
    there.send(END);
    Ok(())
}

fn answer<W: Wire>(part: &Part<'_>, wire: &W) -> Result<()> {
    let (mut there, mut back) = part.open(|| Ok((wire.receiver(0)?, wire.sender(1)?)))?;
    loop {
        match there.recv() {
            END => return Ok(()),
            number => back.send(number),
        }
    }
}

/// Plays a round between two who sleep. The figures are each side's median, in nanoseconds.
pub(crate) fn parked<W: Wire>(stage: &Stage, cast: Cast) -> Result<Recording> {
    let wire = W::make(stage, SHAPE)?;
    let played = stage.play(pair(cast), |part| {
        let begins = part.number == 0;
        let (mut out, mut back) = part.open(|| match begins {
            true => Ok((wire.sender(0)?, wire.receiver(1)?)),
            false => Ok((wire.sender(1)?, wire.receiver(0)?)),
        })?;
        if begins {
            pause();
            out.send(now());
        }
        sleep_and_answer(part, &mut out, &mut back, begins)
    })?;
    let rounds = played.counts[0];
    Ok(Recording { seconds: played.seconds, counts: vec![rounds], figures: played.figures })
}

fn sleep_and_answer(
    part: &Part<'_>,
    out: &mut impl Sender,
    back: &mut impl Receiver,
    ends: bool,
) -> Result<()> {
    let (mut count, mut ways) = (0_u64, Vec::new());
    let slept_before = times_slept()?;
    loop {
        let sent = back.recv();
        if sent == END {
            break;
        }
        let way = now().saturating_sub(sent);
        count += 1;
        part.note(count);
        if part.board.phase() == Phase::Window {
            ways.push(way as f64);
        }
        pause();
        if ends && !part.is_on() {
            out.send(END);
            break;
        }
        out.send(now());
    }
    let slept = times_slept()? - slept_before;
    let awake = count.saturating_sub(slept);
    if awake * 100 > count * AWAKE_MAX + 100 {
        let what = format!("{awake} of {count} messages found their receiver awake");
        return Err(Trouble::Failed(what));
    }
    let way = stats::median(&ways);
    part.report(count, 0, way.ok_or(Trouble::Failed("no message came in the window".into()))?);
    Ok(())
}

/// Nanoseconds on the clock that all processes share.
fn now() -> u64 {
    clock::now().as_nanos() as u64
}

fn pause() {
    let end = now() + PAUSE.as_nanos() as u64;
    while now() < end {
        spin_loop();
    }
}

/// How often the calling thread has given up its core of its own accord.
fn times_slept() -> Result<u64> {
    Ok(getrusage(UsageWho::RUSAGE_THREAD)?.voluntary_context_switches() as u64)
}
