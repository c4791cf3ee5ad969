//! procspawn: a function in a process that executes this program again.

use crate::drive::repeat::play;
use crate::stage::{Recording, Result, Stage};

/// Starts a child that does nothing, and waits for its end.
pub(crate) fn process(stage: &Stage) -> Result<Recording> {
    play(stage, || Ok(procspawn::spawn((), |()| ()).join()?))
}
