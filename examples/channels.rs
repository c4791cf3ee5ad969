//! Ends of channels that are sent: a directory of services, each in a process of its own.
//!
//! In Python a connection can be sent through another connection. Here everything that has to do with it
//! has a type: a caller asks for a service by its name, gets the end of a channel to it, and sends
//! with each request the end that the answer goes to.
//!
//! Run it with `cargo run --example channels`.

use std::collections::BTreeMap;
use std::error::Error;

use multiproc::Process;
use multiproc::channel::{self, Receiver, Sender, SharedMemory};

/// A text, and where the answer is to go.
type Request = (SharedMemory, Sender<usize>);
/// The name of a service, and where a way to it is to go.
type Lookup = (String, Sender<Option<Sender<Request>>>);

/// A service: gives out a way to itself, and counts words or lines for as long as anybody has one.
fn serve(what: String, register: Sender<Sender<Request>>) -> usize {
    let (requests, receiver) = channel::pair::<Request>().expect("a channel");
    register.send(requests).expect("somebody waits for it");
    let mut served = 0;
    while let Ok((text, answer)) = receiver.recv() {
        let text = String::from_utf8_lossy(&text);
        let words = || text.split_whitespace().count();
        let _ = answer.send(if what == "words" { words() } else { text.lines().count() });
        served += 1;
    }
    served
}

/// Knows the services, and tells of them whoever asks.
fn directory(lookups: Receiver<Lookup>, services: BTreeMap<String, Sender<Request>>) {
    while let Ok((name, answer)) = lookups.recv() {
        let _ = answer.send(services.get(&name).cloned());
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let mut services = BTreeMap::new();
    let mut children = Vec::new();
    for name in ["words", "lines"] {
        let (register, registered) = channel::pair()?;
        children.push(Process::spawn(serve, (name.to_string(), register))?);
        services.insert(name.to_string(), registered.recv()?);
    }
    let (lookup, lookups) = channel::pair::<Lookup>()?;
    let directory = Process::spawn(directory, (lookups, services))?;

    // It is not copied, however often it is sent.
    let text = SharedMemory::from_bytes("to be or\nnot to be\n".repeat(1000).as_bytes())?;
    for name in ["words", "lines", "pages"] {
        let (sender, answer) = channel::pair()?;
        lookup.send((name.to_string(), sender))?;
        match answer.recv()? {
            None => println!("nobody counts {name}"),
            Some(service) => {
                let (sender, answer) = channel::pair()?;
                service.send((text.clone(), sender))?;
                println!("{} {name}", answer.recv()?);
            }
        }
    }

    // The directory ends when nobody can ask it any more, and the services when it has ended, which had
    // the last ways to them.
    drop(lookup);
    directory.join()?;
    for child in children {
        println!("served {}", child.join()?);
    }
    Ok(())
}
