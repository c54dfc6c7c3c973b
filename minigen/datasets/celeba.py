"""CelebA: aligned and cropped photographs of faces, from the distributed zip archive or folder."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import warnings
import zipfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
from PIL import Image
from tqdm import tqdm

from minigen import storage
from minigen.datasets.dataset import Dataset

__all__ = ["celeba"]

ARCHIVE, FOLDER, PARTITION = "img_align_celeba.zip", "img_align_celeba", "list_eval_partition.txt"

_BOX = (15 / 178, 40 / 218, 163 / 178, 188 / 218)       # left, top, right, bottom of the crop, as shares
# Limits for one image; a CelebA photograph has about 10 kB and 39 thousand pixels.
_MOST_BYTES, _MOST_PIXELS = 16 << 20, 16 << 20
_TRAIN, _TEST = 162_770 / 202_599, 19_962 / 202_599     # CelebA's own shares, if there is no partition
_LAYOUT = (f"give {ARCHIVE} (\"Align&Cropped Images\" at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html), "
           "or a folder that holds it or its unpacked images 000001.jpg, 000002.jpg, ..., with "
           f"{PARTITION} beside them if you have it")


def celeba(root: str | os.PathLike[str], side: int = 64) -> Dataset:
    """CelebA from ``root``: images (N, side, side, 3) uint8, and the names of their files (N,) in place of
    labels.

    ``root`` is img_align_celeba.zip, which is read in place, or a folder that holds it, or a folder that
    holds the unpacked images NNNNNN.jpg, directly or in its subfolder img_align_celeba. If
    list_eval_partition.txt is beside them, it says which images are for training and which are for test;
    those for validation are left out. Otherwise, in the order of their names, the first 80 % are for training
    and the last 10 % for test, as in CelebA. An image of 178 x 218 pixels is cropped to the square of rows 40
    to 188 and columns 15 to 163, an image of another size in proportion. The crop is then made smaller with
    antialiasing.

    This is done once, on all processors. The result is a file in ``storage.cache_folder()``, which is mapped
    into memory, not read. Images that cannot be decoded are left out; a warning counts them and names the
    first five. ``FileNotFoundError`` says where to get CelebA; ``ValueError`` says what differs from this
    description.
    """
    source = _source(Path(root))
    try:
        parts = _parts(source)
        key = hashlib.sha256(json.dumps([source.stamp, parts, side, _BOX]).encode()).hexdigest()[:16]
        pixels = storage.cache_folder() / f"celeba_{key}.bin"
        index_path = pixels.with_suffix(".json")
        if not _complete(pixels, index_path, side):
            _build(source, parts, side, pixels, index_path)
    finally:
        source.close()
    index = json.loads(index_path.read_text())
    if index["damaged"]:
        first = "; ".join(f"{name}: {why}" for name, why in index["damaged"][:5])
        warnings.warn(f"{source.path}: {len(index['damaged'])} of {sum(map(len, parts))} images cannot be "
                      "read and are left out "
                      f"({first}{'; ...' if len(index['damaged']) > 5 else ''})", stacklevel=2)
    names = [numpy.array(part) for part in index["names"]]
    for part, what in zip(names, ("training", "test")):
        if not len(part):
            raise ValueError(f"{source.path}: no readable image for {what} among {sum(map(len, parts))} "
                             "images")
    images = numpy.memmap(pixels, numpy.uint8, "r", shape=(len(names[0]) + len(names[1]), side, side, 3))
    return Dataset(images[:len(names[0])], names[0], images[len(names[0]):], names[1], name="CelebA")


class _Folder:
    """A folder of images NNNNNN.jpg."""

    def __init__(self, path: Path, names: list[str]) -> None:
        self.path, self.names = path, names
        self.stamp = [str(path.resolve()), [(name, *_change(path / name)) for name in names]]

    def read(self, name: str) -> bytes:
        path = self.path / name
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"{path.stat().st_size:,} bytes are more than any photograph here has")
        return path.read_bytes()

    def partition(self) -> tuple[str, bytes] | None:
        return _file_in(self.path, self.path.parent, self.path.parent / "Eval")

    def close(self) -> None:
        pass


class _Archive:
    """The zip archive; its members are read one by one, and nothing is ever unpacked to the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stamp = [str(path.resolve()), *_change(path)]
        try:
            self.zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path}: a zip archive or a folder expected: {error}") from error
        self.members = {}
        for member in self.zip.infolist():
            parts = re.split(r"[/\\]", member.filename)
            if ".." in parts or parts[0] == "" or ":" in parts[0]:
                raise ValueError(f"{path}: the member {member.filename!r} would leave the folder it is "
                                 "unpacked to: not CelebA")
            if member.file_size > _MOST_BYTES:
                raise ValueError(f"{path}: the member {member.filename!r} unpacks to {member.file_size:,} "
                                 "bytes: not CelebA")
            if _is_image(parts[-1]) and "__MACOSX" not in parts:
                self.members[parts[-1]] = member
        self.names = sorted(self.members)

    def read(self, name: str) -> bytes:
        return self.zip.read(self.members[name])

    def partition(self) -> tuple[str, bytes] | None:
        for member in self.zip.infolist():
            if re.split(r"[/\\]", member.filename)[-1] == PARTITION:
                return f"{self.path}: {member.filename}", self.zip.read(member)
        return _file_in(self.path.parent, self.path.parent.parent / "Eval")     # as CelebA is distributed

    def close(self) -> None:
        self.zip.close()


