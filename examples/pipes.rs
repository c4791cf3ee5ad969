//! Two processes that talk to each other.
//!
//! In Python, `parent_end, child_end = Pipe()`. Here the ends know what they carry, and one that is
//! given to a child moves there, so that the other end sees it when the child is gone.
//!
//! Run it with `cargo run --example pipes`.

use std::convert::Infallible;
use std::error::Error;

use multiproc::{Pipe, PipeError, Process};

/// Squares numbers until none come any more.
fn answer(pipe: Pipe<String, u32>) -> u32 {
    let mut answered = 0;
    while let Ok(number) = pipe.recv() {
        let answer = format!("{number} squared is {}", number * number);
        if pipe.send(&answer).is_err() {
            break;
        }
        answered += 1;
    }
    answered
}

/// Sends a picture, as bytes. It cannot receive: that would not compile.
fn paint(pipe: Pipe<(), Infallible>, bytes: usize) {
    let picture: Vec<u8> = (0..bytes).map(|place| place as u8).collect();
    let _ = pipe.send_bytes(&picture);
}

/// Greets whoever's pipe comes through a pipe.
fn greet(visitors: Pipe<(), Pipe<String, ()>>) {
    while let Ok(visitor) = visitors.recv() {
        let _ = visitor.send(&format!("hello from process {}", std::process::id()));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    // Values both ways.
    let (here, there) = Pipe::<u32, String>::pair()?;
    let child = Process::spawn(answer, (there,))?;
    for number in [2, 3, 12] {
        here.send(&number)?;
        println!("{}", here.recv()?);
    }
    drop(here);
    println!("the child answered {} times", child.join()?);

    // Bytes one way, into a buffer of ours. The message is there as a whole, or not at all.
    let (sender, receiver) = Pipe::simplex()?;
    let child = Process::spawn(paint, (sender, 1_000_000))?;
    receiver.poll()?;
    let mut buffer = vec![0; 10];
    if let Err(PipeError::ShortBuffer { needed }) = receiver.recv_bytes_into(&mut buffer) {
        println!("{needed} bytes want to be received");
        buffer.resize(needed, 0);
    }
    let received = receiver.recv_bytes_into(&mut buffer)?;
    println!("{received} bytes, the last one is {}", buffer[received - 1]);
    let gone = matches!(receiver.recv_bytes(), Err(PipeError::Ended));
    println!("the painter is gone: {gone}");
    child.join()?;

    // A pipe through a pipe.
    let (door, hall) = Pipe::<Pipe<String, ()>, ()>::pair()?;
    let child = Process::spawn(greet, (hall,))?;
    for _ in 0..2 {
        let (mine, yours) = Pipe::<(), String>::pair()?;
        door.send(&yours)?;
        let greeting = mine.recv()?;
        println!("greeted by the child: {}", greeting.ends_with(&child.pid().to_string()));
    }
    drop(door);
    child.join()?;
    Ok(())
}
