//! This library's pipes, as the kernel's own are used: bytes in, bytes out.

use multiproc_ipc::Pipe;

use super::kernel::Channel;
use crate::drive::wire::Shape;
use crate::stage::{Result, Stage};

type End = Pipe<(), ()>;

/// Two ends: who receives, and who sends. `FRESH` receives each message into memory of its own.
pub(crate) struct Bytes<const FRESH: bool>(End, End);

impl<const FRESH: bool> Channel for Bytes<FRESH> {
    fn make(_: &Stage, _: Shape, _: usize) -> Result<Self> {
        let (receiver, sender) = Pipe::pair()?;
        Ok(Bytes(receiver, sender))
    }

    fn write(&self, bytes: &[u8]) {
        self.1.send_bytes(bytes).expect("somebody receives");
    }

    fn read(&self, bytes: &mut [u8]) {
        let received = self.0.recv_bytes_into(bytes).expect("somebody sends");
        assert_eq!(received, bytes.len(), "a whole message");
    }

    fn read_fresh(&self, bytes: &mut Vec<u8>) {
        if FRESH {
            *bytes = self.0.recv_bytes().expect("somebody sends");
        } else {
            self.read(bytes);
        }
    }
}
