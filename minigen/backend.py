"""The array backend: the module behind ``xp``, copies to and from its device, and kernel fusion.

The rest of the package computes with ``xp``, which stands for NumPy or CuPy. ``xp`` looks up each name on
use, so ``use("cupy")`` also switches code that is already imported. No other module names CuPy.
"""

from __future__ import annotations

import importlib
import itertools
import math
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy

Array = Any     # an ndarray of the backend in use
_OLDEST_CUPY = 14
_INSTALL = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', whichever your driver supports"
_MOST_PLACED = 64       # arrays by one kernel, whose arguments are at most 4 KB


class BackendError(RuntimeError):
    """The requested backend cannot be used here; the message names the missing part in one line."""


class _Failed:
    """Stands for a module that the environment names but that cannot be used: every look-up says so."""

    def __init__(self, error: BackendError) -> None:
        self.__dict__["error"] = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


class _Namespace:
    """Passes names on to the module in use, and keeps each one after its first look-up."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(_module, name)
        self.__dict__[name] = value
        return value


_module: Any = numpy
xp = _Namespace()


def use(name: str) -> None:
    """Switch every later computation to ``"numpy"`` or ``"cupy"``. Existing Tensors stay where they are.

    Raises ``BackendError`` if CuPy, a CUDA device or one of CUDA's libraries is missing, or if CuPy is older
    than 14: there is no silent fallback to the CPU.
    """
    global _module
    if name not in ("numpy", "cupy"):
        raise BackendError(f"unknown backend {name!r}: expected 'numpy' or 'cupy'")
    _module = numpy if name == "numpy" else _cupy()
    xp.__dict__.clear()


def name() -> str:
    """The backend in use: ``"numpy"`` or ``"cupy"``."""
    return str(_module.__name__)


def choose_device(number: int) -> None:
    """Compute on the GPU with this number, counted round and round through those of this machine.

    NumPy has no choice.
    """
    if _module is not numpy:
        runtime = _module.cuda.runtime
        runtime.setDevice(number % runtime.getDeviceCount())


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(f"the GPU needs CuPy, and importing it failed ({_first_line(error)}): {_INSTALL}"
                           ) from None
    if int(cupy.__version__.split(".")[0]) < _OLDEST_CUPY:      # 13 makes float64 of float32 / 65536
        raise BackendError(f"CuPy {_OLDEST_CUPY} or later expected, {cupy.__version__} found: {_INSTALL}")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"CuPy is installed but finds no CUDA device ({_first_line(error)})") from None
    try:
        ones = cupy.ones((2, 2), "float32")
        ones @ ones
    except Exception as error:      # CuPy has errors of its own for each of CUDA's libraries
        raise BackendError(f"CuPy is installed but cannot multiply ({_first_line(error)}): {_INSTALL}"
                           ) from None
    return cupy


def about() -> dict[str, Any]:
    """What computes, by name: the backend and, for CuPy, its version, the GPU, and whether TF32 is allowed,
    whose products have three digits. CuPy reads this from the variable CUPY_TF32 of the environment."""
    if _module is numpy:
        return {"backend": "numpy"}
    runtime = _module.cuda.runtime
    gpu = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
    return {"backend": "cupy", "cupy": _module.__version__, "gpu": gpu,
            "tf32": os.environ.get("CUPY_TF32", "0") not in ("", "0")}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =\t")]
    return lines[0] if lines else type(error).__name__


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an elementwise function into one kernel on a GPU, which CuPy builds on the first call there.

    The function consists of operators and elementwise functions of arrays and numbers, with a sum at the end
    or without. It may write into its arguments. Two numbers must not meet: CuPy would compute with them in
    float16.
    """
    @cache
    def kernel(module: Any) -> Any:
        return module.fuse(kernel_name="minigen_" + function.__name__.strip("_"))(function)

    @wraps(function)
    def call(first: Any, *others: Any) -> Any:
        if _module is numpy or type(first) is not _module.ndarray:      # a Tensor records the steps
            return function(first, *others)
        return kernel(_module)(first, *others)
    return call


def either(on_cpu: Callable[..., Any], on_gpu: Callable[..., Any]) -> Callable[..., Any]:
    """The function that calls ``on_cpu`` while NumPy is used, and ``on_gpu`` otherwise.

    Both compute the same: NumPy is fast with matrix products and blocks, a GPU with few kernels.
    """
    @wraps(on_cpu)
    def call(*args: Any, **options: Any) -> Any:
        return (on_cpu if _module is numpy else on_gpu)(*args, **options)
    return call


