"""Precision and recall (Kynkäänniemi et al., 2019), density and coverage (Naeem et al., 2020) of generated
images, in any features.

All four look at balls around samples. The ball of a sample reaches to its k-th nearest neighbour in its own
set, itself not counted, and includes its border. Squared distances are sums of squared differences, in
float64. So equal samples are at distance 0, and a is as far from b as b is from a.

A product of matrices gives all distances quickly, but with other rounding errors. It decides wherever these
cannot matter. The pairs within rounding of a border are measured once more, directly. Neighbouring samples
share a block, whose distances are computed relative to one of them. So these pairs are few, even if all
samples are nearly equal.
"""

from __future__ import annotations

from typing import Any

import numpy

from minigen import checks, threads
from minigen.metrics import feature_sets

_ROWS = 256         # of a block of distances
_COLUMNS = 2048     # of a product
_TOGETHER = 1 << 19  # numbers of which distances are measured directly at a time


def measure(real: Any, generated: Any, k: int = 5) -> dict[str, float]:
    """``precision``, ``recall``, ``density`` and ``coverage`` of generated samples (M, features), compared
    with real ones (N, features).

    Precision is the share of generated samples in the ball of some real one, recall the share of real samples
    in the ball of some generated one (Kynkäänniemi et al., Eq. 2). Density is the mean number of real
    samples' balls that a generated one is in, divided by k. Coverage is the share of real samples with a
    generated one in their ball (Naeem et al., section 3). Density may be above 1; the others are shares.
    Everything is computed on the host in float64. ``ValueError`` in the cases of ``frechet.distance``, or if
    ``k`` is not below N and M.
    """
    real, generated = feature_sets.pair("neighbours.measure", real=real, generated=generated)
    k = checks.whole("neighbours.measure", "k", k)
    if k >= min(len(real), len(generated)):
        raise ValueError("neighbours.measure: k below the number of samples expected, "
                         f"{k} for {len(real)} real and {len(generated)} generated ones found")
    # A power of 2 changes no digit, and keeps the squares of tiny features from becoming 0.
    _, exponent = numpy.frexp(max(abs(real).max(), abs(generated).max()))
    with threads.large_arrays():
        real, generated = (_sorted(numpy.ldexp(points, -exponent)) for points in (real, generated))
        inside, hit = _balls(real, _radii(real, k), generated)
        _, recalled = _balls(generated, _radii(generated, k), real)
    return {"precision": float(hit.mean()), "recall": float(recalled.mean()),
            "density": float(inside.sum() / (k * len(generated))), "coverage": float((inside > 0).mean())}


def _sorted(points: numpy.ndarray) -> numpy.ndarray:
    """The points in the order of their projections on a line, so that those of a cluster are together."""
    line = numpy.random.default_rng(0).standard_normal(points.shape[1])
    return points[numpy.argsort(points @ line)]


def _radii(points: numpy.ndarray, k: int) -> numpy.ndarray:
    """The squared distance (N,) of each point to its k-th nearest neighbour, itself not counted."""
    radii = numpy.empty(len(points))

    def work(start: int) -> None:
        rows = points[start:start + _ROWS]
        squares, norms = _distances(rows, points)
        numpy.fill_diagonal(squares[:, start:], numpy.inf)
        rough = numpy.partition(squares, k - 1, axis=1)[:, k - 1]
        slack = _rounding(points.shape[1], norms, rough)
        # Those that may be among the k nearest; none where rough is exact.
        limits = numpy.where(slack > 0, rough + 2 * slack, -1)
        i, _, exact = _measured(rows, points, squares <= limits[:, None])
        unsure, first = numpy.unique(i, return_index=True)
        rough[unsure] = exact[numpy.lexsort((exact, i))][first + k - 1]
        radii[start:start + _ROWS] = rough
    threads.parallel(work, range(0, len(points), _ROWS))
    return radii


def _balls(centres: numpy.ndarray, radii: numpy.ndarray, points: numpy.ndarray
           ) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The number of points in each ball (N,), and whether each point is in some ball (M,).

    ``radii`` (N,) are squared.
    """
    starts = range(0, len(centres), _ROWS)
    inside = numpy.empty(len(centres), int)
    hit = numpy.empty((len(starts), len(points)), bool)

    def work(block: int) -> None:
        part = slice(starts[block], starts[block] + _ROWS)
        squares, norms = _distances(centres[part], points)
        slack = _rounding(points.shape[1], norms, radii[part])
        near = squares <= (radii[part] + slack)[:, None]
        i, j, exact = _measured(centres[part], points, near & (squares > (radii[part] - slack)[:, None]))
        near[i, j] = exact <= radii[part][i]
        inside[part], hit[block] = near.sum(axis=1), near.any(axis=0)
    threads.parallel(work, range(len(starts)))
    return inside, numpy.any(hit, axis=0)


def _distances(rows: numpy.ndarray, points: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The squared distances of rows (R, features) and points (N, features), up to rounding: (R, N).

    They are |a|^2 - 2 a.b + |b|^2, where a and b are relative to one of the rows. Also returns |a|^2 (R,).
    """
    origin = rows[len(rows) // 2]
    a = rows - origin
    norms, squares = _squares(a), numpy.empty((len(rows), len(points)))
    for start in range(0, len(points), _COLUMNS):
        b, part = points[start:start + _COLUMNS] - origin, squares[:, start:start + _COLUMNS]
        numpy.matmul(-2 * a, b.T, out=part)
        part += norms[:, None]
        part += _squares(b)
    return squares, norms


def _rounding(n: int, norms: numpy.ndarray, squares: numpy.ndarray) -> numpy.ndarray:
    """The largest rounding error (R,) of distances from ``_distances`` near ``squares`` (R,); 0 if they are
    exact.

    With ``n`` features, the unit roundoff u and the ``norms`` |a|^2 (R,), such a distance differs from the
    direct sum by at most (4 n + 16) u (|a|^2 + |b|^2), and |b|^2 <= 2 (|a|^2 + |a - b|^2). The result is
    twice as large, which covers the terms in u^2.
    """
    return (4 * n + 16) * numpy.finfo(float).eps * (3 * norms + 2 * abs(squares))


def _measured(rows: numpy.ndarray, points: numpy.ndarray, chosen: numpy.ndarray
              ) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray]:
    """The indices i, j of the ``chosen`` pairs (R, N), row by row, and their squared distances, directly."""
    i, j = numpy.nonzero(chosen)
    exact, step = numpy.empty(len(i)), max(1, _TOGETHER // rows.shape[1])
    for start in range(0, len(i), step):
        part = slice(start, start + step)
        exact[part] = _squares(rows[i[part]] - points[j[part]])
    return i, j, exact


def _squares(differences: numpy.ndarray) -> numpy.ndarray:
    return numpy.sum(differences * differences, axis=1)
