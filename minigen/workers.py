"""Work done side by side: on worker processes of this machine or, under MPI, on other machines as well."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures import as_completed, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, suppress
from typing import Any

from minigen import backend, threads
from minigen.training import progress, signals

_INTERVAL = 0.1         # seconds from look to look at signals and at the workers' bars

Work = Callable[[Any], Any]


class Lost(Exception):
    """The process that did the work has ended before the work did."""


class Failed(Exception):
    """Some of the runs failed; the message names each of them and says why."""


def each(work: Work, tasks: Sequence[Any], jobs: int, threads_each: int | None) -> list[Any]:
    """What ``work`` returns for each of ``tasks``, or the exception that it raises, in their order.

    With one job the work is done in this process, with more by that many worker processes. Under
    ``python -m mpi4py.futures`` the other ranks do it, whatever ``jobs`` is. ``work`` and ``tasks`` are
    pickled for them. Each worker has ``threads_each`` threads or, with None, the default for its share of the
    cores, see ``threads.use``.

    A task that fails does not take the others along. If its process is killed, its result is ``Lost``; if
    that alone gets a signal, ``Interrupted``. Ctrl-C, SIGTERM and SIGHUP to this process stop all workers, no
    further task begins, and ``Interrupted`` is raised.
    """
    results: dict[int, Any] = {}
    mpi = under_mpi()
    with signals.received() as signalled, progress.overview(len(tasks), 1 if mpi else jobs) as overview:
        if mpi:
            _over_mpi(work, tasks, threads_each, results, overview, signalled)
        elif jobs == 1:
            _here(work, tasks, results, overview)
        else:
            _on_processes(work, tasks, jobs, threads_each, results, overview, signalled)
    if signalled:
        ended = sum(not isinstance(result, signals.Interrupted) for result in results.values())
        raise signals.Interrupted(f"stopped after {ended} of {len(tasks)} runs", signalled[0])
    return [results[i] for i in range(len(tasks))]


def under_mpi() -> bool:
    """Whether ``python -m mpi4py.futures`` has started this program on several ranks."""
    if "mpi4py.futures" not in sys.modules:
        return False
    from mpi4py import MPI
    return MPI.COMM_WORLD.size > 1


def _here(work: Work, tasks: Sequence[Any], results: dict[int, Any], overview: progress.Overview) -> None:
    for i, task in enumerate(tasks):
        try:
            result = work(task)
        except Exception as error:
            result = error
        _note(results, i, result, overview)


def _over_mpi(work: Work, tasks: Sequence[Any], threads_each: int | None, results: dict[int, Any],
              overview: progress.Overview, signalled: list[int]) -> None:
    from mpi4py.futures import MPIPoolExecutor
    with MPIPoolExecutor(initializer=_begin_on_rank, initargs=_settings(threads_each or 1)) as pool:
        futures = {pool.submit(work, task): i for i, task in enumerate(tasks)}
        for future in as_completed(futures):
            if signalled:
                pool.shutdown(wait=False, cancel_futures=True)
            with suppress(CancelledError):
                _note(results, futures[future], _outcome(future), overview)


def _on_processes(work: Work, tasks: Sequence[Any], jobs: int, threads_each: int | None,
                  results: dict[int, Any], overview: progress.Overview, signalled: list[int]) -> None:
    waiting = deque(enumerate(tasks))
    workers = [_Worker(_settings(threads_each, jobs), overview, place) for place in range(jobs)]

    def serve(worker: _Worker) -> None:
        with closing(worker), suppress(IndexError):         # nothing is waiting any more
            while not signalled:
                i, task = waiting.popleft()
                _note(results, i, worker.do(work, task), overview)
    with ThreadPoolExecutor(jobs) as servants:
        serving = [servants.submit(serve, worker) for worker in workers]
        try:
            while wait(serving, _INTERVAL).not_done:        # Thread.join is not whole after a Ctrl-C
                if signalled:
                    for worker in workers:
                        worker.tell("stop")
        except KeyboardInterrupt:       # a second Ctrl-C
            for worker in workers:
                worker.tell("end")
            raise
    for served in serving:
        served.result()


class _Worker:
    """One worker process at a time: another one if that is killed.

    Besides its pool there is a pipe. The worker's bar comes through it, the wish that it stop goes through
    it, and its end is the worker's end, so that none goes on where its parent was killed.
    """

    def __init__(self, settings: tuple[Any, ...], overview: progress.Overview, place: int) -> None:
        self.settings, self.overview, self.place = settings, overview, place
        self.pool: ProcessPoolExecutor | None = None

    def do(self, work: Work, task: Any) -> Any:
        """What ``work`` returns for the task, or the exception that it raises."""
        try:
            future = self._submit(work, task)
        except BrokenProcessPool:       # it was killed while it had nothing to do
            self.close()
            future = self._submit(work, task)
        self.there.close()              # the process has it now
        with suppress(EOFError, OSError):       # the process has ended, as the future will say
            while self._show_bar(_INTERVAL) or not future.done():
                pass
        outcome = _outcome(future)
        if isinstance(outcome, (Lost, signals.Interrupted)):    # it would stop all further tasks, too
            self.close()
        return outcome

    def _submit(self, work: Work, task: Any) -> Future[Any]:
        if self.pool is None:
            with signals.held_back():       # it starts the resource tracker, which SIGHUP would kill
                self.pool = self._start()
        with signals.held_back():           # its first task starts the process
            return self.pool.submit(_work, work, task)

    def _show_bar(self, seconds: float) -> bool:
        """Show the worker's bar if it comes within these seconds; return whether it has."""
        comes = self.pipe.poll(seconds)
        if comes:
            self.overview.show(self.place, self.pipe.recv())
        return comes

    def _start(self) -> ProcessPoolExecutor:
        context = multiprocessing.get_context("spawn")
        self.pipe, self.there = context.Pipe()
        initial = (self.place, *self.settings, self.there, self.overview.columns)
        return ProcessPoolExecutor(1, context, _begin, initial)

    def tell(self, wish: str) -> None:
        """Let the worker "stop", that is finish its iteration and save, or "end" at once; any thread may."""
        with suppress(AttributeError, OSError):     # it has not begun, or has ended
            self.pipe.send(wish)

    def close(self) -> None:
        """Let the process end, which has nothing to do any more."""
        if self.pool is not None:
            self.pool.shutdown()
            del self.pipe       # not closed while another thread sends
            self.pool = None


