"""The networks: the report's fully connected stacks (section 3.1), and Larsen et al.'s convolutional ones (2015, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen.nn import (BatchNorm, Conv2d, ConvTranspose2d, Initialiser, Linear, Module, ReLU, Reshape, Sequential, Sigmoid, Tanh,
                        fan_in_uniform)

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


class Discriminator(Module):
    """``features``, what it sees in an image, and ``head``, which judges the image by them; ``forward`` is one after the other."""

    def __init__(self, features: Module, head: Module) -> None:
        self.features = features
        self.head = head

    def forward(self, x: Any) -> Any:
        return self.head(self.features(x))


@dataclass(frozen=True)
class Larsen:
    """Larsen et al.'s networks for images (N, 64, 64, 3) in [-1, 1]: all kernels are 5 x 5, all hidden layers end in ReLU.

    ``width`` multiplies the number of channels of every hidden layer, and that of units; 1 is the original. Where BatchNorm
    follows, which is everywhere but in the discriminator's first layer and in output layers, there is no bias.
    """

    width: float = 1.0

    def encoder(self, rng: numpy.random.Generator, outputs: int, init: Initialiser = fan_in_uniform) -> Sequential:
        """Images to (N, outputs): convolutions to 64, 128 and 256 channels, each of stride 2; 1,024 units."""
        a, b, c, units = map(self.scaled, (64, 128, 256, 1024))
        return Sequential(*_down(3, a, rng, init), *_down(a, b, rng, init), *_down(b, c, rng, init),
                          Reshape(8 * 8 * c), *_dense(8 * 8 * c, units, rng, init), Linear(units, outputs, rng, init))

    def decoder(self, rng: numpy.random.Generator, latent: int, init: Initialiser = fan_in_uniform) -> Sequential:
        """Latents (N, latent) to images: 8 x 8 x 256, transposed convolutions to 256, 128 and 32 channels, each of stride 2."""
        a, b, c = map(self.scaled, (256, 128, 32))
        layers = [*_dense(latent, 8 * 8 * a, rng, init), Reshape(8, 8, a)]
        for n_in, n_out in ((a, a), (a, b), (b, c)):
            layers += [ConvTranspose2d(n_in, n_out, 5, rng, 2, 2, 1, init, bias=False), BatchNorm(n_out), ReLU()]
        return Sequential(*layers, Conv2d(c, 3, 5, rng, 1, 2, init), Tanh())

    def discriminator(self, rng: numpy.random.Generator, outputs: int, init: Initialiser = fan_in_uniform) -> Discriminator:
        """Images to logits (N, outputs): convolutions to 32, 128, 256 and 256 channels, all but the first of stride 2; 512 units.

        Its features, (N, 8, 8, 256), are what the fourth convolution gives, before BatchNorm.
        """
        a, b, c, units = map(self.scaled, (32, 128, 256, 512))
        features = Sequential(Conv2d(3, a, 5, rng, 1, 2, init), ReLU(), *_down(a, b, rng, init), *_down(b, c, rng, init),
                              Conv2d(c, c, 5, rng, 2, 2, init, bias=False))
        head = Sequential(BatchNorm(c), ReLU(), Reshape(8 * 8 * c), *_dense(8 * 8 * c, units, rng, init),
                          Linear(units, outputs, rng, init))
        return Discriminator(features, head)

    def scaled(self, channels: int) -> int:
        return max(1, round(self.width * channels))


def _down(n_in: int, n_out: int, rng: numpy.random.Generator, init: Initialiser) -> list[Module]:
    return [Conv2d(n_in, n_out, 5, rng, 2, 2, init, bias=False), BatchNorm(n_out), ReLU()]


def _dense(n_in: int, n_out: int, rng: numpy.random.Generator, init: Initialiser) -> list[Module]:
    return [Linear(n_in, n_out, rng, init, bias=False), BatchNorm(n_out), ReLU()]


@dataclass(frozen=True)
class FullyConnected:
    """The report's fully connected networks for images (N, sizes[0]) in [0, 1], see ``discriminator`` and ``generator``."""

    sizes: Sequence[int] = SIZES

    def encoder(self, rng: numpy.random.Generator, outputs: int, init: Initialiser = fan_in_uniform) -> Sequential:
        return discriminator(rng, outputs, self.sizes, init)

    def decoder(self, rng: numpy.random.Generator, latent: int, init: Initialiser = fan_in_uniform) -> Sequential:
        return generator(rng, latent, self.sizes, init)

    def discriminator(self, rng: numpy.random.Generator, outputs: int, init: Initialiser = fan_in_uniform) -> Sequential:
        return discriminator(rng, outputs, self.sizes, init)
