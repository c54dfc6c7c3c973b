"""IDX files: arrays of integers, raw or compressed by gzip."""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy

from minigen import storage
from minigen.datasets import files

_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0b: ">i2", 0x0c: ">i4"}
_GZIP, _ZIP = b"\x1f\x8b", b"PK"
_MOST = 1 << 30             # bytes of an array; EMNIST, the largest of its kind, has half as many
# gzip makes no images 500 times smaller, but a bomb a thousand times.
_SHRINKAGE, _SMALL = 500, 32 << 20
_CHUNK = 64 << 10


def read_idx(path: Path, dimensions: tuple[int, ...], rows: int | None = None) -> numpy.ndarray:
    """The array in an IDX file, raw or compressed by gzip, as its first bytes tell.

    ``dimensions`` are the numbers of dimensions that it may have; ``rows``, if given, is the first of them.
    ``ValueError`` names the file if it is anything else. It is read only as far as its header announces.

    Format: two zero bytes; the type, 0x08, 0x09, 0x0b and 0x0c for unsigned and signed bytes, 16 and 32 bits;
    the number of dimensions; each dimension as a big-endian 32-bit integer; the elements, big-endian, last
    dimension fastest, and nothing after them.
    """
    size, _ = files.state(path)
    with storage.naming(path), path.open("rb") as file:
        compressed = file.peek(2)[:2] == _GZIP
        read = _gunzip(file) if compressed else file.read
        try:
            dtype, shape = _header(path, read, dimensions)
            start, length = 4 + 4 * len(shape), math.prod(shape) * dtype.itemsize
            limit = min(_MOST, max(_SMALL, _SHRINKAGE * size))
            if not 0 < length <= limit:
                raise ValueError(f"{path}: an array of 1 to {limit:,} bytes expected, one of shape {shape} "
                                 "announced")
            if rows not in (None, shape[0]):
                raise ValueError(f"{path}: {rows} rows expected, one for each image, {shape[0]} found")
            content, found = b"", size
            if compressed or size == start + length:        # the size of a raw file tells before it is read
                content = read(length)
                found = start + len(content) + len(read(1))
        except (EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip data: {error}") from error
    if found != start + length:
        raise ValueError(f"{path}: {start + length} bytes expected for an array of shape {shape}, "
                         f"{'at least ' * (compressed and found > start + length)}{found} found")
    return numpy.frombuffer(content, dtype).reshape(shape)


def _header(path: Path, read: Callable[[int], bytes],
            dimensions: tuple[int, ...]) -> tuple[numpy.dtype, tuple[int, ...]]:
    """The type of the elements and the shape."""
    magic = read(4)
    if magic[:2] == _GZIP:
        raise ValueError(f"{path}: it was compressed by gzip twice: decompress it once with gunzip")
    if magic[:2] == _ZIP:
        raise ValueError(f"{path}: a zip archive: unpack it and give the folder of the unpacked files")
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES or magic[3] not in dimensions:
        expected = " or ".join(f"000008{n:02x}" for n in dimensions)
        raise ValueError(f"{path}: magic number {expected} (or 09, 0b, 0c in place of 08) expected, "
                         f"{magic.hex() or 'an empty file'} found")
    content = read(4 * magic[3])
    if len(content) < 4 * magic[3]:
        raise ValueError(f"{path}: a header of {4 + 4 * magic[3]} bytes expected, {4 + len(content)} bytes "
                         "found")
    return numpy.dtype(_TYPES[magic[2]]), struct.unpack(f">{magic[3]}I", content)


def _gunzip(file: IO[bytes]) -> Callable[[int], bytes]:
    """A function that returns the next n bytes of the gzip data in ``file``, or all that are left. The call
    that meets the end compares the checksum."""
    inflate = zlib.decompressobj(wbits=31)      # 31: with the header and the checksum of gzip

    def read(n: int) -> bytes:
        content = bytearray()
        while len(content) < n and not inflate.eof:
            compressed = inflate.unconsumed_tail or file.read(_CHUNK)
            if not compressed:
                raise EOFError("its end is missing")
            content += inflate.decompress(compressed, n - len(content))
        if inflate.eof and (inflate.unused_data or file.read(1)):
            raise EOFError("something follows after its end")
        return bytes(content)
    return read
