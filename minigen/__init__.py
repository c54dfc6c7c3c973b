"""minigen: generative models from scratch, down to the last derivative.

A small library for automatic differentiation and layers on NumPy or CuPy, with the models of the paper
"A Probe Towards Understanding GAN and VAE Models" (Mi, Shen and Zhang, 2017).
"""

import importlib
import pkgutil
from typing import Any

from minigen import ops     # gives Tensor its operators
from minigen.backend import BackendError, to_device, use
from minigen.core import Op, Tensor, grad, no_grad, to_host
from minigen.version import __version__

__all__ = ["BackendError", "Op", "Tensor", "__version__", "grad", "no_grad", "ops", "to_device", "to_host",
           "use"]

_ROOMS = frozenset(module.name for module in pkgutil.iter_modules(__path__)) - {"__main__"}


def __getattr__(name: str) -> Any:
    # `minigen.models` and the other rooms are imported on first use, to keep `import minigen` quick.
    if name in _ROOMS:
        return importlib.import_module(f"minigen.{name}")
    raise AttributeError(f"module 'minigen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_ROOMS})
