"""The Fréchet distance between generated and real images, on features of an untrained convolutional network.

Heusel et al. (2017) take the features from a classifier trained on a million photographs. The features of a
network with random weights need no other data, and they also tell good samples from bad (Naeem et al., 2020).
The two distances are not comparable.
"""

from __future__ import annotations

from typing import Any

import numpy

from minigen.backend import to_device
from minigen.core import no_grad, to_host
from minigen.nn import Conv2d, ReLU, Sequential, he_normal

FEATURES = 64
_CHUNK = 250        # images per pass, which bounds the memory for hidden layers


@no_grad()
def features(images: Any) -> numpy.ndarray:
    """The features (N, FEATURES) float64 of images (N, H, W, 3) in [-1, 1].

    They come from three 5 x 5 convolutions of stride 2, each with a ReLU, and the mean over all positions.
    """
    rng = numpy.random.default_rng(0)
    layers = [layer for n_in, n_out in ((3, 32), (32, 64), (64, FEATURES))
              for layer in (Conv2d(n_in, n_out, 5, stride=2, padding=2, rng=rng, init=he_normal), ReLU())]
    network = Sequential(*layers)
    chunks = [to_host(network(to_device(images[i:i + _CHUNK]))).mean(axis=(1, 2))
              for i in range(0, len(images), _CHUNK)]
    return numpy.concatenate(chunks).astype("float64")


def distance(first: Any, second: Any) -> float:
    """The squared Fréchet distance between two sets of features, (N, features) each, taken as normally
    distributed.

    With means m and covariances C, it is |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) (Dowson and Landau,
    1982). Between two sets from the same distribution, it is 0 only in the limit of many samples.
    ``ValueError`` if a set has fewer than two samples, or if the numbers of features differ.
    """
    first, second = numpy.asarray(first, "float64"), numpy.asarray(second, "float64")
    alike = first.ndim == second.ndim == 2 and first.shape[1] == second.shape[1]
    if not alike or min(len(first), len(second)) < 2:
        raise ValueError("distance: two arrays (N, features) with N > 1 expected, "
                         f"{first.shape} and {second.shape} found")
    root = _root(numpy.cov(first.T).reshape(first.shape[1], -1))
    other = numpy.cov(second.T).reshape(first.shape[1], -1)
    # C1 C2 has the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric.
    shared = numpy.sqrt(numpy.maximum(numpy.linalg.eigvalsh(root @ other @ root), 0)).sum()
    means = first.mean(axis=0) - second.mean(axis=0)
    return float(means @ means + numpy.trace(root @ root) + numpy.trace(other) - 2 * shared)


def _root(covariance: numpy.ndarray) -> numpy.ndarray:
    values, vectors = numpy.linalg.eigh(covariance)
    return (vectors * numpy.sqrt(numpy.maximum(values, 0))) @ vectors.T
