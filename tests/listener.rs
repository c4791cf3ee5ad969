//! Listeners and clients: processes that find each other by an address, some of which are killed, say
//! nothing, or don't know the key.
//!
//! Held against Python's `Listener` and `Client`. Where these differ on purpose:
//!
//! | Python | here |
//! |---|---|
//! | a killed listener's socket file must be removed by hand | the next listener takes it over |
//! | who connects and says nothing blocks `accept` for ever | others are accepted meanwhile |
//! | any user may connect whom the file lets | only the same user, unless it is said |
//! | who closes in the middle of the authentication is an `EOFError` of `accept` | it is forgotten |

use std::fs;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use multiproc::{
    Address, AddressError, Barrier, Client, ConnectError, Counter, Event, Listener, PipeError,
    Process, Queue, Spawner, StartMethod, Users,
};
use multiproc_sys::host;
use multiproc_sys::pidfd::PidFd;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use support::{Random, SHORT, SOON, eventually, guard, kill_when_ready, leaving_none_open, taking};

multiproc::init_before_main!();

type Server = Listener<String, u32>;

const KEY: &[u8] = b"correct horse battery staple";

/// A name that nobody else uses.
fn name_of(what: &str) -> String {
    format!("@multiproc-tests.{}.{what}", std::process::id())
}

fn connect(address: &Address) -> Result<multiproc::Pipe<u32, String>, ConnectError> {
    Client::new(address).connect_timeout(SOON)
}

fn names_in(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Connects, and has its number doubled.
fn visit(address: String, key: Option<Vec<u8>>, number: u32) -> String {
    let address = address.parse().unwrap();
    let client = Client::new(&address);
    let client = key.iter().fold(client, |client, key| client.key(key));
    let pipe = client.connect_timeout::<u32, String>(SOON).unwrap();
    pipe.send(&number).unwrap();
    pipe.recv_timeout(SOON).unwrap()
}

#[test]
fn processes_talk_by_path_and_by_name_with_and_without_a_key() {
    let _guard = guard();
    let directory = support::scratch();
    let path = directory.path().join("socket").display().to_string();
    leaving_none_open(|| {
        for (place, key) in
            [(path, None), (name_of("talk"), None), (name_of("key"), Some(KEY.to_vec()))]
        {
            let address: Address = place.parse().unwrap();
            let builder = Server::builder(&address);
            let listener = key.iter().fold(builder, |it, key| it.key(key)).bind().unwrap();
            let visits = (0..4).map(|it| (it, place.clone(), key.clone()));
            let children: Vec<_> = visits
                .map(|(number, place, key)| Process::spawn(visit, (place, key, number)).unwrap())
                .collect();
            for _ in &children {
                let pipe = listener.accept_timeout(SOON).unwrap();
                let number = pipe.recv_timeout(SOON).unwrap();
                let peer = pipe.peer().unwrap();
                assert_eq!(peer.pid, Some(children[number as usize].pid()));
                assert_eq!(peer.uid, host::effective_user());
                pipe.send(&format!("{}", 2 * number)).unwrap();
            }
            for (number, child) in children.into_iter().enumerate() {
                assert_eq!(child.join_timeout(SOON).unwrap(), format!("{}", 2 * number));
            }
        }
    });
    assert_eq!(names_in(directory.path()), [""; 0]);
}

#[test]
fn peer_that_ends_is_told_by_its_pidfd() {
    let _guard = guard();
    fn stay(place: String) {
        let pipe = connect(&place.parse().unwrap()).unwrap();
        let _ = pipe.recv();
    }
    let place = name_of("pidfd");
    let listener = Server::bind(&place.parse().unwrap()).unwrap();
    let child = Process::spawn(stay, (place,)).unwrap();
    let pipe = listener.accept_timeout(SOON).unwrap();
    let Some(pidfd) = pipe.peer().unwrap().pidfd else {
        support::say("skipped: this kernel gives no pidfd of a peer");
        drop(pipe);
        return child.join_timeout(SOON).unwrap();
    };
    assert!(!multiproc_sys::poll::readable(&pidfd, deadline(SHORT)).unwrap());
    drop(pipe);
    assert!(multiproc_sys::poll::readable(&pidfd, deadline(SOON)).unwrap());
    child.join_timeout(SOON).unwrap();
}

fn deadline(timeout: Duration) -> Option<multiproc_sys::clock::Deadline> {
    Some(multiproc_sys::clock::Deadline::after(timeout))
}

// Addresses -------------------------------------------------------------------------------------

#[test]
fn address_that_is_too_long_says_how_long() {
    let _guard = guard();
    let directory = support::scratch();
    let error = Address::path(directory.path().join("x".repeat(200))).unwrap_err();
    assert!(matches!(error, AddressError::TooLong { bytes: 200.., .. }), "{error}");
    assert!(error.to_string().contains("shorter"), "{error}");
}

#[test]
fn socket_file_is_for_its_user_unless_it_is_said() {
    let _guard = guard();
    let directory = support::scratch();
    let address = Address::path(directory.path().join("socket")).unwrap();
    for (builder, mode) in
        [(Server::builder(&address), 0o600), (Server::builder(&address).mode(0o666), 0o666)]
    {
        let _listener = builder.bind().unwrap();
        let found = fs::metadata(address.as_path().unwrap()).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode);
        connect(&address).unwrap();
    }
}

