"""The two entropies, in nats, against sums in Python floats."""

import itertools
import math
from fractions import Fraction

import numpy
import pytest

from minigen.metrics.entropy import (corrected_mode_entropy, image_entropy, measure, mode_entropy,
                                     uniform_entropy)


def test_mode_entropy():
    labels = [0] * 5 + [3] * 3 + [9] * 2
    expected = -math.fsum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert mode_entropy(numpy.array(labels)) == pytest.approx(expected, rel=1e-14)
    assert mode_entropy(numpy.arange(10)) == pytest.approx(math.log(10))
    assert mode_entropy(numpy.arange(3), classes=3) == pytest.approx(math.log(3))
    one_mode = mode_entropy(numpy.full(100, 7))
    assert one_mode == 0 and math.copysign(1, one_mode) == 1


@pytest.mark.parametrize("labels, message", [
    ([], "N > 0"), ([[1]], r"\(1, 1\) found"), ([10], "from 0 to 9 expected, 10 to 10"),
    ([-1, 2], "-1 to 2 found")])
def test_invalid_labels_are_refused(labels, message):
    for f in (mode_entropy, corrected_mode_entropy):
        with pytest.raises(ValueError, match=f"^{f.__name__}: .*{message}"):
            f(numpy.array(labels, dtype=int))


def test_miller_and_madows_correction():
    labels = numpy.array([0] * 5 + [3] * 3 + [9] * 2)
    plug_in = -math.fsum(p * math.log(p) for p in (0.5, 0.3, 0.2))
    assert corrected_mode_entropy(labels) == pytest.approx(plug_in + 2 / 20, rel=1e-14)     # 3 classes occur
    assert corrected_mode_entropy(labels.tolist(), classes=20) == corrected_mode_entropy(labels)
    assert corrected_mode_entropy(numpy.full(100, 7)) == 0
    assert corrected_mode_entropy(numpy.arange(10)) == pytest.approx(math.log(10) + 9 / 20)


def test_the_correction_removes_most_of_the_bias():
    rng = numpy.random.default_rng(0)
    found = numpy.mean([corrected_mode_entropy(rng.integers(0, 10, 100)) for _ in range(2000)])
    assert found == pytest.approx(math.log(10), abs=2e-3)


@pytest.mark.parametrize("samples, classes", [(1, 3), (2, 3), (5, 3), (4, 5), (7, 2), (3, 1)])
def test_the_entropy_of_a_uniform_generator_over_all_labels(samples, classes):
    def entropy(labels):
        return -math.fsum(n / samples * math.log(n / samples) for n in map(labels.count, set(labels)))
    every = [entropy(labels) for labels in itertools.product(range(classes), repeat=samples)]
    found = uniform_entropy(samples, classes)
    assert found == pytest.approx(math.fsum(every) / len(every), rel=1e-13, abs=1e-15)
    assert math.copysign(1, found) == 1


@pytest.mark.parametrize("samples, classes", [(100, 10), (1000, 10), (2000, 7), (50, 1000)])
def test_the_entropy_of_a_uniform_generator_from_binomial_coefficients(samples, classes):
    chances = [float(Fraction(math.comb(samples, x) * (classes - 1) ** (samples - x), classes ** samples))
               for x in range(samples + 1)]
    expected = -classes * math.fsum(
        chance * x / samples * math.log(x / samples) for x, chance in enumerate(chances) if x)
    assert uniform_entropy(samples, classes) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("samples, classes", [(10 ** 6, 10), (10 ** 6, 2), (2 ** 31 - 1, 10)])
def test_the_entropy_of_a_uniform_generator_at_many_samples(samples, classes):
    """The first terms of its series (Harris, 1975)."""
    expected = math.log(classes) - (classes - 1) / 2 / samples - (classes ** 2 - 1) / 12 / samples ** 2
    assert uniform_entropy(samples, classes) == pytest.approx(expected, rel=1e-13)


