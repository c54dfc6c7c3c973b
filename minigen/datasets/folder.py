"""Your own pictures: any folder of them."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path

from minigen import checks, storage
from minigen.datasets import pictures
from minigen.datasets.dataset import Dataset

# Pictures as cameras and scanners write them, which are not read: nobody should miss them without a word.
_OTHERS = (".arw", ".avif", ".cr2", ".cr3", ".dng", ".heic", ".heif", ".jp2", ".jxl", ".nef", ".tif",
           ".tiff")


def folder(path: str | os.PathLike[str], size: int = 64, channels: int = 3) -> Dataset:
    """The pictures in the folder ``path`` and its subfolders: images (N, size, size, channels) uint8, and the
    names of their files (N,), relative to the folder, in place of labels.

    The files are JPEG, PNG, WebP, BMP or GIF (its first frame) and named so, in small letters or capitals;
    those that begin with a dot are passed over. A warning counts pictures in formats that are not read. A
    picture is turned as its EXIF orientation says, cut to the square in its middle and resized with
    antialiasing; where it is transparent, it becomes white. ``channels`` is 3 for colour, 1 for grey. A tenth
    of the pictures, at least one, are for test. Their names decide which, so it is always the same.

    The pictures are decoded once, on all processors. The result is a file in ``storage.cache_folder()``,
    which is checked and mapped into memory. Those that cannot be decoded are left out; a warning counts them
    and names the first five; one that cannot be read is an ``OSError``. ``FileNotFoundError`` if there is no
    such folder; ``ValueError`` if it is not a folder or holds fewer than two pictures.
    """
    size = checks.whole("folder", "size", size, most=pictures.LARGEST)
    if checks.whole("folder", "channels", channels) not in (1, 3):
        raise ValueError(f"folder: channels: 1 (grey) or 3 (colour) expected, {channels} found")
    root = storage.expand("folder", path)
    if not root.is_dir():
        if root.exists():
            raise ValueError(f"{root}: a folder of pictures expected, a file found (unpack it if it is an "
                             "archive)")
        raise FileNotFoundError(f"{root}: no such folder; one with pictures expected")
    files = sorted(_files(root))
    names = [name for name in files if name.lower().endswith(pictures.SUFFIXES)]
    if others := [name for name in files if name.lower().endswith(_OTHERS)]:
        warnings.warn(f"{root}: {len(others)} picture{'s' * (len(others) > 1)} left out: convert to JPEG or "
                      f"PNG first ({others[0]}{', ...' * (len(others) > 1)})", stacklevel=2)
    if len(names) < 2:
        raise ValueError(f"{root}: at least 2 pictures ({' '.join(pictures.SUFFIXES)}) expected, "
                         f"{len(names)} found")
    shuffled = sorted(names, key=lambda name: hashlib.sha256(os.fsencode(name)).digest())
    test = set(shuffled[:max(1, round(len(names) / 10))])
    parts = [name for name in names if name not in test], sorted(test)
    return pictures.load(pictures.Folder(root, names), parts, size, int(channels), root.resolve().name)


def _files(root: Path) -> list[str]:
    """The files' paths, from ``root`` on, with slashes. Links to folders are followed, but none twice."""
    found, waiting, seen = [], [root], {root.resolve()}
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.name.startswith((".", "__MACOSX")):
                continue
            if path.is_dir():
                if path.resolve() not in seen:
                    seen.add(path.resolve())
                    waiting.append(path)
            else:
                found.append(path.relative_to(root).as_posix())
    return found
