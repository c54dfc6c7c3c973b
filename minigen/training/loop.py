"""The one training loop."""

from __future__ import annotations

import copy
import io
import json
import math
import os
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import backend, ranks, threads
from minigen.backend import Array, to_device, to_host, xp
from minigen.checks import shown
from minigen.models import Model
from minigen.models.model import kept_modes
from minigen.training import checkpoints, checks, signals
from minigen.training.batches import Batches, fingerprint, loading, prefetch
from minigen.training.checks import ArgumentError
from minigen.training.progress import Progress, progress
from minigen.training.run import Run, environment, save_grid

# Streams of random numbers: a generator is made from (seed, stream, position), so that nothing needs to be
# saved and a resumed run, wherever it was stopped, draws the same numbers.
_ORDER, _STEP, _SAMPLE, _PREPARE = 1, 2, 3, 4
_MOST_ITERATIONS = 10 ** 12

Images = numpy.ndarray | tuple[numpy.ndarray, ...]
Prepare = Callable[[Any, numpy.random.Generator], Any]
Metrics = dict[str, Array]


class Diverged(FloatingPointError):
    """A loss or a parameter became NaN or infinite; the message names it and the iteration."""


def train(model: Model, images: Images, *, iterations: int, out: str | os.PathLike[str],
          batch_size: int = 64, seed: int = 0, resume: bool = False, overwrite: bool = False,
          prepare: Prepare | None = None, evaluate: Callable[[Model], Mapping[str, float]] | None = None,
          evaluate_at: Collection[int] = (), sample_at: Collection[int] = (), samples: int = 64,
          image_shape: tuple[int, ...] | None = None, log_every: int = 100,
          checkpoint_every: int = 1000) -> Run:
    """Train ``model`` on ``images`` for ``iterations`` steps, recorded in the run directory ``out``.

    ``images`` (N, ...) may be anything that the model learns from, also a tuple of arrays of equal length,
    such as images and labels, of which ``model.step`` then gets a tuple. Each step takes
    ``model.batches_per_step`` batches, drawn without replacement within an epoch. If ``prepare`` is given,
    another thread calls ``prepare(images, rng)`` on each batch ahead of time, so that ``images`` may be a
    file on the disk; a failure there is raised here, as ``LoadError``. Metrics are logged every ``log_every``
    iterations, and at the iterations in ``evaluate_at``, by default the last, together with
    ``evaluate(model)``. Grids of ``samples`` generated images are written at the iterations in ``sample_at``;
    flat images need ``image_shape``, (height, width) or (height, width, channels). Points are written as they
    are, see ``Run.points``. Checkpoints are written every ``checkpoint_every`` iterations.

    First everything is tried on copies of the model: a step, its state, a grid of samples, and ``evaluate``.
    An argument that cannot be used is refused by ``ArgumentError``; the disk is as before then. So is a
    ``prepare`` or a model whose next results depend on more than its arguments and ``state()``, since it
    could not be resumed.
    A run in ``out`` is never lost unasked: ``RunError`` if there is one. With ``resume`` it goes on from its
    newest readable checkpoint and ends bit for bit where it would have ended without the interruption (same
    machine, same number of threads). With ``overwrite`` it is replaced.

    Ctrl-C, SIGTERM and SIGHUP finish the iteration, save a checkpoint and raise ``Interrupted``, a
    ``KeyboardInterrupt``. ``Diverged`` is raised when a loss or a parameter is no longer finite; no
    checkpoint is written then.
    """
    if checks.flag("resume", resume) and checks.flag("overwrite", overwrite):
        raise ArgumentError("train: resume and overwrite: one of them expected, both found")
    if not isinstance(out, (str, os.PathLike)) or "\0" in str(out):
        raise checks.refused("out", "the path of a folder", out)
    training = _Training(model, images, iterations, batch_size, seed, prepare, evaluate, evaluate_at,
                         sample_at, samples, image_shape, log_every, checkpoint_every)
    run, writes = Run(out), ranks.rank() == 0
    if writes and not (resume or overwrite):
        run.refuse_earlier()
    with threads.limited_blas():
        config = training.config()
        training.rehearse()
        config["start"] = checkpoints.checksum(model.state())
    with run.lock() if writes else nullcontext(), threads.limited_blas():
        done = 0
        if writes and resume:
            done = run.resume(config, model)
        elif writes:
            if not overwrite:
                run.refuse_earlier()        # another process may have trained meanwhile
            run.begin(config)
        done, state = ranks.broadcast((done, model.state()) if ranks.size() > 1 else (done, None))
        if not writes:
            model.load_state(state)
        start = time.perf_counter()
        training.go(run, done)
        if done < training.iterations:
            count = training.batch * (training.iterations - done)
            run.images_per_second = count / (time.perf_counter() - start)
    ranks.barrier()         # the record is whole
    return run


