//! Channels whose ends are sent, to and from processes some of which are killed, and channels to which
//! something is written that is no message.

use std::fs::{self, File};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::thread;

use multiproc::channel::{
    self, ChannelError, Receiver, RecvError, SendError, Sender, SharedMemory,
};
use multiproc::{
    Descriptor, Error, JoinError, Map, Pipe, PipeError, Process, Queue, Spawner, StartMethod,
    select_timeout,
};
use multiproc_ipc::family;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use support::{SHORT, SOON, asleep, eventually, guard, kill, kill_when_ready, leaving_none_open};

multiproc::init_before_main!();

const METHODS: [StartMethod; 3] = [StartMethod::Spawn, StartMethod::ForkServer, StartMethod::Fork];

/// A test's body, run in a process of its own that has one thread, for each way to start a process.
macro_rules! for_each_method {
    ($($body:ident)*) => {$(
        mod $body {
            #[test]
            fn by_spawn() {
                crate::alone(|method| super::$body(crate::by(method)), 0);
            }

            #[test]
            fn by_fork_server() {
                crate::alone(|method| super::$body(crate::by(method)), 1);
            }

            #[test]
            fn by_fork() {
                crate::alone(|method| super::$body(crate::by(method)), 2);
            }
        }
    )*};
}

fn alone(body: impl Fn(usize) + Copy + Send + 'static, method: usize) {
    let _guard = guard();
    let child = Process::spawn(body, (method,)).unwrap();
    child.join_timeout(SOON).unwrap();
}

fn by(method: usize) -> Spawner {
    Spawner::new().method(METHODS[method])
}

for_each_method! {
    sender_that_is_an_argument_sends
    receiver_that_is_an_argument_receives_to_the_end
    ends_within_ends_arrive
    memory_is_shared_both_ways
    result_that_is_an_end_works
    pipe_in_a_result_works
}

fn sender_that_is_an_argument_sends(by: Spawner) {
    fn count(sender: Sender<String>, again: Sender<String>) {
        sender.send("one".into()).unwrap();
        again.send("two".into()).unwrap();
    }
    let (sender, receiver) = channel::pair().unwrap();
    let child = by.spawn(count, (sender.clone(), sender)).unwrap();
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), "one");
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), "two");
    let end = receiver.recv_timeout(SOON);
    assert!(matches!(end, Err(RecvError::Disconnected)), "{end:?}");
    child.join_timeout(SOON).unwrap();
}

fn receiver_that_is_an_argument_receives_to_the_end(by: Spawner) {
    fn sum(receiver: Receiver<u64>) -> u64 {
        let mut sum = 0;
        loop {
            match receiver.recv() {
                Ok(number) => sum += number,
                Err(RecvError::Disconnected) => return sum,
                Err(error) => panic!("{error}"),
            }
        }
    }
    let (sender, receiver) = channel::pair().unwrap();
    let child = by.spawn(sum, (receiver,)).unwrap();
    // Of which a forked one must not keep a copy.
    let (kept, _other) = channel::pair::<()>().unwrap();
    let idle = by.spawn(sum, (channel::pair().unwrap().1,)).unwrap();
    (1..=100).for_each(|number| sender.send(number).unwrap());
    drop(sender);
    assert_eq!(child.join_timeout(SOON).unwrap(), 5050);
    assert_eq!(idle.join_timeout(SOON).unwrap(), 0);
    drop(kept);
}

/// As deep as it goes: a way to send a receiver of ways to answer.
type Deep = Sender<Receiver<Sender<Sender<u64>>>>;

fn ends_within_ends_arrive(by: Spawner) {
    fn dig(deep: Deep) {
        let (sender, receiver) = channel::pair().unwrap();
        deep.send(receiver).unwrap();
        // It goes where the other end has gone meanwhile.
        let (answer, answers) = channel::pair::<Sender<u64>>().unwrap();
        sender.send(answer).unwrap();
        answers.recv_timeout(SOON).unwrap().send(42).unwrap();
    }
    let (deep, receivers) = channel::pair().unwrap();
    let child = by.spawn(dig, (deep,)).unwrap();
    let answer = receivers.recv_timeout(SOON).unwrap().recv_timeout(SOON).unwrap();
    let (sender, numbers) = channel::pair().unwrap();
    answer.send(sender).unwrap();
    assert_eq!(numbers.recv_timeout(SOON).unwrap(), 42);
    child.join_timeout(SOON).unwrap();
}

