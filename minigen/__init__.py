"""minigen: generative models from scratch, down to the last derivative.

A small library for automatic differentiation and layers on NumPy or CuPy, with the models of the paper
"A Probe Towards Understanding GAN and VAE Models" (Mi, Shen and Zhang, 2017). ::

    import minigen as mg

    x = mg.Tensor(2.0)
    mg.grad(x ** 3, x)                  # 3 x^2 = 12
    data = mg.datasets.mnist()
    model = mg.models.VAE(latent=10)
    mg.training.train(model, data.train_images, iterations=1000, out="runs/first")
    mg.figures.save_grid("digits.png", model.sample(64, rng=1))

Read on with ``help`` of these::

    mg.grad, mg.Tensor, mg.Op           derivatives of any order; an op of your own
    mg.ops, mg.gradcheck                all ops; derivatives compared with finite differences
    mg.nn, mg.losses, mg.optim          layers; the paper's equations; optimisers
    mg.networks, mg.models              architectures; GAN, WGAN, VAE, VAEGAN, ConstrainedVAEGAN
    mg.training.train, .load            training, checkpoints, resume; a trained model
    mg.datasets, mg.metrics             MNIST, faces, your pictures; entropies, distances, intervals
    mg.figures                          every picture; each is shown by a notebook
    mg.use                              "cupy": on a GPU
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
