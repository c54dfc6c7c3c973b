"""The arithmetic of dense layers: activations, and ``linear``, which applies one in the same op."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy

from minigen import threads
from minigen.backend import Array, xp
from minigen.core import Op, column_sums

# Activations


def _beside(a: Any, number: float) -> Any:
    """``number`` for the minimum or maximum with ``a``: NumPy takes half the time with a row of it."""
    if type(a) is numpy.ndarray and (32,) <= a.shape[-1:] <= (1 << 14,) and a.dtype.kind == "f":
        return _row(number, a.shape[-1], a.dtype)
    return number


@lru_cache
def _row(number: float, n: int, dtype: Any) -> Array:
    return numpy.full(n, number, dtype)


def _tanh(a: Array, out: Array | None = None) -> Array:
    return xp.tanh(a, out=out)


def _times_tanh_slope(g: Array, y: Array, out: Array | None = None) -> Array:
    slope = xp.multiply(y, y, out=out)
    slope = xp.subtract(1, slope, out=out)
    return xp.multiply(g, slope, out=out)


_tanh_gradient: Op = Op("tanh_gradient(g, y) = g (1 - y^2)",
                        _times_tanh_slope,
                        lambda h, _, g, y: _tanh_gradient(h, y),
                        lambda h, _, g, y: -2 * h * g * y,
                        elementwise=True)

tanh = Op("tanh(a) = the hyperbolic tangent of a",
          _tanh,
          lambda g, y, a: _tanh_gradient(g, y),
          elementwise=True)


@lru_cache
def _log_largest(dtype: Any) -> float:
    return -math.log(numpy.finfo(dtype).tiny)


def _sigmoid(a: Array, out: Array | None = None) -> Array:
    # The bound keeps exp from overflowing. Where it acts, the result is the smallest normal number, not less.
    y = xp.exp(xp.minimum(-a, _beside(a, _log_largest(a.dtype))), out=out)
    y += 1
    return xp.divide(1, y, out=y) if y.ndim else 1 / y


def _times_sigmoid_slope(g: Array, y: Array, out: Array | None = None) -> Array:
    slope = xp.subtract(1, y, out=out)
    slope = xp.multiply(y, slope, out=out)
    return xp.multiply(g, slope, out=out)


_sigmoid_gradient: Op = Op("sigmoid_gradient(g, y) = g y (1 - y)",
                           _times_sigmoid_slope,
                           lambda h, _, g, y: _sigmoid_gradient(h, y),
                           lambda h, _, g, y: h * g * (1 - 2 * y),
                           elementwise=True)

sigmoid = Op("sigmoid(a) = 1 / (1 + exp(-a))",
             _sigmoid,
             lambda g, y, a: _sigmoid_gradient(g, y),
             elementwise=True)

_gate: Op = Op("gate(g, a) = g where a is not 0, 0 elsewhere",
               lambda g, a, out=None: xp.multiply(g, a != 0, out=out),
               lambda h, y, g, a: _gate(h, a),
               None,
               elementwise=True)


def _relu(a: Array, out: Array | None = None) -> Array:
    return xp.maximum(a, _beside(a, 0), out=out)


relu = Op("relu(a) = max(a, 0)",
          _relu,
          lambda g, y, a: _gate(g, y),      # 0 at 0, but g where y is NaN: an error must not disappear
          elementwise=True)

_times_sigmoid: Op = Op("times_sigmoid(g, a) = g sigmoid(a)",
                        lambda g, a, out=None: xp.multiply(g, _sigmoid(a, out), out=out),
                        lambda h, y, g, a: _times_sigmoid(h, a),
                        lambda h, y, g, a: _sigmoid_gradient(h * g, sigmoid(a)),
                        elementwise=True)


def _softplus(a: Array, out: Array | None = None) -> Array:
    # never overflows, and is far faster than logaddexp
    return xp.add(xp.maximum(a, _beside(a, 0)), xp.log1p(xp.exp(-xp.abs(a))), out=out)


softplus = Op("softplus(a) = log(1 + exp(a))",
              _softplus,
              lambda g, y, a: _times_sigmoid(g, a),
              elementwise=True)

# x w + b, and an activation


def _finish(function: Callable[..., Array] | None) -> Callable[..., Array]:
    """The function that adds a bias and applies an activation, one kernel on a GPU."""
    def finish(y: Array, b: Array, out: Array | None = None) -> Array:
        y = y + b if out is None else xp.add(y, b, out=out)
        return y if function is None else function(y, out=out)
    finish.__name__ += getattr(function, "__name__", "")
    return threads.elementwise(finish)


_FINISH = {None: _finish(None), relu: _finish(_relu), sigmoid: _finish(_sigmoid), tanh: _finish(_tanh)}


def _linear(x: Array, w: Array, b: Array, *, activation: Op | None = None) -> Array:
    if activation not in _FINISH:
        raise ValueError(f"activation relu, sigmoid, tanh or None expected, {activation} found")
    return _FINISH[activation](x @ w, b, overwrite=True)


def _rows(x: Any) -> Any:
    return x if x.ndim == 2 else x.reshape((math.prod(x.shape[:-1]), x.shape[-1]))


def _linear_gradients(needed: Sequence[bool], g: Any, y: Any, x: Any, w: Any, b: Any,
                      activation: Op | None = None) -> list[Any]:
    if activation is not None:
        partial, = activation.partials
        assert partial is not None
        g = partial(g, y, None)     # it uses the output alone
    return [g @ w.T if needed[0] else None,
            _rows(x).T @ _rows(g) if needed[1] else None,
            column_sums(g) if needed[2] else None]


linear = Op("linear(x, w, b, activation=None) = x w + b for x (..., in), w (in, out), b (out,), or its relu, "
            "sigmoid or tanh",
            _linear,
            joint=_linear_gradients)
linear.names = "x", "w", "b"   # joint partials do not tell these from options such as activation
