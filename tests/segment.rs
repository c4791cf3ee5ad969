//! Segments: making them, opening them in every way in which one can be wrong, and running out.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::time::Duration;

use multiproc::view::{Content, View};
use multiproc::{Array, Counter, Error, Kind, Mutex, Process, Queue, Segment, SendError, Spawner};
use multiproc_sys::host;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::mkfifo;
use support::{Name, Random, SOON, eventually, guard, queue_in, say};

multiproc::init_before_main!();

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

/// Where the words of a segment's header stand.
const MAGIC: u64 = 0;
const FORMAT: u64 = 8;
const LAYOUT: u64 = 32;
const BOOT: u64 = 40;
const NAMESPACE: u64 = 56;

/// A segment of that name that nobody takes part in any more.
fn made(name: &Name) -> u64 {
    let segment = Segment::builder().participants(4).objects(64).bytes(MIB).named(name).unwrap();
    Counter::new_in(&segment).unwrap().add(1);
    drop(segment);
    fs::metadata(name.path()).unwrap().len()
}

/// Changes some bytes of a segment behind its back.
fn patch(name: &Name, offset: u64, bytes: &[u8]) {
    let file = OpenOptions::new().write(true).open(name.path()).unwrap();
    file.write_all_at(bytes, offset).unwrap();
}

// Opening ---------------------------------------------------------------------------------------

#[test]
fn segment_opened_by_a_stranger_has_it_as_participant() {
    let _guard = guard();
    fn visit(name: String) -> u32 {
        let segment = Segment::open(&name).unwrap();
        segment.set_name("visitor");
        segment.participant_index()
    }
    let name = Name::of("opened");
    let segment = Segment::builder().bytes(8 * MIB).objects(64).named(&name).unwrap();
    assert_eq!(fs::metadata(name.path()).unwrap().permissions().mode() & 0o777, 0o600);
    let child = Process::spawn(visit, (name.to_string(),)).unwrap();
    let place = child.join_timeout(SOON).unwrap();
    assert_ne!(place, segment.participant_index());
    eventually("the visitor has left", || View::of_name(&name).unwrap().participants().len() == 1);
}

#[test]
fn open_of_a_missing_name_says_so() {
    let _guard = guard();
    let name = Name::of("missing");
    assert!(matches!(Segment::open(&name), Err(Error::Missing(it)) if *it == *name));
    assert!(matches!(Segment::unlink(&name), Err(Error::Missing(it)) if *it == *name));
    assert!(matches!(View::of_name(&name), Err(Error::Missing(it)) if *it == *name));
}

#[test]
fn name_that_cannot_be_one_is_refused() {
    let _guard = guard();
    let long = "x".repeat(201);
    for name in ["", ".", "..", ".hidden", "a/b", "/a", "../a", "a\0b", "a b", "ä", &long] {
        let refused = |error: &Error| matches!(error, Error::Name(it) if it == name);
        let builder = Segment::builder().participants(4).objects(8).bytes(MIB);
        assert!(builder.named(name).is_err_and(|error| refused(&error)), "{name:?}");
        assert!(Segment::open(name).is_err_and(|error| refused(&error)), "{name:?}");
        assert!(Segment::unlink(name).is_err_and(|error| refused(&error)), "{name:?}");
        assert!(View::of_name(name).is_err_and(|error| refused(&error)), "{name:?}");
    }
}

#[test]
fn open_of_a_file_without_a_header_says_half_made() {
    let _guard = guard();
    let name = Name::of("short");
    for len in [0, 1, 100, PAGE - 1] {
        let file = File::create(name.path()).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
        file.set_len(len).unwrap();
        let error = Segment::open(&name).unwrap_err();
        assert!(matches!(error, Error::HalfMade), "{len} bytes: {error}");
        assert!(matches!(View::of_name(&name), Err(Error::HalfMade)), "{len} bytes, looked at");
    }
}

#[test]
fn open_of_zeros_says_half_made() {
    let _guard = guard();
    let name = Name::of("zeros");
    let file = File::create(name.path()).unwrap();
    file.set_permissions(fs::Permissions::from_mode(0o600)).unwrap();
    file.set_len(MIB).unwrap();
    assert!(matches!(Segment::open(&name), Err(Error::HalfMade)));
    assert!(matches!(View::of_name(&name), Err(Error::HalfMade)));
}

