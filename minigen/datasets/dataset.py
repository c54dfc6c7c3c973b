"""A data set, and batches of its photographs as networks expect them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy

__all__ = ["Dataset", "flip_and_scale", "scale"]


class Dataset(NamedTuple):
    """Images and their labels, for training and test.

    MNIST has images (N, 784) float32 in [0, 1], row by row from the top left, with classes (N,) int64.
    ``faces`` and ``celeba`` have images (N, side, side, 3) uint8; the labels are the factors that each was
    drawn from, and the names of the files.
    """

    train_images: numpy.ndarray
    train_labels: numpy.ndarray
    test_images: numpy.ndarray
    test_labels: numpy.ndarray


def scale(images: Any) -> numpy.ndarray:
    """uint8 images as float32 from -1 (black) to 1."""
    scaled = images * numpy.float32(1 / 127.5)
    scaled -= 1
    return scaled


def flip_and_scale(images: Any, rng: numpy.random.Generator) -> numpy.ndarray:
    """A uint8 batch (N, H, W, C) as float32 from -1 (black) to 1, each image mirrored left to right with
    probability 1/2."""
    flipped = rng.random(len(images)) < 0.5
    scaled = scale(images)
    scaled[flipped] = scaled[flipped, :, ::-1]
    return scaled
