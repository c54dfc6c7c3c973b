"""minigen: generative models from scratch, down to the last derivative.

A small automatic-differentiation and layer library on NumPy or CuPy, and with it the models of the report
"A Probe Towards Understanding GAN and VAE Models" (Mi, Shen, Zhang, 2017).
"""

import importlib
from typing import Any

from minigen.backend import BackendError, to_device, use
from minigen.core import Op, Tensor, grad, no_grad, to_host

__version__ = "0.1.0"
__all__ = ["BackendError", "Op", "Tensor", "grad", "no_grad", "to_device", "to_host", "use"]

_ROOMS = ("classifier", "cli", "datasets", "divergences", "entropy", "figures", "frechet", "gradcheck", "losses", "models",
          "networks", "nn", "ops", "optim", "training")


def __getattr__(name: str) -> Any:
    # `minigen.models` and the other rooms are imported when first named, so that `import minigen` stays quick.
    if name in _ROOMS:
        return importlib.import_module(f"minigen.{name}")
    raise AttributeError(f"module 'minigen' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
