"""The base class of all models: named networks and optimisers, their state, and samples from the prior."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, fields, is_dataclass
from functools import cached_property
from typing import Any

import numpy

from minigen import backend, checks, networks, ops, ranks, threads
from minigen.backend import Array, to_device, to_host, xp
from minigen.core import no_grad
from minigen.networks import Architecture
from minigen.nn import INITIALISERS, BatchNorm, Initialiser, Module
from minigen.optim import Optimizer

_CHUNK = 250        # rows per pass, which bounds the memory for hidden layers


@no_grad()
@threads.limited_blas()
def infer(network: Module, x: Array) -> Array:
    """network(x) in evaluation mode, for any number of rows, as a raw array."""
    with kept_modes(network):
        network.eval()
        return xp.concatenate([network(x[i:i + _CHUNK])._data for i in range(0, max(len(x), 1), _CHUNK)])


@contextmanager
def kept_modes(*networks: Module) -> Iterator[None]:
    """The context after which all modules are in training or evaluation mode as before."""
    modes = [(module, module.training) for network in networks for _, module in network.named_modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def joint_forward(network: Module, *batches: Any) -> list[Any]:
    """network(batch) for each batch, in one pass, which is faster, if images in a batch do not affect each
    other.

    With BatchNorm they do. Each batch then has its own pass and its own statistics, so that no gradient flows
    from one batch to another.
    """
    if network.holds(BatchNorm):
        return [network(batch) for batch in batches]
    y, ends = network(ops.concatenate(batches)), list(itertools.accumulate(map(len, batches)))
    return [y[start:end] for start, end in zip([0, *ends], ends)]


def _arc(start: Array, end: Array, t: Array) -> Array:
    """The latents (N, len(t), latent) on the arcs from ``start`` to ``end``; on the lines where both have one
    direction, or opposite ones."""
    a, b = (x / xp.maximum(xp.sqrt((x * x).sum(axis=-1, keepdims=True)), 1e-30) for x in (start, end))
    far, near = (xp.sqrt((x * x).sum(axis=-1, keepdims=True)) for x in (a - b, a + b))
    angle = 2 * xp.arctan2(far, near)       # where it is small, arccos loses digits
    sine = xp.sin(angle)
    straight = sine < 1e-6
    sine = xp.where(straight, xp.ones_like(sine), sine)
    return (xp.where(straight, 1 - t, xp.sin((1 - t) * angle) / sine) * start
            + xp.where(straight, t, xp.sin(t * angle) / sine) * end)


class Model:
    """A generative model and its training. Subclasses are dataclasses whose fields are the model's settings.

    They fill ``networks`` and ``optimizers``, keyed by role, and define ``update``, one training iteration.
    From then on the settings stay: they build the model again, and resumed runs have them from the start.
    ``generator`` is the role of the network that makes images. Each iteration takes ``batches_per_step``
    batches of images. ``title`` is the model's name in print.

    The architecture that ``build`` returns says what an image is: floats in [0, 1], or points anywhere. Where
    images go in, anything else is refused, and so they come out. The networks compute in float32. A model
    without ``build`` may be trained on any arrays.
    """

    title: str
    batches_per_step = 1
    generator = "generator"
    intervals: dict[str, str] = {}      # of the settings that are numbers, where not every number is allowed
    latent: int
    networks: dict[str, Module]
    optimizers: dict[str, Optimizer]
    _checked = False        # whether a batch has been

    def __post_init__(self) -> None:
        """Check the settings by their types; NumPy's numbers become Python's. An error names the setting."""
        owner = type(self).__name__
        for field in fields(self):
            name, kind, value = field.name, field.type, getattr(self, field.name)
            if name == "seed":
                value = checks.seed(owner, value)
            elif kind in ("int", int):
                value = checks.whole(owner, name, value)
            elif kind in ("float", float):
                value = checks.real(owner, name, value, self.intervals.get(name, "(-inf, inf)"))
            elif name == "sizes":
                value = checks.sizes(owner, name, value)
            elif kind in ("bool", "str") and type(value).__name__ != kind:
                raise TypeError(f"{owner}: {name}: a {kind} expected, {value!r} found")
            setattr(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if "optimizers" in vars(self) and name in getattr(self, "__dataclass_fields__", ()):
            raise AttributeError(f"{type(self).__name__}: {name} is a setting, and stays once there are "
                                 f"optimizers: dataclasses.replace(model, {name}=...) builds another model; "
                                 "what training changes belongs in optimizers or other attributes")
        object.__setattr__(self, name, value)

    def build(self) -> Architecture | None:
        """The architecture that the settings describe; it makes the networks."""
        return None

    @cached_property
    def _architecture(self) -> Architecture | None:
        return self.build()

    def initialised(self, make: Callable[[Initialiser], dict[str, Module]], name: str) -> dict[str, Module]:
        """``make(init)`` with the initialiser in ``nn`` of this name, if there is memory to train all that.

        ``ValueError`` lists the names if there is none with this name, or says how much memory is needed.
        """
        if name not in INITIALISERS:
            raise ValueError(f"{type(self).__name__}: init one of {', '.join(INITIALISERS)} expected, "
                             f"{checks.shown(name)} found")
        return networks.afforded(type(self).__name__, make, INITIALISERS[name])

    def refuse_batch_norm(self, role: str, setting: str) -> None:
        """``ValueError`` if the network has BatchNorm, by which images of a batch affect each other's
        gradients."""
        if self.networks[role].holds(BatchNorm):
            raise ValueError(f"{type(self).__name__}: {setting} needs a {role} without BatchNorm: choose "
                             "another architecture")

    def settings(self) -> dict[str, Any]:
        """The arguments that build this model again, in a form that JSON can hold."""
        if not is_dataclass(self):
            raise TypeError(f"{type(self).__name__}: a dataclass expected, whose fields are the model's "
                            "settings, or a method `settings` of its own")
        return asdict(self)

    def check(self, images: Any) -> None:
        """``ValueError`` if ``images`` are not what this model is for, such as (N, ...) floats in [0, 1]."""
        if self._architecture is not None:
            self._architecture.check(type(self).__name__, images)

    def convolves(self, images: Any) -> bool:
        """Whether most of a step's work is convolutions. Without ``build``, images (N, H, W, C) tell it."""
        if self._architecture is None:
            return getattr(images, "ndim", 0) == 4
        return self._architecture.convolutional

    def step(self, images: Any, rng: numpy.random.Generator) -> dict[str, Array]:
        """One training iteration on ``images`` (batches_per_step * batch, ...).

        Returns its metrics as 0-d arrays; losses are in nats. If it ``convolves``, all threads are kept for
        the convolutions, which are most of the work; otherwise there is one, see ``threads.use``. The first
        batch is checked, see ``check``, and of every other a sixteenth of its images; on a GPU, which
        that would make wait, only the first batch.
        """
        if not self._checked or backend.name() == "numpy":
            found = to_host(images) if isinstance(images, xp.ndarray) else images       # one copy from a GPU
            self.check(found[::16] if self._checked and isinstance(found, numpy.ndarray) else found)
            if not self._checked:
                self._checked = True
            if self._architecture is not None:
                self._check_step(len(images), rng)
        with threads.large_arrays() if self.convolves(images) else threads.limited_blas():
            return self.update(self._to_networks(images), rng)

    def _check_step(self, n: int, rng: Any) -> None:
        owner = f"{type(self).__name__}.step"
        if n < self.batches_per_step:
            raise ValueError(f"{owner}: a batch of {self.batches_per_step} or more images expected, "
                             f"{n} found")
        if not isinstance(rng, numpy.random.Generator):
            raise TypeError(f"{owner}: rng, a random generator such as numpy.random.default_rng(0), "
                            f"expected, {checks.shown(rng)} found")

    def update(self, images: Any, rng: numpy.random.Generator) -> dict[str, Array]:
        """The equations of one training iteration; ``step`` calls it, with images in the networks' range."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def noise(self, n: int, rng: numpy.random.Generator) -> Array:
        """n latents (n, latent) from the prior N(0, I), drawn on the host.

        If ranks share the step, each draws all latents and takes its share.
        """
        drawn = rng.standard_normal((n * ranks.sharers(), self.latent), dtype="float32")
        return to_device(ranks.share(drawn))

    def sample(self, n: int, rng: numpy.random.Generator | int | None = None) -> Array:
        """n images (n, ...) generated from prior latents; ``rng`` is a random generator, a seed, or None."""
        owner = f"{type(self).__name__}.sample"
        n = checks.whole(owner, "n", n, least=0)
        try:
            rng = numpy.random.default_rng(rng)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{owner}: rng, a random generator, a seed or None, expected, "
                              f"{checks.shown(rng)} found") from error
        return self._from_networks(infer(self.networks[self.generator], self.noise(n, rng)))

    def decode(self, latents: Any) -> Array:
        """The images (N, ...) that the generator makes of latents (N, latent); a VAE's are the means of
        p(x | z)."""
        latents = self._latents("decode", latents)
        return self._from_networks(infer(self.networks[self.generator], latents))

    def interpolate(self, first: Any, second: Any, steps: int, spherical: bool = False) -> Array:
        """Images (N, steps, ...), decoded along the path from each latent of ``first`` to that of ``second``.

        ``first`` and ``second`` are latents (N, latent), or one of them is a single latent (1, latent). The
        path is a line or, if ``spherical``, an arc, which stays about as far from 0 as latents of the prior
        are: (sin((1 - t) w) first + sin(t w) second) / sin(w), where w is the angle between them (Shoemake,
        1985), or a line where w is 0 or half a turn. ``ValueError`` for fewer than 2 steps.
        """
        owner = f"{type(self).__name__}.interpolate"
        steps = checks.whole(owner, "steps", steps, least=2)
        start, end = (self._latents("interpolate", ends)[:, None] for ends in (first, second))
        if len(start) != len(end) and 1 not in (len(start), len(end)):
            raise ValueError(f"{owner}: first and second of one length, or one of them of length 1, "
                             f"expected, {len(start)} and {len(end)} found")
        t = to_device(numpy.linspace(0, 1, steps, dtype="float32"))[:, None]
        path = _arc(start, end, t) if spherical else (1 - t) * start + t * end
        images = self.decode(path.reshape(-1, self.latent))
        return images.reshape(-1, steps, *images.shape[1:])

    def _latents(self, method: str, latents: Any) -> Array:
        latents = self._in_precision(to_device(latents))
        if latents.ndim != 2 or latents.shape[1] != self.latent:
            raise ValueError(f"{type(self).__name__}.{method}: latents (N, {self.latent}) expected, "
                             f"{latents.shape} found")
        return latents

    def _to_networks(self, images: Any) -> Any:
        if self._architecture is None:
            return images
        low, high = self._architecture.output_range
        images = self._in_precision(images)
        return images if (low, high) == (0, 1) else images * (high - low) + low

    def _in_precision(self, array: Any) -> Any:
        """The array in the dtype of the networks, float32 unless somebody replaced them."""
        if array.dtype == xp.float32:
            return array
        return array.astype(self.networks[self.generator].parameters()[0].dtype, copy=False)

    def _from_networks(self, images: Any) -> Any:
        low, high = self._architecture.output_range if self._architecture else (0.0, 1.0)
        return images if (low, high) == (0, 1) else (images - low) / (high - low)

    def _parts(self) -> dict[str, Any]:
        return {f"{kind}.{name}.": part for kind in ("networks", "optimizers")
                for name, part in getattr(self, kind).items()}

    def state(self) -> dict[str, numpy.ndarray]:
        """Everything that training changes, by name and on the host: states of networks and optimisers."""
        return {prefix + key: value for prefix, part in self._parts().items()
                for key, value in part.state().items()}

    def load_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        """Restore ``state``, as returned by ``state()``.

        If it belongs to another model, or to one with other settings, or if a number in it is not finite,
        ``ValueError`` names the difference, and nothing changes.
        """
        checks.state(f"{type(self).__name__}.load_state", self.state(), state)
        parts = {prefix: {key.removeprefix(prefix): value for key, value in state.items()
                          if key.startswith(prefix)} for prefix in self._parts()}
        for prefix, part in self._parts().items():
            part.check_state(parts[prefix])
        for prefix, part in self._parts().items():
            part.load_state(parts[prefix])
