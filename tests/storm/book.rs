//! Numbers under a lock that agree whenever nobody is inside.

use multiproc::LockError;
use support::Random;

use crate::desk::{Desk, hesitate};

/// How many workers can count in one book.
pub(crate) const SEATS: usize = 4;

/// `[ who is inside | first | count of each seat | last ]`: first and last are the sum of the counts.
pub(crate) type Book = [u64; SEATS + 3];

pub(crate) const EMPTY: Book = [0; SEATS + 3];

const INSIDE: usize = 0;
const FIRST: usize = 1;
const COUNTS: usize = 2;
const LAST: usize = COUNTS + SEATS;

/// What counting in a book consists of; a death can come after each.
const STEPS: [fn(&mut Book, &Desk); 5] = [
    |book, desk| book[INSIDE] = tag(desk),
    |book, _| book[FIRST] += 1,
    |book, desk| book[COUNTS + desk.seat] += 1,
    |book, desk| {
        assert_eq!(book[INSIDE], tag(desk), "somebody else is inside, too");
        book[LAST] += 1;
    },
    |book, _| book[INSIDE] = 0,
];

fn tag(desk: &Desk) -> u64 {
    desk.place as u64 + 1
}

/// What a seat has counted.
pub(crate) fn counted(book: &Book, seat: usize) -> u64 {
    book[COUNTS + seat]
}

pub(crate) fn is_consistent(book: &Book) -> bool {
    let sum: u64 = book[COUNTS..LAST].iter().sum();
    book[INSIDE] == 0 && book[FIRST] == sum && book[LAST] == sum
}

/// Makes the rest of a book agree with its counts.
pub(crate) fn repair(book: &mut Book) {
    let sum = book[COUNTS..LAST].iter().sum();
    (book[INSIDE], book[FIRST], book[LAST]) = (0, sum, sum);
}

/// Counts one more for the worker at `desk`; `change` applies a step to the book.
pub(crate) fn enter(desk: &Desk, random: &mut Random, mut change: impl FnMut(&dyn Fn(&mut Book))) {
    for step in STEPS {
        change(&|book| step(book, desk));
        hesitate(random);
    }
}

/// A lock that somebody took, in one of several ways; nobody holds one for long.
pub(crate) fn took<G>(taken: Result<G, LockError>) -> G {
    taken.unwrap_or_else(|error| panic!("after a long wait: {error}"))
}
