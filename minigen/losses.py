"""The paper's objectives, one pure function per equation.

D(x) = sigmoid(logit) is a probability. Every function here takes the discriminator's *logits* instead,
because the right-hand sides of

    -log D(x) = softplus(-logit)        -log(1 - D(x)) = softplus(logit)

never overflow. Losses are scalars: the mean over the batch and over the discriminator's outputs, in nats.
Their arguments are arrays or Tensors of one dtype, float32 or float64. ``ValueError`` if their shapes do not
fit, or if a batch is empty.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from numbers import Real
from typing import Any

import numpy

from minigen import checks, ops
from minigen.backend import Array, to_device, xp
from minigen.core import Op, Tensor, grad, numbers, to_host
from minigen.kernels import either, fused
from minigen.tensor import Value


def _check(loss: str, axes: str, agree: int = 0, **arrays: Any) -> None:
    """All must have axes such as ``"(N, outputs)"`` or ``"(N, ...)"``, none of them empty.

    Their lengths must be the same from the axis ``agree`` on.
    """
    checks.floats(loss, **arrays)
    shapes = [a.shape for a in arrays.values()]
    fewest, most = _ranks(axes)
    for shape in shapes:
        if not fewest <= len(shape) <= most or 0 in shape or shape[agree:] != shapes[0][agree:]:
            raise ValueError(f"{loss}: {' and '.join(arrays)} of shape {axes} expected, "
                             f"{' and '.join(map(str, shapes))} found")


@cache
def _ranks(axes: str) -> tuple[int, float]:
    """The fewest and the most axes that an array may have."""
    names = axes.strip("(,)").split(", ")
    return (len(names) - 1, math.inf) if names[-1] == "..." else (len(names), len(names))


def _check_scalars(loss: str, **values: Any) -> None:
    for name, value in values.items():
        if not hasattr(value, "shape") and not isinstance(value, Real):
            raise TypeError(f"{loss}: a scalar {name} expected, {checks.shown(value)} found")
        if getattr(value, "shape", ()) != ():
            raise ValueError(f"{loss}: a scalar {name} expected, one of shape {value.shape} found")


def gan_discriminator(real_logits: Any, fake_logits: Value) -> Value:
    """The discriminator's loss of Eq. 1 and Eq. 2: -E log D(x) - E log(1 - D(G(z))).

    Eq. 1 prints max_D E log D(x) + E[1 - log D(G(z))]. The bracket is a slip: as printed it would reward D
    for mistaking fakes for real images. This is the form of Goodfellow et al. (2014), Eq. 1, with the sign
    flipped for minimising.
    """
    _check("gan_discriminator", "(N, ...)", 1, real_logits=real_logits, fake_logits=fake_logits)
    return ops.mean(ops.softplus(-real_logits)) + ops.mean(ops.softplus(fake_logits))


def gan_generator_minimax(fake_logits: Value) -> Value:
    """The generator's loss of Eq. 1: E log(1 - D(G(z))), printed as E[1 - log D(G(z))].

    ``gan_discriminator`` explains this slip. At the optimal D the loss is 2 JS(P_data || P_G) - 2 log 2
    (Eq. 3), up to terms without G.
    """
    _check("gan_generator_minimax", "(N, ...)", fake_logits=fake_logits)
    return -ops.mean(ops.softplus(fake_logits))


def gan_generator(fake_logits: Value) -> Value:
    """The generator's loss of Eq. 2, and L_GAN of Eq. 7: -E log D(G(z)), the non-saturating objective.

    At the optimal D its gradient is that of KL(P_G || P_data) - 2 JS(P_data || P_G) (Eq. 4).
    """
    _check("gan_generator", "(N, ...)", fake_logits=fake_logits)
    return ops.mean(ops.softplus(-fake_logits))


def gan_generator_each(fake_logits: Value) -> Value:
    """L_GAN(x) of each generated image, Eq. 7 before the expectation: -log D(x), the mean over D's outputs.

    ``fake_logits`` is (N, outputs), the result (N,). D = 1/2 everywhere gives L_GAN = log 2.
    """
    _check("gan_generator_each", "(N, outputs)", fake_logits=fake_logits)
    return ops.mean(ops.softplus(-fake_logits), axis=-1)


def wgan_critic(real_scores: Any, fake_scores: Value) -> Value:
    """The critic's loss of Eq. 5: E D(G(z)) - E D(x).

    D is a real-valued score, and weight clipping makes it Lipschitz. The paper prints Eq. 5 as
    max_D E D(x) + E[1 - D(G(z))]; the 1 is a constant and is left out (Arjovsky et al., 2017, Eq. 2).
    """
    _check("wgan_critic", "(N, ...)", 1, real_scores=real_scores, fake_scores=fake_scores)
    return ops.mean(fake_scores) - ops.mean(real_scores)


def wgan_generator(fake_scores: Value) -> Value:
    """The generator's loss of Eq. 5: -E D(G(z))."""
    _check("wgan_generator", "(N, ...)", fake_scores=fake_scores)
    return -ops.mean(fake_scores)


