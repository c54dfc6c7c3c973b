"""Layers: modules that own parameters and apply ops to their input.

Weights are (in, out), or (kernel height, kernel width, in, out) in convolutions. They are drawn on the host
from an explicit NumPy random generator, so the same seed gives the same network on NumPy and on CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy

from minigen import ops
from minigen.backend import Array, to_device, to_host
from minigen.core import Tensor

Initialiser = Callable[[numpy.random.Generator, tuple[int, ...]], numpy.ndarray]


def he_normal(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from N(0, 2 / fan_in), which keep a signal's size through ReLUs (He et al., 2015, Eq. 10)."""
    return rng.standard_normal(shape) * math.sqrt(2 / _fans(shape)[0])


def glorot_uniform(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from U(-b, b) with b^2 = 6 / (fan_in + fan_out) (Glorot and Bengio, 2010, Eq. 16)."""
    bound = math.sqrt(6 / math.fsum(_fans(shape)))
    return rng.uniform(-bound, bound, shape)


def fan_in_uniform(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from U(-b, b) with b = 1 / sqrt(fan_in), PyTorch's default.

    LeCun et al. (1998) use three times this variance.
    """
    bound = 1 / math.sqrt(_fans(shape)[0])
    return rng.uniform(-bound, bound, shape)


INITIALISERS: dict[str, Initialiser] = {f.__name__: f for f in (he_normal, glorot_uniform, fan_in_uniform)}


def _fans(shape: tuple[int, ...]) -> tuple[int, int]:
    window = math.prod(shape[:-2])
    return window * shape[-2], window * shape[-1]


class Module:
    """A part of a network. Its attributes (Tensors, modules, lists of modules) are its parameters and parts.

    Subclasses define ``forward``; calling the module calls it. ``buffers`` names the array attributes that
    belong to the state but are not parameters. ``training`` is the mode, for layers that behave differently
    in training: see ``train`` and ``eval``.
    """

    buffers: tuple[str, ...] = ()
    training = True

    def forward(self, x: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def __call__(self, x: Any) -> Any:
        return self.forward(x)

    def _parts(self) -> Iterator[tuple[str, Any]]:
        for name, part in vars(self).items():
            if isinstance(part, (list, tuple)):
                yield from ((f"{name}.{i}", item) for i, item in enumerate(part))
            else:
                yield name, part

    def named_parameters(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        """Each parameter with its name, such as ``layers.0.weight``, in the order of definition."""
        for name, part in self._parts():
            if isinstance(part, Tensor):
                yield prefix + name, part
            elif isinstance(part, Module):
                yield from part.named_parameters(f"{prefix}{name}.")

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all modules in it, each with the prefix of its names, such as ``layers.0.``."""
        yield prefix, self
        for name, part in self._parts():
            if isinstance(part, Module):
                yield from part.named_modules(f"{prefix}{name}.")

    def parameters(self) -> list[Tensor]:
        """The parameters in the order of definition."""
        return [parameter for _, parameter in self.named_parameters()]

    def train(self) -> None:
        """Switch this module and all modules in it to training mode, in which they start."""
        for _, module in self.named_modules():
            module.training = True

    def eval(self) -> None:
        """Switch this module and all modules in it to evaluation mode, for use after training."""
        for _, module in self.named_modules():
            module.training = False

    def _named_buffers(self) -> Iterator[tuple[str, Module, str]]:
        for prefix, module in self.named_modules():
            yield from ((prefix + name, module, name) for name in module.buffers)

    def state(self) -> dict[str, numpy.ndarray]:
        """A copy of every parameter and buffer on the host, by name."""
        parameters = {name: numpy.array(to_host(parameter.data))
                      for name, parameter in self.named_parameters()}
        return {**parameters, **{path: numpy.array(to_host(getattr(module, name)))
                                 for path, module, name in self._named_buffers()}}

    def load_state(self, state: dict[str, numpy.ndarray]) -> None:
        """Set parameters and buffers from ``state``; names, shapes and dtypes must be those of ``state()``.

        If they differ, ``ValueError`` names the difference, and nothing changes.
        """
        mine = self.state()
        if mine.keys() != state.keys():
            raise ValueError(f"load_state: parameters missing: {sorted(mine.keys() - state.keys())}, "
                             f"unknown: {sorted(state.keys() - mine.keys())}")
        for name, array in mine.items():
            if state[name].shape != array.shape or state[name].dtype != array.dtype:
                raise ValueError(f"load_state: {name} is {array.dtype} {array.shape}, "
                                 f"found {state[name].dtype} {state[name].shape}")
        for name, parameter in self.named_parameters():
            parameter.data = to_device(state[name].copy())
        for path, module, name in self._named_buffers():
            setattr(module, name, to_device(state[path].copy()))


class Linear(Module):
    """x w + b: (..., n_in) to (..., n_out).

    The weight (n_in, n_out) comes from ``init``. The bias (n_out,) starts at zero; ``bias=False`` leaves it
    out.
    """

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, rng: numpy.random.Generator,
                 init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(init(rng, (n_in, n_out)).astype(dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n_out, dtype))) if bias else None

    def forward(self, x: Any) -> Any:
        return ops.matmul(x, self.weight) if self.bias is None else ops.linear(x, self.weight, self.bias)


class Conv2d(Module):
    """The convolution ``ops.conv2d``: (N, H, W, n_in) to (N, H', W', n_out).

    The weight (kernel, kernel, n_in, n_out) comes from ``init``. The bias (n_out,) starts at zero;
    ``bias=False`` leaves it out.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, padding: int = 0,
                 bias: bool = True, rng: numpy.random.Generator, init: Initialiser = fan_in_uniform,
                 dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(init(rng, (kernel, kernel, n_in, n_out)).astype(dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n_out, dtype))) if bias else None
        self.stride = stride
        self.padding = padding

    def forward(self, x: Any) -> Any:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class ConvTranspose2d(Module):
    """The transposed convolution ``ops.conv_transpose2d``: (N, H, W, n_in) to (N, H', W', n_out).

    The weight (kernel, kernel, n_in, n_out) comes from ``init``. The bias (n_out,) starts at zero;
    ``bias=False`` leaves it out.
    """

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, padding: int = 0,
                 output_padding: int = 0, bias: bool = True, rng: numpy.random.Generator,
                 init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(init(rng, (kernel, kernel, n_in, n_out)).astype(dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n_out, dtype))) if bias else None
        self.stride = stride
        self.padding = padding
        self.output_padding = output_padding

    def forward(self, x: Any) -> Any:
        return ops.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)


