//! The supervisor's end of its conversations: with other processes, and with its own program.
//!
//! Nobody is waited for. What a client does not read stays in its buffer, and of what it follows, what finds
//! no room is dropped and counted.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

use multiproc_sys::clock::Deadline;
use multiproc_sys::poll::PollSet;
use multiproc_sys::{host, socket};

use super::lines::{LINE_MAX, Lines};
use super::protocol::{self, ErrorCode, EventLine, LogLine, Reply, Request};
use super::target::Chosen;
use crate::core::SlotId;
use crate::logs;

/// Clients at one time.
const CLIENTS_MAX: usize = 64;
/// Bytes that wait for a client, beyond which what it follows is dropped.
const FOLLOW_MAX: usize = 256 << 10;
/// Bytes that wait for a client, beyond which it is sent away.
const WAITING_MAX: usize = 16 << 20;

/// Listens for clients; takes its name along when it is dropped.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
}

impl Door {
    /// Opens it at a path, whose directory nobody else may enter. What a dead supervisor has left there is
    /// removed: the caller sees to it that no living one has it.
    pub(crate) fn open(path: &Path) -> io::Result<Door> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Made in a directory of its own that nobody else may enter, so that there is no moment in which
        // somebody else could connect.
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory = parent.join(format!(".{:x}", host::random()?));
        fs::DirBuilder::new().create(&directory)?;
        let made = directory.join("s");
        let bound = fs::set_permissions(&directory, fs::Permissions::from_mode(0o700))
            .and_then(|()| UnixListener::bind(&made))
            .and_then(|listener| {
                fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
                listener.set_nonblocking(true)?;
                fs::rename(&made, path)?;
                Ok(listener)
            });
        let _ = fs::remove_file(&made);
        let _ = fs::remove_dir(&directory);
        Ok(Door { listener: bound?, path: path.into() })
    }

    pub(crate) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// What a client goes on to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Follow {
    Logs(Vec<Chosen>),
    Events,
}

/// What a client waits for.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) goals: Vec<Goal>,
    /// When it gives up.
    pub(crate) deadline: Option<Deadline>,
    /// Whether it waits at all, or is content with the order being taken.
    pub(crate) waits: bool,
}

/// Where a slot is to come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub(crate) slot: SlotId,
    pub(crate) until: Until,
    /// It failed on the way.
    pub(crate) failed: bool,
}

/// What is waited for of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// Ready, as a later incarnation than this.
    ReadyAfter(u64),
    /// Without a process.
    Down,
    /// No slot any more.
    Gone,
}

/// Somebody who asks.
#[derive(Debug)]
pub(crate) struct Client {
    sink: Sink,
    pub(crate) pending: Option<Pending>,
    pub(crate) follows: Option<Follow>,
    dropped: u64,
}

#[derive(Debug)]
enum Sink {
    Socket {
        stream: UnixStream,
        lines: Lines,
        waiting: Vec<u8>,
        wants_room: bool,
        gone: bool,
    },
    /// Of this program.
    Channel {
        replies: Sender<Reply>,
        gone: bool,
    },
}

/// All who ask, by number.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    clients: BTreeMap<u64, Client>,
    next: u64,
}

/// How a client's descriptor is named in the set.
pub(crate) type Naming = fn(u64) -> u64;

impl Clients {
    /// Takes those who have come to the door.
    pub(crate) fn welcome(&mut self, door: &Door, set: &PollSet, naming: Naming) {
        while let Ok((stream, _)) = door.listener.accept() {
            if self.add(stream, set, naming).is_err() {
                // It is gone, or there are no descriptors left.
            }
        }
    }