_row_norm = Op("row_norm(x) = the Euclidean norm of each row; its subgradient at 0 is 0",
               lambda x: xp.sqrt(xp.sum(x * x, axis=1)),
               lambda g, y, x: (g / ops.where(y > 0, y, 1))[:, None] * x)


def gradient_penalty(critic: Callable[[Any], Any], real: Any, fake: Any, t: Any) -> Any:
    """E ``(|grad D(x)| - 1)^2`` at x = t real + (1 - t) fake, which keeps D close to 1-Lipschitz.

    With ``t`` (N,) drawn uniformly from [0, 1], it is the penalty of Gulrajani et al. (2017, Eq. 3), without
    its weight. ``critic`` maps ``real`` or ``fake``, both (N, ...), to scores (N, ...), whose mean over the
    outputs is D. The scores of an image must not depend on the other images, as with BatchNorm in training
    they would. The result is recorded: it can be differentiated with respect to whatever it depends on.
    """
    _check("gradient_penalty", "(N, ...)", real=real, fake=fake)
    if getattr(t, "shape", None) != real.shape[:1]:
        raise ValueError(f"gradient_penalty: t of shape {real.shape[:1]} expected, a number per image, "
                         f"{getattr(t, 'shape', type(t).__name__)} found")
    checks.floats("gradient_penalty", real=real, fake=fake, t=t)
    t = ops.reshape(t, (len(t), *(1,) * (real.ndim - 1)))
    norms = _row_norm(_slope("gradient_penalty", critic, t * real + (1 - t) * fake))
    return ops.mean((norms - 1) * (norms - 1))


def r1_penalty(discriminator: Callable[[Any], Any], real: Any) -> Any:
    """E ``|grad D(x)|^2 / 2`` at ``real`` images x (N, ...): R1 of Mescheder et al. (2018, Eq. 9), without
    its weight.

    ``discriminator`` maps images to logits (N, ...), whose mean over the outputs is D here. As in
    ``gradient_penalty``, the logits of an image must not depend on the other images.
    """
    _check("r1_penalty", "(N, ...)", real=real)
    slope = _slope("r1_penalty", discriminator, real)
    return 0.5 * ops.sum(slope * slope) / len(slope)


