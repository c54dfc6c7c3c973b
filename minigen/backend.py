"""The array backend: which module ``xp`` is, and how arrays reach it and come back.

Everything above computes with ``xp``, which stands for NumPy or CuPy. ``xp`` looks its names up when they are used, so
that ``use("cupy")`` switches code that is already imported. No other module names CuPy.
"""

from __future__ import annotations

import ctypes
import importlib
import math
import os
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

Array = Any     # an ndarray of the backend in use


class BackendError(RuntimeError):
    """The backend asked for cannot be used here; the message is one line that says what is missing."""


class _Namespace:
    """The module in use; a name is looked up there once, then kept here."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(_module, name)
        self.__dict__[name] = value
        return value


_module = numpy
xp = _Namespace()


def use(name: str) -> None:
    """Switch every later computation to ``"numpy"`` or ``"cupy"``. Tensors made before stay where they are.

    Raises ``BackendError`` if CuPy or a CUDA device is missing: nothing falls back silently to the CPU.
    """
    global _module
    if name not in ("numpy", "cupy"):
        raise BackendError(f"unknown backend {name!r}: expected 'numpy' or 'cupy'")
    _module = numpy if name == "numpy" else _cupy()
    xp.__dict__.clear()


def name() -> str:
    """The backend in use: ``"numpy"`` or ``"cupy"``."""
    return _module.__name__


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(f"the GPU needs CuPy, and importing it failed ({_first_line(error)}): "
                           "pip install cupy-cuda12x or cupy-cuda13x, whichever your driver supports") from None
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"CuPy is installed but finds no CUDA device ({_first_line(error)})") from None
    return cupy


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =\t")]
    return lines[0] if lines else type(error).__name__


@cache
def _blas() -> Any:
    """What sets the number of threads that NumPy's matrix products take."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


@cache
def _blas_threads() -> int:
    return max((library["num_threads"] for library in _blas().info()), default=1)


def threads() -> int:
    """How many threads share the work: for NumPy as many as its matrix products take, for a GPU the one that drives it."""
    return _blas_threads() if _module is numpy else 1


def block_numbers() -> int:
    """How many numbers a thread's workspace should have at most: for NumPy, what its core's own cache holds."""
    return 1 << 19 if _module is numpy else 1 << 23


def rows_at_once(numbers: int) -> int:
    """How many rows, a power of 2, of a long matrix to multiply at once with a small one of so many numbers; 0 if with all.

    Where the small one fits the first cache, OpenBLAS, NumPy's usual BLAS, multiplies without arranging the factors anew if
    there are at most a million multiplications, which is up to twice as fast if there are few columns.
    """
    return 1 << (10 ** 6 // numbers).bit_length() - 1 if _module is numpy and numbers <= 3 << 12 else 0


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads() - 1, thread_name_prefix="minigen")


