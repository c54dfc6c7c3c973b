"""The variational autoencoder, Eq. 6 (Kingma and Welling, 2013)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import losses, networks, ops
from minigen.backend import Array, to_device
from minigen.core import grad
from minigen.models.model import Model, in_chunks
from minigen.optim import Adam


@dataclass(eq=False)
class VAE(Model):
    """An encoder gives the posterior N(mu, diag exp(logvar)) of an image's latent; a decoder makes images from latents.

    ``sizes`` are the encoder's layers and, reversed, the decoder's; ``latent`` the number of latent variables;
    ``reconstruction_weight`` the weight of the squared error beside the KL divergence; ``init`` names an initialiser of ``nn``.
    """

    maker = "decoder"
    reconstruction_weight: float = 1.0
    latent: int = 100
    sizes: Sequence[int] = networks.SIZES
    init: str = "fan_in_uniform"
    lr: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.reconstruction_weight < math.inf:
            raise ValueError(f"{type(self).__name__}: a finite reconstruction_weight of at least 0 expected, "
                             f"{self.reconstruction_weight} found")
        rng, init = numpy.random.default_rng(self.seed), self.initialiser(self.init)
        encoder = networks.discriminator(rng, 2 * self.latent, self.sizes, init)
        decoder = networks.generator(rng, self.latent, self.sizes, init)
        self.networks = {"encoder": encoder, "decoder": decoder}
        self.optimizers = {"autoencoder": Adam([*encoder.parameters(), *decoder.parameters()], self.lr)}

    def step(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        player = self.optimizers["autoencoder"]
        mu, logvar = self.posterior(images)
        reconstruction = self.networks["decoder"](self.latents(mu, logvar, rng))

        error, kl = losses.squared_error(images, reconstruction), losses.gaussian_kl(mu, logvar)
        l_vae = losses.vae(error, kl, self.reconstruction_weight)
        player.step(grad(l_vae, player.parameters))
        return {"l_vae": l_vae.data, "reconstruction_error": error.data, "kl": kl.data}

    def posterior(self, images: Any) -> tuple[Any, Any]:
        """mu and logvar of q(z | x), each (N, latent)."""
        return self._halves(self.networks["encoder"](images))

    def _halves(self, both: Any) -> tuple[Any, Any]:
        return both[:, :self.latent], both[:, self.latent:]

    def latents(self, mu: Any, logvar: Any, rng: numpy.random.Generator) -> Any:
        """z from q(z | x) as a differentiable function of mu and logvar: mu + exp(logvar / 2) * noise."""
        return mu + ops.exp(0.5 * logvar) * self.noise(len(mu), rng)

    def encode(self, images: Any) -> tuple[Array, Array]:
        """The posterior's mu and logvar, each (N, latent), of images (N, pixels)."""
        return self._halves(in_chunks(self.networks["encoder"], to_device(images)))

    def decode(self, latents: Any) -> Array:
        """Images (N, pixels), the mean of p(x | z), from latents (N, latent)."""
        return in_chunks(self.networks["decoder"], to_device(latents))

    def reconstruct(self, images: Any) -> Array:
        """Images (N, pixels) encoded to mu and decoded again."""
        return self.decode(self.encode(images)[0])

    def interpolate(self, first: Any, second: Any, steps: int) -> Array:
        """(N, steps, pixels): images decoded on the line between the mu of each of ``first`` and of ``second`` (N, pixels).

        The first and the last of them are the two reconstructions.
        """
        if steps < 2:
            raise ValueError(f"{type(self).__name__}.interpolate: at least 2 steps expected, {steps} found")
        start, end = self.encode(first)[0][:, None], self.encode(second)[0][:, None]
        t = to_device(numpy.linspace(0, 1, steps, dtype="float32"))[:, None]
        images = self.decode(((1 - t) * start + t * end).reshape(-1, self.latent))
        return images.reshape(-1, steps, images.shape[1])
