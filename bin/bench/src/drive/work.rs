//! An operation that all participants do over and over to one shared object: a lock, a counter.

use std::hint::black_box;
use std::time::Instant;

use crate::board::Phase;
use crate::crew::Cast;
use crate::stage::{Recording, Result, Stage, Trouble, Troupe};

/// Something to be worked on, and how.
pub(crate) trait Work: Sync + Sized {
    /// What a participant has of it.
    type Handle<'a>
    where
        Self: 'a;

    /// Makes it, or decides how the first one who opens it will, before there are participants.
    fn make(stage: &Stage) -> Result<Self>;

    /// Opens it, in a participant, one after the other; and at last in the stage, for the sum.
    fn open(&self) -> Result<Self::Handle<'_>>;

    /// The operation that is measured. Most add one to what is shared.
    fn once(handle: &mut Self::Handle<'_>);

    /// How often it was done by everybody; none where the operation leaves no trace.
    fn sum(handle: &mut Self::Handle<'_>) -> Option<u64>;
}

/// After how many operations a participant looks up.
const STRIDE: u64 = 32;

/// Plays a round of `W` with so many participants; where there are several, a part of it singly.
pub(crate) fn play<W: Work>(stage: &Stage, cast: Cast, size: usize) -> Result<Recording> {
    let work = W::make(stage)?;
    let troupe = Troupe { cast, size, counted: 0, singly: size > 1 };
    let played = stage.play(troupe, |part| {
        let mut handle = part.open(|| work.open())?;
        let (mut count, mut longest) = (0, 0);
        loop {
            match part.board.phase() {
                Phase::Stop => break,
                Phase::Singly => {
                    let start = Instant::now();
                    W::once(black_box(&mut handle));
                    longest = longest.max(start.elapsed().as_nanos());
                    count += 1;
                }
                _ => {
                    (0..STRIDE).for_each(|_| W::once(black_box(&mut handle)));
                    count += STRIDE;
                }
            }
            part.note(count);
        }
        part.report(count, 0, longest as f64);
        Ok(())
    })?;
    let done = played.totals.iter().sum::<u64>();
    if let Some(sum) = W::sum(&mut work.open()?)
        && sum != done
    {
        return Err(Trouble::Failed(format!("{done} operations were done, and {sum} are counted")));
    }
    Ok(Recording { seconds: played.seconds, counts: played.counts, figures: played.figures })
}
