//! A web server of several processes: they share one listening socket and one counter of hits, and
//! are kept running, replaced and stopped by a supervisor.
//!
//! In Python, `gunicorn --workers 4 hello:app`. Here it is a program of its own:
//!
//! - a worker that is killed costs the requests that it was answering: one, as each worker answers
//!   one at a time. Connections that nobody has accepted wait in the socket, which all share;
//! - a hit is counted before it is answered, in shared memory: no death takes it back;
//! - who is told to stop finishes what it has begun. So workers are replaced under load, and nobody
//!   notices.
//!
//! Run it with `cargo run --example http_server -- --workers 4`, and look at
//! <http://127.0.0.1:8080/> and [`/hits`](http://127.0.0.1:8080/hits). Signals to the server: HUP
//! replaces the workers one by one, TTIN and TTOU add one and take one away, TERM and INT stop it.
//! Kill workers as you like.

use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use clap::Parser;
use multiproc::supervisor::core::{Policy, Readiness};
use multiproc::supervisor::{Supervisor, Worker};
use multiproc::{Counter, Segment, Spawner};

use crate::web::{Door, serve};

mod web;

/// A web server whose workers may be killed.
#[derive(Parser)]
struct Arguments {
    /// How many processes answer requests.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64), default_value_t = 4)]
    workers: u32,
    /// Where to listen; port 0 is one that is free.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a worker enters its function here and never returns

    let Arguments { workers, listen } = Arguments::parse();
    let listener = TcpListener::bind(listen)?;
    println!("http://{}/", listener.local_addr()?);
    let door = Door::new(listener)?;
    let hits = Counter::new()?;

    let policy = Policy {
        ready: Readiness::OnNotice,
        stall: Some(Duration::from_secs(30)),
        ..Policy::default()
    };
    let arguments = (door, hits.clone());
    let web = Worker::function("web", Spawner::new(), serve, arguments).count(workers);
    let web = web.policy(policy);

    // On HUP the configuration is read again. This one has but a revision, and another revision
    // replaces the workers.
    let (again, mut revision) = (web.clone(), 0);
    let configuration = move || {
        revision += 1;
        Ok(vec![again.clone().revision(revision).into()])
    };
    let summary = Supervisor::builder()
        .worker(web)
        .segment(&Segment::current()?, None, 128)
        .as_operators_process()
        .configuration(configuration)
        .observe(|event| println!("{} {}", event.target.as_deref().unwrap_or("*"), event.text))
        .build()?
        .run()?;
    println!("hits: {}, restarts: {}", hits.get(), summary.restarts);
    Ok(())
}
