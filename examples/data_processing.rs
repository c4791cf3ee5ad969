//! A million numbers are doubled: in chunks that are sent to workers and merged, and in place.
//!
//! In Python:
//!
//! ```python
//! def process_data(data_chunk):
//!     return [i * 2 for i in data_chunk]
//!
//! chunks = [data[i:i + chunk_size] for i in range(0, len(data), chunk_size)]
//! results = pool.map(process_data, chunks)
//! final_result = [item for sublist in results for item in sublist]
//! ```
//!
//! That is the first way. It copies each number at least four times: into a message, out of it, and
//! both again with the result. The second way copies nothing: the numbers are in shared memory, and
//! each worker has a part of them to itself, as a slice.
//!
//! Run it with `cargo run --example data_processing`.

use std::error::Error;

use multiproc::{Array, Pool, cpu_count};

const NUMBERS: u64 = 1_000_000;

fn double(chunk: Vec<u64>) -> Vec<u64> {
    chunk.into_iter().map(|number| 2 * number).collect()
}

fn double_in_place(_start: usize, part: &mut [u64]) {
    part.iter_mut().for_each(|number| *number *= 2);
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a worker stays in here and never returns

    let workers = cpu_count();
    let pool = Pool::new(workers)?;
    let numbers: Vec<u64> = (0..NUMBERS).collect();
    let expected: Vec<u64> = (0..NUMBERS).map(|number| 2 * number).collect();

    // As in Python, one chunk for each worker.
    let chunks = numbers.chunks(numbers.len().div_ceil(workers)).map(<[u64]>::to_vec);
    let doubled = pool.map(double, chunks)?.concat();
    println!("in chunks: {} numbers, all doubled: {}", doubled.len(), doubled == expected);

    // No chunks at all: the pool puts as many numbers into a message as is good.
    let doubled = pool.map(|number: u64| 2 * number, numbers.iter().copied())?;
    println!("one by one: {} numbers, all doubled: {}", doubled.len(), doubled == expected);

    let shared = Array::from_slice(&numbers)?;
    pool.map_chunks(&shared, double_in_place)?;
    let doubled = shared.to_vec();
    println!("in place: {} numbers, all doubled: {}", doubled.len(), doubled == expected);
    Ok(())
}
