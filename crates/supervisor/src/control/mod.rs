//! What an operator says to a running supervisor, and what it answers.
//!
//! | part | idea |
//! |---|---|
//! | [`protocol`] | the requests and the replies: lines of JSON |
//! | [`lines`] | bytes of a stream, as lines of a bounded length |
//! | [`target`] | what the words `web`, `web:3`, `*:0` and `all` mean |
//! | [`client`] | the operator's end |
//!
//! # Purpose
//!
//! A supervisor listens at a Unix stream socket that only its user can reach. Who connects sends a
//! request, a line, and reads replies, a line each, of which [`Done`](protocol::Reply::Done) or
//! [`Error`](protocol::Reply::Error) is the last; then it may send the next one. Who closes the
//! connection earlier has lost interest, and what it has asked for is done all the same. Replies that
//! follow something end only with the connection, and an [`Event`](protocol::Reply::Event) between
//! them may say that some were dropped, as nobody read them.
//!
//! # The format
//!
//! Each line is a JSON object of at most [`LINE_MAX`](lines::LINE_MAX) bytes with a member
//! `"version"`. Names are in snake_case, times are integers in milliseconds, and sizes are integers
//! in bytes. Within a version members are added, and none is changed or taken away: a reader ignores
//! those that it does not know.
//!
//! ```text
//! → {"version":1,"request":"restart","targets":["web"],"wait_ms":30000}
//! ← {"version":1,"reply":"target","target":"web:0","ok":true,"state":"ready","message":null}
//! ← {"version":1,"reply":"target","target":"web:1","ok":true,"state":"ready","message":null}
//! ← {"version":1,"reply":"done","ok":true,"message":null}
//! ```

pub mod client;
pub mod lines;
pub mod protocol;
pub(crate) mod server;
pub mod target;