@dataclass
class _Training:
    """The arguments of ``train``, checked, and what is done with them."""

    model: Model
    images: Images
    iterations: int
    batch_size: int
    seed: int
    prepare: Prepare | None
    evaluate: Callable[[Model], Mapping[str, float]] | None
    evaluate_at: Collection[int]
    sample_at: Collection[int]
    samples: int
    image_shape: tuple[int, ...] | None
    log_every: int
    checkpoint_every: int

    def __post_init__(self) -> None:
        if not isinstance(self.model, Model):
            raise checks.refused("model", "a Model", self.model)
        self.iterations = checks.whole("iterations", self.iterations, 1, _MOST_ITERATIONS)
        self.seed = checks.whole("seed", self.seed, 0)
        for name in ("batch_size", "samples", "log_every", "checkpoint_every"):
            setattr(self, name, checks.whole(name, getattr(self, name), 1))
        for name in ("evaluate_at", "sample_at"):
            setattr(self, name, checks.iterations(name, getattr(self, name), self.iterations))
        for name in ("prepare", "evaluate"):
            checks.function(name, getattr(self, name))
        if self.evaluate and not self.evaluate_at:
            self.evaluate_at = {self.iterations}
        self.image_shape = checks.image_shape(self.image_shape)
        self.arrays = checks.arrays(self.images, finite=self.prepare is None)
        per_step = checks.whole("model.batches_per_step", self.model.batches_per_step, 1)
        if self.batch_size % ranks.size():
            raise ArgumentError(f"train: batch_size: a multiple of {ranks.size()} expected, the number of "
                                f"ranks that share a batch, {self.batch_size} found")
        self.batch, n = self.batch_size * per_step, len(self.arrays[0])
        if self.batch > n:
            raise ArgumentError(f"train: batch_size: one step takes {self.batch} images, but there are only "
                                f"{n}")
        self.batches = Batches(n, self.batch, (self.seed, _ORDER))

    def config(self) -> dict[str, Any]:
        """The record of the run, in a form that JSON can hold."""
        try:
            plain = _plain(dict(self.model.settings()))
            settings = json.loads(json.dumps(plain, allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ArgumentError(f"train: model: settings that JSON can hold expected: {error}") from error
        if settings != plain:       # a key that is no string comes back as one
            raise ArgumentError("train: model: settings that come back from JSON as they were expected, "
                                f"{shown(plain)} and then {shown(settings)} found")
        number = threads.count() if self.model.convolves(self.arrays[0]) else threads.per_product()
        return {"model": type(self.model).__name__, "settings": settings, "seed": self.seed,
                "batch_size": self.batch_size, "data": "; ".join(map(fingerprint, self.arrays)),
                "prepare": self._prepare_record(), "iterations": self.iterations,
                "checkpoint_every": self.checkpoint_every,
                "environment": {**environment(), "threads": number}}

    def _prepare_record(self) -> str | None:
        """The name of ``prepare``, and a checksum of the first batch, which tells it from others of that
        name."""
        if self.prepare is None:
            return None
        name = getattr(self.prepare, "__qualname__", type(self.prepare).__qualname__)
        with loading(1):
            first, again = _checksum(self.load(1)), _checksum(self.load(1))
        if first != again:
            raise ArgumentError("train: prepare: a function of the images and rng alone expected, but "
                                f"{name} made two different batches of the same")
        return f"{name} (first batch {first})"

    def rehearse(self) -> None:
        """Try everything once, on copies of the model."""
        with loading(1):
            images = self.load(1)
        kind = type(self.model).__name__
        try:
            if not self.prepare:
                self.model.check(self.images)
            trial = copy.deepcopy(self.model)
            metrics = self.step(trial, 1, copy.deepcopy(images))    # it may write into them
            state = trial.state()
            checks.state(f"train: {kind}.state", state)
            state = _finite_state(1, {name: numpy.array(value) for name, value in state.items()})   # as saved
            expected = self._second_step(trial, images)
            trial = copy.deepcopy(self.model)
            trial.load_state(state)
            if self._second_step(trial, images) != expected:
                raise ArgumentError(
                    f"train: model: a {kind} that depends on state(), images and rng alone expected, but "
                    "after load_state(state()) the next step or its samples are others: add to the state "
                    "what else the model keeps, and draw random numbers from rng")
            if self.sample_at:
                drawn = self.draw(trial)
                if drawn.ndim != 2:
                    save_grid(io.BytesIO(), drawn)
        except (ArgumentError, Diverged, MemoryError, OSError):
            raise
        except Exception as error:      # the model's own, or whatever its ops say about unfit images
            shapes = " and ".join(f"{array.dtype} {array.shape}" for array in _each(images))
            raise ArgumentError(f"train: one step of {kind} with images {shapes}, tried beforehand, failed: "
                                f"{error or type(error).__name__}") from error
        if self.evaluate:
            self.measure(trial, metrics)

    def _second_step(self, model: Model, images: Any) -> tuple[str, ...]:
        """Checksums of the model's state and samples after one more step; its metrics may hold a time. On a
        GPU there is none, since sums there may differ in their last bits."""
        if backend.name() != "numpy":
            return ()
        self.step(model, 2, copy.deepcopy(images))
        samples = {"samples": self.draw(model)} if self.sample_at else {}
        return checkpoints.checksum(model.state()), checkpoints.checksum(samples)

    def load(self, i: int) -> Any:
        """The images of the iteration i."""
        indices = self.batches.indices(i)
        chosen = tuple(array[indices] for array in self.arrays)
        images = chosen if isinstance(self.images, tuple) else chosen[0]
        if self.prepare:
            images = checks.prepared(self.prepare(images, numpy.random.default_rng((self.seed, _PREPARE, i))))
            self.model.check(images)
        return images

    def step(self, model: Model, i: int, images: Any) -> Metrics:
        """The step i of the model, on this rank's share of the images, and its metrics."""
        with ranks.shared_step():
            share = tuple(to_device(ranks.share(array)) for array in _each(images))
            metrics = model.step(share if isinstance(images, tuple) else share[0],
                                 numpy.random.default_rng((self.seed, _STEP, i)))
        return checks.numbers(f"train: {type(model).__name__}.step", metrics, taken=("iteration",))

    def draw(self, model: Model) -> numpy.ndarray:
        """Samples of the model (samples, height, width, channels), or points (samples, D), always from the
        same latents."""
        generated = model.sample(self.samples, numpy.random.default_rng((self.seed, _SAMPLE)))
        architecture = model.build()
        if architecture is not None and not architecture.pictures:
            return to_host(generated)
        images = numpy.clip(to_host(generated), 0, 1)       # a model may overshoot, a picture cannot
        shape = self.image_shape
        if shape is None and images.ndim != 4:
            raise ArgumentError(f"train: image_shape: (height, width) expected, to draw samples of shape "
                                f"{images.shape[1:]}, None found")
        if shape is not None and math.prod(shape) != math.prod(images.shape[1:]):
            raise ArgumentError(f"train: image_shape: the shape of samples {images.shape[1:]} expected, "
                                f"{shape} found")
        return images if shape is None else images.reshape(-1, *shape)

    def measure(self, model: Model, metrics: Mapping[str, Any]) -> dict[str, float]:
        """What ``evaluate`` finds, under other names than those of ``metrics``. Networks that it leaves in
        evaluation mode would be trained in that, but for a resumed run's."""
        with kept_modes(*model.networks.values()):
            found = self.evaluate(model)
        return checks.plain(checks.numbers("train: evaluate", found, {"iteration", *metrics}))

    def go(self, run: Run, done: int) -> None:
        """Train from the iteration after ``done`` to the end."""
        i, steps, writes = done, range(done + 1, self.iterations + 1), ranks.rank() == 0
        pending: list[tuple[int, Metrics]] = []     # not yet looked at: that would wait for the device
        with (signals.received() as signalled, self._loaded(steps) as batches,
              progress(run.folder.name, done, self.iterations, writes) as shown):
            for i, images in zip(steps, batches):
                pending.append((i, self.step(self.model, i, images)))
                shown.step()
                with _saying_how_to_go_on(run, i):
                    self._record(run, i, pending, shown, writes)
                    stopping = _first_signal(signalled)
                    if stopping or i % self.checkpoint_every == 0 or i == self.iterations:
                        _finite(pending)
                        state = _finite_state(i, self.model.state())
                        if writes:
                            run.save_checkpoint(i, state)
                if stopping:
                    break
            stopping = _first_signal(signalled)     # also one after the last checkpoint
        if stopping:
            raise signals.Interrupted(f"stopped at iteration {i} of {self.iterations}; {run.folder} can be "
                                      "resumed", stopping)

    def _record(self, run: Run, i: int, pending: list[tuple[int, Metrics]], shown: Progress,
                writes: bool) -> None:
        """Log metrics and draw samples, if this is the iteration for it and this the rank that writes."""
        logged = i % self.log_every == 0 or i in self.evaluate_at or i == self.iterations
        if not (logged or i in self.sample_at or shown.due(i)):
            return
        metrics, measured = _finite(pending), {}
        shown.show(i, metrics)
        if i in self.evaluate_at or i in self.sample_at:
            _finite_state(i, self.model.state())        # first, since of NaN they make nothing or nonsense
        if not writes:
            return
        if self.evaluate and i in self.evaluate_at:
            measured = self.measure(self.model, metrics)
        if logged:
            run.log({"iteration": i, **metrics, **measured})
        if i in self.sample_at:
            run.save_samples(i, self.draw(self.model))

    @contextmanager
    def _loaded(self, steps: range) -> Iterator[Iterator[Any]]:
        """The images of each step in turn, prepared ahead of time if there is anything to prepare."""
        with closing(prefetch(self.load, steps)) if self.prepare else nullcontext(map(self.load, steps)) as (
                loaded):
            yield loaded


@contextmanager
def _saying_how_to_go_on(run: Run, iteration: int) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        newest = max((saved for saved, _ in run.checkpoints()), default=0)
        raise OSError(error.errno, f"{error.strerror} at iteration {iteration}; resume=True (--resume) goes "
                      f"on from iteration {newest}", error.filename) from error


def _finite(pending: list[tuple[int, Metrics]]) -> dict[str, float]:
    """Empty ``pending`` and return its last metrics, means over the ranks; ``Diverged`` at the first value
    that is not finite."""
    named = [(i, name, value) for i, metrics in pending for name, value in metrics.items()]
    if not named:
        return {}
    found = ranks.mean(to_host(xp.stack([xp.asarray(value) for _, _, value in named])))
    for (iteration, name, _), value in zip(named, found):
        if not math.isfinite(value):
            raise Diverged(f"{name} is {value} at iteration {iteration}")
    last = list(pending[-1][1])
    pending.clear()
    return dict(zip(last, map(float, found[-len(last):])))


def _first_signal(signalled: list[int]) -> int:
    """A signal that one of the ranks has received, the same for all of them, or 0."""
    if ranks.size() == 1:
        return signalled[0] if signalled else 0
    received = numpy.zeros(max(signal.Signals) + 1)
    received[signalled] = 1
    return int(ranks.total(received).nonzero()[0].max(initial=0))


def _finite_state(iteration: int, state: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]:
    """The state of a model; ``Diverged`` if an array of it is not finite."""
    for name, array in state.items():
        if not numpy.isfinite(array).all():
            raise Diverged(f"{name} is no longer finite at iteration {iteration}")
    return state


def _checksum(images: Any) -> str:
    return checkpoints.checksum({str(i): to_host(array) for i, array in enumerate(_each(images))})


def _each(images: Any) -> tuple[Any, ...]:
    return images if isinstance(images, tuple) else (images,)


def _plain(value: Any) -> Any:
    """The value with lists for tuples and for what NumPy has, as JSON returns them."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value.tolist() if isinstance(value, (numpy.generic, numpy.ndarray)) else value
