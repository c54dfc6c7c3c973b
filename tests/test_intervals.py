"""Confidence intervals against Student's tables."""

import math

import numpy
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
    ([1.0, 2.0], 1.0, r"a number level in \(0, 1\) expected, 1.0 found"),
    ([1.0, 2.0], math.nan, r"a number level in \(0, 1\) expected, nan found")])
def test_mistakes_are_errors(values, level, message):
    with pytest.raises(ValueError, match=message):
        confidence_interval(values, level)


@pytest.mark.parametrize("values, found", [
    ([[1.0, 2.0], [3.0, 4.0]], r"numbers \(N,\) expected, float64 \(2, 2\)"),
    (3.0, r"numbers \(N,\) expected, float64 \(\)"), ("ab", "values: .* real numbers expected, str"),
    ([1.0, None], "object"), ([1j, 2.0], "complex128")])
def test_what_are_no_values_is_refused(values, found):
    with pytest.raises(ValueError, match=rf"^confidence_interval: .*{found}"):
        confidence_interval(values)


def test_a_narrow_dtype_does_not_overflow():
    values = [60000.0, 60032.0, 60064.0]        # sums of these are beyond float16
    assert confidence_interval(numpy.array(values, "float16")) == confidence_interval(values)


def test_values_that_are_not_finite_are_refused():
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="finite values expected"):
            confidence_interval([1.0, bad, 2.0])
