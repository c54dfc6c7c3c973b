"""What a data set says of its images, what it refuses, and its images as batches."""

import numpy
import pytest

from minigen import datasets
from minigen.datasets import Dataset


COLOUR = numpy.zeros((6, 4, 5, 3), "uint8")


def make(train=COLOUR, labels=numpy.arange(6), test=COLOUR[:2], test_labels=numpy.arange(2), **said):
    return Dataset(train, labels, test, test_labels, **said)


def grey(n, dtype="float32", shape=(4, 5)):
    return numpy.full((n, *shape), 1, dtype)


def test_it_unpacks_into_its_four_arrays():
    data = make()
    train, labels, test, test_labels = data
    assert (train is data.train_images and labels is data.train_labels and test is data.test_images
            and test_labels is data.test_labels)


@pytest.mark.parametrize("stored, said, shape, values", [
    (grey(6, "uint8", (4, 5, 3)), (), (4, 5, 3), (0, 255)),
    (grey(6, "float32", (4, 5, 1)), (4, 5, 1), (4, 5, 1), (0, 1)),
    (grey(6, "float64"), (), (4, 5, 1), (0, 1)),
    (grey(6, "float32", (20,)), (5, 4, 1), (5, 4, 1), (0, 1)),
    (grey(6, "float32", (60,)), numpy.array([4, 5, 3]), (4, 5, 3), (0, 1)),
])
def test_it_says_the_shape_and_the_range_of_an_image(stored, said, shape, values):
    data = make(stored, test=stored[:2], image_shape=said)
    assert data.image_shape == shape and data.image_range == values
    assert all(type(n) is int for n in data.image_shape)


@pytest.mark.parametrize("labels, said, classes", [
    (numpy.array([0, 1, 2, 3, 3, 0], "uint8"), None, 4), (numpy.zeros(6, int), None, 1),
    (numpy.array([0, 255, 0, 0, 0, 0], "uint8"), None, 256),
    (numpy.array([0, 1, 2, 3, 3, 0]), 47, 47), (numpy.zeros(6), None, None),
    (numpy.array(["a"] * 6), None, None), (numpy.zeros((6, 2), int), None, None)])
def test_it_says_the_number_of_classes(labels, said, classes):
    assert make(labels=labels, test_labels=labels[:2], classes=said).classes == classes
    if said is None and classes and classes < 9:        # a class that is in the test set alone counts
        assert make(labels=labels, test_labels=numpy.array([0, 8])).classes == 9


@pytest.mark.parametrize("classes", [6.0, True, "6"])
def test_the_number_of_classes_is_an_integer(classes):
    assert type(make(classes=numpy.int64(6)).classes) is int
    with pytest.raises(TypeError, match="^Dataset: an integer classes of at least 1 expected"):
        make(classes=classes)


def test_readers_see_the_names_of_classes_if_they_are_given():
    assert make(classes=6).class_name(numpy.int64(5)) == "5"
    assert make(classes=6, class_names=("a", "b", "c", "d", "e", "f")).class_name(5) == "f"
    with pytest.raises(ValueError, match="class_names: a name for each of the 6 classes expected, 2 found"):
        make(classes=6, class_names=("a", "b"))


def test_labels_may_begin_above_0_if_the_classes_are_said():
    assert make(labels=numpy.arange(6) + 1, test_labels=numpy.arange(2) + 1, classes=8).classes == 8


def test_floats_may_leave_the_range_by_rounding():
    make(grey(6) * numpy.float32(1 + 2e-7), test=grey(2))


def test_the_data_sets_say_what_they_are(mnist):
    assert (mnist.name, mnist.image_shape, mnist.image_range, mnist.classes) == (
        "MNIST", (28, 28, 1), (0, 1), 10)
    drawn = datasets.faces(2, 1, side=16)
    assert (drawn.name, drawn.image_shape, drawn.image_range, drawn.classes) == (
        "drawn faces", (16, 16, 3), (0, 255), None)
    assert repr(mnist) == ("<Dataset MNIST: 60,000 images for training and 10,000 for test, 28 x 28 x 1, "
                           "float32, 10 classes>")
    one = numpy.zeros(6, int)
    assert repr(make(labels=one, test_labels=one[:2])).endswith(", 1 class>")
    assert repr(drawn) == "<Dataset drawn faces: 2 images for training and 1 for test, 16 x 16 x 3, uint8>"


