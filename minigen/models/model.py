"""The base of all models: named networks and optimisers, their state, and samples from the prior."""

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

_CHUNK = 250        # rows at once, which bounds the memory for hidden layers


@no_grad()
def infer(network: Module, x: Array) -> Array:
    """network(x) for any number of rows, in the mode for after training: a raw array."""
    training = network.training
    network.eval()
    y = xp.concatenate([network(x[i:i + _CHUNK]).data for i in range(0, max(len(x), 1), _CHUNK)])
    if training:
        network.train()
    return y


def joint_forward(network: Module, *batches: Any) -> list[Any]:
    """network(batch) for each batch, in one pass, which is faster, if images of a batch do not influence each
    other.

    With BatchNorm they do: each batch then has a pass and statistics of its own, so that no gradient leads
    from one batch to another.
    """
    if any(isinstance(module, BatchNorm) for _, module in network.named_modules()):
        return [network(batch) for batch in batches]
    y, ends = network(ops.concatenate(batches)), list(itertools.accumulate(map(len, batches)))
    return [y[start:end] for start, end in zip([0, *ends], ends)]


class Model:
    """A generative model and its training. Subclasses are dataclasses, whose fields are the model's settings.

    They fill ``networks`` (by role; ``generator`` names the one that makes images) and ``optimizers`` (by
    role), and define ``update``, one training iteration. ``batches_per_step`` batches make up its images;
    ``title`` is the model's name in print.
    """

    title: str
    batches_per_step = 1
    generator = "generator"
    latent: int
    networks: dict[str, Module]
    optimizers: dict[str, Optimizer]

    def initialiser(self, name: str) -> Initialiser:
        """The initialiser of this name in ``nn``; ``ValueError`` that lists the names if there is none."""
        if name not in INITIALISERS:
            raise ValueError(f"{type(self).__name__}: init one of {', '.join(INITIALISERS)} expected, "
                             f"{name!r} found")
        return INITIALISERS[name]

    def settings(self) -> dict[str, Any]:
        """The arguments with which this model can be built again, fit for JSON."""
        return asdict(self)

    def step(self, images: Array, rng: numpy.random.Generator) -> dict[str, Array]:
        """One training iteration on ``images`` (batches_per_step * batch, ...).

        Returns its metrics as 0-d arrays; losses are in nats. For images (N, H, W, C) all threads are kept
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
        """n generated images (n, ...) for latents from the prior; ``rng`` is a generator, a seed, or None."""
        return infer(self.networks[self.generator], self.noise(n, numpy.random.default_rng(rng)))

    def to_unit_range(self, images: Any) -> Array:
        """The images with black at 0 and white at 1, as ``figures`` takes them."""
        return images

    def state(self) -> dict[str, numpy.ndarray]:
        """Everything training changes, on the host, by name: parameters and optimiser states."""
        return {f"{kind}.{name}.{key}": value
                for kind, parts in (("networks", self.networks), ("optimizers", self.optimizers))
                for name, part in parts.items() for key, value in part.state().items()}

    def load_state(self, state: dict[str, numpy.ndarray]) -> None:
        """Go on from what ``state()`` returned; ``ValueError`` if it is of a model with other settings."""
        for kind, parts in (("networks", self.networks), ("optimizers", self.optimizers)):
            for name, part in parts.items():
                prefix = f"{kind}.{name}."
                own = {key: value for key, value in state.items() if key.startswith(prefix)}
                part.load_state({key.removeprefix(prefix): value for key, value in own.items()})
