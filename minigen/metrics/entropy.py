"""The paper's two measures, in nats: the mode entropy of all generated images, corrected or as it is, and the
image entropy of each.

A mode entropy depends on the number of images. It is to be compared with that of a uniform generator.
"""

from __future__ import annotations

import math
from typing import Any

import numpy

from minigen import checks
from minigen.backend import Array, to_device, to_host, xp
from minigen.core import numbers

_ROUNDING = 1e-3        # of a row's sum, as float32 and other libraries leave it


def mode_entropy(labels: Any, classes: int = 10) -> float:
    """-sum_i p_i log p_i with 0 log 0 = 0, where p_i is the share of images classified as i (section 3.2).

    ``labels`` (N,) are integers in [0, classes); anything else is a ``ValueError``. The result is largest,
    log(classes) or 2.3026 for ten, when all modes are equally frequent; 0 means that a single mode is left.
    This plug-in estimate is too low by about (classes - 1) / 2N; see ``uniform_entropy``.
    """
    return _entropy(frequencies("mode_entropy", labels, classes))


def corrected_mode_entropy(labels: Any, classes: int = 10) -> float:
    """``mode_entropy`` + (m - 1) / 2N, Miller and Madow's correction (Miller, 1955), for the m classes that
    occur among the N labels.

    It removes the bias up to terms in 1/N^2 if all classes occur. The result may be above log(classes).
    ``ValueError`` in the cases of ``mode_entropy``.
    """
    p = frequencies("corrected_mode_entropy", labels, classes)
    return _entropy(p) + (int(xp.count_nonzero(p)) - 1) / (2 * len(labels))


def uniform_entropy(samples: int, classes: int = 10) -> float:
    """The mode entropy to expect of a generator with equally frequent modes, for this number of samples.

    It is -classes E[X/n log X/n], where X, the number of images of a class, is binomial with n = samples
    trials of probability 1 / classes. For ten classes it is 2.257 at 100 samples, 2.3021 at 10,000, and
    log 10 = 2.3026 in the limit.
    """
    n = checks.whole("uniform_entropy", "samples", samples)
    classes = checks.whole("uniform_entropy", "classes", classes)
    if classes == 1:
        return 0.0
    mean = n / classes
    reach = 40 * math.sqrt(mean) + 40       # beyond it the probability is below 1e-40
    x = numpy.arange(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)
    # P(x + 1) / P(x) = (n - x) / (x + 1) / (classes - 1)
    logs = numpy.cumsum(numpy.log(numpy.append(1.0, (n - x[:-1]) / (x[1:] * (classes - 1.0)))))
    weights = numpy.exp(logs - logs.max())
    p = x / n
    return float(classes * (weights @ -(p * numpy.log(numpy.where(p > 0, p, 1)))) / weights.sum())


def frequencies(owner: str, labels: Any, classes: int) -> Array:
    """The share of each class in ``labels``: (N,) integers in [0, classes) to (classes,); else ``owner``'s
    ``ValueError``."""
    labels = to_device(numbers(owner, "labels", labels, "iu"))
    classes = checks.whole(owner, "classes", classes)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"{owner}: integer labels of shape (N,), N > 0, expected, {labels.dtype} "
                         f"{labels.shape} found")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"{owner}: labels from 0 to {classes - 1} expected, "
                         f"{int(labels.min())} to {int(labels.max())} found")
    return xp.bincount(labels, minlength=classes) / len(labels)


def _entropy(p: Array) -> float:
    return float(-xp.sum(p * xp.log(xp.where(p > 0, p, 1.0)))) + 0.0     # + 0.0 turns -0.0 into 0.0


def image_entropy(probabilities: Any) -> Array:
    """-sum_i p_i log p_i with 0 log 0 = 0, for each row of class probabilities (N, classes): (N,) (section
    3.3).

    The paper prints sum_i p_i log p_i; an entropy is minus that. The image entropy is low if the classifier
    is sure of the image. ``ValueError`` if a row holds no probabilities, such as logits or NaN.
    """
    p = to_device(numbers("image_entropy", "probabilities", probabilities))
    p = p.astype(numpy.result_type(p.dtype, "float32"), copy=False)
    if p.ndim != 2 or p.shape[1] == 0:
        raise ValueError(f"image_entropy: probabilities (N, classes) expected, {p.shape} found")
    fits = (xp.abs(xp.sum(p, axis=1) - 1) <= _ROUNDING) & (xp.min(p, axis=1) >= -_ROUNDING)
    if not bool(fits.all()):        # NaN fits nothing
        row = int(xp.argmin(fits))
        raise ValueError(f"image_entropy: probabilities that add up to 1 in each row expected, but row {row} "
                         f"begins {to_host(p[row, :5]).tolist()}")
    return xp.maximum(-xp.sum(p * xp.log(xp.where(p > 0, p, 1)), axis=-1), 0)


def measure(probabilities: Any) -> dict[str, float]:
    """``mode_entropy`` and the mean ``image_entropy`` of images with class probabilities (N, classes)."""
    images = image_entropy(probabilities)
    probabilities = to_device(numbers("measure", "probabilities", probabilities))
    return {"mode_entropy": mode_entropy(xp.argmax(probabilities, axis=1), probabilities.shape[1]),
            "image_entropy": float(xp.mean(images))}
