//! How long objects live: as long as somebody has them, or a message carries them, and no longer.

use multiproc::view::View;
use multiproc::{
    Array, Counter, Error, Event, Mutex, Process, Queue, RecvError, Segment, Spawner, Tally, Value,
    channel,
};
use multiproc_ipc::testing;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use support::{Name, Random, SOON, eventually, guard, queue_in};

multiproc::init_before_main!();

const MIB: u64 = 1 << 20;

/// A value that is sent as one thing and received as another.
#[derive(Debug)]
enum As<S, R> {
    Sent(S),
    Received(R),
}

impl<S, R> As<S, R> {
    fn received(self) -> R {
        match self {
            As::Received(value) => value,
            As::Sent(_) => panic!("it was never sent"),
        }
    }
}

impl<S: Serialize, R> Serialize for As<S, R> {
    fn serialize<Z: Serializer>(&self, serializer: Z) -> Result<Z::Ok, Z::Error> {
        match self {
            As::Sent(value) => value.serialize(serializer),
            As::Received(_) => panic!("it was sent already"),
        }
    }
}

impl<'de, S, R: Deserialize<'de>> Deserialize<'de> for As<S, R> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        R::deserialize(deserializer).map(As::Received)
    }
}

/// Sends one thing and receives another, within `segment`.
fn transmute<S, R>(segment: &Segment, value: S) -> Result<R, RecvError>
where
    S: Serialize,
    R: DeserializeOwned,
{
    let queue = queue_in::<As<S, R>>(segment, 1);
    queue.send(As::Sent(value)).unwrap();
    queue.recv().map(As::received)
}

/// A segment in which little fits, so that what leaks is missed.
fn small(bytes: u64) -> Segment {
    Segment::builder().participants(4).objects(16).bytes(bytes).anonymous().unwrap()
}

/// How many objects there are in a named segment.
fn objects(name: &Name) -> usize {
    View::of_name(name).unwrap().objects().len()
}

#[test]
fn object_in_a_message_outlives_its_senders_handle() {
    let _guard = guard();
    let name = Name::of("carried");
    let segment = Segment::builder().participants(4).objects(16).bytes(4 * MIB);
    let segment = segment.named(&name).unwrap();
    let queue = queue_in::<Counter>(&segment, 4);
    let counter = Counter::new_in(&segment).unwrap();
    counter.add(5);
    queue.send(counter.clone()).unwrap();
    drop(counter);
    fn receive(queue: Queue<Counter>) -> i64 {
        let counter = queue.recv().unwrap();
        counter.add(2);
        counter.get()
    }
    let child = Spawner::new().segment(&segment).spawn(receive, (queue.clone(),)).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), 7);
    drop(child);
    eventually("the counter is gone with the child that received it", || objects(&name) == 1);
    drop(queue);
    assert_eq!(objects(&name), 0);
}

#[test]
fn object_whose_sender_died_is_received_whole() {
    let _guard = guard();
    fn send(queue: Queue<(Counter, Array<u64>)>) {
        let (counter, array) = (Counter::new().unwrap(), Array::from_slice(&[1, 2, 3]).unwrap());
        counter.add(5);
        queue.send((counter, array)).unwrap();
        std::process::abort();
    }
    let queue = Queue::bounded(1).unwrap();
    for _ in 0..20 {
        let child = Process::spawn(send, (queue.clone(),)).unwrap();
        assert!(child.join_timeout(SOON).is_err());
        let (counter, array) = queue.recv_timeout(SOON).unwrap();
        assert_eq!((counter.get(), array.to_vec()), (5, vec![1, 2, 3]));
    }
}

#[test]
fn queue_in_a_message_in_a_queue_keeps_what_it_carries() {
    let _guard = guard();
    let segment = small(MIB);
    let outer = queue_in::<Queue<Value<u64>>>(&segment, 1);
    let inner = queue_in::<Value<u64>>(&segment, 1);
    inner.send(Value::new_in(&segment, 42).unwrap()).unwrap();
    outer.send(inner).unwrap();
    // Others come and go meanwhile, in whatever room is free.
    (0..100).for_each(|_| drop(Array::<u64>::new_in(&segment, 100).unwrap()));
    assert_eq!(outer.recv().unwrap().recv().unwrap().get(), 42);
}

