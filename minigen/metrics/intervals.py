"""Confidence intervals: of means and paired differences by Student's t, of any statistic by the bootstrap."""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable
from typing import Any

import numpy

from minigen import checks
from minigen.core import numbers, to_host

_MOST = 10 ** 6         # values that decide
_LARGEST = 1e140        # of values: the interval takes the sum of their squares


def confidence_interval(values: Any, level: float = 0.95) -> dict[str, float]:
    """The mean of independent, normally distributed ``values`` (n,), and its confidence interval at this
    ``level``.

    The interval is mean +- t s / sqrt(n), where s is the standard deviation of the n values and t is
    Student's with n - 1 degrees of freedom. Returns ``mean``, ``low`` and ``high``. ``ValueError`` for fewer
    than two values, a value that is not finite or too large, or a level outside (0, 1).
    """
    return _students("confidence_interval", _vector("confidence_interval", "values", values), level)


def paired_difference(first: Any, second: Any, level: float = 0.95) -> dict[str, float]:
    """The mean of ``first - second``, (n,) each, and its ``confidence_interval`` at this ``level``.

    Values at the same place belong together, such as those of two models with the same seed. What they have
    in common does not widen the interval. ``ValueError`` in the cases of ``confidence_interval``, or for
    arrays of different lengths.
    """
    a, b = (_vector("paired_difference", name, values)
            for name, values in (("first", first), ("second", second)))
    if a.shape != b.shape:
        raise ValueError(f"paired_difference: two arrays (N,) of one length expected, {a.shape} and "
                         f"{b.shape} found")
    return _students("paired_difference", a - b, level)


def deciding_number(values: Any, level: float = 0.95) -> int | None:
    """The least number of values whose ``confidence_interval`` would exclude 0, if their mean and standard
    deviation were those of ``values`` (n,).

    None if a million would not do. ``ValueError`` in the cases of ``confidence_interval``.
    """
    values = _vector("deciding_number", "values", values)
    level = checks.real("deciding_number", "level", level, "(0, 1)")
    mean, deviation = abs(numpy.mean(values)), numpy.std(values, ddof=1)
    candidates = range(2, _MOST + 1)
    # The width falls with n, so that the first n that decides is found by bisection.
    place = bisect.bisect_left(candidates, True, key=lambda n: bool(_half_width(deviation, n, level) < mean))
    return candidates[place] if place < len(candidates) else None


def bootstrap(values: Any, statistic: Callable[[numpy.ndarray], Any] = numpy.mean, level: float = 0.95,
              resamples: int = 10_000, seed: int = 0) -> dict[str, float]:
    """The ``statistic`` of independent ``values`` (n, ...), and its percentile interval (Efron, 1979).

    ``statistic`` maps an array like ``values`` to a number, such as ``numpy.median`` for (n,) or
    ``entropy.mode_entropy`` for labels. It is also computed of ``resamples`` sets of n values, drawn with
    replacement. The share ``level`` of these results lies in the interval, the others half below and half
    above. Returns ``value``, ``low`` and ``high``. The same seed gives the same interval. ``ValueError`` for
    fewer than two values, values that are not finite, a level outside (0, 1), or a statistic that is not
    finite; ``TypeError`` for one that is no number.
    """
    found = to_host(numbers("bootstrap", "values", values))
    if found.ndim == 0 or len(found) < 2:
        raise ValueError(f"bootstrap: at least 2 values (N, ...) expected, {found.dtype} {found.shape} found")
    if not numpy.isfinite(found).all():
        raise ValueError("bootstrap: finite values expected, but NaN or infinite ones found")
    level = checks.real("bootstrap", "level", level, "(0, 1)")
    resamples = checks.whole("bootstrap", "resamples", resamples)
    rng, n = numpy.random.default_rng(checks.seed("bootstrap", seed)), len(found)

    def computed(sample: numpy.ndarray) -> float:
        return checks.real("bootstrap", "from statistic", statistic(sample))
    value = computed(found.copy())      # the statistic may write into what it gets
    results = [computed(found[rng.integers(n, size=n)]) for _ in range(resamples)]
    low, high = numpy.quantile(results, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "low": float(low), "high": float(high)}


def _vector(owner: str, name: str, values: Any) -> numpy.ndarray:
    found = to_host(numbers(owner, name, values))
    if found.ndim != 1:
        raise ValueError(f"{owner}: numbers (N,) expected, {found.dtype} {found.shape} found")
    found = found.astype("float64")
    if len(found) < 2:
        raise ValueError(f"{owner}: at least 2 values expected, {len(found)} found")
    if not (abs(found) < _LARGEST).all():
        raise ValueError(f"{owner}: finite values expected, below {_LARGEST:g}, "
                         f"{checks.shown(found.tolist())} found")
    return found


def _students(owner: str, values: numpy.ndarray, level: float) -> dict[str, float]:
    level = checks.real(owner, "level", level, "(0, 1)")
    mean, half = numpy.mean(values), _half_width(numpy.std(values, ddof=1), len(values), level)
    return {"mean": float(mean), "low": float(mean - half), "high": float(mean + half)}


def _half_width(deviation: float, n: int, level: float) -> float:
    # With t = sqrt(n - 1) tan(angle) the density of the angle is proportional to cos(angle)^(n - 2), which is
    # below 1e-30 beyond 12 / sqrt(n).
    angles = numpy.linspace(0, min(math.pi / 2, 12 / math.sqrt(n)), 100_001)
    density = numpy.cos(angles) ** (n - 2)
    share = numpy.concatenate([[0], numpy.cumsum(density[1:] + density[:-1])])     # by the trapezoidal rule
    t = math.sqrt(n - 1) * math.tan(numpy.interp(level, share / share[-1], angles))
    return t * float(deviation) / math.sqrt(n)