#[test]
fn nobody_at_an_address_is_an_error_at_once() {
    let _guard = guard();
    let directory = support::scratch();
    let path = directory.path().join("socket");
    for address in [Address::path(&path).unwrap(), name_of("nobody").parse().unwrap()] {
        for connected in [
            Client::new(&address).connect::<(), ()>(),
            Client::new(&address).try_connect(),
            Client::new(&address).connect_timeout(SOON),
        ] {
            let error = connected.unwrap_err();
            assert!(matches!(error, ConnectError::NobodyListens { .. }), "{error}");
            assert!(error.to_string().contains(&address.to_string()), "{error}");
        }
    }
}

#[test]
fn second_listener_is_told_that_the_address_is_in_use() {
    let _guard = guard();
    fn try_bind(place: String) -> bool {
        matches!(Server::bind(&place.parse().unwrap()), Err(ConnectError::InUse { .. }))
    }
    let directory = support::scratch();
    let path = directory.path().join("socket").display().to_string();
    for place in [path, name_of("second")] {
        let address = place.parse().unwrap();
        let listener = Server::bind(&address).unwrap();
        let error = Server::bind(&address).unwrap_err();
        assert!(matches!(error, ConnectError::InUse { .. }), "{error}");
        let child = Process::spawn(try_bind, (place,)).unwrap();
        assert!(child.join_timeout(SOON).unwrap());
        let _pipe = connect(&address).unwrap();
        listener.accept_timeout(SOON).unwrap();
        drop(listener);
        Server::bind(&address).unwrap();
    }
    assert_eq!(names_in(directory.path()), [""; 0]);
}

