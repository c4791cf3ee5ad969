//! Which messages were sent, and which of them received.
//!
//! A message may be missing only if a receiver was killed who was receiving, and only one that this
//! receiver can have been receiving: each receiver notes, before it receives, up to where the
//! messages of each sender have been received by anybody. What it takes after that comes later, as
//! the messages of one sender come in order, whoever receives them. So each killed receiver accounts
//! for as many messages out of a range as it can take at once, and the lost ones are matched with
//! the killed.

use std::iter::repeat_n;
use std::ops::RangeInclusive;

use multiproc::{Array, Error, Segment};
use serde::{Deserialize, Serialize};

use crate::account::{Death, unmatched};
use crate::desk::{Desk, Note, OWN};
use crate::jobs::{Findings, of_role};

/// How many messages a sender can send.
const MOST: usize = 1 << 20;

/// What senders and receivers note.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Ledger {
    senders: usize,
    receivers: usize,
    /// How often each message was received, by sender and number.
    ticks: Array<u8>,
    /// The last number that each receiver has received of each sender.
    last: Array<u64>,
}

impl Ledger {
    /// For so many senders and receivers, which are seated from 0 on.
    pub(crate) fn new(
        segment: &Segment,
        senders: usize,
        receivers: usize,
    ) -> Result<Ledger, Error> {
        assert!(senders <= OWN, "a receiver notes a word for each sender");
        Ok(Ledger {
            senders,
            receivers,
            ticks: Array::new_in(segment, senders * MOST)?,
            last: Array::new_in(segment, receivers * senders)?,
        })
    }

    fn tick(&self, sender: usize, number: u64) -> usize {
        sender * MOST + number as usize
    }

    /// Up to where the messages of a sender were received by somebody.
    fn front(&self, sender: usize) -> u64 {
        let of = |receiver| self.last.get(receiver * self.senders + sender);
        (0..self.receivers).map(of).max().unwrap_or(0)
    }

    /// The number of the next message of the sender at `desk`, from 1, over all its lives.
    pub(crate) fn next(&self, desk: &Desk) -> u64 {
        let number = desk.get(Note::Tried) + 1;
        assert!((number as usize) < MOST - 100, "more messages than there are ticks for");
        number
    }

    /// Notes that the receiver at `desk` is about to receive so many messages at most.
    pub(crate) fn expect(&self, desk: &Desk, most: usize) -> Receipt<'_> {
        let fronts: Vec<u64> = (0..self.senders).map(|sender| self.front(sender)).collect();
        fronts.iter().enumerate().for_each(|(sender, front)| desk.put_own(sender, *front));
        desk.put(Note::State, most as u64);
        Receipt { ledger: self, fronts }
    }
}

/// What a receiver knows of what comes next.
pub(crate) struct Receipt<'a> {
    ledger: &'a Ledger,
    fronts: Vec<u64>,
}

impl Receipt<'_> {
    /// Ticks off a message that was received, which must be later than those before it.
    pub(crate) fn tick(&mut self, desk: &Desk, sender: usize, number: u64) {
        let front = std::mem::replace(&mut self.fronts[sender], number);
        assert!(number > front, "{number} of sender {sender} comes after {front}");
        let before = self.ledger.ticks.fetch_add(self.ledger.tick(sender, number), 1);
        assert_eq!(before, 0, "{number} of sender {sender} comes twice");
        self.ledger.last.set(desk.seat * self.ledger.senders + sender, number);
    }

    /// Notes that everything that was received is ticked off, and let go of.
    pub(crate) fn close(self, desk: &Desk) {
        desk.put(Note::State, 0);
    }
}

/// What the director knows of a ledger.
pub(crate) struct Books {
    name: &'static str,
    pub(crate) ledger: Ledger,
    senders: Vec<Desk>,
    /// Messages, in order, of which nobody knows whether they were sent.
    doubtful: Vec<(usize, RangeInclusive<u64>)>,
    deaths: Vec<Death>,
}

impl Books {
    pub(crate) fn of(name: &'static str, ledger: Ledger) -> Books {
        Books { name, ledger, senders: Vec::new(), doubtful: Vec::new(), deaths: Vec::new() }
    }

    /// A sender has its first life.
    pub(crate) fn revive_sender(&mut self, desk: &Desk) {
        if desk.life == 1 {
            self.senders.push(desk.clone());
        }
    }

    /// A sender was killed.
    pub(crate) fn bury_sender(&mut self, desk: &Desk) {
        if desk.in_doubt() > 0 {
            let messages = desk.get(Note::Done) + 1..=desk.get(Note::Tried);
            self.doubtful.push((desk.seat, messages));
            desk.assume_counted();
        }
    }

    /// A receiver was killed.
    pub(crate) fn bury_receiver(&mut self, desk: &Desk) {
        let most = desk.get(Note::State) as usize;
        // What it took was sent before it died: up to what has been tried by now.
        let ranges = self
            .senders
            .iter()
            .map(|sender| (sender.seat, desk.own(sender.seat) + 1..=sender.get(Note::Tried)));
        self.deaths.extend(repeat_n(Death { ranges: ranges.collect() }, most));
    }

    /// What is missing, though it was sent, must be what the killed were receiving. The senders are
    /// those among `desks` that have this role.
    pub(crate) fn verdict(&self, desks: &[Desk], role: usize, findings: &mut Findings) {
        let Books { name, ledger, .. } = self;
        let came = |sender: usize, number| ledger.ticks.get(ledger.tick(sender, number)) > 0;
        let mut missing = Vec::new();
        for desk in of_role(desks, role) {
            let sender = desk.seat;
            // Of what was in doubt, what comes before a message that was sent was sent as well.
            let mine = self.doubtful.iter().filter(|(of, _)| *of == sender);
            let mut unsent = mine.map(|(_, messages)| {
                let sent = messages.clone().rev().find(|number| came(sender, *number));
                sent.unwrap_or(messages.start() - 1) + 1..=*messages.end()
            });
            let mut next = unsent.next();
            for number in 1..=desk.get(Note::Tried) {
                while next.as_ref().is_some_and(|messages| *messages.end() < number) {
                    next = unsent.next();
                }
                let is_unsent = next.as_ref().is_some_and(|messages| messages.contains(&number));
                if !is_unsent && !came(sender, number) {
                    missing.push((sender, number));
                }
            }
        }
        findings.lost += missing.len() as u64;
        for (sender, number) in unmatched(&missing, &self.deaths) {
            findings.violation(format!(
                "{name}: {number} of sender {sender} is lost, and no receiver of it was killed"
            ));
        }
    }
}
