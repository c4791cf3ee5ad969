//! Pipes between processes, some of which are killed, and some of which write what is no message.
//!
//! Held against Python's `Connection`. Where these differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | a message longer than `recv_bytes(maxlength)` makes the connection unreadable | it is skipped |
//! | `BufferTooShort` has consumed the message, and carries it | the message stays |
//! | two threads that use one end garble it | each message goes to one of them |
//! | a received length is believed | memory is taken as a message arrives |
//! | a connection that is sent loses nothing, since nothing is read ahead | what was read ahead goes along |

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::thread;
use std::time::Duration;

use multiproc::{Counter, Descriptor, Error, Pipe, PipeError, Process, Queue, Semaphore};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::pthread::{pthread_kill, pthread_self};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use serde::{Deserialize, Serialize};
use support::{
    Random, SHORT, SOON, asleep, eventually, guard, kill, kill_when_ready, leaving_none_open,
    open_now, taking,
};

multiproc::init_before_main!();

const MIB: usize = 1 << 20;

fn patterned(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

/// An end of a pipe, and the bare stream of the other end.
fn with_stream<S, R>() -> (Pipe<S, R>, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    (here.into(), there)
}

/// A header as it is documented.
fn header(descriptors: u32, length: u64) -> Vec<u8> {
    [b"MPP1".as_slice(), &descriptors.to_le_bytes(), &length.to_le_bytes()].concat()
}

// Messages --------------------------------------------------------------------------------------

/// Sends everything back that comes, until nothing comes any more; how many messages.
fn echo(pipe: Pipe<(), ()>) -> usize {
    let mut count = 0;
    while let Ok(bytes) = pipe.recv_bytes() {
        pipe.send_bytes(&bytes).unwrap();
        count += 1;
    }
    count
}

#[test]
fn bytes_of_any_length_come_back_from_another_process() {
    let _guard = guard();
    let (here, there) = Pipe::pair().unwrap();
    let child = Process::spawn(echo, (there,)).unwrap();
    let short = [0, 1, 15, 16, 17, 4096, 65_519, 65_520, 65_521, 65_536, 65_537];
    // A vector grows behind two MiB, and behind 64.
    let long = [2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 16 * MIB, 64 * MIB, 64 * MIB + 1];
    let lengths = [short.as_slice(), &long].concat();
    for length in lengths.iter().copied() {
        let bytes = patterned(length);
        here.send_bytes(&bytes).unwrap();
        assert!(here.recv_bytes_timeout(SOON).unwrap() == bytes, "{length} bytes");
    }
    drop(here);
    assert_eq!(child.join_timeout(SOON).unwrap(), lengths.len());
}

#[test]
fn values_and_bytes_share_a_pipe_and_stay_apart() {
    let _guard = guard();
    let (here, there) = Pipe::<(u32, String), ()>::pair().unwrap();
    for number in 0..1000 {
        here.send(&(number, "x".repeat(number as usize))).unwrap();
        here.send_bytes(&patterned(number as usize)).unwrap();
        if number % 10 == 9 {
            for number in number - 9..=number {
                assert_eq!(there.recv().unwrap(), (number, "x".repeat(number as usize)));
                assert_eq!(there.recv_bytes().unwrap(), patterned(number as usize));
            }
        }
    }
    assert!(matches!(there.try_recv(), Err(PipeError::Timeout)));
}

#[test]
fn poll_tells_of_messages_however_short_and_eats_nothing() {
    let _guard = guard();
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    assert!(!here.try_poll().unwrap());
    assert!(!taking(SHORT, || here.poll_timeout(SHORT)).unwrap());
    for message in [b"".as_slice(), b"a", b"bcd"] {
        there.send_bytes(message).unwrap();
    }
    for message in [b"".as_slice(), b"a", b"bcd"] {
        for _ in 0..3 {
            assert!(here.try_poll().unwrap());
            here.poll().unwrap();
        }
        assert_eq!(here.recv_bytes().unwrap(), message);
    }
    assert!(!here.try_poll().unwrap());
    drop(there);
    assert!(here.try_poll().unwrap(), "the end is something to be told of");
    assert!(matches!(here.recv_bytes(), Err(PipeError::Ended)));
    assert!(matches!(here.try_recv(), Err(PipeError::Ended)), "and stays");
}

#[test]
fn poll_of_half_a_message_says_that_nothing_is_there() {
    let _guard = guard();
    let (here, mut there) = with_stream::<(), ()>();
    let frame = [header(0, 5), b"later".to_vec()].concat();
    for (place, byte) in frame.iter().enumerate() {
        assert!(!here.try_poll().unwrap(), "{place} bytes are there");
        assert!(matches!(here.try_recv_bytes(), Err(PipeError::Timeout)));
        there.write_all(&[*byte]).unwrap();
    }
    assert!(here.try_poll().unwrap());
    assert_eq!(here.try_recv_bytes().unwrap(), b"later");
}

#[test]
fn buffer_too_short_says_how_long_and_the_message_stays() {
    let _guard = guard();
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    for length in [10, 100_000] {
        let message = patterned(length);
        thread::scope(|scope| {
            scope.spawn(|| there.send_bytes(&message).unwrap());
            for short in [0, 1, length - 1] {
                let error = here.recv_bytes_into(&mut vec![0; short]).unwrap_err();
                let needed = length;
                assert!(matches!(error, PipeError::ShortBuffer { needed: it } if it == needed));
            }
            let mut buffer = vec![0xff; length + 3];
            assert_eq!(here.recv_bytes_into(&mut buffer).unwrap(), length);
            assert!(buffer[..length] == message && buffer[length..] == [0xff; 3]);
        });
    }
    there.send_bytes(b"").unwrap();
    assert_eq!(here.recv_bytes_into(&mut []).unwrap(), 0);
}

#[test]
fn buffer_of_a_call_that_times_out_loses_nothing_of_the_message() {
    let _guard = guard();
    let (here, mut there) = with_stream::<(), ()>();
    let message = patterned(300_000);
    there.write_all(&header(0, message.len() as u64)).unwrap();
    let mut buffer = vec![0; message.len()];
    for part in message.chunks(60_000) {
        let received = here.try_recv_bytes_into(&mut buffer);
        assert!(matches!(received, Err(PipeError::Timeout)));
        buffer.fill(0);
        there.write_all(part).unwrap();
    }
    assert_eq!(here.recv_bytes_into_timeout(&mut buffer, SOON).unwrap(), message.len());
    assert!(buffer == message);
}

#[test]
fn message_of_another_type_is_an_error_and_consumed() {
    let _guard = guard();
    let (here, there) = Pipe::<(), u64>::pair().unwrap();
    there.send_bytes(b"no value").unwrap();
    there.send(&7).unwrap();
    assert!(matches!(here.recv(), Err(PipeError::Message(_))));
    assert_eq!(here.recv().unwrap(), 7);
}

#[test]
fn message_over_the_limit_is_skipped_whatever_its_length() {
    let _guard = guard();
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    here.set_limit(100);
    thread::scope(|scope| {
        let sender = scope.spawn(|| {
            for length in [101, 3 * MIB, 65_536] {
                there.send_bytes(&patterned(length)).unwrap();
                there.send_bytes(&patterned(100)).unwrap();
            }
        });
        for length in [101, 3 * MIB as u64, 65_536] {
            assert!(here.poll_timeout(SOON).unwrap(), "there is something to be told");
            let told = here.recv_bytes_timeout(SOON).unwrap_err();
            let limit = 100;
            assert!(
                matches!(told, PipeError::TooLong { bytes, limit: it } if (bytes, it) == (length, limit))
            );
            assert_eq!(here.recv_bytes_timeout(SOON).unwrap(), patterned(100));
        }
        sender.join().unwrap();
    });
    here.set_limit(101);
    there.send_bytes(&[0; 101]).unwrap();
    assert_eq!(here.recv_bytes().unwrap().len(), 101);
}

#[test]
fn length_that_is_promised_takes_no_memory_before_it_arrives() {
    let _guard = guard();
    let (here, mut there) = with_stream::<(), Vec<u8>>();
    here.set_limit(u64::MAX);
    there.write_all(&header(0, 1 << 60)).unwrap();
    there.write_all(&patterned(100_000)).unwrap();
    let address_space = || {
        let statm = fs::read_to_string("/proc/self/statm").unwrap();
        statm.split(' ').next().unwrap().parse::<usize>().unwrap() * 4096
    };
    let before = address_space();
    assert!(matches!(here.try_recv(), Err(PipeError::Timeout)));
    assert!(address_space() < before + 64 * MIB);
    drop(there);
    assert!(matches!(here.recv(), Err(PipeError::CutShort)));
}

#[test]
fn simplex_goes_one_way_for_the_kernel_too() {
    let _guard = guard();
    let (sender, receiver) = Pipe::<u8, Infallible>::simplex().unwrap();
    fn work(sender: Pipe<u8, Infallible>) {
        (0..3).for_each(|number| sender.send(&number).unwrap());
    }
    let mut back = UnixStream::from(receiver.as_fd().try_clone_to_owned().unwrap());
    assert_eq!(back.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
    let child = Process::spawn(work, (sender,)).unwrap();
    (0..3).for_each(|number| assert_eq!(receiver.recv_timeout(SOON).unwrap(), number));
    assert!(matches!(receiver.recv_timeout(SOON), Err(PipeError::Ended)));
    child.join_timeout(SOON).unwrap();
}

// Deadlines -------------------------------------------------------------------------------------

#[test]
fn receiving_ends_at_its_deadline_also_behind_another_thread() {
    let _guard = guard();
    let (here, there) = Pipe::<u32, u32>::pair().unwrap();
    assert!(matches!(taking(SHORT, || here.recv_timeout(SHORT)), Err(PipeError::Timeout)));
    thread::scope(|scope| {
        let first = scope.spawn(|| here.recv());
        eventually("it is its turn", || {
            matches!(here.recv_timeout(Duration::from_millis(1)), Err(PipeError::Timeout))
        });
        assert!(matches!(taking(SHORT, || here.recv_timeout(SHORT)), Err(PipeError::Timeout)));
        there.send(&5).unwrap();
        assert_eq!(first.join().unwrap().unwrap(), 5);
    });
}

#[test]
fn sending_in_vain_ends_at_the_deadline_and_breaks_the_pipe_if_a_part_is_out() {
    let _guard = guard();
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    let message = patterned(64 * MIB);
    let sent = taking(SHORT, || here.send_bytes_timeout(&message, SHORT));
    assert!(matches!(sent, Err(PipeError::Timeout)));
    assert!(matches!(here.send_bytes(b"x"), Err(PipeError::Broken)));
    assert!(matches!(there.recv_bytes_timeout(SHORT), Err(PipeError::Timeout)));
    drop(here);
    assert!(matches!(there.recv_bytes_timeout(SOON), Err(PipeError::CutShort)));
}

#[test]
fn sending_without_waiting_sends_all_of_a_message_or_nothing() {
    let _guard = guard();
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    let limit = match here.try_send_bytes(&patterned(64 * MIB)) {
        Err(PipeError::TooLong { bytes, limit }) if bytes == 64 * MIB as u64 => limit as usize,
        sent => panic!("{sent:?}"),
    };
    let mut random = Random::seeded();
    for length in [1, 1000, limit] {
        let mut sent = Vec::new();
        let full = loop {
            let bytes = patterned(random.below(length as u64 + 1) as usize);
            match here.try_send_bytes(&bytes) {
                Ok(()) => sent.push(bytes),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, PipeError::Timeout), "{full}");
        assert!(sent.len() > 1, "{length}");
        sent.into_iter().for_each(|bytes| assert!(there.recv_bytes().unwrap() == bytes));
        assert!(!there.try_poll().unwrap());
    }
    here.try_send_bytes(&patterned(limit)).unwrap();
    assert!(there.recv_bytes().unwrap() == patterned(limit));
}

#[test]
fn threads_at_both_ends_garble_nothing() {
    let _guard = guard();
    type End = Pipe<(u32, Vec<u8>), (u32, Vec<u8>)>;
    let (here, there) = End::pair().unwrap();
    const EACH: u32 = 100;
    let received = std::sync::Mutex::new(BTreeSet::new());
    let work = |end: &End, from: u32| {
        for number in from..from + EACH {
            let length = if number % 10 == 0 { 300_000 } else { number as usize };
            end.send(&(number, patterned(length))).unwrap();
        }
    };
    let take = |end: &End| {
        for _ in 0..EACH {
            let (number, bytes) = end.recv_timeout(SOON).unwrap();
            assert!(bytes == patterned(bytes.len()));
            assert!(received.lock().unwrap().insert(number));
        }
    };
    thread::scope(|scope| {
        for (place, end) in [&here, &here, &there, &there].into_iter().enumerate() {
            scope.spawn(move || work(end, place as u32 * EACH));
            scope.spawn(move || take(end));
        }
    });
    assert_eq!(received.into_inner().unwrap().len() as u32, 4 * EACH);
}

// Signals and deaths ----------------------------------------------------------------------------

/// How many signals have come to a thread [in a storm](in_a_storm).
static CAUGHT: AtomicU64 = AtomicU64::new(0);

/// Has signals come to this thread while `work` runs, in whichever system call it is.
fn in_a_storm<R>(work: impl FnOnce() -> R) -> R {
    extern "C" fn catch(_: std::ffi::c_int) {
        CAUGHT.fetch_add(1, Relaxed);
    }
    // Without SA_RESTART: each signal interrupts the system call.
    let action = SigAction::new(SigHandler::Handler(catch), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler counts, which is all that it does.
    let old = unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
    let (target, over) = (pthread_self(), AtomicBool::new(false));
    let result = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                pthread_kill(target, Signal::SIGUSR1).unwrap();
                thread::sleep(Duration::from_micros(200));
            }
        });
        let result = catch_unwind(AssertUnwindSafe(work));
        over.store(true, Relaxed);
        result
    });
    // SAFETY: it is what was there before.
    unsafe { sigaction(Signal::SIGUSR1, &old) }.unwrap();
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