#[test]
fn listener_of_another_program_and_what_is_no_socket_are_left_alone() {
    let _guard = guard();
    let directory = support::scratch();
    let path = directory.path().join("theirs");
    let theirs = UnixListener::bind(&path).unwrap();
    let error = Server::bind(&Address::path(&path).unwrap()).unwrap_err();
    assert!(matches!(error, ConnectError::InUse { .. }), "{error}");
    UnixStream::connect(&path).unwrap();
    drop(theirs);
    let path = directory.path().join("file");
    fs::write(&path, "precious").unwrap();
    let error = Server::bind(&Address::path(&path).unwrap()).unwrap_err();
    assert!(matches!(error, ConnectError::Occupied { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    assert_eq!(names_in(directory.path()), ["file", "theirs"]);
}

#[test]
fn socket_of_a_killed_listener_is_taken_over() {
    let _guard = guard();
    fn listen(place: String, ready: Queue<()>) {
        let _listener = Server::bind(&place.parse().unwrap()).unwrap();
        ready.send(()).unwrap();
        Event::new().unwrap().wait();
    }
    let directory = support::scratch();
    let path = directory.path().join("socket").display().to_string();
    for place in [path, name_of("killed")] {
        let address: Address = place.parse().unwrap();
        let ready = Queue::bounded(1).unwrap();
        for _ in 0..5 {
            let child = Process::spawn(listen, (place.clone(), ready.clone())).unwrap();
            kill_when_ready(&child, &ready);
            assert!(matches!(connect(&address), Err(ConnectError::NobodyListens { .. })));
        }
        let listener = Server::bind(&address).unwrap();
        let _pipe = connect(&address).unwrap();
        listener.accept_timeout(SOON).unwrap();
    }
    assert_eq!(names_in(directory.path()), [""; 0]);
}

#[test]
fn of_many_who_take_over_at_once_one_listens() {
    let _guard = guard();
    const PROCESSES: usize = 4;
    const ROUNDS: usize = 50;
    fn contend(place: String, start: Barrier, end: Barrier, won: Counter) {
        let address = place.parse().unwrap();
        for _ in 0..ROUNDS {
            start.wait().unwrap();
            let listener = match Server::bind(&address) {
                Ok(listener) => {
                    won.add(1);
                    Some(listener)
                }
                Err(ConnectError::InUse { .. }) => None,
                Err(error) => panic!("{error}"),
            };
            end.wait().unwrap();
            listener.into_iter().for_each(leave_files);
        }
    }
    /// Closes the socket as a death does: its file stays, by having another name meanwhile.
    fn leave_files(listener: Server) {
        let path = listener.address().as_path().unwrap().to_owned();
        let kept = path.with_extension("kept");
        fs::rename(&path, &kept).unwrap();
        drop(listener);
        fs::rename(&kept, &path).unwrap();
    }
    let directory = support::scratch();
    let place = directory.path().join("socket").display().to_string();
    let barriers = [(); 2].map(|()| Barrier::new(PROCESSES as u32).unwrap());
    let won = Counter::new().unwrap();
    let children: Vec<_> = (0..PROCESSES)
        .map(|_| {
            let [start, end] = barriers.clone();
            Process::spawn(contend, (place.clone(), start, end, won.clone())).unwrap()
        })
        .collect();
    children.into_iter().for_each(|child| child.join_timeout(SOON).unwrap());
    assert_eq!(won.get(), ROUNDS as i64, "one in each round");
}

#[test]
fn listeners_that_come_and_go_and_are_killed_never_overlap() {
    let _guard = guard();
    fn come_and_go(place: String, inside: Counter, overlaps: Counter, stop: Event) -> u32 {
        let address: Address = place.parse().unwrap();
        let mut times = 0;
        while !stop.is_set() {
            let Ok(listener) = Server::bind(&address) else { continue };
            // Who can connect must get to this listener, and to no other one.
            if let Ok(pipe) = connect(&address) {
                let own = pipe.peer().unwrap().pid == Some(std::process::id());
                overlaps.add(i64::from(!own));
                overlaps.add(i64::from(listener.accept_timeout(SOON).is_err()));
            } else {
                overlaps.add(1);
            }
            inside.add(1);
            times += 1;
        }
        times
    }
    let mut random = Random::seeded();
    let directory = support::scratch();
    let place = directory.path().join("socket").display().to_string();
    let (inside, overlaps) = (Counter::new().unwrap(), Counter::new().unwrap());
    let stop = Event::new().unwrap();
    let start = || {
        let shared = (place.clone(), inside.clone(), overlaps.clone(), stop.clone());
        Process::spawn(come_and_go, shared).unwrap()
    };
    let mut children: Vec<_> = (0..4).map(|_| start()).collect();
    for _ in 0..30 {
        let before = inside.get();
        eventually("somebody listens again", || inside.get() > before);
        random.pause(Duration::from_millis(2));
        let victim = random.below(4) as usize;
        let victim = std::mem::replace(&mut children[victim], start());
        // It may not even have begun.
        victim.child().kill().unwrap();
        assert!(victim.join_timeout(SOON).is_err());
    }
    stop.set();
    for child in children {
        child.join_timeout(SOON).unwrap();
    }
    assert_eq!(overlaps.get(), 0);
}

#[test]
fn files_go_with_the_process_that_made_them_and_with_no_other() {
    let _guard = guard();
    let directory = support::scratch();
    let address = Address::path(directory.path().join("socket")).unwrap();
    let listener = Server::bind(&address).unwrap();
    // SAFETY: the child drops what was made before, and exits without destructors.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            drop(listener);
            // SAFETY: it only ends the process.
            unsafe { nix::libc::_exit(0) }
        }
        ForkResult::Parent { child } => {
            assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0));
        }
    }
    assert_eq!(names_in(directory.path()), ["socket", "socket.lock"]);
    let _pipe = connect(&address).unwrap();
    listener.accept_timeout(SOON).unwrap();
    drop(listener);
    assert_eq!(names_in(directory.path()), [""; 0]);
}

