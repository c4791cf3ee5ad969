//! What a worker does: one request after the other, until it is told to stop.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use multiproc::supervisor::Pulse;
use multiproc::{Counter, Descriptor};
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use signal_hook::consts::SIGTERM;

/// How long a client may take with its request, and again with its answer. Its worker waits so long.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest request, in bytes.
const REQUEST_MAX: usize = 8 << 10;
const HEADERS_MAX: usize = 64;

/// The listening socket, as an argument of each worker.
#[derive(Serialize, Deserialize)]
pub(crate) struct Door(Descriptor);

impl Door {
    pub(crate) fn new(listener: TcpListener) -> io::Result<Door> {
        // All workers see that somebody knocks. Who comes too late must not wait for the next one.
        listener.set_nonblocking(true)?;
        Ok(Door(Descriptor::new(listener)))
    }
}

impl Clone for Door {
    fn clone(&self) -> Door {
        let open = self.0.as_fd().try_clone_to_owned().expect("there is room for a descriptor");
        Door(Descriptor::new(open))
    }
}

/// Answers requests at the door.
pub(crate) fn serve(door: Door, hits: Counter) {
    let pulse = Pulse::of_this_process().expect("it is supervised");
    let listener = TcpListener::from(OwnedFd::from(door.0));
    let told = told_to_stop().expect("a signal handler");
    pulse.ready().expect("the supervisor waits for that");
    loop {
        pulse.park();
        if wait(&listener, &told).expect("waiting for requests") == Next::Stop {
            return; // whoever knocks is let in by another worker
        }
        // Another worker may have been faster, or the client is gone again.
        let Ok((client, _)) = listener.accept() else { continue };
        pulse.busy(3 * PATIENCE);
        // A client that is too slow, or goes away, is no reason to end.
        let _ = answer(client, &hits);
        pulse.done();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Stop,
    Accept,
}

/// What becomes readable when TERM has come.
fn told_to_stop() -> io::Result<UnixStream> {
    let (told, tell) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(SIGTERM, tell)?;
    Ok(told)
}

fn wait(listener: &TcpListener, told: &UnixStream) -> io::Result<Next> {
    let mut sources = [PollFd::new(told, PollFlags::IN), PollFd::new(listener, PollFlags::IN)];
    match poll(&mut sources, None) {
        Err(rustix::io::Errno::INTR) => return wait(listener, told),
        polled => polled?,
    };
    Ok(if sources[0].revents().is_empty() { Next::Accept } else { Next::Stop })
}

/// Reads a request, and answers it.
fn answer(mut client: TcpStream, hits: &Counter) -> io::Result<()> {
    client.set_write_timeout(Some(PATIENCE))?;
    let (status, body) = match read_path(&mut client)?.as_deref() {
        Some("/") => {
            hits.add(1);
            ("200 OK", format!("process {}\n", std::process::id()))
        }
        Some("/hits") => ("200 OK", format!("{}\n", hits.get())),
        Some(_) => ("404 Not Found", "there is / and /hits\n".into()),
        None => ("400 Bad Request", "GET is all that is understood\n".into()),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    client.write_all((head + &body).as_bytes())
}

/// The path that is asked for; none if it is not asked for by a GET.
fn read_path(client: &mut TcpStream) -> io::Result<Option<String>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut bytes, mut len) = ([0; REQUEST_MAX], 0);
    loop {
        let rest = deadline.saturating_duration_since(Instant::now());
        client.set_read_timeout(Some(rest.max(Duration::from_millis(1))))?;
        match client.read(&mut bytes[len..]) {
            Ok(0) => return Ok(None), // gone, or there is no room for more
            Ok(count) => len += count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue, // TERM has come
            Err(error) => return Err(error),
        }
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes[..len]) {
            Ok(httparse::Status::Partial) if !rest.is_zero() => {}
            Ok(httparse::Status::Complete(_)) if request.method == Some("GET") => {
                return Ok(request.path.map(Into::into));
            }
            _ => return Ok(None),
        }
    }
}
