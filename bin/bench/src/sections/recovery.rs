//! How soon a lock whose owner is killed is somebody else's.
//!
//! Ours is a crowded segment: 100 processes take part; in it stand 950 locks and 50 queues, and the one
//! that is killed has used all of them, so that each of them has to be looked at. Another process sleeps,
//! waiting for one of the locks. The time is from before the signal is sent until that one has the lock.

use std::thread;
use std::time::Duration;

use multiproc_ipc::{Error, Handle, Mutex, Queue, RwLock, Segment};
use multiproc_sys::clock;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;

use super::{Better, Section};
use crate::board::{Board, Phase};
use crate::crew::{Cast, Crew};
use crate::memory::Shared;
use crate::peers::ours::Place;
use crate::peers::pthread;
use crate::stage::{Part, Recording, Result, Stage, Trouble};

const PARTICIPANTS: usize = 100;
const MUTEXES: usize = 800;
const RW_LOCKS: usize = 150;
const QUEUES: usize = 50;
const CAPACITY: usize = 64;

/// The participants in the order in which they come.
const OWNER: usize = 0;
const WAITER: usize = 1;

pub(super) fn sections() -> Vec<Section> {
    let what = format!(
        "an owner of a lock is killed, another one waits for it: {PARTICIPANTS} participants, \
         {} locks, {QUEUES} queues",
        MUTEXES + RW_LOCKS
    );
    let section = Section::new("recovery", what, Better::Less)
        .scored(["ms"], |recording| [recording.figures[0] / 1e6])
        .with("multiproc Mutex", ours)
        .with("floor: pthread robust, nothing else", robust);
    vec![section]
}

#[derive(Handle)]
struct Crowd {
    mutexes: Vec<Mutex<u64>>,
    rw_locks: Vec<RwLock<u64>>,
    queues: Vec<Queue<u64>>,
}

impl Crowd {
    fn new(segment: &Segment) -> Result<Crowd, Error> {
        let queue = |_| Queue::builder(CAPACITY).build_in(segment);
        Ok(Crowd {
            mutexes: (0..MUTEXES).map(|_| Mutex::new_in(segment, 0)).collect::<Result<_, _>>()?,
            rw_locks: (0..RW_LOCKS)
                .map(|_| RwLock::new_in(segment, 0))
                .collect::<Result<_, _>>()?,
            queues: (0..QUEUES).map(queue).collect::<Result<_, _>>()?,
        })
    }

    /// Uses everything once.
    fn use_all(&self) {
        for mutex in &self.mutexes {
            *mutex.lock().expect("nobody died") += 1;
        }
        for rw_lock in &self.rw_locks {
            *rw_lock.write().expect("nobody died") += 1;
        }
        for queue in &self.queues {
            queue.send(1).expect("it is open");
            queue.recv().expect("it is open");
        }
    }
}

fn ours(stage: &Stage) -> Result<Recording> {
    let place = Place::new(stage);
    play(PARTICIPANTS, |part| {
        if part.number > WAITER {
            let _taking_part = part.open(|| place.segment())?;
            rest(part);
            return Ok(());
        }
        let crowd = place.find("crowd", Crowd::new)?;
        let lock = &crowd.mutexes[0];
        if part.number == OWNER {
            crowd.use_all();
            let _held = lock.lock().expect("nobody died");
            part.board.note_opened();
            rest(part);
            return Err(Trouble::Failed("the owner was not killed".into()));
        }
        part.board.note_opened();
        let mut guard =
            lock.lock().expect("the first one to come after a death is told, and has it");
        part.report(0, clock::now().as_nanos() as u64, 0.0);
        assert!(guard.owner_died(), "its owner was killed");
        guard.mark_consistent();
        Ok(())
    })
}

fn robust(_: &Stage) -> Result<Recording> {
    let mutex = pthread::Mutex::<true>::new()?;
    play(2, |part| {
        let owner_died = if part.number == OWNER {
            mutex.lock();
            part.board.note_opened();
            rest(part);
            return Err(Trouble::Failed("the owner was not killed".into()));
        } else {
            part.board.note_opened();
            mutex.lock()
        };
        part.report(0, clock::now().as_nanos() as u64, 0.0);
        assert!(owner_died, "its owner was killed");
        Ok(())
    })
}

/// Stays until the round is over.
fn rest(part: &Part<'_>) {
    while part.is_on() {
        thread::sleep(Duration::from_millis(50));
    }
}

/// Starts the participants, kills the first, and says how many nanoseconds later the second went on.
fn play(size: usize, role: impl Fn(&Part<'_>) -> Result<()> + Sync) -> Result<Recording> {
    let board = Shared::<Board>::new()?;
    let enter = |number: usize| {
        while board.opened() < number {
            thread::sleep(Duration::from_micros(200));
        }
        role(&Part { number, board: &board })
    };
    Crew::start(Cast::Processes, size, &enter, |crew| {
        while board.opened() < size {
            crew.pause(Duration::from_millis(1));
        }
        board.enter(Phase::Window);
        // Who waits has fallen asleep by then, and everybody else too.
        crew.pause(Duration::from_millis(60));
        let owner = crew.take(OWNER);
        let killed = clock::now().as_nanos() as u64;
        kill(owner, Signal::SIGKILL)?;
        waitpid(owner, None)?;
        while board.line(WAITER).checksum() == 0 {
            crew.pause(Duration::from_millis(1));
        }
        board.enter(Phase::Stop);
        crew.finish();
        let nanoseconds = board.line(WAITER).checksum().saturating_sub(killed) as f64;
        Ok(Recording { figures: vec![nanoseconds], ..Recording::default() })
    })
}