@pytest.mark.parametrize("wrong, message", [
    ({"train": grey(6, "float16")}, r"train_images: an array .* of uint8 or of floats in \[0, 1\] expected, "
                                    r"float16 \(6, 4, 5\) found"),
    ({"train": grey(6, bool)}, r"bool \(6, 4, 5\) found"), ({"train": grey(6, "int64")}, "int64 .* found"),
    ({"test": grey(2).tolist()}, "test_images: .* list found"),
    ({"train": grey(6, "uint8", ())}, r"uint8 \(6,\) found"),
    ({"train": grey(0, "uint8")}, r"train_images: at least 1 image expected, an array \(0, 4, 5\) found"),
    ({"test": grey(2, "uint8", (4, 0, 3))}, "test_images: at least 1 image expected"),
    ({"train": grey(6) * 255}, r"train_images: floats in \[0, 1\] expected, 255 to 255 found"),
    ({"train": grey(6) - 1.5}, "-0.5 to -0.5 found"), ({"train": grey(6) * numpy.nan}, "nan to nan found"),
    ({"test": grey(2, "uint8", (4, 4, 3))},
     r"test_images like train_images, uint8 \(4, 5, 3\) each, expected, uint8 \(4, 4, 3\) found"),
    ({"test": grey(2, "float32", (4, 5, 3))}, r"expected, float32 \(4, 5, 3\) found"),
    ({"train": numpy.ma.masked_array(grey(6), grey(6) > 2)}, "train_images: .* MaskedArray found"),
    ({"labels": numpy.ma.masked_array(numpy.arange(6))}, "train_labels: .* MaskedArray found"),
    ({"labels": numpy.arange(5)}, r"train_labels: .* each of the 6 images expected, an array \(5,\) found"),
    ({"test_labels": [0, 1]}, "test_labels: .* each of the 2 images expected, list found"),
    ({"labels": numpy.arange(6) - 1}, "labels from 0 to 4 expected, -1 found"),
    ({"classes": 5}, "labels from 0 to 4 expected, 5 found"),
    ({"labels": numpy.arange(6) + 1, "test_labels": numpy.arange(2) + 1},
     "labels from 0 expected, 1 to 6 found: subtract 1, or give the number of classes"),
    ({"classes": 0}, "an integer classes of at least 1 expected, 0 found"),
    ({"labels": numpy.arange(6) * 10 ** 10}, "an integer classes of at most .*, 50000000001 found"),
    ({"labels": numpy.zeros(6), "classes": 5}, r"classes: integer labels \(N,\) expected, float64 \(6,\)"),
    ({"image_shape": (3, 4, 5)},
     r"image_shape: \(4, 5, 3\) expected for images \(4, 5, 3\), \(3, 4, 5\) found"),
    ({"image_shape": 28}, "28 found"),
    ({"train": grey(6, shape=(20,)), "test": grey(2, shape=(20,))},
     r"image_shape: \(height, width, channels\) with a product of 20 expected .*, \(\) found"),
    ({"train": grey(6, shape=(20,)), "test": grey(2, shape=(20,)), "image_shape": (4, 4, 1)},
     r"\(4, 4, 1\) found"),
    ({"train": grey(6, shape=(14,)), "test": grey(2, shape=(14,)), "image_shape": (3.5, 4, 1)},
     r"\(3.5, 4, 1\) found"),
    *[({"train": grey(6, shape=(20,)), "test": grey(2, shape=(20,)), "image_shape": wrong},
       f"product of 20 expected .*{found}") for wrong, found in
      [((numpy.nan, 4, 1), "nan"), ((numpy.inf, 4, 1), "inf"), (("5", "4", "1"), "'5'"), (20, "20 found"),
       ((5, (4, 1)), "found"), ((5, None, 1), "None"), ((5, 4), r"\(5, 4\)")]],
    ({"train": grey(6, shape=(20,)), "test": grey(2, shape=(20,)), "image_shape": (-4, -5, 1)},
     r"\(-4, -5, 1\) found"),
])
def test_what_is_not_a_data_set_is_refused_at_once(wrong, message):
    with pytest.raises(ValueError, match=f"^Dataset: .*{message}"):
        make(**wrong)


def test_scale():
    found = datasets.scale(numpy.array([0, 51, 255], "uint8"))
    assert found.dtype == "float32" and found.max() == 1 and found.min() == 0
    numpy.testing.assert_allclose(found, [0, 0.2, 1], rtol=1e-6)


def test_flip_and_scale(rng):
    images = rng.integers(0, 256, (400, 5, 6, 3), dtype="uint8")
    found = datasets.flip_and_scale(images, numpy.random.default_rng(3))
    plain = images / 255
    flipped = [not numpy.allclose(a, b, atol=1e-6) for a, b in zip(found, plain)]
    for one, before, turned in zip(found, plain, flipped):
        numpy.testing.assert_allclose(one, before[:, ::-1] if turned else before, atol=1e-6)
    assert found.dtype == "float32" and 150 < sum(flipped) < 250
    again = datasets.flip_and_scale(images, numpy.random.default_rng(3))
    assert (found == again).all()
    assert (found != datasets.flip_and_scale(images, numpy.random.default_rng(4))).any()


@pytest.mark.parametrize("call, message", [
    (lambda: datasets.scale([1, 2]), "scale: uint8 images expected, list found"),
    (lambda: datasets.scale(grey(2)), "scale: uint8 images expected, float32 found"),
    (lambda: datasets.flip_and_scale(grey(2, shape=(4, 5, 3)), numpy.random.default_rng(0)), "float32 found"),
    (lambda: datasets.flip_and_scale(grey(2, "uint8"), numpy.random.default_rng(0)),
     r"images \(N, H, W, C\) expected, an array \(2, 4, 5\) found")])
def test_images_that_are_scaled_already_are_not_scaled_again(call, message):
    with pytest.raises(ValueError, match=message):
        call()
