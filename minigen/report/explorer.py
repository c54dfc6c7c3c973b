"""What the latent explorer runs on: decoders, the classifier, and latents to start from."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import numpy

from minigen import nn, training
from minigen.core import to_host
from minigen.datasets import Dataset
from minigen.metrics.classifier import Classifier
from minigen.models import VAE

ENCODED = 1000          # test images whose latents say where the slice lies


def export(models: Sequence[VAE], judge: Classifier, data: Dataset) -> dict[str, Any]:
    """The decoders of ``models`` and the classifier ``judge``, in a form that JSON can hold, for explorer.js.

    All arrays are float16, in base64. With each decoder come its latents of one test image per class, the
    posterior's mu (classes, latent), and the two ``axes`` (2, latent) of the slice. ``ArgumentError`` for a
    network that is not fully connected.
    """
    classes, places = numpy.unique(data.test_labels, return_index=True)
    return {"classes": [data.class_name(label) for label in classes], "shape": data.image_shape[:2],
            "classifier": _layers("classifier", judge.network),
            "models": [_decoder(model, data, places) for model in models]}


def _decoder(model: VAE, data: Dataset, places: numpy.ndarray) -> dict[str, Any]:
    digits = to_host(model.encode(data.test_images[places])[0])
    encoded = to_host(model.encode(data.test_images[:ENCODED])[0])
    return {"title": model.title, "decoder": _layers(model.title, model.networks[model.generator]),
            "digits": packed(digits), "axes": packed(principal_axes(encoded))}


def principal_axes(latents: numpy.ndarray) -> numpy.ndarray:
    """The two directions in which the latents (N, latent) vary most, as long as their standard deviations:
    (2, latent)."""
    _, lengths, directions = numpy.linalg.svd(latents - latents.mean(axis=0), full_matrices=False)
    return directions[:2] * lengths[:2, None] / numpy.sqrt(len(latents))


def _layers(owner: str, network: Any) -> list[dict[str, str]]:
    kinds = "".join(type(layer).__name__[0] for layer in network.layers)
    if not re.fullmatch("L(RL)*S?", kinds):         # what explorer.js computes: Linear, ReLU, ..., Sigmoid
        raise training.ArgumentError(f"{owner}: a fully connected network expected for the explorer, one "
                                     "with other layers found")
    linear: list[Any] = [layer for layer in network.layers if isinstance(layer, nn.Linear)]
    return [{"weight": packed(to_host(layer.weight.data)), "bias": packed(to_host(layer.bias.data))}
            for layer in linear]


def packed(array: numpy.ndarray) -> str:
    """The array as little-endian float16, in base64; an array of another dtype is rounded."""
    return base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")