@threads.limited_blas()
def _work(work: Work, task: Any) -> Any:
    """``work(task)``, also what is no model's, on this process's share of the cores."""
    return work(task)


def _note(results: dict[int, Any], i: int, result: Any, overview: progress.Overview) -> None:
    results[i] = result
    if not isinstance(result, signals.Interrupted):
        overview.one_done()


def _outcome(future: Any) -> Any:
    try:
        return future.result()
    except BrokenProcessPool:
        return Lost("its process was killed")
    except CancelledError:
        raise
    except BaseException as error:
        return error


def _settings(threads_each: int | None, beside: int = 1) -> tuple[Any, ...]:
    return backend.name(), threads_each, beside, warnings.formatwarning


def _begin_on_rank(*settings: Any) -> None:
    from mpi4py import MPI
    _begin(MPI.COMM_WORLD.rank, *settings)


def _begin(place: int, name: str, threads_each: int | None, beside: int, formatwarning: Callable[..., str],
           pipe: Any = None, columns: int | None = None) -> None:
    """The beginning of the worker process with this number."""
    signals.receive_for_good()
    backend.use(name)
    backend.choose_device(place)
    threads.use(threads_each, beside)
    warnings.formatwarning = formatwarning
    if columns is not None:
        progress.draw_through(pipe.send, columns)
    if pipe is not None:
        threading.Thread(target=_follow, args=(pipe,), daemon=True).start()


def _follow(pipe: Any) -> None:
    """Stop or end when the parent says so, and end with it."""
    with suppress(EOFError, OSError):
        while pipe.recv() == "stop":
            signals.stop()
    os._exit(1)                 # nothing is lost: a checkpoint is whole at any time
