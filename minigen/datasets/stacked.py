"""Stacked MNIST: three digits as the colours of an image, which makes 1,000 classes out of ten."""

from __future__ import annotations

import math
import os

import numpy

from minigen import checks
from minigen.datasets.dataset import Dataset
from minigen.datasets.mnist import mnist


def stacked_mnist(root: str | os.PathLike[str] | None = None, n: int = 60_000, seed: int = 0) -> Dataset:
    """Images of three random digits a, b, c as the red, green and blue channel, and 100 a + 10 b + c as
    labels.

    The digits are drawn independently from MNIST's images for training, for the test images from MNIST's
    images for test; ``root`` chooses another data set as it does in ``mnist``. With C classes in place of
    ten, the label is C^2 a + C b + c, and there are C^3 classes. The ``n`` training images and a sixth as
    many test images are rows (N, H * W * 3) uint8, from the top left, pixel by pixel; ``image_shape`` is
    (H, W, 3). An image depends on ``seed``, on its position and on whether it is for training or test, but
    not on the number of images. The data set is that of Metz et al. (2017). ``ValueError`` for fewer than 1
    image, otherwise as of ``mnist``.
    """
    n, seed = checks.whole("stacked_mnist", "n", n), checks.seed("stacked_mnist", seed)
    digits = mnist(root)
    images, labels, test_images, test_labels = digits
    classes = int(labels.max()) + 1         # mnist's labels have no gap
    train = _stacked(images, labels, classes, n, numpy.random.default_rng((seed, 0)))
    test = _stacked(test_images, test_labels, classes, math.ceil(n / 6), numpy.random.default_rng((seed, 1)))
    return Dataset(*train, *test, image_shape=(*digits.image_shape[:2], 3), classes=classes ** 3,
                   name=f"stacked {digits.name}")


def _stacked(images: numpy.ndarray, labels: numpy.ndarray, classes: int, n: int,
             rng: numpy.random.Generator) -> tuple[numpy.ndarray, numpy.ndarray]:
    chosen = rng.integers(0, len(images), (n, 3))
    stored = numpy.rint(images * 255).astype("uint8")       # exactly as in the file
    return (stored[chosen].transpose(0, 2, 1).reshape(n, -1),
            labels[chosen] @ numpy.array([classes ** 2, classes, 1]))
