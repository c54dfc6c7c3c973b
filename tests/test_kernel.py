"""The kernel distance against loops and expectations."""

import itertools
from fractions import Fraction

import numpy
import pytest

from minigen import threads
from minigen.metrics import kernel


def k(x, y):
    return (sum(Fraction(a) * Fraction(b) for a, b in zip(x, y)) / len(x) + 1) ** 3


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def exact(first, second):
    first, second = numpy.asarray(first).tolist(), numpy.asarray(second).tolist()
    own = [mean(k(x, y) for x, y in itertools.permutations(rows, 2)) for rows in (first, second)]
    return sum(own) - 2 * mean(k(x, y) for x in first for y in second)


@pytest.mark.parametrize("rows", [1, 4, 256])
def test_against_loops_in_fractions(rows, rng, monkeypatch):
    monkeypatch.setattr(kernel, "_ROWS", rows)
    first, second = rng.normal(size=(9, 3)), rng.normal(size=(7, 3)) + 0.5
    expected = pytest.approx(float(exact(first, second)), rel=1e-12)
    assert kernel.distance(first, second) == expected and kernel.distance(second, first) == expected


def test_the_estimate_is_unbiased():
    """Over all sets of two and of three samples from {-1, 2}."""
    points = [-1.0, 2.0]

    def expectation(p, q):
        def chance(sample, share):
            return numpy.prod([share if x == 2 else 1 - share for x in sample])
        return sum(chance(x, p) * chance(y, q) * kernel.distance([[a] for a in x], [[b] for b in y])
                   for x in itertools.product(points, repeat=2) for y in itertools.product(points, repeat=3))
    assert expectation(0.5, 0.5) == pytest.approx(0, abs=1e-12)
    # k(-1, -1) = 8, k(2, 2) = 125 and k(-1, 2) = -1.
    assert expectation(0.25, 0.75) == pytest.approx((0.75 - 0.25) ** 2 * (8 + 125 + 2), rel=1e-12)


def test_it_may_be_negative():
    a = numpy.array([[0.0], [1.0]])
    assert kernel.distance(a, a) == pytest.approx(2 * 1 - 2 * (1 + 1 + 1 + 8) / 4) == -3.5


def test_collapsed_samples_are_at_distance_0_from_themselves():
    a = numpy.full((300, 4), 0.5)
    assert kernel.distance(a, a[:7]) == 0
    assert kernel.distance(a, a + 0.5) == pytest.approx(1.25 ** 3 + 2 ** 3 - 2 * 1.5 ** 3)


def test_threads_change_nothing(rng, request, monkeypatch):
    monkeypatch.setattr(kernel, "_ROWS", 5)
    a, b = rng.normal(size=(41, 6)), rng.normal(size=(33, 6))
    alone = kernel.distance(a, b)
    request.getfixturevalue("three_threads")
    assert threads.count() == 3 and kernel.distance(a, b) == alone


def test_what_are_no_features_is_refused():
    rows = numpy.ones((4, 2))
    for bad, message in ((rows[:, :1], r"two arrays \(N, features\)"), (rows * numpy.inf, "finite features"),
                         (rows[:1], "N > 1"), (rows + 1j, "second: .* real numbers")):
        with pytest.raises(ValueError, match=f"^kernel.distance: .*{message}"):
            kernel.distance(rows, bad)
    assert numpy.isfinite(kernel.distance(rows * 1e44, rows))       # the largest are far from overflow
