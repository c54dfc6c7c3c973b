"""How work on NumPy's arrays is shared among threads, and cut into blocks that fit into a core's cache.

NumPy's own passes run on one thread, its matrix products on BLAS's threads. Here several threads each take a
share of the blocks; meanwhile BLAS is held to one thread, so that the products within a block run beside
those of the others. On a GPU there is one thread and one block: there each block would be a kernel.
"""

from __future__ import annotations

import ctypes
import math
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache, wraps
from typing import Any

import numpy
import threadpoolctl

from minigen import backend
from minigen.backend import Array, xp

_NUMBERS_PER_THREAD = 1 << 18       # from here on a thread gains more than it costs

# How many threads there are


@cache
def _blas() -> Any:
    """The controller of the number of threads that NumPy's matrix products take."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


@cache
def _blas_threads() -> int:
    return max((library["num_threads"] for library in _blas().info()), default=1)


def count() -> int:
    """How many threads share the work: with NumPy as many as BLAS has, with a GPU the one that drives it."""
    return _blas_threads() if backend.name() == "numpy" else 1


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    # After a product BLAS's own threads wait for the next one so busily that they would take the processor
    # from the threads here.
    _blas_threads()     # counted before
    with _blas().limit(limits=1):
        yield


# Sharing work

_sharing: ContextVar[bool] = ContextVar("sharing", default=False)
_one_at_a_time = threading.Lock()


@contextmanager
def large_arrays() -> Iterator[None]:
    """Within this context ``parallel`` has all threads, a matrix product has one, and memory is reused."""
    _keep_memory()
    before = _sharing.set(True)
    try:
        with _one_blas_thread():
            yield
    finally:
        _sharing.reset(before)


def sharing() -> bool:
    """Whether several threads could share a matrix product: within ``large_arrays``, where it has one."""
    return _sharing.get() and count() > 1


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count() - 1, thread_name_prefix="minigen")


def parallel(work: Callable[[Any], None], jobs: Iterable[Any]) -> None:
    """Call ``work`` with each of ``jobs``, on several threads at once if NumPy is used.

    Each thread takes its part of the list from the front, so that neighbouring memory is first touched by one
    thread, and then helps another from the back. Meanwhile each matrix product runs on its caller's thread
    alone. ``work`` must not call ``parallel``.
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
    # Within large_arrays there is one BLAS thread already.
    with _one_at_a_time, nullcontext() if _sharing.get() else _one_blas_thread():
        others = [_pool().submit(take, i) for i in range(1, workers)]
        take(0)
        for other in others:
            if not other.cancel():      # else it has not begun, and nothing is left for it
                other.result()


def share(work: Callable[[Any], None], jobs: Iterable[Any]) -> None:
    """Call ``work`` with each of ``jobs``: by ``parallel`` within ``large_arrays``, else on this thread.

    Elsewhere BLAS's threads are busy, and others would gain nothing.
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
    """Let the C library keep freed memory for the next large array: new pages have to be cleared."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        never_map, never_trim = (-4, 0), (-1, -1)       # M_MMAP_MAX and M_TRIM_THRESHOLD in malloc.h
        mallopt(*never_map)
        mallopt(*never_trim)


def workspace(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory of this thread, with arbitrary content; it is reused when the same name is asked for again."""
    size, key = math.prod(shape), (name, xp.dtype(dtype), backend.name())
    arrays = _memory.__dict__.setdefault("arrays", {})
    if key not in arrays or arrays[key].size < size:
        arrays[key] = xp.empty(size, dtype)
    return arrays[key][:size].reshape(shape)


# Blocks


def block_numbers() -> int:
    """The size of a thread's workspace, in numbers: for NumPy, what fits into its core's own cache."""
    return 1 << 19 if backend.name() == "numpy" else 1 << 23


def gemm_rows(numbers: int) -> int:
    """How many rows of a long matrix, a power of 2, to multiply at once with a factor of this many numbers.

    OpenBLAS, NumPy's usual BLAS, does not arrange the factors anew for a product of at most a million
    multiplications, which makes it up to three times as fast if there are few columns. The result is 0 if one
    row is too many.
    """
    return 1 << (10 ** 6 // max(1, numbers)).bit_length() >> 1 if backend.name() == "numpy" else 0


def fold_rows(columns: int, rows: int, numbers: int) -> int:
    """How many rows of an array to fold into one, so that NumPy's loops run over ``numbers`` or more."""
    return math.gcd(rows, 1 << ((numbers - 1) // max(1, columns)).bit_length())


def row_blocks(shape: tuple[int, ...], arrays: int = 1) -> list[Any]:
    """Indices of blocks of rows; a block of ``arrays`` arrays of this shape fits into the cache."""
    size = math.prod(shape)
    numbers = min(block_numbers() // arrays, max(_NUMBERS_PER_THREAD // arrays, size // count()))
    if size <= numbers or backend.name() != "numpy":
        return [...]
    step = max(1, numbers * shape[0] // size)
    return [slice(i, i + step) for i in range(0, shape[0], step)]


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let an elementwise function take large NumPy arrays block by block, on several threads.

    On a GPU it is one kernel, see ``backend.fused``. Its result has the shape and dtype of the first
    argument, and goes into the array ``out`` if the function is given one. The other arguments are arrays of
    this shape, or vectors that are broadcast along the last axis. With ``overwrite`` the result of a large
    array takes its memory.
    """
    one_kernel = backend.fused(function)

    @wraps(function)
    def call(first: Any, *others: Any, overwrite: bool = False) -> Any:
        if type(first) is not numpy.ndarray or first.size < 2 * _NUMBERS_PER_THREAD or first.ndim < 2:
            return one_kernel(first, *others)
        columns = first.shape[-1]
        # NumPy passes shorter rows through a buffer.
        times = fold_rows(columns, first.size // columns, numpy.getbufsize())
        rows = [a.reshape(-1, times * columns) if a.shape == first.shape else numpy.tile(a, times)
                for a in (first, *others)]
        result = rows[0] if overwrite else numpy.empty(rows[0].shape, first.dtype)

        def work(block: Any) -> None:
            function(*[a[block] if a.ndim == 2 else a for a in rows], out=result[block])
        parallel(work, row_blocks(result.shape))
        return result.reshape(first.shape)
    return call
