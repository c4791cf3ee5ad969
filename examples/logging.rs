//! Workers that log, and a parent that writes what they log, in whole lines.
//!
//! In Python, `multiprocessing.log_to_stderr()`, and in each worker `get_logger().info(..)`. Here what is
//! logged is what the program logs anyway, with `tracing`: its fields and spans come along. Each line is
//! there even if its worker is killed right after it, and lines never mix.
//!
//! Run it with `cargo run --example logging`.

use std::error::Error;
use std::io::stdout;

use multiproc::{Logs, Spawner};
use tracing::{Level, debug, error, info, info_span};

fn count_letters(words: Vec<String>) -> usize {
    let mut letters = 0;
    for word in words {
        let _span = info_span!("word", %word).entered();
        if word.is_empty() {
            error!("it has no letters: giving up");
            std::process::exit(1);
        }
        letters += word.len();
        debug!(letters, "so far");
    }
    info!(letters, "done");
    letters
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init();

    let logs = Logs::new()?.level(Level::DEBUG);
    let forwarder = logs.forward_to(stdout())?;
    let mut ended = Vec::new();
    for (name, words) in [("careful", ["the", "cat"]), ("careless", ["sat", ""])] {
        let words = words.map(str::to_owned).to_vec();
        let worker = Spawner::new().name(name).logs(&logs).spawn(count_letters, (words,))?;
        ended.push((name, worker.join()));
    }
    forwarder.finish()?; // everything is written by then
    for (name, result) in ended {
        match result {
            Ok(letters) => println!("{name} has counted {letters} letters"),
            Err(error) => println!("{name}: {error}"),
        }
    }
    Ok(())
}
