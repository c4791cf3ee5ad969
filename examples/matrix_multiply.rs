//! Two matrices in shared memory are multiplied: each task computes some rows of the product.
//!
//! In Python:
//!
//! ```python
//! def matrix_multiply_chunk(chunk):
//!     a = np.random.rand(1000, 1000)
//!     b = np.random.rand(1000, 1000)
//!     return np.dot(a, b)[chunk[0]:chunk[1]]
//!
//! final_result = np.vstack(pool.map(matrix_multiply_chunk, chunks))
//! ```
//!
//! There, each worker makes matrices of its own, computes the whole product and throws most of it
//! away, and the last rows are lost if the number of workers doesn't divide that of the rows. Here
//! all read the same two matrices, and write into the same third one. A task that is run again
//! because its worker died writes the same rows again.
//!
//! Run it with `cargo run --release --example matrix_multiply [SIZE]`.

use std::error::Error;
use std::ops::Range;
use std::process::ExitCode;

use multiproc::{Array, Pool, cpu_count};
use ndarray::Array2;

/// A square matrix that processes share: its rows, one after another.
type Shared = Array<f64>;

/// Some rows, copied out: an [`Array`] gives out no reference, since others might write.
fn read_rows(matrix: &Shared, size: usize, rows: Range<usize>) -> Array2<f64> {
    let mut copy = Array2::zeros((rows.len(), size));
    matrix.read(rows.start * size, copy.as_slice_mut().expect("rows one after another"));
    copy
}

fn multiply_rows(a: Shared, b: Shared, c: Shared, size: usize, rows: Range<usize>) {
    let some_of_a = read_rows(&a, size, rows.clone());
    let product = some_of_a.dot(&read_rows(&b, size, 0..size));
    c.write(rows.start * size, product.as_slice().expect("rows one after another"));
}

/// A matrix of numbers that look random, and are the same each time.
fn matrix(size: usize, seed: usize) -> Array2<f64> {
    Array2::from_shape_fn((size, size), |(row, column)| {
        let number = (row * size + column + seed).wrapping_mul(2_654_435_761) % 1000;
        number as f64 / 1000.0
    })
}

fn run(size: usize) -> Result<bool, Box<dyn Error>> {
    let (a, b) = (matrix(size, 1), matrix(size, 2));
    let shared = |matrix: &Array2<f64>| Shared::from_slice(matrix.as_slice().unwrap_or_default());
    let (shared_a, shared_b, shared_c) = (shared(&a)?, shared(&b)?, Shared::new(size * size)?);

    let workers = cpu_count();
    let pool = Pool::new(workers)?;
    // Some more tasks than workers, so that none has to wait long for the last one.
    let rows = size.div_ceil(4 * workers).max(1);
    let parts = (0..size).step_by(rows).map(|start| start..size.min(start + rows));
    let items = parts
        .map(|rows| (shared_a.clone(), shared_b.clone(), shared_c.clone(), size, rows))
        .collect::<Vec<_>>();
    println!("{size} × {size} numbers, in {} tasks", items.len());
    pool.starmap(multiply_rows, items)?;

    let difference = read_rows(&shared_c, size, 0..size) - a.dot(&b);
    let close = difference.iter().all(|difference| difference.abs() < 1e-9 * size as f64);
    println!("the same as a.dot(&b): {close}");
    Ok(close)
}

fn main() -> ExitCode {
    multiproc::init(); // a worker stays in here and never returns

    let size = match std::env::args().nth(1).map(|size| size.parse()) {
        None => 300,
        Some(Ok(size)) if (1..=10_000).contains(&size) => size,
        Some(_) => {
            eprintln!("usage: matrix_multiply [SIZE], a whole number from 1 to 10000");
            return ExitCode::FAILURE;
        }
    };
    match run(size) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("matrix_multiply: {error}");
            ExitCode::FAILURE
        }
    }
}
