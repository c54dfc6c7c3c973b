"""The classifier that judges generated images, and its cache."""

import numpy
import pytest

from minigen import storage
from minigen.core import to_host
from minigen.metrics import classifier
from minigen.metrics.classifier import Classifier
from minigen.optim import Adam


@pytest.fixture
def blobs():
    """Ten well separated clusters in 20 dimensions."""
    rng = numpy.random.default_rng(0)
    labels = numpy.arange(600) % 10
    images = 0.25 * rng.normal(size=(10, 20))[labels] + 0.03 * rng.normal(size=(600, 20)) + 0.5
    return numpy.clip(images, 0, 1).astype("float32"), labels


SMALL = {"sizes": (20, 16, 10), "epochs": 60, "batch_size": 50}


def test_mnist_is_learnt(mnist):
    judge = Classifier().fit(mnist.train_images, mnist.train_labels)
    assert judge.accuracy(mnist.test_images, mnist.test_labels) >= 0.975


def test_probabilities_and_labels(blobs):
    images, labels = blobs
    judge = Classifier(**SMALL).fit(images, labels)
    p = to_host(judge.predict_proba(images))
    assert p.shape == (600, 10) and p.dtype == "float32" and (p >= 0).all()
    numpy.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-5)
    assert (to_host(judge.predict(images)) == p.argmax(axis=1)).all()
    assert judge.accuracy(images, labels) == (p.argmax(axis=1) == labels).mean() > 0.99
    assert judge.predict_proba(images[:0]).shape == (0, 10)


@pytest.mark.parametrize("sizes", [(20, 16, 10), (20, 7, 16, 10)])
def test_features_are_the_last_hidden_layer(blobs, sizes, monkeypatch):
    monkeypatch.setattr(classifier, "_CHUNK", 250)
    images, judge = blobs[0], Classifier(sizes=sizes)
    *hidden, (weight, bias) = [(to_host(layer.weight.data).astype("float64"), to_host(layer.bias.data))
                               for layer in judge.network.layers[::2]]
    expected = images
    for w, b in hidden:
        expected = numpy.maximum(expected @ w + b, 0)
    found = to_host(judge.features(images))
    assert found.shape == (600, 16) and found.dtype == "float32" and (found == 0).any()
    numpy.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    odds = numpy.exp(found @ weight + bias)
    numpy.testing.assert_allclose(to_host(judge.predict_proba(images)), odds / odds.sum(axis=1)[:, None],
                                  rtol=1e-4)
    assert judge.features(images[:0]).shape == (0, 16)
    assert judge.features(images.astype("float64")).dtype == "float32"


def test_features_need_a_hidden_layer(blobs):
    with pytest.raises(ValueError, match=r"^Classifier.features: a hidden layer expected, .*20, 10. found"):
        Classifier(sizes=(20, 10)).features(blobs[0])


def test_images_of_another_size_are_refused(blobs):
    with pytest.raises(ValueError, match=r"images \(N, 20\) of floats in .* float32 \(3, 5\) found"):
        Classifier(**SMALL).predict_proba(numpy.zeros((3, 5), "float32"))
    with pytest.raises(ValueError, match=r"images \(N, 20\) of floats in .* float32 \(3, 5\) found"):
        Classifier(**SMALL).features(numpy.zeros((3, 5), "float32"))


@pytest.fixture
def fits(tmp_path, monkeypatch):
    """A list with an element for every training of a classifier; the cache is empty."""
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path))
    fits = []
    fit = Classifier.fit
    monkeypatch.setattr(Classifier, "fit", lambda self, *data: (fits.append(1), fit(self, *data))[1])
    return fits


def test_trained_once_for_the_same_data_and_settings(blobs, fits, tmp_path):
    images, labels = blobs
    first = classifier.trained(images, labels, **SMALL)
    again = classifier.trained(images, labels, **SMALL)
    assert len(fits) == 1 and len(list(tmp_path.iterdir())) == 1
    assert (to_host(first.predict_proba(images)) == to_host(again.predict_proba(images))).all()
    classifier.trained(images * numpy.float32(0.999), labels, **SMALL)
    classifier.trained(images, labels[::-1].copy(), **SMALL)
    classifier.trained(images, labels, **{**SMALL, "lr": 1e-3})
    assert len(fits) == 4 and len(list(tmp_path.iterdir())) == 4


def test_the_same_bytes_in_another_order_are_other_data(fits):
    numbers = numpy.arange(400, dtype="int32").reshape(20, 20) % 60       # tiny floats in both orders
    for order in ("<f4", ">f4"):
        classifier.trained(numbers.view(order), numpy.arange(20) % 10, **SMALL)
    assert len(fits) == 2


def test_another_version_trains_its_own(blobs, fits, monkeypatch):
    classifier.trained(*blobs, **SMALL)
    monkeypatch.setattr(classifier, "__version__", "another")
    classifier.trained(*blobs, **SMALL)
    assert len(fits) == 2


def test_an_unusable_cache_is_only_a_warning(blobs, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning) as caught:
        assert classifier.trained(*blobs, **SMALL).accuracy(*blobs) > 0.99
    assert "cannot be kept" in str(caught[-1].message)


def test_labels_beyond_the_classes_are_refused(blobs):
    with pytest.raises(ValueError, match="labels from 0 to 9 expected, 1 to 10 found"):
        Classifier(**SMALL).fit(blobs[0], blobs[1] + 1)