#[test]
fn listener_that_is_dropped_is_gone_although_a_forked_child_lives() {
    let _guard = guard();
    fn wait_for(event: Event) {
        event.wait();
    }
    // A process that has no other threads, as a fork wants it.
    fn listen_and_fork(place: String) {
        let (address, over) = (place.parse().unwrap(), Event::new().unwrap());
        let listener = Server::bind(&address).unwrap();
        let fork = Spawner::new().method(StartMethod::Fork);
        let child = fork.spawn(wait_for, (over.clone(),)).unwrap();
        support::asleep(&child);
        drop(listener);
        let again = Server::bind(&address).unwrap();
        let _pipe = connect(&address).unwrap();
        again.accept_timeout(SOON).unwrap();
        over.set();
        child.join_timeout(SOON).unwrap();
    }
    let directory = support::scratch();
    let path = directory.path().join("socket").display().to_string();
    for place in [path, name_of("forked")] {
        let child = Process::spawn(listen_and_fork, (place,)).unwrap();
        child.join_timeout(SOON).unwrap();
    }
    assert_eq!(names_in(directory.path()), [""; 0]);
}

// Waiting ---------------------------------------------------------------------------------------

#[test]
fn accepting_ends_at_its_deadline() {
    let _guard = guard();
    let address = name_of("deadline").parse().unwrap();
    for key in [None, Some(KEY)] {
        let builder = key.into_iter().fold(Server::builder(&address), |it, key| it.key(key));
        let listener = builder.bind().unwrap();
        let timed_out = |accepted| matches!(accepted, Err(ConnectError::Timeout { .. }));
        assert!(timed_out(listener.try_accept()));
        assert!(timed_out(taking(SHORT, || listener.accept_timeout(SHORT))));
        let _silent = raw(&address);
        if key.is_some() {
            assert!(timed_out(taking(SHORT, || listener.accept_timeout(SHORT))));
        }
    }
}

#[test]
fn connecting_to_a_full_listener_waits_until_there_is_room() {
    let _guard = guard();
    let address: Address = name_of("full").parse().unwrap();
    let listener = Server::builder(&address).backlog(1).bind().unwrap();
    let client = Client::new(&address);
    let waiting: Vec<_> =
        std::iter::from_fn(|| client.try_connect::<u32, String>().ok()).take(100).collect();
    assert!((1..100).contains(&waiting.len()), "{}", waiting.len());
    let full = taking(SHORT, || client.connect_timeout::<u32, String>(SHORT));
    assert!(matches!(full, Err(ConnectError::Timeout { .. })));
    thread::scope(|scope| {
        let late = scope.spawn(|| client.connect::<u32, String>());
        (0..=waiting.len()).for_each(|_| drop(listener.accept_timeout(SOON).unwrap()));
        late.join().unwrap().unwrap();
    });
}

// Who is let in ---------------------------------------------------------------------------------

/// A bare connection.
fn raw(address: &Address) -> UnixStream {
    match address.to_string().strip_prefix('@') {
        Some(name) => {
            UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
        }
        None => UnixStream::connect(address.to_string()).unwrap(),
    }
}

#[test]
fn wrong_key_fails_on_both_sides_and_the_listener_goes_on() {
    let _guard = guard();
    fn knock(place: String, key: Vec<u8>) -> bool {
        let address = place.parse().unwrap();
        let connected = Client::new(&address).key(&key).connect_timeout::<(), ()>(SOON);
        matches!(connected, Err(ConnectError::AuthenticationFailed { .. }))
    }
    let place = name_of("wrong");
    let address = place.parse().unwrap();
    leaving_none_open(|| {
        let listener = Server::builder(&address).key(KEY).bind().unwrap();
        for wrong in [b"".as_slice(), b"wrong", &KEY[1..], &[0; 1000]] {
            let child = Process::spawn(knock, (place.clone(), wrong.to_vec())).unwrap();
            let accepted = listener.accept_timeout(SOON);
            let failed = matches!(accepted, Err(ConnectError::AuthenticationFailed { .. }));
            assert!(failed, "{accepted:?}");
            assert!(child.join_timeout(SOON).unwrap());
        }
        let child = Process::spawn(visit, (place.clone(), Some(KEY.to_vec()), 7)).unwrap();
        let pipe = listener.accept_timeout(SOON).unwrap();
        pipe.send(&format!("{}", pipe.recv_timeout(SOON).unwrap())).unwrap();
        assert_eq!(child.join_timeout(SOON).unwrap(), "7");
    });
}

