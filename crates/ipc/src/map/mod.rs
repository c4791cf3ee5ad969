//! A bounded hash map between any number of processes and threads.
//!
//! # Purpose
//!
//! Keys and values are encoded and stand in cells of fixed size, each with its bucket. Readers take
//! no lock. Writers of one key take turns at a lock, so that a key is in the map once. Everything
//! that they do counts by one store: a death leaves the map as it was before, or as it is after.
//!
//! It is a table with linear probing, because an entry then is one word, its bucket's, which alone
//! says whether it exists and whom it belongs to. Lists of entries would need words that link them,
//! which are never all right at the same time. What linear probing does badly is removal, for a
//! search ends at the first free bucket. Here it doesn't: each home knows how far its entries are,
//! and a search looks exactly so far. So a removed entry leaves a free bucket and nothing else.
//!
//! | file | idea |
//! |---|---|
//! | `layout` | where everything in a map stands |
//! | `bucket` | the words of the buckets, and where a key is at home |
//! | `cell` | the bytes of keys and values |
//! | `table` | the algorithm: find, add, replace, remove, recover |
//! | `handle` | the typed [`Map`]: making and reading it |
//! | `change` | changing it |
//!
//! # Shared layout
//!
//! ```text
//! RawMap     carries                                             64 B
//! locks      one per home, 1024 at most, on a line each          see `sync/mutex`
//! reaches    u32 × capacity      how many buckets from each home on may hold its entries
//! buckets    u64 × capacity      [ hash 32 | owner 16 | state 16 ]
//! cells      capacity × [ version u64 | length u64 | key | value | value ], on lines of their own
//! value      [ length 32 | names 32 ], names of objects u64 × names, bytes
//! ```
//!
//! A key's *home* is the bucket that its hash names. The last bit of a cell's version says which of
//! its two values counts.
//!
//! # States
//!
//! | bucket | meaning | left by | if the owner dies |
//! |---|---|---|---|
//! | `Free` | no entry | a writer's CAS to `Claimed` | – |
//! | `Claimed` | its owner writes an entry into the cell | the owner's store of `Live` | `Free` |
//! | `Live` | the cell holds an entry | a writer's store of `Free`, under the lock | – |
//!
//! # Invariants
//!
//! - I1 Only who holds the lock of a home adds, replaces or removes entries of that home. So a key is
//!   in at most one bucket, and who has found it under the lock finds it there until it lets go.
//! - I2 An entry exists while its bucket is `Live`. Everything else can be worked out from that:
//!   the number of entries is not kept anywhere.
//! - I3 The reach of a home covers every live entry of it: it is raised before the entry is live,
//!   and lowered only under the lock, to the farthest that is left. Too large costs time only.
//! - I4 Key and both values of a cell are written only after its version has changed from what a
//!   reader of them compares: the value that does not count, and, while the bucket is claimed, the
//!   key. So a reader that finds the version unchanged has read something whole.
//! - I5 Who stores a value that names objects is attached to them until it counts, and `carries` is
//!   set before: whoever collects sees the one or the other.
//!
//! # Orderings
//!
//! - `map-bucket`: the store of `Live` (Release) pairs with the load of the bucket (Acquire): who
//!   sees the entry sees its cell, and its home's reach. The store of `Free` (Release) pairs with
//!   the claim (`SeqCst`): the next one in the bucket sees the last version.
//! - `map-version`: a writer stores the version (Release), and then, behind a fence, what readers of
//!   the last one may still be reading. A reader loads the version (Acquire), then the bucket, then
//!   the bytes, and behind a fence the version again. The version comes before the bucket: who sees
//!   that of a new claim sees that the bucket is not live.
//!
//! # If a process dies
//!
//! | at | then |
//! |---|---|
//! | holding a lock, or about to wake the next one | the lock passes on, and everybody at it is woken |
//! | `Claimed` | the bucket is free again, whatever the cell holds |
//! | having raised a reach | it stays too large until an entry of that home is removed |
//! | replacing a value, before the version is stored | the old value counts |
//! | after the store of `Live`, of the version, or of `Free` | the change has happened |
//! | before it has collected what only a removed value named | the sweep collects |
//!
//! Nothing is rolled forward, and nothing but words that name the dead is touched.
//!
//! # Limits
//!
//! - A stopped writer blocks writers of its key, and of those that share its lock: one in a thousand
//!   in a large map, more in one with few buckets. It blocks no reader.
//! - A bucket that a stopped writer has claimed is not to be had by others.
//! - A writer that looks for a free bucket while others remove entries here and add them there may
//!   see each bucket taken, and say that the map is full, though at no time it was.
//! - The fuller the map, the longer the searches; in one that is full to the last bucket, adding an
//!   entry in the place of another looks at half of all buckets.

mod bucket;
mod cell;
mod change;
mod handle;
mod layout;
mod table;
#[cfg(test)]
mod tests;

#[cfg(feature = "testing")]
pub(crate) use bucket::{Bucket, State, hash_of, home};
pub use change::MapError;
pub use handle::{Map, MapBuilder, MapIter};
pub(crate) use layout::Shape;
pub(crate) use table::{RawTable, each_carried, recover};
