"""The Fréchet distance between generated and real images, on features of an untrained convolutional network.

Heusel et al. (2017) take the features from a classifier trained on a million photographs. The features of a
network with random weights need no other data, and they also tell good samples from bad (Naeem et al., 2020).
The two distances are not comparable.
"""

from __future__ import annotations

from typing import Any

import numpy

from minigen import checks, threads
from minigen.backend import to_device, xp
from minigen.core import no_grad, to_host
from minigen.metrics import feature_sets
from minigen.nn import Conv2d, ReLU, Sequential, he_normal

FEATURES = 64
_CHUNK = 250        # images per pass, which bounds the memory for hidden layers


@no_grad()
@threads.large_arrays()
def features(images: Any) -> numpy.ndarray:
    """The features (N, FEATURES) float64 of images in [0, 1]: (N, H, W, 3), or (N, H, W, 1) if grey.

    They come from three 5 x 5 convolutions of stride 2, each with a ReLU, and the mean over all positions.
    ``ValueError`` for anything else; rows of pixels must be reshaped to images.
    """
    channels = (getattr(images, "shape", ()) or (0,))[-1]
    checks.images("frechet.features", images, (None, None, channels if channels in (1, 3) else "1 or 3"))
    rng = numpy.random.default_rng(0)
    layers = [layer for n_in, n_out in ((3, 32), (32, 64), (64, FEATURES))
              for layer in (Conv2d(n_in, n_out, 5, stride=2, padding=2, rng=rng, init=he_normal), ReLU())]
    network = Sequential(*layers)
    means = []
    for i in range(0, max(len(images), 1), _CHUNK):
        x = to_device(images[i:i + _CHUNK]).astype("float32")
        colours = xp.concatenate([x] * 3, axis=-1) if channels == 1 else x
        means.append(to_host(network(2 * colours - 1)).mean(axis=(1, 2)))
    return numpy.concatenate(means).astype("float64")


def distance(first: Any, second: Any) -> float:
    """The squared Fréchet distance between two sets of features, (N, features) each, taken as normally
    distributed.

    With means m and covariances C, it is ``|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))`` (Dowson and Landau,
    1982). Between two sets from the same distribution, it is 0 only in the limit of many samples.
    It is at least 0, also where rounding would make it less. ``ValueError`` if a set has fewer than two
    samples, if the numbers of features differ or are 0, or if a feature is not finite or too large.
    """
    first, second = feature_sets.pair("frechet.distance", first=first, second=second)
    root = _root(numpy.cov(first.T).reshape(first.shape[1], -1))
    other = numpy.cov(second.T).reshape(first.shape[1], -1)
    # C1 C2 has the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric.
    shared = numpy.sqrt(numpy.maximum(numpy.linalg.eigvalsh(root @ other @ root), 0)).sum()
    means = first.mean(axis=0) - second.mean(axis=0)
    return max(float(means @ means + numpy.trace(root @ root) + numpy.trace(other) - 2 * shared), 0.0)


def _root(covariance: numpy.ndarray) -> numpy.ndarray:
    values, vectors = numpy.linalg.eigh(covariance)
    return (vectors * numpy.sqrt(numpy.maximum(values, 0))) @ vectors.T
