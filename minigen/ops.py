"""The differentiable operations. Each has its forward function and its partials on adjacent lines.

Every op takes raw arrays and returns one, or takes Tensors and returns a recorded Tensor. It broadcasts as
NumPy does. It can be differentiated any number of times, because a partial uses only operators and ops. At a
kink the partial is the subgradient that the comment names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, overload

from minigen import kernels, threads
from minigen.backend import Array, xp
from minigen.batch_norm import batch_norm, moments
from minigen.conv import conv2d, conv_transpose2d
from minigen.core import Op, averaged, broadcast_to, copy, reduced, sum_to
from minigen.dense import linear, relu, sigmoid, softplus, tanh
from minigen.tensor import Tensor, Value, operators

__all__ = ["add", "sub", "mul", "div", "neg", "power", "exp", "log", "sqrt", "abs", "sign", "tanh", "sigmoid",
           "relu", "leaky_relu", "softplus", "maximum", "minimum", "clip", "where", "sum", "mean", "var",
           "max", "logsumexp", "softmax", "log_softmax", "reshape", "transpose", "broadcast_to", "sum_to",
           "concatenate", "copy", "getitem", "scatter", "matmul", "linear", "moments", "batch_norm", "conv2d",
           "conv_transpose2d"]

# Elementwise arithmetic

add = Op("add(a, b) = a + b",
         lambda a, b: a + b,
         lambda g, y, a, b: g,
         lambda g, y, a, b: g)

sub = Op("sub(a, b) = a - b",
         lambda a, b: a - b,
         lambda g, y, a, b: g,
         lambda g, y, a, b: -g)

mul = Op("mul(a, b) = a b, elementwise",
         lambda a, b: a * b,
         lambda g, y, a, b: g * b,
         lambda g, y, a, b: g * a)

div = Op("div(a, b) = a / b",
         lambda a, b: a / b,
         lambda g, y, a, b: g / b,
         lambda g, y, a, b: -g * y / b)

neg = Op("neg(a) = -a",
         lambda a: -a,
         lambda g, y, a: -g)


def _alike(a: Any, like: Any) -> Any:
    """``a`` in the dtype of ``like``. A Tensor has it, but an array may have a smaller one, such as uint8."""
    return a if type(a) is Tensor else a.astype(like.dtype, copy=False)


def _lowered(a: Any, b: Any) -> Any:
    """The exponent in d(a^b)/da = b a^(b-1), or b where a and b are 0: the result is then 0, not 0 / 0."""
    if hasattr(b, "shape"):
        return _alike(b, a) - ((a != 0) | (b != 0))
    return b - 1 if b else 1


def _log_base(a: Any, b: Any) -> Any:
    """The logarithm in d(a^b)/db = a^b log(a), but 0 where a is 0: for b > 0 the limit there is 0."""
    if hasattr(a, "shape"):
        a = _alike(a, b)
        return log(where(a == 0, 1.0, a))
    return math.log(a or 1) if a >= 0 else math.nan


power = Op("power(a, b) = a to the power b",
           lambda a, b: a ** b,
           lambda g, y, a, b: g * b * a ** _lowered(a, b),
           lambda g, y, a, b: g * y * _log_base(a, b))

# Elementwise functions

exp = Op("exp(a) = e to the power a",
         lambda a: xp.exp(a),
         lambda g, y, a: g * y)

log = Op("log(a) = the natural logarithm of a",
         lambda a: xp.log(a),
         lambda g, y, a: g / a)

sqrt = Op("sqrt(a) = the square root of a",
          lambda a: xp.sqrt(a),
          lambda g, y, a: g / (2 * y))

sign = Op("sign(a) = -1, 0 or 1",
          lambda a: xp.sign(a),
          None)

abs = Op("abs(a) = |a|",
         lambda a: xp.abs(a),
         lambda g, y, a: g * sign(a))      # 0 at 0


leaky_relu = Op("leaky_relu(a, slope=0.01) = a where a > 0, slope a elsewhere",
                lambda a, slope=0.01: xp.where(a > 0, a, slope * a),
                lambda g, y, a, slope=0.01: where(a > 0, g, slope * g))     # the slope at 0

maximum = Op("maximum(a, b) = the larger of a and b",
             lambda a, b: xp.maximum(a, b),
             lambda g, y, a, b: where(a == b, 0.5 * g, where(a < b, 0.0, g)),       # half each where a = b
             lambda g, y, a, b: where(a == b, 0.5 * g, where(a > b, 0.0, g)))

minimum = Op("minimum(a, b) = the smaller of a and b",
             lambda a, b: xp.minimum(a, b),
             lambda g, y, a, b: where(a == b, 0.5 * g, where(a > b, 0.0, g)),       # half each where a = b
             lambda g, y, a, b: where(a == b, 0.5 * g, where(a < b, 0.0, g)))

clip = Op("clip(a, low, high) = a, but low where a < low and high where a > high; None is no bound",
          lambda a, low, high: xp.clip(a, low, high),
          lambda g, y, a, low, high: where(_outside(a, low, high), 0.0, g))     # 1 at the bounds


def _outside(a: Any, low: Any, high: Any) -> Any:
    below = False if low is None else a < low
    return below | (False if high is None else a > high)


where: Op = Op("where(condition, a, b) = a where the condition holds, b elsewhere",
               lambda condition, a, b: xp.where(condition, a, b),
               None,
               lambda g, y, condition, a, b: where(condition, g, 0.0),
               lambda g, y, condition, a, b: where(condition, 0.0, g))


# Reductions: over all axes (axis=None), one axis or a tuple of axes

def _restore(g: Any, a: Any, axis: Any) -> Any:
    """Give ``g`` back, with length 1, the axes of ``a`` that a reduction over ``axis`` dropped."""
    if axis is None or a.ndim == 0:
        return g.reshape((1,) * a.ndim)
    axes = [i % a.ndim for i in (axis if isinstance(axis, tuple) else (axis,))]
    return g.reshape(tuple(1 if i in axes else n for i, n in enumerate(a.shape)))


def _mean(g: Any, a: Any, axis: Any) -> Any:
    """The gradient of the mean: g / (the number of averaged elements), repeated along the reduced axes."""
    restored = _restore(g, a, axis)
    return broadcast_to(restored, a.shape, scale=restored.size / a.size if a.size else 0.0)


def _share(g: Any, y: Any, a: Any, axis: Any) -> Any:
    """Give ``g`` to the elements of ``a`` that equal the maximum ``y``, in equal shares if several do."""
    ties = xp.asarray((a == _restore(y, a, axis)) | (a != a), dtype=g.dtype)      # a != a where a is NaN
    return _restore(g, a, axis) * (ties / xp.sum(ties, axis=axis, keepdims=True))


def _below_peak(a: Array, axis: Any) -> tuple[Array, Array]:
    """The maximum, and ``a`` minus it, which is 0 where they are equal, even if both are infinite."""
    peak = xp.max(a, axis=axis, keepdims=True)
    ties = a == peak
    return peak, xp.where(ties, 0, a) - xp.where(ties, 0, peak)


def _logsumexp(a: Array, axis: Any = None, keepdims: bool = False) -> Array:
    peak, below = _below_peak(a, axis)
    y = xp.log(reduced(xp.sum, xp.exp(below), axis, True)) + peak
    return y if keepdims else xp.squeeze(y, axis=axis)


def _softmax(a: Array, axis: Any = -1) -> Array:
    y = xp.exp(_below_peak(a, axis)[1])
    return y / reduced(xp.sum, y, axis, True)


def _log_softmax(a: Array, axis: Any = -1) -> Array:
    below = _below_peak(a, axis)[1]
    return below - xp.log(reduced(xp.sum, xp.exp(below), axis, True))


sum = Op("sum(a, axis=None, keepdims=False)",
         lambda a, axis=None, keepdims=False: reduced(xp.sum, a, axis, keepdims),
         lambda g, y, a, axis=None, keepdims=False: broadcast_to(_restore(g, a, axis), a.shape))

mean = Op("mean(a, axis=None, keepdims=False)",
          lambda a, axis=None, keepdims=False: averaged(a, axis, keepdims),
          lambda g, y, a, axis=None, keepdims=False: _mean(g, a, axis))

var = Op("var(a, axis=None, keepdims=False) = mean of (a - mean a)^2, the population variance",
         lambda a, axis=None, keepdims=False: reduced(xp.var, a, axis, keepdims),
         lambda g, y, a, axis=None, keepdims=False: (
             _mean(g, a, axis) * (2 * (a - mean(a, axis=axis, keepdims=True)))))

max = Op("max(a, axis=None, keepdims=False)",
         lambda a, axis=None, keepdims=False: xp.max(a, axis=axis, keepdims=keepdims),
         lambda g, y, a, axis=None, keepdims=False: _share(g, y, a, axis))      # equal shares among ties

logsumexp = Op("logsumexp(a, axis=None, keepdims=False) = log sum exp a",
               _logsumexp,
               lambda g, y, a, axis=None, keepdims=False: _restore(g, a, axis) * softmax(a, axis=axis))

softmax: Op = Op("softmax(a, axis=-1) = exp(a) / sum exp(a); infinite elements share 1 equally",
                 _softmax,
                 lambda g, y, a, axis=-1: y * (g - sum(g * y, axis=axis, keepdims=True)))

log_softmax = Op("log_softmax(a, axis=-1) = a - logsumexp(a)",
                 _log_softmax,
                 lambda g, y, a, axis=-1: g - exp(y) * sum(g, axis=axis, keepdims=True))

# Shape and indexing

reshape: Op = Op("reshape(a, shape)",
                 lambda a, shape: xp.reshape(a, shape),
                 lambda g, y, a, shape: reshape(g, a.shape))


def _inverse(axes: Sequence[int] | None) -> tuple[int, ...] | None:
    """The permutation that undoes the permutation ``axes``."""
    return None if axes is None else tuple(sorted(range(len(axes)), key=lambda i: axes[i] % len(axes)))


transpose: Op = Op("transpose(a, axes=None) = a with its axes permuted, reversed if axes is None",
                   lambda a, axes=None: xp.transpose(a, axes),
                   lambda g, y, a, axes=None: transpose(g, _inverse(axes)))


def _add_at(a: Array, index: Any, shape: tuple[int, ...]) -> Array:
    parts = index if isinstance(index, tuple) else (index,)
    if all(part is None or part is Ellipsis or isinstance(part, (int, slice)) for part in parts):
        return kernels.placed(a, index, shape)      # basic indexing selects no element twice
    y = xp.zeros(shape, a.dtype)
    xp.add.at(y, index, a)
    return y


_getitem = Op("getitem(a, index) = a[index]",
              lambda a, index: a[index],
              lambda g, y, a, index: _scatter(g, index=index, shape=a.shape))

_scatter: Op = Op("scatter(a, index, shape) = zeros of `shape` with a added at `index`, repeated ones too",
                  _add_at,
                  lambda g, y, a, index, shape: _getitem(g, index=index))


def getitem(a: Value, index: Any) -> Value:
    """a[index] as in NumPy: with integers, slices, None, ``...``, and arrays of integers or bool."""
    return _getitem(a, index=index)


def scatter(a: Value, index: Any, shape: tuple[int, ...]) -> Value:
    """Zeros of ``shape`` with ``a`` added at ``index``: the adjoint of ``getitem``."""
    return _scatter(a, index=index, shape=shape)


def _split(wanted: Sequence[bool], g: Any, y: Any, *parts: Any, axis: int | None = 0) -> list[Any]:
    gradients, start = [], 0
    for part, needed in zip(parts, wanted):
        stop = start + (part.size if axis is None else part.shape[axis])
        index = (slice(None),) * (axis % g.ndim if axis else 0) + (slice(start, stop),)
        gradients.append(reshape(g[index], part.shape) if needed else None)
        start = stop
    return gradients


_concatenate = Op("concatenate(*arrays, axis=0)",
                  lambda *parts, axis=0: kernels.concatenate(parts, axis),
                  joint=_split)


@overload
def concatenate(arrays: Sequence[Tensor], axis: int | None = 0) -> Tensor:
    ...


@overload
def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    ...


def concatenate(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """The arrays or Tensors joined along an existing axis, or all their elements in one row if it is None."""
    return _concatenate(*arrays, axis=axis)


# Products

_SHARED_MULTIPLICATIONS = 1 << 25       # the number from which threads gain more than they cost


def _swap(a: Any) -> Any:
    return transpose(a, (*range(a.ndim - 2), a.ndim - 1, a.ndim - 2))


def _matmul_a(g: Any, y: Any, a: Any, b: Any) -> Any:
    if b.ndim == 1:
        return g[..., None] * b
    return matmul(b, g[..., None])[..., 0] if a.ndim == 1 else matmul(g, _swap(b))


def _matmul_b(g: Any, y: Any, a: Any, b: Any) -> Any:
    if a.ndim == 1:
        return a * g if b.ndim == 1 else a[:, None] * g[..., None, :]
    return matmul(_swap(a), g[..., None])[..., 0] if b.ndim == 1 else matmul(_swap(a), g)


def _product(a: Array, b: Array) -> Array:
    alike = a.ndim == b.ndim == 2 and a.dtype == b.dtype
    if not (alike and threads.sharing() and len(a) * b.size >= _SHARED_MULTIPLICATIONS):
        return a @ b
    y = xp.empty((len(a), b.shape[1]), a.dtype)
    width = -(-b.shape[1] // threads.count())

    def work(start: int) -> None:
        xp.matmul(a, b[:, start:start + width], out=y[:, start:start + width])
    threads.parallel(work, range(0, b.shape[1], width))
    return y


matmul = Op("matmul(a, b) = a @ b, with NumPy's rules for vectors and for stacks of matrices",
            _product,
            _matmul_a,
            _matmul_b)

operators.update(add=add, sub=sub, mul=mul, div=div, neg=neg, power=power, abs=abs, matmul=matmul,
                 getitem=getitem, reshape=reshape, transpose=transpose, sum=sum, mean=mean, max=max)
