"""The Fréchet distance against closed forms, and that its features see what spoils an image."""

import numpy
import pytest

from minigen import datasets, threads
from minigen.metrics import frechet


def normal(rng, mean, factor, n=200_000):
    return rng.normal(size=(n, len(mean))) @ numpy.asarray(factor).T + mean


def test_one_feature_in_closed_form():
    a, b = numpy.array([[0.0, 2.0]]).T, numpy.array([[3.0, 5.0, 7.0]]).T    # means 1 and 5, variances 2 and 4
    assert frechet.distance(a, b) == pytest.approx(16 + (2 ** 0.5 - 2) ** 2)


def test_known_covariances(rng):
    # Covariances that commute: the distance is that of the means and of the standard deviations along the
    # shared axes.
    turn = numpy.array([[0.6, -0.8], [0.8, 0.6]])
    a, b = normal(rng, [0, 0], turn * [1, 2]), normal(rng, [1, -1], turn * [3, 0.5])
    assert frechet.distance(a, b) == pytest.approx(2 + 4 + 2.25, rel=0.01)
    # And some that do not commute, against the principal square root of their product by its own eigenvalues.
    a, b = normal(rng, [0, 0], [[1, 0], [1, 0.3]]), normal(rng, [0, 0], [[2, 1], [0, 1]])
    c, d = numpy.cov(a.T), numpy.cov(b.T)
    root = numpy.sqrt(numpy.linalg.eigvals(c @ d)).sum()
    means = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    assert frechet.distance(a, b) == pytest.approx(means + numpy.trace(c + d) - 2 * root)
    assert frechet.distance(a, b) == pytest.approx(frechet.distance(b, a))


def test_the_same_samples_are_at_distance_0(rng):
    a = normal(rng, [1, 2, 3], numpy.diag([1, 2, 0]), n=50)
    assert frechet.distance(a, a) == pytest.approx(0, abs=1e-9)


def test_features_see_blur_noise_and_lost_modes(rng):
    data = datasets.faces(n_train=400, n_test=400, seed=5)
    train, test = (images / numpy.float32(255) for images in (data.train_images, data.test_images))
    wanted = frechet.features(test)
    assert wanted.shape == (400, frechet.FEATURES) and wanted.dtype == "float64"
    good = frechet.distance(frechet.features(train), wanted)
    blurred = sum(numpy.roll(train, (i, j), axis=(1, 2)) for i in (-1, 0, 1) for j in (-1, 0, 1)) / 9
    noisy = numpy.clip(train + 0.1 * rng.normal(size=train.shape).astype("float32"), 0, 1)
    same = numpy.concatenate([train[:5]] * 80)
    for spoilt in (blurred, noisy, same):
        assert frechet.distance(frechet.features(spoilt), wanted) > 3 * good


@pytest.mark.parametrize("shapes", [((4, 2), (4, 3)), ((1, 2), (4, 2)), ((4,), (4, 2)), ((4, 0), (4, 0))])
def test_features_that_do_not_match_are_refused(shapes):
    with pytest.raises(ValueError, match=r"two arrays \(N, features\) with N > 1 expected"):
        frechet.distance(*map(numpy.ones, shapes))


def test_features_that_are_no_numbers_are_refused():
    rows = numpy.ones((4, 2))
    for name, pair in (("first", (rows + 0j, rows)), ("second", (rows, rows.astype(str)))):
        with pytest.raises(ValueError, match=f"^frechet.distance: {name}: an array of real numbers expected"):
            frechet.distance(*pair)


def test_a_single_number_is_no_image():
    with pytest.raises(ValueError, match=r"^frechet.features: images .* expected, float32 \(\) found"):
        frechet.features(numpy.float32(0.5))


def test_a_set_is_at_distance_0_or_more_from_itself(rng):
    for scale in (1e-3, 1.0, 1e3):
        a = scale * rng.normal(size=(40, frechet.FEATURES)) + scale
        assert 0 <= frechet.distance(a, a) < 1e-9 * scale ** 2


def test_features_share_the_threads_and_hold_blas_to_one(rng, monkeypatch):
    found, parallel = [], threads.parallel

    def watched(work, jobs):
        found.append((threads.sharing(), max(library["num_threads"] for library in threads._blas().info())))
        parallel(work, jobs)
    monkeypatch.setattr(threads, "parallel", watched)
    threads.use(2)
    try:
        frechet.features(rng.random((2, 16, 16, 3), dtype="float32"))
    finally:
        threads.use(None)
    assert set(found) == {(True, 1)}


def test_grey_images_are_colour_images_of_equal_channels(rng):
    grey = rng.random((3, 28, 28, 1), dtype="float32")
    numpy.testing.assert_array_equal(frechet.features(grey), frechet.features(grey.repeat(3, axis=3)))


@pytest.mark.parametrize("images, message", [
    (numpy.zeros((2, 784), "float32"), r"\(N, ..., ..., 1 or 3\) .* float32 \(2, 784\) found"),
    (numpy.zeros((2, 8, 8)), r"\(N, ..., ..., 1 or 3\) .* float64 \(2, 8, 8\) found"),
    (numpy.zeros((2, 8, 8, 3), "uint8"), "uint8 .*datasets.scale"),
    (numpy.full((2, 8, 8, 3), -1.0), "-1 to -1 found"),
    (numpy.full((2, 8, 8, 3), numpy.nan), "NaN found"),
    (numpy.zeros((2, 8, 8, 4)), r"\(2, 8, 8, 4\) found"), ([[0.0]], "list found")])
def test_what_are_no_images_is_refused(images, message):
    with pytest.raises(ValueError, match=f"^frechet.features: images .*{message}"):
        frechet.features(images)


def test_no_images_have_no_features():
    assert frechet.features(numpy.zeros((0, 8, 8, 1))).shape == (0, frechet.FEATURES)


def test_features_that_are_not_finite_are_refused():
    a = numpy.ones((3, 2))
    for bad in (numpy.nan, numpy.inf, 1e200):       # whose square is infinite
        with pytest.raises(ValueError, match="finite features expected"):
            frechet.distance(a, a * bad)
