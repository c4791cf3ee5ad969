//! A start signal for all, and a point at which all wait for one another.
//!
//! In Python, `Event` and `Barrier`. There, a party that is killed leaves the others at the barrier,
//! past their timeouts even. Here the barrier breaks for all of them at once.
//!
//! Run it with `cargo run --example event_and_barrier`.

use std::error::Error;

use multiproc::{Barrier, Counter, Event, Process};

const ROUNDS: i64 = 10;

fn party(start: Event, barrier: Barrier, steps: Counter, leaders: Counter) {
    start.wait();
    for round in 1..=ROUNDS {
        steps.add(1);
        let passed = barrier.wait().expect("nobody dies in these rounds");
        assert!(steps.get() >= 3 * round, "everybody has made this round's step");
        leaders.add(i64::from(passed.is_leader()));
        barrier.wait().expect("nobody dies in these rounds");
    }
}

fn die(barrier: Barrier) {
    let _ = barrier;
    std::process::abort();
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let (start, barrier) = (Event::new()?, Barrier::new(3)?);
    let (steps, leaders) = (Counter::new()?, Counter::new()?);
    let parties = (0..3)
        .map(|_| {
            Process::spawn(party, (start.clone(), barrier.clone(), steps.clone(), leaders.clone()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    start.set();
    for party in parties {
        party.join()?;
    }
    println!("{} steps in {} rounds, each with one leader", steps.get(), leaders.get());

    let doomed = Process::spawn(die, (barrier.clone(),))?;
    println!("the barrier is broken by a death: {}", barrier.wait().is_err());
    doomed.join().expect_err("it was killed");
    Ok(())
}
