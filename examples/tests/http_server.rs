//! The web server under load, while its workers are killed and replaced.

use std::collections::HashSet;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Mutex, PoisonError};
use std::thread;

use multiproc_sys::pidfd::PidFd;
use support::{SOON, eventually};

const SIGHUP: i32 = 1;
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

const CLIENTS: usize = 8;

/// The example, running.
struct Server {
    child: Child,
    address: String,
    lines: Receiver<String>,
}

impl Server {
    fn start(workers: usize) -> Server {
        let this = std::env::current_exe().expect("this program's path");
        let built = this.ancestors().nth(2).expect("programs are built in `PROFILE/deps`");
        let example: PathBuf = built.join("examples/http_server");
        assert!(example.exists(), "{example:?} is built by a plain `cargo test`, not by `--test`");
        let mut child = Command::new(example)
            .args(["--workers", &workers.to_string(), "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("starting the server");
        let stdout = child.stdout.take().expect("it was asked for");
        let (told, lines) = channel();
        thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.for_each(|line| drop(told.send(line)));
        });
        let first = lines.recv_timeout(SOON).expect("it says where it is");
        let address = first.strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        let address = address.unwrap_or_else(|| panic!("{first}")).to_string();
        let server = Server { child, address, lines };
        (0..workers).for_each(|_| server.says(" is ready"));
        server
    }

    fn signal(&self, signal: i32) {
        let process = PidFd::open(self.child.id()).expect("our own child");
        process.signal(signal).expect("signalling our own child");
    }

    /// Waits until it says something that ends so.
    fn says(&self, end: &str) {
        let next = || self.lines.recv_timeout(SOON).unwrap_or_else(|_| panic!("no {end:?}"));
        while !next().ends_with(end) {}
    }

    fn hits(&self) -> u64 {
        get(&self.address, "/hits").expect("an answer").trim().parse().expect("a number")
    }

    /// Stops it. It says how many hits there were, and how many restarts.
    fn stop(mut self, hits: u64, restarts: u64) {
        self.signal(SIGTERM);
        self.says(&format!("hits: {hits}, restarts: {restarts}"));
        assert!(self.child.wait().expect("our own child").success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Has an effect only where a test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a server answers to a request, whole.
fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").filter(|(head, body)| {
        let length = format!("Content-Length: {}\r\n", body.len());
        head.starts_with("HTTP/1.1 200 ") && format!("{head}\r\n").contains(&length)
    });
    Ok(body.ok_or(io::ErrorKind::UnexpectedEof)?.1.to_string())
}

/// What clients have seen.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicU64,
    failed: AtomicU64,
    /// The processes that have answered.
    processes: Mutex<HashSet<u32>>,
}

impl Load {
    /// Has clients ask for as long as `meanwhile` lasts, each for one thing after the other.
    fn put_on(server: &Server, meanwhile: impl FnOnce(&Load)) -> Load {
        let (load, address) = (Load::default(), &server.address);
        thread::scope(|scope| {
            let _over = Over(&load);
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    while !load.over.load(SeqCst) {
                        load.note(get(address, "/"));
                    }
                });
            }
            meanwhile(&load);
        });
        load
    }

    fn note(&self, answer: io::Result<String>) {
        let Ok(answer) = answer else {
            self.failed.fetch_add(1, SeqCst);
            return;
        };
        let pid = answer.trim().strip_prefix("process ").and_then(|pid| pid.parse().ok());
        let pid = pid.unwrap_or_else(|| panic!("{answer}"));
        self.processes.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
        self.answered.fetch_add(1, SeqCst);
    }

    fn answered(&self) -> u64 {
        self.answered.load(SeqCst)
    }

    fn failed(&self) -> u64 {
        self.failed.load(SeqCst)
    }

    /// Waits until a hundred more are answered; by whom.
    fn goes_on(&self) -> HashSet<u32> {
        let processes = || self.processes.lock().unwrap_or_else(PoisonError::into_inner);
        processes().clear();
        let before = self.answered();
        eventually("it goes on", || self.answered() >= before + 100);
        processes().clone()
    }
}

/// Ends the load, also when a test fails.
struct Over<'a>(&'a Load);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, SeqCst);
    }
}

#[test]
fn server_under_load_counts_what_it_answers() {
    let _guard = support::guard();
    let server = Server::start(2);
    let load = Load::put_on(&server, |load| {
        eventually("both workers answer", || load.goes_on().len() == 2);
    });
    assert_eq!((load.failed(), load.answered()), (0, server.hits()));
    assert!(get(&server.address, "/nothing").is_err());
    server.stop(load.answered(), 0);
}

#[test]
fn worker_killed_under_load_costs_the_request_that_it_held_at_most() {
    const KILLS: u64 = 20;
    let _guard = support::guard();
    let server = Server::start(2); // fewer than clients: nobody is ever idle
    let load = Load::put_on(&server, |load| {
        for _ in 0..KILLS {
            let worker = load.goes_on().into_iter().find(|pid| support::is_running(*pid));
            let worker = PidFd::open(worker.expect("somebody answers")).expect("it runs");
            worker.signal(SIGKILL).expect("one of our own");
            server.says(" is ready"); // another one, in its place
        }
        load.goes_on();
    });
    let (answered, failed, hits) = (load.answered(), load.failed(), server.hits());
    assert!(failed <= KILLS, "{failed} of {answered} failed");
    assert!((answered..=answered + failed).contains(&hits), "{answered} and {failed}: {hits}");
    server.stop(hits, KILLS);
}

#[test]
fn workers_replaced_under_load_cost_nothing() {
    let _guard = support::guard();
    let server = Server::start(3);
    let load = Load::put_on(&server, |load| {
        for _ in 0..3 {
            let before = load.goes_on();
            server.signal(SIGHUP);
            server.says("all slots were replaced");
            eventually("they are gone", || !before.iter().any(|pid| support::is_running(*pid)));
        }
        load.goes_on();
    });
    assert_eq!((load.failed(), load.answered()), (0, server.hits()));
    server.stop(load.answered(), 0);
}

#[test]
fn server_without_a_place_to_listen_says_so() {
    let _guard = support::guard();
    let server = Server::start(1);
    let this = std::env::current_exe().expect("this program's path");
    let built = this.ancestors().nth(2).expect("programs are built in `PROFILE/deps`");
    let mut second = Command::new(built.join("examples/http_server"));
    let second = support::run(second.args(["--listen", &server.address]), SOON);
    assert!(!second.status.success() && second.stderr.contains("AddrInUse"), "{second:#?}");
    server.stop(0, 0);
}
