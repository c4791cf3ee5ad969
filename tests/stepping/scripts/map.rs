//! Reading and changing a map.

use multiproc_ipc::{Map, Segment, testing};

use super::{Operation, Script, done, join, nothing, unnoticed_death_of};
use crate::items::{Item, NEW, OLD, OTHER, SHARED, new_map};
use crate::ledger::Deeds;
use crate::world::World;

const CHANGES: Deeds = Deeds { mapped: 1, ..Deeds::NOTHING };
const CHANGES_TWICE: Deeds = Deeds { mapped: 2, ..Deeds::NOTHING };

pub(crate) const SCRIPTS: &[Script] = &[
    Script::new("map/insert-new", nothing, insert_new).most(CHANGES),
    Script::new("map/insert-behind", before_two, insert_new).most(CHANGES),
    Script::new("map/insert-over", before_two, insert_over).most(CHANGES),
    Script::new("map/insert-full", before_full, insert_full),
    Script::new("map/insert-full-of-dead", before_dead_claim, insert_new).most(CHANGES),
    Script::new("map/insert-beside-dead", before_dead_reader, insert_new).most(CHANGES),
    Script::new("map/insert-handle", nothing, insert_handle).most(CHANGES),
    Script::new("map/insert-over-handle", before_handle, insert_over_handle).most(CHANGES),
    Script::new("map/remove", before_two, remove).most(CHANGES),
    Script::new("map/remove-before-another", before_collision, remove).most(CHANGES),
    Script::new("map/remove-handle", before_handle, remove).most(CHANGES),
    Script::new("map/update", before_two, update).most(CHANGES_TWICE),
    Script::new("map/update-none", nothing, update).most(CHANGES_TWICE),
    Script::new("map/update-to-none", before_two, update_to_none).most(CHANGES),
    Script::new("map/update-after-dead", before_dead_update, update).most(CHANGES_TWICE),
    Script::new("map/get-or-insert", nothing, get_or_insert).most(CHANGES),
    Script::new("map/clear", before_two, clear).most(CHANGES_TWICE),
    Script::new("map/get", before_two, get),
    Script::new("map/get-handle", before_handle, get),
    Script::new("map/iterate", before_two, iterate),
    Script::new("map/create", nothing, create),
    Script::new("map/drop", nothing, drop_last),
    Script::new("map/drop-handle", nothing, drop_last_handle),
];

/// An entry in the last bucket, and one in the first.
fn before_two(world: &mut World) {
    world.enter(OLD, Item::new(OLD, 1));
    world.enter(SHARED, Item::new(SHARED, 1));
}

/// Two entries of one home.
fn before_collision(world: &mut World) {
    world.enter(OLD, Item::new(OLD, 1));
    world.enter(OTHER, Item::new(OTHER, 1));
}

fn before_full(world: &mut World) {
    for key in [SHARED, OTHER, 90] {
        world.enter(key, Item::new(key, 1));
    }
}

fn before_handle(world: &mut World) {
    let item = Item::with_handle(&world.segment, OLD, 1);
    world.enter(OLD, item);
}

/// Somebody died with the last free bucket, and nobody has noticed.
fn before_dead_claim(world: &mut World) {
    before_two(world);
    unnoticed_death_of(world, |world, segment| {
        let map = world.names.map.reach(&segment);
        testing::claim_buckets(&segment);
        std::mem::forget(map);
    });
}

/// Somebody died who only knew the map, and nobody has noticed.
fn before_dead_reader(world: &mut World) {
    before_two(world);
    unnoticed_death_of(world, |world, segment| std::mem::forget(world.names.map.reach(&segment)));
}

/// Somebody died while it worked out what to write, and nobody has noticed.
fn before_dead_update(world: &mut World) {
    before_two(world);
    unnoticed_death_of(world, |world, segment| {
        let map = world.names.map.reach(&segment);
        // SAFETY: ends the process, as a kill would.
        let _ = map.update(&SHARED, |_| unsafe { nix::libc::_exit(0) });
    });
}

