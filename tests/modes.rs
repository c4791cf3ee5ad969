//! Queues of every mode, channels and `select`: what they hold, who is told of what, and what a death
//! costs.

use std::thread;
use std::time::{Duration, Instant};

use multiproc::{
    Array, Counter, Encoded, Error, Event, Inline, Process, Queue, Receiver, RecvError, Segment,
    SendError, Sender, Slices, channel, select_timeout, try_select,
};
use multiproc_ipc::testing;
use support::{Random, SOON, eventually, guard};

multiproc::init_before_main!();

/// How many are killed in a storm.
const KILLS: u64 = 60;
/// How long after they began, at most.
const MOMENT: Duration = Duration::from_millis(3);

/// Kills a child, and waits until it is dead and cleaned up after.
fn kill<R: serde::de::DeserializeOwned>(child: &Process<R>) {
    child.child().kill().unwrap();
    assert!(child.join_timeout(SOON).is_err(), "it does not end by itself");
}

// Inline ----------------------------------------------------------------------------------------

#[test]
fn inline_queue_of_any_capacity_is_exact_and_keeps_the_order() {
    let _guard = guard();
    for capacity in [1, 2, 3, 7, 64, 1000] {
        let queue = Queue::inline(capacity).unwrap();
        for lap in 0..3_u64 {
            for number in 0..capacity as u64 {
                queue.try_send([lap, number]).unwrap();
            }
            assert_eq!((queue.len(), queue.is_full()), (capacity, true));
            assert!(matches!(queue.try_send([9, 9]), Err(SendError::Full([9, 9]))));
            for number in 0..capacity as u64 {
                assert_eq!(queue.try_recv().unwrap(), [lap, number]);
            }
            assert!(queue.is_empty() && matches!(queue.try_recv(), Err(RecvError::Empty)));
        }
    }
}

