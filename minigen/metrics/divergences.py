"""Divergences of discrete distributions: the D_phi family of the paper's section 1, and the Wasserstein
distance.

Distributions are vectors (N,) of probabilities. Everything is computed on the host in float64; ``kl`` and
``js`` are in nats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy

from minigen import checks
from minigen.core import numbers, to_host


def d_phi(p: Any, q: Any, phi: Callable[[numpy.ndarray], numpy.ndarray], slope: float) -> float:
    """D_phi(p | q) = E_p[phi(q / p)] (section 1), for a convex ``phi`` with phi(1) = 0.

    ``slope`` is the limit of phi(t) / t as t goes to infinity. As printed, the mass that q has where p has
    none costs nothing, so D_phi could be smallest at a q other than p. The full definition (Csiszar, 1967),
    used here, multiplies that mass by ``slope``. ``ValueError`` if p and q are not distributions of the same
    length.
    """
    return _d_phi("d_phi", p, q, phi, checks.real("d_phi", "slope", slope, "(-inf, inf]"))


def _d_phi(owner: str, p: Any, q: Any, phi: Callable[[numpy.ndarray], numpy.ndarray], slope: float) -> float:
    p, q = _distribution(owner, "p", p), _distribution(owner, "q", q)
    if p.shape != q.shape:
        raise ValueError(f"{owner}: two distributions of one length expected, {p.shape} and {q.shape} found")
    support = p > 1e-300 * q                            # for smaller p, q / p would overflow
    with numpy.errstate(divide="ignore", over="ignore"):        # -log 0 and (1e200)^2 are infinite
        inside = float(numpy.sum(p[support] * phi(q[support] / p[support])))
    outside = float(numpy.sum(q[~support]))
    return inside + slope * outside if outside else inside


def kl(p: Any, q: Any) -> float:
    """KL(p || q) = sum p log(p / q), that is phi(t) = -log t; infinite if q is 0 where p is not, and never
    negative.

    Section 1 gives phi = log as the example. That lacks the minus sign: D_phi would be largest at q = p.
    """
    return max(_d_phi("kl", p, q, lambda t: -numpy.log(t), 0.0), 0.0)      # rounding could make it less


def js(p: Any, q: Any) -> float:
    """JS(p || q) = KL(p || m) / 2 + KL(q || m) / 2 with m = (p + q) / 2; at most log 2, when p and q do not
    overlap.

    phi(t) = t log(t) / 2 - (1 + t) / 2 log((1 + t) / 2).
    """
    value = _d_phi("js", p, q, lambda t: (_t_log_t(t) - (1 + t) * numpy.log((1 + t) / 2)) / 2,
                   math.log(2) / 2)
    return max(value, 0.0)


def total_variation(p: Any, q: Any) -> float:
    """``sum |p - q| / 2``, the largest difference in an event's probability: ``phi(t) = |t - 1| / 2``."""
    return _d_phi("total_variation", p, q, lambda t: abs(t - 1) / 2, 0.5)


def chi_squared(p: Any, q: Any) -> float:
    """Pearson's sum (q - p)^2 / p: phi(t) = (t - 1)^2; infinite if p is 0 where q is not."""
    return _d_phi("chi_squared", p, q, lambda t: (t - 1) ** 2, math.inf)


def wasserstein_1(p: Any, q: Any, positions: Any) -> float:
    """The least mean distance that p's mass must move to become q: the integral of ``|F_p - F_q|``.

    ``positions`` (N,), in ascending order, are the places of the probabilities on the line; the result is in
    the same units.
    """
    p, q = _distribution("wasserstein_1", "p", p), _distribution("wasserstein_1", "q", q)
    x = to_host(numbers("wasserstein_1", "positions", positions)).astype("float64")
    if not p.shape == q.shape == x.shape:
        raise ValueError(f"wasserstein_1: p, q and positions of one length expected, {p.shape}, {q.shape} "
                         f"and {x.shape} found")
    if not (numpy.isfinite(x).all() and (x[1:] > x[:-1]).all()):
        raise ValueError("wasserstein_1: finite, ascending positions expected")
    return float(numpy.sum(abs(numpy.cumsum(p - q))[:-1] * numpy.diff(x)))


def _t_log_t(t: numpy.ndarray) -> numpy.ndarray:
    return t * numpy.log(numpy.where(t > 0, t, 1))      # 0 log 0 = 0


def _distribution(owner: str, name: str, values: Any) -> numpy.ndarray:
    values = to_host(numbers(owner, name, values)).astype("float64")
    if values.ndim != 1 or not (values >= 0).all() or not math.isclose(values.sum(), 1, abs_tol=1e-6):
        raise ValueError(f"{owner}: {name}: probabilities (N,) that add up to 1 expected, shape "
                         f"{values.shape} with sum {values.sum()} and least {values.min(initial=math.inf)} "
                         "found")
    return values
