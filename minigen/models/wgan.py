"""The Wasserstein GAN with weight clipping, Eq. 5 (Arjovsky et al., 2017, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from minigen import losses, networks
from minigen.backend import Array
from minigen.core import no_grad
from minigen.models.model import Model, joint_forward
from minigen.nn import Initialiser, Module
from minigen.optim import RMSProp, clip_weights


@dataclass(eq=False)
class WGAN(Model):
    """A critic, kept Lipschitz by clipping its weights to [-clip, clip], is trained ``critic_steps`` times
    per step of G.

    ``outputs`` is the number of the critic's scores, which are averaged. ``sizes`` are the layer sizes of the
    critic and, reversed, of G. ``init`` names an initialiser in ``nn``; ``"he_normal"`` makes G's first
    images varied, which the other two do not.
    """

    title = "WGAN"
    intervals = {"lr": "(0, inf)", "clip": "(0, inf)"}
    critic_steps: int = 5
    clip: float = 0.01
    outputs: int = 100
    latent: int = 100
    sizes: Sequence[int] = networks.SIZES
    init: str = "he_normal"
    lr: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.networks = self.initialised(self.build_networks, self.init)
        self.optimizers = {role: RMSProp(network.parameters(), self.lr)
                           for role, network in self.networks.items()}

    def build(self) -> networks.FullyConnected:
        return networks.FullyConnected(self.sizes)

    def build_networks(self, init: Initialiser) -> dict[str, Module]:
        rng, architecture = numpy.random.default_rng(self.seed), self.build()
        return {"critic": architecture.discriminator(self.outputs, rng, init),
                "generator": architecture.decoder(self.latent, rng, init)}

    @property
    def batches_per_step(self) -> int:
        return self.critic_steps

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        n = len(images) // self.critic_steps
        critic, G = self.networks["critic"], self.networks["generator"]
        critic_optimizer, g_optimizer = self.optimizers["critic"], self.optimizers["generator"]

        with no_grad():         # G stays fixed, so one pass makes the fakes for all critic steps
            fakes = G(self.noise(len(images), rng)).data
        for i in range(self.critic_steps):
            batch = slice(i * n, (i + 1) * n)
            real_scores, fake_scores = joint_forward(critic, images[batch], fakes[batch])
            critic_loss = losses.wgan_critic(real_scores, fake_scores)
            critic_optimizer.minimize(critic_loss)
            clip_weights(critic_optimizer.parameters, self.clip)

        g_loss = losses.wgan_generator(critic(G(self.noise(n, rng))))
        g_optimizer.minimize(g_loss)
        return {"critic_loss": critic_loss.data, "g_loss": g_loss.data}