def concatenate(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    """``xp.concatenate``; on a GPU it is one kernel if the arrays lie end to end in the result."""
    first = arrays[0]
    end_to_end = axis is None or axis == 0 and first.ndim and all(
        a.shape[1:] == first.shape[1:] for a in arrays)
    if _module is numpy or not end_to_end or len(arrays) > _MOST_PLACED or any(
            a.dtype != first.dtype for a in arrays):
        return xp.concatenate(arrays, axis=axis)
    ends = list(itertools.accumulate(a.size for a in arrays))
    row = _row(ends[-1], [(end - a.size, a) for a, end in zip(arrays, ends)])
    return row if axis is None else row.reshape(-1, *first.shape[1:])


def placed(a: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of ``shape`` with ``a`` at a basic ``index``; on a GPU, one kernel if that is a range of rows."""
    if _module is not numpy and type(index) is slice and index.step in (None, 1):
        start = index.indices(shape[0])[0]
        return _row(math.prod(shape), [(start * math.prod(shape[1:]), a)]).reshape(shape)
    y = xp.zeros(shape, a.dtype)
    y[index] = a
    return y


def _row(n: int, parts: Sequence[tuple[int, Array]]) -> Array:
    """A row of n numbers on the GPU: 0, but the parts each from its place on."""
    row = _module.empty(n, parts[0][1].dtype)
    given = [x for start, a in parts for x in (start, start + a.size, a.reshape(-1))]
    _placing(_module, len(parts))(*given, row)
    return row


@cache
def _placing(module: Any, n: int) -> Any:
    """The kernel that fills a row with n parts."""
    given = ", ".join(f"int64 start{k}, int64 end{k}, raw T a{k}" for k in range(n))
    parts = "".join(f"i >= start{k} && i < end{k} ? a{k}[i - start{k}] : " for k in range(n))
    return module.ElementwiseKernel(given, "T y", f"y = {parts}T()", "minigen_placed")


def gather(x: Array, windows: Array, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Copy windows of images x (N, H, W, C) on the GPU into ``windows`` (N, tiles below each other, tiles
    side by side, height, width, C), with zeros beyond the images.

    ``rows`` has the step from one tile to that below, and the first row of the first; ``columns`` likewise.
    """
    _gathering(_module)(x, *x.shape[1:], *windows.shape[1:5], *rows, *columns, windows)


@cache
def _gathering(module: Any) -> Any:
    """The kernel that copies windows: it takes each number's place in them apart."""
    names = "H W C down across height width row_step top column_step left"
    given = ", ".join(f"int32 {name}" for name in names.split())
    return module.ElementwiseKernel(f"raw T x, {given}", "T y", """
        size_t place = i;
        const int c = place % C; place /= C;
        const int column = place % width; place /= width;
        const int row = place % height + top; place /= height;
        const int tile = place % across; place /= across;
        const int h = row + (int)(place % down) * row_step, w = column + tile * column_step + left;
        place /= down;
        y = h >= 0 && h < H && w >= 0 && w < W ? x[((place * H + h) * W + w) * C + c] : T();
        """, "minigen_gathered")


def whole(parts: Sequence[Array]) -> Array | None:
    """The row (n,) on a GPU of which these arrays are all parts, one after the other; None if there is none.

    NumPy's arrays are not looked at.
    """
    row = parts[0].base if _module is not numpy else None
    if row is None or row.shape != (sum(part.size for part in parts),):
        return None
    place = row.data.ptr
    for part in parts:
        if part.data.ptr != place or not part.flags.c_contiguous:
            return None
        place += part.nbytes
    return row


def to_device(array: Any) -> Array:
    """The array on the backend in use. Host memory is copied only if the backend is a GPU."""
    return xp.asarray(array)


def to_host(array: Array) -> numpy.ndarray:
    """The array as a NumPy array. On a GPU this waits for the device, and copies."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


def free_memory() -> float:
    """The bytes that can be allocated on the device in use, as far as the system tells."""
    if _module is not numpy:
        return float(_module.cuda.runtime.memGetInfo()[0])
    free = math.inf
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    with suppress(OSError, ValueError):     # a container's limit; "max" is none
        folder = Path("/sys/fs/cgroup")
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        free = min(free, float(int(limit) - int(used)))
    return free


def read_only(array: Array) -> Array:
    """A view of the array, or of the NumPy scalar, that cannot be written to; CuPy has none, and returns the
    array."""
    if _module is not numpy:
        return array
    view = numpy.asarray(array).view()
    view.flags.writeable = False
    return view


try:
    use(os.environ.get("MINIGEN_BACKEND") or "numpy")
except BackendError as error:       # not yet: a program reports it where it computes, not where it imports
    _module = _Failed(BackendError(f"MINIGEN_BACKEND: {error}"))
