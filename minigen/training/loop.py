"""The one training loop."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
import zlib
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import numpy
from tqdm import tqdm

from minigen.backend import Array, to_device, to_host, xp
from minigen.models import Model
from minigen.training.run import Run

# Streams of random numbers: a generator is made from (seed, stream, position), so that nothing needs to be saved and a
# resumed run, wherever it was stopped, draws the same numbers.
_ORDER, _STEP, _SAMPLE, _PREPARE = 1, 2, 3, 4

Prepare = Callable[[numpy.ndarray, numpy.random.Generator], numpy.ndarray]
_AHEAD = 2          # batches that are ready before they are needed


class Diverged(FloatingPointError):
    """A loss or a parameter became NaN or infinite; the message names it and the iteration."""


class LoadError(RuntimeError):
    """A batch could not be loaded or prepared; the message names the iteration and the cause, which is its ``__cause__``."""


def train(model: Model, images: numpy.ndarray, *, iterations: int, out: str | os.PathLike[str], batch_size: int = 64,
          seed: int = 0, resume: bool = False, prepare: Prepare | None = None,
          evaluate: Callable[[Model], dict[str, float]] | None = None, evaluate_at: Collection[int] = (),
          sample_at: Collection[int] = (), samples: int = 64, log_every: int = 100, checkpoint_every: int = 1000) -> Run:
    """Train ``model`` on ``images`` (N, ...) for ``iterations`` steps, recorded in the run directory ``out``.

    Each step takes ``model.batches_per_step`` batches of images, drawn without replacement within an epoch, and, if given,
    ``prepare(images, rng)`` of them, which another thread has ready by then, so that ``images`` may be a file on the disk; what
    fails there is raised here, as ``LoadError``. Losses are logged every ``log_every`` iterations, together with
    ``evaluate(model)`` at the iterations in ``evaluate_at``; grids of ``samples`` generated images are written at those in
    ``sample_at``, and checkpoints every ``checkpoint_every``.

    With ``resume`` the run in ``out``, if there is one, goes on from its newest readable checkpoint and ends bit for bit
    where it would have ended without the interruption (same machine, same number of threads). Otherwise a run that is
    there is replaced. Ctrl-C finishes the iteration, saves a checkpoint and raises ``KeyboardInterrupt``; ``Diverged`` is
    raised when a loss or a parameter is no longer finite, and no checkpoint is written then.
    """
    batch = batch_size * model.batches_per_step
    if min(iterations, batch_size, log_every, checkpoint_every) < 1:
        raise ValueError("train: iterations, batch_size, log_every and checkpoint_every must be at least 1")
    if batch > len(images):
        raise ValueError(f"train: one step takes {batch} images, but there are only {len(images)}")
    run = Run(out)
    config = {"model": type(model).__name__, "settings": model.settings(), "seed": seed, "batch_size": batch_size,
              "data": _fingerprint(images), "iterations": iterations}
    if resume and run.config_path.exists():
        iteration = run.go_on(config, model)
    else:
        run.begin(config)
        iteration = 0
    batches = _Batches(len(images), batch, seed)

    def load(i: int) -> numpy.ndarray:
        chosen = images[batches.indices(i)]
        return prepare(chosen, numpy.random.default_rng((seed, _PREPARE, i))) if prepare else chosen
    to_do = range(iteration + 1, iterations + 1)
    began, start = iteration, time.perf_counter()
    pending: list[tuple[int, dict[str, Array]]] = []     # losses not yet looked at: that would wait for the device
    with (_interrupt_flag() as interrupted, closing(_ahead(load, to_do)) if prepare else nullcontext(map(load, to_do)) as loaded,
          tqdm(desc=run.folder.name, total=iterations, initial=iteration, disable=None) as bar):
        for iteration, step_images in zip(to_do, loaded):
            rng = numpy.random.default_rng((seed, _STEP, iteration))
            pending.append((iteration, model.step(to_device(step_images), rng)))
            bar.update()
            logged = iteration % log_every == 0 or iteration in evaluate_at or iteration == iterations
            if logged:
                losses, pending = _finite(pending), []
                metrics = evaluate(model) if evaluate and iteration in evaluate_at else {}
                run.log({"iteration": iteration, **losses, **metrics})
            if iteration in sample_at:
                run.save_samples(iteration, model.pictures(model.sample(samples, numpy.random.default_rng((seed, _SAMPLE)))))
            stopped = interrupted.is_set()
            if stopped or iteration % checkpoint_every == 0 or iteration == iterations:
                if pending:
                    _finite(pending)
                    pending = []
                state = model.state()
                _assert_finite(iteration, state)
                run.save_checkpoint(iteration, state)
            if stopped:
                raise KeyboardInterrupt(f"stopped at iteration {iteration} of {iterations}; {run.folder} can be resumed")
    if iteration > began:
        run.images_per_second = batch * (iteration - began) / (time.perf_counter() - start)
    return run


class _Batches:
    """Which images make up which step: every epoch a new random order, cut into batches, an incomplete last one left out."""

    def __init__(self, n: int, batch: int, seed: int) -> None:
        self.n, self.batch, self.seed = n, batch, seed
        self.epoch = -1

    def indices(self, iteration: int) -> numpy.ndarray:
        epoch, position = divmod(iteration - 1, self.n // self.batch)
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = numpy.random.default_rng((self.seed, _ORDER, epoch)).permutation(self.n)
        return self.order[position * self.batch:(position + 1) * self.batch]


def _ahead(load: Callable[[int], numpy.ndarray], iterations: range) -> Iterator[numpy.ndarray]:
    """load(i) for each iteration in turn, each loaded on another thread while those before are in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(load, i) for i in iterations[:_AHEAD])
        try:
            for i in iterations:
                if i + _AHEAD in iterations:
                    waiting.append(thread.submit(load, i + _AHEAD))
                try:
                    images = waiting.popleft().result()
                except Exception as error:
                    raise LoadError(f"the images of iteration {i} could not be loaded: {error}") from error
                yield images
        finally:
            for future in waiting:
                future.cancel()


def _fingerprint(images: numpy.ndarray) -> str:
    """What tells one data set from another: shape, dtype, and a checksum of a thousand images spread over the whole."""
    rows = numpy.ascontiguousarray(images[::max(1, len(images) // 1000)])
    return f"{images.dtype} {images.shape} crc32 {zlib.crc32(rows):08x}"


def _finite(pending: list[tuple[int, dict[str, Array]]]) -> dict[str, float]:
    """The losses of the last pending iteration; ``Diverged`` at the first one that is not finite."""
    columns = {name: to_host(xp.stack([losses[name] for _, losses in pending])) for name in pending[-1][1]}
    for row, (iteration, _) in enumerate(pending):
        for name, column in columns.items():
            if not math.isfinite(column[row]):
                raise Diverged(f"{name} is {column[row]} at iteration {iteration}")
    return {name: float(column[-1]) for name, column in columns.items()}


def _assert_finite(iteration: int, state: dict[str, numpy.ndarray]) -> None:
    for name, array in state.items():
        if not numpy.isfinite(array).all():
            raise Diverged(f"{name} is no longer finite at iteration {iteration}")


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises KeyboardInterrupt at once. Only the main thread gets signals."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag
        return

    def interrupt(number: int, frame: Any) -> None:
        flag.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)