#[test]
fn handle_whose_object_is_gone_is_an_error() {
    let _guard = guard();
    let segment = small(MIB);
    let counter = Counter::new_in(&segment).unwrap();
    let number: u64 = transmute(&segment, counter.clone()).unwrap();
    transmute::<u64, Counter>(&segment, number).expect("it is there still").add(3);
    assert_eq!(counter.get(), 3);
    // A queue made later would stand in its place.
    let forged = queue_in::<As<u64, Counter>>(&segment, 1);
    let reach = || {
        forged.send(As::Sent(number)).unwrap();
        forged.recv().map(As::received)
    };
    drop(counter);
    let error = reach().unwrap_err();
    assert!(error.to_string().contains("the object is gone"), "{error}");
    // Nor does the number name the counter that stands there next.
    let next = Counter::new_in(&segment).unwrap();
    assert!(reach().is_err());
    assert_eq!(next.get(), 0);
}

#[test]
fn handle_of_another_kind_or_type_is_an_error() {
    let _guard = guard();
    let segment = small(MIB);
    let array = Array::<u64>::new_in(&segment, 4).unwrap();
    assert!(transmute::<_, Counter>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Queue<u64>>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Mutex<u64>>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Tally<u64>>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Value<u64>>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Array<i64>>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Array<u32>>(&segment, array.clone()).is_err());
    assert!(transmute::<_, Array<u64>>(&segment, array).is_ok());
}

/// Structs that are told from one another by what they look like, and not by what they are called.
mod points {
    use multiproc::Plain;
    use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

    macro_rules! points {
        ($($name:ident { $($field:ident: $of:ty),* })*) => {$(
            #[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout, Plain)]
            #[repr(C)]
            pub(crate) struct $name { $(pub(crate) $field: $of),* }
        )*};
    }

    points! {
        Point { x: f32, y: f32 }
        Renamed { x: f32, y: f32 }
        Turned { y: f32, x: f32 }
        Whole { x: f32, y: u32 }
    }
}

#[test]
fn handle_of_another_structure_is_an_error() {
    use points::{Point, Renamed, Turned, Whole};
    let _guard = guard();
    let segment = small(MIB);
    let array = || {
        let array = Array::<Point>::new_in(&segment, 2).unwrap();
        array.set(1, Point { x: 1.0, y: 2.0 });
        array
    };
    for held in [true, false] {
        // Whether this process has the object still, or attaches to it anew.
        let kept = array();
        let sent = || if held { kept.clone() } else { array() };
        let turned = transmute::<_, Array<Turned>>(&segment, sent());
        let error = turned.expect_err("its fields are in another order");
        assert!(error.to_string().contains("of another type"), "{error}");
        assert!(transmute::<_, Array<Whole>>(&segment, sent()).is_err());
        assert!(transmute::<_, Array<[f32; 2]>>(&segment, sent()).is_err());
        assert!(transmute::<_, Array<u64>>(&segment, sent()).is_err());
        let renamed = transmute::<_, Array<Renamed>>(&segment, sent()).unwrap().get(1);
        assert_eq!((renamed.x, renamed.y), (1.0, 2.0));
    }
    let one = Mutex::<[u64]>::from_slice_in(&segment, &[5]).unwrap();
    assert!(transmute::<_, Mutex<u64>>(&segment, one.clone()).is_err(), "a slice of one");
    assert!(transmute::<_, Mutex<[i64]>>(&segment, one.clone()).is_err());
    assert_eq!(*transmute::<_, Mutex<[u64]>>(&segment, one).unwrap().lock().unwrap(), [5]);
}

#[test]
fn handle_made_up_is_an_error_and_no_crash() {
    let _guard = guard();
    let segment = small(MIB);
    let _some: Vec<Counter> = (0..5).map(|_| Counter::new_in(&segment).unwrap()).collect();
    let forged = queue_in::<As<u64, Array<u8>>>(&segment, 1);
    let mut random = Random::seeded();
    for round in 0..10_000 {
        // Half of them name a place that exists, in some generation.
        let number = if round % 2 == 0 { random.number() } else { random.below(20) };
        forged.send(As::Sent(number)).unwrap();
        let error = forged.recv().map(As::received).expect_err("there is no array");
        assert!(matches!(error, RecvError::Message(_)), "{number:#x}: {error}");
    }
}

#[test]
fn handle_of_another_segment_cannot_be_sent() {
    let _guard = guard();
    let (here, there) = (small(MIB), small(MIB));
    let queue = queue_in::<Counter>(&here, 1);
    let error = queue.send(Counter::new_in(&there).unwrap()).unwrap_err();
    assert!(error.to_string().contains("within its own segment"), "{error}");
    assert!(queue.is_empty());
    error.into_value().add(1);
}

