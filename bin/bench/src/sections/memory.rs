//! What things take, and whether a queue that is used for long takes more and more.

use std::any::Any;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use multiproc_ipc::{
    Array, Barrier, Counter, Error, Event, Mutex, Queue, RwLock, Segment, Semaphore,
};

use super::{Better, Section};
use crate::board::{Board, Phase};
use crate::crew::{Cast, Crew};
use crate::memory::Shared;
use crate::peers::ours::{Place, Record};
use crate::stage::{Part, Recording, Result, Stage, Trouble};

pub(super) fn sections() -> Vec<Section> {
    vec![of_objects(), over_time()]
}

/// How many are made of each kind.
const OBJECTS: usize = 256;

/// Makes one of a kind, and keeps it.
type Make = fn(&Segment) -> Result<Box<dyn Any>, Error>;

fn of_objects() -> Section {
    let mut section = Section::new(
        "memory-objects",
        "memory of a segment that is committed for one that is idle",
        Better::Less,
    )
    .scored(["bytes"], |recording| [recording.figures[0]]);
    let kinds: [(&'static str, Make); 10] = [
        ("multiproc Mutex<u64>", |segment| Ok(Box::new(Mutex::new_in(segment, 0_u64)?))),
        ("multiproc RwLock<u64>", |segment| Ok(Box::new(RwLock::new_in(segment, 0_u64)?))),
        ("multiproc Counter", |segment| Ok(Box::new(Counter::new_in(segment)?))),
        ("multiproc Event", |segment| Ok(Box::new(Event::new_in(segment)?))),
        ("multiproc Semaphore", |segment| Ok(Box::new(Semaphore::new_in(segment, 1)?))),
        ("multiproc Barrier", |segment| Ok(Box::new(Barrier::new_in(segment, 2)?))),
        ("multiproc Array<u64> of 64", |segment| Ok(Box::new(Array::<u64>::new_in(segment, 64)?))),
        ("multiproc Queue::inline(64)", |segment| {
            Ok(Box::new(Queue::<u64, _>::inline_builder(64).build_in(segment)?))
        }),
        ("multiproc Queue::bounded(64)", |segment| {
            Ok(Box::new(Queue::<u64>::builder(64).build_in(segment)?))
        }),
        ("multiproc Queue::bounded(1024)", |segment| {
            Ok(Box::new(Queue::<u64>::builder(1024).build_in(segment)?))
        }),
    ];
    for (name, make) in kinds {
        section = section.with(name, move |stage| of_kind(stage, make));
    }
    section
        .with("multiproc participant", |stage| {
            let [few, many] = [256_u32, 1280].map(|participants| {
                let name = format!("{}.{participants}", stage.name);
                let _segment = Segment::builder().participants(participants).named(&name)?;
                committed(&name)
            });
            Ok(each(many? - few?, 1024))
        })
        .with("multiproc segment, empty, of 256 participants", |stage| {
            let _segment = Segment::builder().named(&stage.name)?;
            Ok(each(committed(&stage.name)?, 1))
        })
}

fn of_kind(stage: &Stage, make: Make) -> Result<Recording> {
    let segment = Segment::builder().named(&stage.name)?;
    let before = committed(&stage.name)?;
    let made = (0..OBJECTS).map(|_| make(&segment)).collect::<Result<Vec<_>, _>>()?;
    let after = committed(&stage.name)?;
    drop(made);
    // What the catalog says of each is committed from the start.
    Ok(each(after - before + OBJECTS as u64 * ENTRY, OBJECTS))
}

/// Bytes of an entry in the catalog.
const ENTRY: u64 = 128;

fn each(bytes: u64, count: usize) -> Recording {
    Recording { figures: vec![bytes as f64 / count as f64], ..Recording::default() }
}

/// Bytes of memory behind the segment of this name.
fn committed(name: &str) -> Result<u64> {
    Ok(fs::metadata(format!("/dev/shm/{name}"))?.blocks() * 512)
}

fn over_time() -> Section {
    let what = "what segment and processes have grown by, over that many messages of 200 bytes";
    let mut section = Section::new("memory-growth", what, Better::Less)
        .scored(["segment KiB", "sender RSS KiB", "receiver RSS KiB", "M messages"], |recording| {
            let [segment, sender, receiver] = recording.figures[..] else { return [f64::NAN; 4] };
            [segment, sender, receiver, recording.counts[0] as f64 / 1e6]
        })
        .with("multiproc Queue::bounded", growth);
    section.once = true;
    section
}

/// Messages before the first look, for whatever is made once.
const FIRST: u64 = 50_000;

fn growth(stage: &Stage) -> Result<Recording> {
    let place = Place::new(stage);
    let board = Shared::<Board>::new()?;
    let messages = stage.messages;
    let role = |number: usize| {
        let part = Part { number, board: &board };
        let make = |segment: &Segment| Queue::builder(1024).message_bytes(256).build_in(segment);
        let queue = part.open(|| place.find("queue", make))?;
        // So that every block has been used once, before the first look.
        while number == 1 && !queue.is_full() {
            thread::sleep(Duration::from_millis(1));
        }
        let mut before = 0;
        for message in 0..FIRST + messages {
            if message == FIRST {
                before = resident()?;
                part.note(FIRST);
                // Both have stopped there, so that all can be looked at.
                while board.phase() == Phase::WarmUp {
                    thread::sleep(Duration::from_millis(1));
                }
            }
            if number == 0 {
                queue
                    .send(Record::new(message))
                    .map_err(|error| Trouble::Failed(error.to_string()))?;
            } else {
                assert_eq!(queue.recv()?.number(), message);
            }
        }
        part.report(messages, 1, resident()? as f64 - before as f64);
        while part.is_on() {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    };
    Crew::start(Cast::Processes, 2, &role, |crew| {
        let until = |crew: &mut Crew<'_>, reached: &dyn Fn(usize) -> bool| {
            while !(0..2).all(reached) {
                crew.pause(Duration::from_millis(5));
            }
        };
        until(crew, &|_| board.opened() == 2);
        board.enter(Phase::WarmUp);
        until(crew, &|number| board.line(number).count() == FIRST);
        let before = committed(&stage.name)?;
        board.enter(Phase::Window);
        until(crew, &|number| board.line(number).checksum() == 1);
        let grown = committed(&stage.name)? as f64 - before as f64;
        board.enter(Phase::Stop);
        crew.finish();
        let resident = [0, 1].map(|number| board.line(number).figure());
        let figures = [grown, resident[0], resident[1]].map(|bytes| bytes / 1024.0);
        Ok(Recording { seconds: 0.0, counts: vec![messages], figures: figures.to_vec() })
    })
}

/// Bytes of private memory that this process has: the segment's are everybody's.
fn resident() -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let kib = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = kib.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or(Trouble::Failed("/proc/self/status has no RssAnon".into()))
}