fn memory_is_shared_both_ways(by: Spawner) {
    fn swap(memory: SharedMemory, empty: SharedMemory) -> (u64, SharedMemory) {
        assert!(empty.is_empty());
        let sum = memory.iter().map(|byte| u64::from(*byte)).sum();
        (sum, SharedMemory::from_bytes(&[9; 100_000]).unwrap())
    }
    let memory = SharedMemory::from_bytes(&[3; 1 << 20]).unwrap();
    let empty = SharedMemory::from_bytes(&[]).unwrap();
    let child = by.spawn(swap, (memory, empty)).unwrap();
    let (sum, memory) = child.join_timeout(SOON).unwrap();
    assert_eq!(sum, 3 << 20);
    assert!(*memory == [9; 100_000]);
    let again = child.join_timeout(SOON);
    assert!(matches!(again, Err(JoinError::Result(_))), "it is given once");
}

fn result_that_is_an_end_works(by: Spawner) {
    fn make(used: Receiver<u8>) -> (Receiver<String>, Receiver<u8>) {
        assert_eq!(used.recv_timeout(SOON).unwrap(), 1);
        let (sender, receiver) = channel::pair().unwrap();
        sender.send("still here".into()).unwrap();
        (receiver, used)
    }
    let (sender, receiver) = channel::pair().unwrap();
    let child = by.spawn(make, (receiver,)).unwrap();
    sender.send(1).unwrap();
    sender.send(2).unwrap();
    let (made, used) = child.join_timeout(SOON).unwrap();
    assert_eq!(made.recv_timeout(SOON).unwrap(), "still here");
    assert!(matches!(made.recv_timeout(SOON), Err(RecvError::Disconnected)));
    assert_eq!(used.recv_timeout(SOON).unwrap(), 2);
}

fn pipe_in_a_result_works(by: Spawner) {
    fn make() -> (Pipe<(), u8>, Descriptor) {
        let (here, there) = Pipe::<u8, ()>::pair().unwrap();
        here.send(&7).unwrap();
        (there, Descriptor::new(File::open("/proc/self/stat").unwrap()))
    }
    let child = by.spawn(make, ()).unwrap();
    let (pipe, _file) = child.join_timeout(SOON).unwrap();
    assert_eq!(pipe.recv_timeout(SOON).unwrap(), 7);
    assert!(matches!(pipe.recv_timeout(SOON), Err(PipeError::Ended)));
}

/// Makes sure that all descriptors are closed but those that a process has for good that uses channels.
#[track_caller]
fn closing_all(work: impl FnOnce()) {
    drop(channel::pair::<u8>().unwrap());
    leaving_none_open(work);
}

// Messages --------------------------------------------------------------------------------------

#[test]
fn values_of_any_length_come_whole() {
    let _guard = guard();
    closing_all(|| {
        let (sender, receiver) = channel::pair().unwrap();
        for length in [0, 1, 100, 32_000, 32_768, 33_000, 250_000, 20 << 20] {
            let value = vec![7u8; length];
            sender.send(value.clone()).unwrap();
            assert!(receiver.recv_timeout(SOON).unwrap() == value, "{length} bytes");
        }
    });
}

#[test]
fn waiting_ends_at_its_deadline_and_trying_at_once() {
    let _guard = guard();
    let (sender, receiver) = channel::pair::<Vec<u8>>().unwrap();
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    assert!(matches!(receiver.recv_timeout(SHORT), Err(RecvError::Timeout)));
    let mut sent = 0u32;
    while sender.try_send(vec![1; 1000]).is_ok() {
        sent += 1;
    }
    assert!(matches!(sender.try_send(vec![2]), Err(SendError::Full(value)) if value == [2]));
    assert!(matches!(sender.send_timeout(vec![3], SHORT), Err(SendError::Timeout(_))));
    for _ in 0..sent {
        assert_eq!(receiver.try_recv().unwrap().len(), 1000);
    }
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
    sender.send_timeout(vec![4], SOON).unwrap();
    assert_eq!(select_timeout(&[&receiver], SOON), Some(0));
    drop(receiver);
    assert!(matches!(sender.send(vec![]), Err(SendError::Disconnected(_))));
}

