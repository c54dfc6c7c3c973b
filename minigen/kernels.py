"""What is one kernel on a GPU, where each costs a launch: fused functions, and rows of numbers made of parts.

With NumPy these are plain functions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any

from minigen.backend import Array, on_host, xp

_MOST_PLACED = 64       # arrays by one kernel, whose arguments are at most 4 KB


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an elementwise function into one kernel on a GPU, which CuPy builds on the first call there.

    The function consists of operators and elementwise functions of arrays and numbers, with a sum at the end
    or without. It may write into its arguments. Two numbers must not meet: CuPy would compute with them in
    float16.
    """
    @cache
    def kernel(fuse: Callable[..., Any]) -> Any:
        return fuse(kernel_name="minigen_" + function.__name__.strip("_"))(function)

    @wraps(function)
    def call(first: Any, *others: Any) -> Any:
        if on_host() or type(first) is not xp.ndarray:      # a Tensor records the steps
            return function(first, *others)
        return kernel(xp.fuse)(first, *others)
    return call


def either(on_cpu: Callable[..., Any], on_gpu: Callable[..., Any]) -> Callable[..., Any]:
    """The function that calls ``on_cpu`` while NumPy is used, and ``on_gpu`` otherwise.

    Both compute the same: NumPy is fast with matrix products and blocks, a GPU with few kernels.
    """
    @wraps(on_cpu)
    def call(*args: Any, **options: Any) -> Any:
        return (on_cpu if on_host() else on_gpu)(*args, **options)
    return call


def concatenate(arrays: Sequence[Array], axis: int | None = 0) -> Array:
    """``xp.concatenate``; on a GPU it is one kernel if the arrays lie end to end in the result."""
    if on_host() or not 0 < len(arrays) <= _MOST_PLACED:
        return xp.concatenate(arrays, axis=axis)
    first = arrays[0]
    end_to_end = axis is None or axis == 0 and first.ndim and all(
        a.shape[1:] == first.shape[1:] for a in arrays)
    if not end_to_end or any(a.dtype != first.dtype for a in arrays):
        return xp.concatenate(arrays, axis=axis)
    ends = list(itertools.accumulate(a.size for a in arrays))
    row = _row(ends[-1], [(end - a.size, a) for a, end in zip(arrays, ends)])
    return row if axis is None else row.reshape(-1, *first.shape[1:])


def placed(a: Array, index: Any, shape: tuple[int, ...]) -> Array:
    """Zeros of ``shape`` with ``a`` at a basic ``index``; on a GPU, one kernel if that is a range of rows."""
    if not on_host() and type(index) is slice and index.step in (None, 1):
        start = index.indices(shape[0])[0]
        return _row(math.prod(shape), [(start * math.prod(shape[1:]), a)]).reshape(shape)
    y = xp.zeros(shape, a.dtype)
    y[index] = a
    return y


def _row(n: int, parts: Sequence[tuple[int, Array]]) -> Array:
    """A row of n numbers on the GPU: 0, but the parts each from its place on."""
    row = xp.empty(n, parts[0][1].dtype)
    given = [x for start, a in parts for x in (start, start + a.size, a.reshape(-1))]
    _placing(xp.ElementwiseKernel, len(parts))(*given, row)
    return row


@cache
def _placing(kind: Callable[..., Any], n: int) -> Any:
    """The kernel that fills a row with n parts."""
    given = ", ".join(f"int64 start{k}, int64 end{k}, raw T a{k}" for k in range(n))
    parts = "".join(f"i >= start{k} && i < end{k} ? a{k}[i - start{k}] : " for k in range(n))
    return kind(given, "T y", f"y = {parts}T()", "minigen_placed")


def gather(x: Array, windows: Array, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    """Copy windows of images x (N, H, W, C) on the GPU into ``windows`` (N, tiles below each other, tiles
    side by side, height, width, C), with zeros beyond the images.

    ``rows`` has the step from one tile to that below, and the first row of the first; ``columns`` likewise.
    """
    _gathering(xp.ElementwiseKernel)(x, *x.shape[1:], *windows.shape[1:5], *rows, *columns, windows)


@cache
def _gathering(kind: Callable[..., Any]) -> Any:
    """The kernel that copies windows: it takes each number's place in them apart."""
    names = "H W C down across height width row_step top column_step left"
    given = ", ".join(f"int32 {name}" for name in names.split())
    return kind(f"raw T x, {given}", "T y", """
        unsigned int place = i;     // 32 bits are divided several times as fast as 64
        const int c = place % C; place /= C;
        const int column = place % width; place /= width;
        const int row = place % height + top; place /= height;
        const int tile = place % across; place /= across;
        const int h = row + (int)(place % down) * row_step, w = column + tile * column_step + left;
        place /= down;
        y = h >= 0 && h < H && w >= 0 && w < W ? x[(((size_t)place * H + h) * W + w) * C + c] : T();
        """, "minigen_gathered")


def whole(parts: Sequence[Array]) -> Array | None:
    """The row (n,) on a GPU of which these arrays are all parts, one after the other; None if there is none.

    NumPy's arrays are not looked at.
    """
    row = None if on_host() else parts[0].base
    if row is None or row.shape != (sum(part.size for part in parts),):
        return None
    place = row.data.ptr
    for part in parts:
        if part.data.ptr != place or not part.flags.c_contiguous:
            return None
        place += part.nbytes
    return row
