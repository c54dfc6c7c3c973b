"""MNIST as it comes with the package, its relatives as they are distributed, damaged and missing files."""

import gzip
import hashlib
import os
import shutil
import socket
import struct
import tracemalloc

import numpy
import pytest
from conftest import idx_bytes, write_idx_folder

from minigen import datasets
from minigen.datasets import idx
from minigen.datasets.mnist import EMBEDDED


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
    assert (data.name, data.image_shape, data.classes) == ("small", (28, 28, 1), 10)


def test_a_split_that_is_no_string_is_refused(small_mnist):
    with pytest.raises(TypeError, match="^mnist: split: a string or None expected, int found$"):
        datasets.mnist(small_mnist, split=5)


def test_files_that_begin_with_a_dot_are_passed_over(tmp_path, small_mnist):
    """macOS writes one beside every file on other file systems."""
    for path in small_mnist.iterdir():
        shutil.copy(path, tmp_path)
        (tmp_path / f"._{path.name}").write_bytes(b"\0\5\x16\7")
    assert len(datasets.mnist(tmp_path).train_images) == 640
    raw = tmp_path / ".Trash" / "raw"
    raw.mkdir(parents=True)
    for path in tmp_path.glob("*ubyte*"):
        path.rename(raw / path.name)
    with pytest.raises(FileNotFoundError, match="none of them found"):
        datasets.mnist(tmp_path)


IMAGES, LABELS = numpy.arange(5 * 28 * 28).reshape(5, 28, 28) % 256, numpy.arange(5)
COMPRESSED = gzip.compress(idx_bytes(IMAGES), mtime=0)      # the time would be part of the names of tests
CODES = {"uint8": 0x08, "int8": 0x09, ">i2": 0x0b, ">i4": 0x0c}


