//! Descriptors for ipc-channel's endpoints, and endpoints for descriptors.
//!
//! # Purpose
//!
//! ipc-channel hides the descriptors of its endpoints, and makes endpoints of none but those that come
//! through one of its channels. So each process has two such channels to itself, of each of which it
//! holds the other end as a bare socket: what is sent through `out` comes out of `out_end` as a
//! descriptor; what is written to `back_end` is received from `back` as an endpoint. What has to be
//! written there is not made up: it is what came out of `out_end` for an endpoint of the same kind.
//!
//! # If a process dies
//!
//! The first channel begins with a connection to a socket file, as ipc-channel has it. The file is there
//! for an instant, once in the life of a process that uses channels, in the directory of temporary
//! files, and is named by its process. What one leaves that is killed in this instant, the next one
//! that begins removes.

use std::fs::{self, File};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use ipc_channel::ipc::{
    self, IpcReceiver, IpcSender, IpcSharedMemory, OpaqueIpcReceiver, OpaqueIpcSender,
};
use multiproc_sys::pidfd::PidFd;
use multiproc_sys::socket::{self, SocketAddrUnix};
use multiproc_sys::{host, memory};
use serde::{Deserialize, Serialize};

/// Bytes of a message with one endpoint: it has a few dozen.
const PARCEL_BYTES: usize = 256;

#[derive(Serialize, Deserialize)]
enum Parcel {
    Sender(OpaqueIpcSender),
    Receiver(OpaqueIpcReceiver),
    Memory(IpcSharedMemory),
}

struct Exchange {
    /// Who has made it: a forked child shares it with its parent, and makes its own.
    owner: u32,
    out: IpcSender<Parcel>,
    out_end: OwnedFd,
    back: IpcReceiver<Parcel>,
    back_end: OwnedFd,
    sender: Vec<u8>,
    receiver: Vec<u8>,
    memory: Vec<u8>,
}

static EXCHANGE: Mutex<Option<Exchange>> = Mutex::new(None);

/// Does something with this process's exchange. If that goes wrong it makes another one next time: what
/// is under way in this one is not known then.
fn with<R>(work: impl FnOnce(&Exchange) -> io::Result<R>) -> io::Result<R> {
    let mut exchange = EXCHANGE.lock().unwrap_or_else(PoisonError::into_inner);
    let ours = exchange.take().filter(|exchange| exchange.owner == host::pid());
    let done = guarded(|| {
        let ours = ours.map_or_else(Exchange::new, Ok)?;
        let result = work(&ours)?;
        Ok((result, ours))
    });
    let (result, ours) = done?;
    *exchange = Some(ours);
    Ok(result)
}

/// Runs what ipc-channel may panic in: when there are no descriptors left, or no memory.
pub(super) fn guarded<R>(work: impl FnOnce() -> io::Result<R>) -> io::Result<R> {
    let gave_up = |_| io::Error::other("ipc-channel panicked: no descriptors or no memory left?");
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(gave_up(panic)))
}

/// The descriptor of a sender.
pub(super) fn of_sender(sender: OpaqueIpcSender) -> io::Result<OwnedFd> {
    with(|exchange| Ok(exchange.export(Parcel::Sender(sender))?.1))
}

/// The descriptor of a receiver.
pub(super) fn of_receiver(receiver: OpaqueIpcReceiver) -> io::Result<OwnedFd> {
    with(|exchange| Ok(exchange.export(Parcel::Receiver(receiver))?.1))
}

/// The descriptor of shared memory that is not empty.
pub(super) fn of_memory(memory: IpcSharedMemory) -> io::Result<OwnedFd> {
    with(|exchange| Ok(exchange.export(Parcel::Memory(memory))?.1))
}

/// The sender of a descriptor, which must be a socket's.
pub(super) fn to_sender(descriptor: OwnedFd) -> io::Result<OpaqueIpcSender> {
    with(|exchange| match exchange.import(&exchange.sender, descriptor)? {
        Parcel::Sender(sender) => Ok(sender),
        _ => Err(lost()),
    })
}

/// The receiver of a descriptor, which must be a socket's.
pub(super) fn to_receiver(descriptor: OwnedFd) -> io::Result<OpaqueIpcReceiver> {
    with(|exchange| match exchange.import(&exchange.receiver, descriptor)? {
        Parcel::Receiver(receiver) => Ok(receiver),
        _ => Err(lost()),
    })
}

