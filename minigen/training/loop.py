"""The one training loop."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager, nullcontext
from typing import Any

import numpy
from tqdm import tqdm

from minigen.backend import Array, to_device, to_host, xp
from minigen.models import Model
from minigen.training.batches import Batches, fingerprint, prefetch
from minigen.training.run import Run

# Streams of random numbers: a generator is made from (seed, stream, position), so that nothing needs to be
# saved and a resumed run, wherever it was stopped, draws the same numbers.
_ORDER, _STEP, _SAMPLE, _PREPARE = 1, 2, 3, 4

Prepare = Callable[[numpy.ndarray, numpy.random.Generator], numpy.ndarray]
Metrics = dict[str, Array]


class Diverged(FloatingPointError):
    """A loss or a parameter became NaN or infinite; the message names it and the iteration."""


def train(model: Model, images: numpy.ndarray, *, iterations: int, out: str | os.PathLike[str],
          batch_size: int = 64, seed: int = 0, resume: bool = False, prepare: Prepare | None = None,
          evaluate: Callable[[Model], dict[str, float]] | None = None, evaluate_at: Collection[int] = (),
          sample_at: Collection[int] = (), samples: int = 64, log_every: int = 100,
          checkpoint_every: int = 1000) -> Run:
    """Train ``model`` on ``images`` (N, ...) for ``iterations`` steps, recorded in the run directory ``out``.

    Each step takes ``model.batches_per_step`` batches of images, drawn without replacement within an epoch.
    If ``prepare`` is given, another thread calls ``prepare(images, rng)`` on each batch ahead of time, so
    that ``images`` may be a file on the disk; a failure there is raised here, as ``LoadError``. Metrics are
    logged every ``log_every`` iterations, and at the iterations in ``evaluate_at`` together with
    ``evaluate(model)``. Grids of ``samples`` generated images are written at the iterations in ``sample_at``,
    and checkpoints every ``checkpoint_every``.

    With ``resume`` the run in ``out``, if there is one, goes on from its newest readable checkpoint and ends
    bit for bit where it would have ended without the interruption (same machine, same number of threads).
    Without it an earlier run is replaced. Ctrl-C finishes the iteration, saves a checkpoint and raises
    ``KeyboardInterrupt``. ``Diverged`` is raised when a loss or a parameter is no longer finite; no
    checkpoint is written then.
    """
    batch = batch_size * model.batches_per_step
    if min(iterations, batch_size, log_every, checkpoint_every) < 1:
        raise ValueError("train: iterations, batch_size, log_every and checkpoint_every must be at least 1")
    if batch > len(images):
        raise ValueError(f"train: one step takes {batch} images, but there are only {len(images)}")

    # Begin a run, or go on with an earlier one.
    run, first = Run(out), 1
    config = {"model": type(model).__name__, "settings": model.settings(), "seed": seed,
              "batch_size": batch_size, "data": fingerprint(images), "iterations": iterations}
    if resume and run.config_path.exists():
        first += run.resume(config, model)
    else:
        run.begin(config)
    steps, start = range(first, iterations + 1), time.perf_counter()

    pending: list[tuple[int, Metrics]] = []     # metrics not yet looked at: that would wait for the device
    with (_interrupt_flag() as interrupted, _loaded(images, batch, seed, prepare, steps) as batches,
          tqdm(desc=run.folder.name, total=iterations, initial=first - 1, disable=None) as bar):
        for i, step_images in zip(steps, batches):
            # One step.
            rng = numpy.random.default_rng((seed, _STEP, i))
            pending.append((i, model.step(to_device(step_images), rng)))
            bar.update()

            # Metrics and samples.
            if i % log_every == 0 or i in evaluate_at or i == iterations:
                metrics = _finite(pending)
                if evaluate and i in evaluate_at:
                    metrics |= evaluate(model)
                run.log({"iteration": i, **metrics})
            if i in sample_at:
                generated = model.sample(samples, numpy.random.default_rng((seed, _SAMPLE)))
                run.save_samples(i, model.to_unit_range(generated))

            # A checkpoint, and the end if Ctrl-C was pressed before.
            stopped = interrupted.is_set()
            if stopped or i % checkpoint_every == 0 or i == iterations:
                _finite(pending)
                run.save_checkpoint(i, _finite_state(i, model))
            if stopped:
                raise KeyboardInterrupt(f"stopped at iteration {i} of {iterations}; {out} can be resumed")
    if steps:
        run.images_per_second = batch * len(steps) / (time.perf_counter() - start)
    return run


@contextmanager
def _loaded(images: numpy.ndarray, batch: int, seed: int, prepare: Prepare | None,
            steps: range) -> Iterator[Iterator[numpy.ndarray]]:
    """The images of each step in turn, prepared ahead of time if ``prepare`` is given."""
    batches = Batches(len(images), batch, (seed, _ORDER))

    def load(i: int) -> numpy.ndarray:
        chosen = images[batches.indices(i)]
        return prepare(chosen, numpy.random.default_rng((seed, _PREPARE, i))) if prepare else chosen
    with closing(prefetch(load, steps)) if prepare else nullcontext(map(load, steps)) as loaded:
        yield loaded


def _finite(pending: list[tuple[int, Metrics]]) -> dict[str, float]:
    """Empty ``pending`` and return its last metrics; ``Diverged`` at the first value that is not finite."""
    if not pending:
        return {}
    columns = {name: to_host(xp.stack([metrics[name] for _, metrics in pending])) for name in pending[-1][1]}
    for row, (iteration, _) in enumerate(pending):
        for name, column in columns.items():
            if not math.isfinite(column[row]):
                raise Diverged(f"{name} is {column[row]} at iteration {iteration}")
    pending.clear()
    return {name: float(column[-1]) for name, column in columns.items()}


def _finite_state(iteration: int, model: Model) -> dict[str, numpy.ndarray]:
    """The model's state; ``Diverged`` if an array of it is not finite."""
    state = model.state()
    for name, array in state.items():
        if not numpy.isfinite(array).all():
            raise Diverged(f"{name} is no longer finite at iteration {iteration}")
    return state


@contextmanager
def _interrupt_flag() -> Iterator[threading.Event]:
    """An event that the first Ctrl-C sets; the second raises KeyboardInterrupt at once.

    Only the main thread gets signals: elsewhere the event is never set.
    """
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
