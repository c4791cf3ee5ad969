//! Somebody who sleeps, and must not sleep for ever.

use std::io::{PipeReader, Read, pipe};
use std::os::fd::AsFd;
use std::time::Duration;

use multiproc_ipc::testing;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::scripts::Sleeper;
use crate::tracee::Running;
use crate::world::{Message, Sender, World};

/// A process that is asleep on the world's queue. Killed when it is dropped.
pub(crate) struct Asleep {
    _process: Running,
    /// Hangs up when the process has ended.
    end: PipeReader,
}

impl Asleep {
    /// Starts it, and waits until it sleeps.
    pub(crate) fn start(world: &World, sleeper: Sleeper) -> Asleep {
        let before = testing::sleepers(&world.segment);
        let (end, held) = pipe().expect("a pipe");
        let process = Running::start(move || {
            let segment = testing::join(&world.segment).expect("a free slot");
            let queue = world.names.queue.reach(&segment);
            match sleeper {
                Sleeper::Receiver => drop(queue.recv()),
                Sleeper::Sender => drop(queue.send(Message::plain(Sender::Refill, 0))),
            }
            drop(held);
        });
        let asleep = Asleep { _process: process, end };
        // It may also find at once what it looks for.
        for _ in 0..1000 {
            if testing::sleepers(&world.segment) > before || asleep.ends_within(Duration::ZERO) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Announced is not yet asleep.
        std::thread::sleep(Duration::from_millis(1));
        asleep
    }

    /// Whether it wakes, and ends, before this time is over.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let mut ends = [PollFd::new(self.end.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(time).expect("seconds");
        let hung_up = poll(&mut ends, timeout).expect("a pipe");
        hung_up > 0 && (&self.end).read(&mut [0]).is_ok_and(|count| count == 0)
    }
}
