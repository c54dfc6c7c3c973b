"""Pictures of any size and format as images of one size, in a cache that is mapped into memory.

The cache of a data set is one file: the pixels, an index of them as JSON, the length of the index, and a
checksum of all that.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import struct
import sys
import warnings
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

import numpy
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from minigen import storage
from minigen.datasets import files
from minigen.datasets.dataset import Dataset

_MOST_BYTES, _MOST_PIXELS = 64 << 20, 50_000_000    # of one picture; telephones take 48 million
_FORMATS = ["JPEG", "PNG", "WEBP", "BMP", "GIF"]
LARGEST = 4096          # side of an image
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif")
_MODES = {1: "L", 3: "RGB"}

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")


class Source(Protocol):
    """Where pictures come from. ``stamp`` is JSON that changes when a picture does; ``read`` raises
    ``ValueError`` if the content is damaged, and ``OSError`` if it cannot be read now."""

    path: Path
    stamp: Any

    def read(self, name: str) -> bytes:
        ...


class Folder:
    """The files ``names`` in a folder."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.stamp = [str(path.resolve()), [(name, *files.state(path / name)) for name in names]]

    def read(self, name: str) -> bytes:
        return files.read(self.path / name, _MOST_BYTES)


def load(source: Source, parts: Sequence[Sequence[str]], side: int, channels: int, name: str,
         crop: tuple[float, float, float, float] | None = None) -> Dataset:
    """The pictures named in ``parts``, those for training and those for test, as ``Dataset``; their names are
    the labels.

    They are decoded once, on all processors, into a file in ``storage.cache_folder()``. Each is cut to
    ``crop``, the left, top, right and bottom as shares of its size, or without it to the square in its
    middle, and resized to (side, side, channels) with antialiasing. Pictures that cannot be decoded are left
    out; a warning counts them and names the first five. A cache that is damaged is made again, with a
    warning.
    """
    shape = (side, side, channels)
    recipe = json.dumps([source.stamp, parts, shape, crop])
    cache = storage.cache_folder() / f"images_{hashlib.sha256(recipe.encode()).hexdigest()[:24]}.bin"
    index = _index(cache)
    if index is None:
        storage.make_folder(cache.parent)
        with storage.lock(cache.with_suffix(".lock"), wait=True):
            index = _index(cache)       # somebody else may have made it by now
            if index is None:
                index = _build(cache, source, parts, shape, crop)
    total = sum(map(len, parts))
    if damaged := index["damaged"]:
        first = "; ".join(f"{name}: {why}" for name, why in damaged[:5])
        warnings.warn(f"{source.path}: {len(damaged)} of {total} images cannot be read and are left out "
                      f"({first}{'; ...' if len(damaged) > 5 else ''})", stacklevel=3)
    names = [numpy.array(part) for part in index["names"]]
    for part, what in zip(names, ("training", "test")):
        if not len(part):
            raise ValueError(f"{source.path}: no readable image for {what} among {total} images")
    images = numpy.memmap(cache, numpy.uint8, "r", shape=(len(names[0]) + len(names[1]), *shape))
    return Dataset(images[:len(names[0])], names[0], images[len(names[0]):], names[1], name=name)


def _index(cache: Path) -> dict[str, Any] | None:
    """The index of a cache that is whole, or None. One that is damaged is removed, with a warning."""
    if not cache.exists():
        return None
    size, _ = files.state(cache)
    with storage.naming(cache), cache.open("rb") as file:
        end = size - _CHECKSUM.size - _LENGTH.size
        file.seek(max(end, 0))
        length, = _LENGTH.unpack(file.read(_LENGTH.size).ljust(_LENGTH.size, b"\0"))
        if 0 < length <= end:           # a file that was cut or ends in zeros need not be read whole
            file.seek(0)
            checksum, left = 0, size - _CHECKSUM.size
            while left > 0 and (chunk := file.read(min(left, 1 << 22))):
                checksum, left = zlib.crc32(chunk, checksum), left - len(chunk)
            if file.read(_CHECKSUM.size) == _CHECKSUM.pack(checksum):
                file.seek(end - length)
                return json.loads(file.read(length))
    cache.unlink(missing_ok=True)
    warnings.warn(f"{cache} is damaged: it is made again", stacklevel=4)
    return None


