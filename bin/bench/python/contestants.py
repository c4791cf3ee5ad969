"""Python's multiprocessing, measured as the other contestants are: see src/stage.rs.

contestants.py CONTESTANT WARM_UP WINDOW SIZE... prints what a round gave, as JSON.
"""

import json
import multiprocessing
import os
import resource
import statistics
import sys
import time

OPENING, WARM_UP, WINDOW, SINGLY, STOP = range(5)
STRIDE = 32
PAUSE_NS = 300_000
CORES = sorted(os.sched_getaffinity(0))

# The first word says how far the round is; each participant has the words of a cache line.
context = multiprocessing.get_context("fork")
board = context.RawArray("Q", 16 * 65)
figures = context.RawArray("d", 64)
opened = context.Value("i", 0)


def phase():
    return board[0]


def note(number, count):
    board[16 * (number + 1)] = count


def report(number, count, checksum=0, figure=0.0):
    note(number, count)
    board[16 * (number + 1) + 1] = checksum
    figures[number] = figure


def enter(number, role, arguments):
    os.sched_setaffinity(0, [CORES[number % len(CORES)]])
    with opened:
        opened.value += 1
    while phase() == OPENING:
        time.sleep(0.0001)
    role(number, *arguments)


def play(roles, warm_up, window, singly=False, finish=lambda processes: None):
    """Plays a round: `roles` are functions and their arguments."""
    processes = [
        context.Process(target=enter, args=(number, role, arguments))
        for number, (role, *arguments) in enumerate(roles)
    ]
    for process in processes:
        process.start()
    while opened.value < len(processes):
        time.sleep(0.001)

    def counts():
        return [board[16 * (number + 1)] for number in range(len(processes))]

    board[0] = WARM_UP
    time.sleep(warm_up)
    board[0] = WINDOW
    start, before = time.monotonic(), counts()
    time.sleep(window)
    seconds, after = time.monotonic() - start, counts()
    if singly:
        board[0] = SINGLY
        time.sleep(window / 2)
    board[0] = STOP
    finish(processes)
    for process in processes:
        process.join()
        assert process.exitcode == 0, f"a participant ended: {process.exitcode}"
    done = [new - old for old, new in zip(before, after)]
    return {"seconds": seconds, "counts": done, "figures": list(figures[: len(processes)])}


def add(number, lock, value):
    count, longest = 0, 0
    while (now := phase()) != STOP:
        if now == SINGLY:
            start = time.monotonic_ns()
            with lock:
                value[0] += 1
            longest = max(longest, time.monotonic_ns() - start)
            count += 1
        else:
            for _ in range(STRIDE):
                with lock:
                    value[0] += 1
            count += STRIDE
        note(number, count)
    report(number, count, figure=longest)


def lock(warm_up, window, size):
    value = context.RawArray("Q", 1)
    roles = [(add, context.Lock(), value)]
    roles = roles * size
    played = play(roles, warm_up, window, singly=size > 1)
    done = sum(board[16 * (number + 1)] for number in range(size))
    assert value[0] == done, f"{done} operations were done, and {value[0]} are counted"
    return played


def word(number):
    return number


def record(number):
    return {"number": number, "name": NAME, "values": [number & 0xFFFFFFFF] * 32}


NAME = "what a job of ordinary size is called, in sixty-four characters."


def read_word(message):
    return message


def read_record(message):
    number = message["number"]
    assert len(message["name"]) == 64 and sum(message["values"]) == 32 * number
    return number


def send(number, queue, make):
    count = 0
    while phase() != STOP:
        for _ in range(STRIDE):
            queue.put(make(count))
            count += 1
        note(number, count)
    report(number, count, count * (count - 1) // 2)


def receive(number, queue, read):
    count, checksum = 0, 0
    while (message := queue.get()) is not None:
        checksum += read(message)
        count += 1
        if count % STRIDE == 0:
            note(number, count)
    report(number, count, checksum)


def through_queue(make, read, warm_up, window, senders, receivers):
    queue = context.Queue(1024)

    def finish(processes):
        for process in processes[:senders]:
            process.join()  # Its feeder has written everything.
        for _ in range(receivers):
            queue.put(None)

    roles = [(send, queue, make)] * senders + [(receive, queue, read)] * receivers
    played = play(roles, warm_up, window, finish=finish)
    for place, what in enumerate(["messages", "as the sum of them"]):
        words = [board[16 * (number + 1) + place] for number in range(len(roles))]
        sent, received = sum(words[:senders]), sum(words[senders:])
        assert sent == received, f"{sent} {what} sent, {received} received"
    played["counts"] = played["counts"][senders:]
    played["figures"] = []
    return played


def queue(warm_up, window, senders, receivers):
    return through_queue(word, read_word, warm_up, window, senders, receivers)


def records(warm_up, window):
    return through_queue(record, read_record, warm_up, window, 1, 1)


def now_ns():
    return time.monotonic_ns()


def pause():
    end = now_ns() + PAUSE_NS
    while now_ns() < end:
        pass


def answer(number, out, back, begins):
    """As `sleep_and_answer` in src/drive/round_trip.rs."""
    ways, count = [], 0
    if begins:
        pause()
        out.send(now_ns())
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    while (sent := back.recv()) is not None:
        way = now_ns() - sent
        count += 1
        note(number, count)
        if phase() == WINDOW:
            ways.append(way)
        pause()
        if begins and phase() == STOP:
            out.send(None)
            break
        out.send(now_ns())
    slept = resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw - slept
    awake = max(0, count - slept)
    assert awake * 100 <= count * 5 + 100, f"{awake} of {count} messages found their receiver awake"
    report(number, count, figure=statistics.median(ways))


def parked_pipe(warm_up, window):
    here, there = context.Pipe()
    played = play([(answer, here, here, True), (answer, there, there, False)], warm_up, window)
    played["counts"] = played["counts"][:1]
    return played


def send_bytes(number, pipe, size):
    count, checksum = 0, 0
    while phase() != STOP:
        letter = count % 251
        pipe.send_bytes(bytes([letter]) * size)
        count, checksum = count + 1, checksum + letter
        note(number, count)
    report(number, count, checksum)
    pipe.send_bytes(b"")


def receive_bytes(number, pipe, size):
    count, checksum = 0, 0
    while message := pipe.recv_bytes():
        assert len(message) == size and message[0] == message[-1]
        assert message.find(255) < 0  # Which reads all of it, as fast as one can.
        count, checksum = count + 1, checksum + message[0]
        note(number, count)
    report(number, count, checksum)


def pipe_bytes(warm_up, window, size):
    receiver, sender = context.Pipe()
    played = play([(send_bytes, sender, size), (receive_bytes, receiver, size)], warm_up, window)
    for place, what in enumerate(["messages", "as the sum of them"]):
        sent, received = board[16 + place], board[32 + place]
        assert sent == received, f"{sent} {what} sent, {received} received"
    played["counts"] = played["counts"][1:]
    played["figures"] = []
    return played


CONTESTANTS = {
    "lock": lock,
    "queue": queue,
    "records": records,
    "parked_pipe": parked_pipe,
    "pipe_bytes": pipe_bytes,
}

if __name__ == "__main__":
    name, warm_up, window, *sizes = sys.argv[1:]
    played = CONTESTANTS[name](float(warm_up), float(window), *map(int, sizes))
    print(json.dumps(played))
