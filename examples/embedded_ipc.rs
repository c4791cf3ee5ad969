//! Two programs that share memory and have nothing else to do with each other.
//!
//! Only the crate `multiproc-ipc` is used: to be embedded in programs that are started by whatever starts
//! them, as a web server's workers, say, and a monitor. All that they agree on is the name of a segment,
//! and a struct of what is in it. The first one makes the segment and publishes the struct; the second
//! one finds it. In Python, that is a `BaseManager` with a server process; here nobody serves.
//!
//! To have two programs in one file, this one starts itself a second time.
//!
//! Run it with `cargo run --example embedded_ipc`.

use std::error::Error;
use std::process::Command;
use std::thread;
use std::time::Duration;

use multiproc_ipc::{Counter, Handle, Mutex, Plain, Queue, Segment};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// What the programs share.
#[derive(Handle)]
struct Service {
    requests: Queue<String>,
    answers: Queue<(u32, usize)>,
    served: Counter,
    longest: Mutex<[Longest]>,
}

/// Plain data: it stands in shared memory as it is.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
#[repr(C)]
struct Longest {
    bytes: u64,
    request: u64,
}

/// The program that answers: it publishes what it has, and takes the segment's name away at its end.
fn serve(name: &str) -> Result<(), Box<dyn Error>> {
    let segment = Segment::builder().participants(8).bytes(4 << 20).objects(64).named(name)?;
    let served = serve_in(&segment, name);
    Segment::unlink(name)?;
    served
}

fn serve_in(segment: &Segment, name: &str) -> Result<(), Box<dyn Error>> {
    let service = Service {
        requests: Queue::builder(16).build_in(segment)?,
        answers: Queue::builder(16).build_in(segment)?,
        served: Counter::new_in(segment)?.named("served"),
        longest: Mutex::zeroed_in(segment, 3)?,
    };
    segment.publish("service", &service)?;

    let mut client = Command::new(std::env::current_exe()?).args(["client", name]).spawn()?;
    let status = thread::scope(|scope| {
        scope.spawn(|| {
            for (number, request) in (1..).zip(&service.requests) {
                answer(&service, number, &request).expect("as long as we serve, all is there");
            }
        });
        let status = client.wait();
        // However it ended: nobody asks any more.
        service.requests.close();
        status
    })?;
    println!("{} requests of a client that succeeded: {}", service.served.get(), status.success());
    println!("the longest: {:?}", service.longest.lock()?.last());
    Ok(())
}

fn answer(service: &Service, number: u32, request: &str) -> Result<(), Box<dyn Error>> {
    service.served.add(1);
    let mut longest = service.longest.lock()?;
    longest[0] = Longest { bytes: request.len() as u64, request: number.into() };
    longest.sort_by_key(|one| one.bytes);
    drop(longest);
    Ok(service.answers.send((number, request.len()))?)
}

/// The program that asks: it knows the name, and finds the rest.
fn ask(name: &str) -> Result<(), Box<dyn Error>> {
    let segment = Segment::open(name)?;
    let service: Service = segment.find("service")?;
    for request in ["to be", "or not to be", "that is the question", "whether"] {
        service.requests.send(request.into())?;
        // Should the other program be killed, another one may go on where it was; but when?
        let (number, bytes) = service.answers.recv_timeout(Duration::from_secs(30))?;
        println!("request {number} has {bytes} bytes");
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [client, name] if client == "client" => ask(name),
        _ => serve(&format!("multiproc-example.{}", std::process::id())),
    }
}
