//! Two processes that know nothing of each other but an address and a key.
//!
//! In Python, `Listener(address, authkey=key)` and `Client(address, authkey=key)`. They may be two
//! programs: here one starts the other, and tells it no more than the address.
//!
//! Run it with `cargo run --example listener`.

use std::error::Error;
use std::time::Duration;

use multiproc::{Address, Client, ConnectError, Listener, Process};

/// Asks for the lengths of some words.
fn ask(address: String, key: String) -> Result<Vec<u32>, String> {
    let address: Address = address.parse().map_err(|error| format!("{error}"))?;
    let client = Client::new(&address).key(key.as_bytes());
    let pipe = client
        .connect_timeout::<String, u32>(Duration::from_secs(10))
        .map_err(|error| format!("{error}"))?;
    let mut lengths = Vec::new();
    for word in ["one", "three", "seventeen"] {
        pipe.send(&word.to_string()).map_err(|error| error.to_string())?;
        lengths.push(pipe.recv().map_err(|error| error.to_string())?);
    }
    Ok(lengths)
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    // A name that is in no file system. A path would do as well.
    let address = format!("@multiproc-example-{}", std::process::id());
    let listener =
        Listener::<u32, String>::builder(&address.parse()?).key(b"open sesame").bind()?;
    for key in ["open barley", "open sesame"] {
        let client = Process::spawn(ask, (address.clone(), key.to_string()))?;
        match listener.accept() {
            Ok(pipe) => {
                let is_it = pipe.peer()?.pid == Some(client.pid());
                println!("the client is the process that we started: {is_it}");
                while let Ok(word) = pipe.recv() {
                    pipe.send(&(word.len() as u32))?;
                }
            }
            // Who is not let in ends nothing.
            Err(error @ ConnectError::AuthenticationFailed { .. }) => {
                println!("somebody was not let in: {}", error.to_string().replace(&address, "@.."));
            }
            Err(error) => return Err(error.into()),
        }
        match client.join()? {
            Ok(lengths) => println!("it learnt the lengths {lengths:?}"),
            Err(error) => println!("it could not connect: {}", error.replace(&address, "@..")),
        }
    }
    Ok(())
}
