"""The Wasserstein GAN, Eq. 5, with weight clipping (Arjovsky et al., 2017, algorithm 1) or with a gradient
penalty (Gulrajani et al., 2017, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy

from minigen import losses, networks, ranks
from minigen.backend import Array, to_device
from minigen.core import no_grad
from minigen.models.model import Model, joint_forward
from minigen.nn import Initialiser, Module
from minigen.optim import Adam, Optimizer, RMSProp, clip_weights


@dataclass(eq=False, kw_only=True)
class WGAN(Model):
    """A critic, kept Lipschitz by ``lipschitz``, is trained ``critic_steps`` times per step of G.

    With ``lipschitz="clip"``, the critic's weights are clipped to [-clip, clip], and RMSProp trains both
    networks. With ``"penalty"``, ``penalty`` times ``losses.gradient_penalty`` is added to the critic's loss,
    and Adam with beta1 = 0.5 and beta2 = 0.9 trains both. ``outputs`` is the number of the critic's scores,
    which are averaged. ``architecture``, ``sizes`` and ``width`` choose the networks, as for a VAE. ``init``
    names an initialiser in ``nn``; ``"he_normal"`` makes G's first images varied, which the other two do not.
    """

    title = "WGAN"
    intervals = {"lr": "(0, inf)", "clip": "(0, inf)", "penalty": "(0, inf)", "width": "(0, inf)"}
    lipschitz: str = "clip"
    critic_steps: int = 5
    clip: float = 0.01
    penalty: float = 10.0
    outputs: int = 100
    latent: int = 100
    architecture: str = "fully_connected"
    sizes: Sequence[int] = networks.SIZES
    width: float = 1.0
    init: str = "he_normal"
    lr: float = 5e-4
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lipschitz not in ("clip", "penalty"):
            raise ValueError(f"WGAN: lipschitz 'clip' or 'penalty' expected, {self.lipschitz!r} found")
        self.networks = self.initialised(self.build_networks, self.init)
        if self.lipschitz == "penalty":
            self.refuse_batch_norm("critic", "lipschitz 'penalty'")
        self.optimizers = {role: self._optimizer(network) for role, network in self.networks.items()}

    def _optimizer(self, network: Module) -> Optimizer:
        if self.lipschitz == "clip":
            return RMSProp(network.parameters(), self.lr)
        return Adam(network.parameters(), self.lr, beta1=0.5, beta2=0.9)

    def build(self) -> networks.Architecture:
        return networks.architecture(self.architecture, self.sizes, self.width)

    def build_networks(self, init: Initialiser) -> dict[str, Module]:
        rng, architecture = numpy.random.default_rng(self.seed), self.build()
        return {"critic": architecture.discriminator(self.outputs, rng, init),
                "generator": architecture.decoder(self.latent, rng, init)}

    @property
    def batches_per_step(self) -> int:
        """One batch for each step of the critic."""
        return self.critic_steps

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        n = len(images) // self.critic_steps
        critic, G = self.networks["critic"], self.networks["generator"]
        critic_optimizer, g_optimizer = self.optimizers["critic"], self.optimizers["generator"]

        with no_grad():         # G stays fixed, so one pass makes the fakes for all critic steps
            fakes = G(self.noise(len(images), rng)).data
        for i in range(self.critic_steps):
            batch = slice(i * n, (i + 1) * n)
            real, fake = images[batch], fakes[batch]
            real_scores, fake_scores = joint_forward(critic, real, fake)
            critic_loss = losses.wgan_critic(real_scores, fake_scores)
            metrics = {"critic_loss": critic_loss.data}
            if self.lipschitz == "penalty":
                t = to_device(ranks.share(rng.random(n * ranks.sharers(), dtype="float32")))
                penalty = losses.gradient_penalty(critic, real, fake, t.astype(real.dtype, copy=False))
                critic_loss += self.penalty * penalty
                metrics["gradient_penalty"] = penalty.data
            critic_optimizer.minimize(critic_loss)
            if self.lipschitz == "clip":
                clip_weights(critic_optimizer.parameters, self.clip)

        g_loss = losses.wgan_generator(critic(G(self.noise(n, rng))))
        g_optimizer.minimize(g_loss)
        return {**metrics, "g_loss": g_loss.data}
