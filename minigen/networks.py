"""The paper's fully connected networks (section 3.1), the same for points, small convolutional ones for 28 x
28 pixels, and Larsen et al.'s (2015, table 1).

An architecture makes the encoder, the decoder and the discriminator of a model. A GAN's generator is a
decoder too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import backend, checks
from minigen.nn import (BatchNorm, Conv2d, ConvTranspose2d, Initialiser, Linear, Module, ReLU, Reshape,
                        Sequential, Sigmoid, Tanh, fan_in_uniform)

SIZES = (784, 392, 196, 98)     # the paper's layers, from the image inwards
_BYTES_PER_WEIGHT = 20      # float32: the weight, its gradient, its next value, two states of an optimiser
_WIDTHS = "(0, 1000]"           # beyond it no machine could hold the weights


class _Unallocated(numpy.ndarray):
    """Zeros that share one place in memory, also as another dtype."""

    def astype(self, dtype: Any, **_: Any) -> numpy.ndarray:        # type: ignore[override]
        return numpy.broadcast_to(numpy.zeros((), dtype), self.shape)


def afforded(owner: str, make: Callable[[Initialiser], Any], init: Initialiser) -> Any:
    """``make(init)``, networks, if there is memory to train them; otherwise ``ValueError`` says how much they
    need."""
    free, needed = backend.free_memory(), 0

    def reckon(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
        nonlocal needed
        needed += _BYTES_PER_WEIGHT * math.prod(shape)
        if needed > free:
            raise ValueError(f"{owner}: smaller networks expected: to train these needs at least "
                             f"{needed / 1e9:,.1f} GB of memory, {free / 1e9:,.1f} GB free")
        return numpy.broadcast_to(numpy.float32(0), shape).view(_Unallocated)
    make(reckon)        # first without random numbers, of which many take long
    return make(init)


def fully_connected(sizes: Sequence[int], rng: numpy.random.Generator,
                    init: Initialiser = fan_in_uniform) -> Sequential:
    """Linear layers of the given sizes, at least two, with ReLU between them but not after the last."""
    sizes = checks.sizes("fully_connected", "sizes", sizes, fewest=2)
    layers: list[Module] = []
    for n_in, n_out in zip(sizes, sizes[1:]):
        layers += [Linear(n_in, n_out, rng=rng, init=init), ReLU()]
    return Sequential(*layers[:-1])


class Architecture:
    """What a model asks of its architecture: three kinds of networks, and what they take as an image.

    ``image_shape`` is the shape of one image. ``output_range`` holds the values of black and white for the
    networks; for a model they are 0 and 1. ``convolutional`` says whether most of the work is convolutions,
    ``pictures`` whether an image can be drawn.
    """

    image_shape: tuple[int, ...]
    output_range = (0.0, 1.0)
    convolutional = False
    pictures = True

    def encoder(self, outputs: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Module:
        """Images to (N, outputs)."""
        raise NotImplementedError

    def decoder(self, latent: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Module:
        """Latents (N, latent) to images."""
        raise NotImplementedError

    def discriminator(self, outputs: int, rng: numpy.random.Generator,
                      init: Initialiser = fan_in_uniform) -> Module:
        """Images to logits, or a critic's scores, (N, outputs)."""
        raise NotImplementedError

    def check(self, owner: str, images: Any) -> None:
        """``ValueError`` that names ``owner`` if ``images`` are not what the networks are for."""
        checks.images(owner, images, self.image_shape)