#[test]
fn open_of_another_magic_says_no_segment() {
    let _guard = guard();
    let name = Name::of("magic");
    made(&name);
    patch(&name, MAGIC, b"SOMETHIN");
    assert!(matches!(Segment::open(&name), Err(Error::NotASegment)));
    assert!(matches!(View::of_name(&name), Err(Error::NotASegment)));
}

#[test]
fn open_of_another_format_tells_which() {
    let _guard = guard();
    let name = Name::of("format");
    made(&name);
    patch(&name, FORMAT, &77_u32.to_le_bytes());
    let error = Segment::open(&name).unwrap_err();
    assert!(matches!(error, Error::Format { expected: 1, found: 77 }), "{error}");
}

#[test]
fn open_of_another_layout_says_so() {
    let _guard = guard();
    let name = Name::of("layout");
    made(&name);
    patch(&name, LAYOUT, &[1, 2, 3]);
    assert!(matches!(Segment::open(&name), Err(Error::Layout)));
}

#[test]
fn open_of_a_truncated_file_tells_how_much_is_left() {
    let _guard = guard();
    let name = Name::of("truncated");
    let len = made(&name);
    for left in [len - PAGE, PAGE] {
        OpenOptions::new().write(true).open(name.path()).unwrap().set_len(left).unwrap();
        let error = Segment::open(&name).unwrap_err();
        let told = matches!(error, Error::Truncated { expected, found }
            if expected == len && found == left);
        assert!(told, "{error}");
        assert!(matches!(View::of_name(&name), Err(Error::Truncated { .. })));
    }
}

#[test]
fn open_of_a_segment_of_another_boot_says_so() {
    let _guard = guard();
    let name = Name::of("boot");
    made(&name);
    patch(&name, BOOT + 15, &[0x5a]);
    assert!(matches!(Segment::open(&name), Err(Error::OtherBoot)));
}

#[test]
fn open_from_another_pid_namespace_is_refused_and_a_view_is_not() {
    let _guard = guard();
    let name = Name::of("namespace");
    made(&name);
    patch(&name, NAMESPACE, &1_u64.to_le_bytes());
    assert!(matches!(Segment::open(&name), Err(Error::OtherNamespace)));
    assert!(View::of_name(&name).is_ok(), "it can be inspected");
}

#[test]
fn open_of_another_users_segment_tells_whose() {
    let _guard = guard();
    if host::user() != 0 {
        return say("skipped: only root can give a file away");
    }
    let name = Name::of("user");
    made(&name);
    chown(name.path(), Some(12345), None).unwrap();
    assert!(matches!(Segment::open(&name), Err(Error::OtherUser(12345))));
    assert!(matches!(View::of_name(&name), Err(Error::OtherUser(12345))));
}

#[test]
fn open_of_a_file_that_others_may_touch_is_refused() {
    let _guard = guard();
    let name = Name::of("mode");
    made(&name);
    for mode in [0o604, 0o640, 0o620, 0o666] {
        fs::set_permissions(name.path(), fs::Permissions::from_mode(mode)).unwrap();
        assert!(matches!(Segment::open(&name), Err(Error::NotASegment)), "{mode:o}");
    }
    fs::set_permissions(name.path(), fs::Permissions::from_mode(0o600)).unwrap();
    assert!(Segment::open(&name).is_ok());
}

#[test]
fn open_of_what_is_no_file_is_an_error() {
    let _guard = guard();
    let (name, target) = (Name::of("link"), Name::of("target"));
    made(&target);
    symlink(target.path(), name.path()).unwrap();
    assert!(Segment::open(&name).is_err(), "a link leads where somebody else wants");
    fs::remove_file(name.path()).unwrap();
    fs::create_dir(name.path()).unwrap();
    assert!(Segment::open(&name).is_err(), "a directory");
    fs::remove_dir(name.path()).unwrap();
}