#[test]
fn message_with_more_ends_than_fit_is_refused_and_the_value_comes_back() {
    let _guard = guard();
    closing_all(|| {
        let (sender, receiver) = channel::pair::<(Vec<Sender<u8>>, Vec<u8>)>().unwrap();
        let (one, ones) = channel::pair().unwrap();
        let long = vec![0; 100_000];
        let error = sender.send((vec![one.clone(); 64], long.clone())).unwrap_err();
        let SendError::Refused { value, error: ChannelError::TooMany(64) } = error else {
            panic!("{error}");
        };
        assert_eq!(value.0.len(), 64);
        drop(value);
        sender.send((vec![one; 63], long)).unwrap();
        for one in receiver.recv_timeout(SOON).unwrap().0 {
            one.send(1).unwrap();
        }
        assert_eq!((0..63).map(|_| ones.try_recv().unwrap()).sum::<u8>(), 63);
        assert!(matches!(ones.try_recv(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn open_file_is_refused() {
    let _guard = guard();
    let (sender, receiver) = channel::pair().unwrap();
    let file = Descriptor::new(File::open("/proc/self/stat").unwrap());
    let error = sender.send(file).unwrap_err();
    assert!(matches!(error, SendError::Refused { error: ChannelError::NotCarried, .. }), "{error}");
    assert!(matches!(receiver.try_recv(), Err(RecvError::Empty)));
}

#[test]
fn ends_are_refused_where_no_descriptor_travels() {
    let _guard = guard();
    let (sender, receiver) = channel::pair::<u8>().unwrap();
    let refused = Error::ForeignDescriptor.to_string();
    let error = Queue::bounded(1).unwrap().send(sender.clone()).unwrap_err();
    assert!(error.to_string().contains(&refused), "{error}");
    let error = Queue::bounded(1).unwrap().send(receiver).unwrap_err();
    assert!(error.to_string().contains(&refused), "{error}");
    let memory = SharedMemory::from_bytes(b"x").unwrap();
    let map = Map::<u8, SharedMemory>::new(1).unwrap();
    let error = map.insert(&1, memory).unwrap_err();
    assert!(error.to_string().contains(&refused), "{error}");
}

// What is no message ----------------------------------------------------------------------------

/// A packet with the header that ipc-channel would give it.
fn packet(message: &[u8]) -> Vec<u8> {
    packet_of(16 + message.len(), message.len(), message)
}

fn packet_of(whole: usize, length: usize, message: &[u8]) -> Vec<u8> {
    [&whole.to_ne_bytes(), &length.to_ne_bytes(), message].concat()
}

#[test]
fn what_is_no_message_is_an_error_and_what_follows_comes() {
    let _guard = guard();
    closing_all(|| {
        let (sender, receiver) = channel::pair::<(u64, Option<Sender<u8>>)>().unwrap();
        let bare: OwnedFd = family::encode_with_descriptors(&sender).unwrap().1.remove(0);
        let file = File::open("/proc/self/stat").unwrap();
        let directory = File::open("/").unwrap();
        let (end, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        let (file, directory, end) = (file.as_raw_fd(), directory.as_raw_fd(), end.as_raw_fd());
        let cases: Vec<(Vec<u8>, Vec<RawFd>)> = vec![
            (vec![], vec![]),
            (vec![8], vec![]),
            (8usize.to_ne_bytes().to_vec(), vec![]),
            (16usize.to_ne_bytes().to_vec(), vec![]),
            (packet(&[]), vec![]),
            (packet(&[0xff; 40]), vec![]),
            (packet(&[0; 40]), vec![]),
            (packet_of(usize::MAX, 4, b"four"), vec![]),
            (packet_of(20, 3, b"four"), vec![]),
            (packet_of(20, 1000, b"four"), vec![]),
            (packet_of(20, usize::MAX, b"four"), vec![]),
            (packet_of(20, 1000, b"four"), vec![end]),
            (packet(b"four"), vec![end]),
            (packet(b"four"), vec![end, end, end]),
            (packet(b"four"), vec![end; 64]),
            (packet(b"four"), vec![end; 65]),
            (packet(b"four"), vec![end; 253]),
            (packet(b"four"), vec![end, file]),
            (packet(b"four"), vec![directory, end]),
            // (not long, no kinds, no bytes, an endpoint that did not come, no memory)
            (packet(&[0, 0, 0, 1, 0, 0]), vec![]),
            // (long, no kinds, no bytes, no endpoints, no memory)
            (packet(&[1, 0, 0, 0, 0]), vec![]),
        ];
        for (bytes, descriptors) in cases {
            let rights = [ControlMessage::ScmRights(&descriptors)];
            let with = if descriptors.is_empty() { &[][..] } else { &rights[..] };
            let parts = [IoSlice::new(&bytes)];
            sendmsg::<()>(bare.as_raw_fd(), &parts, with, MsgFlags::empty(), None).unwrap();
            let error = receiver.recv_timeout(SOON).err();
            let (count, bytes) = (descriptors.len(), &bytes[..bytes.len().min(24)]);
            assert!(
                matches!(
                    error,
                    Some(RecvError::Refused(ChannelError::Malformed(_) | ChannelError::Message(_)))
                ),
                "{bytes:?} with {count}: {error:?}"
            );
        }
        sender.send((7, None)).unwrap();
        assert_eq!(receiver.recv_timeout(SOON).unwrap().0, 7);
        drop((sender, bare));
        assert!(matches!(receiver.recv_timeout(SOON), Err(RecvError::Disconnected)));
    });
}

#[test]
fn value_of_another_type_is_an_error() {
    let _guard = guard();
    closing_all(|| {
        let (sender, receiver) = channel::pair::<String>().unwrap();
        let (bytes, descriptors) = family::encode_with_descriptors(&sender).unwrap();
        let other: Sender<(Sender<u8>, SharedMemory)> =
            family::decode_with_descriptors(&bytes, descriptors).unwrap();
        let memory = SharedMemory::from_bytes(b"memory").unwrap();
        other.send((channel::pair().unwrap().0, memory)).unwrap();
        let error = receiver.recv_timeout(SOON).unwrap_err();
        assert!(matches!(error, RecvError::Refused(ChannelError::Message(_))), "{error}");
    });
}

// Deaths ----------------------------------------------------------------------------------------

#[test]
fn child_killed_as_it_starts_leaves_nothing_and_its_ends_are_gone() {
    fn idle(sender: Sender<u8>, receiver: Receiver<u8>) {
        let _ = receiver.recv();
        drop(sender);
    }
    let _guard = guard();
    closing_all(|| {
        for _ in 0..20 {
            let (to_us, from_child) = channel::pair().unwrap();
            let (to_child, from_us) = channel::pair().unwrap();
            let child = Process::spawn(idle, (to_us, from_us)).unwrap();
            child.child().kill().unwrap();
            assert!(matches!(from_child.recv_timeout(SOON), Err(RecvError::Disconnected)));
            child.join_timeout(SOON).unwrap_err();
            assert!(matches!(to_child.send(1), Err(SendError::Disconnected(1))));
        }
    });
}

#[test]
fn messages_of_a_sender_that_is_killed_are_whole() {
    fn send(sender: Sender<(u64, Vec<u8>, Receiver<u64>)>, ready: Queue<()>) {
        for number in 0.. {
            let (inner, receiver) = channel::pair().unwrap();
            inner.send(number).unwrap();
            sender.send((number, vec![number as u8; 60_000], receiver)).unwrap();
            if number == 3 {
                ready.send(()).unwrap();
            }
        }
    }
    let _guard = guard();
    closing_all(|| {
        let (sender, receiver) = channel::pair().unwrap();
        let ready = Queue::bounded(1).unwrap();
        let child = Process::spawn(send, (sender, ready.clone())).unwrap();
        kill_when_ready(&child, &ready);
        let mut next = 0;
        loop {
            match receiver.recv_timeout(SOON) {
                Ok((number, bytes, inner)) => {
                    assert_eq!(number, next);
                    assert!(bytes.len() == 60_000 && bytes.iter().all(|byte| *byte == next as u8));
                    assert_eq!(inner.recv_timeout(SOON).unwrap(), number);
                    next += 1;
                }
                Err(RecvError::Disconnected) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(next >= 4, "{next}");
    });
}

#[test]
fn sender_that_waits_for_room_sees_the_receiver_killed() {
    fn idle(_receiver: Receiver<Vec<u8>>) {
        loop {
            thread::park();
        }
    }
    fn fill(sender: Sender<Vec<u8>>) -> bool {
        loop {
            match sender.send(vec![0; 100_000]) {
                Ok(()) => {}
                Err(error) => return matches!(error, SendError::Disconnected(_)),
            }
        }
    }
    let _guard = guard();
    let (sender, receiver) = channel::pair().unwrap();
    let idle = Process::spawn(idle, (receiver,)).unwrap();
    let fill = Process::spawn(fill, (sender,)).unwrap();
    asleep(&fill);
    kill(&idle);
    assert!(fill.join_timeout(SOON).unwrap());
}

/// The socket files of channels in a directory.
fn socket_files(directory: &PathBuf) -> usize {
    fs::read_dir(directory).unwrap().flatten().count()
}

#[test]
fn socket_file_is_there_for_an_instant_and_one_of_the_dead_is_removed() {
    fn begin(directory: PathBuf) -> usize {
        drop(channel::pair::<u8>().unwrap());
        socket_files(&directory)
    }
    let _guard = guard();
    // Longer than the address of a socket.
    let long = "x".repeat(150);
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path().join(long);
    fs::create_dir(&directory).unwrap();
    let spawner = Spawner::new().env("TMPDIR", directory.to_str().unwrap());
    for round in 0..20 {
        let child = spawner.spawn(begin, (directory.clone(),)).unwrap();
        if round % 2 == 0 {
            let _ = child.child().kill();
            let _ = child.join_timeout(SOON);
        } else {
            assert_eq!(child.join_timeout(SOON).unwrap(), 0);
        }
    }
    // Neither number is a process's.
    File::create(directory.join("multiproc-channel.4194304.1f")).unwrap();
    // This process lives, but another had its number then.
    let recycled = format!("multiproc-channel.{}.1", std::process::id());
    File::create(directory.join(recycled)).unwrap();
    assert_eq!(socket_files(&directory), 2);
    let child = spawner.spawn(begin, (directory.clone(),)).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), 0);
    eventually("all is over", || !child.is_alive());
}
