"""The array backend: the module behind ``xp``, copies to and from its device, and kernel fusion.

The rest of the package computes with ``xp``, which stands for NumPy or CuPy. ``xp`` looks up each name on
use, so ``use("cupy")`` also switches code that is already imported. No other module names CuPy.
"""

from __future__ import annotations

import importlib
import math
import os
from collections.abc import Callable
from contextlib import suppress
from functools import cache, wraps
from pathlib import Path
from typing import Any

import numpy

Array = Any     # an ndarray of the backend in use


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

    Raises ``BackendError`` if CuPy or a CUDA device is missing: there is no silent fallback to the CPU.
    """
    global _module
    if name not in ("numpy", "cupy"):
        raise BackendError(f"unknown backend {name!r}: expected 'numpy' or 'cupy'")
    _module = numpy if name == "numpy" else _cupy()
    xp.__dict__.clear()


def name() -> str:
    """The backend in use: ``"numpy"`` or ``"cupy"``."""
    return str(_module.__name__)


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
        raise BackendError(f"the GPU needs CuPy, and importing it failed ({_first_line(error)}): pip install "
                           "cupy-cuda12x or cupy-cuda13x, whichever your driver supports") from None
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"CuPy is installed but finds no CUDA device ({_first_line(error)})") from None
    return cupy


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =\t")]
    return lines[0] if lines else type(error).__name__


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Turn an elementwise function into one kernel on a GPU, which CuPy builds on the first call there.

    The function consists of operators and elementwise functions of arrays and numbers. It may write into its
    arguments.
    """
    @cache
    def kernel(module: Any) -> Any:
        return module.fuse(kernel_name="minigen_" + function.__name__.strip("_"))(function)

    @wraps(function)
    def call(first: Any, *others: Any) -> Any:
        if _module is numpy or type(first) is not _module.ndarray:      # a Tensor records the steps
            return function(first, *others)
        return kernel(_module)(first, *others)
    return call


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
