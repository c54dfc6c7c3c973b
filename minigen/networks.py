"""The report's fully connected networks (section 3.1): 784-392-196-98-outputs, and the same layers in reverse order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from minigen.nn import Initialiser, Linear, Module, ReLU, Sequential, Sigmoid, fan_in_uniform

SIZES = (784, 392, 196, 98)     # the report's layers, from the image inwards


def fully_connected(sizes: Sequence[int], rng: numpy.random.Generator, init: Initialiser = fan_in_uniform) -> Sequential:
    """Linear layers of the given sizes with ReLU between them; the last is linear."""
    layers: list[Module] = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [Linear(n_in, n_out, rng, init), ReLU()]
    return Sequential(*layers[:-1])


def discriminator(rng: numpy.random.Generator, outputs: int = 100, sizes: Sequence[int] = SIZES,
                  init: Initialiser = fan_in_uniform) -> Sequential:
    """Images (N, 784) to logits, or a critic's scores, (N, outputs).

    The report's output layer has 10 x 10 units; the losses average over them, and ``outputs=1`` is the textbook's scalar.
    Its sigmoid is part of the losses, which take logits.
    """
    return fully_connected((*sizes, outputs), rng, init)


def generator(rng: numpy.random.Generator, latent: int = 100, sizes: Sequence[int] = SIZES,
              init: Initialiser = fan_in_uniform) -> Sequential:
    """Latents (N, latent) to images (N, 784) in [0, 1]: the discriminator's layers in reverse order, sigmoid at the end."""
    return Sequential(*fully_connected((latent, *reversed(sizes)), rng, init).layers, Sigmoid())
