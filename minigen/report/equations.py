"""The paper's equations: as printed, and the functions that compute them, with their docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from minigen import losses, optim
from minigen.metrics import divergences, entropy

PRINTED, CORRECTED, EXTENDED = "as printed", "corrected", "as printed, and solved"


@dataclass(frozen=True)
class Equation:
    """One equation: how the paper prints it, what is different here, and which functions compute it."""

    key: str
    title: str
    subject: str
    printed: str
    verdict: str
    conclusion: str
    functions: Sequence[Callable[..., Any]]

    @property
    def documented(self) -> list[tuple[str, list[str]]]:
        """Each function's name within the package, and the paragraphs of its docstring."""
        return [(f"{function.__module__.removeprefix('minigen.')}.{function.__name__}",
                 [" ".join(text.split()) for text in (inspect.getdoc(function) or "").split("\n\n")])
                for function in self.functions]


EQUATIONS = (
    Equation("divergence", "Section 1", "The divergence D_φ", "D_φ(p|q) = E_p[φ(q(x) / p(x))]", CORRECTED,
             "Mass that q has where p has none costs something, and KL is φ = −log, not log.",
             (divergences.d_phi, divergences.kl, divergences.js)),
    Equation("eq1", "Eq. 1", "The minimax GAN", "min_G max_D E log D(x) + E[1 − log D(G(z))]", CORRECTED,
             "The printed bracket is a slip for log(1 − D(G(z))).",
             (losses.gan_discriminator, losses.gan_generator_minimax)),
    Equation("eq2", "Eq. 2", "The non-saturating GAN", "min_G max_D E log D(x) − E log D(G(z))", CORRECTED,
             "As printed, D would maximise −E log D(G(z)), which has no bound. D keeps the loss of Eq. 1; "
             "G's is as printed.",
             (losses.gan_discriminator, losses.gan_generator)),
    Equation("eq3", "Eq. 3", "Eq. 1 at the optimal discriminator", "2 JS(P_data ‖ P_G) − 2 log 2", PRINTED,
             "It holds for discrete distributions, as the tests check. Section 2.2 draws it.",
             (divergences.js,)),
    Equation("eq4", "Eq. 4", "Eq. 2 at the optimal discriminator", "KL(P_G ‖ P_data) − 2 JS(P_data ‖ P_G)",
             PRINTED, "Its gradient is that of Eq. 2, as the tests check. Section 2.2 draws it.",
             (divergences.kl, divergences.js)),
    Equation("eq5", "Eq. 5", "The Wasserstein GAN", "min_G max_D E D(x) + E[1 − D(G(z))]", PRINTED,
             "The constant 1 is left out. Clipped weights keep D Lipschitz, or a gradient penalty does.",
             (losses.wgan_critic, losses.wgan_generator, optim.clip_weights, losses.gradient_penalty)),
    Equation("eq6", "Eq. 6", "The variational autoencoder", "Σ_i −KL(q(z|x_i) ‖ p(z)) + E log p(x_i|z)",
             PRINTED, "Its negative is minimised.", (losses.vae, losses.squared_error, losses.gaussian_kl)),
    Equation("eq7", "Eq. 7", "The VAE-GAN", "L_GAN = −E log D(G(z))", PRINTED,
             "It is added to Eq. 6, times a weight.", (losses.gan_generator_each, losses.vaegan)),
    Equation("section41", "Section 4.1", "The constrained VAE-GAN", "min L_vae(x) + λ max{L_gan(x) − d, 0}",
             EXTENDED, "The hinge is the paper's. The Lagrangian is solved as well, by dual ascent.",
             (losses.constrained, losses.lagrangian, optim.DualAscent)),
    Equation("section32", "Section 3.2", "The mode entropy", "−Σ_i p_i log p_i", PRINTED,
             "The shares p_i are those of 10,000 images.", (entropy.mode_entropy,)),
    Equation("section33", "Section 3.3", "The image entropy", "Σ_i p_i,k log p_i,k", CORRECTED,
             "An entropy is minus the printed sum.", (entropy.image_entropy,)))
