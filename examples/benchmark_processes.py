"""Libraries that compete, each in a process of its own, as when it is used. They take turns. Part of ``benchmark.py``."""

import multiprocessing
import resource
import statistics
import sys
import time


def _serve(connection, library, args):
    """Answer requests: a name and the arguments of ``_times`` with its result, ``"peak"`` with the most memory so far, in MB.

    ``library(*args)`` returns what makes a function without arguments of a name, or None where there is nothing to call.
    """
    make, name, work = library(*args), None, None
    while (request := connection.recv()) is not None:
        if request == "peak":
            unit = 1e6 if sys.platform == "darwin" else 1e3         # bytes there, kilobytes elsewhere
            connection.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
            continue
        if request[0] != name:
            work = None         # before the next is made, for the memory
            name, work = request[0], make(request[0])
        connection.send(_times(work, *request[1:]) if work else [])


def _times(work, warm_up, seconds):
    """Milliseconds of each call within a turn of so many seconds, after calls to warm up.

    Those in the first fifth are left out, unless one takes the whole turn: there the threads of the library that was at work
    before may still wait for more, busily.
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


class Contender:
    """A process in which ``library(*args)`` is at work."""

    def __init__(self, library, *args):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, library, args), daemon=True)
        self.process.start()
        other.close()

    def ask(self, request):
        self.connection.send(request)
        return self.connection.recv()

    def close(self):
        self.connection.send(None)
        self.process.join()


def in_turns(contenders, name, seconds, warm_up):
    """Median milliseconds per call of each contender's ``name``, after ``warm_up`` calls; a contender without it is left out.

    There are at least three turns, of at most two seconds or one call.
    """
    times = {one: [] for one in contenders}
    end, turn, turns = None, min(2, seconds / 3), 0
    while turns < 3 or time.perf_counter() < end:
        for library, one in contenders.items():
            times[library] += one.ask((name, 0 if turns else warm_up, turn))
        end, turns = end or time.perf_counter() + seconds * len(contenders), turns + 1
    return {library: statistics.median(values) for library, values in times.items() if values}
