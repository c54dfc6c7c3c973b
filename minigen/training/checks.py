"""What ``train`` asks of its arguments. Each is refused by name, before anything on the disk is touched."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy

from minigen import checks
from minigen.backend import to_host
from minigen.checks import shown
from minigen.core import Tensor

_TAKEN = {"file", "allow_pickle", "minigen.run"}     # of numpy.savez, and the record of a checkpoint


class ArgumentError(ValueError):
    """An argument cannot be used as asked; the message is one line that names it."""


def refused(name: str, expected: str, found: Any) -> ArgumentError:
    """The error for the argument ``name`` of train."""
    return ArgumentError(f"train: {name}: {expected} expected, {shown(found)} found")


def whole(name: str, value: Any, least: int, most: int = 2 ** 64 - 1) -> int:
    """The value as an int, if it is an integer from ``least`` to ``most``; NumPy's integers are."""
    try:
        return checks.whole("train", name, value, least, most)
    except (TypeError, ValueError) as error:
        raise ArgumentError(str(error)) from None


def iterations(name: str, values: Any, last: int) -> frozenset[int]:
    """The values as a set, if they are iterations of a run that ends at ``last``."""
    if not isinstance(values, Iterable):
        raise refused(name, "a collection of iterations", values)
    return frozenset(whole(name, value, 1, last) for value in values)


def flag(name: str, value: Any) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool):
        raise refused(name, "True or False", value)
    return value


def function(name: str, value: Any) -> Any:
    """The value, if it can be called or is None."""
    if value is not None and not callable(value):
        raise refused(name, "a function or None", value)
    return value


def arrays(images: Any, finite: bool) -> tuple[numpy.ndarray, ...]:
    """One array, or a tuple of arrays of equal length, as a tuple; ``finite`` refuses NaN and infinity."""
    found = images if isinstance(images, tuple) else (images,)
    for array in found:
        if not isinstance(array, numpy.ndarray) or not _is_batch(array):
            raise refused("images", "a NumPy array of numbers (N, ...) without a mask, such as "
                          "data.train_images, or a tuple of such arrays,", array)
    lengths = {len(array) for array in found}
    if len(lengths) != 1:
        raise refused("images", "arrays of equal length", tuple(map(len, found)))
    for array in found if finite else ():
        for i in range(0, len(array), 1000):
            if not numpy.isfinite(array[i:i + 1000]).all():
                raise ArgumentError(f"train: images: finite numbers expected, NaN or infinity found among "
                                    f"images {i} to {min(i + 1000, len(array)) - 1}")
    return found


def prepared(images: Any) -> Any:
    """What ``prepare`` returned, if that is an array of numbers, or a tuple of such arrays."""
    for array in images if isinstance(images, tuple) else (images,):
        if not _is_batch(array):
            raise refused("prepare", "an array of numbers (N, ...) without a mask, or a tuple of them,",
                          array)
    return images


def _is_batch(value: Any) -> bool:
    numeric = hasattr(value, "dtype") and getattr(value.dtype, "kind", "O") in "biuf"
    return numeric and value.ndim > 0 and not isinstance(value, numpy.ma.MaskedArray)


def image_shape(value: Any) -> tuple[int, int, int] | None:
    """(height, width) or (height, width, channels), as the latter, or None."""
    if value is None:
        return None
    if not isinstance(value, (tuple, list)) or len(value) not in (2, 3):
        raise refused("image_shape", "(height, width) or (height, width, channels)", value)
    height, width, channels = (whole("image_shape", size, 1) for size in (*value, 1)[:3])
    return height, width, channels


def numbers(source: str, values: Any, taken: Iterable[str] = ()) -> dict[str, Any]:
    """The values, if they are a dict of numbers or 0-d arrays by name, none of them in ``taken``."""
    if not isinstance(values, Mapping):
        raise ArgumentError(f"{source}: a dict of numbers expected, {shown(values)} found")
    for name, value in values.items():
        if not isinstance(name, str) or name in taken:
            raise ArgumentError(f"{source}: {shown(name)} cannot be the name of a metric: "
                                f"{'that is one already' if isinstance(name, str) else 'a string expected'}")
        if isinstance(value, Tensor) or not _is_numeric(value) or _array(value).ndim:
            raise ArgumentError(f"{source}: a number expected as {name}, {shown(value)} found")
    return dict(values)


def state(source: str, values: Any) -> None:
    """The values must be a dict of arrays of numbers, under names that an .npz file can have."""
    if not isinstance(values, Mapping):
        raise ArgumentError(f"{source}: a dict of arrays expected, {shown(values)} found")
    for name, value in values.items():
        if not isinstance(name, str) or name in _TAKEN:
            raise ArgumentError(f"{source}: {shown(name)} cannot be the name of an array")
        if not _is_numeric(value):
            raise ArgumentError(f"{source}: an array of numbers expected as {name}, {shown(value)} found")


def _is_numeric(value: Any) -> bool:
    return _array(value).dtype.kind in "biuf"


def _array(value: Any) -> Any:
    return value if hasattr(value, "dtype") else numpy.asarray(value)


def plain(values: Mapping[str, Any]) -> dict[str, float]:
    """The values, numbers or 0-d arrays, as Python's numbers."""
    found = {name: to_host(value) for name, value in values.items()}
    return {name: float(value) if value.dtype.kind == "f" else value.item() for name, value in found.items()}
