//! A tree of workers in code: who comes after whom, who shares whose fate, and one of them is killed.
//!
//! ```text
//! services  ── cache          a command
//!    ▲ after
//! pipeline  ┬─ producer       sends numbers
//!           └─ squarer × 2    takes them on lease, and adds up their squares
//! ```
//!
//! In the pipeline the strategy is *rest for one*: were the producer to die, the squarers would be
//! started again behind it; the death of the last squarer concerns nobody else. Each of these
//! functions has a [`Pulse`], by which it says that it is ready, that it lives, and what it is at.
//! Whoever is at work and has not beaten for ten seconds is taken for stuck, and replaced.
//!
//! Python's `multiprocessing` has no counterpart.
//!
//! Run it with `cargo run --example supervised`.

use std::error::Error;
use std::thread;
use std::time::Duration;

use multiproc::supervisor::control::protocol::{Reply, Request, Until};
use multiproc::supervisor::core::{Policy, Readiness, Restart, Strategy};
use multiproc::supervisor::{Group, Handle, Pulse, Supervisor, Worker};
use multiproc::{Command, Event, Queue, Segment, Spawner, Tally};

const NUMBERS: u64 = 1000;
const SIGKILL: i32 = 9;

fn produce(numbers: Queue<u64>, go_on: Event) {
    let pulse = Pulse::of_this_process().expect("it is supervised");
    pulse.busy(Duration::from_secs(60)); // it would read a large file first, say
    pulse.ready().expect("somebody wants to know");
    for number in 1..=NUMBERS {
        if number == NUMBERS / 2 {
            pulse.park(); // however long it waits from here on: it is well
            go_on.wait();
        }
        pulse.beat();
        numbers.send(number).expect("nobody else closes the queue");
    }
    numbers.close();
}

fn square(numbers: Queue<u64>, sums: Tally<[u64; 2]>) {
    let pulse = Pulse::of_this_process().expect("it is supervised");
    pulse.ready().expect("somebody wants to know");
    loop {
        pulse.park();
        let Ok(number) = numbers.lease() else { break };
        pulse.begin(*number);
        let contribution = [1, *number * *number];
        sums.commit(number, &contribution);
        pulse.done();
    }
}

/// Asks for something, and waits until it is so.
fn ask(handle: &Handle, request: Request) -> Result<(), String> {
    match handle.ask(request).into_iter().last() {
        Some(Reply::Done { ok: true, .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Waits until all of the targets have come to where they should be.
fn wait(handle: &Handle, target: &str, until: Until) -> Result<(), String> {
    ask(handle, Request::Wait { targets: vec![target.into()], until, timeout_ms: None })
}

fn show(handle: &Handle) {
    for reply in handle.ask(Request::Status { targets: vec!["all".into()] }) {
        if let Reply::Slot(slot) = reply {
            println!(
                "{}:{} is {}, restarts: {}",
                slot.worker, slot.slot, slot.state, slot.restarts
            );
        }
    }
}

/// What an operator does.
fn operate(handle: &Handle, go_on: &Event) -> Result<(), String> {
    wait(handle, "all", Until::Ready)?;
    show(handle);

    let victim = "squarer:1";
    let events = handle.ask(Request::Events { lines: 0, follow: true });
    ask(handle, Request::Signal { targets: vec![victim.into()], signal: SIGKILL })?;
    for reply in events {
        let Reply::Event(event) = reply else { continue };
        if event.target.as_deref() == Some(victim) {
            println!("{victim} {}", event.kind);
            if event.kind == "ready" {
                break;
            }
        }
    }

    go_on.set();
    wait(handle, "pipeline", Until::Down)?;
    show(handle);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    multiproc::init(); // a worker enters its function here and never returns

    let (numbers, sums, go_on) = (Queue::bounded(64)?, Tally::new()?, Event::new()?);
    // Who returns is done; who dies is restarted. The first restart comes at once, and if it keeps
    // dying the pauses grow, until after ten deaths in a minute it is given up.
    let function = Policy {
        restart: Restart::Transient,
        ready: Readiness::OnNotice,
        stall: Some(Duration::from_secs(10)),
        ..Policy::default()
    };
    // A command that cannot tell is ready when it has lived for a while.
    let command =
        Policy { ready: Readiness::Survive(Duration::from_millis(100)), ..Policy::default() };

    let cache = Worker::command("cache", Command::new("sleep").args(["1000"])).policy(command);
    let producer =
        Worker::function("producer", Spawner::new(), produce, (numbers.clone(), go_on.clone()));
    let squarer = Worker::function("squarer", Spawner::new(), square, (numbers, sums.clone()));
    let pipeline = Group::new("pipeline")
        .after(["services"])
        .strategy(Strategy::RestForOne)
        .worker(producer.policy(function.clone()))
        .worker(squarer.policy(function).count(2));

    let supervisor = Supervisor::builder()
        .group(Group::new("services").worker(cache))
        .group(pipeline)
        .segment(&Segment::current()?, None, 8)
        .build()?;
    let handle = supervisor.handle();
    let operator = thread::spawn(move || {
        let outcome = operate(&handle, &go_on);
        handle.shut_down(false); // first the pipeline, then what it came after
        outcome
    });
    let summary = supervisor.run()?;
    operator.join().expect("it does not panic")?;

    println!("numbers: {}, sum of their squares: {}", sums.total()[0], sums.total()[1]);
    println!(
        "slots: {}, restarts: {}, failed: {}",
        summary.slots, summary.restarts, summary.failed
    );
    Ok(())
}
