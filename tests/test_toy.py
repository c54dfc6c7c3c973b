"""Mixtures in the plane: where their modes are, how their points are spread, what is refused."""

import math

import numpy
import pytest

from minigen import datasets

both = pytest.mark.parametrize("make", [datasets.ring, datasets.grid])


def test_the_modes_of_the_ring_are_the_eighth_roots_of_1():
    data, half = datasets.ring(n=1), math.sqrt(0.5)
    numpy.testing.assert_allclose(data.centres, [
        (1, 0), (half, half), (0, 1), (-half, half), (-1, 0), (-half, -half), (0, -1), (half, -half)],
        atol=1e-15)
    assert (data.sigma, data.name, data.centres.dtype) == (0.01, "ring", "float64")
    found = datasets.ring(n=1, modes=3, radius=2.0).centres
    numpy.testing.assert_allclose(found @ (1, 1j), numpy.roots([1, 0, 0, -8])[[2, 0, 1]], atol=1e-14)


def test_the_modes_of_the_grid_are_two_apart():
    data = datasets.grid(n=1)
    assert data.centres.tolist() == [[x, y] for y in (-4, -2, 0, 2, 4) for x in (-4, -2, 0, 2, 4)]
    assert (data.sigma, data.name, data.centres.dtype) == (0.05, "grid", "float64")
    assert datasets.grid(n=1, side=2, spacing=1.0).centres.tolist() == [
        [-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]


@both
def test_the_points_are_normal_around_their_modes_and_the_modes_equally_likely(make):
    data = make(seed=3)
    assert data.points.shape == (100_000, 2) and data.points.dtype == "float32"
    assert data.labels.shape == (100_000,) and data.labels.dtype == "int64"
    counts = numpy.bincount(data.labels)
    expected = len(data.points) / len(data.centres)
    assert ((counts - expected) ** 2 / expected).sum() < 50      # chi^2 with at most 24 degrees of freedom
    for label, centre in enumerate(data.centres):
        cloud = (data.points[data.labels == label] - centre) / data.sigma
        numpy.testing.assert_allclose(cloud.mean(axis=0), 0, atol=5 / math.sqrt(len(cloud)))
        numpy.testing.assert_allclose(numpy.cov(cloud.T), numpy.eye(2), atol=0.12)
    away = numpy.linalg.norm(data.points - data.centres[data.labels], axis=1)
    for sigmas in (1, 2, 3):                        # the distance has Rayleigh's distribution
        share = (away <= sigmas * data.sigma).mean()
        assert share == pytest.approx(1 - math.exp(-sigmas ** 2 / 2), abs=5e-3)


@both
def test_a_point_depends_on_the_seed_and_its_position_alone(make):
    few, many, other = make(50), make(60), make(50, seed=1)
    assert (few.points == many.points[:50]).all() and (few.labels == many.labels[:50]).all()
    assert (few.points != other.points).all() and (few.labels != other.labels).any()


@both
@pytest.mark.parametrize("wrong, message", [
    ({"n": 0}, "an integer n of at least 1 expected, 0 found"),
    ({"n": 1.0}, "an integer n of at least 1 expected, 1.0 found"),
    ({"seed": -1}, "an integer seed of at least 0 expected, -1 found"),
    ({"sigma": 0}, r"a number sigma in \(0, 1e\+09\] expected, 0 found"),
    ({"sigma": math.nan}, "a number sigma in .* expected, nan found")])
def test_what_both_refuse(make, wrong, message):
    with pytest.raises((TypeError, ValueError), match=f"^{make.__name__}: {message}$"):
        make(**wrong)


@pytest.mark.parametrize("make, wrong, message", [
    (datasets.ring, {"modes": 0}, "an integer modes of at least 1 expected, 0 found"),
    (datasets.ring, {"radius": -1.0}, r"a number radius in \(0, 1e\+09\] expected, -1.0 found"),
    (datasets.grid, {"side": 0}, "an integer side of at least 1 expected, 0 found"),
    (datasets.grid, {"spacing": math.inf}, r"a number spacing in \(0, 1e\+09\] expected, inf found")])
def test_what_each_refuses(make, wrong, message):
    with pytest.raises(ValueError, match=f"^{make.__name__}: {message}$"):
        make(n=1, **wrong)


def test_it_says_what_it_is():
    assert repr(datasets.ring(1500)) == "<Mixture ring: 1,500 points, 8 modes, sigma 0.01>"
