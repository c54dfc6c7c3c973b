"""The VAE-GAN, Eq. 6 and 7 (Larsen et al., 2015), and the paper's constrained VAE-GAN (section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy

from minigen import checks, losses, networks
from minigen.backend import Array, xp
from minigen.core import no_grad
from minigen.models.model import joint_forward
from minigen.models.vae import VAE
from minigen.nn import Initialiser, Module
from minigen.optim import DualAscent


@dataclass(eq=False, kw_only=True)
class VAEGAN(VAE):
    """A VAE with a discriminator D, which tells images from prior samples; the decoder also learns to fool D.

    ``gan_weight`` is the weight of L_GAN relative to L_vae, ``outputs`` is the number of D's logits, whose
    losses are averaged, and ``d_lr`` is D's learning rate. ``architecture``, ``sizes`` and ``width`` apply to
    D as well. L_GAN is computed on prior samples, so its gradient does not reach the encoder. With
    ``learned_similarity``, reconstructions are compared by D's features instead of pixels; this needs the
    architecture of Larsen et al. The metrics of a step include the share of D's outputs that are right, for
    real images and for generated ones.
    """

    title = "VAE-GAN"
    intervals = VAE.intervals | {"gan_weight": "[0, inf)", "d_lr": "(0, inf)"}
    gan_weight: float = 0.2
    outputs: int = 100
    d_lr: float = 1e-4
    learned_similarity: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        D = self.networks["discriminator"]
        if self.learned_similarity and not isinstance(D, networks.Discriminator):
            raise ValueError(f"{type(self).__name__}: learned_similarity needs a discriminator with "
                             f"features, as in architecture 'larsen', {self.architecture!r} found")
        self.optimizers["discriminator"] = self.build_optimizer(D.parameters(), self.d_lr)

    def build_networks(self, init: Initialiser) -> dict[str, Module]:
        rng = numpy.random.default_rng((self.seed, 1))      # weights that differ from the encoder's
        D = self.build().discriminator(self.outputs, rng, init)
        return {**super().build_networks(init), "discriminator": D}

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        decoder, D = self.networks["decoder"], self.networks["discriminator"]
        optimizer, d_optimizer = self.optimizers["autoencoder"], self.optimizers["discriminator"]
        mu, logvar = self.posterior(images)
        z, z_prior = self.latents(mu, logvar, rng), self.noise(len(images), rng)
        reconstruction, fake = joint_forward(decoder, z, z_prior)

        real_logits, fake_logits = joint_forward(D, images, fake.data)
        d_loss = losses.gan_discriminator(real_logits, fake_logits)
        d_optimizer.minimize(d_loss)

        error, kl = self.reconstruction_error(images, reconstruction), losses.gaussian_kl(mu, logvar)
        l_vae = losses.vae(error, kl, self.reconstruction_weight)
        l_gan = losses.gan_generator_each(D(fake))
        optimizer.minimize(self.objective(l_vae, l_gan))
        return {"d_loss": d_loss.data, "accuracy_real": xp.mean(real_logits.data > 0),
                "accuracy_fake": xp.mean(fake_logits.data <= 0), "l_vae": l_vae.data,
                "reconstruction_error": error.data, "kl": kl.data, **self.measures(l_gan.data)}

    def reconstruction_error(self, images: Array, reconstruction: Any) -> Any:
        """The squared error of the pixels or, with ``learned_similarity``, half that of D's features."""
        if not self.learned_similarity:
            return losses.squared_error(images, reconstruction)
        features = self.networks["discriminator"].features
        with no_grad():
            target = features(images).data
        return 0.5 * losses.squared_error(target, features(reconstruction))

    def objective(self, l_vae: Any, l_gan: Any) -> Any:
        """The loss of the encoder and the decoder, from the scalar L_vae and L_GAN (N,) of prior samples."""
        return losses.vaegan(l_vae, l_gan, self.gan_weight)

    def measures(self, l_gan: Array) -> dict[str, Array]:
        """The metrics of a step that are computed from L_GAN (N,)."""
        return {"l_gan": xp.mean(l_gan)}


@dataclass(eq=False, kw_only=True)
class ConstrainedVAEGAN(VAEGAN):
    """The VAE-GAN that minimises L_vae s.t. L_GAN <= d, by a ``multiplier`` lambda that is fixed or found.

    With ``"fixed"``, the paper's approximation, lambda is ``gan_weight``, and the loss is L_vae + lambda
    max(L_GAN - d, 0). The hinge acts on each prior sample or, without ``per_sample``, on their mean. The
    metrics of a step include ``inside``, the share of samples whose own L_GAN is at most ``d``. With the
    default weights, L_GAN lies between 5 and 7 nats.

    With ``"dual"``, the constraint is E L_GAN <= d, and the loss is the Lagrangian L_vae + lambda (E L_GAN -
    d). After each step, dual ascent with rate ``eta`` moves lambda, which begins at ``gan_weight``. The
    metrics include lambda, the ``violation`` E L_GAN - d and their product ``slackness``, which is 0 at the
    solution (complementary slackness).
    """

    title = "constrained VAE-GAN"
    intervals = VAEGAN.intervals | {"eta": "(0, inf)"}
    d: float = 6.0
    per_sample: bool = True
    multiplier: str = "fixed"
    eta: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.multiplier not in ("fixed", "dual"):
            raise ValueError(f"ConstrainedVAEGAN: multiplier 'fixed' or 'dual' expected, {self.multiplier!r} "
                             "found")
        if self.multiplier == "dual":
            if not self.per_sample:
                raise ValueError("ConstrainedVAEGAN: per_sample chooses the hinge of a fixed multiplier: "
                                 "True expected with a dual one, False found")
            start = checks.real("ConstrainedVAEGAN", "gan_weight", self.gan_weight, "[0, 10000]")
            self.optimizers["multiplier"] = DualAscent(self.eta, start, most=1e4)

    @property
    def dual(self) -> DualAscent | None:
        """The optimiser of lambda, unless that is fixed."""
        found = self.optimizers.get("multiplier")
        return found if isinstance(found, DualAscent) else None

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        metrics = super().update(images, rng)
        if self.dual:
            self.dual.ascend(metrics["violation"])
        return metrics

    def objective(self, l_vae: Any, l_gan: Any) -> Any:
        if self.dual:
            return losses.lagrangian(l_vae, l_gan, self.d, self.dual.multiplier.data)
        return losses.constrained(l_vae, l_gan, self.d, self.gan_weight, self.per_sample)

    def measures(self, l_gan: Array) -> dict[str, Array]:
        found = {**super().measures(l_gan), "inside": xp.mean(l_gan <= self.d)}
        if self.dual:
            multiplier, violation = self.dual.multiplier.data, found["l_gan"] - self.d
            found |= {"multiplier": multiplier, "violation": violation, "slackness": multiplier * violation}
        return found
