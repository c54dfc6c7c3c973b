"""The spine of an experiment: models trained on the data and judged, and a record of tables, figures and
results."""

from __future__ import annotations

import argparse
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy

from minigen import storage, training
from minigen.core import to_host
from minigen.datasets import Dataset
from minigen.metrics import classifier, entropy
from minigen.models import Model
from minigen.networks import SIZES
from minigen.training.run import environment

SAMPLES = 10_000        # generated images that the entropies are measured on
KEPT = 64               # of them that are kept


@dataclass(frozen=True)
class Judged:
    """A trained model, its run, ``KEPT`` of its ``SAMPLES`` images (KEPT, height, width, channels), and their
    class probabilities."""

    model: Model
    run: training.Run
    images: numpy.ndarray
    probabilities: numpy.ndarray

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


class Experiment:
    """One call of an example: ``args`` are its flags, ``data`` what they name; it writes to ``args.out``.

    With ``judged`` the classifier that measures entropies is trained at once, or taken from the cache.
    """

    def __init__(self, args: argparse.Namespace, data: Dataset | None = None, judged: bool = False) -> None:
        self.args = args
        self.data = data
        self.start = time.perf_counter()
        self.folders: list[str] = []
        self.files: list[str] = []
        self.results: dict[str, Any] = {}
        if judged:
            if data.classes is None or data.classes < 2:
                raise training.ArgumentError(f"{data.name}: images of at least 2 classes expected, which the "
                                             f"entropies are about, {data.classes} found")
            sizes = (self.sizes[0], classifier.Classifier.sizes[1], data.classes)
            try:
                self.judge = classifier.trained(data.train_images, data.train_labels, sizes=sizes)
            except ValueError as error:
                raise training.ArgumentError(f"{data.name}: {error}") from error
            accuracy = self.judge.accuracy(data.test_images, data.test_labels)
            self.results = {"data": data.name, "samples": SAMPLES, "classifier_accuracy": accuracy}
            print(f"classifier: {accuracy:.2%} of the test images right"
                  + " (the paper's: 95.4%)" * self.is_mnist)

    @property
    def is_mnist(self) -> bool:
        """Whether the data are the paper's."""
        return self.data.name == "MNIST"

    def paper(self, number: str) -> dict[str, str]:
        """A table's column with the paper's ``number``, if it is about the same data."""
        return {"paper": number} if self.is_mnist else {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The paper's layers, for images of this data set's size."""
        return (math.prod(self.data.image_shape), *SIZES[1:])

    def pictures(self, images: Any) -> numpy.ndarray:
        """Rows of pixels as images (N, height, width, channels), on the host."""
        return to_host(images).reshape(-1, *self.data.image_shape)

    def build(self, kind: Callable[..., Model], seed: int, **settings: Any) -> Model:
        """A model of this ``kind``; ``ArgumentError`` says which of its settings, the flags, cannot be."""
        try:
            return kind(seed=seed, **settings)
        except (TypeError, ValueError) as error:
            raise training.ArgumentError(str(error)) from error

    def train(self, model: Model, folder: str, **options: Any) -> training.Run:
        """Train ``model`` with its own seed, recorded in ``folder``; ``options`` are ``training.train``'s."""
        args = self.args
        self.folders.append(folder)
        every = args.checkpoint_every or min(1000, max(1, args.iterations // 20))
        return training.train(model, self.data.train_images, iterations=args.iterations, seed=model.seed,
                              batch_size=args.batch_size, resume=args.resume, overwrite=args.overwrite,
                              out=args.out / folder, checkpoint_every=every,
                              image_shape=self.data.image_shape, **options)

    def train_seeds(self, kind: Callable[..., Model], folder: str, **settings: Any) -> list[Judged]:
        """A model of this ``kind`` and ``settings`` for each of the seeds, trained and judged."""
        results = []
        for seed in range(self.args.seed, self.args.seed + self.args.seeds):
            model = self.build(kind, seed, sizes=self.sizes, **settings)
            run = self.train(model, f"{folder}_seed{seed}")
            images = model.sample(SAMPLES, rng=0)
            probabilities = to_host(self.judge.predict_proba(images))
            results.append(Judged(model, run, self.pictures(images[:KEPT]).copy(), probabilities))
        return results

    def entropies(self, model: Model) -> dict[str, float]:
        """The mode entropy and the mean image entropy of generated images, always for the same latents."""
        return entropy.measure(self.judge.predict_proba(model.sample(SAMPLES, rng=0)))

    def figure(self, name: str, draw: Callable[..., None], *content: Any, **options: Any) -> None:
        """Call ``draw``, one of ``figures``, to write the file ``name``."""
        path = self.args.out / name
        with storage.naming(path):
            draw(path, *content, **options)
        self.files.append(name)

    def table(self, title: str, rows: Mapping[str, Mapping[str, str]]) -> None:
        """Print ``title`` and a table: a row per name, a column per key of the first row."""
        columns = list(next(iter(rows.values())))
        cells = [["", *columns]] + [[name, *map(row.get, columns)] for name, row in rows.items()]
        widths = [max(map(len, column)) for column in zip(*cells)]
        print(f"\n{title}")
        for name, *values in cells:
            print(name.ljust(widths[0]), *(f"  {value:>{width}}" for value, width in zip(values, widths[1:])))

    def finish(self, name: str = "summary.json", **results: Any) -> None:
        """Write ``results`` as JSON, with the command, the seeds, the versions and the seconds; say where."""
        first, count = self.args.seed, getattr(self.args, "seeds", 1)
        record = {"command": shlex.join(sys.argv), "seeds": list(range(first, first + count)),
                  "versions": environment(), "seconds": round(time.perf_counter() - self.start, 1)}
        storage.write_text(self.args.out / name, json.dumps(record | self.results | results, indent=2) + "\n")
        runs = f"; run directories {', '.join(self.folders)}" if self.folders else ""
        print(f"\n{self.args.out}: {', '.join([*self.files, name])}{runs}")


def spread(values: Sequence[float]) -> str:
    """The mean of the values and, if there are several, their standard deviation in brackets."""
    return f"{numpy.mean(values):.3f}" + (f" ({numpy.std(values, ddof=1):.3f})" if len(values) > 1 else "")