@cache
def _keep_memory() -> None:
    """Let the C library keep freed memory for the next large array, whose pages the system would have to clear again."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        never_map, never_trim = (-4, 0), (-1, -1)       # M_MMAP_MAX and M_TRIM_THRESHOLD in malloc.h
        mallopt(*never_map)
        mallopt(*never_trim)


@contextmanager
def _one_blas_thread() -> Iterator[None]:
    # After a product BLAS's own threads wait for the next one so busily that they would take the processor from those here.
    _blas_threads()     # counted before
    with _blas().limit(limits=1):
        yield


_sharing: ContextVar[bool] = ContextVar("sharing", default=False)


def sharing() -> bool:
    """Whether several threads could share a matrix product that by itself has one: within ``large_arrays``."""
    return _sharing.get() and threads() > 1


@contextmanager
def large_arrays() -> Iterator[None]:
    """Within this context all threads are for ``parallel``, matrix products run on the one that calls them; memory is reused."""
    _keep_memory()
    before = _sharing.set(True)
    try:
        with _one_blas_thread():
            yield
    finally:
        _sharing.reset(before)


_one_at_a_time = threading.Lock()
_WORTH = 1 << 18        # numbers for a thread from which on it gains more than it costs


def parallel(work: Callable[[Any], None], jobs: Iterable[Any]) -> None:
    """Call ``work`` with each of ``jobs``, on several threads at once if NumPy is used.

    Each thread takes its part of the list from the front, so that memory side by side is first touched by one thread, and then
    helps another from the back. Meanwhile the matrix products of each run on that thread alone. ``work`` must not call this.
    """
    jobs = list(jobs)
    count = min(threads(), len(jobs))
    if count < 2:
        for job in jobs:
            work(job)
        return
    parts = [deque(jobs[i * len(jobs) // count:(i + 1) * len(jobs) // count]) for i in range(count)]

    def take(own: int) -> None:
        for i in range(count):
            part = parts[(own + i) % count]
            while (job := _taken(part, last=i > 0)) is not None:
                work(job)
    with _one_at_a_time, nullcontext() if _sharing.get() else _one_blas_thread():       # in large_arrays there is one already
        others = [_pool().submit(take, i) for i in range(1, count)]
        take(0)
        for other in others:
            if not other.cancel():      # else it has not begun, and nothing is left for it
                other.result()


def _taken(part: deque[Any], last: bool) -> Any:
    try:
        return part.pop() if last else part.popleft()
    except IndexError:      # another thread may have been quicker
        return None


def wide(columns: int, rows: int, numbers: int) -> int:
    """How many rows of an array to take for one, so that NumPy's inner loops, along a row, are of at least so many numbers."""
    return math.gcd(rows, 1 << ((numbers - 1) // max(1, columns)).bit_length())


def row_blocks(shape: tuple[int, ...]) -> list[slice]:
    """The rows of an array of this shape (rows, columns), cut so that several passes over a block find it in the cache."""
    rows, columns = shape
    numbers = min(block_numbers(), max(_WORTH, rows * columns // threads()))
    step = max(1, numbers // max(1, columns))
    return [slice(i, i + step) for i in range(0, rows, step)]


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that works element by element be one kernel on a GPU, which CuPy makes of it when it is first called there.

    It consists of operators and elementwise functions of arrays and numbers, and may write into its arguments.
    """
    @cache
    def kernel(module: Any) -> Callable[..., Any]:
        return module.fuse(kernel_name="minigen_" + function.__name__.strip("_"))(function)

    @wraps(function)
    def call(first: Any, *others: Any) -> Any:
        if _module is numpy or type(first) is not _module.ndarray:      # a Tensor: the function is to be recorded
            return function(first, *others)
        return kernel(_module)(first, *others)
    return call


def elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that works element by element take large arrays of NumPy's block by block, on several threads; ``fused``.

    Its result is of the first argument's shape and dtype, and goes into the array ``out`` if the function is given one. The other
    arguments are arrays of this shape, or vectors that are broadcast along the last axis. With ``overwrite`` the result of
    a large array takes its memory.
    """
    one_kernel = fused(function)

    @wraps(function)
    def call(first: Any, *others: Any, overwrite: bool = False) -> Any:
        if type(first) is not numpy.ndarray or first.size < 2 * _WORTH or first.ndim < 2:
            return one_kernel(first, *others)
        columns = first.shape[-1]
        times = wide(columns, first.size // columns, numpy.getbufsize())     # with less, NumPy steps through a buffer
        rows = [a.reshape(-1, times * columns) if a.shape == first.shape else numpy.tile(a, times) for a in (first, *others)]
        result = rows[0] if overwrite else numpy.empty(rows[0].shape, first.dtype)

        def work(block: slice) -> None:
            function(*[a[block] if a.ndim == 2 else a for a in rows], out=result[block])
        parallel(work, row_blocks(result.shape))
        return result.reshape(first.shape)
    return call


def to_device(array: Any) -> Array:
    """The array on the backend in use; host memory is copied only if that is a GPU."""
    return xp.asarray(array)


def to_host(array: Array) -> numpy.ndarray:
    """The array as a NumPy array; from a GPU this copies, and waits for the device."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


use(os.environ.get("MINIGEN_BACKEND") or "numpy")
