"""Arrays and text to a file, whole or not at all; arrays back; and the folder where results are kept between
runs."""

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
    """A new file that takes the place of ``path`` once it is complete on the disk, or else is removed."""
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
    """Write the arrays as an uncompressed .npz file, whole or not at all."""
    with replacing(path) as file:
        numpy.savez(file, **arrays)


def write_text(path: Path, text: str) -> None:
    """Write the text as UTF-8, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def load(path: Path) -> dict[str, numpy.ndarray]:
    """The arrays of a file written by ``save``; ``ValueError`` that names the file if it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()     # compares every checksum
        if damaged is not None:
            raise ValueError(f"the checksum of {damaged} is wrong")
        with numpy.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except OSError:
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
