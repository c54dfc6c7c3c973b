"""The run directory: configuration, metrics, samples and checkpoints.

    config.json             model, settings, seed, batch size, data, iterations, versions, threads
    metrics.jsonl           one JSON object per logged iteration
    samples/00001000.png    a grid of generated images, or .npz: generated points
    checkpoints/00001000.npz
    .lock                   only while a process trains into the folder, or if it was killed
"""

from __future__ import annotations

import json
import math
import os
import platform
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy

from minigen import backend, storage, threads
from minigen.models import Model
from minigen.training import checkpoints
from minigen.checks import shown
from minigen.version import __version__

_KEPT = 3       # checkpoints
_SAME = ("model", "settings", "seed", "batch_size", "data", "prepare")      # stay the same in a resumed run
_PNG_END = b"IEND\xaeB`\x82"
_REPLACE = "overwrite=True (--overwrite) replaces it"


class RunError(ValueError):
    """The run directory cannot be used as asked; the message is one line that says why."""


class Run:
    """The run directory ``folder``; only the methods create or change anything in it.

    ``images_per_second`` is the overall speed of the training that returned this Run; None if no step was
    left.
    """

    images_per_second: float | None = None

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        with storage.naming(folder):        # of the working directory, if that is gone
            self.folder = storage.expand("Run", folder).absolute()      # also after a change of it
        self.config_path = self.folder / "config.json"
        self.metrics_path = self.folder / "metrics.jsonl"
        self.samples_folder = self.folder / "samples"
        self.checkpoints_folder = self.folder / "checkpoints"
        self.lock_path = self.folder / ".lock"
        self.identity: dict[str, Any] = {}
        self.every = self.end = 1       # iterations from checkpoint to checkpoint, and of the run
        self.locked: os.stat_result | None = None

    def __repr__(self) -> str:
        try:
            config = self.config()
        except (OSError, RunError):
            return f"Run({str(self.folder)!r}): no run yet"
        newest = max([iteration for iteration, _ in self.checkpoints()], default=0)
        return (f"Run({str(self.folder)!r}): {config['model']}, checkpoint of iteration {newest} "
                f"of {config['iterations']}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes and threads from training into the folder; ``RunError`` if one does now."""
        storage.make_folder(self.folder)
        path = self.lock_path
        try:
            with storage.lock(path) as held:
                self.locked = path.stat() if held else None
                try:
                    yield
                finally:
                    if held and self._is_ours():
                        with suppress(OSError):     # a file that stays is no lock
                            path.unlink()
        except BlockingIOError:
            raise RunError(f"{self.folder} is in use: another process or thread trains into it") from None

    def exists(self) -> bool:
        """Whether the folder holds anything of a run that could be lost."""
        return bool(self.config_path.exists() or self.checkpoints() or self._sample_paths()
                    or self.metrics_path.exists() and self.metrics_path.stat().st_size)

    def refuse_earlier(self) -> None:
        """``RunError`` if there is a run in the folder."""
        if self.exists():
            raise RunError(f"{self.folder} holds a run already: resume=True (--resume) goes on with it, "
                           f"{_REPLACE}")

    def begin(self, config: dict[str, Any]) -> None:
        """Start a new record: remove an earlier run's files, and keep anything else in the folder."""
        self.config_path.unlink(missing_ok=True)        # first: from now on there is nothing to resume
        for _, path in (*self.checkpoints(), *self._sample_paths()):
            path.unlink()
        self._prepare_folders()
        storage.write_text(self.metrics_path, "")
        self._write_config(config)

    def resume(self, config: dict[str, Any], model: Model) -> int:
        """Give ``model`` the state of the newest readable checkpoint, and return that checkpoint's iteration.

        Metrics and samples of later iterations are removed, because they will be written again. If there is
        no checkpoint yet, the run begins anew and the result is 0. ``RunError`` if the earlier run had other
        settings or went beyond ``iterations``, or if its record is damaged; then nothing is changed.
        """
        if not self.exists():
            self.begin(config)
            return 0
        before = self.config()
        _same(self.folder, before, config)
        earlier, now = before["environment"], config["environment"]
        changes = [f"{name} was {earlier.get(name)}, now {now[name]}" for name in now
                   if earlier.get(name) != now[name]]
        if changes:
            warnings.warn(f"{self.folder} is resumed in another environment than it began in, so its last "
                          f"bits may differ from an uninterrupted run's: {', '.join(changes)}", stacklevel=2)
        record = self.restore(model)
        if record is None:
            self._refuse_lost_checkpoints(before["checkpoint_every"])
            if before["start"] != config["start"]:
                raise RunError(f"{self.folder} has no checkpoint yet, and the model is not in the state that "
                               f"the run began with: build it anew, or {_REPLACE}")
            self.begin(config)
            return 0
        iteration = record["iteration"]
        if iteration > config["iterations"]:
            raise RunError(f"{self.folder} is already at iteration {iteration}, beyond the "
                           f"{config['iterations']} asked for")
        kept = self._logged()[:record["metrics"]]
        if zlib.crc32(kept) != record["metrics_crc32"]:
            raise RunError(f"{self.metrics_path} is damaged: the {record['metrics']} bytes that this run had "
                           f"logged until iteration {iteration} expected, others found")
        self._prepare_folders()
        storage.write_text(self.metrics_path, kept.decode())
        for sampled, path in self._sample_paths():
            if sampled > iteration:
                path.unlink()
        self._write_config(config)
        self._remove_superseded(iteration)
        return iteration

    def restore(self, model: Model, iteration: int | None = None) -> dict[str, Any] | None:
        """Give ``model`` the state of the newest checkpoint, or of that of this iteration, and return that
        checkpoint's record.

        A damaged checkpoint, or one of another run or model, is skipped with a warning that says so. None if
        there are no checkpoints, ``RunError`` if there is no other.
        """
        found = [(i, path) for i, path in self.checkpoints() if iteration in (None, i)]
        identity = _flat(self.config())
        for i, path in found:
            try:
                state, record = checkpoints.read(path, {**identity, "iteration": i})
                _load_state(model, state, path)
                return record
            except ValueError as error:
                warnings.warn(f"checkpoint skipped: {error}", stacklevel=3)
        others = [str(i) for i, path in self.checkpoints() if (i, path) not in found]
        if found and others:
            raise RunError(f"{self.folder}: the checkpoint of iteration {iteration} is damaged or of another "
                           f"model; there are others, of {', '.join(others[::-1])}")
        if found:
            names = ", ".join(path.name for _, path in found)
            raise RunError(f"{self.folder} has no checkpoint that can be used: {names} are damaged or of "
                           f"another model; {_REPLACE}")
        return None

    def _prepare_folders(self) -> None:
        for folder in (self.checkpoints_folder, self.samples_folder):
            storage.make_folder(folder)
        for name in ("config.json", "metrics.jsonl"):
            storage.remove_unfinished(self.folder, name)
        storage.remove_unfinished(self.checkpoints_folder, "[0-9]*.npz")
        storage.remove_unfinished(self.samples_folder, "[0-9]*.png")
        storage.remove_unfinished(self.samples_folder, "[0-9]*.npz")

    def _write_config(self, config: dict[str, Any]) -> None:
        self.identity = _flat(config)
        self.every, self.end = config["checkpoint_every"], config["iterations"]
        storage.write_text(self.config_path, json.dumps(config, indent=2, allow_nan=False) + "\n")

    def config(self) -> dict[str, Any]:
        """The record in config.json; ``RunError`` if it is missing or damaged."""
        try:
            config = json.loads(storage.read(self.config_path))
            for key in ("settings", "environment"):
                config[key] = dict(config[key])
            if not all(type(config[key]) is int for key in ("iterations", "checkpoint_every")):
                raise TypeError("whole numbers expected as iterations and checkpoint_every")
            others = ("start", "iterations", "checkpoint_every", "environment")
            return {key: config[key] for key in (*_SAME, *others)}
        except (FileNotFoundError, NotADirectoryError):
            found = f"it has no {self.config_path.name}"
            if self.exists():       # as after an --overwrite that was killed
                found = f"it holds what is left of a run, but no {self.config_path.name}; {_REPLACE}"
            raise RunError(f"{self.folder} is no run directory: {found}") from None
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RunError(f"{self.config_path} is damaged: {type(error).__name__}: {error}") from error

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; NaN and infinity, which JSON lacks, are null there."""
        self._refuse_replaced()
        found = {name: value if math.isfinite(value) else None for name, value in record.items()}
        storage.append_text(self.metrics_path, json.dumps(found, allow_nan=False) + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The logged records, with NaN for what was not finite. If a killed run left the last line
        unfinished, that line is skipped.

        ``RunError`` names any other line that is damaged.
        """
        records = []
        for number, line in enumerate(self._logged().split(b"\n")[:-1], 1):      # a complete line ends so
            try:
                record = json.loads(line.decode())
                if not isinstance(record, dict) or type(record["iteration"]) is not int:
                    raise TypeError
            except (KeyError, RecursionError, TypeError, ValueError):
                raise RunError(f"{self.metrics_path} is damaged: line {number}: a JSON object with its "
                               f"iteration expected, {shown(line.decode(errors='replace'))} found") from None
            records.append({name: math.nan if value is None else value for name, value in record.items()})
        return records

    def _logged(self) -> bytes:
        return storage.read(self.metrics_path) if self.metrics_path.exists() else b""

    def curve(self, name: str) -> tuple[list[int], list[float]]:
        """The iterations at which the metric ``name`` was logged, and its values there."""
        records = [record for record in self.metrics() if name in record]
        return [record["iteration"] for record in records], [record[name] for record in records]

    def save_samples(self, iteration: int, images: numpy.ndarray) -> None:
        """Write a grid of the images (N, height, width, channels) as samples/<iteration>.png, or points (N,
        D) as samples/<iteration>.npz."""
        self._refuse_deleted()
        if images.ndim == 2:
            storage.save(self.samples_folder / f"{iteration:08d}.npz", {"points": images})
            return
        with storage.replacing(self.samples_folder / f"{iteration:08d}.png") as file:
            save_grid(file, images)

    def samples(self) -> list[tuple[int, Path]]:
        """The iterations at which samples were written, oldest first, each with the path of its picture.

        A picture that is cut is left out with a warning.
        """
        whole = []
        for iteration, path in _numbered(self.samples_folder, "png"):
            if storage.read(path).endswith(_PNG_END):
                whole.append((iteration, path))
            else:
                warnings.warn(f"samples left out: {path} is damaged", stacklevel=2)
        return whole

    def points(self) -> list[tuple[int, numpy.ndarray]]:
        """The iterations at which points were written, oldest first, each with its points (N, D).

        Points whose file is damaged are left out with a warning.
        """
        whole = []
        for iteration, path in _numbered(self.samples_folder, "npz"):
            try:
                whole.append((iteration, storage.load(path)["points"]))
            except (KeyError, ValueError):
                warnings.warn(f"points left out: {path} is damaged", stacklevel=2)
        return whole

    def _sample_paths(self) -> list[tuple[int, Path]]:
        return [found for suffix in ("png", "npz") for found in _numbered(self.samples_folder, suffix)]

    def save_checkpoint(self, iteration: int, state: dict[str, numpy.ndarray]) -> None:
        """Write checkpoints/<iteration>.npz, whole or not at all, and remove all but the newest few.

        The metrics so far are on the disk before it gets its name.
        """
        self._refuse_deleted()
        storage.sync(self.metrics_path)
        logged = storage.read(self.metrics_path)
        record = {**self.identity, "iteration": iteration, "metrics": len(logged),
                  "metrics_crc32": zlib.crc32(logged)}
        checkpoints.write(self.checkpoints_folder / f"{iteration:08d}.npz", state, record)
        self._remove_superseded(iteration)

    def _remove_superseded(self, iteration: int) -> None:
        """Remove all but the newest few of the checkpoints up to this iteration.

        Those of interruptions go with the next regular one, so that in the end there are the same as without.
        """
        found = [(i, path) for i, path in self.checkpoints() if i <= iteration]
        regular = [(i, path) for i, path in found if i % self.every == 0 or i == self.end]
        others = [(i, path) for i, path in found if (i, path) not in regular]
        superseded = [(i, path) for i, path in others if regular and i < regular[0][0]]
        for _, path in {*superseded, *others[_KEPT:], *regular[_KEPT:]}:
            path.unlink()

    def checkpoints(self) -> list[tuple[int, Path]]:
        """The iterations of the checkpoints, newest first, each with its path."""
        return _numbered(self.checkpoints_folder, "npz")[::-1]

    def _refuse_lost_checkpoints(self, every: int) -> None:
        logged = max([record["iteration"] for record in self.metrics()], default=0)
        if logged > every:
            raise RunError(f"{self.folder} has no checkpoint left, but metrics up to iteration {logged}; "
                           f"{_REPLACE}")

    def _refuse_deleted(self) -> None:
        """``FileNotFoundError`` if the run was deleted meanwhile: it would come back without its record."""
        self.config_path.stat()
        self._refuse_replaced()

    def _refuse_replaced(self) -> None:
        """``RunError`` if the run was deleted and another process has begun one in its place."""
        if not self._is_ours():
            raise RunError(f"{self.folder} was deleted, and another run has begun in it")

    def _is_ours(self) -> bool:
        """Whether no other process or thread has made a lock of its own."""
        try:
            return self.locked is None or os.path.samestat(self.locked, self.lock_path.stat())
        except FileNotFoundError:
            return True


def save_grid(file: Any, images: numpy.ndarray) -> None:
    """Write a grid of the images (N, height, width, channels) as a PNG."""
    from minigen import figures     # here, as most processes draw nothing, and matplotlib is slow to import
    figures.save_grid(file, images)


def _numbered(folder: Path, suffix: str) -> list[tuple[int, Path]]:
    """The files in the folder whose names are numbers, in their order."""
    return sorted((int(path.stem), path) for path in folder.glob(f"[0-9]*.{suffix}")
                  if path.stem.isascii() and path.stem.isdigit() and not path.is_dir())


def _flat(config: dict[str, Any]) -> dict[str, Any]:
    """The entries that must not change when a run is resumed, as JSON returns them, with a separate one for
    each of the model's settings."""
    same = {key: config[key] for key in _SAME if key != "settings"}
    found = {**same, **{f"settings.{key}": value for key, value in config["settings"].items()}}
    return json.loads(json.dumps(found))


def _same(folder: Path, before: dict[str, Any], config: dict[str, Any]) -> None:
    earlier, asked = _flat(before), _flat(config)
    for key in {**earlier, **asked}:
        one, other = earlier.get(key), asked.get(key)
        if one != other:
            raise RunError(f"{folder} cannot be resumed: its {key} is {one}, but {other} is asked for")


def _load_state(model: Model, state: dict[str, numpy.ndarray], path: Path) -> None:
    try:
        model.load_state(state)
    except ValueError as error:
        raise ValueError(f"{path} does not belong to the model: {error}") from error


def environment() -> dict[str, Any]:
    """What computes: versions, backend and BLAS, on which the last bits of a result depend."""
    return {"minigen": __version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "blas": threads.blas_name(), **backend.about()}
