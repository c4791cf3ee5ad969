//! Two processes that talk to each other.
//!
//! In Python, `parent_end, child_end = Pipe()`. Here the ends know what they carry, and one that is
//! given to a child moves there, so that the other end sees it when the child is gone.
//!
//! Run it with `cargo run --example pipes`.

use std::error::Error;

use multiproc::{Pipe, PipeError, Process};

fn answer(pipe: Pipe<String, u32>) -> u32 {
    let mut answered = 0;
    while let Ok(number) = pipe.recv() {
        let answer = format!("{number} squared is {}", number * number);
        if pipe.send(&answer).is_err() {
            break;
        }
        answered += 1;
        if answered == 3 {
            break;
        }
    }
    answered
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let (here, there) = Pipe::<u32, String>::pair()?;
    let child = Process::spawn(answer, (there,))?;
    for number in [2, 3, 12] {
        here.send(&number)?;
        println!("{}", here.recv()?);
    }
    let gone = matches!(here.recv(), Err(PipeError::Ended));
    println!("the child answered {} times, and is gone: {gone}", child.join()?);
    Ok(())
}