#[test]
fn view_of_a_pipe_is_an_error_at_once() {
    let _guard = guard();
    let name = Name::of("fifo");
    mkfifo(&name.path(), nix::sys::stat::Mode::S_IRUSR | nix::sys::stat::Mode::S_IWUSR).unwrap();
    assert!(Segment::open(&name).is_err());
    fn look(name: String) -> bool {
        View::of_name(&name).is_err()
    }
    let child = Process::spawn(look, (name.to_string(),)).unwrap();
    let looked = child.join_timeout(Duration::from_secs(5));
    child.child().kill().unwrap();
    assert!(looked.expect("looking does not wait for a writer"));
}

#[test]
fn open_of_a_header_with_any_byte_changed_never_crashes() {
    let _guard = guard();
    fn try_all(name: String, seed: u64) -> u64 {
        let (mut random, path) = (Random::from_seed(seed), format!("/dev/shm/{name}"));
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut refused = 0;
        for offset in (0..NAMESPACE + 8).flat_map(|offset| [offset; 8]) {
            let mut was = [0];
            file.read_exact_at(&mut was, offset).unwrap();
            file.write_all_at(&[was[0] ^ (1 + random.below(255)) as u8], offset).unwrap();
            refused += u64::from(Segment::open(&name).is_err());
            file.write_all_at(&was, offset).unwrap();
        }
        assert!(Segment::open(&name).is_ok(), "it is whole again");
        refused
    }
    let name = Name::of("changed");
    made(&name);
    let child = Process::spawn(try_all, (name.to_string(), 42)).unwrap();
    let refused = child.join_timeout(SOON).unwrap();
    // Four bytes of 64 are reserved, and a size that is smaller by whole pages is one, too.
    assert!((56 * 8..=60 * 8).contains(&refused), "{refused}");
}

// Making and unmaking ---------------------------------------------------------------------------

#[test]
fn named_by_many_at_once_succeeds_for_exactly_one() {
    let _guard = guard();
    const ROUNDS: usize = 50;
    fn compete(start: Queue<()>, prefix: String) -> Vec<bool> {
        assert!(start.recv().is_err(), "it is closed when all are ready");
        let attempt = |round| {
            let name = format!("{prefix}.{round}");
            match Segment::builder().participants(8).objects(8).bytes(MIB).named(&name) {
                Ok(_) => true,
                Err(Error::Exists(it)) if it == name => false,
                Err(error) => panic!("{error}"),
            }
        };
        (0..ROUNDS).map(attempt).collect()
    }
    let prefix = Name::of("race");
    let start = Queue::bounded(1).unwrap();
    let children: Vec<_> = (0..4)
        .map(|_| Process::spawn(compete, (start.clone(), prefix.to_string())).unwrap())
        .collect();
    start.close();
    let mut winners = [0; ROUNDS];
    for child in children {
        for (round, won) in child.join_timeout(SOON).unwrap().into_iter().enumerate() {
            winners[round] += usize::from(won);
        }
    }
    (0..ROUNDS).for_each(|round| Segment::unlink(&format!("{}.{round}", &*prefix)).unwrap());
    assert_eq!(winners, [1; ROUNDS]);
}

#[test]
fn open_after_everybody_died_recovers_and_frees_the_places() {
    let _guard = guard();
    /// Fills both places and holds what can be held.
    fn fill(name: String, ready: Queue<()>) {
        let segment = Segment::builder().participants(2).objects(16).bytes(MIB).named(&name);
        let segment = segment.unwrap();
        let mutex = Mutex::new_in(&segment, 7_u64).unwrap();
        let tasks = queue_in::<u64>(&segment, 4);
        tasks.send(1).unwrap();
        let _lease = tasks.lease().unwrap();
        fn hold(mutex: Mutex<u64>) {
            let _guard = mutex.lock().unwrap();
            std::thread::sleep(SOON);
        }
        let holder = Spawner::new().segment(&segment).spawn(hold, (mutex.clone(),)).unwrap();
        eventually("the mutex is held", || mutex.try_lock().is_err());
        ready.send(()).unwrap();
        let _ = holder.join();
    }
    for _ in 0..5 {
        let name = Name::of("died");
        let ready = Queue::bounded(1).unwrap();
        let child = Process::spawn(fill, (name.to_string(), ready.clone())).unwrap();
        ready.recv_timeout(SOON).unwrap();
        assert!(matches!(Segment::open(&name), Err(Error::TooManyParticipants(2))));
        child.child().kill().unwrap();
        assert!(child.join_timeout(SOON).is_err());
        eventually("its child is dead too", || {
            View::of_name(&name).unwrap().participants().iter().all(|one| one.alive == Some(false))
        });
        let view = View::of_name(&name).unwrap();
        assert_eq!(view.participants().len(), 2, "nobody has cleaned up yet");
        let one = Segment::open(&name).unwrap();
        let mut two = None;
        eventually("the second place is free", || {
            two = Segment::open(&name).ok();
            two.is_some()
        });
        let two = two.unwrap();
        assert_ne!(one.participant_index(), two.participant_index());
        assert!(matches!(Segment::open(&name), Err(Error::TooManyParticipants(2))));
        let left = View::of_name(&name).unwrap().objects();
        assert!(left.is_empty(), "nobody reaches these any more: {left:?}");
    }
}

