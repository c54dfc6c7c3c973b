"""The kernel distance between generated and real images (Binkowski et al., 2018), in any features.

Their features come from a classifier trained on a million photographs. The distances are not comparable with
those in other features.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from minigen import threads
from minigen.metrics import feature_sets

_ROWS = 256     # of a block


def distance(first: Any, second: Any) -> float:
    """The squared maximum mean discrepancy between two sets of features, (N, features) each.

    It is E k(x, x') + E k(y, y') - 2 E k(x, y) with the kernel k(x, y) = (x.y / features + 1)^3. The means
    over x, x' and over y, y' leave out each sample's pair with itself (Gretton et al., 2012, Lemma 6). So the
    estimate is unbiased: its expectation is 0 between two sets from the same distribution, and it may be
    negative. Computed on the host in float64. ``ValueError`` in the cases of ``frechet.distance``.
    """
    first, second = feature_sets.pair("kernel.distance", first=first, second=second)
    m, n = len(first), len(second)
    with threads.large_arrays():
        within = _sum(first, first, own=True) / (m * (m - 1)) + _sum(second, second, own=True) / (n * (n - 1))
        return within - 2 * _sum(first, second) / (m * n)


def _sum(first: numpy.ndarray, second: numpy.ndarray, own: bool = False) -> float:
    """The sum of the kernel over all pairs; without those of a sample and itself if the sets are ``own``."""
    starts = range(0, len(first), _ROWS)
    sums = [0.0] * len(starts)

    def work(block: int) -> None:
        rows = first[starts[block]:starts[block] + _ROWS]
        base = rows @ second.T / rows.shape[1] + 1
        k = base * base * base
        if own:
            numpy.fill_diagonal(k[:, starts[block]:], 0)
        sums[block] = float(k.sum())
    threads.parallel(work, range(len(starts)))
    return math.fsum(sums)      # whatever the order of the blocks
