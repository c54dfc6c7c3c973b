"""Any folder of pictures as a data set: which files, how they are cut, and which are for test."""

import hashlib
import importlib
import os
import shutil

import numpy
import pytest
from PIL import Image

from minigen import datasets


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def save(path, colour=(10, 20, 30), size=(8, 8), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


def make(folder, n=20):
    for i in range(n):
        save(folder / f"{i}.png", (i, 100, 200))
    return folder


def test_a_folder(tmp_path):
    data = datasets.folder(make(tmp_path / "my pictures"), 16)
    assert (data.name, data.image_shape, data.image_range, data.classes) == (
        "my pictures", (16, 16, 3), (0, 255), None)
    assert data.train_images.shape == (18, 16, 16, 3) and data.test_images.shape == (2, 16, 16, 3)
    for images, names in ((data.train_images, data.train_labels), (data.test_images, data.test_labels)):
        for image, name in zip(images, names):
            assert (image == (int(name.removesuffix(".png")), 100, 200)).all()
        assert names.tolist() == sorted(names.tolist())
    assert datasets.folder(tmp_path / "my pictures").image_shape == (64, 64, 3)


def test_names_decide_which_are_for_test(tmp_path):
    data = datasets.folder(make(tmp_path / "a"), 4)
    order = sorted(data.train_labels.tolist() + data.test_labels.tolist(),
                   key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    assert data.test_labels.tolist() == sorted(order[:2])
    (tmp_path / "a").rename(tmp_path / "b")
    assert datasets.folder(tmp_path / "b", 4).test_labels.tolist() == data.test_labels.tolist()


@pytest.mark.parametrize("n, n_test", [(2, 1), (14, 1), (16, 2), (40, 4)])
def test_a_tenth_is_for_test_and_at_least_one(tmp_path, n, n_test):
    data = datasets.folder(make(tmp_path / "a", n), 4)
    assert (len(data.train_images), len(data.test_images)) == (n - n_test, n_test)


def test_every_format_in_any_folder(tmp_path):
    names = ["a.jpg", "b.JPEG", "sub/c.PNG", "sub/sub/d.webp", "e.bmp", "f.Gif", "sub/ä é.png"]
    for name in names:
        save(tmp_path / "x" / name)
    for name in (".hidden.png", ".git/h.png", "__MACOSX/m.png", "notes.txt.d/._a.jpg"):
        save(tmp_path / "x" / name)
    (tmp_path / "x" / "notes.txt").write_text("no picture")
    data = datasets.folder(tmp_path / "x", 8)
    assert sorted([*data.train_labels, *data.test_labels]) == sorted(names)
    for image in [*data.train_images, *data.test_images]:
        assert abs(image.astype(int) - (10, 20, 30)).max() <= 3
    grey = datasets.folder(tmp_path / "x", 8, channels=1)
    assert grey.image_shape == (8, 8, 1)
    assert abs(grey.train_images.astype(int) - 18).max() <= 3       # 0.299 * 10 + 0.587 * 20 + 0.114 * 30


@pytest.mark.parametrize("others, warning", [
    (["photos/IMG_1.HEIC"], r"x: 1 picture left out: convert to JPEG or PNG first \(photos/IMG_1.HEIC\)"),
    (["b.tif", "a.avif", "c.DNG"], r"x: 3 pictures left out: .* \(a.avif, ...\)")])
def test_a_warning_counts_pictures_in_formats_that_are_not_read(tmp_path, others, warning):
    make(tmp_path / "x", 3)
    for name in others:
        (tmp_path / "x" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "x" / name).write_bytes(b"?")
    with pytest.warns(UserWarning, match=warning):
        data = datasets.folder(tmp_path / "x", 4)
    assert len(data.train_images) + len(data.test_images) == 3
    for path in (tmp_path / "x").glob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="expected, 0 found"), pytest.warns(UserWarning, match=warning):
        datasets.folder(tmp_path / "x", 4)


def test_links_are_followed_but_not_in_circles(tmp_path):
    make(tmp_path / "elsewhere", 3)
    (tmp_path / "x").mkdir()
    for name, target in (("a", "elsewhere"), ("b", "elsewhere"), ("circle", "x")):
        (tmp_path / "x" / name).symlink_to(tmp_path / target)
    (tmp_path / "x" / "one.png").symlink_to(tmp_path / "elsewhere" / "0.png")
    data = datasets.folder(tmp_path / "x", 4)
    assert sorted([*data.train_labels, *data.test_labels]) == ["a/0.png", "a/1.png", "a/2.png", "one.png"]


def test_a_picture_is_cut_to_the_square_in_its_middle(tmp_path):
    for name, size, axis in (("wide.png", (90, 30), 1), ("tall.png", (30, 90), 0)):
        picture = numpy.zeros((size[1], size[0], 3), "uint8")
        picture.swapaxes(0, axis)[30:60] = 200
        Image.fromarray(picture).save(tmp_path / name)
        save(tmp_path / f"other {name}", (200, 200, 200))
    data = datasets.folder(tmp_path, 10)
    for image in [*data.train_images, *data.test_images]:       # the filter sees a little beyond the cut
        assert abs(image.astype(int) - 200).max() < 20


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    make(tmp_path / "x", 3)
    assert datasets.folder("~/x", 4).name == "x"


@pytest.mark.parametrize("make, kind, message", [
    (lambda path: None, FileNotFoundError, "x: no such folder; one with pictures expected"),
    (lambda path: path.write_bytes(b"PK"), ValueError, "x: a folder of pictures expected, a file found"),
    (os.mkfifo, ValueError, "x: a folder of pictures expected"),
    (os.mkdir, ValueError, r"x: at least 2 pictures \(.jpg .jpeg .png .webp .bmp .gif\) expected, 0 found"),
    (lambda path: make(path, 1), ValueError, "expected, 1 found"),
    (lambda path: os.mkfifo(make(path) / "pipe.png"), ValueError,
     "x/pipe.png: a regular file expected, a FIFO found"),
    (lambda path: (make(path) / "zero.jpg").symlink_to("/dev/zero"), ValueError, "zero.jpg: .* device found"),
    (lambda path: (make(path) / "lost.jpg").symlink_to("nowhere"), FileNotFoundError, "lost.jpg"),
])
def test_what_is_no_folder_of_pictures_is_refused(tmp_path, make, kind, message):
    make(tmp_path / "x")
    with pytest.raises(kind, match=message):
        datasets.folder(tmp_path / "x")


@pytest.mark.parametrize("wrong, message", [
    ({"size": 0}, "^folder: an integer size of at least 1 expected, 0 found"),
    ({"size": 4097}, "^folder: an integer size of at most 4096 expected, 4097 found"),
    ({"size": 2.5}, "2.5 found"), ({"size": "64"}, "'64' found"), ({"size": True}, "True found"),
    ({"size": (32, 8)}, r"\(32, 8\) found"),
    ({"channels": True}, "^folder: an integer channels .* True found"),
    ({"channels": 4}, r"^folder: channels: 1 \(grey\) or 3 \(colour\) expected, 4 found")])
def test_a_shape_that_no_image_has_is_refused(tmp_path, wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        datasets.folder(make(tmp_path / "x", 2), **wrong)


@pytest.mark.parametrize("call", [datasets.celeba, datasets.photographs])
@pytest.mark.parametrize("wrong", [0, 4097, 2.5, None])
def test_a_side_that_no_image_has_is_refused(tmp_path, call, wrong):
    with pytest.raises((TypeError, ValueError), match=f"^{call.__name__}: an integer side of at .* {wrong} "):
        call(make(tmp_path / "x", 2), side=wrong)


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    make(tmp_path / "x" / "sub")
    original = os.listdir

    def listdir(path):
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)
    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(importlib.import_module("pathlib").os, "listdir", listdir)
    with pytest.raises(PermissionError, match="x/sub"):
        datasets.folder(tmp_path / "x")


@pytest.mark.parametrize("size, names, first, expected", [
    ((178, 218), "%06d.jpg", b"damaged", "CelebA"), ((178, 218), "%06d.jpg", None, "CelebA"),
    ((178, 218), "face%06d.jpg", None, "x"), ((178, 217), "%06d.jpg", None, "x")])
def test_photographs_are_celebas_or_those_of_a_folder(tmp_path, size, names, first, expected):
    for i in range(20):
        save(tmp_path / "x" / (names % i), size=size)
    if first:
        (tmp_path / "x" / (names % 0)).write_bytes(first)
        with pytest.warns(UserWarning, match="1 of 18 images cannot be read"):
            data = datasets.photographs(tmp_path / "x", 16)
    else:
        data = datasets.photographs(tmp_path / "x", 16)
    assert data.name == expected and data.image_shape == (16, 16, 3)


@pytest.mark.parametrize("size, expected", [((178, 218), "CelebA"), ((40, 30), "x")])
def test_an_archive_of_numbered_images_is_celeba_if_they_have_its_size(tmp_path, size, expected):
    for i in range(20):
        save(tmp_path / "x" / "images" / f"{i}.jpg", size=size)
    shutil.make_archive(str(tmp_path / "x" / "archive"), "zip", tmp_path / "x", "images")
    assert datasets.photographs(tmp_path / "x", 16).name == expected
    if expected == "x":
        with pytest.raises(ValueError, match="archive.zip: a folder of pictures expected, .* .unpack it"):
            datasets.photographs(tmp_path / "x" / "archive.zip", 16)


@pytest.mark.parametrize("make, kind, message", [
    (lambda path: None, FileNotFoundError, "x: no such file or folder: give img_align_celeba.zip"),
    (os.mkdir, ValueError, "x: at least 2 pictures .* expected, 0 found"),
    (lambda path: path.write_bytes(b"?"), ValueError, "x: a zip archive or a folder expected")])
def test_what_holds_no_photographs_is_refused(tmp_path, make, kind, message):
    make(tmp_path / "x")
    with pytest.raises(kind, match=message):
        datasets.photographs(tmp_path / "x")
