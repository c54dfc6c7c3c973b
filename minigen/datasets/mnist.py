"""MNIST, and other data sets that come as the same four IDX files: Fashion-MNIST, KMNIST, EMNIST, QMNIST."""

from __future__ import annotations

import os
import re
import string
from pathlib import Path

import numpy

from minigen import storage
from minigen.datasets import files
from minigen.datasets.dataset import Dataset
from minigen.datasets.idx import read_idx

EMBEDDED = Path(__file__).parent / "mnist_idx"

_NAME = re.compile(r"(?:(?P<prefix>[^.].*)[-._])?(?P<part>train|t10k|test)[-._](?P<what>images|labels)"
                   r"[-._]idx\d[-._]\w+?(\.gz|\.zip)?", re.IGNORECASE)
_BELOW = ("raw", "[!.]*/raw", "gzip")   # folders in torchvision's, and in EMNIST's archive
_LABELS = {"qmnist": "idx2-int"}        # how labels are named, if not idx1-ubyte
_LETTERS = string.ascii_uppercase
_MERGED = string.digits + _LETTERS + "abdefghnqrt"      # small letters that differ from capitals
_CLASS_NAMES = {"emnist-letters": _LETTERS, "emnist-balanced": _MERGED, "emnist-bymerge": _MERGED,
                "emnist-byclass": string.digits + _LETTERS + string.ascii_lowercase}
_FILES = "train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k- files, each raw or as .gz"


def mnist(root: str | os.PathLike[str] | None = None, split: str | None = None) -> Dataset:
    """MNIST, which comes with the package, or the data set in the folder ``root``.

    The images are (N, H * W) float32 in [0, 1], row by row from the top left; the labels are classes (N,)
    int64 from 0.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the two ``t10k-`` files,
    each raw or compressed as ``.gz``, or is torchvision's folder above them. The names may have dots for
    dashes, capitals, and a prefix, as ``emnist-letters-`` and ``qmnist-`` have, with ``test`` for ``t10k``;
    those that begin with a dot are passed over.
    If there are several data sets, ``split`` is the prefix of the wanted one or what follows ``emnist-`` in
    it, as in ``split="letters"``, or ``root`` is one of its four files. EMNIST's images, which its files hold
    transposed, are turned upright.

    Images may have any size. Labels have to be all classes from 0, or from 1, to the largest; those from 1
    are counted from 0. ``FileNotFoundError`` names a missing file; ``ValueError`` names a file with
    unexpected content, and says what differs.
    """
    if not isinstance(split, (str, type(None))):
        raise TypeError(f"mnist: split: a string or None expected, {type(split).__name__} found")
    prefix, paths = _choose(EMBEDDED if root is None else storage.expand("mnist", root), split)
    images, labels = _read(paths["train", "images"], paths["train", "labels"])
    test_images, test_labels = _read(paths["test", "images"], paths["test", "labels"])
    if test_images.shape[1:] != images.shape[1:]:
        raise ValueError(f"{paths['test', 'images']}: images of {images.shape[1:]} pixels as for training "
                         f"expected, {test_images.shape[1:]} found")
    first, classes = _classes(labels, test_labels, paths)
    if prefix.startswith("emnist"):
        images, test_images = images.transpose(0, 2, 1), test_images.transpose(0, 2, 1)
    return Dataset(_rows(images), labels - first, _rows(test_images), test_labels - first,
                   image_shape=(*images.shape[1:], 1), classes=classes,
                   class_names=_CLASS_NAMES.get(prefix, "")[:classes],
                   name="MNIST" if root is None else _title(paths["train", "images"].parent, prefix))


def _rows(images: numpy.ndarray) -> numpy.ndarray:
    """uint8 images (N, H, W) as (N, H * W) float32 in [0, 1]."""
    return images.reshape(len(images), -1) * numpy.float32(1 / 255)


