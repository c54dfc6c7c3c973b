"""MNIST as it comes with the package, other folders, and damaged or missing files."""

import gzip
import hashlib
import struct

import numpy
import pytest
from conftest import idx_bytes, write_idx_folder

from minigen import datasets
from minigen.datasets.mnist import EMBEDDED, read_idx


def test_the_whole_of_mnist(mnist):
    assert [a.shape for a in mnist] == [(60000, 784), (60000,), (10000, 784), (10000,)]
    assert [str(a.dtype) for a in mnist] == ["float32", "int64"] * 2
    assert numpy.bincount(mnist.train_labels).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert mnist.test_labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert mnist.train_images.min() == 0 and mnist.train_images.max() == 1
    assert mnist.train_images.mean(dtype="float64") == pytest.approx(0.1306605, abs=1e-6)


@pytest.mark.parametrize("name, digest", [
    ("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    ("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    ("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    ("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637")])
def test_the_embedded_files_are_the_originals(name, digest):
    content = gzip.decompress((EMBEDDED / f"{name}.gz").read_bytes())
    assert hashlib.md5(content, usedforsecurity=False).hexdigest() == digest


def test_another_folder_raw_and_compressed(small_mnist, mnist):
    data = datasets.mnist(small_mnist)
    assert data.train_images.shape == (640, 784) and data.test_images.shape == (50, 784)
    numpy.testing.assert_allclose(data.train_images, mnist.train_images[:640], atol=1e-7)
    assert (data.test_labels == mnist.train_labels[:50]).all()
    assert (datasets.mnist(str(small_mnist)).train_images == data.train_images).all()


IMAGES, LABELS = numpy.arange(5 * 28 * 28).reshape(5, 28, 28) % 256, numpy.arange(5)
COMPRESSED = gzip.compress(idx_bytes(IMAGES), mtime=0)      # the time would be part of the names of tests


@pytest.mark.parametrize("file, content, message", [
    ("train-images-idx3-ubyte", b"", "magic number 00000803 expected, an empty file found"),
    ("train-images-idx3-ubyte", b"PNG!" * 10, "magic number 00000803 expected, 504e4721 found"),
    ("train-images-idx3-ubyte", idx_bytes(LABELS), "magic number 00000803 expected, 00000801 found"),
    ("train-labels-idx1-ubyte", b"\0\0\x0d\1" + bytes(24), "magic number 00000801 expected, 00000d01 found"),
    ("train-images-idx3-ubyte", b"\0\0\x08\3\0\0", "a header of 16 bytes expected, 6 bytes found"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES)[:-1],
     r"3936 bytes expected for an array of shape \(5, 28, 28\), 3935 found"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES) + b"\0", "3936 bytes expected .*, 3937 found"),
    ("train-images-idx3-ubyte", b"\0\0\x08\3" + struct.pack(">3I", *[2**32 - 1] * 3),
     "bytes expected for an array of shape"),
    ("train-images-idx3-ubyte", COMPRESSED[:-20], "damaged gzip data"),
    ("train-images-idx3-ubyte", COMPRESSED[:30] + b"noise" * 9, "damaged gzip data"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES[:, :27]),
     r"28 x 28 pixels expected, an array of shape \(5, 27, 28\)"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES[:0]), r"an array of shape \(0, 28, 28\)"),
    ("train-labels-idx1-ubyte", idx_bytes(LABELS[:4]),
     "4 labels found for the 5 images of train-images-idx3-ubyte"),
    ("train-labels-idx1-ubyte", idx_bytes(LABELS + 6), "labels from 0 to 9 expected, 10 found"),
])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, file, content, message):
    write_idx_folder(tmp_path, IMAGES, LABELS, test=2)
    datasets.mnist(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        datasets.mnist(tmp_path)
    assert str(tmp_path / file) in str(error.value)


def test_every_single_bit_of_the_header_matters(tmp_path):
    path = tmp_path / "x"
    content = idx_bytes(IMAGES)
    for bit in range(8 * 16):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=str(path)):
            read_idx(path, 3)


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        datasets.mnist(tmp_path / "nowhere")
    write_idx_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError,
                       match="neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz"):
        datasets.mnist(tmp_path)