def _build(cache: Path, source: Source, parts: Sequence[Sequence[str]], shape: tuple[int, int, int],
           crop: tuple[float, ...] | None) -> dict[str, Any]:
    """Write the images of both parts, one after the other, and then an index of them, the result."""
    names: list[list[str]] = [[], []]
    damaged: list[list[str]] = []
    checksum = 0
    with (warnings.catch_warnings(), storage.replacing(cache) as file,
          tqdm(desc=source.path.name, total=sum(map(len, parts)), unit=" images",
               disable=None if sys.stderr else True) as bar):
        warnings.simplefilter("ignore")         # of the decoders, which would not say which picture
        for kept, part in zip(names, parts):
            for name, image in _decoded(source, part, shape, crop):
                bar.update()
                if isinstance(image, ValueError):
                    damaged.append([name, str(image)])
                else:
                    kept.append(name)
                    checksum = zlib.crc32(image, checksum)
                    file.write(image)
        index = {"names": names, "damaged": damaged}
        content = json.dumps(index).encode()
        content += _LENGTH.pack(len(content))
        file.write(content + _CHECKSUM.pack(zlib.crc32(content, checksum)))
    return index


def _decoded(source: Source, names: Sequence[str], shape: tuple[int, int, int],
             crop: tuple[float, ...] | None) -> Iterator[tuple[str, bytes | ValueError]]:
    """Each name, in order, with its pixels or why it is damaged; only a few per processor are in memory at
    once."""
    workers = os.cpu_count() or 1

    def decode(name: str) -> bytes | ValueError:
        try:
            return decoded(source.read(name), shape, crop)
        except ValueError as error:
            return error
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[tuple[str, Future[bytes | ValueError]]] = deque()
        for name in names:
            waiting.append((name, pool.submit(decode, name)))
            if len(waiting) > 8 * workers:
                done, future = waiting.popleft()
                yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def decoded(content: bytes, shape: tuple[int, int, int], crop: tuple[float, ...] | None) -> bytes:
    """The pixels of a picture, cut and resized to ``shape``. ``ValueError`` says why it cannot be decoded."""
    side, _, channels = shape
    with _opened(io.BytesIO(content)) as image:
        ImageOps.exif_transpose(image, in_place=True)
        whole = _opaque(image)
        if whole.mode != _MODES[channels]:
            whole = whole.convert(_MODES[channels])
        width, height = whole.size
        if crop is None:
            half = min(width, height) / 2
            box = (width / 2 - half, height / 2 - half, width / 2 + half, height / 2 + half)
        else:
            box = (crop[0] * width, crop[1] * height, crop[2] * width, crop[3] * height)
        return whole.resize((side, side), Image.Resampling.BICUBIC, box).tobytes()


def size(source: Source, name: str) -> tuple[int, int] | None:
    """The width and height of a picture, None if it is damaged."""
    try:
        with _opened(io.BytesIO(source.read(name))) as image:
            return image.size
    except ValueError:
        return None


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[Image.Image]:
    """The picture in a file; whatever the decoders raise in this context is a ``ValueError``."""
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise ValueError(f"{image.width} x {image.height} pixels are more than any photograph has")
            yield image
    except (MemoryError, ValueError):
        raise
    except UnidentifiedImageError:
        raise ValueError(f"not a picture in one of the formats {', '.join(_FORMATS)}") from None
    except Exception as error:          # on a damaged file they raise almost anything
        raise ValueError(str(error).partition("\n")[0] or type(error).__name__) from error


def _opaque(image: Image.Image) -> Image.Image:
    """The picture with 8 bits a channel, on white where it is transparent."""
    if image.mode.startswith("I"):              # 16 bits, of which ``convert`` would cut off the upper ones
        return Image.fromarray((numpy.asarray(image) >> 8).astype(numpy.uint8))
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image
