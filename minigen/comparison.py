"""Models compared: each trained with every seed, side by side, and judged by the entropies of its images."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy

from minigen import ranks, threads, training, workers
from minigen.core import to_host
from minigen.datasets import Dataset
from minigen.experiment import Experiment, Trial, Variant
from minigen.metrics import classifier, entropy, frechet, neighbours
from minigen.models import Model

SAMPLES = 10_000        # generated images that the entropies are measured on
KEPT = 64               # of them that are kept
NEIGHBOURS = 5          # the ball of a sample reaches to this one
COMPARED = 5_000        # of them, and of the test images, that are compared by the classifier's features

_REFUSALS = (training.ArgumentError, training.RunError)     # of arguments and folders, alike for all runs
_ACCIDENTS = (training.Diverged, training.Interrupted, training.LoadError, workers.Lost, MemoryError, OSError)


@dataclass(frozen=True)
class Judged:
    """A trial after its training: its run, ``KEPT`` of its ``SAMPLES`` images (KEPT, height, width,
    channels), and their class probabilities.

    ``fidelity`` has what the classifier's features of generated images and of test images say: precision,
    recall, density, coverage and the Fréchet distance; it is empty if that was not asked for.
    """

    trial: Trial
    run: training.Run
    images: numpy.ndarray
    probabilities: numpy.ndarray
    fidelity: Mapping[str, float]

    @cached_property
    def model(self) -> Model:
        """The trained model."""
        return training.load(self.run.folder, self.trial.kind)

    @property
    def labels(self) -> numpy.ndarray:
        """The most probable class of each image: (SAMPLES,) integers."""
        return self.probabilities.argmax(axis=1)

    @property
    def image_entropies(self) -> numpy.ndarray:
        """The entropy of each image: (SAMPLES,), in nats."""
        return to_host(entropy.image_entropy(self.probabilities))

    @property
    def entropies(self) -> dict[str, float]:
        """``mode_entropy`` and the mean ``image_entropy``, in nats."""
        return entropy.measure(self.probabilities)


def trained_judge(data: Dataset) -> classifier.Classifier:
    """The classifier of these images, trained or taken from the cache; ``ArgumentError`` if there can be
    none."""
    sizes = (math.prod(data.image_shape), classifier.Classifier.sizes[1], data.classes)
    try:
        return classifier.trained(data.train_images, data.train_labels, sizes=sizes)
    except ValueError as error:
        raise training.ArgumentError(f"{data.name}: {error}") from error


def side_by_side(work: Callable[[Trial], Any], trials: Sequence[Trial],
                 args: argparse.Namespace) -> dict[str, list[Any]]:
    """What ``work`` returns for each of the trials, done by ``--jobs`` workers: by group, one per seed.

    ``work`` is pickled for them. If a run fails, the others go on to their end before ``workers.Failed``
    names it.
    """
    jobs = min(len(trials), args.jobs or max(1, threads.cores() // (args.threads or 1)))
    if ranks.size() > 1:        # they share each training
        jobs = 1
    outcomes = workers.each(work, trials, jobs, args.threads)
    _raise_failures({trial.folder: outcome for trial, outcome in zip(trials, outcomes)
                     if isinstance(outcome, BaseException)}, len(trials), args.out)
    groups: dict[str, list[Any]] = {}
    for trial, outcome in zip(trials, outcomes):
        groups.setdefault(trial.group, []).append(outcome)
    return groups


class Comparison(Experiment):
    """An Experiment whose models are compared by a ``judge``."""

    def __init__(self, args: argparse.Namespace, data: Dataset) -> None:
        super().__init__(args, data)
        if data.classes is None or data.classes < 2:
            raise training.ArgumentError(f"{data.name}: images of at least 2 classes expected, which the "
                                         f"entropies are about, {data.classes} found")

    @cached_property
    def judge(self) -> classifier.Classifier:
        """The classifier, trained or taken from the cache."""
        return trained_judge(self.data)

    @property
    def compared(self) -> int:
        """The number of test images that generated ones are compared with."""
        return min(COMPARED, len(self.data.test_images))

    @property
    def ceiling(self) -> str:
        """What the mode entropy can be at most, in words: with infinitely many images, and with these."""
        classes = self.data.classes or 1
        return (f"log {classes} = {math.log(classes):.3f}, a uniform generator's "
                f"{entropy.uniform_entropy(SAMPLES, classes):.3f}")

    def __reduce__(self) -> tuple[Any, ...]:
        return _in_worker, (self.args, self.judge)      # a worker loads the data itself

    def train_and_judge(self, kinds: Mapping[str, type[Model] | Variant], evaluate_at: Any = (),
                        sample_at: Any = (), log_every: int = 100, fidelity: bool = False,
                        **settings: Any) -> dict[str, list[Judged]]:
        """All ``trials`` of the ``kinds``, trained by ``--jobs`` workers and judged: by group, one per seed.

        At the iterations ``evaluate_at`` the entropies are logged, at ``sample_at`` samples are drawn. With
        ``fidelity`` generated images are compared with test images. If a run fails, the others go on to their
        end before ``workers.Failed`` names it.
        """
        if fidelity and self.compared <= NEIGHBOURS:
            raise training.ArgumentError(f"{self.data.name}: more than {NEIGHBOURS} test images to compare "
                                         f"with expected, {self.compared} found")
        trials = self.trials(kinds, sizes=self.sizes, **settings)
        accuracy = self.judge.accuracy(self.data.test_images, self.data.test_labels)
        self.results = {"data": self.data.name, "samples": SAMPLES, "classifier_accuracy": accuracy,
                        "uniform_entropy": entropy.uniform_entropy(SAMPLES, self.data.classes or 1)}
        print(f"classifier: {accuracy:.2%} of the test images right"
              + " (the paper's: 95.4%)" * self.is_mnist, flush=True)
        work = partial(self._train_and_judge, evaluate_at=evaluate_at, sample_at=sample_at,
                       log_every=log_every, fidelity=fidelity)
        return side_by_side(work, trials, self.args)

    def _train_and_judge(self, trial: Trial, evaluate_at: Any, sample_at: Any, log_every: int,
                         fidelity: bool) -> Judged:
        model = self.build(trial)
        run = self.train(model, trial.folder, evaluate=self.entropies if evaluate_at else None,
                         evaluate_at=evaluate_at, sample_at=sample_at, log_every=log_every)
        images = model.sample(SAMPLES, rng=0)
        probabilities = to_host(self.judge.predict_proba(images))
        return Judged(trial, run, self.pictures(images[:KEPT]).copy(), probabilities,
                      self._fidelity(images[:COMPARED]) if fidelity else {})

    def _fidelity(self, images: Any) -> dict[str, float]:
        real, generated = self._real_features, to_host(self.judge.features(images))
        return {**neighbours.measure(real, generated, NEIGHBOURS),
                "frechet": frechet.distance(real, generated)}

    @cached_property
    def _real_features(self) -> numpy.ndarray:
        return to_host(self.judge.features(self.data.test_images[:COMPARED]))

    def entropies(self, model: Model) -> dict[str, float]:
        """The mode entropy and the mean image entropy of generated images, always for the same latents."""
        return entropy.measure(self.judge.predict_proba(model.sample(SAMPLES, rng=0)))


_opened: list[Comparison] = []      # in a worker process, at most one


def _in_worker(args: argparse.Namespace, judge: classifier.Classifier) -> Comparison:
    """The Comparison that was pickled, the same one for each of the worker's trials."""
    if not _opened or _opened[0].args != args:
        comparison = Comparison.__new__(Comparison)
        comparison.args, comparison.judge = args, judge
        _opened[:] = [comparison]
    return _opened[0]


def _raise_failures(failures: Mapping[str, BaseException], runs: int, out: Path) -> None:
    """``workers.Failed``, with a line for each failure; the failure itself if it is about the flags, or if
    it is a fault in the program."""
    for error in failures.values():
        if not isinstance(error, (*_REFUSALS, *_ACCIDENTS)):
            raise error
    if failures and all(isinstance(error, _REFUSALS) for error in failures.values()):
        raise next(iter(failures.values()))
    if failures:
        lines = [f"{out / folder}: {error or type(error).__name__}" for folder, error in failures.items()]
        raise workers.Failed("\n".join([f"{len(failures)} of {runs} runs failed, --resume does the rest:",
                                        *lines]))
