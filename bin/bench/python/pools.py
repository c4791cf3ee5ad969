"""Pools of Python: rounds of the same work, as src/drive/repeat.rs has it.

pools.py POOL WORK WARM_UP WINDOW COUNT prints what a round gave, as JSON. Two workers.
"""

import json
import multiprocessing
import statistics
import sys
import time

WORKERS = 2


def add_one(number):
    return number + 1


def spin(milliseconds):
    end = time.monotonic() + milliseconds / 1e3
    while time.monotonic() < end:
        pass
    return milliseconds


def mp_pool(work, count):
    pool = multiprocessing.get_context("fork").Pool(WORKERS)
    items = range(count)
    return {
        "map": lambda: sum(pool.map(add_one, items)),
        "singly": lambda: sum(pool.imap_unordered(add_one, items, chunksize=1)),
        "apply": lambda: pool.apply(add_one, (1,)),
        "spin": lambda: len(pool.map(spin, [1] * count)),
    }[work]


def executor(work, count):
    from concurrent.futures import ProcessPoolExecutor

    context = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(WORKERS, mp_context=context)
    items = range(count)
    # It has no chunks of its own choice: those that Pool.map would have.
    chunk = max(1, -(-count // (4 * WORKERS)))
    return {
        "map": lambda: sum(pool.map(add_one, items, chunksize=chunk)),
        "singly": lambda: sum(pool.map(add_one, items)),
        "apply": lambda: pool.submit(add_one, 1).result(),
        "spin": lambda: len(list(pool.map(spin, [1] * count))),
    }[work]


def joblib(work, count):
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=WORKERS)
    return {"map": lambda: sum(parallel(delayed(add_one)(item) for item in range(count)))}[work]


def loky(work, count):
    from loky import get_reusable_executor

    pool = get_reusable_executor(max_workers=WORKERS)
    chunk = max(1, -(-count // (4 * WORKERS)))
    return {
        "map": lambda: sum(pool.map(add_one, range(count), chunksize=chunk)),
        "singly": lambda: sum(pool.map(add_one, range(count))),
    }[work]


def pebble(work, count):
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=WORKERS)
    chunk = max(1, -(-count // (4 * WORKERS)))
    return {
        "map": lambda: sum(pool.map(add_one, range(count), chunksize=chunk).result()),
        "singly": lambda: sum(pool.map(add_one, range(count)).result()),
    }[work]


def mpire(work, count):
    from mpire import WorkerPool

    pool = WorkerPool(n_jobs=WORKERS, keep_alive=True)
    return {
        "map": lambda: sum(pool.map(add_one, range(count))),
        "singly": lambda: sum(pool.imap_unordered(add_one, range(count), chunk_size=1)),
    }[work]


def go_on(once, duration):
    """Does it until so many seconds have passed; returns how long each took, in ns."""
    times, end = [], time.monotonic() + duration
    while not times or time.monotonic() < end:
        start = time.monotonic_ns()
        once()
        times.append(time.monotonic_ns() - start)
    return times


if __name__ == "__main__":
    pool, work, warm_up, window, count = sys.argv[1:]
    once = globals()[pool](work, int(count))
    go_on(once, float(warm_up))
    times = go_on(once, float(window))
    figures = [float(statistics.median(times)), float(count)]
    print(json.dumps({"seconds": sum(times) / 1e9, "counts": [len(times)], "figures": figures}), flush=True)
    # Whatever keeps its workers alive would keep this process, too.
    import os
    import signal

    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        for child in children.read().split():
            os.kill(int(child), signal.SIGKILL)
    # And whoever would have removed its files is dead now.
    import glob
    import shutil

    for path in glob.glob(f"/dev/shm/sem.loky-{os.getpid()}-*"):
        os.unlink(path)
    for path in glob.glob(f"/dev/shm/joblib_memmapping_folder_{os.getpid()}_*"):
        shutil.rmtree(path, ignore_errors=True)
    os._exit(0)
