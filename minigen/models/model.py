"""The base class of all models: named networks and optimisers, their state, and samples from the prior."""

from __future__ import annotations

import itertools
from contextlib import nullcontext
from dataclasses import asdict
from typing import Any

import numpy

from minigen import ops, threads
from minigen.backend import Array, to_device, xp
from minigen.core import no_grad
from minigen.nn import INITIALISERS, BatchNorm, Initialiser, Module
from minigen.optim import Optimizer

_CHUNK = 250        # rows per pass, which bounds the memory for hidden layers


@no_grad()
def infer(network: Module, x: Array) -> Array:
    """network(x) in evaluation mode, for any number of rows, as a raw array."""
    training = network.training
    network.eval()
    y = xp.concatenate([network(x[i:i + _CHUNK]).data for i in range(0, max(len(x), 1), _CHUNK)])
    if training:
        network.train()
    return y


def joint_forward(network: Module, *batches: Any) -> list[Any]:
    """network(batch) for each batch, in one pass, which is faster, if images in a batch do not affect each
    other.

    With BatchNorm they do. Each batch then has its own pass and its own statistics, so that no gradient flows
    from one batch to another.
    """
    if any(isinstance(module, BatchNorm) for _, module in network.named_modules()):
        return [network(batch) for batch in batches]
    y, ends = network(ops.concatenate(batches)), list(itertools.accumulate(map(len, batches)))
    return [y[start:end] for start, end in zip([0, *ends], ends)]


class Model:
    """A generative model and its training. Subclasses are dataclasses whose fields are the model's settings.

    They fill ``networks`` and ``optimizers``, keyed by role, and define ``update``, one training iteration.
    ``generator`` is the role of the network that makes images. Each iteration takes ``batches_per_step``
    batches of images. ``title`` is the model's name in print.
    """

    title: str
    batches_per_step = 1
    generator = "generator"
    latent: int
    networks: dict[str, Module]
    optimizers: dict[str, Optimizer]

    def initialiser(self, name: str) -> Initialiser:
        """The initialiser in ``nn`` with this name; if there is none, ``ValueError`` lists the names."""
        if name not in INITIALISERS:
            raise ValueError(f"{type(self).__name__}: init one of {', '.join(INITIALISERS)} expected, "
                             f"{name!r} found")
        return INITIALISERS[name]

    def settings(self) -> dict[str, Any]:
        """The arguments that build this model again, in a form that JSON can hold."""
        return asdict(self)

    def step(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        """One training iteration on ``images`` (batches_per_step * batch, ...).

        Returns its metrics as 0-d arrays; losses are in nats. With images (N, H, W, C), all threads are kept
        for the convolutions, which are most of the work.
        """
        with threads.large_arrays() if images.ndim == 4 else nullcontext():
            return self.update(images, rng)

    def update(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        """The equations of one training iteration; ``step`` calls it."""
        raise NotImplementedError

    def noise(self, n: int, rng: numpy.random.Generator) -> Array:
        """n latents (n, latent) from the prior N(0, I), drawn on the host."""
        return to_device(rng.standard_normal((n, self.latent), dtype="float32"))

    def sample(self, n: int, rng: numpy.random.Generator | int | None = None) -> Array:
        """n images (n, ...) generated from prior latents; ``rng`` is a random generator, a seed, or None."""
        return infer(self.networks[self.generator], self.noise(n, numpy.random.default_rng(rng)))

    def to_unit_range(self, images: Any) -> Array:
        """The images with black at 0 and white at 1, as ``figures`` expects them."""
        return images

    def state(self) -> dict[str, numpy.ndarray]:
        """Everything that training changes, by name and on the host: states of networks and optimisers."""
        return {f"{kind}.{name}.{key}": value
                for kind, parts in (("networks", self.networks), ("optimizers", self.optimizers))
                for name, part in parts.items() for key, value in part.state().items()}

    def load_state(self, state: dict[str, numpy.ndarray]) -> None:
        """Restore ``state``, as returned by ``state()``; ``ValueError`` if it belongs to a model with other
        settings."""
        for kind, parts in (("networks", self.networks), ("optimizers", self.optimizers)):
            for name, part in parts.items():
                prefix = f"{kind}.{name}."
                own = {key: value for key, value in state.items() if key.startswith(prefix)}
                part.load_state({key.removeprefix(prefix): value for key, value in own.items()})
