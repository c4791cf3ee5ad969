//! What the kernel offers: pipes, sockets and message queues, a system call for each message.

use std::ffi::CString;
use std::io::{PipeReader, PipeWriter, Read, Write, pipe};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_getattr, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, recv as socket_recv, send as socket_send,
    socketpair,
};
use nix::sys::stat::Mode;

use std::os::fd::AsRawFd;

use crate::drive::wire::{Receiver, Sender, Shape, Wire};
use crate::stage::{Result, Stage, Trouble};

/// Something that one writes bytes into, and reads them from at the other end.
pub(crate) trait Channel: Sync + Sized {
    fn make(stage: &Stage, shape: Shape, lane: usize) -> Result<Self>;
    fn write(&self, bytes: &[u8]);
    fn read(&self, bytes: &mut [u8]);

    /// Reads a message, into other memory if that is how it is done.
    fn read_fresh(&self, bytes: &mut Vec<u8>) {
        self.read(bytes);
    }
}

pub(crate) struct Bytes<C> {
    lanes: Vec<C>,
    shape: Shape,
}

pub(crate) struct End<'a, C> {
    channel: &'a C,
    buffer: Vec<u8>,
    shape: Shape,
}

impl<C: Channel> Bytes<C> {
    fn end(&self, lane: usize) -> End<'_, C> {
        let buffer = vec![0; self.shape.bytes()];
        End { channel: &self.lanes[lane], buffer, shape: self.shape }
    }
}

impl<C: Channel> Wire for Bytes<C> {
    type Sender<'a>
        = End<'a, C>
    where
        C: 'a;
    type Receiver<'a>
        = End<'a, C>
    where
        C: 'a;

    fn make(stage: &Stage, shape: Shape) -> Result<Bytes<C>> {
        let lanes = (0..shape.lanes).map(|lane| C::make(stage, shape, lane));
        Ok(Bytes { lanes: lanes.collect::<Result<_>>()?, shape })
    }

    fn sender(&self, lane: usize) -> Result<End<'_, C>> {
        Ok(self.end(lane))
    }

    fn receiver(&self, lane: usize) -> Result<End<'_, C>> {
        Ok(self.end(lane))
    }
}

impl<C: Channel> Sender for End<'_, C> {
    fn send(&mut self, number: u64) {
        self.shape.write_bytes(&mut self.buffer, number);
        self.channel.write(&self.buffer);
    }
}

impl<C: Channel> Receiver for End<'_, C> {
    fn recv(&mut self) -> u64 {
        self.channel.read_fresh(&mut self.buffer);
        self.shape.read_bytes(&self.buffer)
    }
}

/// A pipe; up to 4 KiB, each message is written, and read, as one.
pub(crate) struct Pipe(PipeReader, PipeWriter);

impl Channel for Pipe {
    fn make(_: &Stage, _: Shape, _: usize) -> Result<Pipe> {
        let (reader, writer) = pipe()?;
        Ok(Pipe(reader, writer))
    }

    fn write(&self, bytes: &[u8]) {
        (&self.1).write_all(bytes).expect("somebody reads");
    }

    fn read(&self, bytes: &mut [u8]) {
        (&self.0).read_exact(bytes).expect("somebody writes");
    }
}

/// A stream socket.
pub(crate) struct Stream(UnixStream, UnixStream);

impl Channel for Stream {
    fn make(_: &Stage, _: Shape, _: usize) -> Result<Stream> {
        let (reader, writer) = UnixStream::pair()?;
        Ok(Stream(reader, writer))
    }

    fn write(&self, bytes: &[u8]) {
        (&self.1).write_all(bytes).expect("somebody reads");
    }

    fn read(&self, bytes: &mut [u8]) {
        (&self.0).read_exact(bytes).expect("somebody writes");
    }
}

/// A socket that keeps messages apart.
pub(crate) struct Packets(OwnedFd, OwnedFd);

impl Channel for Packets {
    fn make(_: &Stage, _: Shape, _: usize) -> Result<Packets> {
        let kind = SockType::SeqPacket;
        let (reader, writer) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
        Ok(Packets(reader, writer))
    }

    fn write(&self, bytes: &[u8]) {
        let sent = socket_send(self.1.as_raw_fd(), bytes, MsgFlags::empty());
        assert_eq!(sent, Ok(bytes.len()), "somebody receives");
    }

    fn read(&self, bytes: &mut [u8]) {
        let received = socket_recv(self.0.as_raw_fd(), bytes, MsgFlags::empty());
        assert_eq!(received, Ok(bytes.len()), "somebody sends");
    }
}

/// A POSIX message queue, as long as any user may make one.
pub(crate) struct MessageQueue {
    queue: MqdT,
    /// How long a buffer must be, whatever is received.
    bytes: usize,
}

/// What a queue may hold at most, unless the administrator says otherwise.
const MESSAGES: usize = 10;

impl Channel for MessageQueue {
    fn make(stage: &Stage, shape: Shape, lane: usize) -> Result<MessageQueue> {
        let missing = |errno| {
            Trouble::Missing(format!("no POSIX message queue ({errno}); see man 7 mq_overview"))
        };
        let name = CString::new(format!("/{}.{lane}", stage.name)).expect("no zeros");
        let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
        let messages = shape.capacity.min(MESSAGES) as i64;
        let attributes = MqAttr::new(0, messages, shape.bytes() as i64, 0);
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let queue = mq_open(&*name, flags, mode, Some(&attributes)).map_err(missing)?;
        // It lives on without a name, for all who have it open.
        mq_unlink(&*name)?;
        let bytes = mq_getattr(&queue)?.msgsize() as usize;
        Ok(MessageQueue { queue, bytes })
    }

    fn write(&self, bytes: &[u8]) {
        mq_send(&self.queue, bytes, 0).expect("there is room, or will be");
    }

    fn read(&self, bytes: &mut [u8]) {
        assert_eq!(bytes.len(), self.bytes);
        let received = mq_receive(&self.queue, bytes, &mut 0);
        assert_eq!(received, Ok(bytes.len()), "a whole message");
    }
}
