"""Confidence intervals of means, by Student's t."""

from __future__ import annotations

import math
from typing import Any

import numpy

from minigen import checks
from minigen.core import numbers, to_host


def confidence_interval(values: Any, level: float = 0.95) -> dict[str, float]:
    """The mean of independent, normally distributed ``values`` (n,), and its confidence interval at this
    ``level``.

    The interval is mean +- t s / sqrt(n), where s is the standard deviation of the n values and t is
    Student's with n - 1 degrees of freedom. Returns ``mean``, ``low`` and ``high``. ``ValueError`` for fewer
    than two values, a value that is not finite, or a level outside (0, 1).
    """
    found = to_host(numbers("confidence_interval", "values", values))
    if found.ndim != 1:
        raise ValueError(f"confidence_interval: numbers (N,) expected, {found.dtype} {found.shape} found")
    values, n = found.astype("float64"), len(found)
    if n < 2:
        raise ValueError(f"confidence_interval: at least 2 values expected, {n} found")
    if not numpy.isfinite(values).all():
        raise ValueError(f"confidence_interval: finite values expected, {values.tolist()} found")
    level = checks.real("confidence_interval", "level", level, "(0, 1)")
    # With t = sqrt(n - 1) tan(angle) the density of the angle is proportional to cos(angle)^(n - 2).
    angles = numpy.linspace(0, math.pi / 2, 100_001)
    share = numpy.cumsum(numpy.cos(angles) ** (n - 2))
    t = math.sqrt(n - 1) * math.tan(numpy.interp(level, share / share[-1], angles))
    mean, half = numpy.mean(values), t * numpy.std(values, ddof=1) / math.sqrt(n)
    return {"mean": float(mean), "low": float(mean - half), "high": float(mean + half)}
