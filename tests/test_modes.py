"""Mode coverage, against counts by hand and against what is known of normal distributions."""

import math

import numpy
import pytest
from conftest import write_idx_folder

from minigen import datasets, to_device
from minigen.metrics.classifier import Classifier
from minigen.metrics.modes import label_coverage, point_coverage, stacked_labels

SQUARE = numpy.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 4.0]])


def test_points_counted_by_hand():
    samples = [(0, 0), (0, 0.29), (0.31, 0),            # the third is not good
               (4.2, 0.2), (3.7, 4.3),                  # at a distance of 0.28, and of 0.42
               (0, 4.30001), (2, 2)]
    assert point_coverage(samples, SQUARE, 0.1) == {"modes": 2, "good": 3 / 7}
    assert point_coverage(samples, SQUARE, 0.1, within=4.5) == {"modes": 4, "good": 6 / 7}
    assert point_coverage([[0.5]], [[0.0], [9.0]], 0.25, within=2) == {"modes": 1, "good": 1.0}


def test_a_good_sample_counts_for_its_nearest_mode_alone():
    assert point_coverage([[0.4, 0.0]], [[0.0, 0.0], [1.0, 0.0]], 1.0) == {"modes": 1, "good": 1.0}


@pytest.mark.parametrize("make, modes", [(datasets.ring, 8), (datasets.grid, 25)])
def test_the_data_themselves_by_the_published_protocol(make, modes):
    data = make(2500, seed=1)
    found = point_coverage(to_device(data.points), data.centres, data.sigma)
    assert found["modes"] == modes and type(found["modes"]) is int and type(found["good"]) is float
    assert found["good"] == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.0111 / 2500))
    few = data.points[data.labels < 3]
    assert point_coverage(few, data.centres, data.sigma)["modes"] == 3
    two = data.points.reshape(-1, 2, 2).mean(axis=1)            # between two modes, as a blurred model's
    assert point_coverage(two, data.centres, data.sigma)["good"] < 0.3


def test_samples_of_a_model_that_diverged_are_not_good():
    samples = [[0, 0], [math.nan, 0], [0, math.inf], [math.nan, math.nan]]
    assert point_coverage(samples, SQUARE, 0.1) == {"modes": 1, "good": 0.25}
    assert point_coverage(samples[1:], SQUARE, 0.1) == {"modes": 0, "good": 0.0}


@pytest.mark.parametrize("samples, centres, sigma, within, message", [
    (numpy.zeros((3, 2)), numpy.zeros((4, 3)), 1, 3, r"expected, \(3, 2\) and \(4, 3\) found"),
    (numpy.zeros(2), SQUARE, 1, 3, r"\(2,\) and \(4, 2\) found"),
    (numpy.zeros((0, 2)), SQUARE, 1, 3, r"\(0, 2\) and \(4, 2\) found"),
    (SQUARE, numpy.zeros((0, 2)), 1, 3, r"\(4, 2\) and \(0, 2\) found"),
    (SQUARE, numpy.array([[0, math.nan]]), 1, 3, r"finite centres .* \(4, 2\) and \(1, 2\) found"),
    ([["a", "b"]], SQUARE, 1, 3, "samples: an array of real numbers expected"),
    (SQUARE, SQUARE * 1j, 1, 3, "centres: an array of real numbers expected"),
    (SQUARE, SQUARE, 0, 3, r"a number sigma in \(0, inf\) expected, 0 found"),
    (SQUARE, SQUARE, 1, -3, r"a number within in \(0, inf\) expected, -3 found")])
def test_points_that_are_refused(samples, centres, sigma, within, message):
    with pytest.raises(ValueError, match=f"^point_coverage: .*{message}"):
        point_coverage(samples, centres, sigma, within)


def test_labels_counted_by_hand():
    labels = numpy.array([0] * 5 + [3] * 3 + [9] * 2)
    expected = math.fsum(p * math.log(p * 10) for p in (0.5, 0.3, 0.2))
    assert label_coverage(to_device(labels), 10) == {"modes": 3, "kl": pytest.approx(expected, rel=1e-14)}
    assert label_coverage(numpy.full(7, 2), 1000) == {"modes": 1, "kl": pytest.approx(math.log(1000))}
    assert label_coverage(numpy.arange(30) % 10, 10) == {"modes": 10, "kl": pytest.approx(0, abs=1e-15)}


def test_the_bias_of_the_plug_in_estimate_is_as_documented():
    found = label_coverage(numpy.random.default_rng(0).integers(0, 1000, 26_000), 1000)
    assert found["modes"] == 1000 and found["kl"] == pytest.approx(0.0192, abs=0.003)


@pytest.mark.parametrize("labels, message", [
    ([], "N > 0"), ([[1]], r"\(1, 1\) found"), ([1000], "labels from 0 to 999 expected, 1000 to 1000 found"),
    ([-1, 2], "-1 to 2 found")])
def test_labels_that_are_refused(labels, message):
    with pytest.raises(ValueError, match=f"^label_coverage: .*{message}"):
        label_coverage(numpy.array(labels, dtype=int), 1000)


@pytest.fixture
def brightest():
    """A classifier of images of five pixels, whose class is the brightest of the first four."""
    classifier = Classifier(sizes=(5, 4))
    state = classifier.network.state()
    weight, bias = sorted(state, key=lambda name: -state[name].ndim)
    classifier.network.load_state({weight: numpy.eye(5, 4, dtype="float32"),
                                   bias: numpy.zeros_like(state[bias])})
    return classifier


def test_the_label_of_a_stack_is_made_of_the_classes_of_its_channels(brightest):
    wanted = numpy.random.default_rng(0).integers(0, 4, (50, 3))
    images = numpy.eye(5, dtype="float32")[wanted].transpose(0, 2, 1).reshape(50, 15)
    expected = [int("".join(map(str, digits)), base=4) for digits in wanted]
    assert stacked_labels(brightest, to_device(images)).tolist() == expected


def test_it_counts_as_stacked_mnist_does(tmp_path, brightest):
    digits = 255 * numpy.eye(4, 5).reshape(4, 1, 5)
    data = datasets.stacked_mnist(write_idx_folder(tmp_path / "x", digits, numpy.arange(4), test=4), n=90)
    found = stacked_labels(brightest, datasets.scale(data.train_images))
    assert found.tolist() == data.train_labels.tolist()


@pytest.mark.parametrize("images, message", [
    (numpy.zeros((2, 5)), r"images \(N, 15\) of floats in \[0, 1\] expected, float64 \(2, 5\) found"),
    (numpy.zeros((2, 15), "uint8"), r"images .* uint8 \(2, 15\) found: datasets.scale makes them"),
    (numpy.full((2, 15), 2.0), r"images in \[0, 1\] expected, 2 to 2 found")])
def test_stacks_that_are_refused(brightest, images, message):
    with pytest.raises(ValueError, match=f"^stacked_labels: {message}"):
        stacked_labels(brightest, images)
