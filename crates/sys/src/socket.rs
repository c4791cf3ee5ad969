//! Unix stream sockets: bytes, the descriptors that go with them, and who is at the other end.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
pub use rustix::net::SocketAddrUnix;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, sockopt,
};

use crate::clock::Deadline;

/// Descriptors that go with one message, at most: the kernel's `SCM_MAX_FD`.
pub const DESCRIPTORS_MAX: usize = 253;

/// Two connected ends of a byte stream, closed on exec.
pub fn stream_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Asks for room for so many bytes on their way from `stream`. The kernel gives what its limits
/// allow.
pub fn set_room(stream: impl AsFd, bytes: usize) {
    // It only makes long messages faster.
    let _ = sockopt::set_socket_send_buffer_size(stream, bytes);
}

/// How many bytes can surely be sent at once when [`poll::writable`](crate::poll::writable) says
/// that some can: that is when three quarters of the room are free.
pub fn sendable_at_once(stream: impl AsFd) -> io::Result<usize> {
    Ok(sockopt::socket_send_buffer_size(stream)? / 4)
}

/// Ends what comes to `stream`: its peer cannot send any more.
pub fn end_receiving(stream: impl AsFd) -> io::Result<()> {
    Ok(rustix::net::shutdown(stream, Shutdown::Read)?)
}

/// `None` for what would block; a signal handler that ran is no reason to give up.
fn completed<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> io::Result<Option<T>> {
    loop {
        match call() {
            Ok(done) => return Ok(Some(done)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Writes a part of what is in `parts` to a stream, and with its first byte all of `descriptors`:
/// how many bytes, or `None` if it would block. If it may block, it writes all, unless a signal
/// comes. A peer that has gone is the error `EPIPE`, never a signal.
///
/// # Panics
/// With more than [`DESCRIPTORS_MAX`] descriptors.
pub fn send(
    stream: impl AsFd,
    parts: &[IoSlice<'_>],
    descriptors: &[OwnedFd],
    may_block: bool,
) -> io::Result<Option<usize>> {
    let mut flags = SendFlags::NOSIGNAL;
    flags.set(SendFlags::DONTWAIT, !may_block);
    if descriptors.is_empty() {
        let mut nothing = SendAncillaryBuffer::default();
        return completed(|| rustix::net::sendmsg(&stream, parts, &mut nothing, flags));
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)), "they fit");
    completed(|| rustix::net::sendmsg(&stream, parts, &mut ancillary, flags))
}

/// Reads a part of a stream, and puts what descriptors came with it to the others, closed on exec:
/// how many bytes, zero at its end, or `None` if it would block. It never reads on behind bytes that
/// came with descriptors.
pub fn receive_with_descriptors(
    stream: impl AsFd,
    buffer: &mut [u8],
    descriptors: &mut Vec<OwnedFd>,
    may_block: bool,
) -> io::Result<Option<usize>> {
    let mut flags = RecvFlags::CMSG_CLOEXEC;
    flags.set(RecvFlags::DONTWAIT, !may_block);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = completed(|| {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(&stream, &mut parts, &mut ancillary, flags)
    })?;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(came) = message {
            descriptors.extend(came);
        }
    }
    Ok(received.map(|message| message.bytes))
}

/// What a long message is received into.
fn receive_flags(may_block: bool) -> RecvFlags {
    if may_block { RecvFlags::WAITALL } else { RecvFlags::DONTWAIT }
}

/// Reads a part of a stream into `buffer`: how many bytes, zero at its end, or `None` if it would
/// block. If it may block, it fills the buffer, unless a signal or the end comes. Descriptors that
/// come with it are closed.
pub fn receive(stream: impl AsFd, buffer: &mut [u8], may_block: bool) -> io::Result<Option<usize>> {
    let flags = receive_flags(may_block);
    completed(|| Ok(rustix::net::recv(&stream, &mut *buffer, flags)?.1))
}

/// As [`receive`], behind what is in `bytes`, where room for `at_most` bytes is reserved. None of it is
/// written first.
pub fn receive_more(
    stream: impl AsFd,
    bytes: &mut Vec<u8>,
    at_most: usize,
    may_block: bool,
) -> io::Result<Option<usize>> {
    let flags = receive_flags(may_block);
    let length = bytes.len();
    let room = bytes.spare_capacity_mut();
    let room = room.get_mut(..at_most).expect("the caller has reserved so much");
    let received =
        completed(|| rustix::net::recv(&stream, &mut *room, flags).map(|(_, count)| count))?;
    // SAFETY: the kernel has written so many behind the first `length`, within the room.
    unsafe { bytes.set_len(length + received.unwrap_or(0)) };
    Ok(received)
}

/// A socket to which messages can be sent at a name that is in no file system; it never blocks.
pub fn datagram_socket(name: &[u8]) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    sockopt::set_socket_passcred(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new_abstract_name(name)?)?;
    Ok(socket)
}

/// Receives a message at such a socket, and the effective user who has sent it; `None` if there is none.
/// Descriptors that come with it are closed.
pub fn receive_from_user(
    socket: impl AsFd,
    buffer: &mut [u8],
) -> io::Result<Option<(usize, Option<u32>)>> {
    let mut space =
        [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = completed(|| {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, flags)
    })?;
    let Some(message) = received else { return Ok(None) };
    let user = ancillary.drain().find_map(|with| match with {
        RecvAncillaryMessage::ScmCredentials(who) => Some(who.uid.as_raw()),
        _ => None,
    });
    Ok(Some((message.bytes, user)))
}

/// Who was at the other end of a connection when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// Its process; 0 if that is in another pid namespace.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective group.
    pub gid: u32,
}

