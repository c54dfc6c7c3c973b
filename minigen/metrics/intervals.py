"""Confidence intervals of means, by Student's t."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy


def confidence_interval(values: Sequence[float], level: float = 0.95) -> dict[str, float]:
    """The mean of independent, normally distributed ``values``, and its confidence interval at this
    ``level``.

    The interval is mean +- t s / sqrt(n), where s is the standard deviation of the n values and t is
    Student's with n - 1 degrees of freedom. Returns ``mean``, ``low`` and ``high``. ``ValueError`` for fewer
    than two values, a value that is not finite, or a level outside (0, 1).
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"confidence_interval: at least 2 values expected, {n} found")
    if not numpy.isfinite(values).all():
        raise ValueError(f"confidence_interval: finite values expected, {list(values)} found")
    if not 0 < level < 1:
        raise ValueError(f"confidence_interval: a level between 0 and 1 expected, {level} found")
    # With t = sqrt(n - 1) tan(angle) the density of the angle is proportional to cos(angle)^(n - 2).
    angles = numpy.linspace(0, math.pi / 2, 100_001)
    share = numpy.cumsum(numpy.cos(angles) ** (n - 2))
    t = math.sqrt(n - 1) * math.tan(numpy.interp(level, share / share[-1], angles))
    mean, half = numpy.mean(values), t * numpy.std(values, ddof=1) / math.sqrt(n)
    return {"mean": float(mean), "low": float(mean - half), "high": float(mean + half)}
