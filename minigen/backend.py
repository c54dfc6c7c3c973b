"""The array backend: which module ``xp`` is, how arrays reach it and come back, and kernel fusion.

Everything above computes with ``xp``, which stands for NumPy or CuPy. ``xp`` looks its names up when they are
used, so that ``use("cupy")`` switches code that is already imported. No other module names CuPy.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from functools import cache, wraps
from typing import Any

import numpy

Array = Any     # an ndarray of the backend in use


class BackendError(RuntimeError):
    """The backend asked for cannot be used here; the message is one line that says what is missing."""


class _Namespace:
    """The module in use; a name is looked up there once, then kept here."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(_module, name)
        self.__dict__[name] = value
        return value


_module = numpy
xp = _Namespace()


def use(name: str) -> None:
    """Switch every later computation to ``"numpy"`` or ``"cupy"``. Tensors made before stay where they are.

    Raises ``BackendError`` if CuPy or a CUDA device is missing: nothing falls back silently to the CPU.
    """
    global _module
    if name not in ("numpy", "cupy"):
        raise BackendError(f"unknown backend {name!r}: expected 'numpy' or 'cupy'")
    _module = numpy if name == "numpy" else _cupy()
    xp.__dict__.clear()


def name() -> str:
    """The backend in use: ``"numpy"`` or ``"cupy"``."""
    return _module.__name__


def _cupy() -> Any:
    try:
        cupy = importlib.import_module("cupy")
    except ImportError as error:
        raise BackendError(f"the GPU needs CuPy, and importing it failed ({_first_line(error)}): "
                           "pip install cupy-cuda12x or cupy-cuda13x, whichever your driver "
                           "supports") from None
    try:
        cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        raise BackendError(f"CuPy is installed but finds no CUDA device ({_first_line(error)})") from None
    return cupy


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" =\t")]
    return lines[0] if lines else type(error).__name__


def fused(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function that works element by element be one kernel on a GPU, which CuPy makes of it when it is
    first called there.

    It consists of operators and elementwise functions of arrays and numbers, and may write into its
    arguments.
    """
    @cache
    def kernel(module: Any) -> Callable[..., Any]:
        return module.fuse(kernel_name="minigen_" + function.__name__.strip("_"))(function)

    @wraps(function)
    def call(first: Any, *others: Any) -> Any:
        if _module is numpy or type(first) is not _module.ndarray:      # a Tensor: its steps are recorded
            return function(first, *others)
        return kernel(_module)(first, *others)
    return call


def to_device(array: Any) -> Array:
    """The array on the backend in use; host memory is copied only if that is a GPU."""
    return xp.asarray(array)


def to_host(array: Array) -> numpy.ndarray:
    """The array as a NumPy array; from a GPU this copies, and waits for the device."""
    return array.get() if hasattr(array, "get") else numpy.asarray(array)


use(os.environ.get("MINIGEN_BACKEND") or "numpy")
