"""Python's multiprocessing: starts children that do nothing, as src/drive/repeat.rs has it.

start.py METHOD WARM_UP WINDOW prints what a round gave, as JSON. It is a script of its own because a
child that is spawned imports it, and what that costs is measured.
"""

import multiprocessing
import time


def nothing():
    pass


def go_on(context, duration):
    """Starts and joins until so many seconds have passed; returns how long each took, in ns."""
    times, end = [], time.monotonic() + duration
    while not times or time.monotonic() < end:
        start = time.monotonic_ns()
        process = context.Process(target=nothing)
        process.start()
        process.join()
        times.append(time.monotonic_ns() - start)
        assert process.exitcode == 0, f"a child ended: {process.exitcode}"
    return times


if __name__ == "__main__":
    import json
    import statistics
    import sys

    method, warm_up, window = sys.argv[1:]
    context = multiprocessing.get_context(method)
    go_on(context, float(warm_up))
    times = go_on(context, float(window))
    median = float(statistics.median(times))
    print(json.dumps({"seconds": sum(times) / 1e9, "counts": [len(times)], "figures": [median]}))
