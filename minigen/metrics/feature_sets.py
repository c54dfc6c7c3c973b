"""Checks shared by the measures that compare two sets of features."""

from __future__ import annotations

from typing import Any

import numpy

from minigen.core import numbers, to_host

_LARGEST = 1e45     # of features: the kernel distance takes sixth powers


def pair(owner: str, **sets: Any) -> list[numpy.ndarray]:
    """Two sets of features, (N, features) each and by name, as float64 on the host.

    ``owner``'s ``ValueError`` if one has fewer than two samples, if the numbers of features differ or are 0,
    or if a feature is not finite or too large.
    """
    first, second = found = [to_host(numbers(owner, name, a)).astype("float64") for name, a in sets.items()]
    alike = first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1] > 0
    if not alike or min(len(first), len(second)) < 2:
        raise ValueError(f"{owner}: two arrays (N, features) with N > 1 expected, as from features, "
                         f"{first.shape} and {second.shape} found")
    if not all((abs(a) < _LARGEST).all() for a in found):
        raise ValueError(f"{owner}: finite features expected, below {_LARGEST:g}, but NaN or larger ones "
                         "found")
    return found
