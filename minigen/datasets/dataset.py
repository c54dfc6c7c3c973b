"""A data set, and its stored images as networks expect them."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import checks

_ROUNDING = 1e-4        # of images, by which they may leave [0, 1]
_RANGES = {"uint8": (0, 255), "float32": (0, 1), "float64": (0, 1)}


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and their labels, for training and test, and what they are. It unpacks into its four arrays.

    The images are floats in [0, 1], or stored as uint8, which ``scale`` turns into such floats. Their arrays
    are (N, H, W, C), or (N, H, W) if grey; if (N, H * W * C), row by row from the top left, ``image_shape``
    must be given. Labels that are integers (N,) are classes, counted from 0; others can be any array with N
    rows.

    ``image_shape`` is the height, the width and the number of channels of an image. ``classes`` is the number
    of classes, None without classes; unless given, the largest label tells it, and the smallest has to be 0.
    ``class_names``, if given, are what readers see in place of the classes' numbers, in their order.
    ``name`` is for titles.
    ``ValueError`` says which array or value does not fit.
    """

    train_images: numpy.ndarray
    train_labels: numpy.ndarray
    test_images: numpy.ndarray
    test_labels: numpy.ndarray
    image_shape: tuple[int, ...] = ()
    classes: int | None = None
    name: str = "images"
    class_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, array in zip(("train_images", "train_labels", "test_images", "test_labels"), self):
            if isinstance(array, numpy.ma.MaskedArray):
                raise ValueError(f"Dataset: {name}: an array without a mask expected, {type(array).__name__} "
                                 "found: use its filled()")
        for part in ("train", "test"):
            _check_images(f"{part}_images", getattr(self, f"{part}_images"))
            _check_labels(f"{part}_labels", getattr(self, f"{part}_labels"), getattr(self, f"{part}_images"))
        train, test = self.train_images, self.test_images
        if (train.shape[1:], train.dtype) != (test.shape[1:], test.dtype):
            raise ValueError(f"Dataset: test_images like train_images, {train.dtype} {train.shape[1:]} each, "
                             f"expected, {test.dtype} {test.shape[1:]} found")
        object.__setattr__(self, "image_shape", _image_shape(train.shape[1:], self.image_shape))
        object.__setattr__(self, "classes", self._number_of_classes())
        if len(self.class_names) not in (0, self.classes):
            raise ValueError(f"Dataset: class_names: a name for each of the {self.classes} classes expected, "
                             f"{len(self.class_names)} found")

    def __iter__(self) -> Iterator[numpy.ndarray]:
        return iter((self.train_images, self.train_labels, self.test_images, self.test_labels))

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.image_shape))
        classes = f", {self.classes} class{'es' * (self.classes > 1)}" if self.classes else ""
        return (f"<Dataset {self.name}: {len(self.train_images):,} images for training and "
                f"{len(self.test_images):,} for test, {shape}, {self.train_images.dtype}{classes}>")

    @property
    def image_range(self) -> tuple[int, int]:
        """The values of black and white: (0, 1) for floats, (0, 255) for uint8."""
        return _RANGES[str(self.train_images.dtype)]

    def class_name(self, label: int) -> str:
        """What readers see for a label: the name of the class, or its number."""
        return self.class_names[label] if self.class_names else str(label)

    def _number_of_classes(self) -> int | None:
        labels = self.train_labels, self.test_labels
        if not all(part.ndim == 1 and part.dtype.kind in "iu" for part in labels):
            if self.classes is None:
                return None
            raise ValueError(f"Dataset: classes: integer labels (N,) expected, {labels[0].dtype} "
                             f"{labels[0].shape} and {labels[1].dtype} {labels[1].shape} found")
        lowest, highest = min(part.min() for part in labels), max(part.max() for part in labels)
        if self.classes is None and lowest > 0:
            raise ValueError(f"Dataset: labels from 0 expected, {lowest} to {highest} found: subtract "
                             f"{lowest}, or give the number of classes")
        classes = int(highest) + 1 if self.classes is None else self.classes
        classes = checks.whole("Dataset", "classes", classes)
        if lowest < 0 or highest >= classes:
            raise ValueError(f"Dataset: labels from 0 to {classes - 1} expected, "
                             f"{lowest if lowest < 0 else highest} found")
        return classes


def _check_images(name: str, images: Any) -> None:
    if not isinstance(images, numpy.ndarray) or str(images.dtype) not in _RANGES or images.ndim < 2:
        found = (f"{images.dtype} {images.shape}" if isinstance(images, numpy.ndarray)
                 else type(images).__name__)
        raise ValueError(f"Dataset: {name}: an array (N, ...) of uint8 or of floats in [0, 1] expected, "
                         f"{found} found")
    if not images.size:
        raise ValueError(f"Dataset: {name}: at least 1 image expected, an array {images.shape} found")
    if images.dtype.kind == "f":
        low, high = images.min(), images.max()
        if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):       # NaN is neither
            raise ValueError(f"Dataset: {name}: floats in [0, 1] expected, {low:.4g} to {high:.4g} found")


def _check_labels(name: str, labels: Any, images: numpy.ndarray) -> None:
    if not isinstance(labels, numpy.ndarray) or labels.ndim < 1 or len(labels) != len(images):
        found = f"an array {labels.shape}" if isinstance(labels, numpy.ndarray) else type(labels).__name__
        raise ValueError(f"Dataset: {name}: an array with a row for each of the {len(images)} images "
                         f"expected, {found} found")


def _image_shape(stored: tuple[int, ...], given: Any) -> tuple[int, ...]:
    """The shape of an image: that of its array, or for rows of pixels the one that was given."""
    try:
        said = tuple(map(operator.index, given))
    except TypeError:
        said = None
    expected: Any
    if len(stored) in (2, 3):
        expected = (*stored, 1)[:3]
        fits = said in ((), expected)
    else:
        expected = f"(height, width, channels) with a product of {math.prod(stored)}"
        fits = said is not None and len(said) == 3 and min(said) > 0 and math.prod(said) == math.prod(stored)
    if not fits:
        raise ValueError(f"Dataset: image_shape: {expected} expected for images {stored}, {given} found")
    return said or expected


def scale(images: Any) -> Any:
    """uint8 images as float32 from 0 (black) to 1 (white). ``ValueError`` for another dtype."""
    kind = getattr(images, "dtype", type(images).__name__)
    if kind != numpy.uint8:
        raise ValueError(f"scale: uint8 images expected, {kind} found")
    return images * numpy.float32(1 / 255)


def flip_and_scale(images: Any, rng: numpy.random.Generator) -> Any:
    """A uint8 batch (N, H, W, C) as float32 from 0 (black) to 1 (white), each image mirrored left to right
    with probability 1/2. ``ValueError`` for another dtype or shape."""
    if images.ndim != 4:
        raise ValueError(f"flip_and_scale: images (N, H, W, C) expected, an array {images.shape} found")
    flipped = rng.random(len(images)) < 0.5
    scaled = scale(images)
    scaled[flipped] = scaled[flipped, :, ::-1]
    return scaled
