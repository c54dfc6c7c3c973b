"""MNIST, and other data sets that come as the same four IDX files (Fashion-MNIST, KMNIST)."""

from __future__ import annotations

import gzip
import os
import struct
import zlib
from pathlib import Path

import numpy

from minigen.datasets.dataset import Dataset

__all__ = ["mnist"]

EMBEDDED = Path(__file__).parent / "mnist_idx"

_SIDE = 28
_UNSIGNED_BYTE = 0x08


def mnist(root: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST, which comes with the package, or the data set in the folder ``root``.

    The folder holds ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the two ``t10k-`` files,
    each raw or compressed as ``.gz``: 28 x 28 images and labels 0 to 9. ``FileNotFoundError`` names a
    missing file; ``ValueError`` names a file with unexpected content, and says what differs.
    """
    folder = EMBEDDED if root is None else Path(root)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; one with the four IDX files of MNIST expected")
    return Dataset(*_pair(folder, "train"), *_pair(folder, "t10k"), image_shape=(_SIDE, _SIDE, 1), classes=10,
                   name="MNIST")


def _pair(folder: Path, part: str) -> tuple[numpy.ndarray, numpy.ndarray]:
    images_path = _find(folder, f"{part}-images-idx3-ubyte")
    labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path, 3)
    labels = read_idx(labels_path, 1)
    if images.shape[1:] != (_SIDE, _SIDE) or len(images) == 0:
        raise ValueError(f"{images_path}: images of {_SIDE} x {_SIDE} pixels expected, an array of shape "
                         f"{images.shape} found")
    if len(labels) != len(images):
        raise ValueError(f"{labels_path}: {len(labels)} labels found for the {len(images)} images of "
                         f"{images_path.name}")
    if labels.max() > 9:
        raise ValueError(f"{labels_path}: labels from 0 to 9 expected, {labels.max()} found")
    return images.reshape(len(images), -1) * numpy.float32(1 / 255), labels.astype(numpy.int64)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{folder}: neither {name} nor {name}.gz is there")


def read_idx(path: Path, dimensions: int) -> numpy.ndarray:
    """The uint8 array in an IDX file, raw or compressed by gzip, as its first bytes tell; ``ValueError`` if
    it is anything else.

    Format: two zero bytes, 0x08 for unsigned bytes, the number of dimensions; each dimension as a big-endian
    32-bit integer; the elements, last dimension fastest, and nothing after them.
    """
    content = path.read_bytes()
    if content[:2] == b"\x1f\x8b":
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip data: {error}") from error
    magic = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    if content[:4] != magic:
        raise ValueError(f"{path}: magic number {magic.hex()} expected, "
                         f"{content[:4].hex() or 'an empty file'} found")
    start = 4 + 4 * dimensions
    if len(content) < start:
        raise ValueError(f"{path}: a header of {start} bytes expected, {len(content)} bytes found")
    shape = struct.unpack_from(f">{dimensions}I", content, 4)
    expected = start + int(numpy.prod(shape, dtype=object))
    if len(content) != expected:
        raise ValueError(f"{path}: {expected} bytes expected for an array of shape {shape}, {len(content)} "
                         "found")
    return numpy.frombuffer(content, numpy.uint8, offset=start).reshape(shape)
