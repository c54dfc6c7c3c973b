"""Confidence intervals against Student's tables, and the bootstrap against all resamples."""

import itertools
import math

import numpy
import pytest

from minigen.metrics.entropy import mode_entropy
from minigen.metrics.intervals import bootstrap, confidence_interval, deciding_number, paired_difference


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


def students_t(n, level):
    values = [float(i % 2) for i in range(n)]
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return (confidence_interval(values, level)["high"] - mean) * math.sqrt(n) / deviation


@pytest.mark.parametrize("level", [1e-6, 0.5, 0.95, 0.999, 0.999999])
def test_few_degrees_of_freedom_in_closed_form(level):
    assert students_t(2, level) == pytest.approx(math.tan(math.pi * level / 2), rel=1e-8)
    assert students_t(3, level) == pytest.approx(level * math.sqrt(2 / (1 - level ** 2)), rel=2e-5)


@pytest.mark.parametrize("n, t", [(101, 1.98397152), (1001, 1.96233908), (10_001, 1.96020124),
                                  (1_000_001, 1.95996636)])
def test_many_degrees_of_freedom(n, t):
    assert students_t(n, 0.95) == pytest.approx(t, rel=1e-8)


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
    for bad in (math.nan, math.inf, 1e200):     # whose square is infinite
        with pytest.raises(ValueError, match="finite values expected"):
            confidence_interval([1.0, bad, 2.0])
        with pytest.raises(ValueError, match="^paired_difference: finite values expected"):
            paired_difference([1.0, bad, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="^bootstrap: finite values expected"):
        bootstrap([1.0, math.nan])


def test_equal_values_have_an_interval_without_length():
    assert confidence_interval([0.5] * 4) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert paired_difference([2.5, 1.5], [2.0, 1.0]) == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert bootstrap([0.5] * 4) == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_a_paired_difference_is_that_of_the_differences():
    first, second = [10.1, 20.3, 30.2, 40.6], [10.0, 20.0, 30.0, 40.0]
    mean = 1.2 / 4
    half = 3.18245 * (sum((d - mean) ** 2 for d in (0.1, 0.3, 0.2, 0.6)) / 3 / 4) ** 0.5
    found = paired_difference(first, second)
    assert found == pytest.approx({"mean": mean, "low": mean - half, "high": mean + half}, rel=1e-4)
    back = paired_difference(second, first)
    assert back == {"mean": -found["mean"], "low": -found["high"], "high": -found["low"]}
    assert paired_difference(first, second, 0.5)["high"] < found["high"]
    assert paired_difference(numpy.uint8([1, 2]), numpy.uint8([3, 3]))["mean"] == -1.5


@pytest.mark.parametrize("first, second, message", [
    ([1, 2, 3], [1, 2], r"two arrays \(N,\) of one length expected, \(3,\) and \(2,\) found"),
    ([1], [2], "at least 2 values expected, 1 found"), ([1, 2], [[1, 2]], r"numbers \(N,\) expected, int64"),
    ([1, 2], ["1", "2"], "second: an array of real numbers expected")])
def test_pairs_that_do_not_match_are_refused(first, second, message):
    with pytest.raises(ValueError, match=f"^paired_difference: {message}"):
        paired_difference(first, second)


@pytest.mark.parametrize("statistic", [numpy.mean, numpy.median, numpy.max])
@pytest.mark.parametrize("level", [0.5, 0.8])
def test_the_bootstrap_is_that_of_all_resamples(statistic, level):
    values = numpy.array([0.0, 1.0, 5.0, 7.0])
    every = [statistic(sample) for sample in itertools.product(values, repeat=4)]
    low, high = numpy.quantile(every, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    assert bootstrap(values, statistic, level, resamples=20_000) == {
        "value": statistic(values), "low": pytest.approx(low), "high": pytest.approx(high)}


def test_the_bootstrap_of_a_mean_is_normal_for_many_values(rng):
    values = rng.exponential(size=2000)
    half = 1.95996 * values.std() / math.sqrt(2000)
    found = bootstrap(values)
    assert found["value"] == values.mean()
    assert found["low"] == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert found["high"] == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_the_bootstrap_keeps_integers_and_rows(rng):
    labels = rng.integers(0, 10, 400)
    found = bootstrap(labels, mode_entropy, resamples=200)
    assert found["value"] == mode_entropy(labels) and found["low"] < found["high"] < math.log(10)
    rows = rng.random((30, 2)).round(3)

    def pairs(sample):
        assert sample.shape == (30, 2) and {tuple(row) for row in sample} <= {tuple(row) for row in rows}
        return sample.mean()
    assert bootstrap(rows.tolist(), pairs, resamples=50)["value"] == rows.mean()


def test_a_statistic_that_writes_into_its_sample_does_no_harm(rng):
    values = rng.normal(size=9)
    kept = values.copy()

    def median(sample):
        sample.sort()
        return sample[4]
    assert bootstrap(values, median, resamples=50) == bootstrap(values, numpy.median, resamples=50)
    assert (values == kept).all()


def test_the_bootstrap_depends_on_its_seed_alone(rng):
    values = rng.normal(size=20)
    first, again, other = (bootstrap(values, resamples=100, seed=seed) for seed in (1, 1, 2))
    assert first == again and first["low"] != other["low"] and first["value"] == other["value"]


@pytest.mark.parametrize("arguments, message", [
    (([1.0],), r"at least 2 values \(N, ...\) expected, float64 \(1,\) found"),
    ((3.0,), r"float64 \(\) found"), ((["a", "b"],), "values: an array of real numbers"),
    (([1.0, 2.0], numpy.mean, 1.0), "a number level in"),
    (([1.0, 2.0], numpy.mean, 0.9, 0), "an integer resamples of at least 1"),
    (([1.0, 2.0], numpy.mean, 0.9, 9, -1), "an integer seed of at least 0"),
    (([1.0, 2.0], lambda x: math.nan), "a number from statistic in .* expected, nan found"),
    (([1.0, 2.0], numpy.sort), r"a number from statistic in .* expected, array\(.*found")])
def test_what_has_no_bootstrap_is_refused(arguments, message):
    with pytest.raises((TypeError, ValueError), match=f"^bootstrap: .*{message}"):
        bootstrap(*arguments)


@pytest.mark.parametrize("values, number", [
    ([1.0, 1.0], 2), ([0.9, 1.1], 3), ([-1.0, 3.0], 34), ([3.0, -1.0], 34), ([-3.0, 1.0], 34),
    ([1.0, -1.0], None), ([1e-9, 1.0, -1.0], None)])
def test_the_number_that_decides(values, number):
    assert deciding_number(values) == number


def test_the_number_that_decides_is_the_first_whose_interval_excludes_0(rng):
    values = rng.normal(size=9) + 0.3
    number = deciding_number(values, 0.9)

    def low(n):     # of n values with the same mean and deviation
        other = rng.normal(size=n)
        other = (other - other.mean()) / other.std(ddof=1) * values.std(ddof=1) + values.mean()
        return confidence_interval(other, 0.9)["low"] * numpy.sign(values.mean())
    assert low(number - 1) <= 0 < low(number)
