"""Confidence intervals against Student's tables."""

import math

import pytest

from minigen.metrics.intervals import confidence_interval


@pytest.mark.parametrize("n, level, t", [
    (2, 0.95, 12.7062), (3, 0.95, 4.3027), (5, 0.95, 2.7764), (20, 0.95, 2.0930), (3, 0.9, 2.9200),
    (10, 0.99, 3.2498)])
def test_intervals_are_students(n, level, t):
    values = [(-1) ** i * i for i in range(n)]
    mean = sum(values) / n
    half = t * (sum((v - mean) ** 2 for v in values) / (n - 1) / n) ** 0.5
    found = confidence_interval(values, level)
    assert found["mean"] == pytest.approx(mean)
    assert found["low"] == pytest.approx(mean - half, rel=1e-3)
    assert found["high"] == pytest.approx(mean + half, rel=1e-3)


@pytest.mark.parametrize("values, level, message", [
    ([1.0], 0.95, "at least 2 values expected, 1 found"),
    ([1.0, 2.0], 1.0, "a level between 0 and 1 expected, 1.0 found"),
    ([1.0, 2.0], math.nan, "a level between 0 and 1 expected, nan found")])
def test_mistakes_are_errors(values, level, message):
    with pytest.raises(ValueError, match=message):
        confidence_interval(values, level)


def test_values_that_are_not_finite_are_refused():
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite values expected"):
            confidence_interval([1.0, bad, 2.0])