/// Who is at the other end, by the kernel's word.
pub fn peer(stream: impl AsFd) -> io::Result<Credentials> {
    let stream = stream.as_fd();
    // SAFETY: three integers, for which zeros are values.
    let mut peer: libc::ucred = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // Not rustix's, which takes the number of the process for one that is never 0.
    // SAFETY: both places are ours and as long as said; the descriptor is borrowed.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    match result {
        0 => Ok(Credentials { pid: peer.pid.max(0) as u32, uid: peer.uid, gid: peer.gid }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A pidfd of the process at the other end; `None` before Linux 6.5, and when it is gone already.
pub fn peer_pidfd(stream: impl AsFd) -> Option<OwnedFd> {
    let mut pidfd: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: both places are ours and as long as said; the descriptor is borrowed.
    let result = unsafe {
        libc::getsockopt(
            stream.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut pidfd).cast(),
            &raw mut length,
        )
    };
    // SAFETY: the kernel has just made it for us.
    (result == 0 && pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) })
}

/// Not in the libc crate for all targets.
const SO_PEERPIDFD: libc::c_int = 77;

/// A socket that can be bound or connected, closed on exec.
pub fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// As [`stream_socket`], of messages that stay apart.
pub fn packet_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

/// Has whatever would block on `socket`, for whoever else has it too, fail instead.
pub fn never_block(socket: impl AsFd) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

/// Whether it is a socket.
pub fn is_socket(descriptor: impl AsFd) -> bool {
    sockopt::socket_type(descriptor).is_ok()
}

/// Whether it is a socket of messages that stay apart.
pub fn is_packet_socket(descriptor: impl AsFd) -> bool {
    sockopt::socket_type(descriptor) == Ok(SocketType::SEQPACKET)
}

/// What waits at a socket of messages.
#[derive(Debug)]
pub struct Peeked {
    /// Bytes of the message, though fewer may have fitted the buffer; zero at the end.
    pub bytes: usize,
    /// Copies of the descriptors that are with it.
    pub descriptors: Vec<OwnedFd>,
    /// Whether there is more with it: for lack of descriptors, or because it is something else.
    pub more: bool,
}

/// Looks at the beginning of the next message, which stays; `None` if there is none.
pub fn peek(socket: impl AsFd, buffer: &mut [u8]) -> io::Result<Option<Peeked>> {
    use rustix::net::ReturnFlags;
    let flags = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = completed(|| {
        let mut parts = [IoSliceMut::new(buffer)];
        rustix::net::recvmsg(&socket, &mut parts, &mut ancillary, flags)
    })?;
    let Some(message) = received else { return Ok(None) };
    let mut more = message.flags.contains(ReturnFlags::CTRUNC);
    let mut descriptors = Vec::new();
    for with in ancillary.drain() {
        match with {
            RecvAncillaryMessage::ScmRights(came) => descriptors.extend(came),
            _ => more = true,
        }
    }
    Ok(Some(Peeked { bytes: message.bytes, descriptors, more }))
}

