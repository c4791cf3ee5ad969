//! What this program does when a supervisor runs it as a command: by the word in a variable, before `main`.

use std::io::Write;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use multiproc::Command;
use multiproc::supervisor::notify;

const ROLE: &str = "MULTIPROC_TEST_ROLE";

#[used]
#[unsafe(link_section = ".init_array")]
static PROGRAM: extern "C" fn() = {
    extern "C" fn begin() {
        match std::env::var(ROLE).as_deref() {
            Ok("tcp") => serve_tcp(),
            Ok("unix") => serve_unix(),
            Ok("notify") => say_ready(),
            _ => {}
        }
    }
    begin
};

/// This program, in a role.
pub(crate) fn this(role: &str) -> Command {
    // Whoever it becomes may enter it, wherever it is.
    Command::new("/proc/self/exe").env(ROLE, role)
}

fn say_ready() {
    notify("READY=1").unwrap();
    loop {
        std::thread::sleep(Duration::MAX);
    }
}

/// The only socket that it was given.
fn given() -> OwnedFd {
    assert_eq!(std::env::var("LISTEN_FDS").as_deref(), Ok("1"));
    assert_eq!(std::env::var("LISTEN_PID"), Ok(std::process::id().to_string()));
    // SAFETY: it was given for us to own, and nobody else does.
    unsafe { OwnedFd::from_raw_fd(3) }
}

/// Who it is.
fn own_name() -> String {
    let names = ["MULTIPROC_SLOT", "MULTIPROC_INCARNATION"];
    names.map(|name| std::env::var(name).unwrap()).join("#")
}

/// Tells its port, and everybody who comes who it is.
fn serve_tcp() {
    let listener = TcpListener::from(given());
    println!("{}", listener.local_addr().unwrap());
    while let Ok((mut stream, _)) = listener.accept() {
        // Who has come may have gone.
        let _ = stream.write_all(own_name().as_bytes());
    }
}

fn serve_unix() {
    let listener = UnixListener::from(given());
    while let Ok((mut stream, _)) = listener.accept() {
        // Who has come may have gone.
        let _ = stream.write_all(own_name().as_bytes());
    }
}
