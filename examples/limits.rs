//! A bound on how many processes do something at once.
//!
//! In Python, `BoundedSemaphore(2)` around a block. There, the permit of a process that is killed in
//! the block is gone, and after two such deaths everybody waits for ever. Here it comes back.
//!
//! Run it with `cargo run --example limits`.

use std::error::Error;

use multiproc::{Array, BoundedSemaphore, Counter, Process};

/// How many are inside, and the most there have been.
type Inside = Array<i64>;

fn visit(doors: BoundedSemaphore, inside: Inside, visits: Counter, dies: bool) {
    for _ in 0..100 {
        let _permit = doors.acquire();
        if dies {
            std::process::abort();
        }
        let now = inside.fetch_add(0, 1) + 1;
        assert!(now <= 2, "{now} at once");
        visits.add(1);
        inside.fetch_add(0, -1);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let (doors, inside) = (BoundedSemaphore::new(2)?, Inside::new(1)?);
    let visits = Counter::new()?;
    let visitors = (0..6)
        .map(|number| {
            let shared = (doors.clone(), inside.clone(), visits.clone(), number < 3);
            Process::spawn(visit, shared)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let killed = visitors.iter().filter(|visitor| visitor.join().is_err()).count();

    println!("{killed} were killed with a permit, and the others made {} visits", visits.get());
    println!("{} of {} permits are available", doors.available(), doors.permits());
    Ok(())
}