#[test]
fn signals_during_a_blocking_receive_and_send_lose_nothing() {
    let _guard = guard();
    /// Receives and sends back, each when it may.
    fn echo_when_told(pipe: Pipe<(), ()>, may: Semaphore) {
        may.acquire();
        let bytes = pipe.recv_bytes().unwrap();
        may.acquire();
        pipe.send_bytes(&bytes).unwrap();
    }
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    let may = Semaphore::new(0).unwrap();
    let child = Process::spawn(echo_when_told, (there, may.clone())).unwrap();
    let bytes = patterned(16 * MIB);
    thread::scope(|scope| {
        // Lets the other process do something only when signals have come in vain for a while.
        scope.spawn(|| {
            for _ in 0..2 {
                let before = CAUGHT.load(Relaxed);
                eventually("signals come", || CAUGHT.load(Relaxed) > before + 100);
                may.release(1);
            }
        });
        let back = in_a_storm(|| {
            here.send_bytes(&bytes).unwrap();
            here.recv_bytes().unwrap()
        });
        assert!(back == bytes);
    });
    child.join_timeout(SOON).unwrap();
    let nothing = in_a_storm(|| here.recv_bytes_timeout(SHORT));
    assert!(matches!(nothing, Err(PipeError::Ended)));
    let (here, _there) = Pipe::<(), ()>::pair().unwrap();
    let nothing = taking(SHORT, || in_a_storm(|| here.recv_bytes_timeout(SHORT)));
    assert!(matches!(nothing, Err(PipeError::Timeout)));
}

