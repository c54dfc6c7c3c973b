"""The generative adversarial network, Eq. 1 and Eq. 2 (Goodfellow et al., 2014)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from minigen import losses, networks
from minigen.backend import Array
from minigen.models.model import Model, joint_forward
from minigen.nn import Initialiser, Module
from minigen.optim import Adam

_GENERATOR_LOSSES = {"non-saturating": losses.gan_generator, "minimax": losses.gan_generator_minimax}


@dataclass(eq=False, kw_only=True)
class GAN(Model):
    """D and G play Eq. 2 (``objective="non-saturating"``) or Eq. 1 (``"minimax"``).

    ``outputs`` is the number of D's logits, whose losses are averaged. ``architecture``, ``sizes`` and
    ``width`` choose the networks, as for a VAE. ``init`` names an initialiser in ``nn``. ``r1`` is the weight
    of ``losses.r1_penalty`` in D's loss. With the default settings, the GAN collapses to one image for all
    latents, as the paper's does. With ``init="he_normal"`` and ``beta1=0.5``, it keeps several modes.
    """

    title = "GAN"
    intervals = {"lr": "(0, inf)", "beta1": "[0, 1)", "width": "(0, inf)", "r1": "[0, inf)"}
    objective: str = "non-saturating"
    outputs: int = 100
    latent: int = 100
    architecture: str = "fully_connected"
    sizes: Sequence[int] = networks.SIZES
    width: float = 1.0
    init: str = "fan_in_uniform"
    lr: float = 2e-4
    beta1: float = 0.0
    r1: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.objective not in _GENERATOR_LOSSES:
            raise ValueError("GAN: objective 'non-saturating' or 'minimax' expected, "
                             f"{self.objective!r} found")
        self.networks = self.initialised(self.build_networks, self.init)
        if self.r1:
            self.refuse_batch_norm("discriminator", "r1")
        self.optimizers = {role: Adam(network.parameters(), self.lr, self.beta1)
                           for role, network in self.networks.items()}

    def build(self) -> networks.Architecture:
        return networks.architecture(self.architecture, self.sizes, self.width)

    def build_networks(self, init: Initialiser) -> dict[str, Module]:
        rng, architecture = numpy.random.default_rng(self.seed), self.build()
        return {"discriminator": architecture.discriminator(self.outputs, rng, init),
                "generator": architecture.decoder(self.latent, rng, init)}

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        D, G = self.networks["discriminator"], self.networks["generator"]
        d_optimizer, g_optimizer = self.optimizers["discriminator"], self.optimizers["generator"]
        fake = G(self.noise(len(images), rng))

        real_logits, fake_logits = joint_forward(D, images, fake.data)
        d_loss = losses.gan_discriminator(real_logits, fake_logits)
        metrics = {"d_loss": d_loss.data}
        if self.r1:
            penalty = losses.r1_penalty(D, images)
            d_loss += self.r1 * penalty
            metrics["r1_penalty"] = penalty.data
        d_optimizer.minimize(d_loss)

        g_loss = _GENERATOR_LOSSES[self.objective](D(fake))
        g_optimizer.minimize(g_loss)
        return {**metrics, "g_loss": g_loss.data}