/// Does something with the map, and says how often it changed something.
fn acting(
    world: &World,
    segment: Segment,
    act: impl FnOnce(&Map<u32, Item>) -> i64 + 'static,
) -> Operation {
    let map = world.names.map.reach(&segment);
    Box::new(move || {
        let mapped = act(&map);
        done(Deeds { mapped, ..Deeds::NOTHING }, (map, segment))
    })
}

fn insert_new(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let old = map.insert(&NEW, Item::new(NEW, 1)).expect("room");
        assert!(old.is_none(), "{old:?} was there");
        1
    })
}

fn insert_over(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let old = map.insert(&OLD, Item::new(OLD, 2)).expect("room").expect("it is there");
        assert!(old.is_whole(OLD) && old.count() == 1, "{old:?}");
        1
    })
}

fn insert_full(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let refused = map.insert(&NEW, Item::new(NEW, 1)).expect_err("no room");
        assert!(refused.into_value().is_whole(NEW));
        0
    })
}

fn insert_handle(world: &World) -> Operation {
    let segment = join(world);
    let item = Item::with_handle(&segment, NEW, 1);
    acting(world, segment, move |map| {
        map.insert(&NEW, item).expect("room");
        1
    })
}

fn insert_over_handle(world: &World) -> Operation {
    let segment = join(world);
    let item = Item::with_handle(&segment, OLD, 2);
    acting(world, segment, move |map| {
        let old = map.insert(&OLD, item).expect("room").expect("it is there");
        assert!(old.is_whole(OLD), "{old:?}");
        1
    })
}

fn remove(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let old = map.remove(&OLD).expect("nobody holds it").expect("it is there");
        assert!(old.is_whole(OLD), "{old:?}");
        1
    })
}

fn update(world: &World) -> Operation {
    acting(world, join(world), |map| {
        for _ in 0..2 {
            map.update(&SHARED, |now| Some(now.map_or(Item::new(SHARED, 1), Item::next)))
                .expect("room");
        }
        2
    })
}

fn update_to_none(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let left = map.update(&OLD, |old| old.filter(|old| old.count() != 1));
        assert!(left.expect("it is there").is_none());
        1
    })
}

fn get_or_insert(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let made = map.get_or_insert_with(&NEW, || Item::new(NEW, 1)).expect("room");
        let again = map.get_or_insert_with(&NEW, || panic!("it is there")).expect("it is there");
        assert!(made.is_whole(NEW) && again.is_whole(NEW), "{made:?}, {again:?}");
        1
    })
}

/// Removes the two that were there, and counts them by what is left.
fn clear(world: &World) -> Operation {
    acting(world, join(world), |map| {
        map.clear();
        2
    })
}

/// Reads an entry that may be replaced, or removed, or another's meanwhile.
fn get(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let item = map.get(&OLD).expect("it can be read");
        assert!(item.as_ref().is_none_or(|item| item.is_whole(OLD)), "{item:?}");
        0
    })
}

fn iterate(world: &World) -> Operation {
    acting(world, join(world), |map| {
        let pairs = map.to_vec().expect("all can be read");
        assert!(pairs.iter().all(|(key, item)| item.is_whole(*key)), "{pairs:?}");
        let shared = pairs.iter().filter(|(key, _)| *key == SHARED).count();
        assert_eq!(shared, 1, "it was there all the time: {pairs:?}");
        0
    })
}

fn create(world: &World) -> Operation {
    let segment = join(world);
    Box::new(move || {
        let map = new_map(&segment);
        assert!(map.is_empty());
        done(Deeds::NOTHING, (map, segment))
    })
}

fn drop_last(world: &World) -> Operation {
    let segment = join(world);
    let map = new_map(&segment);
    map.insert(&OLD, Item::new(OLD, 1)).expect("room");
    dropping(segment, map)
}

fn drop_last_handle(world: &World) -> Operation {
    let segment = join(world);
    let map = new_map(&segment);
    map.insert(&OLD, Item::with_handle(&segment, OLD, 1)).expect("room");
    dropping(segment, map)
}

fn dropping(segment: Segment, map: Map<u32, Item>) -> Operation {
    Box::new(move || {
        drop(map);
        done(Deeds::NOTHING, segment)
    })
}
