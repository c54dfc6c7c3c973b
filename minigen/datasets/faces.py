"""Drawn portraits in colour with known factors: faces to learn from when no photographs are at hand."""

from __future__ import annotations

import numpy

from minigen import checks
from minigen.datasets.dataset import Dataset
from minigen.datasets.portraits import Portraits

HAIR_STYLES = ("bald", "cropped", "short", "swept", "curly", "bun", "bob", "long")

SHAPES = ("head_width", "head_height", "jaw", "eye_size", "eye_distance", "gaze", "brow_height", "brow_tilt",
          "brow_thickness", "nose_width", "nose_length", "mouth_width", "smile", "yaw", "roll",
          "light_direction")
AMOUNTS = ("skin", "hair_colour", "eye_colour", "shirt", "background", "mouth_open", "beard",
           "light_strength")

# One face. It has a number from -1 to 1 for each of SHAPES; 0 is the average, and for gaze, yaw, roll and
# light_direction, -1 is the picture's left. It has a number from 0 to 1 for each of AMOUNTS; a colour is a
# position on a palette, which for skin and hair runs from one end of the natural tones to the other, and for
# shirt and background once around. It wears glasses or not, and has an index into HAIR_STYLES.
FACTORS = numpy.dtype([(name, numpy.float32) for name in SHAPES + AMOUNTS]
                      + [("glasses", bool), ("hair_style", numpy.int64)])

_BEARDED = 5            # beards come only with the first five hair styles
_BLOCK = 16             # portraits drawn at once: few enough that their arrays stay in the cache


def faces(n_train: int = 10_000, n_test: int = 1_000, seed: int = 0, side: int = 64) -> Dataset:
    """Drawn faces: images (N, side, side, 3) uint8, and their factors (N,), an array of ``FACTORS``, as
    labels.

    An image depends on ``seed``, on its position and on whether it is for training or test, but not on the
    number of images. The eyes are about where they are in CelebA's cropped photographs. ``ValueError`` for
    fewer than 1 image or a side below 16 pixels.
    """
    train, test = sample_factors(n_train, seed), sample_factors(n_test, seed, stream=1)
    return Dataset(draw(train, side), train, draw(test, side), test, name="drawn faces")


def sample_factors(n: int, seed: int = 0, stream: int = 0) -> numpy.ndarray:
    """The factors (n,) of random faces; ``faces`` trains on stream 0 and tests on stream 1.

    Factors are independent and uniform in their ranges, with these exceptions. A quarter of the faces wear
    glasses. Half of the mouths are closed (0). A beard, of 0.4 to 1, comes only with hair that is neither up
    nor long, and then with probability 0.3; it is 0 otherwise. ``ValueError`` if ``n`` is below 1.
    """
    n, seed = checks.whole("faces", "n", n), checks.seed("faces", seed)
    uniform = dict(zip(FACTORS.names, numpy.random.default_rng((seed, stream)).random((n, len(FACTORS))).T))
    factors = numpy.empty(n, FACTORS)
    for name in SHAPES:
        factors[name] = 2 * uniform[name] - 1
    for name in AMOUNTS:
        factors[name] = uniform[name]
    factors["glasses"] = uniform["glasses"] < 0.25
    factors["hair_style"] = uniform["hair_style"] * len(HAIR_STYLES)
    factors["mouth_open"] = numpy.maximum(2 * uniform["mouth_open"] - 1, 0)
    bearded = (uniform["beard"] >= 0.7) & (factors["hair_style"] < _BEARDED)
    factors["beard"] = numpy.where(bearded, 2 * uniform["beard"] - 1, 0)
    return factors


def draw(factors: numpy.ndarray, side: int = 64) -> numpy.ndarray:
    """The portraits (N, side, side, 3) uint8 of ``factors`` (N,), a structured array of ``FACTORS``.

    ``ValueError`` names a factor that is out of its range; another dtype or a side below 16 pixels is also a
    ``ValueError``.
    """
    if factors.dtype != FACTORS or factors.ndim != 1:
        raise ValueError(f"an array (N,) of FACTORS expected, {factors.dtype} {factors.shape} found")
    side = checks.whole("faces", "side", side, least=16, most=4096)
    ranges = dict.fromkeys(SHAPES, (-1, 1)) | dict.fromkeys(AMOUNTS, (0, 1))
    ranges["hair_style"] = (0, len(HAIR_STYLES) - 1)
    for name, (low, high) in ranges.items():
        wrong = factors[name][~((factors[name] >= low) & (factors[name] <= high))]
        if len(wrong):
            raise ValueError(f"{name}: {low} to {high} expected, {wrong[0]} found")
    images = numpy.empty((len(factors), side, side, 3), numpy.uint8)
    for index, style in enumerate(HAIR_STYLES):
        which = numpy.flatnonzero(factors["hair_style"] == index)
        for start in range(0, len(which), _BLOCK):
            chosen = which[start:start + _BLOCK]
            images[chosen] = Portraits(factors[chosen], style, side).draw()
    return images
