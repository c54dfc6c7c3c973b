"""Layers, which are modules that apply ops to their input, and the initialisers of their weights.

Weights are (in, out), or (kernel height, kernel width, in, out) in convolutions. They are drawn on the host
from an explicit NumPy random generator, so the same seed gives the same network on NumPy and on CuPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy

from minigen import checks, ops, ranks
from minigen.backend import Array, to_device
from minigen.batch_norm import check_channels
from minigen.core import Op, Tensor
from minigen.kernels import fused
from minigen.module import Module as Module     # also under this name

Initialiser = Callable[[numpy.random.Generator, tuple[int, ...]], numpy.ndarray]


def he_normal(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from N(0, 2 / fan_in), which keep a signal's size through ReLUs (He et al., 2015, Eq. 10)."""
    fan_in, _ = _fans("he_normal", rng, shape)
    return rng.standard_normal(shape) * math.sqrt(2 / fan_in)


def glorot_uniform(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from U(-b, b) with b^2 = 6 / (fan_in + fan_out) (Glorot and Bengio, 2010, Eq. 16)."""
    bound = math.sqrt(6 / math.fsum(_fans("glorot_uniform", rng, shape)))
    return rng.uniform(-bound, bound, shape)


def fan_in_uniform(rng: numpy.random.Generator, shape: tuple[int, ...]) -> numpy.ndarray:
    """Weights from U(-b, b) with b = 1 / sqrt(fan_in), PyTorch's default.

    LeCun et al. (1998) use three times this variance.
    """
    fan_in, _ = _fans("fan_in_uniform", rng, shape)
    bound = 1 / math.sqrt(fan_in)
    return rng.uniform(-bound, bound, shape)


INITIALISERS: dict[str, Initialiser] = {f.__name__: f for f in (he_normal, glorot_uniform, fan_in_uniform)}


def _fans(owner: str, rng: numpy.random.Generator, shape: tuple[int, ...]) -> tuple[int, int]:
    _check_rng(owner, rng)
    *window, n_in, n_out = checks.sizes(owner, "shape", shape, fewest=2)
    return math.prod(window) * n_in, math.prod(window) * n_out


def _check_rng(owner: str, rng: Any) -> None:
    if not isinstance(rng, numpy.random.Generator):
        raise TypeError(f"{owner}: rng, a random generator such as numpy.random.default_rng(0), expected, "
                        f"{checks.shown(rng)} found")


def _precision(owner: str, dtype: Any) -> str:
    """The name of ``dtype``: float32 or float64."""
    name = getattr(dtype, "__name__", str(dtype))
    if name not in ("float32", "float64"):
        raise TypeError(f"{owner}: dtype float32 or float64 expected, {name} found")
    return name


class _Affine(Module):
    """A layer with a weight (..., n_in, n_out) from ``init``, and a bias (n_out,), zero at first, or None.

    ``settings`` names the attributes that ``repr`` shows.
    """

    settings: tuple[str, ...] = ()

    def __init__(self, shape: tuple[int, ...], bias: bool, rng: numpy.random.Generator, init: Initialiser,
                 dtype: str) -> None:
        owner = type(self).__name__
        dtype = _precision(owner, dtype)
        _check_rng(owner, rng)
        if not callable(init):
            raise TypeError(f"{owner}: init, a function such as nn.he_normal, expected, {init!r} found")
        weight = init(rng, shape)
        if not isinstance(weight, numpy.ndarray) or weight.shape != shape or weight.dtype.kind not in "fiu":
            found = getattr(weight, "shape", type(weight).__name__)
            raise ValueError(f"{owner}: an array {shape} of numbers expected from init, {found} found")
        self.weight = Tensor.holding(to_device(weight.astype(dtype, order="C")))
        self.bias = Tensor(to_device(numpy.zeros(shape[-1], dtype))) if bias else None

    def extra_repr(self) -> str:
        *kernel, n_in, n_out = self.weight.shape
        words = [n_in, n_out, *[tuple(kernel)] * bool(kernel)]
        words += [f"{name}={getattr(self, name)}" for name in self.settings]
        return ", ".join(map(str, words + ["bias=False"] * (self.bias is None)))


class Linear(_Affine):
    """x w + b: (..., n_in) to (..., n_out).

    The weight (n_in, n_out) comes from ``init``. The bias (n_out,) starts at zero; ``bias=False`` leaves it
    out.
    """

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, rng: numpy.random.Generator,
                 init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        shape = checks.whole("Linear", "n_in", n_in), checks.whole("Linear", "n_out", n_out)
        super().__init__(shape, bias, rng, init, dtype)

    def forward(self, x: Any, activation: Op | None = None) -> Any:
        """x w + b, or an activation of that; see ``ops.linear``."""
        if self.bias is not None:
            return ops.linear(x, self.weight, self.bias, activation=activation)
        y = ops.matmul(x, self.weight)
        return y if activation is None else activation(y)


def _kernel_shape(owner: str, n_in: int, n_out: int, kernel: int | tuple[int, int]) -> tuple[int, ...]:
    sides = kernel if isinstance(kernel, (tuple, list)) and len(kernel) == 2 else (kernel, kernel)
    return (*(checks.whole(owner, "kernel", side) for side in sides),
            checks.whole(owner, "n_in", n_in), checks.whole(owner, "n_out", n_out))


class Conv2d(_Affine):
    """The convolution ``ops.conv2d``: (N, H, W, n_in) to (N, H', W', n_out).

    The weight (kernel, kernel, n_in, n_out) comes from ``init``; a pair ``kernel`` is (height, width). The
    bias (n_out,) starts at zero; ``bias=False`` leaves it out.
    """

    settings = ("stride", "padding")

    def __init__(self, n_in: int, n_out: int, kernel: int | tuple[int, int], *, stride: int = 1,
                 padding: int = 0, bias: bool = True, rng: numpy.random.Generator,
                 init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        self.stride = checks.whole("Conv2d", "stride", stride)
        self.padding = checks.whole("Conv2d", "padding", padding, 0)
        super().__init__(_kernel_shape("Conv2d", n_in, n_out, kernel), bias, rng, init, dtype)

    def forward(self, x: Any) -> Any:
        return ops.conv2d(x, self.weight, self.bias, self.stride, self.padding)


class ConvTranspose2d(_Affine):
    """The transposed convolution ``ops.conv_transpose2d``: (N, H, W, n_in) to (N, H', W', n_out).

    The weight (kernel, kernel, n_in, n_out) comes from ``init``; a pair ``kernel`` is (height, width). The
    bias (n_out,) starts at zero; ``bias=False`` leaves it out.
    """

    settings = ("stride", "padding", "output_padding")

    def __init__(self, n_in: int, n_out: int, kernel: int | tuple[int, int], *, stride: int = 1,
                 padding: int = 0, output_padding: int = 0, bias: bool = True, rng: numpy.random.Generator,
                 init: Initialiser = fan_in_uniform, dtype: str = "float32") -> None:
        self.stride = checks.whole("ConvTranspose2d", "stride", stride)
        self.padding = checks.whole("ConvTranspose2d", "padding", padding, 0)
        self.output_padding = checks.whole("ConvTranspose2d", "output_padding", output_padding, 0)
        super().__init__(_kernel_shape("ConvTranspose2d", n_in, n_out, kernel), bias, rng, init, dtype)

    def forward(self, x: Any) -> Any:
        return ops.conv_transpose2d(x, self.weight, self.bias, self.stride, self.padding, self.output_padding)


@fused
def _moved(running: Array, batch: Array, keep: float, share: float, factor: float) -> Array:
    return keep * running + share * (batch * factor)


class BatchNorm(Module):
    """Normalise each of the n channels (the last axis) of (..., n), then scale and shift it.

    y = weight (x - mean) / sqrt(variance + eps) + bias (Ioffe and Szegedy, 2015). In training, the mean and
    the biased variance are those of the batch, over all other axes. The running statistics move towards them,
    with the unbiased variance: running = (1 - momentum) running + momentum batch. After training the running
    statistics are used. The constants are PyTorch's. ``ValueError`` for other than n channels, or if a
    training batch has fewer than two values per channel.
    """

    buffers = ("running_mean", "running_var")

    def __init__(self, n: int, *, eps: float = 1e-5, momentum: float = 0.1, dtype: str = "float32") -> None:
        n, dtype = checks.whole("BatchNorm", "n", n), _precision("BatchNorm", dtype)
        self.eps = checks.real("BatchNorm", "eps", eps, "[1e-30, inf)")
        self.momentum = checks.real("BatchNorm", "momentum", momentum, "[0, 1]")
        self.weight = Tensor(to_device(numpy.ones(n, dtype)))
        self.bias = Tensor(to_device(numpy.zeros(n, dtype)))
        self.running_mean = to_device(numpy.zeros(n, dtype))
        self.running_var = to_device(numpy.ones(n, dtype))

    def forward(self, x: Any) -> Any:
        check_channels("BatchNorm", x, self.weight, self.bias)
        if not self.training:
            scale = self.weight / ops.sqrt(self.running_var + self.eps)
            return (x - self.running_mean) * scale + self.bias
        count = math.prod(x.shape[:-1]) * ranks.sharers()
        if count < 2:
            raise ValueError("BatchNorm: more than 1 value per channel expected in training, "
                             f"shape {x.shape} found")
        y, (mean, var) = ops.batch_norm(x, self.weight, self.bias, self.eps)
        for name, batch, factor in (("running_mean", mean, 1.0), ("running_var", var, count / (count - 1))):
            before = getattr(self, name)
            after = _moved(before, batch, 1 - self.momentum, self.momentum, factor)
            setattr(self, name, after.astype(before.dtype, copy=False))
        return y

    def extra_repr(self) -> str:
        return f"{self.weight.size}, eps={self.eps}, momentum={self.momentum}"


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Any:
        return ops.relu(x)


class LeakyReLU(Module):
    """x where x > 0, ``slope`` x elsewhere."""

    def __init__(self, slope: float = 0.01) -> None:
        self.slope = checks.real("LeakyReLU", "slope", slope)

    def forward(self, x: Any) -> Any:
        return ops.leaky_relu(x, slope=self.slope)

    def extra_repr(self) -> str:
        return str(self.slope)


class Sigmoid(Module):
    """1 / (1 + exp(-x))."""

    def forward(self, x: Any) -> Any:
        return ops.sigmoid(x)


class Tanh(Module):
    """The hyperbolic tangent."""

    def forward(self, x: Any) -> Any:
        return ops.tanh(x)


# Those that a linear layer applies in the same op
_ACTIVATIONS: dict[Any, Op] = {ReLU: ops.relu, Sigmoid: ops.sigmoid, Tanh: ops.tanh}


class Reshape(Module):
    """(N, ...) to ``(N, *shape)``. One size may be -1: it follows from the others."""

    def __init__(self, *shape: int) -> None:
        inferred = shape.count(-1) == 1
        self.shape = tuple(-1 if inferred and n == -1 else checks.whole("Reshape", "size", n) for n in shape)

    def forward(self, x: Any) -> Any:
        if not getattr(x, "shape", ()):
            raise TypeError(f"Reshape: an array or Tensor (N, ...) expected, {checks.shown(x)} found")
        return ops.reshape(x, (x.shape[0], *self.shape))

    def extra_repr(self) -> str:
        return ", ".join(map(str, self.shape))


class Sequential(Module):
    """Layers applied one after the other: ``net[0]`` is the first, ``net[:2]`` a Sequential of the first two.

    A layer is a module, or a function such as ``ops.tanh``.
    """

    layers: list[Callable[[Any], Any]]

    def __init__(self, *layers: Callable[[Any], Any]) -> None:
        for layer in layers:
            if isinstance(layer, type) or not callable(layer):
                raise TypeError("Sequential: modules or functions expected, one by one, "
                                f"{checks.shown(layer)} found")
        vars(self)["layers"] = list(layers)      # not watched in each call: forward leaves it alone

    def forward(self, x: Any) -> Any:
        done = False        # this layer, in one op with the layer before
        for layer, following in zip(self.layers, [*self.layers[1:], None]):
            if done:
                done = False
                continue
            activation = _ACTIVATIONS.get(type(following))
            if type(layer) is Linear and activation is not None:
                x, done = layer(x, activation), True
            else:
                x = layer(x)
        return x

    def __getitem__(self, index: int | slice) -> Any:
        return Sequential(*self.layers[index]) if isinstance(index, slice) else self.layers[index]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Callable[[Any], Any]]:
        return iter(self.layers)

    def _shown(self) -> Iterable[tuple[str, Any]]:
        return ((str(i), layer) for i, layer in enumerate(self.layers))
