"""Named arrays to a file and back, whole or not at all, and the folder where results are kept between runs."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy


def save(path: Path, arrays: dict[str, numpy.ndarray]) -> None:
    """Write the arrays as an uncompressed .npz file that appears under its name only when it is complete on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f"{path.stem}-", suffix=".part", delete=False) as file:
        try:
            numpy.savez(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def load(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of a file written by ``save``; ``ValueError`` that names the file if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()     # compares every checksum
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        with numpy.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except FileNotFoundError:
        raise
    except Exception as error:      # noise instead of a file makes the readers raise almost anything
        raise ValueError(f"{path} is damaged: {error}") from error


def cache_folder() -> Path:
    """``MINIGEN_CACHE`` if set, else minigen's folder in the platform's usual place for caches."""
    if chosen := os.environ.get("MINIGEN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(base) / "minigen"
