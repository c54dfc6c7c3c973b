"""Write arrays and text to files, whole or not at all; read arrays; find the cache folder.

The cache folder keeps results between runs.
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A new file that replaces ``path`` once it is complete on the disk, and is removed if that fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def save(path: Path, arrays: dict[str, numpy.ndarray]) -> None:
    """Write the arrays as an uncompressed .npz file, which gets its name only once complete on the disk."""
    with replacing(path) as file:
        numpy.savez(file, **arrays)


def write_text(path: Path, text: str) -> None:
    """Write the text as UTF-8, whole or not at all, as ``save`` does."""
    with replacing(path) as file:
        file.write(text.encode())


def load(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of a file written by ``save``. If it is damaged, ``ValueError`` names the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()     # compares every checksum
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        with numpy.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError:
        raise
    except Exception as error:      # on random bytes the readers raise almost anything
        raise ValueError(f"{path} is damaged: {error}") from error


def cache_folder() -> Path:
    """``MINIGEN_CACHE`` if set, otherwise minigen's folder in the platform's usual cache directory."""
    if chosen := os.environ.get("MINIGEN_CACHE"):
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")
    return Path(base) / "minigen"
