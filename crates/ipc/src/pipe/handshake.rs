//! How a listener and a client prove to each other that they know the same key.
//!
//! ```text
//! listener → client   "multiproc authentication 1", its nonce, 32 B
//! client → listener   its nonce, 32 B; HMAC-SHA-256(key, "client" both nonces), 32 B
//! listener → client   HMAC-SHA-256(key, "listener" both nonces), 32 B; or nothing in it: refused
//! ```
//!
//! Each is a message. The key never goes over the wire; a proof is good for these two nonces and this
//! direction only. Until both have proved it, no message longer than [`LIMIT`] is received.

use hmac::{Hmac, KeyInit, Mac};
use multiproc_sys::clock::Deadline;
use multiproc_sys::host;
use sha2::Sha256;

use super::outgoing::Until;
use super::{Pipe, PipeError};

/// Bytes of a message, at most, while this is under way.
pub(super) const LIMIT: u64 = 256;

const GREETING: &[u8] = b"multiproc authentication 1";
const NONCE: usize = 32;

type Nonce = [u8; NONCE];

/// What both sides know. It is in no debug output.
#[derive(Clone)]
pub(super) struct Key(Vec<u8>);

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key(..)")
    }
}

/// Who proves it.
#[derive(Clone, Copy)]
enum Side {
    Client,
    Listener,
}

impl Key {
    pub(super) fn new(key: &[u8]) -> Key {
        Key(key.to_owned())
    }

    fn proof(&self, side: Side, nonces: [&Nonce; 2]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("a key of any length is one");
        mac.update(match side {
            Side::Client => b"client",
            Side::Listener => b"listener",
        });
        nonces.iter().for_each(|nonce| mac.update(*nonce));
        mac
    }
}

/// What came of it.
#[must_use]
pub(super) enum Proof {
    /// The other side knows the key.
    Given,
    /// It does not.
    Wrong,
}

/// What a listener has asked a client.
#[derive(Debug)]
pub(super) struct Challenge(Nonce);

impl Challenge {
    /// Asks whoever has connected. Never blocks.
    pub(super) fn send(pipe: &Pipe<(), ()>) -> Result<Challenge, PipeError> {
        let nonce = host::random_bytes()?;
        pipe.set_limit(LIMIT);
        pipe.try_send_bytes(&[GREETING, nonce.as_slice()].concat())?;
        Ok(Challenge(nonce))
    }

    /// Judges the answer, and says so to the client; [`PipeError::Timeout`] while it is not there.
    /// Never blocks.
    pub(super) fn answered(&self, key: &Key, pipe: &Pipe<(), ()>) -> Result<Proof, PipeError> {
        let answer = match pipe.try_recv_bytes() {
            Err(PipeError::TooLong { .. } | PipeError::Garbled) => Vec::new(),
            answer => answer?,
        };
        let Some((nonce, proof)) = answer.split_first_chunk::<NONCE>() else {
            let _ = pipe.try_send_bytes(b"");
            return Ok(Proof::Wrong);
        };
        let nonces = [&self.0, nonce];
        // In constant time.
        if key.proof(Side::Client, nonces).verify_slice(proof).is_err() {
            let _ = pipe.try_send_bytes(b"");
            return Ok(Proof::Wrong);
        }
        let ours = key.proof(Side::Listener, nonces).finalize().into_bytes();
        pipe.try_send_bytes(&ours)?;
        Ok(Proof::Given)
    }
}

/// The client's part.
pub(super) fn answer(
    key: &Key,
    pipe: &Pipe<(), ()>,
    deadline: Option<Deadline>,
) -> Result<Proof, PipeError> {
    pipe.set_limit(LIMIT);
    let next = || match pipe.recv_bytes_by(deadline) {
        // Who doesn't answer as it should does not know the key, whoever it is.
        Err(PipeError::TooLong { .. } | PipeError::Garbled) => Ok(Vec::new()),
        message => message,
    };
    let greeting = next()?;
    let theirs = greeting.strip_prefix(GREETING).and_then(|nonce| Nonce::try_from(nonce).ok());
    let Some(theirs) = theirs else { return Ok(Proof::Wrong) };
    let ours: Nonce = host::random_bytes()?;
    let nonces = [&theirs, &ours];
    let proof = key.proof(Side::Client, nonces).finalize().into_bytes();
    pipe.send_message(&[ours.as_slice(), &proof].concat(), &[], Until::Deadline(deadline))?;
    match key.proof(Side::Listener, nonces).verify_slice(&next()?) {
        Ok(()) => Ok(Proof::Given),
        Err(_) => Ok(Proof::Wrong),
    }
}
