"""The paper's two-layer classifier, which measures the entropies of generated images (section 3.2)."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy

from minigen import checks, losses, networks, nn, ops, storage, threads
from minigen.backend import Array, to_device, to_host, xp
from minigen.core import Tensor, no_grad, numbers
from minigen.optim import Adam
from minigen.version import __version__

_CHUNK = 1000       # images classified at once


@dataclass(eq=False)
class Classifier:
    """A fully connected network with one hidden layer, ReLU and softmax; its fields are its settings.

    Adam trains it on batches drawn without replacement; the learning rate falls linearly to zero.
    """

    sizes: Sequence[int] = (784, 256, 10)
    epochs: int = 8
    batch_size: int = 128
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        self.sizes = checks.sizes("Classifier", "sizes", self.sizes, fewest=2)
        for name in ("epochs", "batch_size"):
            setattr(self, name, checks.whole("Classifier", name, getattr(self, name)))
        self.seed = checks.seed("Classifier", self.seed)
        self.lr = checks.real("Classifier", "lr", self.lr, "(0, inf)")
        self.network = networks.afforded("Classifier", self.build, nn.fan_in_uniform)

    def build(self, init: nn.Initialiser) -> nn.Sequential:
        return networks.fully_connected(self.sizes, numpy.random.default_rng(self.seed), init)

    @threads.limited_blas()
    def fit(self, images: Any, labels: Any) -> Classifier:
        """Train on images (N, features) of floats in [0, 1] and integer labels (N,); return the classifier.

        ``ValueError`` for images or labels of another kind, number or range.
        """
        labels = self.check("Classifier.fit", images, labels)
        optimizer = Adam(self.network.parameters(), self.lr)
        starts = range(0, len(images) - self.batch_size + 1, self.batch_size) or range(1)
        for epoch in range(self.epochs):
            order = numpy.random.default_rng((self.seed, 1 + epoch)).permutation(len(images))
            for i, start in enumerate(starts):
                batch = order[start:start + self.batch_size]
                logits = self.network(to_device(images[batch].astype("float32", copy=False)))
                loss = losses.softmax_cross_entropy(logits, labels[batch])
                optimizer.lr = self.lr * (1 - (epoch * len(starts) + i) / (self.epochs * len(starts)))
                optimizer.minimize(loss)
        return self

    def check(self, owner: str, images: Any, labels: Any) -> numpy.ndarray:
        """The labels on the host, if each of the images has one; else ``owner``'s ``ValueError``."""
        checks.images(owner, images, self.sizes[:1])
        labels = to_host(numbers(owner, "labels", labels, "iu"))
        if labels.shape != images.shape[:1] or labels.size == 0:
            raise ValueError(f"{owner}: integer labels ({len(images)},) expected, one per image, "
                             f"{labels.dtype} {labels.shape} found")
        if labels.min() < 0 or labels.max() >= self.sizes[-1]:
            raise ValueError(f"{owner}: labels from 0 to {self.sizes[-1] - 1} expected, "
                             f"{labels.min()} to {labels.max()} found")
        return labels

    def predict_proba(self, images: Any) -> Array:
        """The probability of each class for each image: (N, features) in [0, 1] to (N, classes)."""
        return self._infer(images, lambda x: ops.softmax(self.network(x)))

    def features(self, images: Any) -> Array:
        """The last hidden layer after its ReLU: images (N, features) in [0, 1] to (N, sizes[-2]) float32.

        ``ValueError`` if there is no hidden layer.
        """
        if len(self.sizes) < 3:
            raise ValueError(f"Classifier.features: a hidden layer expected, sizes {self.sizes} found")
        return self._infer(images, nn.Sequential(*self.network.layers[:-1]))

    @no_grad()
    @threads.limited_blas()
    def _infer(self, images: Any, function: Callable[[Array], Tensor]) -> Array:
        images = to_device(numbers("Classifier", "images", images))
        checks.images("Classifier", images, self.sizes[:1])
        chunks = [function(images[i:i + _CHUNK].astype("float32", copy=False)).data
                  for i in range(0, max(len(images), 1), _CHUNK)]
        return xp.concatenate(chunks)

    def predict(self, images: Any) -> Array:
        """The most probable class of each image: (N,) integers."""
        return xp.argmax(self.predict_proba(images), axis=1)

    def accuracy(self, images: Any, labels: Any) -> float:
        """The share of images whose most probable class is their label. ``ValueError`` in the cases of
        ``fit``."""
        labels = self.check("Classifier.accuracy", images, labels)
        return float(xp.mean(self.predict(images) == to_device(labels)))


def trained(images: numpy.ndarray, labels: numpy.ndarray, **settings: Any) -> Classifier:
    """A Classifier with these settings, fitted once to these data and kept in ``storage.cache_folder()``."""
    classifier = Classifier(**settings)
    labels = classifier.check("classifier.trained", images, labels)
    key = hashlib.sha256(json.dumps([__version__, asdict(classifier)]).encode())
    for array in (images, labels):
        key.update(f"{array.dtype} {array.shape}".encode())
        key.update(numpy.ascontiguousarray(array))
    path = storage.cache_folder() / f"classifier-{key.hexdigest()[:16]}.npz"
    try:
        classifier.network.load_state(storage.load(path))
        return classifier
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        warnings.warn(f"the cached classifier is trained again: {error}", stacklevel=2)
    classifier.fit(images, labels)
    try:
        storage.save(path, classifier.network.state())
    except OSError as error:
        warnings.warn(f"the trained classifier cannot be kept: {error}", stacklevel=2)
    return classifier
