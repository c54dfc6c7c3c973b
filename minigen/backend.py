"""The array backend: the module behind ``xp``, and copies to and from its device.

The rest of the package computes with ``xp``, which stands for NumPy or CuPy. ``xp`` looks up each name on
use, so ``use("cupy")`` also switches code that is already imported. No other module names CuPy.
"""

from __future__ import annotations

import importlib
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy

Array = Any     # an ndarray of the backend in use
_OLDEST_CUPY = 14
_INSTALL = "pip install 'cupy-cuda12x[ctk]' or 'cupy-cuda13x[ctk]', whichever your driver supports"


class BackendError(RuntimeError):
    """The requested backend cannot be used here; the message names the missing part in one line."""


class _Failed:
    """Stands for a module that the environment names but that cannot be used: every look-up says so."""

    def __init__(self, error: BackendError) -> None:
        self.__dict__["error"] = error

    def __getattr__(self, name: str) -> Any:
        raise self.error


class _Namespace:
    """Passes names on to the module in use, and keeps each one after its first look-up."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(_module, name)
        self.__dict__[name] = value
        return value


_module: Any = numpy
xp = _Namespace()


def use(name: str) -> None:
    """Switch every later computation to ``"numpy"`` or ``"cupy"``. Existing Tensors stay where they are.

    Raises ``BackendError`` if CuPy, a CUDA device or one of CUDA's libraries is missing, or if CuPy is older
    than 14: there is no silent fallback to the CPU.
    """
    global _module
    if name not in ("numpy", "cupy"):
        raise BackendError(f"unknown backend {name!r}: expected 'numpy' or 'cupy'")
    _module = numpy if name == "numpy" else _cupy()
    xp.__dict__.clear()


def name() -> str:
    """The backend in use: ``"numpy"`` or ``"cupy"``."""
    return str(_module.__name__)


def on_host() -> bool:
    """Whether the backend is NumPy, whose arrays are in the host's memory."""
    return _module is numpy


def choose_device(number: int) -> None:
    """Compute on the GPU with this number, counted round and round through those of this machine.

    NumPy has no choice.
    """
    if _module is not numpy:
        runtime = _module.cuda.runtime
        runtime.setDevice(number % runtime.getDeviceCount())


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(f"the GPU needs CuPy, and importing it failed ({_first_line(error)}): {_INSTALL}"
                           ) from None
    if int(cupy.__version__.split(".")[0]) < _OLDEST_CUPY:      # 13 makes float64 of float32 / 65536
        raise BackendError(f"CuPy {_OLDEST_CUPY} or later expected, {cupy.__version__} found: {_INSTALL}")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"CuPy is installed but finds no CUDA device ({_first_line(error)})") from None
    try:
        ones = cupy.ones((2, 2), "float32")
        ones @ ones
    except Exception as error:      # CuPy has errors of its own for each of CUDA's libraries
        raise BackendError(f"CuPy is installed but cannot multiply ({_first_line(error)}): {_INSTALL}"
                           ) from None
    return cupy


def about() -> dict[str, Any]:
    """What computes, by name: the backend and, for CuPy, its version, the GPU, and whether TF32 is allowed,
    whose products have three digits. CuPy reads this from the variable CUPY_TF32 of the environment."""
    if _module is numpy:
        return {"backend": "numpy"}
    runtime = _module.cuda.runtime
    gpu = runtime.getDeviceProperties(runtime.getDevice())["name"].decode()
    return {"backend": "cupy", "cupy": _module.__version__, "gpu": gpu,
            "tf32": os.environ.get("CUPY_TF32", "0") not in ("", "0")}


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =\t")]
    return lines[0] if lines else type(error).__name__


def to_device(array: Any) -> Array:
    """The array on the backend in use. Host memory is copied only if the backend is a GPU."""
    return xp.asarray(array)


def to_host(array: Array) -> numpy.ndarray:
    """The array as a NumPy array. On a GPU this waits for the device, and copies."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


def free_memory() -> float:
    """The bytes that can be allocated on the device in use, as far as the system tells."""
    if _module is not numpy:
        return float(_module.cuda.runtime.memGetInfo()[0])
    free = math.inf
    with suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = 1024.0 * int(next(line for line in lines if line.startswith("MemAvailable")).split()[1])
    with suppress(OSError, ValueError):     # a container's limit; "max" is none
        folder = Path("/sys/fs/cgroup")
        limit, used = ((folder / f"memory.{name}").read_text() for name in ("max", "current"))
        free = min(free, float(int(limit) - int(used)))
    return free


def read_only(array: Array) -> Array:
    """A view of the array, or of the NumPy scalar, that cannot be written to; CuPy has none, and returns the
    array."""
    if _module is not numpy:
        return array
    view = numpy.asarray(array).view()
    view.flags.writeable = False
    return view


try:
    use(os.environ.get("MINIGEN_BACKEND") or "numpy")
except BackendError as error:       # not yet: a program reports it where it computes, not where it imports
    _module = _Failed(BackendError(f"MINIGEN_BACKEND: {error}"))