#[test]
fn objects_of_a_killed_process_are_freed() {
    let _guard = guard();
    const MOST: usize = 600 << 10;
    fn take(ready: Queue<()>) {
        let segment = Segment::current().unwrap();
        let array = Array::<u8>::new_in(&segment, MOST).unwrap();
        let counters: Vec<Counter> = (0..8).map(|_| Counter::new().unwrap()).collect();
        (0..MOST).step_by(509).for_each(|place| array.set(place, counters.len() as u8));
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let segment = small(MIB);
    let ready = queue_in(&segment, 1);
    for _ in 0..20 {
        let child = Spawner::new().segment(&segment).spawn(take, (ready.clone(),)).unwrap();
        ready.recv_timeout(SOON).unwrap();
        assert!(matches!(Array::<u8>::new_in(&segment, MOST), Err(Error::OutOfMemory { .. })));
        child.child().kill().unwrap();
        assert!(child.join_timeout(SOON).is_err());
        let array = Array::<u8>::new_in(&segment, MOST).expect("all of it was freed at once");
        assert!((0..MOST).step_by(509).all(|place| array.get(place) == 0), "and forgotten");
    }
}

#[test]
fn objects_made_and_dropped_ten_thousand_times_leak_nothing() {
    let _guard = guard();
    let segment = small(MIB);
    let room = |segment: &Segment| match Array::<u8>::new_in(segment, MIB as usize) {
        Err(Error::OutOfMemory { left, .. }) => left,
        other => panic!("{other:?}"),
    };
    let before = room(&segment);
    for round in 0..10_000_u64 {
        let counter = Counter::new_in(&segment).unwrap();
        let array = Array::<u64>::new_in(&segment, (round % 100) as usize).unwrap();
        let mutex = Mutex::new_in(&segment, round).unwrap();
        let value = Value::new_in(&segment, [round; 3]).unwrap();
        let tally = Tally::<u64>::new_in(&segment).unwrap();
        let queue = queue_in::<(Counter, Vec<u8>)>(&segment, 2);
        queue.send((counter.clone(), vec![7; (round % 500) as usize])).unwrap();
        tally.add(&round);
        assert_eq!((array.iter().sum::<u64>(), *mutex.lock().unwrap()), (0, round));
        assert_eq!((value.get(), tally.total()), ([round; 3], round));
    }
    assert_eq!(room(&segment), before, "all that was free is free again, in one piece");
    let all: Vec<Counter> = (0..16).map(|_| Counter::new_in(&segment).unwrap()).collect();
    assert_eq!(all.len(), 16);
}

#[test]
fn counter_made_where_another_was_starts_at_zero() {
    let _guard = guard();
    fn add(counter: Counter, added: Queue<()>, stop: Queue<()>) {
        counter.add(100);
        drop(counter);
        added.send(()).unwrap();
        let _ = stop.recv();
    }
    let segment = small(MIB);
    let added = queue_in::<()>(&segment, 1);
    let stop = queue_in::<()>(&segment, 1);
    let counter = Counter::new_in(&segment).unwrap();
    let arguments = (counter.clone(), added.clone(), stop.clone());
    let child = Spawner::new().segment(&segment).spawn(add, arguments).unwrap();
    added.recv_timeout(SOON).unwrap();
    counter.add(1);
    assert_eq!(counter.get(), 101);
    drop(counter);
    for _ in 0..20 {
        let counters: Vec<Counter> = (0..8).map(|_| Counter::new_in(&segment).unwrap()).collect();
        let numbers: Vec<i64> = counters.iter().map(Counter::get).collect();
        assert_eq!(numbers, [0; 8], "while one that added to the old one lives");
        counters.iter().for_each(|counter| counter.add(1));
    }
    stop.close();
    child.join_timeout(SOON).unwrap();
}

#[test]
fn object_made_while_others_are_collected_lives() {
    let _guard = guard();
    /// Each drop of a last handle collects what nobody reaches.
    fn collect(stop: Queue<()>) {
        while !stop.is_closed() {
            drop(Counter::new().unwrap());
        }
    }
    let segment = small(4 * MIB);
    let stop = queue_in(&segment, 1);
    let child = Spawner::new().segment(&segment).spawn(collect, (stop.clone(),)).unwrap();
    for round in 0..20_000_u64 {
        let array = Array::<u64>::new_in(&segment, 8).unwrap();
        array.fill(round);
        let same: Array<u64> = transmute(&segment, array.clone()).unwrap();
        assert_eq!(same.to_vec(), [round; 8], "in round {round}");
    }
    stop.close();
    child.join_timeout(SOON).unwrap();
}

/// The second half of a text, and then the first.
fn turned(text: &str) -> String {
    let (first, second) = text.split_at(text.len() / 2);
    format!("{second}{first}")
}

#[test]
fn message_of_megabytes_arrives_whole_and_leaves_nothing() {
    let _guard = guard();
    fn echo(there: Queue<String>, back: Queue<String>) {
        for message in &there {
            back.send(turned(&message)).unwrap();
        }
    }
    let name = Name::of("large");
    let segment = Segment::builder().participants(4).objects(16).bytes(64 * MIB);
    let segment = segment.named(&name).unwrap();
    let there = queue_in::<String>(&segment, 2);
    let back = queue_in::<String>(&segment, 2);
    let arguments = (there.clone(), back.clone());
    let child = Spawner::new().segment(&segment).spawn(echo, arguments).unwrap();
    let pattern: String =
        (0..1_000_000).map(|number| format!("{number} {}", "x".repeat(9))).collect();
    for _ in 0..3 {
        for bytes in [0, 1, 191, 192, 193, 1 << 20, 8 << 20] {
            let message = &pattern[..bytes];
            there.send_timeout(message.to_owned(), SOON).unwrap();
            assert!(back.recv_timeout(SOON).unwrap() == turned(message), "{bytes} bytes");
        }
    }
    there.close();
    child.join_timeout(SOON).unwrap();
    drop(child);
    eventually("there is nothing but the two queues", || objects(&name) == 2);
}

#[test]
fn message_of_megabytes_to_a_killed_receiver_leaves_nothing() {
    let _guard = guard();
    fn receive(messages: Queue<String>, ready: Queue<()>) {
        let _lease = messages.lease().unwrap();
        ready.send(()).unwrap();
        std::thread::sleep(SOON);
    }
    let segment = small(8 * MIB);
    let messages = queue_in::<String>(&segment, 2);
    let ready = queue_in::<()>(&segment, 1);
    let message = "three".repeat(1 << 20);
    for _ in 0..10 {
        messages.send(message.clone()).unwrap();
        let arguments = (messages.clone(), ready.clone());
        let child = Spawner::new().segment(&segment).spawn(receive, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child.child().kill().unwrap();
        assert!(child.join_timeout(SOON).is_err());
        // The lease came back; once it is received for good, its room is free for the next one.
        assert!(messages.recv_timeout(SOON).unwrap() == message);
    }
}

#[test]
fn message_of_another_type_is_an_error_and_the_next_one_arrives() {
    let _guard = guard();
    #[derive(Serialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    let segment = small(4 * MIB);
    let queue = queue_in::<As<Either, u64>>(&segment, 4);
    for round in 0..100 {
        for text in ["x".repeat(100), "x".repeat(100_000)] {
            queue.send(As::Sent(Either::Text(text))).unwrap();
            queue.send(As::Sent(Either::Number(round))).unwrap();
            let error = queue.recv().map(As::received).unwrap_err();
            assert!(matches!(error, RecvError::Message(_)), "{error}");
            assert_eq!(queue.len(), 1, "it is consumed");
            assert_eq!(queue.recv().unwrap().received(), round);
        }
    }
    assert!(queue.is_empty());
}

#[test]
fn handle_dropped_while_somebody_is_stopped_in_the_catalog_is_let_go_of_by_who_only_waits() {
    let _guard = guard();
    fn hold(held: Event, go: Event, end: Event) {
        let segment = Segment::current().unwrap();
        let catalog = testing::hold_catalog(&segment).unwrap();
        held.set();
        go.wait();
        drop(catalog);
        end.wait();
    }
    let [held, go, end] = [(); 3].map(|()| Event::new().unwrap());
    let (sender, receiver) = channel::<u32>(1).unwrap();
    let holder = Process::spawn(hold, (held.clone(), go.clone(), end.clone())).unwrap();
    assert!(held.wait_timeout(SOON));
    drop(sender);
    go.set();
    // Nobody wants the catalog from here on.
    assert!(matches!(receiver.recv_timeout(SOON), Err(RecvError::Disconnected)));
    end.set();
    holder.join_timeout(SOON).unwrap();
}
