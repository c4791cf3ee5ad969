//! Map: entries that are whole, changes that have happened or haven't, and room that comes back.
//!
//! Writers count in books that they share, and each adds, replaces and removes entries of its own, of
//! which it notes what they were and what they are about to be. The map has room for all of these
//! and one more, so it is never full; searches cross each other.

use std::hint::black_box;

use multiproc::{Counter, Error, Map, Process, Segment, SpawnError, Spawner};
use serde::{Deserialize, Serialize};
use support::Random;

use super::{Entry, Findings, Job, Role, mutex, of_role};
use crate::book::{self, Book};
use crate::desk::{Desk, PATIENCE, Stage, breathe};

pub(super) const ENTRY: Entry = Entry {
    name: "map",
    roles: &[
        Role { name: "writer", workers: WRITERS, stage: Stage::First },
        Role { name: "reader", workers: 1, stage: Stage::First },
    ],
    make,
};

const WRITERS: usize = 3;
const WRITER: usize = 0;

/// Books that all share, and entries that each writer has.
const BOOKS: u64 = 2;
const OWN: u64 = 4;
/// One of so many notes has a counter.
const COUNTED: u64 = 16;
const CAPACITY: usize = BOOKS as usize + WRITERS * OWN as usize + 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Key {
    Book(u64),
    Own { writer: usize, number: u64 },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Content {
    Book(Book),
    /// A number, as many bytes as follow from it, and sometimes a counter that nothing else keeps.
    Note(u64, Vec<u8>, Option<Counter>),
}

type Shelf = Map<Key, Content>;

fn bytes(number: u64) -> Vec<u8> {
    vec![number as u8; number as usize * 7 % 120]
}

impl Content {
    fn note(number: u64) -> Content {
        let counter = number.is_multiple_of(COUNTED).then(|| {
            let counter = Counter::new().expect("room for a counter");
            counter.add(number as i64);
            counter
        });
        Content::Note(number, bytes(number), counter)
    }

    /// Asserts that it is whole; the number of a note.
    fn check(&self) -> Option<u64> {
        match self {
            Content::Book(book) => {
                assert!(book::is_consistent(book), "half a change: {book:?}");
                None
            }
            Content::Note(number, text, counter) => {
                assert_eq!(*text, bytes(*number), "half a note of {number}");
                let counted = counter.as_ref().map(|counter| counter.get() as u64);
                assert_eq!(counted, number.is_multiple_of(COUNTED).then_some(*number));
                Some(*number)
            }
        }
    }
}

/// What a writer has counted in all books.
fn counted(shelf: &Shelf, seat: usize) -> u64 {
    books(shelf).map(|book| book::counted(&book, seat)).sum()
}

fn books(shelf: &Shelf) -> impl Iterator<Item = Book> {
    (0..BOOKS).map(|number| match shelf.get(&Key::Book(number)) {
        Ok(None) => book::EMPTY,
        Ok(Some(Content::Book(book))) => book,
        other => panic!("book {number} is {other:?}"),
    })
}

fn write(desk: Desk, shelf: Shelf) {
    let mut random = desk.random();
    desk.settle(desk.op("count", || counted(&shelf, desk.seat)));
    for number in 0..OWN {
        // What the last life was about to write is there, or what was there before.
        let key = Key::Own { writer: desk.seat, number };
        let found = desk.op("get first", || look_up(&shelf, &key));
        let [before, after] = notes(number).map(|note| desk.own(note));
        assert!(found == before || found == after, "{found}, not {before} or {after}");
        notes(number).into_iter().for_each(|note| desk.put_own(note, found));
    }
    while desk.goes_on() {
        if random.below(2) == 0 {
            count(&desk, &shelf, &mut random);
        } else {
            change(&desk, &shelf, &mut random);
        }
        breathe(&mut random);
    }
}

/// Which of a desk's own words say what an own entry was, and what it is about to be: its number, or
/// 0 where there is none.
fn notes(number: u64) -> [usize; 2] {
    [number as usize, (OWN + number) as usize]
}

/// The number of a note; 0 if there is none.
fn look_up(shelf: &Shelf, key: &Key) -> u64 {
    let found = shelf.get(key).unwrap_or_else(|error| panic!("{key:?} cannot be read: {error}"));
    found.map_or(0, |content| content.check().expect("a note"))
}

/// Counts in one of the books.
fn count(desk: &Desk, shelf: &Shelf, random: &mut Random) {
    let key = Key::Book(random.below(BOOKS));
    desk.count(1, || {
        let updated = desk.op("update", || {
            let change = |content: Option<Content>| {
                let Content::Book(mut book) = content.unwrap_or(Content::Book(book::EMPTY)) else {
                    panic!("{key:?} is no book");
                };
                book::enter(desk, random, |step| step(black_box(&mut book)));
                Some(Content::Book(book))
            };
            shelf.update_timeout(&key, change, PATIENCE)
        });
        updated.unwrap_or_else(|error| panic!("{key:?} is not updated: {error}"));
    });
}

/// Adds, replaces or removes an entry that is this writer's own.
fn change(desk: &Desk, shelf: &Shelf, random: &mut Random) {
    let number = random.below(OWN);
    let key = Key::Own { writer: desk.seat, number };
    let [now, next] = notes(number);
    let before = desk.own(now);
    let after = if random.below(3) == 0 { 0 } else { 1 + random.below(1000) };
    desk.put_own(next, after);
    let old = match after {
        0 => {
            let removed = desk.op("remove", || shelf.remove(&key));
            removed.unwrap_or_else(|error| panic!("{key:?} is not removed: {error}"))
        }
        _ => {
            let content = desk.op("make", || Content::note(after));
            let inserted = desk.op("insert", || shelf.insert_timeout(&key, content, PATIENCE));
            inserted.unwrap_or_else(|error| panic!("{key:?} is not stored: {error}"))
        }
    };
    assert_eq!(old.map_or(0, |old| old.check().expect("a note")), before, "what {key:?} was");
    desk.put_own(now, after);
    assert_eq!(desk.op("get", || look_up(shelf, &key)), after, "what {key:?} is");
}

fn read(desk: Desk, shelf: Shelf) {
    let mut random = desk.random();
    let mut before = 0;
    while desk.goes_on() {
        let mut seen = [0_u64; BOOKS as usize];
        let mut sum = 0;
        for pair in desk.op("iterate", || shelf.iter().collect::<Vec<_>>()) {
            let (key, content) = pair.unwrap_or_else(|error| panic!("an entry is torn: {error}"));
            content.check();
            if let (Key::Book(number), Content::Book(book)) = (key, &content) {
                seen[number as usize] += 1;
                sum += (0..WRITERS).map(|seat| book::counted(book, seat)).sum::<u64>();
            }
        }
        // Nobody removes a book.
        assert!(seen.iter().all(|times| *times <= 1), "books come {seen:?} times");
        assert!(before <= sum, "first {before}, then {sum}");
        before = sum;
        breathe(&mut random);
    }
}

struct Library(Shelf);

fn make(segment: &Segment) -> Result<Box<dyn Job>, Error> {
    Ok(Box::new(Library(Map::new_in(segment, CAPACITY)?)))
}

impl Job for Library {
    fn start(&self, spawner: &Spawner, desk: Desk) -> Result<Process<()>, SpawnError> {
        let arguments = (desk.clone(), self.0.clone());
        match desk.role {
            WRITER => spawner.spawn(write, arguments),
            _ => spawner.spawn(read, arguments),
        }
    }

    fn verdict(&mut self, desks: &[Desk], findings: &mut Findings) {
        let writers: Vec<Desk> = of_role(desks, WRITER).cloned().collect();
        let mut all = book::EMPTY;
        for book in books(&self.0) {
            findings.expect(book::is_consistent(&book), || format!("map: {book:?} at the end"));
            all.iter_mut().zip(book).for_each(|(sum, part)| *sum += part);
        }
        mutex::verdict("map", &all, false, &writers, 0, findings);
        let mut entries = 0;
        for desk in &writers {
            for number in 0..OWN {
                let key = Key::Own { writer: desk.seat, number };
                let (found, known) = (look_up(&self.0, &key), notes(number).map(|it| desk.own(it)));
                findings.expect(known.contains(&found), || {
                    format!("map: {key:?} is {found}, not one of {known:?}")
                });
                entries += usize::from(found != 0);
            }
        }
        entries += (0..BOOKS)
            .filter(|it| self.0.get(&Key::Book(*it)).is_ok_and(|it| it.is_some()))
            .count();
        let length = self.0.len();
        findings.expect(length == entries, || format!("map: {entries} entries are {length}"));
    }
}
