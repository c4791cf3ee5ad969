//! Channels whose ends can themselves be sent: through another channel, as arguments, as results.
//!
//! | to carry | take |
//! |---|---|
//! | work, between any number of processes, fast | a [`Queue`](multiproc_ipc::Queue) |
//! | bytes and open files, to one other process | a [`Pipe`](multiproc_ipc::Pipe) |
//! | a way to answer, or the end of a channel | a channel of this module |
//!
//! A channel has any number of [`Sender`]s and one [`Receiver`]. When all senders are dropped or their
//! processes dead, receiving gives what is still there and then [`RecvError::Disconnected`]; when the
//! receiver is gone, sending is [`SendError::Disconnected`]. An end that is on its way in a message
//! counts as there. A message is sent whole or not at all, wherever its sender is killed.
//!
//! Values may contain ends, [`SharedMemory`] and [`Pipe`](multiproc_ipc::Pipe)s, 63 of them, but no
//! handles of a segment and no open files. The ends themselves can go as arguments and results of a
//! function's child, and through pipes and channels; anywhere else, as through a queue, encoding
//! them is [`Error::ForeignDescriptor`](multiproc_ipc::Error::ForeignDescriptor).
//!
//! ```
//! use multiproc_process::Process;
//! use multiproc_process::channel::{self, Receiver, Sender};
//!
//! /// A question, and where the answer is to go.
//! type Question = (u64, Sender<u64>);
//!
//! fn square(questions: Receiver<Question>) {
//!     while let Ok((number, answer)) = questions.recv() {
//!         let _ = answer.send(number * number);
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     multiproc_process::init();
//!     let (ask, questions) = channel::pair::<Question>()?;
//!     let child = Process::spawn(square, (questions,))?;
//!     let (answer, answers) = channel::pair()?;
//!     ask.send((12, answer))?;
//!     assert_eq!(answers.recv()?, 144);
//!     drop(ask);
//!     child.join()?;
//!     Ok(())
//! }
//! ```
//!
//! # How it is made
//!
//! | file | idea |
//! |---|---|
//! | `ends` | the typed ends, and waiting |
//! | `memory` | bytes that are shared |
//! | `packet` | what goes through ipc-channel, and what is let through to it |
//! | `exchange` | descriptors for ipc-channel's endpoints, and endpoints for descriptors |
//! | `error` | why something was not sent, or not received |
//!
//! The ends are ipc-channel's. It offers no way to take up an endpoint that was inherited, and only an
//! unbounded wait for a child to connect to a socket file; `exchange` gives it descriptors instead, so
//! that ends travel as all descriptors do and a start waits for nobody. It would block in the middle
//! of a long message, for ever if the receiver dies then: what is long goes as shared memory here, and
//! every message is one packet. It would panic, or worse, on what is no message of its own: `packet` looks
//! at each before it is let through.

mod ends;
mod error;
mod exchange;
mod memory;
mod packet;

pub(crate) use ends::hang_up_all;
pub use ends::{Receiver, Sender, pair};
pub use error::{ChannelError, RecvError, SendError};
pub use memory::SharedMemory;
