"""Loading the trained model of a run directory."""

from __future__ import annotations

import os
from typing import TypeVar, overload

from minigen import models
from minigen.checks import shown
from minigen.models import Model
from minigen.training.run import Run, RunError

_M = TypeVar("_M", bound=Model)


@overload
def load(folder: str | os.PathLike[str], kind: type[_M], iteration: int | None = None) -> _M:
    ...


@overload
def load(folder: str | os.PathLike[str], kind: None = None, iteration: int | None = None) -> Model:
    ...


def load(folder: str | os.PathLike[str], kind: type[Model] | None = None,
         iteration: int | None = None) -> Model:
    """The trained model of a run directory, built with its settings and loaded from its newest readable
    checkpoint, or from the checkpoint of this iteration.

    ``kind`` is the model's class, if that is not one of minigen's own. ``RunError`` if the folder is not a
    run directory, is another class's, or has no readable checkpoint, or none of this iteration.
    """
    run = Run(folder)
    model = build(run, kind)
    there = [i for i, _ in run.checkpoints()]
    if iteration is not None and there and iteration not in there:
        raise RunError(f"{run.folder} has no checkpoint of iteration {shown(iteration)}, only of "
                       f"{', '.join(map(str, reversed(there)))}")
    if run.restore(model, iteration) is None:
        raise RunError(f"{run.folder} has no checkpoint yet")
    return model


def build(run: Run, kind: type[Model] | None = None) -> Model:
    """The model of a run with its settings, not trained; ``RunError`` in the same cases as ``load``."""
    config = run.config()
    name, remedy = config["model"], ""
    if kind is None:
        remedy = ": if it is a class of your own, training.load(folder, kind) takes it"
        if name not in models.__all__ or name == "Model":
            raise RunError(f"{run.config_path}: unknown model {shown(name)}{remedy}")
        kind = getattr(models, name)
    if not (isinstance(kind, type) and issubclass(kind, Model)):
        raise TypeError(f"load: kind: a class of models expected, {shown(kind)} found")
    if kind.__name__ != name:
        raise RunError(f"{run.config_path}: the model is a {shown(name)}, but {kind.__name__} is asked for")
    try:
        return kind(**config["settings"])
    except Exception as error:      # wrong settings make constructors raise almost anything
        raise RunError(f"{run.config_path}: not the settings of a {name}: {error}{remedy}") from error