#[test]
fn sender_killed_in_the_middle_of_a_message_cuts_it_short() {
    let _guard = guard();
    fn work(pipe: Pipe<u32, ()>) {
        pipe.send(&1).unwrap();
        pipe.send_bytes(&patterned(64 * MIB)).unwrap();
    }
    for into in [false, true] {
        let (here, there) = Pipe::pair().unwrap();
        let child = Process::spawn(work, (there,)).unwrap();
        assert_eq!(here.recv_timeout(SOON).unwrap(), 1);
        assert!(matches!(here.recv_bytes_timeout(SHORT / 50), Err(PipeError::Timeout)));
        asleep(&child);
        kill(&child);
        let mut buffer = vec![0; if into { 64 * MIB } else { 0 }];
        for _ in 0..2 {
            let error = match into {
                false => here.recv_bytes().unwrap_err(),
                true => here.recv_bytes_into(&mut buffer).unwrap_err(),
            };
            assert!(matches!(error, PipeError::CutShort), "{error}");
        }
        assert!(matches!(here.send_bytes(b"x"), Err(PipeError::Ended)));
    }
}

#[test]
fn sender_killed_between_messages_loses_none() {
    let _guard = guard();
    fn work(pipe: Pipe<u32, Infallible>, ready: Queue<()>) {
        (0..1000).for_each(|number| pipe.send(&number).unwrap());
        ready.send(()).unwrap();
        multiproc::Event::new().unwrap().wait();
    }
    let (sender, receiver) = Pipe::simplex().unwrap();
    let ready = Queue::bounded(1).unwrap();
    let child = Process::spawn(work, (sender, ready.clone())).unwrap();
    kill_when_ready(&child, &ready);
    (0..1000).for_each(|number| assert_eq!(receiver.recv().unwrap(), number));
    assert!(matches!(receiver.recv(), Err(PipeError::Ended)));
}

