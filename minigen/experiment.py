"""The spine of an experiment: models built and trained, and a record of tables, figures and results."""

from __future__ import annotations

import argparse
import itertools
import json
import math
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy

from minigen import datasets, ranks, storage, threads, training
from minigen.core import to_host
from minigen.datasets import Dataset
from minigen.models import Model
from minigen.networks import SIZES
from minigen.training.run import environment

CHOSEN = ("seed", "sizes", "width")     # settings with flags of their own, or that the data choose


@dataclass(frozen=True)
class Variant:
    """A kind of model with settings of its own. A list among them varies, as several values of --set do."""

    kind: type[Model]
    title: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One training: a model of this ``kind`` with these ``settings``, recorded in ``folder``.

    ``group`` is the folder's name without the seed, and ``title`` is the model's title. Both name the
    settings that vary, whose values are ``varied``.
    """

    kind: type[Model]
    settings: Mapping[str, Any]
    folder: str
    group: str
    title: str
    varied: Mapping[str, Any]


class Experiment:
    """One call of an example: ``args`` are its flags, ``data`` what they name; it writes to ``args.out``."""

    def __init__(self, args: argparse.Namespace, data: Dataset | None = None) -> None:
        self.args = args
        if data is not None:
            self.data = data
        self.start = time.perf_counter()
        self.folders: list[str] = []
        self.files: list[str] = []
        self.results: dict[str, Any] = {}

    @cached_property
    def data(self) -> Dataset:
        """The data; a worker process loads them when it needs them."""
        return datasets.mnist(self.args.data)

    @property
    def is_mnist(self) -> bool:
        """Whether the data are the paper's."""
        return self.data.name == "MNIST"

    def paper(self, number: float) -> dict[str, str]:
        """A table's column with the paper's ``number``, if it is about the same data."""
        return {"paper": f"{number:.3f}"} if self.is_mnist else {}

    @property
    def sizes(self) -> tuple[int, ...]:
        """The paper's layers, for images of this data set's size."""
        return (math.prod(self.data.image_shape), *SIZES[1:])

    def pictures(self, images: Any) -> numpy.ndarray:
        """Rows of pixels as images (N, height, width, channels), on the host."""
        return to_host(images).reshape(-1, *self.data.image_shape)

    def trials(self, kinds: Mapping[str, type[Model] | Variant], **settings: Any) -> list[Trial]:
        """A Trial for each of the ``kinds``, each combination of the settings that vary, and each seed.

        Each kind takes only the settings that it has. --set overrides a Variant's own settings, and these
        override ``settings``. ``ArgumentError`` says which of the flags cannot be, ``ValueError`` which
        setting a Variant cannot have.
        """
        variants = {name: kind if isinstance(kind, Variant) else Variant(kind, kind.title, {})
                    for name, kind in kinds.items()}
        self._refuse_unknown([*dict.fromkeys(variant.kind for variant in variants.values())])
        trials = []
        for name, variant in variants.items():
            kind, chosen = variant.kind, self.args.set
            own = {field.name for field in fields(kind)}
            if unknown := variant.settings.keys() - (own - {"seed"}):
                raise ValueError(f"Variant {name}: settings of {kind.title} expected, "
                                 f"{', '.join(sorted(unknown))} found")
            given = {key: value for key, value in {**chosen, **settings, **variant.settings, **chosen}.items()
                     if key in own}         # in the order of --set, which has the last word
            lists = {key: value for key, value in given.items() if isinstance(value, list)}
            for values in itertools.product(*lists.values()):
                one = dict(zip(lists, values))
                varied = {key: value for key, value in one.items() if len(lists[key]) > 1}
                group = "_".join([name, *(f"{key}{value}" for key, value in varied.items())])
                title = ", ".join([variant.title, *(f"{key} {value}" for key, value in varied.items())])
                for seed in self.seeds:
                    folder = f"{group}_seed{seed}" if hasattr(self.args, "seeds") else group
                    trials.append(Trial(kind, {**given, **one, "seed": seed}, folder, group, title, varied))
        for trial in trials:
            if trial.settings["seed"] == self.args.seed:        # the others have the same settings
                self.build(trial)
            if not (self.args.resume or self.args.overwrite or ranks.rank()):
                training.Run(self.args.out / trial.folder).refuse_earlier()
        self.folders += [trial.folder for trial in trials]
        return trials

    @property
    def seeds(self) -> range:
        """The seeds that the flags name."""
        return range(self.args.seed, self.args.seed + getattr(self.args, "seeds", 1))

    def _refuse_unknown(self, kinds: Sequence[type[Model]]) -> None:
        names = dict.fromkeys(field.name for kind in kinds for field in fields(kind))
        known = [name for name in names if name not in CHOSEN]
        for name in self.args.set:
            if name not in known:
                titles = " or ".join(kind.title for kind in kinds)
                has_flag = name in CHOSEN and hasattr(self.args, name)
                what = f", --{name} chooses it" if has_flag else f": {', '.join(known)} expected"
                raise training.ArgumentError(f"argument --set: {name!r} is no setting of {titles}{what}")

    def build(self, trial: Trial) -> Model:
        """The model of the trial; ``ArgumentError`` says which of its settings, the flags, cannot be."""
        try:
            return trial.kind(**trial.settings)
        except (TypeError, ValueError) as error:
            raise training.ArgumentError(str(error)) from error

    def train(self, model: Model, folder: str, **options: Any) -> training.Run:
        """Train ``model`` with its own seed, recorded in ``folder``; ``options`` are ``training.train``'s."""
        args = self.args
        every = args.checkpoint_every or min(1000, max(1, args.iterations // 20))
        return training.train(model, self.data.train_images, iterations=args.iterations, seed=model.seed,
                              batch_size=args.batch_size, resume=args.resume, overwrite=args.overwrite,
                              out=args.out / folder, checkpoint_every=every,
                              image_shape=self.data.image_shape, **options)

    def figure(self, name: str, draw: Callable[..., Any], *content: Any, **options: Any) -> None:
        """Call ``draw``, one of ``figures``, to write a file: ``name``, with the suffix that --figures asks
        for unless it has one."""
        path = self.args.out / (name if "." in name else f"{name}.{self.args.figures}")
        if ranks.rank() == 0:
            with storage.naming(path):
                draw(path, *content, **options)
        self.files.append(path.name)

    def table(self, title: str, rows: Mapping[str, Mapping[str, str]]) -> None:
        """Print ``title`` and a table: a row per name, a column per key of the first row."""
        columns = list(next(iter(rows.values())))
        cells = [["", *columns]] + [[name, *map(row.get, columns)] for name, row in rows.items()]
        widths = [max(map(len, column)) for column in zip(*cells)]
        print(f"\n{title}")
        for name, *values in cells:
            print(name.ljust(widths[0]), *(f"  {value:>{width}}" for value, width in zip(values, widths[1:])))

    def finish(self, **results: Any) -> None:
        """Write ``results`` to summary.json, and how they were made to command.json; say where all is.

        The same flags give the same summary, byte for byte, however many workers there are; command.json has
        the command, the versions, the machine and the seconds.
        """
        made = {"command": shlex.join(sys.argv), "versions": environment(), "machine": threads.machine(),
                "seconds": round(time.perf_counter() - self.start, 1)}
        for name, content in (("summary.json", {"seeds": list(self.seeds), **self.results, **results}),
                              ("command.json", made)):
            if ranks.rank() == 0:
                storage.write_text(self.args.out / name, json.dumps(content, indent=2) + "\n")
        few = self.folders if len(self.folders) < 9 else [*self.folders[:2], "...", self.folders[-1]]
        runs = ", ".join(few)
        runs = f"; run directories {runs}" if runs else ""
        print(f"\n{self.args.out}: {', '.join([*self.files, 'summary.json', 'command.json'])}{runs}")


def span(interval: Mapping[str, float], digits: int = 3) -> str:
    """The mean of a difference, and its confidence interval in brackets."""
    mean, low, high = (f"{interval[name]:+.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} [{low}, {high}]"


def spread(values: Sequence[float]) -> str:
    """The mean of the values and, if there are several, their standard deviation in brackets."""
    return f"{numpy.mean(values):.3f}" + (f" ({numpy.std(values, ddof=1):.3f})" if len(values) > 1 else "")