#[test]
fn client_that_does_not_know_of_a_key_is_not_let_in() {
    let _guard = guard();
    let address = name_of("keyless").parse().unwrap();
    let listener = Server::builder(&address).key(KEY).bind().unwrap();
    let pipe = connect(&address).unwrap();
    pipe.send(&7).unwrap();
    let accepted = listener.accept_timeout(SOON);
    assert!(matches!(accepted, Err(ConnectError::AuthenticationFailed { .. })), "{accepted:?}");
}

/// Reads a message of a bare connection.
fn read_frame(stream: &mut UnixStream) -> Vec<u8> {
    let mut header = [0; 16];
    stream.read_exact(&mut header).unwrap();
    let mut body = vec![0; u64::from_le_bytes(header[8..].try_into().unwrap()) as usize];
    stream.read_exact(&mut body).unwrap();
    body
}

fn frame(length: u64, body: &[u8]) -> Vec<u8> {
    [b"MPP1\0\0\0\0".as_slice(), &length.to_le_bytes(), body].concat()
}

#[test]
fn listener_that_does_not_know_the_key_is_not_trusted() {
    let _guard = guard();
    let name = name_of("impostor");
    let address: Address = name.parse().unwrap();
    let bare = SocketAddr::from_abstract_name(&name[1..]).unwrap();
    let listener = UnixListener::bind_addr(&bare).unwrap();
    for proof in [vec![], vec![0; 32], vec![7; 300]] {
        thread::scope(|scope| {
            let client =
                scope.spawn(|| Client::new(&address).key(KEY).connect_timeout::<(), ()>(SOON));
            let (mut stream, _) = listener.accept().unwrap();
            let greeting = [b"multiproc authentication 1".as_slice(), &[5; 32]].concat();
            stream.write_all(&frame(greeting.len() as u64, &greeting)).unwrap();
            assert_eq!(read_frame(&mut stream).len(), 64);
            stream.write_all(&frame(proof.len() as u64, &proof)).unwrap();
            let connected = client.join().unwrap();
            let failed = matches!(connected, Err(ConnectError::AuthenticationFailed { .. }));
            assert!(failed, "{connected:?}");
        });
    }
}

#[test]
fn proof_of_one_connection_is_none_in_another_or_in_the_other_direction() {
    let _guard = guard();
    let address = name_of("replay").parse().unwrap();
    let listener = Server::builder(&address).key(KEY).bind().unwrap();
    // Somebody in the middle has a client answer the first challenge, and gives that to the second.
    let middle = name_of("middle");
    let between = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&middle[1..]).unwrap());
    let (between, middle) = (between.unwrap(), middle.parse().unwrap());
    thread::scope(|scope| {
        let client = scope.spawn(|| Client::new(&middle).key(KEY).connect_timeout::<(), ()>(SOON));
        let accepting = scope.spawn(|| [(); 2].map(|()| listener.accept_timeout(SOON)));
        let (mut victim, _) = between.accept().unwrap();
        let mut first = raw(&address);
        let challenge = read_frame(&mut first);
        victim.write_all(&frame(challenge.len() as u64, &challenge)).unwrap();
        let answer = read_frame(&mut victim);
        let mut second = raw(&address);
        let other = read_frame(&mut second);
        assert_ne!(challenge, other);
        second.write_all(&frame(answer.len() as u64, &answer)).unwrap();
        assert_eq!(read_frame(&mut second), b"", "refused");
        // Its own proof is not the listener's.
        victim.write_all(&frame(32, &answer[32..])).unwrap();
        assert!(client.join().unwrap().is_err());
        // Where it belongs, it is one.
        first.write_all(&frame(answer.len() as u64, &answer)).unwrap();
        assert_eq!(read_frame(&mut first).len(), 32);
        let [refused, accepted] = accepting.join().unwrap();
        assert!(matches!(refused, Err(ConnectError::AuthenticationFailed { .. })));
        accepted.unwrap();
    });
}

#[test]
fn long_messages_and_garbage_in_place_of_an_answer_are_refused() {
    let _guard = guard();
    let address = name_of("garbage").parse().unwrap();
    let listener = Server::builder(&address).key(KEY).bind().unwrap();
    for answer in [frame(257, &[0; 257]), frame(u64::MAX, b""), b"GET / HTTP/1.1\r\n\r\n".to_vec()]
    {
        let mut stream = raw(&address);
        stream.write_all(&answer).unwrap();
        let accepted = listener.accept_timeout(SOON);
        let failed = matches!(accepted, Err(ConnectError::AuthenticationFailed { .. }));
        assert!(failed, "{accepted:?}");
    }
}