def _choose(root: Path, split: str | None) -> tuple[str, dict[tuple[str, str], Path]]:
    """The prefix and the four files of the data set, by part and content."""
    sets = _sets(root)
    if split is not None:
        splits = sorted(prefix.removeprefix("emnist-") for _, prefix in sets if prefix)
        wanted = (split.lower(), f"emnist-{split.lower()}")
        sets = {key: paths for key, paths in sets.items() if key[1] in wanted}
        if not sets:
            raise ValueError(f"{root}: split: {' or '.join(splits) or 'None'} expected, {split!r} found")
    if len(sets) > 1:
        names = sorted(" in ".join(filter(None, (prefix, str(folder)))) for folder, prefix in sets)
        split_one = "split=, as in split='letters', or " * any(prefix for _, prefix in sets)
        raise ValueError(f"{root}: one data set expected, {len(sets)} found: {'; '.join(names)}: give "
                         f"{split_one}the folder of one, or one of its files")
    (folder, prefix), paths = next(iter(sets.items()))
    for part in ("train", "test"):
        for what, kind in (("images", "idx3-ubyte"), ("labels", _LABELS.get(prefix, "idx1-ubyte"))):
            if (part, what) not in paths:
                name = "-".join([prefix, part] if prefix else ["t10k" if part == "test" else part])
                text = folder.glob(f"{name}-{what}.tsv*")
                raise FileNotFoundError(f"{folder}: neither {name}-{what}-{kind} nor {name}-{what}-{kind}.gz "
                                        f"is there{''.join(f'; {path.name} is not read' for path in text)}")
    return prefix, paths


def _sets(root: Path) -> dict[tuple[Path, str], dict[tuple[str, str], Path]]:
    """Each data set's files, by folder and prefix; ``root`` may be one of the files."""
    folder, chosen = root, None
    if root.exists() and not root.is_dir():
        files.state(root)
        folder, chosen = root.parent, _NAME.fullmatch(root.name)
        if chosen is None:
            raise ValueError(f"{root}: a folder with {_FILES} expected, a file found (unpack it if it is an "
                             "archive)")
    elif not root.exists():
        raise FileNotFoundError(f"{root}: no such folder; one with {_FILES} expected")
    sets: dict[tuple[Path, str], dict[tuple[str, str], Path]] = {}
    for places in ([folder], *(sorted(folder.glob(pattern)) for pattern in _BELOW)):
        # The raw file comes before the same one as .gz.
        for path in (path for place in places if place.is_dir() for path in sorted(place.iterdir())):
            name = _NAME.fullmatch(path.name)
            if name and not path.is_dir():
                prefix, part = (name["prefix"] or "").lower(), name["part"].lower()
                key = "train" if part == "train" else "test", name["what"].lower()
                sets.setdefault((path.parent, prefix), {}).setdefault(key, path)
        if sets:
            break               # what is in the folder itself comes before what is below
    if chosen:
        only = folder, (chosen["prefix"] or "").lower()
        return {only: sets[only]}
    if not sets:
        archives = "".join(f"; unpack {path.name}" for path in sorted(folder.glob("[!.]*.zip")))
        raise FileNotFoundError(f"{root}: {_FILES} expected, none of them found{archives}")
    return sets


def _read(images_path: Path, labels_path: Path) -> tuple[numpy.ndarray, numpy.ndarray]:
    """The images (N, H, W) uint8 and the labels (N,) int64 of one part."""
    images = read_idx(images_path, (3,))
    if images.dtype != numpy.uint8:
        low, high = images.min(), images.max()
        if low < 0 or high > 255:
            raise ValueError(f"{images_path}: pixels from 0 to 255 expected, {low} to {high} found")
    labels = read_idx(labels_path, (1, 2), rows=len(images))
    # QMNIST's have eight columns; the first of them is the class.
    return images.astype(numpy.uint8), labels.reshape(len(labels), -1)[:, 0].astype(numpy.int64)


def _classes(train: numpy.ndarray, test: numpy.ndarray,
             paths: dict[tuple[str, str], Path]) -> tuple[int, int]:
    """The first label and the number of classes."""
    found = numpy.unique(train)
    first, last = int(found[0]), int(found[-1])
    if first not in (0, 1) or last - first + 1 != len(found):
        raise ValueError(f"{paths['train', 'labels']}: labels from 0, or from 1, without a gap expected, "
                         f"{', '.join(map(str, found[:12]))}{', ...' * (len(found) > 12)} found")
    for label in (int(test.min()), int(test.max())):
        if not first <= label <= last:
            raise ValueError(f"{paths['test', 'labels']}: labels from {first} to {last} as for training "
                             f"expected, {label} found")
    return first, len(found)


def _title(folder: Path, prefix: str) -> str:
    """A name for titles: of EMNIST's splits and QMNIST their own, of others that of the folder."""
    if prefix.startswith("emnist-"):
        return prefix.replace("emnist-", "EMNIST ", 1)
    if prefix:
        return prefix.upper()
    folder = folder.resolve()
    return (folder.parent if folder.name == "raw" else folder).name
