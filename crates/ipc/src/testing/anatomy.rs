//! What stands where in a segment, for who writes over it on purpose.

use std::ops::Range;

use crate::error::Error;
use crate::queue::block::HEAD;
use crate::queue::raw::RawRing;
use crate::segment::Segment;
use crate::segment::catalog::{Phase, RawEntry};
use crate::segment::layout::Header;
use crate::segment::participants::RawParticipant;

/// Bytes that belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// What they are: `header`, `catalog entry 3 (queue)`, `queue 3`.
    pub name: String,
    /// Where they stand.
    pub bytes: Range<u64>,
}

/// Takes part in a named segment as [`Segment::open`] does, without a thread that watches over it.
///
/// # Errors
/// Those of [`Segment::open`].
pub fn open(name: &str) -> Result<Segment, Error> {
    Segment::open_unwatched(name)
}

/// What stands in a segment, in order; what is in none of these is free. Blocks stand inside their
/// queues.
pub fn regions(segment: &Segment) -> Vec<Region> {
    let geometry = segment.geometry();
    let region =
        |name: String, start: u64, bytes: u64| Region { name, bytes: start..start + bytes };
    let lock = std::mem::offset_of!(Header, catalog_lock) as u64;
    let mut regions =
        vec![region("header".into(), 0, lock), region("catalog lock".into(), lock, 4)];
    for slot in 0..geometry.participants {
        let bytes = size_of::<RawParticipant>() as u64;
        let start = geometry.participants_start() + u64::from(slot) * bytes;
        regions.push(region(format!("participant {slot}"), start, bytes));
    }
    let marks = u64::from(geometry.participants) * 2 * geometry.mark_words() * 8;
    regions.push(region("marks".into(), geometry.marks_start(), marks));
    // Those in use, and the next one to be used.
    let entries = 0..(segment.entries().end + 1).min(geometry.objects);
    let mut objects = Vec::new();
    for index in entries.clone() {
        let entry = segment.entry(index).read();
        let is_live = segment.entry(index).state().1 == Phase::Live;
        let kind = entry.kind.filter(|_| is_live).map_or("free", |kind| kind.name());
        let bytes = size_of::<RawEntry>() as u64;
        let start = geometry.catalog_start() + u64::from(index) * bytes;
        regions.push(region(format!("catalog entry {index} ({kind})"), start, bytes));
        if is_live {
            objects.push(region(format!("{kind} {index}"), entry.offset, entry.bytes));
            let ring = RawRing::new(segment, &entry).into_iter();
            let blocks = ring.flat_map(|ring| (0..ring.blocks()).map(move |number| (ring, number)));
            objects.extend(blocks.filter_map(|(ring, number)| {
                let bytes = HEAD + u64::from(ring.block_bytes());
                let name = format!("block {number} of queue {index}");
                Some(region(name, ring.block_offset(number)?, bytes))
            }));
        }
    }
    for slot in 0..geometry.participants {
        let row = u64::from(entries.end) * 8;
        regions.push(region(format!("shares of {slot}"), geometry.share(slot, 0), row));
    }
    regions.extend(objects);
    regions.sort_by_key(|region| region.bytes.start);
    regions
}
