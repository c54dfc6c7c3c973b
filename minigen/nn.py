"""Layers: modules that own parameters and apply ops to what they are called with.

Weights are (in, out), and (kernel height, kernel width, in, out). Every layer is built from an explicit NumPy random
generator and draws on the host, so that the same seed gives the same network on NumPy and on CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from minigen import ops
from minigen.backend import to_device, to_host
from minigen.core import Tensor

Initialiser = Callable[[numpy.random.Generator, tuple[int, ...]], numpy.ndarray]


def he_normal(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from N(0, 2 / fan_in), which keeps the size of signals through ReLUs (He et al., 2015, Eq. 10)."""
    return rng.standard_normal(shape) * math.sqrt(2 / _fans(shape)[0])


def glorot_uniform(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from U(-b, b) with b^2 = 6 / (fan_in + fan_out) (Glorot and Bengio, 2010, Eq. 16)."""
    bound = math.sqrt(6 / math.fsum(_fans(shape)))
    return rng.uniform(-bound, bound, shape)


def fan_in_uniform(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from U(-b, b) with b = 1 / sqrt(fan_in), PyTorch's default (LeCun et al., 1998, without the factor of 3)."""
    bound = 1 / math.sqrt(_fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


INITIALISERS: dict[str, Initialiser] = {f.__name__: f for f in (he_normal, glorot_uniform, fan_in_uniform)}


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


class Module:
    """A part of a network: what it holds as attributes (Tensors, modules, lists of modules) are its parameters and parts.

    Subclasses define ``forward``; calling the module calls it.
    """

    def forward(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, x: Any) -> Any:
        return self.forward(x)

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Each parameter with its name, such as ``layers.0.weight``, in the order in which they were defined."""
        for name, part in vars(self).items():
            for key, item in enumerate(part) if isinstance(part, (list, tuple)) else ((None, part),):
                path = f"{prefix}{name}" if key is None else f"{prefix}{name}.{key}"
                if isinstance(item, Tensor):
                    yield path, item
                elif isinstance(item, Module):
                    yield from item.named_parameters(f"{path}.")

    def parameters(self) -> list[Tensor]:
        """The parameters in the order in which they were defined."""
        return [parameter for _, parameter in self.named_parameters()]

    def state(self) -> dict[str, numpy.ndarray]:
        """A copy of every parameter on the host, by name."""
        return {name: numpy.array(to_host(parameter.data)) for name, parameter in self.named_parameters()}

    def load_state(self, state: dict[str, numpy.ndarray]) -> None:
        """Set every parameter from ``state``; ``ValueError`` if names, shapes or dtypes are not exactly those of ``state()``."""
        mine = dict(self.named_parameters())
        if mine.keys() != state.keys():
            raise ValueError(f"load_state: parameters missing: {sorted(mine.keys() - state.keys())}, "
                             f"unknown: {sorted(state.keys() - mine.keys())}")
        for name, parameter in mine.items():
            if state[name].shape != parameter.shape or state[name].dtype != parameter.dtype:
                raise ValueError(f"load_state: {name} is {parameter.dtype} {parameter.shape}, "
                                 f"found {state[name].dtype} {state[name].shape}")
        for name, parameter in mine.items():
            parameter.data = to_device(state[name].copy())


class Linear(Module):
    """x w + b: (..., n_in) to (..., n_out), with weight (n_in, n_out) from ``init`` and bias (n_out,) zero."""

    def __init__(self, n_in: int, n_out: int, rng: numpy.random.Generator, init: Initialiser = fan_in_uniform,
                 dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(init(rng, (n_in, n_out)).astype(dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n_out, dtype)))

    def forward(self, x: Any) -> Any:
        return ops.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """The convolution ``ops.conv2d`` plus a bias: (N, H, W, n_in) to (N, H', W', n_out).

    The weight is (kernel, kernel, n_in, n_out), from ``init``, the bias (n_out,) zero.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, rng: numpy.random.Generator, stride: int = 1, padding: int = 0,
                 init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(init(rng, (kernel, kernel, n_in, n_out)).astype(dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n_out, dtype)))
        self.stride = stride
        self.padding = padding

    def forward(self, x: Any) -> Any:
        return ops.conv2d(x, self.weight, self.stride, self.padding) + self.bias


class ConvTranspose2d(Module):
    """The transposed convolution ``ops.conv_transpose2d`` plus a bias: (N, H, W, n_in) to (N, H', W', n_out).

    The weight is (kernel, kernel, n_in, n_out), from ``init``, the bias (n_out,) zero.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, rng: numpy.random.Generator, stride: int = 1, padding: int = 0,
                 output_padding: int = 0, init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(init(rng, (kernel, kernel, n_in, n_out)).astype(dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n_out, dtype)))
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding

    def forward(self, x: Any) -> Any:
        return ops.conv_transpose2d(x, self.weight, self.stride, self.padding, self.output_padding) + self.bias


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, ``slope`` x elsewhere."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = slope

    def forward(self, x: Any) -> Any:
        return ops.leaky_relu(x, slope=self.slope)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        return ops.tanh(x)


class Reshape(Module):
    """(N, ...) to (N, *shape)."""

    def __init__(self, *shape: int) -> None:
        self.shape = shape

    def forward(self, x: Any) -> Any:
        return ops.reshape(x, (x.shape[0], *self.shape))


class Sequential(Module):
    """The layers one after the other."""

    def __init__(self, *layers: Module) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
