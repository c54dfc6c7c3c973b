"""The run directory: configuration, metrics, samples and checkpoints; and loading its trained model.

    config.json             model, settings, seed, batch size, iterations, versions, threads
    metrics.jsonl           one JSON object per logged iteration
    samples/00001000.png    a grid of generated images
    checkpoints/00001000.npz
"""

from __future__ import annotations

import json
import os
import platform
import warnings
from pathlib import Path
from typing import Any

import numpy

from minigen import backend, figures, models, storage
from minigen.models import Model
from minigen.version import __version__

_KEPT = 3       # checkpoints
_SAME = ("model", "settings", "seed", "batch_size", "data")       # must not change when a run is resumed


class RunError(ValueError):
    """The run directory cannot be used as asked; the message is one line that says why."""


class Run:
    """The run directory ``folder``; only the methods create or change anything in it.

    ``images_per_second`` is the overall speed of the training that returned this Run; None if no step was
    left.
    """

    images_per_second: float | None = None

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        self.config_path = self.folder / "config.json"
        self.metrics_path = self.folder / "metrics.jsonl"
        self.samples_folder = self.folder / "samples"
        self.checkpoints_folder = self.folder / "checkpoints"

    def begin(self, config: dict[str, Any]) -> None:
        """Start a new record: remove an earlier run's files, and keep anything else in the folder."""
        for path in (*self._checkpoints(), *(path for _, path in self.samples())):
            path.unlink()
        self._prepare_folders()
        storage.write_text(self.metrics_path, "")
        self._write_config(config)

    def resume(self, config: dict[str, Any], model: Model) -> int:
        """Give ``model`` the state of the newest readable checkpoint, and return that checkpoint's iteration.

        Metrics and samples of later iterations are removed, because they will be written again. Without a
        checkpoint, the run begins anew and the result is 0. ``RunError`` if the earlier run had other
        settings or went beyond ``iterations``.
        """
        before = self.config()
        earlier, asked = _flat(before), _flat(json.loads(json.dumps(config)))
        for key in {**earlier, **asked}:
            one, other = earlier.get(key), asked.get(key)
            if one != other:
                raise RunError(f"{self.folder} cannot be resumed: its {key} is {one}, but {other} is asked "
                               "for")
        if before["environment"] != environment():
            warnings.warn(f"{self.folder} is resumed in another environment than it began in, so its last "
                          f"bits may differ from an uninterrupted run's ({before['environment']}, now "
                          f"{environment()})", stacklevel=2)
        iteration, state = self.newest_checkpoint()
        if iteration > config["iterations"]:
            raise RunError(f"{self.folder} is already at iteration {iteration}, beyond the "
                           f"{config['iterations']} asked for")
        if state is None:
            self.begin(config)
            return 0
        self._load_state(model, state)
        self._prepare_folders()
        kept = [json.dumps(record) + "\n" for record in self.metrics() if record["iteration"] <= iteration]
        storage.write_text(self.metrics_path, "".join(kept))
        for sampled, path in self.samples():
            if sampled > iteration:
                path.unlink()
        self._write_config(config)
        return iteration

    def _prepare_folders(self) -> None:
        for folder in (self.checkpoints_folder, self.samples_folder):
            folder.mkdir(parents=True, exist_ok=True)
        for name in ("config.json", "metrics.jsonl", "checkpoints/[0-9]*.npz"):
            for unfinished in self.folder.glob(f"{name}.*.part"):       # of a run killed in the middle
                unfinished.unlink()

    def _load_state(self, model: Model, state: dict[str, numpy.ndarray]) -> None:
        try:
            model.load_state(state)
        except ValueError as error:
            raise RunError(f"{self.folder}: its newest checkpoint does not belong to the model in "
                           f"{self.config_path.name}: {error}") from error

    def _write_config(self, config: dict[str, Any]) -> None:
        text = json.dumps({**config, "environment": environment()}, indent=2)
        storage.write_text(self.config_path, text + "\n")

    def config(self) -> dict[str, Any]:
        """The record in config.json; ``RunError`` if it is missing or damaged."""
        try:
            config = json.loads(self.config_path.read_text())
            config["settings"] = dict(config["settings"])
            return {key: config[key] for key in (*_SAME, "iterations", "environment")}
        except OSError as error:
            raise RunError(f"{self.folder} is no run directory: {self.config_path.name}: "
                           f"{error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.config_path} is damaged: {error}") from error

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics_path.open("a") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The logged records. If a killed run left the last line unfinished, that line is skipped.

        ``RunError`` if any other line is damaged.
        """
        lines = self.metrics_path.read_text().split("\n") if self.metrics_path.exists() else [""]
        try:
            return [json.loads(line) for line in lines[:-1]]     # every complete line ends with a line break
        except ValueError as error:
            raise RunError(f"{self.metrics_path} is damaged: {error}") from error

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """The iterations at which the metric ``name`` was logged, and its values there."""
        records = [record for record in self.metrics() if name in record]
        return [record["iteration"] for record in records], [record[name] for record in records]

    def save_samples(self, iteration: int, images: numpy.ndarray) -> None:
        """Write a grid of the images as samples/<iteration>.png."""
        figures.save_grid(self.samples_folder / f"{iteration:08d}.png", images)

    def samples(self) -> list[tuple[int, Path]]:
        """The iterations at which samples were written, oldest first, each with the path of its picture."""
        paths = sorted(self.samples_folder.glob("*.png"))
        return [(int(path.stem), path) for path in paths if path.stem.isdigit()]

    def save_checkpoint(self, iteration: int, state: dict[str, numpy.ndarray]) -> None:
        """Write checkpoints/<iteration>.npz, whole or not at all, and remove all but the newest few."""
        storage.save(self.checkpoints_folder / f"{iteration:08d}.npz", state)
        for path in self._checkpoints()[_KEPT:]:
            path.unlink()

    def newest_checkpoint(self) -> tuple[int, dict[str, numpy.ndarray] | None]:
        """The iteration and state of the newest readable checkpoint, or (0, None) if there is none.

        A damaged checkpoint is skipped with a warning that names it.
        """
        for path in self._checkpoints():
            try:
                return int(path.stem), storage.load(path)
            except ValueError as error:
                warnings.warn(f"checkpoint skipped: {error}", stacklevel=2)
        return 0, None

    def _checkpoints(self) -> list[Path]:
        paths = sorted(self.checkpoints_folder.glob("*.npz"), reverse=True)
        return [path for path in paths if path.stem.isdigit()]


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """The entries that must not change when a run is resumed, with a separate one for each of the model's
    settings."""
    same = {key: config[key] for key in _SAME if key != "settings"}
    return {**same, **{f"settings.{key}": value for key, value in config["settings"].items()}}


def environment() -> dict[str, Any]:
    """Versions, backend and threads, on which the last bits of a result depend."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return {"minigen": __version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "backend": backend.name(), "processors": os.cpu_count(),
            "threads": {name: os.environ[name] for name in names if name in os.environ}}


def load(folder: str | os.PathLike[str]) -> Model:
    """The trained model of a run directory, built with its settings and loaded from its newest readable
    checkpoint.

    ``RunError`` if the folder is not a run directory or has no readable checkpoint.
    """
    run = Run(folder)
    config = run.config()
    if config["model"] not in models.__all__ or config["model"] == "Model":
        raise RunError(f"{run.config_path}: unknown model {config['model']!r}")
    try:
        model = getattr(models, config["model"])(**config["settings"])
    except (TypeError, ValueError) as error:
        raise RunError(f"{run.config_path}: not the settings of a {config['model']}: {error}") from error
    _, state = run.newest_checkpoint()
    if state is None:
        raise RunError(f"{run.folder} has no readable checkpoint")
    run._load_state(model, state)
    return model