/// Gives a socket its address. A file of that name must not exist.
pub fn bind(socket: impl AsFd, address: &SocketAddrUnix) -> io::Result<()> {
    Ok(rustix::net::bind(socket, address)?)
}

/// Lets others connect, of whom `backlog` may wait. From then on the socket never blocks.
pub fn listen(socket: impl AsFd, backlog: u32) -> io::Result<()> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(rustix::net::listen(socket, i32::try_from(backlog).unwrap_or(i32::MAX))?)
}

/// Takes who has connected to a listening socket: `None` if there is nobody.
pub fn accept(socket: impl AsFd) -> io::Result<Option<OwnedFd>> {
    loop {
        match completed(|| rustix::net::accept_with(&socket, SocketFlags::CLOEXEC)) {
            // That one has thought better of it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            accepted => return accepted,
        }
    }
}

/// Connects a socket to one that listens at `address`; false if there is no room among those who
/// wait there until the deadline.
pub fn connect(
    socket: impl AsFd,
    address: &SocketAddrUnix,
    deadline: Option<Deadline>,
) -> io::Result<bool> {
    loop {
        let left = deadline.map(|deadline| deadline.remaining());
        // Zero would stand for ever.
        let timeout = left.map(|left| left.max(Duration::from_micros(1)));
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, timeout)?;
        let connected = rustix::net::connect(&socket, address);
        match connected {
            Ok(()) => {
                sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, None)?;
                return Ok(true);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if deadline.is_none_or(|deadline| !deadline.passed()) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll;

    fn send_all(stream: &OwnedFd, bytes: &[u8], descriptors: &[OwnedFd]) {
        let sent = send(stream, &[IoSlice::new(bytes)], descriptors, true).unwrap();
        assert_eq!(sent, Some(bytes.len()));
    }

    #[test]
    fn send_to_a_closed_peer_is_an_error_and_no_signal() {
        let (one, two) = stream_pair().unwrap();
        drop(two);
        let error = send(&one, &[IoSlice::new(b"x")], &[], true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn receive_of_nothing_would_block() {
        let (one, _two) = stream_pair().unwrap();
        let mut buffer = [0; 8];
        assert!(receive(&one, &mut buffer, false).unwrap().is_none());
        let mut descriptors = Vec::new();
        let received = receive_with_descriptors(&one, &mut buffer, &mut descriptors, false);
        assert!(received.unwrap().is_none());
    }

    #[test]
    fn descriptors_come_with_the_bytes_they_were_sent_with_and_end_the_read() {
        let (one, two) = stream_pair().unwrap();
        let (kept, sent) = stream_pair().unwrap();
        send_all(&one, b"before", &[]);
        send_all(&one, b"with", &[sent]);
        send_all(&one, b"after", &[]);
        let (mut buffer, mut descriptors) = ([0; 64], Vec::new());
        let read = receive_with_descriptors(&two, &mut buffer, &mut descriptors, true).unwrap();
        assert_eq!(&buffer[..read.unwrap()], b"beforewith");
        assert_eq!(descriptors.len(), 1);
        send_all(&descriptors[0], b"!", &[]);
        assert_eq!(receive(&kept, &mut buffer[..1], true).unwrap(), Some(1));
    }

    #[test]
    fn receive_more_stays_within_what_is_reserved() {
        let (one, two) = stream_pair().unwrap();
        send_all(&one, &[7; 100], &[]);
        let mut bytes = Vec::with_capacity(64);
        assert_eq!(receive_more(&two, &mut bytes, 60, true).unwrap(), Some(60));
        assert_eq!(receive_more(&two, &mut bytes, 4, true).unwrap(), Some(4));
        assert_eq!(bytes, [7; 64]);
    }

    #[test]
    fn peer_of_a_pair_is_this_process() {
        let (one, _two) = stream_pair().unwrap();
        let peer = peer(&one).unwrap();
        assert_eq!(peer.pid, std::process::id());
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    }

    #[test]
    fn end_of_receiving_ends_the_peers_sending() {
        let (one, two) = stream_pair().unwrap();
        end_receiving(&one).unwrap();
        let error = send(&two, &[IoSlice::new(b"x")], &[], true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        send_all(&one, b"x", &[]);
        assert!(poll::readable(&two, Some(Deadline::after(Duration::ZERO))).unwrap());
    }
}
