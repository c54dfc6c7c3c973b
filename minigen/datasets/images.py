"""Batches of photographs as networks take them."""

from __future__ import annotations

from typing import Any

import numpy


def scale(images: Any) -> numpy.ndarray:
    """uint8 images as float32 from -1 (black) to 1."""
    scaled = images * numpy.float32(1 / 127.5)
    scaled -= 1
    return scaled


def flip_and_scale(images: Any, rng: numpy.random.Generator) -> numpy.ndarray:
    """A batch (N, H, W, C) of uint8, each image mirrored left to right or, as often, not, as float32 from -1 (black) to 1."""
    flipped = rng.random(len(images)) < 0.5
    scaled = scale(images)
    scaled[flipped] = scaled[flipped, :, ::-1]
    return scaled