def test_the_entropy_of_a_uniform_generator_is_that_of_simulations():
    rng = numpy.random.default_rng(0)
    found = numpy.mean([mode_entropy(rng.integers(0, 10, 100)) for _ in range(2000)])
    assert uniform_entropy(100) == pytest.approx(found, abs=1.5e-3)
    assert (round(uniform_entropy(100), 3), round(uniform_entropy(10_000), 4)) == (2.257, 2.3021)


def test_a_uniform_generator_needs_samples_and_classes():
    for arguments, name in (((0, 10), "samples"), ((10, 0), "classes"), ((1.5, 10), "samples")):
        with pytest.raises((TypeError, ValueError), match=f"^uniform_entropy: an integer {name} of"):
            uniform_entropy(*arguments)


def test_image_entropy():
    rows = [[0.5, 0.25, 0.25, 0.0], [1.0, 0.0, 0.0, 0.0], [0.25] * 4]
    expected = [-math.fsum(p * math.log(p) for p in row if p) for row in rows]
    found = image_entropy(numpy.array(rows, "float32"))
    assert found.dtype == "float32" and found.shape == (3,)
    numpy.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)
    assert image_entropy(numpy.zeros((0, 4))).shape == (0,)


def test_the_bias_of_the_plug_in_estimate_is_as_documented():
    rng = numpy.random.default_rng(0)
    found = numpy.mean([mode_entropy(rng.integers(0, 10, 100)) for _ in range(2000)])
    assert found == pytest.approx(math.log(10) - 9 / 200, abs=2e-3)


def test_measure():
    probabilities = numpy.array([[0.5, 0.3, 0.2], [0.0, 1.0, 0.0], [0.1, 0.8, 0.1]])
    images = [-math.fsum(p * math.log(p) for p in row if p) for row in probabilities.tolist()]
    modes = -math.fsum(p * math.log(p) for p in (1 / 3, 2 / 3))
    assert measure(probabilities) == {"mode_entropy": pytest.approx(modes),
                                      "image_entropy": pytest.approx(math.fsum(images) / 3)}
    assert all(type(value) is float for value in measure(probabilities.astype("float32")).values())


@pytest.mark.parametrize("rows, message", [
    ([[2.0, -1.0, 0.5]], "row 0 begins"), ([[0.2, 0.8], [0.5, 0.6]], "row 1 begins"),
    ([[0.5, 0.5], [numpy.nan, 0.5]], "row 1 begins"), ([[0.0, 0.0]], "row 0 begins"),
    ([[1.5, -0.5]], "row 0 begins"), ([0.5, 0.5], r"\(N, classes\) expected, \(2,\) found"),
    (numpy.zeros((2, 0)), r"\(2, 0\) found")])
def test_rows_that_are_no_probabilities_are_refused(rows, message):
    for f in (image_entropy, measure):
        with pytest.raises(ValueError, match=f"^image_entropy: .*{message}"):
            f(numpy.array(rows))


def test_rounded_probabilities_are_taken():
    rows = numpy.array([[1 / 3, 1 / 3, 1 / 3], [0.1, 0.2, 0.7]], "float16").astype("float32")
    assert image_entropy(rows)[0] == pytest.approx(math.log(3), abs=1e-3)


@pytest.mark.parametrize("rows", [[[0.5 + 0j, 0.5]], [["0.5", "0.5"]], [[0.5, 0.5], [1.0]],
                                  numpy.ma.masked_array([[0.5, 0.5]], [[True, False]])])
def test_rows_that_are_no_numbers_are_refused(rows):
    for f in (image_entropy, measure):
        with pytest.raises(ValueError, match="^image_entropy: probabilities: an array of real numbers"):
            f(rows)


def test_rows_of_float16_are_measured_in_float32():
    found = image_entropy(numpy.full((1, 4), 0.25, "float16"))
    assert found.dtype == "float32" and found[0] == pytest.approx(math.log(4), rel=1e-6)


def test_labels_that_are_no_integers_are_refused():
    for labels in (numpy.array([0.0, 1.0]), numpy.array([True, False])):
        with pytest.raises(ValueError, match="^mode_entropy: labels: an array of integers expected"):
            mode_entropy(labels)