    fn add(&mut self, stream: UnixStream, set: &PollSet, naming: Naming) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let uid = socket::peer(&stream)?.uid;
        let refusal = if uid != host::effective_user() && uid != 0 {
            Some((ErrorCode::Denied, "only the supervisor's user may ask"))
        } else if self.clients.len() >= CLIENTS_MAX {
            Some((ErrorCode::Busy, "too many ask at once: try again"))
        } else {
            None
        };
        if let Some((code, message)) = refusal {
            let message = message.into();
            let line = protocol::encode(&Reply::Error { code, message }).unwrap_or_default();
            return (&stream).write_all(&line);
        }
        let number = self.next;
        set.add(&stream, naming(number))?;
        let (lines, waiting, wants_room, gone) = (Lines::default(), Vec::new(), false, false);
        self.insert(Sink::Socket { stream, lines, waiting, wants_room, gone });
        Ok(())
    }

    /// One of this program.
    pub(crate) fn add_channel(&mut self, replies: Sender<Reply>) -> u64 {
        self.insert(Sink::Channel { replies, gone: false })
    }

    fn insert(&mut self, sink: Sink) -> u64 {
        let number = self.next;
        self.next += 1;
        let (pending, follows, dropped) = (None, None, 0);
        self.clients.insert(number, Client { sink, pending, follows, dropped });
        number
    }

    pub(crate) fn get(&mut self, number: u64) -> Option<&mut Client> {
        self.clients.get_mut(&number)
    }

    pub(crate) fn each(&mut self) -> impl Iterator<Item = (u64, &mut Client)> {
        self.clients.iter_mut().map(|(number, client)| (*number, client))
    }

    /// When somebody gives up waiting, at the earliest.
    pub(crate) fn next_deadline(&self) -> Option<Deadline> {
        let pending = self.clients.values().filter_map(|client| client.pending.as_ref());
        pending.filter_map(|pending| pending.deadline).min()
    }

    /// Tells all who follow a log.
    pub(crate) fn tell_line(&mut self, line: &LogLine, follows: impl Fn(&[Chosen]) -> bool) {
        for client in self.clients.values_mut() {
            if matches!(&client.follows, Some(Follow::Logs(chosen)) if follows(chosen)) {
                client.follow(&Reply::Line(line.clone()));
            }
        }
    }

    /// Tells all who follow what happens.
    pub(crate) fn tell_event(&mut self, event: &EventLine) {
        for client in self.clients.values_mut() {
            if client.follows == Some(Follow::Events) {
                client.follow(&Reply::Event(event.clone()));
            }
        }
    }

    /// Sends what waits, and forgets those who have gone.
    pub(crate) fn flush(&mut self, set: &PollSet, naming: Naming) {
        self.clients.retain(|number, client| {
            client.flush(set, naming(*number));
            let gone = client.is_gone();
            if let (true, Sink::Socket { stream, .. }) = (gone, &client.sink) {
                set.remove(stream);
            }
            !gone
        });
    }
}

impl Client {
    /// What it asks for, now that something has come from it. An answer is given before the next is read.
    pub(crate) fn requests(&mut self) -> Option<Request> {
        let busy = self.pending.is_some() || self.follows.is_some();
        let Sink::Socket { stream, lines, gone, .. } = &mut self.sink else { return None };
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => *gone = true,
            Ok(len) => lines.push(&buffer[..len]),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => *gone = true,
        }
        // Whoever waits for an answer, or follows something, has little to say meanwhile.
        *gone |= busy && lines.len() > LINE_MAX;
        if busy { None } else { self.next_request() }
    }

    /// The next request that has come as a whole. Those that are none are answered here.
    pub(crate) fn next_request(&mut self) -> Option<Request> {
        loop {
            let Sink::Socket { lines, gone, .. } = &mut self.sink else { return None };
            if *gone {
                return None;
            }
            let (code, message) = match lines.take() {
                Ok(None) => return None,
                Ok(Some(line)) => match protocol::decode::<Request>(&line) {
                    Ok(request) => return Some(request),
                    Err(error) => (error.code(), error.to_string()),
                },
                Err(error) => {
                    *gone = true;
                    (ErrorCode::Invalid, error.to_string())
                }
            };
            self.answer(&Reply::Error { code, message });
        }
    }

    /// Tells it something.
    pub(crate) fn answer(&mut self, reply: &Reply) {
        match &mut self.sink {
            Sink::Socket { waiting, gone, .. } => {
                match protocol::encode(reply) {
                    Ok(line) => waiting.extend(line),
                    Err(error) => {
                        let (code, message) = (ErrorCode::Internal, error.to_string());
                        let line = protocol::encode(&Reply::Error { code, message });
                        waiting.extend(line.unwrap_or_default());
                    }
                }
                *gone |= waiting.len() > WAITING_MAX;
            }
            Sink::Channel { replies, gone } => {
                *gone |= replies.send(reply.clone()).is_err() || reply.is_last();
            }
        }
    }

    /// Tells it something that it follows, if there is room.
    fn follow(&mut self, reply: &Reply) {
        let waits = match &self.sink {
            Sink::Socket { waiting, .. } => waiting.len(),
            Sink::Channel { .. } => 0,
        };
        if waits > FOLLOW_MAX {
            self.dropped += 1;
            return;
        }
        if self.dropped > 0 {
            let text = format!("{} lines were dropped: read faster", self.dropped);
            self.dropped = 0;
            self.answer(&Reply::Event(EventLine {
                time_ms: logs::now_ms(),
                kind: "dropped".into(),
                text,
                ..EventLine::default()
            }));
        }
        self.answer(reply);
    }

    fn is_gone(&self) -> bool {
        match &self.sink {
            Sink::Socket { gone, .. } | Sink::Channel { gone, .. } => *gone,
        }
    }

    fn flush(&mut self, set: &PollSet, name: u64) {
        let Sink::Socket { stream, waiting, wants_room, gone, .. } = &mut self.sink else { return };
        while !waiting.is_empty() {
            match stream.write(waiting) {
                Ok(len) => drop(waiting.drain(..len)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    *gone = true;
                    break;
                }
            }
        }
        if *wants_room == waiting.is_empty() {
            *wants_room = !waiting.is_empty();
            let _ = set.set_writable(stream.as_fd(), name, *wants_room);
        }
    }
}