@dataclass(frozen=True)
class FullyConnected(Architecture):
    """The paper's fully connected networks for images (N, sizes[0])."""

    sizes: Sequence[int] = SIZES

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", checks.sizes(type(self).__name__, "sizes", self.sizes))
        object.__setattr__(self, "image_shape", (self.sizes[0],))

    def encoder(self, outputs: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Images (N, sizes[0]) to (N, outputs)."""
        outputs = checks.whole(type(self).__name__, "outputs", outputs)
        return fully_connected((*self.sizes, outputs), rng, init)

    def decoder(self, latent: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Latents (N, latent) to images: the encoder's layers in reverse order, with a sigmoid at the end."""
        latent = checks.whole(type(self).__name__, "latent", latent)
        return Sequential(*fully_connected((latent, *reversed(self.sizes)), rng, init).layers, Sigmoid())

    def discriminator(self, outputs: int, rng: numpy.random.Generator,
                      init: Initialiser = fan_in_uniform) -> Sequential:
        """Images to logits, or a critic's scores, (N, outputs).

        The paper's output layer has 10 x 10 units. The losses average over them; ``outputs=1`` gives
        the textbook scalar. The output layer's sigmoid is part of the losses, which take logits.
        """
        return self.encoder(outputs, rng, init)


@dataclass(frozen=True)
class Points(FullyConnected):
    """Fully connected networks for points (N, sizes[0]) anywhere in space: the decoder ends without a
    sigmoid."""

    pictures = False

    def decoder(self, latent: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Latents (N, latent) to points: the encoder's layers in reverse order."""
        return super().decoder(latent, rng, init)[:-1]

    def check(self, owner: str, images: Any) -> None:
        checks.points(owner, images, self.sizes[0])


@dataclass(frozen=True)
class Convolutional(Architecture):
    """Two strided convolutions and their mirror, for images of 28 x 28 pixels in rows (N, 784 channels).

    ``channels`` are an image's. All kernels are 4 x 4 with stride 2, and hidden layers end in ReLU.
    ``width`` multiplies the number of channels and of units in every hidden layer.
    """

    channels: int = 1
    width: float = 1.0
    convolutional = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", checks.whole("Convolutional", "channels", self.channels))
        object.__setattr__(self, "width", checks.real("Convolutional", "width", self.width, _WIDTHS))
        object.__setattr__(self, "image_shape", (28 * 28 * self.channels,))

    def encoder(self, outputs: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Images to (N, outputs): convolutions to 14 x 14 x 16 and 7 x 7 x 32; then 98 units."""
        outputs = checks.whole("Convolutional", "outputs", outputs)
        a, b, units = self._hidden()
        return Sequential(Reshape(28, 28, self.channels),
                          Conv2d(self.channels, a, 4, stride=2, padding=1, rng=rng, init=init), ReLU(),
                          Conv2d(a, b, 4, stride=2, padding=1, rng=rng, init=init), ReLU(),
                          Reshape(7 * 7 * b), Linear(7 * 7 * b, units, rng=rng, init=init), ReLU(),
                          Linear(units, outputs, rng=rng, init=init))

    def decoder(self, latent: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Latents (N, latent) to images: the encoder's layers in reverse order, with a sigmoid at the end."""
        latent = checks.whole("Convolutional", "latent", latent)
        a, b, units = self._hidden()
        return Sequential(Linear(latent, units, rng=rng, init=init), ReLU(),
                          Linear(units, 7 * 7 * b, rng=rng, init=init), ReLU(), Reshape(7, 7, b),
                          ConvTranspose2d(b, a, 4, stride=2, padding=1, rng=rng, init=init), ReLU(),
                          ConvTranspose2d(a, self.channels, 4, stride=2, padding=1, rng=rng, init=init),
                          Reshape(28 * 28 * self.channels), Sigmoid())

    def discriminator(self, outputs: int, rng: numpy.random.Generator,
                      init: Initialiser = fan_in_uniform) -> Sequential:
        """As the encoder."""
        return self.encoder(outputs, rng, init)

    def _hidden(self) -> tuple[int, int, int]:
        a, b, units = (_scaled(self.width, n) for n in (16, 32, 98))
        return a, b, units


class Discriminator(Module):
    """``features`` maps an image to its features, and ``head`` maps these to the discriminator's outputs."""

    def __init__(self, features: Module, head: Module) -> None:
        self.features = features
        self.head = head

    def forward(self, x: Any) -> Any:
        return self.head(self.features(x))


@dataclass(frozen=True)
class Larsen(Architecture):
    """Larsen et al.'s networks for images (N, 64, 64, 3), from -1 (black) to 1 within the networks.

    All kernels are 5 x 5, and all hidden layers end in ReLU. ``width`` multiplies the number of channels and
    of units in every hidden layer; 1 is the original. BatchNorm follows every layer except the
    discriminator's first and the output layers. A layer before BatchNorm has no bias.
    """

    width: float = 1.0
    output_range = (-1.0, 1.0)
    image_shape = (64, 64, 3)
    convolutional = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", checks.real("Larsen", "width", self.width, _WIDTHS))

    def encoder(self, outputs: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Images to (N, outputs): convolutions of stride 2 to 64, 128 and 256 channels; then 1,024 units."""
        outputs = checks.whole("Larsen", "outputs", outputs)
        a, b, c, units = map(self.scaled, (64, 128, 256, 1024))
        return Sequential(*_down(3, a, rng, init), *_down(a, b, rng, init), *_down(b, c, rng, init),
                          Reshape(8 * 8 * c), *_dense(8 * 8 * c, units, rng, init),
                          Linear(units, outputs, rng=rng, init=init))

    def decoder(self, latent: int, rng: numpy.random.Generator,
                init: Initialiser = fan_in_uniform) -> Sequential:
        """Latents (N, latent) to images: a dense layer, three transposed convolutions, a convolution, a tanh.

        The dense layer makes 8 x 8 x 256. The transposed convolutions have stride 2 and make 256, 128 and 32
        channels. The convolution makes 3.
        """
        latent = checks.whole("Larsen", "latent", latent)
        a, b, c = map(self.scaled, (256, 128, 32))
        return Sequential(*_dense(latent, 8 * 8 * a, rng, init), Reshape(8, 8, a), *_up(a, a, rng, init),
                          *_up(a, b, rng, init), *_up(b, c, rng, init),
                          Conv2d(c, 3, 5, padding=2, rng=rng, init=init), Tanh())

    def discriminator(self, outputs: int, rng: numpy.random.Generator,
                      init: Initialiser = fan_in_uniform) -> Discriminator:
        """Images to logits (N, outputs): convolutions to 32, 128, 256 and 256 channels; then 512 units.

        All convolutions but the first have stride 2. The features, (N, 8, 8, 256), are the output of the
        fourth, before BatchNorm.
        """
        outputs = checks.whole("Larsen", "outputs", outputs)
        a, b, c, units = map(self.scaled, (32, 128, 256, 512))
        features = Sequential(Conv2d(3, a, 5, padding=2, rng=rng, init=init), ReLU(),
                              *_down(a, b, rng, init), *_down(b, c, rng, init),
                              Conv2d(c, c, 5, stride=2, padding=2, bias=False, rng=rng, init=init))
        head = Sequential(BatchNorm(c), ReLU(), Reshape(8 * 8 * c), *_dense(8 * 8 * c, units, rng, init),
                          Linear(units, outputs, rng=rng, init=init))
        return Discriminator(features, head)

    def scaled(self, channels: int) -> int:
        """``width`` times this number of channels, rounded, and at least 1."""
        return _scaled(self.width, channels)


def _scaled(width: float, number: int) -> int:
    return max(1, round(width * number))


def _down(n_in: int, n_out: int, rng: numpy.random.Generator, init: Initialiser) -> list[Module]:
    layer = Conv2d(n_in, n_out, 5, stride=2, padding=2, bias=False, rng=rng, init=init)
    return [layer, BatchNorm(n_out), ReLU()]


def _up(n_in: int, n_out: int, rng: numpy.random.Generator, init: Initialiser) -> list[Module]:
    layer = ConvTranspose2d(n_in, n_out, 5, stride=2, padding=2, output_padding=1, bias=False, rng=rng,
                            init=init)
    return [layer, BatchNorm(n_out), ReLU()]


def _dense(n_in: int, n_out: int, rng: numpy.random.Generator, init: Initialiser) -> list[Module]:
    return [Linear(n_in, n_out, bias=False, rng=rng, init=init), BatchNorm(n_out), ReLU()]


def architecture(name: str, sizes: Sequence[int] = SIZES, width: float = 1.0) -> Architecture:
    """The architecture ``"fully_connected"`` or ``"points"`` with layers of ``sizes``, or ``"conv"`` or
    ``"larsen"`` scaled by ``width``.

    ``"conv"`` uses only the first of ``sizes``, the number of values in an image. ``ValueError`` or
    ``TypeError`` for another name, sizes or a width that cannot be, or a setting that the architecture lacks.
    """
    sizes = checks.sizes("architecture", "sizes", sizes)
    width = checks.real("architecture", "width", width, _WIDTHS)
    if name in ("fully_connected", "points"):
        if width != 1:
            raise ValueError(f"architecture {name!r} has sizes, not a width: width {width} found")
        return Points(sizes) if name == "points" else FullyConnected(sizes)
    if name in ("conv", "larsen"):
        if sizes[1:] not in ((), SIZES[1:]) or name == "larsen" and sizes != SIZES:
            raise ValueError(f"architecture {name!r} has a width, not sizes: sizes {sizes} found")
        if name == "larsen":
            return Larsen(width)
        if sizes[0] not in (784, 3 * 784):
            raise ValueError("architecture 'conv' is for images of 28 x 28 pixels: 784 or 2352 numbers each "
                             f"expected, {sizes[0]} found")
        return Convolutional(sizes[0] // 784, width)
    raise ValueError("architecture 'fully_connected', 'points', 'conv' or 'larsen' expected, "
                     f"{name!r} found")
