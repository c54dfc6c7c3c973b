"""Checks of arguments. What cannot be used is refused in one sentence: who, what is expected, what was found.

``TypeError`` is for the wrong kind of thing, ``ValueError`` for a number that is out of range.
"""

from __future__ import annotations

import inspect
import math
import operator
import reprlib
from collections.abc import Mapping, Sequence
from functools import cache
from numbers import Real
from typing import Any

import numpy

_MOST = 2 ** 31 - 1     # of anything that is counted: a larger size is a mistake
_ROUNDING = 1e-4        # of images, by which they may leave [0, 1]
_LARGEST = float(numpy.finfo("float32").max)    # of points: networks compute in float32
_FLOATS = {numpy.dtype("float32"), numpy.dtype("float64")}


def shown(value: Any) -> str:
    """The value as a message shows it: on one line, and shortened if it is long."""
    try:
        return " ".join(reprlib.repr(value).split())
    except ValueError:      # Python does not write an int of thousands of digits
        return "a huge number"


def whole(owner: str, name: str, value: Any, least: int = 1, most: int = _MOST) -> int:
    """``value``, an integer of Python's or NumPy's, as an int from ``least`` to ``most``."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is not None and least <= number <= most:
        return number
    bound = f"at least {least}" if number is None or number < least else f"at most {most}"
    raise (TypeError if number is None else ValueError)(
        f"{owner}: an integer {name} of {bound} expected, {shown(value)} found")


def real(owner: str, name: str, value: Any, interval: str = "(-inf, inf)") -> float:
    """``value``, a number of Python's or NumPy's, as a float in ``interval``, such as ``"[0, 1)"``."""
    right_kind = type(value) is float or isinstance(value, Real) and not isinstance(value, bool)
    low, high = _ends(interval)
    try:
        number = float(value) if right_kind else math.nan
    except OverflowError:
        number = math.inf
    if low < number < high or number == low and interval[0] == "[" or number == high and interval[-1] == "]":
        return number
    raise (ValueError if right_kind else TypeError)(
        f"{owner}: a number {name} in {interval} expected, {shown(value)} found")


@cache
def _ends(interval: str) -> tuple[float, float]:
    low, high = map(float, interval[1:-1].split(","))
    return low, high


def seed(owner: str, value: Any) -> int:
    """``value``, an integer of 64 bits, as an int."""
    return whole(owner, "seed", value, least=0, most=2 ** 64 - 1)


def sizes(owner: str, name: str, value: Any, fewest: int = 1) -> tuple[int, ...]:
    """``value``, a sequence of at least ``fewest`` sizes, as a tuple of ints of at least 1."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence) or len(value) < fewest:
        raise TypeError(f"{owner}: a sequence {name} of {fewest} or more integers expected, "
                        f"{shown(value)} found")
    return tuple(whole(owner, f"{name}[{i}]", size) for i, size in enumerate(value))


def floats(owner: str, **arrays: Any) -> None:
    """All must be arrays or Tensors, and of one dtype, float32 or float64."""
    dtypes = {getattr(a, "dtype", type(a).__name__) for a in arrays.values()}
    if len(dtypes) > 1 or not dtypes <= _FLOATS:
        found = (str(getattr(a, "dtype", type(a).__name__)) for a in arrays.values())
        raise TypeError(f"{owner}: {', '.join(arrays)} of one dtype, float32 or float64, expected, "
                        f"{', '.join(found)} found: convert arrays with astype")


def state(owner: str, expected: Mapping[str, numpy.ndarray], found: Any) -> None:
    """``found`` must have the names, shapes and dtypes of ``expected``, and finite numbers only."""
    if not isinstance(found, Mapping):
        raise TypeError(f"{owner}: a dict of arrays by name expected, {type(found).__name__} found")
    missing, unknown = (sorted(map(str, a.keys() - b.keys()))
                        for a, b in ((expected, found), (found, expected)))
    if missing or unknown:
        raise ValueError(f"{owner}: the state of something else found, missing: {missing}, "
                         f"unknown: {unknown}")
    for name, mine in expected.items():
        array = found[name]
        if not isinstance(array, (numpy.ndarray, numpy.generic)):
            raise TypeError(f"{owner}: {name} is no NumPy array, but {type(array).__name__}")
        if (array.dtype, array.shape) != (mine.dtype, mine.shape):
            raise ValueError(f"{owner}: {name} of {mine.dtype} {mine.shape} expected, "
                             f"{array.dtype} {array.shape} found")
        if not numpy.isfinite(array).all():
            raise ValueError(f"{owner}: {name} is not finite")


def _is_array(found: Any) -> bool:
    """No Tensor, of whichever library, and no masked array: nothing here looks at a mask."""
    return (isinstance(getattr(found, "dtype", None), numpy.dtype) and hasattr(found, "min")
            and not isinstance(found, numpy.ma.MaskedArray))


def points(owner: str, found: Any, size: int) -> None:
    """``found`` must be points: an array (N, size) of floats in the range of float32."""
    is_array = _is_array(found)
    words = f"{found.dtype} {found.shape}" if is_array else type(found).__name__
    fits = is_array and found.shape[1:] == (size,) and found.dtype.newbyteorder("=") in _FLOATS
    if fits and len(found) and not float(abs(found).max()) <= _LARGEST:     # NaN is not
        fits, words = False, f"NaN or more than {_LARGEST:.4g}"
    if not fits:
        raise ValueError(f"{owner}: points (N, {size}) of finite floats expected, {words} found")


def plain_function(context: str, function: Any) -> None:
    """``function``, to be decorated with ``context``, must run its body when it is called, not later."""
    if not inspect.isroutine(function) or any(
            test(function) for test in (inspect.isgeneratorfunction, inspect.iscoroutinefunction,
                                        inspect.isasyncgenfunction)):
        raise TypeError(f"{context}: a plain function expected, {function!r} found: its body runs later, "
                        f"outside the context: write `with {context}():` in the body, but not around a yield "
                        "or an await")


def images(owner: str, found: Any, shape: Sequence[Any]) -> None:
    """``found`` must be images: ``(N, *shape)`` floats in [0, 1]; None in ``shape`` is any size."""
    kind: Any = getattr(found, "dtype", None)
    size, is_array = getattr(found, "shape", ()), _is_array(found)
    fits = is_array and len(size) == 1 + len(shape) and all(n in (None, m) for n, m in zip(shape, size[1:]))
    if not fits or kind.newbyteorder("=") not in _FLOATS:
        wanted = f"({', '.join(['N', *('...' if n is None else str(n) for n in shape)])})"
        remedy = ": datasets.scale makes them from uint8" if kind == numpy.uint8 else ""
        raise ValueError(f"{owner}: images {wanted} of floats in [0, 1] expected, "
                         f"{f'{kind} {size}' if is_array else type(found).__name__} found{remedy}")
    low, high = (float(found.min()), float(found.max())) if math.prod(size) else (0.0, 1.0)
    if not (-_ROUNDING <= low and high <= 1 + _ROUNDING):       # NaN is neither
        values = "NaN" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
        raise ValueError(f"{owner}: images in [0, 1] expected, {values} found")
