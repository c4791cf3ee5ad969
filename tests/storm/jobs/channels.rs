//! Channels: each end learns when the last of the other kind is gone.
//!
//! Listeners make a channel, and hand its sender's end to a caller. The caller counts to some
//! number, and lets go. Who hears the count break off, or has nobody to talk to any more, has been
//! told of a death: that happens at most once for each of the other side that was killed.

use multiproc::{
    Error, Process, Queue, RecvError, Segment, SendError, Sender, SpawnError, Spawner, channel,
};
use serde::{Deserialize, Serialize};

use super::{Entry, Findings, Job, Role, of_role};
use crate::desk::{Desk, Note, PATIENCE, Stage, breathe, hesitate};

pub(super) const ENTRY: Entry = Entry {
    name: "channels",
    roles: &[
        Role { name: "listener", workers: 2, stage: Stage::First },
        Role { name: "caller", workers: 2, stage: Stage::Last },
    ],
    make,
};

const LISTENER: usize = 0;
const CALLER: usize = 1;

/// Numbers of a conversation, at most; and how many of them wait.
const LONGEST: u64 = 40;
const CAPACITY: usize = 3;

/// What is said: the last number of a conversation says so.
#[derive(Debug, Serialize, Deserialize)]
struct Word {
    number: u64,
    is_last: bool,
}

type Calls = Queue<Sender<Word>>;

fn listen(desk: Desk, calls: Calls) {
    let mut random = desk.random();
    while desk.goes_on() {
        let (sender, receiver) = desk.op("make", || channel(CAPACITY)).expect("room for a channel");
        let called = desk.op("call", || calls.send_timeout(sender, PATIENCE));
        called.unwrap_or_else(|error| panic!("nobody takes the call: {error}"));
        let mut heard = 0;
        let mut complete = false;
        let end = loop {
            match desk.op("listen", || receiver.recv_timeout(PATIENCE)) {
                Ok(Word { number, is_last }) => {
                    assert!(!complete, "{number} comes after the last");
                    assert_eq!(number, heard + 1, "the numbers of one caller, in order");
                    (heard, complete) = (number, is_last);
                }
                Err(end) => break end,
            }
        };
        assert!(matches!(end, RecvError::Disconnected), "after {heard}: {end}");
        if !complete {
            desk.was_told();
        }
        desk.op("hang up", || drop(receiver));
        breathe(&mut random);
    }
}

fn call(desk: Desk, calls: Calls) {
    let mut random = desk.random();
    loop {
        let sender = match desk.op("take a call", || calls.recv_timeout(PATIENCE)) {
            Ok(sender) => sender,
            Err(RecvError::Closed) => return,
            Err(error) => panic!("no call is taken: {error}"),
        };
        let last = 1 + random.below(LONGEST);
        for number in 1..=last {
            let word = Word { number, is_last: number == last };
            match desk.op("say", || sender.send_timeout(word, PATIENCE)) {
                Ok(()) => hesitate(&mut random),
                Err(SendError::Disconnected(_)) => {
                    desk.was_told();
                    break;
                }
                Err(error) => panic!("{number} of {last} is not said: {error}"),
            }
        }
        desk.op("hang up", || drop(sender));
        breathe(&mut random);
    }
}

struct Exchange {
    calls: Calls,
    /// How many listeners, and how many callers, were killed.
    killed: [u64; 2],
}

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    let calls = Queue::builder(4).build_in(segment)?;
    Ok(Box::new(Exchange { calls, killed: [0; 2] }))
}

impl Job for Exchange {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.calls.clone());
        match desk.role {
            LISTENER => spawner.spawn(listen, arguments),
            _ => spawner.spawn(call, arguments),
        }
    }

    fn bury(&mut self, desk: &Desk) {
        self.killed[desk.role] += 1;
    }

    fn wind_up(&mut self, stage: Stage) {
        if stage == Stage::Last {
            self.calls.close();
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let left = self.calls.len();
        findings.expect(left == 0, || format!("channels: {left} calls are not taken"));
        for (role, others) in [(LISTENER, CALLER), (CALLER, LISTENER)] {
            let told: u64 = of_role(desks, role).map(|desk| desk.get(Note::Told)).sum();
            let killed = self.killed[others];
            findings.expect(told <= killed, || {
                format!("channels: {told} were cut off by {killed} deaths of the other side")
            });
        }
    }
}