#[test]
fn silent_clients_keep_nobody_out_and_are_sent_away_after_a_while() {
    let _guard = guard();
    let place = name_of("silent");
    let address = place.parse().unwrap();
    leaving_none_open(|| {
        let listener = Server::builder(&address).key(KEY).patience(SOON).bind().unwrap();
        let silent: Vec<_> = (0..10).map(|_| raw(&address)).collect();
        let child = Process::spawn(visit, (place.clone(), Some(KEY.to_vec()), 7)).unwrap();
        let pipe = listener.accept_timeout(SOON).unwrap();
        pipe.send(&"welcome".into()).unwrap();
        assert_eq!(child.join_timeout(SOON).unwrap(), "welcome");
        drop((silent, listener));
        // More than there is place for.
        let listener = Server::builder(&address).key(KEY).patience(SHORT).bind().unwrap();
        let begun = Instant::now();
        let mut silent: Vec<_> = (0..100).map(|_| raw(&address)).collect();
        let child = Process::spawn(visit, (place.clone(), Some(KEY.to_vec()), 7)).unwrap();
        let pipe = listener.accept_timeout(SOON).unwrap();
        assert!(begun.elapsed() >= SHORT, "somebody had to be sent away first");
        pipe.send(&"welcome".into()).unwrap();
        assert_eq!(child.join_timeout(SOON).unwrap(), "welcome");
        read_frame(&mut silent[0]);
        assert_eq!(silent[0].read(&mut [0]).unwrap(), 0, "it was sent away");
    });
}

#[test]
fn client_that_goes_in_the_middle_of_the_authentication_is_forgotten() {
    let _guard = guard();
    let address = name_of("gone").parse().unwrap();
    leaving_none_open(|| {
        let listener = Server::builder(&address).key(KEY).bind().unwrap();
        for said in [&b""[..], b"MPP1", &frame(64, &[0; 10])] {
            let mut stream = raw(&address);
            stream.write_all(said).unwrap();
            drop(stream);
            let accepted = listener.accept_timeout(SHORT);
            assert!(matches!(accepted, Err(ConnectError::Timeout { .. })), "{accepted:?}");
        }
    });
}

#[test]
fn processes_of_other_users_are_not_let_in_and_not_trusted() {
    let _guard = guard();
    let address = name_of("users").parse().unwrap();
    let ourselves = host::effective_user();
    let others = || Users::These(vec![ourselves + 1]);
    let listener = Server::builder(&address).users(others()).bind().unwrap();
    let pipe = connect(&address).unwrap();
    let error = listener.accept_timeout(SOON).unwrap_err();
    let is_us = matches!(error, ConnectError::OtherUser { uid, pid, .. }
        if (uid, pid) == (ourselves, std::process::id()));
    assert!(is_us, "{error}");
    assert!(matches!(pipe.recv_timeout(SOON), Err(PipeError::Ended)));
    let error = Client::new(&address).users(others()).connect::<(), ()>().unwrap_err();
    assert!(matches!(error, ConnectError::OtherUser { .. }), "{error}");
    drop(listener);
    for users in [Users::Any, Users::These(vec![ourselves]), Users::Same] {
        let listener = Server::builder(&address).users(users.clone()).bind().unwrap();
        let _pipe = Client::new(&address).users(users).connect::<u32, String>().unwrap();
        listener.accept_timeout(SOON).unwrap();
    }
}

#[test]
fn listener_killed_in_the_middle_of_the_authentication_refuses() {
    let _guard = guard();
    fn listen(place: String, ready: Queue<()>) {
        let _listener = Server::builder(&place.parse().unwrap()).key(KEY).bind().unwrap();
        ready.send(()).unwrap();
        Event::new().unwrap().wait();
    }
    let (place, ready) = (name_of("midway"), Queue::bounded(1).unwrap());
    let child = Process::spawn(listen, (place.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    thread::scope(|scope| {
        let address = place.parse().unwrap();
        let client = scope.spawn(move || Client::new(&address).key(KEY).connect::<(), ()>());
        thread::sleep(SHORT);
        PidFd::open(child.pid()).unwrap().signal(9).unwrap();
        let error = client.join().unwrap().unwrap_err();
        let ended =
            matches!(error, ConnectError::Refused { .. } | ConnectError::NobodyListens { .. });
        assert!(ended, "{error}");
    });
    assert!(child.join_timeout(SOON).is_err());
}
