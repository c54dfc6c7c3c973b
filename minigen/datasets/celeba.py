"""CelebA: aligned and cropped photographs of faces, from an archive or folder as it is distributed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from minigen import checks, storage
from minigen.datasets import files, pictures
from minigen.datasets.archive import Archive
from minigen.datasets.dataset import Dataset

ARCHIVE, FOLDER = "img_align_celeba.zip", "img_align_celeba"
PARTITIONS = ("list_eval_partition.txt", "list_eval_partition.csv")

_SIZE = (178, 218)
_BOX = (15 / 178, 40 / 218, 163 / 178, 188 / 218)       # left, top, right, bottom of the crop, as shares
_TRAIN, _TEST = 162_770 / 202_599, 19_962 / 202_599     # CelebA's own shares, if there is no partition
_MOST_BYTES = 4 << 20                                   # of a partition; CelebA's has 3 MB
# Folders and archives that the images are in, as they are distributed, and how deep.
_FOLDERS = ("celeba", "img", FOLDER, "img_align_celeba_png")
_ARCHIVES = (ARCHIVE, "celeba.zip", "archive.zip")
_DEPTH = 3
_IMAGE = re.compile(r"([0-9]{1,9})\.(jpe?g|png)", re.IGNORECASE)
_LAYOUT = (f"give {ARCHIVE} (\"Align&Cropped Images\" at https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html), "
           "or a folder that holds it or its unpacked images 000001.jpg, 000002.jpg, ..., with "
           f"{PARTITIONS[0]} beside them if you have it")


def celeba(root: str | os.PathLike[str], side: int = 64) -> Dataset:
    """CelebA from ``root``: images (N, side, side, 3) uint8, and the names of their files (N,) in place of
    labels.

    ``root`` is img_align_celeba.zip or Kaggle's archive.zip, which is read in place, or a zip archive that
    holds img_align_celeba.zip uncompressed, or a folder that holds one of them, or a folder that holds the
    unpacked images NNNNNN.jpg or .png, directly or in img_align_celeba, also below celeba or Img. If
    list_eval_partition.txt or .csv is beside them or in the archive, it says which images are for training
    and which are for test; those for validation are left out. Otherwise, in the order of their numbers, the
    first 80 % are for training and the last 10 % for test, as in CelebA. An image of 178 x 218 pixels is
    cropped to the square of rows 40 to 188 and columns 15 to 163, an image of another size in proportion. The
    crop is then made smaller with antialiasing.

    This is done once, on all processors. The result is a file in ``storage.cache_folder()``, which is checked
    and mapped into memory. Images that cannot be decoded are left out; a warning counts them and names the
    first five; one that cannot be read is an ``OSError``. ``FileNotFoundError`` says where to get CelebA;
    ``ValueError`` says what differs from this description.
    """
    side = checks.whole("celeba", "side", side, most=pictures.LARGEST)
    root = storage.expand("celeba", root)
    place = _place(root)
    if place is None:
        raise FileNotFoundError(f"{root}: no CelebA in this folder: {_LAYOUT}")
    if place.is_dir():
        names = _by_number(place, os.listdir(place))
        beside = _beside(place, place.parent, place.parent / "Eval", place.parent.parent)
        source = pictures.Folder(place, list(names.values()))
        return pictures.load(source, _parts(place, names, beside), side, 3, "CelebA", _BOX)
    with Archive(place, lambda name: _IMAGE.fullmatch(name) or name in PARTITIONS, inner=ARCHIVE) as archive:
        names = _by_number(place, archive.members)
        if not names:
            raise ValueError(f"{place}: no image 000001.jpg, 000002.jpg, ... in this archive: {_LAYOUT}")
        beside = _inside(archive) or _beside(place.parent, place.parent.parent / "Eval")
        return pictures.load(archive, _parts(place, names, beside), side, 3, "CelebA", _BOX)


def recognised(root: Path) -> bool:
    """Whether ``root`` holds numbered images of CelebA's size, or is or holds an archive of them.

    Many data sets come as an archive.zip of numbered images.
    """
    place = _place(root)
    if place is None:
        return False
    if place.is_dir():
        source: pictures.Source = pictures.Folder(place, [])
        return _of_celebas_size(source, _by_number(place, os.listdir(place)))
    with Archive(place, _IMAGE.fullmatch, inner=ARCHIVE) as archive:
        return _of_celebas_size(archive, _by_number(place, archive.members))


def _of_celebas_size(source: pictures.Source, names: dict[int, str]) -> bool:
    first = list(names.values())[:9]        # some of them may be damaged
    return any(pictures.size(source, name) == _SIZE for name in first)


def _place(root: Path) -> Path | None:
    """The folder or archive that holds the images."""
    if not root.exists():
        raise FileNotFoundError(f"{root}: no such file or folder: {_LAYOUT}")
    if not root.is_dir():
        return root
    folders = [root]
    while folders:
        folder = folders.pop(0)
        if any(_IMAGE.fullmatch(name) for name in os.listdir(folder)):
            return folder
        for name in _ARCHIVES:
            if (folder / name).is_file():
                return folder / name
        if len(folder.parts) < len(root.parts) + _DEPTH:
            folders += [path for path in sorted(folder.iterdir())
                        if path.name.lower() in _FOLDERS and path.is_dir()]
    return None


def _by_number(place: Path, names: Iterable[str]) -> dict[int, str]:
    """The images among these names, by their numbers, in order."""
    found: dict[int, str] = {}
    for name in sorted(names):
        if match := _IMAGE.fullmatch(name):
            if (number := int(match[1])) in found:
                raise ValueError(f"{place}: one image with the number {number} expected, {found[number]} and "
                                 f"{name} found")
            found[number] = name
    return dict(sorted(found.items()))


def _inside(archive: Archive) -> tuple[str, bytes] | None:
    """The name and content of the partition in the archive."""
    for name in PARTITIONS:
        if name in archive.members:
            where = f"{archive.path}: {name}"
            try:
                return where, archive.read(name)
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
    return None


def _beside(*folders: Path) -> tuple[str, bytes] | None:
    """The place and content of the partition, from the first of these folders that has it."""
    for path in (folder / name for folder in folders for name in PARTITIONS):
        if path.exists():
            return str(path), files.read(path, _MOST_BYTES)
    return None


def _parts(place: Path, names: dict[int, str], partition: tuple[str, bytes] | None) -> list[list[str]]:
    """The names of the images for training and for test."""
    ordered, where = list(names.values()), str(place)
    if partition is None:
        parts = [ordered[:round(_TRAIN * len(ordered))], ordered[len(ordered) - round(_TEST * len(ordered)):]]
    else:
        where, content = partition
        part_of = _partition(where, content)
        unknown = [name for number, name in names.items() if number not in part_of]
        if unknown:
            raise ValueError(f"{where}: {len(unknown)} of the {len(names)} images in {place} are not in it, "
                             f"the first of them {unknown[0]}")
        parts = [[name for number, name in names.items() if part_of[number] == part] for part in ("0", "2")]
    for part, what in zip(parts, ("training", "test")):
        if not part:
            raise ValueError(f"{where}: images for {what} expected, none found among the {len(names)} in "
                             f"{place}: unpack more of them")
    return parts


def _partition(where: str, content: bytes) -> dict[int, str]:
    """The part, 0 for training, 1 for validation or 2 for test, by the number of the image."""
    if len(content) > _MOST_BYTES:
        raise ValueError(f"{where}: at most {_MOST_BYTES:,} bytes expected, {len(content):,} found")
    part_of: dict[int, str] = {}
    for i, line in enumerate(content.decode("utf-8-sig", errors="replace").splitlines(), 1):
        words = re.split(r"[,\s]+", line.strip())
        if words == [""] or (i == 1 and words == ["image_id", "partition"]):
            continue
        image = _IMAGE.fullmatch(words[0])
        if len(words) != 2 or not image or words[1] not in ("0", "1", "2"):
            raise ValueError(f"{where}, line {i}: a name and 0, 1 or 2, as in '000001.jpg 0', expected, "
                             f"{line[:80]!r} found")
        if part_of.setdefault(int(image[1]), words[1]) != words[1]:
            raise ValueError(f"{where}, line {i}: {words[0]} is in part {words[1]} here, and in part "
                             f"{part_of[int(image[1])]} before")
    return part_of
