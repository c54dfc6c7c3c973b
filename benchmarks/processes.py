"""Libraries that compete in turns, each in a process of its own, as when it is used.

Part of ``benchmark.py``.
"""

import multiprocessing
import resource
import signal
import statistics
import sys
import time
from contextlib import contextmanager
from functools import partial


def _serve(connection, library, args, wait):
    """Answer requests until one is None.

    To a name and the arguments of ``_times`` the answer is the result of ``_times``, or that of ``_mean`` if
    there is a function to ``wait`` for a GPU; to ``"peak"`` it is the most memory used so far, in MB.
    ``library(*args)`` returns a function that takes a name and makes the function to time, or returns None if
    there is nothing to time.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)        # the process that started this one ends it
    make, name, work = library(*args), None, None
    while (request := connection.recv()) is not None:
        if request == "peak":
            unit = 1e6 if sys.platform == "darwin" else 1e3         # bytes there, kilobytes elsewhere
            connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
            continue
        if request[0] != name:
            work = None         # frees its memory before the next one is made
            name, work = request[0], make(request[0])
        times = _times if wait is None else partial(_mean, wait)
        connection.send(times(work, *request[1:]) if work else [])


def _mean(wait, work, warm_up, seconds):
    """The milliseconds per call on a GPU in a turn of ``seconds``, after ``warm_up`` calls. The device works
    through them behind the processor's back; ``wait()`` waits for it."""
    for _ in range(warm_up + 1):
        work()
    wait()
    count, begin = 0, time.perf_counter()
    while count == 0 or time.perf_counter() < begin + seconds:
        work()
        count += 1
    wait()
    return [1e3 * (time.perf_counter() - begin) / count]


def _times(work, warm_up, seconds):
    """The milliseconds of each call in a turn of ``seconds``, after ``warm_up`` calls.

    Calls that start in the first fifth of the turn are left out, unless one takes the whole turn: in that
    fifth the threads of the library that had the turn before may still be waiting busily for more work.
    """
    for _ in range(warm_up):
        work()
    times, begin, stop = [], time.perf_counter(), 0.0
    while stop < begin + seconds:
        start = time.perf_counter()
        work()
        stop = time.perf_counter()
        if start > begin + seconds / 5 or stop > begin + seconds:
            times.append(1e3 * (stop - start))
    return times


def _spin():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        pass


@contextmanager
def neighbour():
    """The context in which another program keeps one processor core busy."""
    process = multiprocessing.get_context("spawn").Process(target=_spin, daemon=True)
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()


class Contender:
    """A process in which ``library(*args)`` works, on a GPU if it is given a function to ``wait`` for one."""

    def __init__(self, library, *args, wait=None):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, library, args, wait), daemon=True)
        self.process.start()
        other.close()

    def ask(self, request):
        """The answer of the process, see ``_serve``."""
        self.connection.send(request)
        return self.connection.recv()

    def close(self):
        """End the process."""
        self.connection.send(None)
        self.process.join()


def in_turns(contenders, name, seconds, warm_up):
    """The median milliseconds per call of each contender's ``name``, after ``warm_up`` calls.

    A contender that has nothing to time under this name is left out. Each has at least three turns, and each
    turn lasts at most two seconds or one call.
    """
    times = {library: [] for library in contenders}
    end, turn, turns = None, min(2, seconds / 3), 0
    while turns < 3 or time.perf_counter() < end:
        for library, contender in contenders.items():
            times[library] += contender.ask((name, 0 if turns else warm_up, turn))
        end, turns = end or time.perf_counter() + seconds * len(contenders), turns + 1
    return {library: statistics.median(values) for library, values in times.items() if values}
