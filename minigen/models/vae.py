"""The variational autoencoder, Eq. 6 (Kingma and Welling, 2013)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import losses, networks, ops
from minigen.backend import Array, to_device, xp
from minigen.core import Op, Tensor
from minigen.kernels import fused
from minigen.models.model import Model, infer
from minigen.nn import Initialiser, Module
from minigen.optim import OPTIMIZERS, Optimizer


@fused
def _sample(mu: Array, logvar: Array, noise: Array) -> Array:
    return mu + xp.exp(0.5 * logvar) * noise


@fused
def _logvar_gradient(logvar: Any, g: Any, noise: Array) -> Any:
    return 0.5 * (g * noise * ops.exp(0.5 * logvar))


_sampled = Op("sampled(mu, logvar, noise) = mu + exp(logvar / 2) noise",
              _sample,
              lambda g, z, mu, logvar, noise: g,
              lambda g, z, mu, logvar, noise: _logvar_gradient(logvar, g, noise),
              lambda g, z, mu, logvar, noise: g * ops.exp(0.5 * logvar))

_AVERAGED = "encoder", "decoder"


@dataclass(eq=False, kw_only=True)
class VAE(Model):
    """An encoder gives the posterior N(mu, diag exp(logvar)) of an image's latent; a decoder maps latents to
    images.

    ``architecture`` selects the networks by their name in ``networks.architecture``. With
    ``"fully_connected"`` or ``"points"``, ``sizes`` are the layer sizes of the encoder and, reversed, of the
    decoder; ``"conv"`` and ``"larsen"`` are scaled by ``width``. ``latent`` is the number of latent
    variables, and ``reconstruction_weight`` is the weight of the squared error relative to the KL divergence.
    ``init`` names an initialiser in ``nn``, and ``optimizer`` a class in ``optim``.

    With ``average``, images are encoded and decoded by two more networks, whose weights are moving averages
    of the trained ones': after step t, average = b average + (1 - b) weights with b = min(``average``,
    t / (9 + t)), so that the first steps are soon forgotten. BatchNorm's running statistics are averaged,
    too.
    """

    title = "VAE"
    generator = "decoder"
    intervals = {"lr": "(0, inf)", "reconstruction_weight": "[0, inf)", "width": "(0, inf)",
                 "average": "[0, 1)"}
    reconstruction_weight: float = 1.0
    latent: int = 100
    architecture: str = "fully_connected"
    sizes: Sequence[int] = networks.SIZES
    width: float = 1.0
    init: str = "fan_in_uniform"
    optimizer: str = "Adam"
    lr: float = 1e-3
    average: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks = self.initialised(self.build_networks, self.init)
        if self.average:
            self.generator = "average_decoder"
            self.networks |= {f"average_{role}": copy.deepcopy(self.networks[role]) for role in _AVERAGED}
        parameters = [*self.networks["encoder"].parameters(), *self.networks["decoder"].parameters()]
        self.optimizers = {"autoencoder": self.build_optimizer(parameters, self.lr)}

    def build(self) -> networks.Architecture:
        return networks.architecture(self.architecture, self.sizes, self.width)

    def build_networks(self, init: Initialiser) -> dict[str, Module]:
        rng, architecture = numpy.random.default_rng(self.seed), self.build()
        return {"encoder": architecture.encoder(2 * self.latent, rng, init),
                "decoder": architecture.decoder(self.latent, rng, init)}

    def build_optimizer(self, parameters: Sequence[Tensor], lr: float) -> Optimizer:
        """An optimiser of the class that ``optimizer`` names."""
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"{type(self).__name__}: optimizer one of {', '.join(OPTIMIZERS)} expected, "
                             f"{self.optimizer!r} found")
        return OPTIMIZERS[self.optimizer](parameters, lr)

    def step(self, images: Any, rng: numpy.random.Generator) -> dict[str, Array]:
        metrics = super().step(images, rng)
        if self.average:
            share = max(1 - self.average, 9 / (9 + self.optimizers["autoencoder"].steps))
            for role in _AVERAGED:
                self.networks[f"average_{role}"].approach(self.networks[role], share)
        return metrics

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        mu, logvar = self.posterior(images)
        reconstruction = self.networks["decoder"](self.latents(mu, logvar, rng))

        error, kl = losses.squared_error(images, reconstruction), losses.gaussian_kl(mu, logvar)
        l_vae = losses.vae(error, kl, self.reconstruction_weight)
        self.optimizers["autoencoder"].minimize(l_vae)
        return {"l_vae": l_vae.data, "reconstruction_error": error.data, "kl": kl.data}

    def posterior(self, images: Any) -> tuple[Any, Any]:
        """mu and logvar of q(z | x), each (N, latent)."""
        return self._halves(self.networks["encoder"](images))

    def _halves(self, both: Any) -> tuple[Any, Any]:
        return both[:, :self.latent], both[:, self.latent:]

    def latents(self, mu: Any, logvar: Any, rng: numpy.random.Generator) -> Any:
        """A sample z of q(z | x), differentiable in mu and logvar: mu + exp(logvar / 2) * noise."""
        return _sampled(mu, logvar, self.noise(len(mu), rng))

    def encode(self, images: Any) -> tuple[Array, Array]:
        """The posterior's mu and logvar, each (N, latent), of images (N, ...)."""
        images = to_device(images)
        self.check(images)
        encoder = self.networks["average_encoder" if self.average else "encoder"]
        return self._halves(infer(encoder, self._to_networks(images)))

    def reconstruct(self, images: Any) -> Array:
        """Images (N, ...) encoded to mu and decoded again."""
        return self.decode(self.encode(images)[0])

    def interpolate(self, first: Any, second: Any, steps: int, spherical: bool = False) -> Array:
        """Images (N, steps, ...), decoded along the path from each mu of ``first`` to that of ``second``.

        ``first`` and ``second`` are images (N, ...), or one of them is a single image (1, ...). The first and
        the last step are their reconstructions. The path is a line or, if ``spherical``, an arc, see
        ``Model.interpolate``. ``ValueError`` for fewer than 2 steps.
        """
        return super().interpolate(self.encode(first)[0], self.encode(second)[0], steps, spherical)
