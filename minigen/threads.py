"""Share work on NumPy arrays among threads, in blocks that fit into a core's cache.

NumPy runs its own passes on one thread, and its matrix products on the threads of BLAS. Here several threads
each take a share of the blocks. Meanwhile BLAS is held to one thread, so that the products of different
blocks run side by side. A GPU gets one thread and one block, since every block would be a kernel there.
"""

from __future__ import annotations

import ctypes
import math
import os
import platform
import re
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import numpy
import threadpoolctl

from minigen import backend, checks, kernels, ranks
from minigen.backend import Array, xp

_P = ParamSpec("_P")
_R = TypeVar("_R")
_NUMBERS_PER_THREAD = 1 << 18       # the size from which a thread gains more than it costs

# The number of threads

_asked: int | None = None       # by use
_beside = 1


def use(number: int | None, beside: int = 1) -> None:
    """Let ``number`` threads share the work of models and classifiers; None stands for the default.

    By default a matrix product takes one thread, and convolutions take a thread per core that the process
    may use. Of these, ranks on one machine each take a part, and so do ``beside`` processes that train side
    by side. The threads of BLAS wait busily for each other, and long for one whose core another program uses.
    So more of them make small products faster only where nothing else runs. With one thread the results do
    not depend on the number of cores either.
    """
    global _asked, _beside
    _asked = None if number is None else checks.whole("threads.use", "number", number)
    _beside = checks.whole("threads.use", "beside", beside)
    _pool.cache_clear()


def cores() -> int:
    """The number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _blas() -> Any:
    """The controller of BLAS: it sets the number of threads for NumPy's matrix products."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


@cache
def _blas_threads() -> int:
    return max((library["num_threads"] for library in _blas().info()), default=1)


