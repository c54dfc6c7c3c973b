"""Stacked MNIST: which digits are in an image, that they are the stored ones, and its labels."""

import gzip
import math

import numpy
import pytest
from conftest import write_idx_folder

from minigen import datasets
from minigen.datasets.mnist import EMBEDDED


def stored(part):
    """The images (N, 784) and labels (N,) of MNIST, read without the library."""
    read = [gzip.decompress((EMBEDDED / f"{part}-{end}-ubyte.gz").read_bytes())
            for end in ("images-idx3", "labels-idx1")]
    return numpy.frombuffer(read[0][16:], "uint8").reshape(-1, 784), numpy.frombuffer(read[1][8:], "uint8")


def test_each_channel_is_a_stored_digit_of_its_part():
    data = datasets.stacked_mnist(n=60, seed=4)
    assert data.train_images.shape == (60, 2352) and data.test_images.shape == (10, 2352)
    assert (data.train_images.dtype, data.train_labels.dtype) == ("uint8", "int64")
    for part, images, labels in (("train", data.train_images, data.train_labels),
                                 ("t10k", data.test_images, data.test_labels)):
        digits, classes = stored(part)
        place = {digit.tobytes(): i for i, digit in enumerate(digits)}
        for image, label in zip(images.reshape(-1, 28, 28, 3), labels):
            chosen = [place[image[:, :, channel].tobytes()] for channel in range(3)]
            assert len(set(chosen)) == 3 and f"{label:03}" == "".join(str(classes[i]) for i in chosen)


def test_what_it_says_of_itself():
    data = datasets.stacked_mnist(n=7)
    assert repr(data) == ("<Dataset stacked MNIST: 7 images for training and 2 for test, 28 x 28 x 3, uint8, "
                          "1000 classes>")


def test_all_combinations_are_about_equally_likely(small_mnist):
    data = datasets.stacked_mnist(small_mnist, n=30_000)
    share = numpy.bincount(datasets.mnist(small_mnist).train_labels) / 640
    expected = 30_000 * numpy.einsum("a,b,c->abc", share, share, share).ravel()
    counts = numpy.bincount(data.train_labels, minlength=1000)
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi_squared - 999) < 5 * math.sqrt(2 * 999)


def test_an_image_depends_on_the_seed_and_its_position_alone(small_mnist):
    few, many, other = (datasets.stacked_mnist(small_mnist, n, seed)
                        for n, seed in ((48, 0), (60, 0), (48, 1)))
    for one, more, different in zip(few, many, other):
        assert (one == more[:len(one)]).all() and (one != different).any()


def test_another_data_set_of_other_size_and_classes(tmp_path):
    images = numpy.arange(5 * 3 * 4).reshape(5, 3, 4)
    data = datasets.stacked_mnist(write_idx_folder(tmp_path / "five", images, numpy.arange(5), test=5), n=400)
    assert (data.image_shape, data.classes, data.name) == ((3, 4, 3), 125, "stacked five")
    for image, label in zip(data.train_images, data.train_labels):
        a, b, c = image.reshape(3, 4, 3)[0, 0] // 12
        assert label == 25 * a + 5 * b + c
    assert len(set(data.train_labels.tolist())) > 110
    assert (data.train_labels[:67] != data.test_labels).any()       # though both are drawn from the same five


@pytest.mark.parametrize("wrong, message", [
    ({"n": 0}, "an integer n of at least 1 expected, 0 found"),
    ({"seed": 0.5}, "an integer seed of at least 0 expected, 0.5 found")])
def test_what_is_refused(wrong, message):
    with pytest.raises((TypeError, ValueError), match=f"^stacked_mnist: {message}$"):
        datasets.stacked_mnist(**wrong)


def test_a_wrong_path_is_mnists_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        datasets.stacked_mnist(tmp_path / "nowhere")