#[test]
fn places_all_taken_is_an_error_until_one_is_free() {
    let _guard = guard();
    let segment = Segment::builder().participants(2).objects(16).bytes(MIB).anonymous().unwrap();
    let stop = queue_in::<()>(&segment, 1);
    fn wait(stop: Queue<()>) {
        let _ = stop.recv();
    }
    let spawner = Spawner::new().segment(&segment);
    let child = spawner.spawn(wait, (stop.clone(),)).unwrap();
    let error = spawner.spawn(wait, (stop.clone(),)).unwrap_err();
    assert!(error.to_string().contains("2 participants are all in use"), "{error}");
    stop.close();
    child.join_timeout(SOON).unwrap();
    spawner.spawn(wait, (stop.clone(),)).unwrap().join_timeout(SOON).unwrap();
}

#[test]
fn objects_all_taken_is_an_error_until_one_is_free() {
    let _guard = guard();
    let segment = Segment::builder().participants(2).objects(3).bytes(MIB).anonymous().unwrap();
    for _ in 0..10 {
        let mut counters: Vec<Counter> =
            (0..3).map(|_| Counter::new_in(&segment).unwrap()).collect();
        assert!(matches!(Counter::new_in(&segment), Err(Error::TooManyObjects(3))));
        assert!(matches!(Array::<u8>::new_in(&segment, 5), Err(Error::TooManyObjects(3))));
        counters.pop();
        let array = Array::<u8>::new_in(&segment, 5).unwrap();
        array.set(4, 1);
        assert!(counters.iter().all(|counter| counter.get() == 0));
    }
}

#[test]
fn geometry_that_cannot_be_is_refused() {
    let _guard = guard();
    let wrong = [
        Segment::builder().participants(0),
        Segment::builder().participants(4096),
        Segment::builder().objects(0),
        Segment::builder().objects(4096),
        Segment::builder().bytes(0),
        Segment::builder().bytes(PAGE),
        Segment::builder().bytes(1 << 63),
    ];
    for builder in wrong {
        let error = builder.clone().anonymous().unwrap_err();
        assert!(matches!(error, Error::Geometry(_)), "{builder:?}: {error}");
        let name = Name::of("geometry");
        assert!(matches!(builder.named(&name), Err(Error::Geometry(_))));
        assert!(!name.path().exists());
    }
}

// Running out -----------------------------------------------------------------------------------

/// Runs `work` in a child, which a signal must not kill. The child's own segment is a small one.
fn survives(work: fn(String), name: &str) {
    let segment = Segment::builder().participants(2).objects(8).bytes(MIB).anonymous().unwrap();
    let works =
        [run_out_of_segment as fn(String), run_out_of_file_system, cap_files, cap_addresses];
    let which = works.iter().position(|it| std::ptr::fn_addr_eq(*it, work)).unwrap() as u64;
    fn enter(which: u64, name: String) {
        let works: [fn(String); 4] =
            [run_out_of_segment, run_out_of_file_system, cap_files, cap_addresses];
        works[which as usize](name);
    }
    let child = Spawner::new().segment(&segment).spawn(enter, (which, name.to_owned())).unwrap();
    child.join_timeout(SOON).unwrap();
}