def _file_in(*folders: Path) -> tuple[str, bytes] | None:
    """The place and content of the partition, from the first of these folders that has it."""
    paths = [folder / PARTITION for folder in folders if (folder / PARTITION).is_file()]
    return (str(paths[0]), paths[0].read_bytes()) if paths else None


def _source(root: Path) -> _Folder | _Archive:
    if root.is_dir():
        for folder in (root, root / FOLDER):
            names = sorted(filter(_is_image, os.listdir(folder))) if folder.is_dir() else []
            if names:
                return _Folder(folder, names)
        if not (root / ARCHIVE).is_file():
            raise FileNotFoundError(f"{root}: no CelebA in this folder: {_LAYOUT}")
        root = root / ARCHIVE
    elif not root.exists():
        raise FileNotFoundError(f"{root}: no such file or folder: {_LAYOUT}")
    archive = _Archive(root)
    if not archive.names:
        archive.close()
        raise ValueError(f"{root}: no image 000001.jpg, 000002.jpg, ... in this archive: {_LAYOUT}")
    return archive


def _is_image(name: str) -> bool:
    return re.fullmatch(r"\d+\.jpg", name) is not None


def _change(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _parts(source: _Folder | _Archive) -> list[list[str]]:
    """The names of the images for training and for test."""
    found = source.partition()
    n = len(source.names)
    if found is None:
        return [source.names[:round(_TRAIN * n)], source.names[n - round(_TEST * n):]]
    where, content = found
    part_of = {}
    for i, line in enumerate(content.decode("ascii", errors="replace").splitlines(), 1):
        words = line.split()
        if words and (len(words) != 2 or words[1] not in ("0", "1", "2")):
            raise ValueError(f"{where}, line {i}: a name and 0, 1 or 2, as in '000001.jpg 0', expected, "
                             f"{line[:80]!r} found")
        if words:
            part_of[words[0]] = words[1]
    unknown = [name for name in source.names if name not in part_of]
    if unknown:
        raise ValueError(f"{where}: {len(unknown)} of the {n} images are not in it, the first of them "
                         f"{unknown[0]}")
    return [[name for name in source.names if part_of[name] == part] for part in ("0", "2")]


def _complete(pixels: Path, index_path: Path, side: int) -> bool:
    """Whether an earlier call has written both files completely."""
    if not (pixels.exists() and index_path.exists()):
        return False
    names = json.loads(index_path.read_text())["names"]
    return pixels.stat().st_size == sum(map(len, names)) * side * side * 3


def _build(source: _Folder | _Archive, parts: list[list[str]], side: int, pixels: Path,
           index_path: Path) -> None:
    """Write the images of both parts, one after the other, and then an index of them."""
    names: list[list[str]] = [[], []]
    damaged, total = [], sum(map(len, parts))
    with (storage.replacing(pixels) as file,
          tqdm(desc="CelebA", total=total, unit=" images", disable=None) as bar):
        for kept, part in zip(names, parts):
            for name, image in _decoded(source, part, side):
                bar.update()
                if isinstance(image, Exception):
                    damaged.append([name, f"{type(image).__name__}: {image}".splitlines()[0]])
                else:
                    kept.append(name)
                    file.write(image.tobytes())
    storage.write_text(index_path, json.dumps({"names": names, "damaged": damaged}))


def _decoded(source: _Folder | _Archive, names: list[str],
             side: int) -> Iterator[tuple[str, numpy.ndarray | Exception]]:
    """Each name, in order, with its image or its error; only a few per processor are in memory at once."""
    workers = os.cpu_count() or 1

    def decode(name: str) -> Any:
        try:
            return _face(source.read(name), side)
        except Exception as error:      # a damaged file makes the decoders raise almost anything
            return error
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for name in names:
            waiting.append((name, pool.submit(decode, name)))
            if len(waiting) > 8 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _face(content: bytes, side: int) -> numpy.ndarray:
    with Image.open(io.BytesIO(content), formats=["JPEG"]) as image:
        width, height = image.size
        if width * height > _MOST_PIXELS:
            raise ValueError(f"{width} x {height} pixels are more than any photograph here has")
        box = (_BOX[0] * width, _BOX[1] * height, _BOX[2] * width, _BOX[3] * height)
        return numpy.asarray(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box))