#[test]
fn receiver_killed_while_a_sender_is_blocked_ends_the_send() {
    let _guard = guard();
    fn work(_pipe: Pipe<(), ()>, ready: Queue<()>) {
        ready.send(()).unwrap();
        multiproc::Event::new().unwrap().wait();
    }
    let (here, there) = Pipe::<(), ()>::pair().unwrap();
    let ready = Queue::bounded(1).unwrap();
    let child = Process::spawn(work, (there, ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    thread::scope(|scope| {
        let sender = scope.spawn(|| here.send_bytes(&patterned(64 * MIB)));
        thread::sleep(SHORT);
        kill(&child);
        assert!(matches!(sender.join().unwrap(), Err(PipeError::Ended)));
    });
    assert!(matches!(here.send_bytes(b"x"), Err(PipeError::Ended)), "and so does the next one");
}

// Descriptors -----------------------------------------------------------------------------------

#[derive(Serialize, Deserialize)]
struct Luggage {
    what: String,
    file: Descriptor,
    pipe: Pipe<String, u32>,
    none: Option<Descriptor>,
}

fn porter(pipe: Pipe<u64, Luggage>, count: Counter) {
    while let Ok(luggage) = pipe.recv() {
        let mut file = File::from(OwnedFd::from(luggage.file));
        writeln!(file, "{} from {}", luggage.what, std::process::id()).unwrap();
        assert!(luggage.none.is_none());
        let number = luggage.pipe.recv().unwrap();
        luggage.pipe.send(&format!("{number} for {}", luggage.what)).unwrap();
        count.add(1);
    }
}

#[test]
fn descriptors_and_pipes_sent_through_a_pipe_work_there() {
    let _guard = guard();
    let directory = support::scratch();
    let path = directory.path().join("file");
    leaving_none_open(|| {
        let (here, there) = Pipe::pair().unwrap();
        let count = Counter::new().unwrap();
        let child = Process::spawn(porter, (there, count.clone())).unwrap();
        for number in 0..20 {
            let (mine, yours) = Pipe::<u32, String>::pair().unwrap();
            let file = File::options().create(true).append(true).open(&path).unwrap();
            let what = format!("item {number}");
            let file = Descriptor::new(file);
            here.send(&Luggage { what, file, pipe: yours, none: None }).unwrap();
            mine.send(&number).unwrap();
            assert_eq!(mine.recv_timeout(SOON).unwrap(), format!("{number} for item {number}"));
            assert!(matches!(mine.recv_timeout(SOON), Err(PipeError::Ended)));
        }
        drop(here);
        let pid = child.pid();
        child.join_timeout(SOON).unwrap();
        assert_eq!(count.get(), 20);
        let lines = (0..20).map(|number| format!("item {number} from {pid}\n"));
        assert_eq!(fs::read_to_string(&path).unwrap(), lines.collect::<String>());
    });
}

#[test]
fn descriptor_as_an_argument_of_a_child_works_there() {
    let _guard = guard();
    fn work(end: Descriptor) {
        let mut stream = UnixStream::from(OwnedFd::from(end));
        stream.write_all(b"from the child").unwrap();
    }
    leaving_none_open(|| {
        let (mut here, there) = UnixStream::pair().unwrap();
        Process::spawn(work, (Descriptor::new(there),)).unwrap().join_timeout(SOON).unwrap();
        let mut text = String::new();
        here.read_to_string(&mut text).unwrap();
        assert_eq!(text, "from the child");
    });
}

#[test]
fn descriptors_received_are_closed_on_exec_and_closed_when_they_are_thrown_away() {
    let _guard = guard();
    leaving_none_open(|| {
        let (here, there) = Pipe::<Vec<Descriptor>, Vec<Descriptor>>::pair().unwrap();
        let null = || Descriptor::new(File::open("/dev/null").unwrap());
        let seven = || (0..7).map(|_| null()).collect::<Vec<_>>();
        let before = open_now().len();
        here.send(&seven()).unwrap();
        let came = there.recv().unwrap();
        for one in &came {
            let flags = FdFlag::from_bits_truncate(fcntl(one, FcntlArg::F_GETFD).unwrap());
            assert!(flags.contains(FdFlag::FD_CLOEXEC));
        }
        assert_eq!((came.len(), open_now().len()), (7, before + 7));
        drop(came);
        // Received as bytes, decoded as something else, skipped, or never received.
        here.send(&seven()).unwrap();
        there.recv_bytes().unwrap();
        assert_eq!(open_now().len(), before);
        here.send(&seven()).unwrap();
        there.set_limit(3);
        assert!(matches!(there.recv(), Err(PipeError::TooLong { .. })));
        there.set_limit(u64::MAX);
        here.send(&seven()).unwrap();
        assert_eq!(there.recv().unwrap().len(), 7);
        assert_eq!(open_now().len(), before);
        here.send(&seven()).unwrap();
        assert!(there.try_poll().unwrap());
    });
}

#[test]
fn message_of_another_type_closes_the_descriptors_that_came_with_it() {
    let _guard = guard();
    leaving_none_open(|| {
        let (here, there) = UnixStream::pair().unwrap();
        let (here, there) =
            (Pipe::<(Descriptor, u8), ()>::from(here), Pipe::<(), String>::from(there));
        here.send(&(Descriptor::new(File::open("/dev/null").unwrap()), 200)).unwrap();
        let before = open_now().len();
        assert!(matches!(there.recv(), Err(PipeError::Message(_))));
        assert_eq!(open_now().len(), before);
    });
}

#[test]
fn as_many_descriptors_go_with_a_message_as_the_kernel_takes() {
    let _guard = guard();
    leaving_none_open(|| {
        let (here, there) = Pipe::<Vec<Descriptor>, Vec<Descriptor>>::pair().unwrap();
        let null = |_| Descriptor::new(File::open("/dev/null").unwrap());
        here.send(&(0..253).map(null).collect()).unwrap();
        assert_eq!(there.recv().unwrap().len(), 253);
        let error = here.send(&(0..254).map(null).collect()).unwrap_err();
        assert!(matches!(error, PipeError::TooManyDescriptors { descriptors: 254 }), "{error}");
        here.send(&vec![]).unwrap();
        assert_eq!(there.recv().unwrap().len(), 0, "nothing was sent of it");
    });
}

/// Writes bytes to a stream, and a descriptor with them.
fn write_with(stream: &UnixStream, bytes: &[u8], count: usize) {
    let null = File::open("/dev/null").unwrap();
    let descriptors = vec![null.as_raw_fd(); count];
    let control = [ControlMessage::ScmRights(&descriptors)];
    let control = if count > 0 { &control[..] } else { &[] };
    let parts = [IoSlice::new(bytes)];
    let sent = sendmsg::<()>(stream.as_raw_fd(), &parts, control, MsgFlags::empty(), None);
    assert_eq!(sent.unwrap(), bytes.len());
}

#[test]
fn descriptors_that_did_not_come_or_came_unannounced_are_an_error_of_that_message() {
    let _guard = guard();
    leaving_none_open(|| {
        for (promised, came) in [(1, 0), (2, 1), (0, 1), (1, 2)] {
            let (here, there) = with_stream::<(), ()>();
            let before = open_now().len();
            // All that are read at once, and the odd one in the middle of them.
            let one = |byte| [header(0, 1), vec![byte]].concat();
            write_with(&there, &one(b'a'), 0);
            write_with(&there, &[header(promised, 1), vec![b'b']].concat(), came);
            write_with(&there, &one(b'c'), 0);
            assert_eq!(here.recv_bytes().unwrap(), b"a");
            let odd = here.recv_bytes().unwrap_err();
            assert!(matches!(odd, PipeError::Message(Error::Malformed(_))), "{odd}");
            assert_eq!(here.recv_bytes().unwrap(), b"c");
            assert_eq!(open_now().len(), before, "{promised} promised, {came} came");
        }
    });
}

#[test]
fn descriptors_for_which_the_process_has_no_room_are_an_error_of_that_message() {
    let _guard = guard();
    fn work(pipe: Pipe<(), (u32, Vec<Descriptor>)>) -> (bool, u32) {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, open_now().len() as u64 + 3, hard).unwrap();
        let first = pipe.recv();
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        (matches!(first, Err(PipeError::Message(Error::Malformed(_)))), pipe.recv().unwrap().0)
    }
    let (here, there) = Pipe::pair().unwrap();
    let null = |_| Descriptor::new(File::open("/dev/null").unwrap());
    here.send(&(1, (0..100).map(null).collect())).unwrap();
    here.send(&(2, (0..100).map(null).collect())).unwrap();
    let child = Process::spawn(work, (there,)).unwrap();
    assert_eq!(child.join_timeout(SOON).unwrap(), (true, 2));
}

#[test]
fn value_that_names_a_descriptor_which_did_not_come_is_an_error() {
    let _guard = guard();
    let (here, there) = Pipe::<Descriptor, Descriptor>::pair().unwrap();
    here.send(&Descriptor::new(File::open("/dev/null").unwrap())).unwrap();
    let named = there.recv_bytes().unwrap();
    here.send_bytes(&named).unwrap();
    let error = there.recv().unwrap_err();
    assert!(matches!(error, PipeError::Message(_)) && error.to_string().contains("did not come"));
}

#[test]
fn pipe_that_has_read_ahead_takes_along_what_was_not_received() {
    let _guard = guard();
    fn work(pipe: Pipe<(), (u32, Option<Descriptor>)>) -> Vec<u32> {
        let received = std::iter::from_fn(|| pipe.recv().ok());
        received.map(|(number, file)| number * 10 + u32::from(file.is_some())).collect()
    }
    let file = || Some(Descriptor::new(File::open("/dev/null").unwrap()));
    leaving_none_open(|| {
        let (here, there) = Pipe::<(u32, Option<Descriptor>), ()>::pair().unwrap();
        let (mine, yours) = Pipe::<Pipe<(), (u32, Option<Descriptor>)>, ()>::pair().unwrap();
        for number in 0..6 {
            here.send(&(number, (number % 2 == 1).then(file).flatten())).unwrap();
        }
        // It has read others with it, and polling has read one more.
        assert_eq!(there.recv().unwrap().0, 0);
        assert!(there.try_poll().unwrap());
        mine.send(&there).unwrap();
        drop(there);
        let there = yours.recv().unwrap();
        assert!(there.recv().unwrap().1.is_some());
        assert!(there.try_poll().unwrap());
        let child = Process::spawn(work, (there,)).unwrap();
        here.send(&(6, None)).unwrap();
        drop(here);
        assert_eq!(child.join_timeout(SOON).unwrap(), [20, 31, 40, 51, 60]);
    });
}

#[test]
fn descriptor_through_a_queue_is_refused_with_a_reason() {
    let _guard = guard();
    let queue = Queue::<Descriptor>::bounded(1).unwrap();
    let error = queue.send(Descriptor::new(File::open("/dev/null").unwrap())).unwrap_err();
    assert!(error.to_string().contains("through a pipe"), "{error}");
}

// Peers that write something else ---------------------------------------------------------------

#[test]
fn stream_cut_anywhere_is_cut_short_and_nothing_else() {
    let _guard = guard();
    let frame = [header(0, 40), patterned(40)].concat();
    for length in 0..=frame.len() {
        let (here, mut there) = with_stream::<(), ()>();
        there.write_all(&frame).unwrap();
        there.write_all(&frame[..length]).unwrap();
        drop(there);
        assert_eq!(here.recv_bytes().unwrap(), patterned(40));
        let second = here.recv_bytes();
        match length {
            0 => assert!(matches!(second, Err(PipeError::Ended))),
            56 => assert_eq!(second.unwrap(), patterned(40)),
            _ => assert!(matches!(second, Err(PipeError::CutShort)), "{length} bytes: {second:?}"),
        }
    }
}

#[test]
fn garbage_is_an_error_and_stays_one() {
    let _guard = guard();
    for text in
        ["GET / HTTP/1.1\r\n\r\n", "MPP2ninetofivexxxxxx", "MPP1\u{7f}\u{7f}\u{7f}\u{7f}xxxxxxxx"]
    {
        let (here, mut there) = with_stream::<(), u64>();
        there.write_all(text.as_bytes()).unwrap();
        for _ in 0..2 {
            assert!(here.try_poll().unwrap());
            let error = here.recv_timeout(SOON).unwrap_err();
            assert!(matches!(error, PipeError::Garbled), "{text}: {error}");
        }
    }
}

#[test]
fn anything_written_over_a_message_is_an_error_or_another_message() {
    let _guard = guard();
    let (sample, stream) = with_stream::<(u32, String, Vec<u64>), ()>();
    sample.send(&(7, "seven".into(), vec![7; 70])).unwrap();
    let mut frame = vec![0; 4096];
    let length = (&stream).read(&mut frame).unwrap();
    frame.truncate(length);
    let mut random = Random::seeded();
    for round in 0..20_000 {
        let (here, mut there) = with_stream::<(), (u32, String, Vec<u64>)>();
        let mut changed = frame.clone();
        for _ in 0..=random.below(3) {
            let place = random.below(changed.len() as u64) as usize;
            changed[place] = random.below(256) as u8;
        }
        there.write_all(&changed).unwrap();
        drop(there);
        // Whatever comes of it, it comes, and takes little memory.
        let came: Vec<_> = (0..3).map(|_| here.recv().map(drop)).collect();
        assert!(came[2].is_err(), "round {round}: {came:?}");
    }
}