/// Makes arrays in `segment` until there is no room; everything made before must still work, and
/// what is given back must be usable again.
fn exhaust(segment: &Segment) -> usize {
    const PIECE: usize = 64 << 10;
    // Some bytes of every page.
    let touched = || (0..PIECE).step_by(509).chain([PIECE - 1]);
    let queue = queue_in::<Vec<u8>>(segment, 1024);
    let counter = Counter::new_in(segment).unwrap();
    let mut arrays: Vec<Array<u8>> = Vec::new();
    let out_of_memory = loop {
        match Array::new_in(segment, PIECE) {
            Ok(array) => arrays.push(array),
            Err(error) => break error,
        }
    };
    assert!(matches!(out_of_memory, Error::OutOfMemory { .. }), "{out_of_memory}");
    let count = arrays.len();
    assert!(count > 3, "{count}");
    // A message that needs room of its own is refused and handed back; others are not.
    match queue.send(vec![1; 2 * PIECE]) {
        Err(SendError::Refused { value, error: Error::OutOfMemory { .. } }) => {
            assert_eq!(value.len(), 2 * PIECE);
        }
        other => panic!("{other:?}"),
    }
    for number in 0..10 {
        queue.send(vec![number; 10]).unwrap();
        assert_eq!(queue.recv().unwrap(), [number; 10]);
    }
    counter.add(1);
    for (number, array) in arrays.iter().enumerate() {
        touched().for_each(|place| array.set(place, number as u8));
    }
    for (number, array) in arrays.iter().enumerate() {
        assert!(touched().all(|place| array.get(place) == number as u8));
    }
    assert_eq!(counter.get(), 1);
    for _ in 0..3 {
        arrays.clear();
        for _ in 0..count {
            let array = Array::new_in(segment, PIECE).unwrap();
            assert!(touched().all(|place| array.get(place) == 0), "a new array is zeros");
            touched().for_each(|place| array.set(place, 0xff));
            arrays.push(array);
        }
    }
    count
}

fn run_out_of_segment(_: String) {
    let segment = Segment::builder().participants(2).objects(256).bytes(4 * MIB);
    let segment = segment.anonymous().unwrap();
    let error = Array::<u64>::new_in(&segment, 1 << 40).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { wanted, .. } if wanted == 8 << 40), "{error}");
    assert!(matches!(Array::<u64>::new_in(&segment, usize::MAX), Err(Error::OutOfMemory { .. })));
    let counts: Vec<usize> = (0..3).map(|_| exhaust(&segment)).collect();
    assert!(counts.iter().all(|count| *count == counts[0]), "nothing leaks: {counts:?}");
}

#[test]
fn exhaustion_of_a_segment_is_an_error_and_costs_nothing() {
    let _guard = guard();
    survives(run_out_of_segment, "");
}

#[test]
fn queue_that_cannot_grow_refuses_and_keeps_what_it_has() {
    let _guard = guard();
    let segment = Segment::builder().participants(2).objects(64).bytes(4 * MIB);
    let segment = segment.anonymous().unwrap();
    // 64 blocks at first, and as many again when those are in use: for which there is no room.
    let queue: Queue<u64> =
        Queue::<u64>::builder(1000).message_bytes(40 << 10).build_in(&segment).unwrap();
    let sent = (0..1000).take_while(|number| match queue.try_send(*number) {
        Ok(()) => true,
        Err(SendError::Refused { value, error: Error::OutOfMemory { .. } }) => {
            assert_eq!(value, *number);
            false
        }
        Err(error) => panic!("{error}"),
    });
    let sent = sent.count() as u64;
    assert!((32..1000).contains(&sent), "{sent}");
    assert_eq!(queue.len() as u64, sent);
    (0..sent).for_each(|number| assert_eq!(queue.try_recv().unwrap(), number));
    queue.send(7).unwrap();
    assert_eq!(queue.recv().unwrap(), 7);
}

/// Whether this process may mount; then what it sees of `/dev/shm` from now on is a file system of
/// its own, of that many bytes.
fn small_shared_memory(bytes: u64) -> bool {
    let private = unshare(CloneFlags::CLONE_NEWNS).is_ok()
        && mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .is_ok();
    let options = format!("size={bytes}");
    let small = private
        && mount(
            Some("tmpfs"),
            "/dev/shm",
            Some("tmpfs"),
            MsFlags::empty(),
            Some(options.as_str()),
        )
        .is_ok();
    if !small {
        say("skipped: mounting a small /dev/shm is not permitted");
    }
    small
}

