//! Counting primes: in one process, and in a pool with a worker for each processor.
//!
//! In Python:
//!
//! ```python
//! def cpu_bound_task(start):
//!     return sum(is_prime(n) for n in range(start, start + 1000))
//!
//! pool = multiprocessing.Pool(processes=multiprocessing.cpu_count())
//! print(sum(pool.map(cpu_bound_task, range(0, 500_000, 1000))))
//! ```
//!
//! Large numbers take longer than small ones. So there are many more parts than workers: who is
//! through with one takes the next, and all are busy until the end.
//!
//! Run it with `cargo run --release --example cpu_bound [LIMIT]`: it counts those below the limit.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use multiproc::{Pool, TaskError, cpu_count};

/// Numbers of a part.
const PART: u64 = 1_000;

fn is_prime(number: u64) -> bool {
    let mut divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 1 && !divisors.any(|divisor| number.is_multiple_of(divisor))
}

fn count_primes(start: u64, end: u64) -> u64 {
    (start..end).filter(|number| is_prime(*number)).count() as u64
}

fn count_in_pool(pool: &Pool, limit: u64) -> Result<u64, TaskError> {
    let starts = (0..limit).step_by(PART as usize);
    let parts = starts.map(|start| (start, limit.min(start.saturating_add(PART))));
    Ok(pool.starmap(count_primes, parts)?.into_iter().sum())
}

/// What `work` gives, and how long it takes.
fn timed<R>(work: impl FnOnce() -> R) -> (R, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}

fn run(limit: u64) -> Result<(), Box<dyn std::error::Error>> {
    let (alone, time_alone) = timed(|| count_primes(0, limit));
    println!("one process: {alone} primes below {limit}, in {time_alone:.1?}");

    let workers = cpu_count();
    let pool = Pool::new(workers)?;
    pool.wait_ready(Duration::from_secs(10)); // so that their start is not measured
    let (together, time_together) = timed(|| count_in_pool(&pool, limit));
    println!("{workers} workers: {} primes below {limit}, in {time_together:.1?}", together?);
    println!("{:.1} times as fast", time_alone.as_secs_f64() / time_together.as_secs_f64());
    Ok(())
}

fn main() -> ExitCode {
    multiproc::init(); // a worker stays in here and never returns

    let limit = match std::env::args().nth(1).map(|limit| limit.parse()) {
        None => 500_000,
        Some(Ok(limit)) => limit,
        Some(Err(_)) => {
            eprintln!("usage: cpu_bound [LIMIT], a whole number");
            return ExitCode::FAILURE;
        }
    };
    match run(limit) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cpu_bound: {error}");
            ExitCode::FAILURE
        }
    }
}
