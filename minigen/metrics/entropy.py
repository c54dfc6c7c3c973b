"""The paper's two measures, in nats: the mode entropy of all generated images, and the image entropy of
each."""

from __future__ import annotations

from typing import Any

from minigen.backend import Array, to_device, xp


def mode_entropy(labels: Any, classes: int = 10) -> float:
    """-sum_i p_i log p_i with 0 log 0 = 0, where p_i is the share of images classified as i (section 3.2).

    ``labels`` (N,) are integers in [0, classes). The result is largest, log(classes) or 2.3026 for ten, when
    all modes are equally frequent; 0 means that a single mode is left. This plug-in estimate is too low by
    about (classes - 1) / 2N.
    """
    labels = to_device(labels)
    if labels.ndim != 1 or labels.size == 0:
        raise ValueError(f"mode_entropy: labels of shape (N,), N > 0, expected, {labels.shape} found")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"mode_entropy: labels from 0 to {classes - 1} expected, "
                         f"{int(labels.min())} to {int(labels.max())} found")
    p = xp.bincount(labels, minlength=classes) / len(labels)
    return float(-xp.sum(p * xp.log(xp.where(p > 0, p, 1.0)))) + 0.0     # + 0.0 turns -0.0 into 0.0


def image_entropy(probabilities: Any) -> Array:
    """-sum_i p_i log p_i with 0 log 0 = 0, for each row of class probabilities (N, classes): (N,) (section
    3.3).

    The paper prints sum_i p_i log p_i; an entropy is minus that. The image entropy is low if the classifier
    is sure of the image.
    """
    p = to_device(probabilities)
    return xp.maximum(-xp.sum(p * xp.log(xp.where(p > 0, p, 1)), axis=-1), 0)


def measure(probabilities: Any) -> dict[str, float]:
    """``mode_entropy`` and the mean ``image_entropy`` of images with class probabilities (N, classes)."""
    probabilities = to_device(probabilities)
    return {"mode_entropy": mode_entropy(xp.argmax(probabilities, axis=1), probabilities.shape[1]),
            "image_entropy": float(xp.mean(image_entropy(probabilities)))}