class BatchNorm(Module):
    """Normalise each of the n channels (the last axis) of (..., n), then scale and shift it.

    y = weight (x - mean) / sqrt(variance + eps) + bias (Ioffe and Szegedy, 2015). In training, the mean and
    the biased variance are those of the batch, over all other axes. The running statistics move towards them,
    with the unbiased variance: running = (1 - momentum) running + momentum batch. After training the running
    statistics are used. The constants are PyTorch's. ``ValueError`` if a training batch has fewer than two
    values per channel.
    """

    buffers = ("running_mean", "running_var")

    def __init__(self, n: int, *, eps: float = 1e-5, momentum: float = 0.1, dtype: str = "float32") -> None:
        self.weight = Tensor(to_device(numpy.ones(n, dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n, dtype)))
        self.running_mean = to_device(numpy.zeros(n, dtype))
        self.running_var = to_device(numpy.ones(n, dtype))
        self.eps = eps
        self.momentum = momentum

    def forward(self, x: Any) -> Any:
        if not self.training:
            scale = self.weight / ops.sqrt(self.running_var + self.eps)
            return (x - self.running_mean) * scale + self.bias
        count = math.prod(x.shape[:-1])
        if count < 2:
            raise ValueError("BatchNorm: more than 1 value per channel expected in training, "
                             f"shape {x.shape} found")
        y, (mean, var) = ops.batch_norm(x, self.weight, self.bias, self.eps)
        self._update_running("running_mean", mean)
        self._update_running("running_var", var * (count / (count - 1)))
        return y

    def _update_running(self, name: str, batch: Array) -> None:
        before = getattr(self, name)
        setattr(self, name, ((1 - self.momentum) * before + self.momentum * batch).astype(before.dtype))


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
    """Layers applied one after the other."""

    def __init__(self, *layers: Module) -> None:
        self.layers = list(layers)

    def forward(self, x: Any) -> Any:
        for layer in self.layers:
            x = layer(x)
        return x