def test_the_learning_rate_falls_to_zero_and_each_epoch_has_its_order(blobs, monkeypatch):
    rates, orders = [], []
    step = Adam.step
    monkeypatch.setattr(Adam, "step", lambda self, grads: (rates.append(self.lr), step(self, grads))[1])
    loss = classifier.losses.softmax_cross_entropy
    monkeypatch.setattr(classifier.losses, "softmax_cross_entropy",
                        lambda x, y: (orders.append(y), loss(x, y))[1])
    Classifier(**{**SMALL, "epochs": 2}, lr=0.4).fit(*blobs)
    numpy.testing.assert_allclose(rates, 0.4 * (1 - numpy.arange(24) / 24), rtol=1e-12)
    first, second = numpy.concatenate(orders[:12]), numpy.concatenate(orders[12:])
    assert sorted(first) == sorted(second) == sorted(blobs[1]) and (first != second).any()


def test_a_damaged_cache_is_replaced_with_a_warning(blobs, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path))
    first = classifier.trained(*blobs, **SMALL)
    path, = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.warns(UserWarning, match=path.name):
        again = classifier.trained(*blobs, **SMALL)
    assert (to_host(first.predict_proba(blobs[0])) == to_host(again.predict_proba(blobs[0]))).all()
    classifier.trained(*blobs, **SMALL)


@pytest.mark.parametrize("spoil, message", [
    (lambda x, y: ((255 * x).astype("uint8"), y), "uint8 .*datasets.scale"),
    (lambda x, y: (2 * x - 1, y), "in .0, 1. expected, -1 to 1 found"),
    (lambda x, y: (x * numpy.nan, y), "NaN found"),
    (lambda x, y: (x, y[:-1]), r"integer labels \(600,\) expected, one per image, .* \(599,\) found"),
    (lambda x, y: (x, y.astype("float32")), "labels: an array of integers expected, float32"),
    (lambda x, y: (x, y - 1), "labels from 0 to 9 expected, -1 to 8 found")])
def test_what_cannot_be_learnt_is_refused(blobs, spoil, message):
    judge = Classifier(**SMALL)
    before = judge.network.state()
    images, labels = spoil(*blobs)
    with pytest.raises(ValueError, match=f"^Classifier.fit: .*{message}"):
        judge.fit(images, labels)
    assert all((judge.network.state()[key] == before[key]).all() for key in before)
    if "label" not in message:
        with pytest.raises(ValueError, match=message):
            judge.predict(images)


def test_masked_images_are_refused(blobs):
    with pytest.raises(ValueError, match="^Classifier.fit: images .* MaskedArray found"):
        Classifier(**SMALL).fit(numpy.ma.masked_array(blobs[0]), blobs[1])
    with pytest.raises(ValueError, match="^Classifier: images: .* MaskedArray found"):
        Classifier(**SMALL).predict(numpy.ma.masked_array(blobs[0]))


@pytest.mark.parametrize("spoil, message", [
    (lambda y: y[:1], r"integer labels \(600,\) expected, one per image, int64 \(1,\) found"),
    (lambda y: y + 1, "labels from 0 to 9 expected, 1 to 10 found"),
    (lambda y: y.astype(str), "labels: an array of integers expected, <U")])
def test_accuracy_needs_a_label_per_image(blobs, spoil, message):
    with pytest.raises(ValueError, match=f"^Classifier.accuracy: {message}"):
        Classifier(**SMALL).accuracy(blobs[0], spoil(blobs[1]))


def test_float64_and_lists_of_labels_do_as_well(blobs, fits):
    images, labels = blobs
    first = classifier.trained(images, labels, **SMALL)
    again = classifier.trained(images.astype("float64"), labels.tolist(), **SMALL)
    assert (first.predict_proba(images) == again.predict_proba(images.astype("float64"))).all()
    assert first.accuracy(images, labels) == again.accuracy(images, labels.tolist()) > 0.99
    with pytest.raises(ValueError, match="^classifier.trained: images .* list found"):
        classifier.trained(images.tolist(), labels, **SMALL)


@pytest.mark.parametrize("settings", [{"sizes": (20,)}, {"sizes": (20, 0, 10)}, {"epochs": 0},
                                      {"batch_size": 2.5}, {"lr": 0.0}, {"seed": -1}])
def test_settings_that_cannot_be_are_named(settings):
    with pytest.raises((TypeError, ValueError), match=f"^Classifier: .*{next(iter(settings))}.* expected"):
        Classifier(**{**SMALL, **settings})


def test_a_classifier_for_which_there_is_no_memory_is_refused(monkeypatch):
    monkeypatch.setattr("minigen.backend.free_memory", lambda: 20 * (20 * 16 + 16 * 10))
    Classifier(**SMALL)
    with pytest.raises(ValueError, match="^Classifier: smaller networks expected: .* GB free"):
        Classifier(sizes=(20, 17, 10))


def test_a_cached_classifier_with_nan_is_trained_again(blobs, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path))
    first = classifier.trained(*blobs, **SMALL)
    path, = tmp_path.glob("*.npz")
    state = storage.load(path)
    storage.save(path, {key: value * numpy.float32(numpy.nan) for key, value in state.items()})
    with pytest.warns(UserWarning, match="is trained again: .*not finite"):
        again = classifier.trained(*blobs, **SMALL)
    assert again.accuracy(*blobs) == first.accuracy(*blobs)
