"""Precision, recall, density and coverage against loops over all pairs."""

import math

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from minigen import Tensor, threads
from minigen.metrics import neighbours
from minigen.metrics.neighbours import measure


def square(a, b):
    return math.fsum((x - y) ** 2 for x, y in zip(a, b))


def radius(points, i, k):
    """The squared distance of a point to its k-th nearest neighbour."""
    return sorted(square(points[i], other) for j, other in enumerate(points) if j != i)[k - 1]


def loops(real, generated, k):
    real, generated = (numpy.asarray(a, "float64").tolist() for a in (real, generated))
    real_radii = [radius(real, i, k) for i in range(len(real))]
    own_radii = [radius(generated, j, k) for j in range(len(generated))]
    balls = [[square(x, y) <= r for x, r in zip(real, real_radii)] for y in generated]
    recalled = [any(square(x, y) <= r for y, r in zip(generated, own_radii)) for x in real]
    return {"precision": sum(map(any, balls)) / len(generated), "recall": sum(recalled) / len(real),
            "density": sum(map(sum, balls)) / (k * len(generated)),
            "coverage": sum(map(any, zip(*balls))) / len(real)}


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of three samples, and of two pairs that are measured directly."""
    monkeypatch.setattr(neighbours, "_ROWS", 3)
    monkeypatch.setattr(neighbours, "_COLUMNS", 4)
    monkeypatch.setattr(threads, "block_numbers", lambda: 2)


@st.composite
def sets(draw):
    """Two sets of whole numbers with many ties, perhaps in clusters that are far apart for their size."""
    features, k = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    far = draw(st.sampled_from([0, 1, 2 ** 30]))
    return [draw(arrays(float, (draw(st.integers(k + 1, 9)), features), elements=st.integers(0, 3)))
            + far * draw(arrays(float, (1, features), elements=st.integers(0, 2))) for _ in range(2)] + [k]


@given(sets())
def test_ties_are_those_of_loops(found):
    assert measure(*found) == pytest.approx(loops(*found), rel=1e-14)


@pytest.mark.parametrize("scale, offset", [(1, 0), (1, 1e7), (1e-7, 1), (1e-150, 0), (1e40, 0)])
def test_samples_of_a_distribution(scale, offset, rng, small_blocks):
    real = scale * rng.normal(size=(31, 5)) + offset
    generated = scale * (1.2 * rng.normal(size=(22, 5)) + 0.3) + offset
    for k in (1, 4, 21):
        assert measure(real, generated, k) == pytest.approx(loops(real, generated, k), rel=1e-14)


def test_the_unit_of_the_features_does_not_matter(rng):
    real, generated = (rng.normal(size=(n, 3)).astype("float32").astype("float64") for n in (40, 30))
    for exponent in (-1000, -530, 140):
        found = measure(numpy.ldexp(real, exponent), numpy.ldexp(generated, exponent))
        assert found == measure(real, generated)
    assert measure(numpy.zeros((7, 3)), numpy.zeros((6, 3)))["coverage"] == 1


def test_hand_computed():
    real, generated = [[0.0], [1.0], [3.0]], [[2.0], [5.0], [5.5], [9.0]]
    # The real balls are [-1, 1], [0, 2], [1, 5]; the generated ones [-1, 5], [4.5, 5.5], [5, 6], [5.5, 12.5].
    assert measure(real, generated, k=1) == {"precision": 0.5, "recall": 1.0, "density": 0.75,
                                             "coverage": pytest.approx(2 / 3)}


@pytest.mark.parametrize("offset", [0, 1e-3, 1e9])
def test_collapsed_samples_are_measured_exactly(offset, rng, small_blocks):
    real = rng.normal(size=(20, 6)) + offset
    nearest = radius(real.tolist(), 0, 1)
    neighbour = real[[square(real[0], x) == nearest for x in real]]
    for one in (real[:1], neighbour, real[:1] + 100):
        generated = one.repeat(12, axis=0)
        for k in (1, 3):
            assert measure(real, generated, k) == pytest.approx(loops(real, generated, k), rel=1e-14)
    # The border of the ball around the first sample goes through this one.
    assert measure(real, neighbour.repeat(2, axis=0), k=1)["coverage"] >= 2 / 20


def test_a_mode_with_rounding_errors_beside_others(rng, small_blocks):
    mode = rng.normal(size=6) * (1 + 1e-15 * rng.integers(-3, 4, (15, 1)))
    generated = numpy.concatenate([mode, rng.normal(size=(10, 6))])
    for real in (rng.normal(size=(20, 6)), generated[::2], mode):
        assert measure(real, generated, 2) == pytest.approx(loops(real, generated, 2), rel=1e-14)


@pytest.mark.parametrize("offset", [0, 0.1, 1e8])
def test_equal_sets(offset, rng):
    real = rng.normal(size=(300, 7)) + offset
    for generated in (real, rng.permutation(real), numpy.float32(real)):
        found = measure(numpy.asarray(real, generated.dtype), generated)
        assert (found["precision"], found["recall"], found["coverage"]) == (1, 1, 1)
        assert found["density"] >= 1.2      # k neighbours and itself, each in its ball


def test_one_point_for_all():
    assert measure(numpy.full((8, 3), 0.1), numpy.full((6, 3), 0.1), k=2) == {
        "precision": 1, "recall": 1, "density": 4, "coverage": 1}
    assert measure(numpy.full((8, 3), 0.1), numpy.full((6, 3), 0.1 + 1e-16), k=2) == dict.fromkeys(
        ("precision", "recall", "density", "coverage"), 0)


def test_samples_that_are_nearly_equal_are_measured_by_products(rng, monkeypatch):
    """To measure all their pairs directly would take minutes for ten thousand samples."""
    sizes, measured = [], neighbours._measured
    monkeypatch.setattr(neighbours, "_measured",
                        lambda *args: (found := measured(*args), sizes.append(len(found[0])))[0])
    real = rng.random((800, 20))
    noise = 1 + 1e-8 * rng.normal(size=(800, 20))
    collapsed = real[:1].repeat(800, axis=0)
    for real, generated in ((real, collapsed), (real, collapsed * noise), (collapsed, collapsed),
                            (real, real[rng.integers(0, 2, 800)] * noise)):
        sizes.clear()
        measure(real, generated)
        assert sum(sizes) < 800 ** 2 / 4


def test_threads_change_nothing(rng, small_blocks, request):
    real, generated = rng.integers(0, 3, (40, 4)), rng.integers(0, 3, (30, 4))
    alone = measure(real, generated, k=2)
    request.getfixturevalue("three_threads")
    assert measure(real, generated, k=2) == alone == pytest.approx(loops(real, generated, 2), rel=1e-14)


def test_tensors_and_lists_do_as_well(rng):
    real, generated = rng.normal(size=(9, 2)), rng.normal(size=(8, 2))
    assert measure(Tensor(real), generated.tolist(), 2) == measure(real, generated, 2)


@pytest.mark.parametrize("k, message", [
    (4, "k below the number of samples expected, 4 for 6 real and 4 generated ones found"),
    (0, "an integer k of at least 1 expected, 0 found")])
def test_k_needs_enough_samples(k, message):
    with pytest.raises(ValueError, match=f"^neighbours.measure: {message}"):
        measure(numpy.ones((6, 2)), numpy.ones((4, 2)), k)


def test_what_are_no_features_is_refused():
    rows = numpy.ones((6, 2))
    for bad, message in ((rows[:, :1], r"two arrays \(N, features\)"), (rows * numpy.nan, "finite features"),
                         (rows * 1e50, "finite features"), (rows.astype(str), "generated: .* real numbers")):
        with pytest.raises(ValueError, match=f"^neighbours.measure: {message}"):
            measure(rows, bad)