def _slope(owner: str, network: Callable[[Any], Any], x: Any) -> Tensor:
    """The gradient of each image's mean output with respect to the image, recorded: (N, pixels)."""
    x = x if isinstance(x, Tensor) else Tensor(x)
    y = network(x)
    if not isinstance(y, Tensor) or y.shape[:1] != x.shape[:1] or 0 in y.shape:
        raise ValueError(f"{owner}: a Tensor ({len(x)}, ...) from the network expected, one row per image, "
                         f"{y.shape if isinstance(y, Tensor) else type(y).__name__} found")
    slope = grad(ops.sum(y) / (y.size / len(x)), x, create_graph=True)
    return ops.reshape(slope, (len(x), slope.size // len(x)))


def _by_product(x: Array, y: Array, share: float) -> Array:
    difference = (x - y).ravel()
    return share * xp.dot(difference, difference)


@fused
def _sum_of_squares(x: Array, y: Array, share: float) -> Array:
    return xp.sum(xp.square(x - y) * share)


@fused
def _difference(x: Any, y: Any, g: Any, factor: float) -> Any:
    return g * factor * (x - y)


_squared_error = Op("squared_error(x, y, share) = (x - y)^2 summed over all elements, times a number",
                    either(_by_product, lambda x, y, share: _sum_of_squares(x, y, share)),
                    lambda g, error, x, y, share: _difference(x, y, g, 2 * share),
                    lambda g, error, x, y, share: _difference(y, x, g, 2 * share))


def squared_error(x: Any, reconstruction: Value) -> Value:
    """The reconstruction term of Eq. 6: the squared error summed over pixels, averaged over the batch.

    Eq. 6 prints E log p(x | z), and section 3.1 "the mean squared error". The two agree up to
    a constant for p(x | z) = N(x; reconstruction, I / 2). Both are (N, pixels, ...).
    """
    _check("squared_error", "(N, pixels, ...)", x=x, reconstruction=reconstruction)
    return _squared_error(x, reconstruction, share=1 / len(x))


@fused
def _divergence(mu: Array, logvar: Array) -> Array:
    return xp.sum(0.5 * (mu * mu + xp.exp(logvar) - 1 - logvar), axis=-1)


@fused
def _variance_gradient(logvar: Any, g: Any) -> Any:
    return g * (0.5 * (ops.exp(logvar) - 1))


_gaussian_kl = Op("gaussian_kl(mu, logvar) = (mu^2 + exp(logvar) - 1 - logvar) / 2 summed over the last axis",
                  _divergence,
                  lambda g, y, mu, logvar: g[..., None] * mu,
                  lambda g, y, mu, logvar: _variance_gradient(logvar, g[..., None]))


def gaussian_kl(mu: Any, logvar: Value) -> Value:
    """The first term of Eq. 6: KL(N(mu, diag exp(logvar)) || N(0, I)), averaged over the batch.

    Each row of ``mu`` and ``logvar``, both (N, latent), gives 1/2 sum(mu^2 + exp(logvar) - 1 - logvar)
    (Kingma and Welling, 2013, appendix B).
    """
    _check("gaussian_kl", "(N, latent)", mu=mu, logvar=logvar)
    return ops.mean(_gaussian_kl(mu, logvar))


def vae(reconstruction_error: Any, kl: Value, reconstruction_weight: float = 1.0) -> Value:
    """L_vae, the negative of Eq. 6: reconstruction_weight * reconstruction_error + kl.

    Eq. 6 prints -KL + E log p(x | z), to be maximised; the terms are ``squared_error`` and ``gaussian_kl``.
    """
    _check_scalars("vae", reconstruction_error=reconstruction_error, kl=kl)
    reconstruction_weight = checks.real("vae", "reconstruction_weight", reconstruction_weight, "[0, inf)")
    return reconstruction_weight * reconstruction_error + kl


def vaegan(l_vae: Any, l_gan: Value, gan_weight: float = 1.0) -> Value:
    """The decoder's loss in the VAE-GAN: L_vae (Eq. 6) + gan_weight * E L_GAN (Eq. 7).

    ``l_gan`` (N,) holds L_GAN of samples from the prior.
    """
    _check_scalars("vaegan", l_vae=l_vae)
    _check("vaegan", "(N,)", l_gan=l_gan)
    gan_weight = checks.real("vaegan", "gan_weight", gan_weight, "[0, inf)")
    return l_vae + gan_weight * ops.mean(l_gan)


def constrained(l_vae: Any, l_gan: Value, d: float, gan_weight: float = 1.0,
                per_sample: bool = True) -> Value:
    """The constrained VAE-GAN of section 4.1: L_vae + lambda max(L_GAN - d, 0), with lambda = ``gan_weight``.

    The paper writes L_GAN(x) for one image. With ``per_sample`` the hinge acts on each element of ``l_gan``
    (N,), before the mean over the batch. Without it the hinge acts on the batch mean, as in Eq. 7. At
    L_GAN = d the subgradient is 0.
    """
    _check_scalars("constrained", l_vae=l_vae)
    _check("constrained", "(N,)", l_gan=l_gan)
    d = checks.real("constrained", "d", d)
    gan_weight = checks.real("constrained", "gan_weight", gan_weight, "[0, inf)")
    if not per_sample:
        l_gan = ops.mean(l_gan)
    return l_vae + gan_weight * ops.mean(ops.relu(l_gan - d))


def lagrangian(l_vae: Any, l_gan: Value, d: float, multiplier: Any) -> Value:
    """The Lagrangian of section 4.1, min L_vae s.t. E L_GAN <= d: L_vae + multiplier (E L_GAN - d).

    ``l_gan`` (N,) holds L_GAN of samples from the prior. ``multiplier``, the paper's lambda, is a number or
    an array () of at least 0, as ``optim.DualAscent`` finds it.
    """
    _check_scalars("lagrangian", l_vae=l_vae, multiplier=multiplier)
    if isinstance(multiplier, Real):        # to look at an array's number would make a GPU wait
        multiplier = checks.real("lagrangian", "multiplier", multiplier, "[0, inf)")
    _check("lagrangian", "(N,)", l_gan=l_gan)
    d = checks.real("lagrangian", "d", d)
    return l_vae + multiplier * (ops.mean(l_gan) - d)


def softmax_cross_entropy(logits: Value, labels: Any) -> Value:
    """-log softmax(logits)[label], averaged over the batch, for logits (N, classes) and integer labels (N,).

    The labels are best on the host: on a GPU, looking at them would wait for the device.
    """
    _check("softmax_cross_entropy", "(N, classes)", logits=logits)
    labels = to_host(numbers("softmax_cross_entropy", "labels", labels, "iu"))
    _check_labels(labels, *logits.shape)
    return -ops.mean(ops.log_softmax(logits)[xp.arange(len(labels)), to_device(labels)])


def _check_labels(labels: numpy.ndarray, n: int, classes: int) -> None:
    if labels.shape != (n,):
        raise ValueError(f"softmax_cross_entropy: labels of shape {(n,)} expected, {labels.shape} found")
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise ValueError(f"softmax_cross_entropy: labels from 0 to {classes - 1} expected, {wrong[0]} found")