#[test]
fn inline_queue_of_killed_senders_gives_all_that_was_sent_in_order() {
    let _guard = guard();
    /// Notes each number before it is sent.
    fn send(queue: Queue<[u64; 6], Inline>, noted: Array<u64>, place: usize, ready: Queue<()>) {
        ready.send(()).unwrap();
        for number in 1.. {
            noted.set(place, number);
            queue.send([place as u64, number, number, number, number, number]).unwrap();
        }
    }
    let mut random = Random::seeded();
    let queue = Queue::inline(7).unwrap();
    let ready = Queue::bounded(1).unwrap();
    let noted = Array::new(KILLS as usize).unwrap();
    let mut received = vec![0; KILLS as usize];
    let mut take = |queue: &Queue<[u64; 6], Inline>| {
        for [place, number, rest @ ..] in queue.try_iter() {
            assert_eq!(rest, [number; 4], "a message is torn");
            let last = &mut received[place as usize];
            assert_eq!(number, *last + 1, "one is missing, or came twice");
            *last = number;
        }
    };
    for place in 0..KILLS as usize {
        let arguments = (queue.clone(), noted.clone(), place, ready.clone());
        let victim = Process::spawn(send, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        let moment = Instant::now() + random.moment(MOMENT);
        while Instant::now() < moment {
            take(&queue);
        }
        kill(&victim);
        take(&queue);
        assert_eq!(queue.len(), 0);
    }
    for (place, last) in received.iter().enumerate() {
        // The one that was noted may not have been sent.
        let noted = noted.get(place);
        assert!(*last == noted || *last + 1 == noted, "{last} of {noted} arrived");
    }
    (0..7).for_each(|number| queue.try_send([number; 6]).unwrap());
    assert!(queue.try_send([0; 6]).is_err() && queue.len() == 7, "no cell is lost, or won");
}

#[test]
fn inline_queue_of_killed_receivers_loses_one_message_each_at_most() {
    let _guard = guard();
    fn receive(queue: Queue<u64, Inline>, count: Counter, ready: Queue<()>) {
        ready.send(()).unwrap();
        for _ in &queue {
            count.add(1);
        }
    }
    let mut random = Random::seeded();
    let queue = Queue::inline(5).unwrap();
    let ready = Queue::bounded(1).unwrap();
    let (received, mut sent) = (Counter::new().unwrap(), 0);
    for _ in 0..KILLS {
        let arguments = (queue.clone(), received.clone(), ready.clone());
        let victim = Process::spawn(receive, arguments).unwrap();
        ready.recv_timeout(SOON).unwrap();
        let moment = Instant::now() + random.moment(MOMENT);
        while Instant::now() < moment {
            sent += i64::from(queue.send_timeout(sent as u64, SOON).is_ok());
        }
        kill(&victim);
        let lost = sent - received.get() - queue.len() as i64;
        assert!((0..=1).contains(&lost), "{lost} messages are lost");
        // Whatever it was, it is not lost twice.
        received.add(lost);
        assert_eq!(queue.try_iter().count() as i64, sent - received.get());
        received.add(sent - received.get());
    }
}

#[test]
fn inline_receivers_behind_a_killed_sender_go_on() {
    let _guard = guard();
    fn send(queue: Queue<u64, Inline>, ready: Queue<()>) {
        ready.send(()).unwrap();
        loop {
            let _ = queue.try_send(0);
        }
    }
    fn receive(queue: Queue<u64, Inline>) -> usize {
        queue.iter().take_while(|number| *number == 0).count()
    }
    let mut random = Random::seeded();
    let ready = Queue::bounded(2).unwrap();
    for _ in 0..KILLS / 2 {
        let queue = Queue::inline(2).unwrap();
        let receivers = [(); 2].map(|()| Process::spawn(receive, (queue.clone(),)).unwrap());
        let victims =
            [(); 2].map(|()| Process::spawn(send, (queue.clone(), ready.clone())).unwrap());
        victims.iter().for_each(|_| ready.recv_timeout(SOON).unwrap());
        random.pause(MOMENT);
        victims.iter().for_each(kill);
        // One for each of them.
        queue.send_timeout(1, SOON).unwrap();
        queue.send_timeout(1, SOON).unwrap();
        receivers.iter().for_each(|it| assert!(it.join_timeout(SOON).is_ok()));
    }
}

#[test]
fn inline_queue_closed_gives_what_is_left() {
    let _guard = guard();
    let queue = Queue::inline(4).unwrap();
    queue.send_batch([1_u8, 2]).unwrap();
    queue.close();
    assert!(matches!(queue.send(3), Err(SendError::Closed(3))));
    assert!(queue.iter().eq([1, 2]));
    assert!(matches!(queue.recv(), Err(RecvError::Closed)));
}

#[test]
fn handle_of_another_mode_is_an_error() {
    let _guard = guard();
    let segment = Segment::current().unwrap();
    let inline = testing::name(&segment, &Queue::<u64, _>::inline(1).unwrap()).unwrap();
    let slices = testing::name(&segment, &Queue::<u64, _>::slices(1).unwrap()).unwrap();
    let encoded = testing::name(&segment, &Queue::<u64>::bounded(1).unwrap()).unwrap();
    assert!(testing::reach::<Queue<u64>>(&segment, &inline).is_err());
    assert!(testing::reach::<Queue<u64>>(&segment, &slices).is_err());
    assert!(testing::reach::<Queue<u64, Inline>>(&segment, &encoded).is_err());
    assert!(testing::reach::<Queue<u64, Slices>>(&segment, &encoded).is_err());
    assert!(testing::reach::<Sender<u64>>(&segment, &encoded).is_err());
    let kept = Queue::<i64, _>::inline(1).unwrap();
    let name = testing::name(&segment, &kept).unwrap();
    assert!(testing::reach::<Queue<u64, Inline>>(&segment, &name).is_err());
    assert!(testing::reach::<Queue<i64, Inline>>(&segment, &name).is_ok());
}

// Batches ---------------------------------------------------------------------------------------

#[test]
fn batches_hand_over_everything_once_in_both_modes() {
    let _guard = guard();
    fn send<M>(queue: Queue<u64, M>, from: u64)
    where
        M: multiproc::ByValue + multiproc::Mode<u64>,
    {
        for start in (from..from + 3000).step_by(100) {
            queue.send_batch(start..start + 100).unwrap();
        }
    }
    fn receive<M>(queue: Queue<u64, M>) -> Vec<u64>
    where
        M: multiproc::ByValue + multiproc::Mode<u64>,
    {
        let mut all = Vec::new();
        while queue.recv_batch(&mut all, 37).is_ok() {}
        all
    }
    fn check(received: [Vec<u64>; 2]) {
        for from in [0, 10_000] {
            for all in &received {
                let mine = all.iter().filter(|it| (from..from + 10_000).contains(*it));
                assert!(mine.is_sorted(), "the order of one sender");
            }
        }
        let mut all = received.concat();
        all.sort_unstable();
        assert!(all.into_iter().eq((0..3000).chain(10_000..13_000)));
    }
    let inline = Queue::inline(50).unwrap();
    let senders =
        [0, 10_000].map(|from| Process::spawn(send::<Inline>, (inline.clone(), from)).unwrap());
    let receivers = [(); 2].map(|()| Process::spawn(receive::<Inline>, (inline.clone(),)).unwrap());
    senders.into_iter().for_each(|it| it.join_timeout(SOON).unwrap());
    inline.close();
    check(receivers.map(|it| it.join_timeout(SOON).unwrap()));

    let encoded = Queue::bounded(50).unwrap();
    let senders =
        [0, 10_000].map(|from| Process::spawn(send::<Encoded>, (encoded.clone(), from)).unwrap());
    let receivers =
        [(); 2].map(|()| Process::spawn(receive::<Encoded>, (encoded.clone(),)).unwrap());
    senders.into_iter().for_each(|it| it.join_timeout(SOON).unwrap());
    encoded.close();
    check(receivers.map(|it| it.join_timeout(SOON).unwrap()));
}

#[test]
fn batch_that_does_not_fit_says_how_far_it_got() {
    let _guard = guard();
    let queue = Queue::inline(3).unwrap();
    let mut values = 0..5_u16;
    let error = queue.try_send_batch(&mut values).unwrap_err();
    assert_eq!((error.sent, error.error.into_value()), (3, 3));
    assert_eq!(values.next(), Some(4), "what comes after it was not taken");
    let error = queue.send_batch_timeout([7, 8], Duration::from_millis(20)).unwrap_err();
    assert!(matches!(error.error, SendError::Timeout(7)), "{error}");
    let mut received = vec![100];
    assert_eq!(queue.try_recv_batch(&mut received, 2).unwrap(), 2);
    assert_eq!(received, [100, 0, 1]);
    assert_eq!(queue.try_recv_batch(&mut received, 0).unwrap(), 0);
    assert_eq!(queue.recv_batch(&mut received, 9).unwrap(), 1);
    assert!(matches!(queue.try_recv_batch(&mut received, 9), Err(RecvError::Empty)));
}

// Slices ----------------------------------------------------------------------------------------

#[test]
fn slices_of_any_length_arrive_in_place() {
    let _guard = guard();
    fn double(from: Queue<u32, Slices>, to: Queue<u32, Slices>) {
        while let Ok(received) = from.recv() {
            let mut loan = to.loan(received.len()).unwrap();
            for (to, from) in loan.iter_mut().zip(received.iter()) {
                *to = from * 2;
            }
            loan.send().unwrap();
        }
    }
    let [there, back] =
        [(); 2].map(|()| Queue::<u32, _>::slices_builder(2).message_bytes(4096).build().unwrap());
    let child = Process::spawn(double, (there.clone(), back.clone())).unwrap();
    for len in [0, 1, 1000, 1024, 1025, 300_000] {
        let numbers: Vec<u32> = (0..len).collect();
        there.send(&numbers).unwrap();
        let doubled = back.recv_timeout(SOON).unwrap();
        assert!(doubled.iter().copied().eq(numbers.iter().map(|number| number * 2)));
    }
    there.close();
    child.join_timeout(SOON).unwrap();
    // It keeps what the child returned, as does the watcher, until it has seen the child's end.
    drop(child);
    let segment = Segment::current().unwrap();
    eventually("nothing is held", || testing::held_blocks(&segment) == 0);
}

#[test]
fn loan_that_is_not_sent_is_gone_and_one_that_cannot_be_comes_back() {
    let _guard = guard();
    let queue = Queue::slices(1).unwrap();
    drop(queue.loan(3).unwrap());
    assert!(queue.is_empty());
    queue.send(&[1_u8, 2]).unwrap();
    let mut loan = queue.loan(1).unwrap();
    loan[0] = 7;
    let Err(SendError::Full(loan)) = loan.try_send() else { panic!("there is no room") };
    let timeout = Duration::from_millis(20);
    let Err(SendError::Timeout(loan)) = loan.send_timeout(timeout) else { panic!("no room") };
    assert_eq!(*queue.recv().unwrap(), [1, 2]);
    loan.send().unwrap();
    queue.close();
    assert_eq!(*queue.recv().unwrap(), [7]);
    assert!(matches!(queue.send(&[0]), Err(SendError::Closed(()))));
}

#[test]
fn slices_held_by_the_killed_are_free_again() {
    let _guard = guard();
    fn hold(queue: Queue<u64, Slices>, ready: Queue<()>) {
        let _loan = queue.loan(20_000).unwrap();
        let _received = queue.recv().unwrap();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let queue = Queue::slices(4).unwrap();
    let ready = Queue::bounded(1).unwrap();
    let segment = Segment::current().unwrap();
    for _ in 0..10 {
        let victim = Process::spawn(hold, (queue.clone(), ready.clone())).unwrap();
        queue.send(&[1_u64; 10_000]).unwrap();
        ready.recv_timeout(SOON).unwrap();
        assert_eq!(testing::held_blocks(&segment), 2);
        kill(&victim);
        assert_eq!(testing::held_blocks(&segment), 0);
    }
}

// A bound on bytes ------------------------------------------------------------------------------

#[test]
fn bytes_that_wait_are_bounded_exactly() {
    let _guard = guard();
    let queue = Queue::<u8, _>::slices_builder(100).bytes(100).build().unwrap();
    queue.send(&[0; 60]).unwrap();
    assert!(matches!(queue.try_send(&[0; 41]), Err(SendError::Full(()))));
    queue.try_send(&[0; 40]).unwrap();
    assert!(matches!(queue.try_send(&[0; 1]), Err(SendError::Full(()))));
    queue.try_send(&[]).unwrap();
    let held = queue.recv().unwrap();
    // What is received does not wait any more, however long it is held.
    queue.try_send(&[0; 60]).unwrap();
    assert!(matches!(queue.try_send(&[0; 1]), Err(SendError::Full(()))));
    drop(held);
    let error = queue.try_send(&[0; 101]).unwrap_err();
    let SendError::Refused { error: Error::TooLong { bytes: 101, limit: 100, .. }, .. } = error
    else {
        panic!("{error}")
    };
    assert_eq!([(); 3].map(|()| queue.recv().unwrap().len()), [40, 0, 60]);
    // Over many laps.
    for round in 0..1000 {
        queue.try_send(&vec![1; round % 100]).unwrap();
        assert!(queue.try_send(&vec![1; 101 - round % 100]).is_err());
        assert_eq!(queue.recv().unwrap().len(), round % 100);
    }
}

#[test]
fn bytes_bound_holds_among_many_senders_and_over_deaths() {
    let _guard = guard();
    const LIMIT: usize = 1000;
    /// Adds what it is about to send, and takes off what it has received.
    fn send(queue: Queue<u8, Slices>, ready: Queue<()>, seed: u64) {
        ready.send(()).unwrap();
        for round in seed.. {
            queue.send(&vec![0; (round * 37 % 400) as usize]).unwrap();
        }
    }
    let mut random = Random::seeded();
    let queue = Queue::<u8, _>::slices_builder(50).bytes(LIMIT as u64).build().unwrap();
    let ready = Queue::bounded(2).unwrap();
    let start = |seed| {
        let child = Process::spawn(send, (queue.clone(), ready.clone(), seed)).unwrap();
        ready.recv_timeout(SOON).unwrap();
        child
    };
    let steady = start(0);
    for round in 0..KILLS {
        let victim = start(round);
        random.pause(MOMENT);
        kill(&victim);
        // Both are stopped or dead: what waits now is what waits.
        steady.child().signal(19).unwrap();
        let mut waiting = 0;
        while let Ok(received) = queue.try_recv() {
            waiting += received.len();
        }
        assert!(waiting <= LIMIT, "{waiting} bytes waited");
        steady.child().signal(18).unwrap();
    }
    kill(&steady);
    while queue.try_recv().is_ok() {}
    queue.try_send(&[0; LIMIT]).unwrap();
    assert!(queue.try_send(&[0; 1]).is_err());
}

// Channels --------------------------------------------------------------------------------------

#[test]
fn channel_ends_when_the_last_sender_is_dropped_or_killed() {
    let _guard = guard();
    fn send(sender: Sender<u32>, ready: Queue<()>) {
        sender.send(1).unwrap();
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let ready = Queue::bounded(1).unwrap();
    let (sender, receiver) = channel(4).unwrap();
    let victim = Process::spawn(send, (sender.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    drop(sender);
    assert_eq!(receiver.recv_timeout(SOON).unwrap(), 1);
    let timeout = Duration::from_millis(20);
    assert!(matches!(receiver.recv_timeout(timeout), Err(RecvError::Timeout)), "one is alive");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| receiver.recv_timeout(SOON));
        kill(&victim);
        assert!(matches!(waiting.join().unwrap(), Err(RecvError::Disconnected)));
    });
}

#[test]
fn channel_ends_when_the_last_receiver_is_dropped_or_killed() {
    let _guard = guard();
    fn hold(receiver: Receiver<u32, Inline>, ready: Queue<()>) {
        ready.send(()).unwrap();
        thread::sleep(SOON);
        drop(receiver);
    }
    let ready = Queue::bounded(1).unwrap();
    let (sender, receiver) = Queue::inline_builder(1).channel().unwrap();
    let victim = Process::spawn(hold, (receiver.clone(), ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    drop(receiver);
    sender.send(1).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| sender.send_timeout(2, SOON));
        kill(&victim);
        assert!(matches!(waiting.join().unwrap(), Err(SendError::Disconnected(2))));
    });
    assert!(matches!(sender.try_send(3), Err(SendError::Disconnected(3))));
}

#[test]
fn channel_end_in_a_message_keeps_the_channel() {
    let _guard = guard();
    fn answer(questions: Receiver<(u32, Sender<u32>)>) {
        while let Ok((number, reply)) = questions.recv() {
            reply.send(number + 1).unwrap();
        }
    }
    let (ask, questions) = channel(1).unwrap();
    let child = Process::spawn(answer, (questions,)).unwrap();
    for number in 0..100 {
        let (reply, answers) = channel(1).unwrap();
        ask.send((number, reply)).unwrap();
        assert_eq!(answers.recv_timeout(SOON).unwrap(), number + 1);
        assert!(matches!(answers.recv_timeout(SOON), Err(RecvError::Disconnected)));
    }
    drop(ask);
    child.join_timeout(SOON).unwrap();
}

// Select ----------------------------------------------------------------------------------------

#[test]
fn select_wakes_for_a_message_or_an_event_of_another_process() {
    let _guard = guard();
    fn act(queue: Queue<u32, Inline>, event: Event, wish: Receiver<u32>) {
        for wish in wish.iter() {
            match wish {
                0 => queue.send(7).unwrap(),
                _ => event.set(),
            }
        }
    }
    let (queue, event) = (Queue::inline(4).unwrap(), Event::new().unwrap());
    let (wish, wishes) = channel(1).unwrap();
    let child = Process::spawn(act, (queue.clone(), event.clone(), wishes)).unwrap();
    for round in 0..200_u32 {
        assert_eq!(try_select(&[&queue, &event]), None);
        wish.send(round % 2).unwrap();
        assert_eq!(select_timeout(&[&queue, &event], SOON), Some(round as usize % 2));
        match round % 2 {
            0 => assert_eq!(queue.try_recv().unwrap(), 7),
            _ => event.clear(),
        }
    }
    drop(wish);
    child.join_timeout(SOON).unwrap();
}

#[test]
fn select_of_many_processes_on_the_same_queues_loses_no_message() {
    let _guard = guard();
    fn work(queues: [Queue<u64, Inline>; 2], stop: Event) -> u64 {
        let mut sum = 0;
        loop {
            match select_timeout(&[&queues[0], &queues[1], &stop], SOON) {
                Some(2) => return sum,
                Some(place) => sum += queues[place].try_recv().unwrap_or(0),
                None => panic!("nobody woke us"),
            }
        }
    }
    let queues = [(); 2].map(|()| Queue::inline(3).unwrap());
    let stop = Event::new().unwrap();
    let workers = [(); 3].map(|()| Process::spawn(work, (queues.clone(), stop.clone())).unwrap());
    for number in 1..=2000 {
        queues[number as usize % 2].send_timeout(number, SOON).unwrap();
    }
    eventually("everything is received", || queues.iter().all(|queue| queue.is_empty()));
    stop.set();
    let sums = workers.map(|worker| worker.join_timeout(SOON).unwrap());
    assert_eq!(sums.iter().sum::<u64>(), 2000 * 2001 / 2);
}

#[test]
fn select_after_the_last_sender_was_killed_is_ready() {
    let _guard = guard();
    fn hold(_sender: Sender<u32>, ready: Queue<()>) {
        ready.send(()).unwrap();
        thread::sleep(SOON);
    }
    let ready = Queue::bounded(1).unwrap();
    let (sender, receiver) = channel(1).unwrap();
    let other = Queue::<u8>::bounded(1).unwrap();
    let victim = Process::spawn(hold, (sender, ready.clone())).unwrap();
    ready.recv_timeout(SOON).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| select_timeout(&[&other, &receiver], SOON));
        kill(&victim);
        assert_eq!(waiting.join().unwrap(), Some(1));
    });
}

// Fairness --------------------------------------------------------------------------------------

#[test]
fn receivers_that_wait_each_have_their_share() {
    let _guard = guard();
    fn receive(queue: Queue<u32, Inline>) -> usize {
        queue.iter().count()
    }
    let queue = Queue::inline(8).unwrap();
    let receivers = [(); 6].map(|()| Process::spawn(receive, (queue.clone(),)).unwrap());
    for round in 0..600 {
        queue.send(round).unwrap();
        // All of them wait again.
        eventually("it is received", || queue.is_empty());
    }
    queue.close();
    let shares = receivers.map(|it| it.join_timeout(SOON).unwrap());
    assert_eq!(shares.iter().sum::<usize>(), 600);
    assert!(shares.iter().all(|share| *share > 0), "somebody was starved: {shares:?}");
}