/// The shared memory of a descriptor.
pub(super) fn to_memory(descriptor: OwnedFd) -> io::Result<IpcSharedMemory> {
    if memory::shareable_length(&descriptor).is_none_or(|length| length == 0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no shared memory"));
    }
    with(|exchange| match exchange.import(&exchange.memory, descriptor)? {
        Parcel::Memory(memory) => Ok(memory),
        _ => Err(lost()),
    })
}

fn lost() -> io::Error {
    io::Error::other("an endpoint did not come back from ipc-channel")
}

impl Exchange {
    fn new() -> io::Result<Exchange> {
        let (out, out_end) = connect()?;
        let take = |parcel| {
            out.send(parcel).map_err(io::Error::other)?;
            receive(&out_end)
        };
        let (back_sender, back) = ipc::channel()?;
        let (sender, back_end) = take(Parcel::Sender(back_sender.to_opaque()))?;
        let (_, unused) = ipc::channel::<()>()?;
        let (receiver, _) = take(Parcel::Receiver(unused.to_opaque()))?;
        let (memory, _) = take(Parcel::Memory(IpcSharedMemory::from_byte(0, 1)))?;
        let owner = host::pid();
        Ok(Exchange { owner, out, out_end, back, back_end, sender, receiver, memory })
    }

    /// Gives an endpoint up: the message that it was, and its descriptor.
    fn export(&self, parcel: Parcel) -> io::Result<(Vec<u8>, OwnedFd)> {
        self.out.send(parcel).map_err(io::Error::other)?;
        receive(&self.out_end)
    }

    /// Takes an endpoint up.
    fn import(&self, message: &[u8], descriptor: OwnedFd) -> io::Result<Parcel> {
        socket::send(&self.back_end, &[IoSlice::new(message)], &[descriptor], false)?
            .ok_or_else(lost)?;
        self.back.recv().map_err(io::Error::other)
    }
}

/// Receives a message with one descriptor.
fn receive(socket: &OwnedFd) -> io::Result<(Vec<u8>, OwnedFd)> {
    let (mut bytes, mut descriptors) = (vec![0; PARCEL_BYTES], Vec::new());
    let length = socket::receive_with_descriptors(socket, &mut bytes, &mut descriptors, false)?;
    bytes.truncate(length.ok_or_else(lost)?);
    let descriptor = descriptors.pop().filter(|_| descriptors.is_empty());
    Ok((bytes, descriptor.ok_or_else(lost)?))
}

/// A sender of ipc-channel's, and the bare socket that receives from it.
fn connect() -> io::Result<(IpcSender<Parcel>, OwnedFd)> {
    let directory = std::env::temp_dir();
    remove_what_the_dead_left(&directory);
    let pid = host::pid();
    let name = format!("{PREFIX}{pid}.{:x}", PidFd::this()?.identity()?);
    let opened = File::open(&directory)?;
    // However long the directory's own name is, an address holds this one.
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", opened.as_raw_fd()));
    let listener = socket::packet_socket()?;
    let _ = fs::remove_file(&path);
    // DEATH: the file stays until the next one begins.
    socket::bind(&listener, &SocketAddrUnix::new(&path)?)?;
    let connected = socket::listen(&listener, 8)
        .and_then(|()| IpcSender::connect(path.to_string_lossy().into_owned()));
    let _ = fs::remove_file(&path);
    let sender = connected?;
    loop {
        let end = socket::accept(&listener)?.ok_or_else(lost)?;
        // Whoever else has connected has done so by mistake.
        if socket::peer(&end)?.pid == pid {
            return Ok((sender, end));
        }
    }
}

/// What the name of a socket file begins with; then come the process's number and identity.
const PREFIX: &str = "multiproc-channel.";

/// Removes the socket files of processes that have ended.
fn remove_what_the_dead_left(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(owner);
        if owner.is_some_and(|(pid, identity)| !lives(pid, identity)) {
            // It may be another user's.
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn owner(name: &str) -> Option<(u32, u64)> {
    let (pid, identity) = name.split_once('.')?;
    Some((pid.parse().ok()?, u64::from_str_radix(identity, 16).ok()?))
}

fn lives(pid: u32, identity: u64) -> bool {
    let process = PidFd::open(pid);
    process.is_ok_and(|process| process.identity().is_ok_and(|number| number == identity))
}

/// Whether ipc-channel takes it for an endpoint of a channel.
pub(super) fn is_endpoint(descriptor: impl AsFd) -> bool {
    socket::is_socket(descriptor)
}
