"""One checkpoint: a model's state in an .npz file, with a record of where it belongs.

The record is JSON: the identity of the run, the iteration, the checksum of the state, and the number of bytes
that metrics.jsonl had, with their checksum.
"""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy

from minigen import storage
from minigen.checks import shown

_RECORD = "minigen.run"


def write(path: Path, state: dict[str, numpy.ndarray], record: dict[str, Any]) -> None:
    """Write the state with its record, whole or not at all."""
    text = json.dumps({**record, "checksum": checksum(state)}, allow_nan=False)
    storage.save(path, {**state, _RECORD: numpy.array(text)})


def read(path: Path, expected: dict[str, Any]) -> tuple[dict[str, numpy.ndarray], dict[str, Any]]:
    """The state and its record.

    ``ValueError`` if the file is damaged, if its state is not the one that was written, or if the record has
    another value than one of the ``expected``.
    """
    state = storage.load(path)
    try:
        record = json.loads(str(state.pop(_RECORD)))
        length, _ = record["metrics"], record["metrics_crc32"]
        whole = record["checksum"] == checksum(state) and type(length) is int and length >= 0
    except (KeyError, RecursionError, TypeError, ValueError):
        raise ValueError(f"{path} is damaged: it has no record of its run") from None
    if not whole:
        raise ValueError(f"{path} is damaged: its arrays are not those that were saved")
    for key, value in expected.items():
        if record.get(key) != value:
            raise ValueError(f"{path} belongs to another run: its {key} is {shown(record.get(key))}, "
                             f"{shown(value)} expected")
    return state, record


def checksum(state: dict[str, numpy.ndarray]) -> str:
    """A checksum of all names, dtypes, shapes and values."""
    found = 0
    for name, value in state.items():
        array = numpy.asarray(value)
        found = zlib.crc32(f"{name} {array.dtype} {array.shape}".encode(), found)
        found = zlib.crc32(numpy.ascontiguousarray(array), found)
    return f"crc32 {found:08x}"