def count() -> int:
    """The number of threads that share the work on large arrays; on a GPU only the caller's."""
    if backend.name() != "numpy":
        return 1
    return _asked or max(1, _blas_threads() // (ranks.per_machine() * _beside))


def per_product() -> int:
    """The number of BLAS's threads that ``limited_blas`` allows a matrix product."""
    return _asked or 1


def blas_name() -> str:
    """BLAS, its version and its kind of processor: the last bits of a product depend on them."""
    found = ([library[key] for key in ("internal_api", "version", "architecture") if key in library]
             for library in _blas().info())
    return ", ".join(" ".join(map(str, words)) for words in found)


def machine() -> str:
    """The processor's name, if the system tells it, else its kind; and the cores that this process may
    use."""
    name = platform.machine()
    with suppress(OSError):
        told = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        name = told[1] if told else name
    return f"{name}, {cores()} core" + "s" * (cores() > 1)


class _BlasLimits:
    """The numbers of threads that running blocks of code allow BLAS; the lowest holds for the process.

    Blocks may be nested, and run on several threads at once.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.active: list[int] = []

    def enter(self, number: int) -> None:
        with self.lock:
            if not self.active:
                _blas_threads()     # counts them before a limit applies
                self.unlimited = self.now = [library.num_threads for library in _blas().lib_controllers]
            if not self.active or number < min(self.active):
                self._allow([number] * len(self.now))
            self.active.append(number)

    def leave(self, number: int) -> None:
        with self.lock:
            self.active.remove(number)
            self._allow([min(self.active)] * len(self.now) if self.active else self.unlimited)

    def _allow(self, numbers: list[int]) -> None:
        if numbers != self.now:
            _set_blas_threads(numbers)
            self.now = numbers


def _set_blas_threads(numbers: Sequence[int]) -> None:
    for library, number in zip(_blas().lib_controllers, numbers):
        # threadpoolctl 3.8 lets only the first thread that ever sets the number set it again.
        getattr(library, "_real_set_num_threads", library.set_num_threads)(number)


_limits = _BlasLimits()


class _AtMost:
    """The context in which a matrix product takes at most ``number`` threads; None: ``per_product()``.

    It also decorates a function, each call of which enters a context of its own.
    """

    def __init__(self, number: int | None = None) -> None:
        self.number = number
        self.entered: list[tuple[_BlasLimits, int]] = []

    def __enter__(self) -> None:
        limits, number = _limits, self.number or per_product()
        limits.enter(number)
        self.entered.append((limits, number))

    def __exit__(self, *error: Any) -> None:
        limits, number = self.entered.pop()
        limits.leave(number)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        checks.plain_function("limited_blas", function)

        @wraps(function)
        def call(*args: _P.args, **options: _P.kwargs) -> _R:
            with _AtMost(self.number):
                return function(*args, **options)
        return call


def limited_blas() -> _AtMost:
    """The context in which a matrix product takes the threads that ``use`` asked for, by default one."""
    return _AtMost()


# Sharing work

_sharing: ContextVar[bool] = ContextVar("sharing", default=False)
_one_at_a_time = threading.Lock()


@contextmanager
def large_arrays() -> Iterator[None]:
    """Within this context ``parallel`` uses all threads, a matrix product uses one, and memory is reused."""
    _keep_memory()
    before = _sharing.set(True)
    try:
        with _AtMost(1):    # others, busily waiting, would take the cores from the threads here
            yield
    finally:
        _sharing.reset(before)


def sharing() -> bool:
    """Whether ``large_arrays`` is active and there are several threads to share a matrix product."""
    return _sharing.get() and count() > 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(1, count() - 1), thread_name_prefix="minigen")


def parallel(work: Callable[[Any], None], jobs: Iterable[Any]) -> None:
    """Call ``work`` with each of ``jobs``, on several threads at once if NumPy is used.

    Each thread starts at the front of its own part of the list, so that one thread first touches neighbouring
    memory. It then helps the others from the back of their parts. Meanwhile each matrix product runs on its
    caller's thread alone. If a job fails, its error is raised once no other job runs. ``work`` must not call
    ``parallel``.
    """
    jobs = list(jobs)
    workers = min(count(), len(jobs))
    if workers < 2:
        for job in jobs:
            work(job)
        return
    parts = [deque(jobs[i * len(jobs) // workers:(i + 1) * len(jobs) // workers]) for i in range(workers)]

    def take(own: int) -> None:
        for i in range(workers):
            part = parts[(own + i) % workers]
            while (job := _taken(part, last=i > 0)) is not None:
                work(job)
    # Within large_arrays BLAS is held to one thread already.
    with _one_at_a_time, nullcontext() if _sharing.get() else _AtMost(1):
        others: list[Future[None]] = []
        try:
            with suppress(RuntimeError):        # without another thread, this one does all the work
                others += (_pool().submit(take, i) for i in range(1, workers))
            take(0)
        except BaseException:
            for part in parts:
                part.clear()
            raise
        finally:        # a job that has begun ends before the lock is given up
            begun = [other for other in others if not other.cancel()]
            wait(begun)
        for other in begun:
            other.result()


def _begin_anew_after_fork() -> None:
    """The threads that held the locks and did the work do not exist in a forked process."""
    global _one_at_a_time, _limits
    _one_at_a_time = threading.Lock()
    _pool.cache_clear()
    _limits.lock = threading.Lock()
    if _limits.active:
        _set_blas_threads(_limits.unlimited)
    _limits = _BlasLimits()     # blocks around the fork leave the earlier one


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew_after_fork)


def share(work: Callable[[Any], None], jobs: Iterable[Any]) -> None:
    """Call ``work`` with each of ``jobs``: by ``parallel`` within ``large_arrays``, else on this thread.

    Outside ``large_arrays`` the threads of BLAS are busy, and further threads would gain nothing.
    """
    if sharing():
        parallel(work, jobs)
    else:
        for job in jobs:
            work(job)


def _taken(part: deque[Any], last: bool) -> Any:
    try:
        return part.pop() if last else part.popleft()
    except IndexError:      # another thread may have been quicker
        return None


# Memory

_memory = threading.local()


@cache
def _keep_memory() -> None:
    """Let the C library keep freed memory for the next large array; the system must clear new pages first."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        never_map, never_trim = (-4, 0), (-1, -1)       # M_MMAP_MAX and M_TRIM_THRESHOLD in malloc.h
        mallopt(*never_map)
        mallopt(*never_trim)


def workspace(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory of this thread, with arbitrary content. The next call with the same name reuses it."""
    size, key = math.prod(shape), (name, xp.dtype(dtype), backend.name())
    arrays = _memory.__dict__.setdefault("arrays", {})
    if key not in arrays or arrays[key].size < size:
        arrays[key] = xp.empty(size, dtype)
    return arrays[key][:size].reshape(shape)


# Blocks


def block_numbers() -> int:
    """The most numbers that a thread's workspace should hold. With NumPy they fit into its core's cache; on a
    GPU they are a gigabyte of float32, as each block would be some kernels."""
    return 1 << 19 if backend.name() == "numpy" else 1 << 28


def gemm_rows(numbers: int) -> int:
    """The number of rows of a long matrix to multiply at once with a factor of ``numbers`` numbers.

    It is a power of 2, or 0 for all rows. OpenBLAS, NumPy's usual BLAS, does not rearrange the factors for a
    product of at most a million multiplications. With few columns this makes it up to three times as fast.
    """
    return 1 << (10 ** 6 // max(1, numbers)).bit_length() >> 1 if backend.name() == "numpy" else 0


def fold_rows(columns: int, rows: int, numbers: int) -> int:
    """The number of rows to fold into one, so that NumPy's inner loops take at least ``numbers`` steps."""
    return math.gcd(rows, 1 << ((numbers - 1) // max(1, columns)).bit_length())


def row_blocks(shape: tuple[int, ...], arrays: int = 1) -> list[Any]:
    """Indices that cut an array of this shape into blocks of rows.

    Corresponding blocks of ``arrays`` such arrays fit into the cache together.
    """
    size = math.prod(shape)
    numbers = min(block_numbers() // arrays, max(_NUMBERS_PER_THREAD // arrays, size // count()))
    if size <= numbers or backend.name() != "numpy":
        return [...]
    step = max(1, numbers * shape[0] // size)
    return [slice(i, i + step) for i in range(0, shape[0], step)]


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let an elementwise function work on large NumPy arrays block by block, on several threads.

    On a GPU it is one kernel, see ``kernels.fused``. Its result has the shape and dtype of the first
    argument, and goes into the array ``out`` if the function is given one. The other arguments are arrays of
    this shape, or vectors to broadcast along the last axis. With ``overwrite`` the result takes the memory of
    the first argument, except on a GPU.
    """
    one_kernel = kernels.fused(function)

    @wraps(function)
    def call(first: Any, *others: Any, overwrite: bool = False) -> Any:
        if type(first) is not numpy.ndarray:
            return one_kernel(first, *others)
        if first.size < 2 * _NUMBERS_PER_THREAD or first.ndim < 2:
            return function(first, *others, out=first) if overwrite else function(first, *others)
        columns = first.shape[-1]
        # NumPy passes shorter rows through a buffer.
        times = fold_rows(columns, first.size // columns, numpy.getbufsize())
        rows = [a.reshape(-1, times * columns) if a.shape == first.shape
                else numpy.tile(numpy.broadcast_to(a, columns), times) for a in (first, *others)]
        result = rows[0] if overwrite else numpy.empty(rows[0].shape, first.dtype)

        def work(block: Any) -> None:
            out = result[block]
            if function(*[a[block] if a.ndim == 2 else a for a in rows], out=out) is not out:
                raise TypeError("an elementwise function must return the array `out` if it is given one")
        parallel(work, row_blocks(result.shape))
        return result.reshape(first.shape)
    return call