fn run_out_of_file_system(name: String) {
    if !small_shared_memory(4 * MIB) {
        return;
    }
    let segment = Segment::builder().participants(2).objects(256).bytes(64 * MIB);
    let segment = segment.named(&name).unwrap();
    let counts: Vec<usize> = (0..3).map(|_| exhaust(&segment)).collect();
    assert!(counts.iter().all(|count| *count == counts[0] && *count < 64), "{counts:?}");
    let rest: Vec<Array<u8>> =
        std::iter::from_fn(|| Array::new_in(&segment, 64 << 10).ok()).collect();
    let other = format!("{name}.other");
    let tables = Segment::builder().participants(256).objects(4095).bytes(1 << 30);
    let error = tables.named(&other).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error}");
    assert!(!fs::exists(format!("/dev/shm/{other}")).unwrap(), "no half of it is left");
    drop(rest);
    assert!(Segment::builder().participants(2).objects(8).bytes(64 * MIB).named(&other).is_ok());
}

#[test]
fn exhaustion_of_the_file_system_is_an_error_and_no_signal() {
    let _guard = guard();
    survives(run_out_of_file_system, &Name::of("small"));
}

fn cap_files(name: String) {
    let before = Segment::builder().participants(2).objects(256).bytes(4 * MIB);
    let before = before.anonymous().unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, MIB, MIB).unwrap();
    let builder = || Segment::builder().participants(2).objects(64).bytes(2 * MIB);
    assert!(matches!(builder().anonymous(), Err(Error::System { .. })));
    assert!(matches!(builder().named(&name), Err(Error::System { .. })));
    assert!(!fs::exists(format!("/dev/shm/{name}")).unwrap(), "no half of it is left");
    assert!(Segment::builder().participants(2).objects(64).bytes(MIB / 2).anonymous().is_ok());
    exhaust(&before);
    // The one that nobody says a size for keeps within the limit, or says why it cannot.
    let _ = Segment::builder().anonymous();
}

#[test]
fn file_size_limit_is_an_error_and_no_signal() {
    let _guard = guard();
    survives(cap_files, &Name::of("fsize"));
}

fn cap_addresses(name: String) {
    setrlimit(Resource::RLIMIT_AS, 512 * MIB, 512 * MIB).unwrap();
    let builder = || Segment::builder().participants(2).objects(64).bytes(2 << 30);
    assert!(matches!(builder().anonymous(), Err(Error::System { .. })));
    assert!(matches!(builder().named(&name), Err(Error::System { .. })));
    assert!(!fs::exists(format!("/dev/shm/{name}")).unwrap(), "no half of it is left");
    let fits = Segment::builder().anonymous().expect("the default size keeps within the limit");
    let array = Array::<u64>::new_in(&fits, 1000).unwrap();
    array.fill(3);
    assert_eq!(array.get(999), 3);
}

#[test]
fn address_space_limit_is_an_error_and_no_signal() {
    let _guard = guard();
    survives(cap_addresses, &Name::of("as"));
}

// Looking in ------------------------------------------------------------------------------------

#[test]
fn view_shows_what_exists_and_who_takes_part() {
    let _guard = guard();
    let name = Name::of("view");
    let segment = Segment::builder().participants(4).objects(16).bytes(MIB).named(&name).unwrap();
    let counter = Counter::new_in(&segment).unwrap().named("lines");
    counter.add(-5);
    let queue = queue_in::<u32>(&segment, 3).named("jobs");
    queue.send(1).unwrap();
    let view = View::of_name(&name).unwrap();
    let objects = view.objects();
    let named = |name: &str| objects.iter().find(|object| object.name == name).unwrap();
    assert_eq!((named("lines").kind, named("jobs").kind), (Kind::Counter, Kind::Queue));
    assert_eq!(view.content(named("lines"), 1), Some(Content::Number(-5)));
    let jobs = Content::Queue { waiting: 1, capacity: 3, closed: false, leases: false };
    assert_eq!(view.content(named("jobs"), 1), Some(jobs));
    let participants = view.participants();
    assert_eq!(participants.len(), 1);
    assert_eq!((participants[0].pid, participants[0].alive), (std::process::id(), Some(true)));
}