def integers(array, dtype):
    """An array in the IDX format, with elements of this type."""
    header = bytes((0, 0, CODES[dtype], array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(dtype).tobytes()


def write(folder, prefix="", test="t10k", images=IMAGES, labels=LABELS, ending="-idx{}-ubyte", n_test=2):
    """A folder of raw files with names as they are distributed."""
    folder.mkdir(parents=True, exist_ok=True)
    for part, n in (("train", len(images)), (test, n_test)):
        for what, array in (("images", images[:n]), ("labels", labels[:n])):
            (folder / f"{prefix}{part}-{what}{ending.format(array.ndim)}").write_bytes(idx_bytes(array))
    return folder


def check(data, images=IMAGES, labels=LABELS, name=None):
    assert data.image_shape == (*images.shape[1:], 1)
    for found, wanted in ((data.train_images, images), (data.test_images, images[:2])):
        assert found.dtype == "float32"
        numpy.testing.assert_allclose(found, wanted.reshape(len(wanted), -1) / 255, atol=1e-7)
    assert data.train_labels.tolist() == labels.tolist() and data.test_labels.tolist() == labels[:2].tolist()
    assert data.classes == len(set(labels.tolist())) and name in (None, data.name)


@pytest.mark.parametrize("rename", [
    lambda name: name.replace("-idx", ".idx"), str.upper, str.title, lambda name: name.replace("-", "_"),
    lambda name: name.replace("t10k", "test")])
def test_names_as_programs_change_them(tmp_path, rename):
    write(tmp_path / "x")
    for path in (tmp_path / "x").iterdir():
        path.rename(path.with_name(rename(path.name)))
    check(datasets.mnist(tmp_path / "x"), name="x")


@pytest.mark.parametrize("given", [".", "FashionMNIST", "FashionMNIST/raw",
                                   "FashionMNIST/raw/t10k-labels-idx1-ubyte"])
def test_the_layout_of_torchvision(tmp_path, given):
    raw = write(tmp_path / "FashionMNIST" / "raw")
    for path in list(raw.iterdir()):            # it leaves the downloaded files beside the unpacked ones
        path.with_name(f"{path.name}.gz").write_bytes(b"cut off")
    check(datasets.mnist(tmp_path / given), name="FashionMNIST")


@pytest.mark.parametrize("folder", ["x/raw", "x/gzip", "x/MNIST/raw"])
def test_the_folders_that_archives_unpack_to(tmp_path, folder):
    write(tmp_path / folder)
    check(datasets.mnist(tmp_path / "x"))
    write(tmp_path / "x", images=1 + IMAGES[:, :, :9] // 2)             # comes before what is below
    check(datasets.mnist(tmp_path / "x"), images=1 + IMAGES[:, :, :9] // 2)


def test_a_file_with_the_name_of_such_a_folder_is_passed_over(tmp_path):
    (tmp_path / "raw").write_text("no folder")
    write(tmp_path / "gzip")
    check(datasets.mnist(tmp_path))


def test_a_folder_of_the_same_name_beside_a_file(tmp_path):
    write(tmp_path / "x", ending=".idx{}-ubyte")
    (tmp_path / "x" / "train-images-idx3-ubyte").mkdir()
    check(datasets.mnist(tmp_path / "x"))


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write(tmp_path / "x")
    check(datasets.mnist("~/x"))


@pytest.mark.parametrize("shape", [(1, 1), (32, 32), (20, 31)])
def test_images_of_any_size(tmp_path, shape):
    images = numpy.arange(5 * shape[0] * shape[1]).reshape(5, *shape) % 256
    check(datasets.mnist(write(tmp_path / "x", images=images)), images)


@pytest.mark.parametrize("dtype", [">i2", ">i4"])
def test_other_integers(tmp_path, dtype):
    write(tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(integers(IMAGES, dtype))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(gzip.compress(integers(IMAGES[:2], dtype)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(integers(LABELS, dtype))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(integers(LABELS[:2], "int8"))
    check(datasets.mnist(tmp_path))


def test_qmnist_with_its_labels_as_text_says_which_files_it_needs(tmp_path):
    write(tmp_path, "qmnist-", "test")
    for part in ("train", "test"):
        (tmp_path / f"qmnist-{part}-labels-idx1-ubyte").unlink()
        (tmp_path / f"qmnist-{part}-labels.tsv.gz").write_bytes(b"?")
    with pytest.raises(FileNotFoundError, match=(
            "neither qmnist-train-labels-idx2-int nor qmnist-train-labels-idx2-int.gz is there; "
            "qmnist-train-labels.tsv.gz is not read$")):
        datasets.mnist(tmp_path)


def test_qmnist_has_the_class_in_the_first_of_eight_columns(tmp_path):
    labels = numpy.arange(40).reshape(5, 8) + 100
    labels[:, 0] = LABELS
    write(tmp_path / "QMNIST" / "raw", "qmnist-", "test", labels=labels)
    for part, rows in (("train", labels), ("test", labels[:2])):
        path = tmp_path / "QMNIST" / "raw" / f"qmnist-{part}-labels-idx2-ubyte"
        path.unlink()
        path.with_name(f"qmnist-{part}-labels-idx2-int.gz").write_bytes(gzip.compress(integers(rows, ">i4")))
    check(datasets.mnist(tmp_path), name="QMNIST")


UPRIGHT = numpy.zeros((94, 4, 4), int)
# An L upside down: a bright bar above, a darker one on the left.
UPRIGHT[:, 0], UPRIGHT[:, :, 0] = 200, 100
SPLITS = [("letters", 1, 26), ("balanced", 0, 47), ("byclass", 0, 62), ("mnist", 0, 10)]


@pytest.mark.parametrize("split, classes", [(split, classes) for split, _, classes in SPLITS])
@pytest.mark.parametrize("given", ["split", "the whole name", "file"])
def test_emnist_is_upright_and_its_classes_count_from_0(tmp_path, split, classes, given):
    for name, start, n in SPLITS:
        write(tmp_path / "raw", f"emnist-{name}-", "test", UPRIGHT.transpose(0, 2, 1),
              start + numpy.arange(94) % n, n_test=90)
    if given == "file":
        data = datasets.mnist(tmp_path / "raw" / f"emnist-{split}-train-images-idx3-ubyte")
    else:
        data = datasets.mnist(tmp_path, split=split if given == "split" else f"EMNIST-{split}")
    assert (data.name, data.classes) == (f"EMNIST {split}", classes)
    assert "".join(map(data.class_name, range(classes))) == {
        "letters": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "mnist": "0123456789",
        "balanced": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt",
        "byclass": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"}[split]
    assert data.train_labels.tolist() == (numpy.arange(94) % classes).tolist()
    assert data.test_labels.tolist() == (numpy.arange(90) % classes).tolist()
    numpy.testing.assert_allclose(data.train_images.reshape(-1, 4, 4), UPRIGHT / 255, atol=1e-7)


def test_several_data_sets_in_a_folder_are_listed(tmp_path):
    for split in ("letters", "digits"):
        write(tmp_path, f"emnist-{split}-", "test")
    with pytest.raises(ValueError, match="one data set expected, 2 found: emnist-digits in .*; "
                                         "emnist-letters in .*: give split="):
        datasets.mnist(tmp_path)
    with pytest.raises(ValueError, match="split: digits or letters expected, 'x' found"):
        datasets.mnist(tmp_path, split="x")
    for name in ("MNIST", "KMNIST"):
        write(tmp_path / "torch" / name / "raw")
    with pytest.raises(ValueError, match="2 found: .*KMNIST.raw; .*MNIST.raw: give the folder of one, or"):
        datasets.mnist(tmp_path / "torch")


@pytest.mark.parametrize("file, content, message", [
    ("train-images-idx3-ubyte", b"", "magic number 00000803 .* expected, an empty file found"),
    ("train-images-idx3-ubyte", b"PNG!" * 10, "magic number 00000803 .* expected, 504e4721 found"),
    ("train-images-idx3-ubyte", idx_bytes(LABELS), "magic number 00000803 .* expected, 00000801 found"),
    ("train-images-idx3-ubyte", b"\0\0\x0d\3" + bytes(24), "magic number .* expected, 00000d03 found"),
    ("train-labels-idx1-ubyte", b"\0\0\x0d\1" + bytes(24),
     "magic number 00000801 or 00000802 .* expected, 00000d01 found"),
    ("train-images-idx3-ubyte", b"\0\0\x08\3\0\0", "a header of 16 bytes expected, 6 bytes found"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES)[:-1],
     r"3936 bytes expected for an array of shape \(5, 28, 28\), 3935 found"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES) + b"\0", "3936 bytes expected .*, 3937 found"),
    ("train-images-idx3-ubyte", gzip.compress(idx_bytes(IMAGES) + b"12", mtime=0),
     "3936 bytes expected .*, at least 3937 found"),
    ("train-images-idx3-ubyte", gzip.compress(idx_bytes(IMAGES)[:-9], mtime=0), "3936 bytes .*, 3927 found"),
    ("train-images-idx3-ubyte", b"\0\0\x08\3" + struct.pack(">3I", *[2**32 - 1] * 3),
     r"an array of 1 to 33,554,432 bytes expected, one of shape \(4294967295, .* announced"),
    ("train-images-idx3-ubyte", COMPRESSED[:-20], "damaged gzip data"),
    ("train-images-idx3-ubyte", COMPRESSED[:-8], "damaged gzip data: its end is missing"),
    ("train-images-idx3-ubyte", COMPRESSED[:-8] + bytes(8), "damaged gzip data: .*incorrect data check"),
    ("train-images-idx3-ubyte", COMPRESSED + b"?", "damaged gzip data: something follows after its end"),
    ("train-images-idx3-ubyte", COMPRESSED[:30] + b"noise" * 9, "damaged gzip data"),
    ("train-images-idx3-ubyte", gzip.compress(COMPRESSED, mtime=0), "compressed by gzip twice: .* gunzip"),
    ("train-images-idx3-ubyte", b"PK\3\4" + bytes(99), "a zip archive: unpack it"),
    ("train-images-idx3-ubyte", idx_bytes(IMAGES[:0]), r"one of shape \(0, 28, 28\) announced"),
    ("train-images-idx3-ubyte", integers(IMAGES + 1, ">i2"), "pixels from 0 to 255 expected, 1 to 256 found"),
    ("train-images-idx3-ubyte", integers(IMAGES, "int8"), "from 0 to 255 expected, -128 to 127 found"),
    ("t10k-images-idx3-ubyte.gz", idx_bytes(IMAGES[:2, :27]),
     r"images of \(28, 28\) pixels as for training expected, \(27, 28\) found"),
    ("train-labels-idx1-ubyte", idx_bytes(LABELS[:4]), "5 rows expected, one for each image, 4 found"),
    ("train-labels-idx1-ubyte", idx_bytes(LABELS + 6), "labels from 0, .* expected, 6, 7, 8, 9, 10 found"),
    ("train-labels-idx1-ubyte", idx_bytes(LABELS * 2), "labels from 0, .* expected, 0, 2, 4, 6, 8 found"),
    ("train-labels-idx1-ubyte", integers(LABELS - 1, ">i4"), "expected, -1, 0, 1, 2, 3 found"),
    ("train-labels-idx1-ubyte", integers(LABELS * 10 ** 8, ">i4"), "100000000, 200000000, .* found"),
    ("t10k-labels-idx1-ubyte.gz", idx_bytes(numpy.array([4, 5])),
     "labels from 0 to 4 as for training expected, 5 found"),
])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, file, content, message):
    write_idx_folder(tmp_path, IMAGES, LABELS, test=2)
    datasets.mnist(tmp_path)
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        datasets.mnist(tmp_path)
    assert str(tmp_path / file) in str(error.value)


def test_every_single_bit_of_the_header_matters(tmp_path):
    write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    content = path.read_bytes()
    for bit in range(8 * 16):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        with pytest.raises(ValueError, match=str(path)):
            datasets.mnist(tmp_path)


HEADER = b"\0\0\x08\3" + struct.pack(">3I", 1 << 20, 8, 8)


def sparse(path, n=25_510_204):
    with open(path, "wb") as file:
        file.write(b"\0\0\x08\3" + struct.pack(">3I", n, 28, 28))
        file.truncate(20 << 30)


def bound_socket(path):
    os.chdir(path.parent)               # the name of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)


@pytest.mark.parametrize("make, message", [
    (os.mkfifo, "a regular file expected, a FIFO found"), (bound_socket, "a socket found"),
    (lambda path: path.symlink_to("/dev/zero"), "a device found"), (sparse, "bytes expected, one of shape"),
    (lambda path: sparse(path, 100_000), "78400016 bytes expected .*, 21474836480 found"),
    (lambda path: path.write_bytes(gzip.compress(idx_bytes(IMAGES) + bytes(64 << 20))),
     "at least 3937 found"),
    (lambda path: path.write_bytes(gzip.compress(HEADER + bytes(64 << 20))),
     r"an array of 1 to .* bytes expected, one of shape \(1048576, 8, 8\) announced"),
    (lambda path: path.write_bytes(gzip.compress(gzip.compress(bytes(64 << 20)))), "gzip twice"),
])
def test_what_has_no_end_is_refused_unread(tmp_path, monkeypatch, make, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    path = tmp_path / "train-images-idx3-ubyte"
    path.unlink()
    make(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"{path}: .*{message}"):
            datasets.mnist(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        with pytest.raises(ValueError, match=f"{path}: "):
            datasets.mnist(path)
    finally:
        tracemalloc.stop()


def test_a_missing_file_or_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        datasets.mnist(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="empty: train-images-idx3-ubyte, .* none of them found$"):
        datasets.mnist(tmp_path / "empty")
    (tmp_path / "empty" / "gzip.zip").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match="none of them found; unpack gzip.zip$"):
        datasets.mnist(tmp_path / "empty")
    with pytest.raises(ValueError, match="gzip.zip: a folder with .* expected, a file found .unpack it"):
        datasets.mnist(tmp_path / "empty" / "gzip.zip")
    write_idx_folder(tmp_path, IMAGES, LABELS)
    (tmp_path / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError,
                       match="neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz is there$"):
        datasets.mnist(tmp_path)


def test_an_error_while_reading_names_the_file(tmp_path, monkeypatch):
    write(tmp_path)

    def fail(*_):
        raise OSError(5, "Input/output error")
    monkeypatch.setattr(idx, "_header", fail)
    with pytest.raises(OSError, match="Input/output error: .*train-images-idx3-ubyte"):
        datasets.mnist(tmp_path)
