"""Automatic differentiation: ``grad``. ``Tensor``, ``Op`` and ``no_grad`` are names of this module too.

An op is a forward function with one vector-Jacobian product per argument. These products are its partials,
written with operators and ops only:

    mul = Op("mul(a, b) = a b, elementwise",
             lambda a, b: a * b,              # forward, on raw arrays
             lambda g, y, a, b: g * b,        # d/da: upstream gradient, output, the arguments
             lambda g, y, a, b: g * a)        # d/db

Called with raw arrays, an op returns a raw array. With a ``Tensor`` among its arguments, it returns a
``Tensor`` that remembers the op and the arguments: the graph. ``grad(y, xs)`` walks that graph from ``y``
back to ``xs`` and calls the partials on the raw arrays. With ``create_graph=True`` the same partials run on
Tensors. The gradient is then itself a recorded function, and can be differentiated again, to any order.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from typing import Any, Literal, overload

import numpy

from minigen import backend, ranks
from minigen.backend import Array, xp
from minigen.kernels import either
from minigen.op import Op, named, no_grad, signature, thread
from minigen.tensor import Tensor

__all__ = ["Op", "Tensor", "all_mean", "broadcast_to", "column_sums", "copy", "grad", "no_grad", "numbers",
           "reduced", "sum_to", "to_host"]


@contextmanager
def _recording() -> Iterator[None]:
    before, thread.paused = thread.paused, 0
    try:
        yield
    finally:
        thread.paused = before


def to_host(x: Tensor | Array) -> Any:
    """The value of a Tensor or a backend array as a NumPy array. On a GPU this waits, and copies.

    Without a GPU the array is not copied; that of a Tensor is read-only.
    """
    return backend.to_host(x.data if isinstance(x, Tensor) else x)


def numbers(owner: str, name: str, value: Any, kinds: str = "biuf") -> Array:
    """``value``, numbers in an array, a Tensor or nested lists, as an array on the host or on the GPU.

    ``kinds`` are the kinds of its dtype, as NumPy abbreviates them; "iu" are integers. ``ValueError`` for
    anything else, and for a masked array, since no function here looks at a mask.
    """
    array = value.data if isinstance(value, Tensor) else value
    if type(array) is not xp.ndarray:
        try:
            array = numpy.asarray(array)
        except (TypeError, ValueError):         # such as lists of different lengths
            array = numpy.asarray(None)
    masked = isinstance(value, numpy.ma.MaskedArray)
    if masked or array.dtype.kind not in kinds:
        expected = "integers" if kinds == "iu" else "real numbers"
        found = type(value).__name__ if masked or array.shape == () else f"{array.dtype} {array.shape}"
        raise ValueError(f"{owner}: {name}: an array of {expected} expected, {found} found")
    return array


@overload
def grad(y: Tensor, xs: Tensor, create_graph: Literal[True], retain_graph: bool = True) -> Tensor:
    ...


@overload
def grad(y: Tensor, xs: Tensor, create_graph: bool = False, retain_graph: bool = True) -> Any:
    ...


@overload
def grad(y: Tensor, xs: Sequence[Tensor], create_graph: Literal[True],
         retain_graph: bool = True) -> list[Tensor]:
    ...


@overload
def grad(y: Tensor, xs: Sequence[Tensor], create_graph: bool = False,
         retain_graph: bool = True) -> list[Any]:
    ...


def grad(y: Tensor, xs: Tensor | Sequence[Tensor], create_graph: bool = False,
         retain_graph: bool = True) -> Any:
    """The gradient of the scalar ``y`` with respect to each of ``xs``: dy/dx, with the shape and dtype of x.

    One Tensor ``xs`` gives one gradient, a sequence gives a list. Only the paths from ``xs`` to ``y`` are
    differentiated. The gradient is zero for an x on which ``y`` does not depend. The gradients are raw arrays
    or, with ``create_graph``, Tensors, recorded even within ``no_grad``. Each has memory of its own. Without
    ``retain_graph`` the graph is freed on the way, and cannot be differentiated again. Raises ``ValueError``
    if ``y`` is not a scalar or was not recorded. Raises ``RuntimeError`` if a Tensor on a path was changed
    after its use, or if the graph was freed.
    """
    if isinstance(xs, (set, frozenset)) or not hasattr(xs, "__iter__"):
        raise TypeError(f"grad: xs: a Tensor or a sequence of Tensors expected, {type(xs).__name__} found")
    wanted = [xs] if isinstance(xs, Tensor) else list(xs)
    for x in (y, *wanted):
        if type(x) is not Tensor:
            raise TypeError(f"grad: a Tensor expected, {type(x).__name__} found")
    if y.shape != ():
        raise ValueError(f"grad: a scalar expected, y has shape {y.shape}")
    if create_graph and not retain_graph:
        raise ValueError("grad: create_graph needs retain_graph: the gradient's graph leads through y's")
    targets = {id(x) for x in wanted}
    if y.op is None and id(y) not in targets:
        raise ValueError("grad: y was not recorded: compute it from Tensors, with ops, outside no_grad")
    with _recording() if create_graph else nullcontext():
        found = _backward(y, targets, create_graph, retain_graph)
        gradients = []
        for x in wanted:
            g = found.get(id(x))
            if g is None:
                g = _filled(x, value=0) if create_graph else xp.zeros(x.shape, x.dtype)
            elif id(x) not in targets:      # asked for a second time
                g = copy(g)
            targets.discard(id(x))
            gradients.append(g if create_graph else xp.asarray(g))
    return gradients[0] if isinstance(xs, Tensor) else gradients


def _backward(y: Tensor, targets: set[int], create_graph: bool, retain_graph: bool) -> dict[int, Any]:
    """The gradient of ``y`` with respect to each of ``targets`` on which it depends, by id."""
    path = _path(y, targets)
    expected_type = Tensor if create_graph else xp.ndarray
    found = {id(y): _filled(y, value=1) if create_graph else xp.ones((), y.dtype)}
    while path:
        node, needed = path.pop()
        g = found.get(id(node)) if id(node) in targets else found.pop(id(node), None)
        op, tensors, raw, options = node.op, node.args, node.raw, node.options
        value, args = (node, tensors) if create_graph else (node._data, raw)
        if not retain_graph:
            node.args = node.raw = None
        if g is None:       # every path from here to y has derivative zero
            continue
        parts = _joint(op, needed, g, value, args, options) if op.joint else op.partials
        for i, (part, wanted_here) in enumerate(zip(parts, needed)):
            if part is None or not wanted_here:
                continue
            if not op.joint:
                try:
                    part = part(g, value, *args, **options)
                except (ValueError, TypeError, IndexError, AttributeError, OverflowError) as error:
                    raise named(error, f"grad: partial {i} of {op.name}") from error
            like = raw[i]
            if type(part) is not expected_type or part.shape != like.shape or part.dtype is not like.dtype:
                part = _fitted(part, like, f"grad: partial {i} of {op.name}", create_graph)
            key = id(tensors[i])
            if key in found:
                part = found[key] + part
            elif key in targets:
                array = part._data if create_graph else part
                if array.base is not None or part is g or part is value or not op.keeps_nothing or id(
                        array) in map(id, raw):
                    part = copy(part)       # it is a view, an argument of the partial, or kept by it
            found[key] = part
    return found


def _joint(op: Any, needed: list[bool], g: Any, value: Any, args: Sequence[Any],
           options: dict[str, Any]) -> Sequence[Any]:
    try:
        parts = list(op.joint(needed, g, value, *args, **options))
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise named(error, f"grad: the joint partials of {op.name}") from error
    if len(parts) != len(needed):
        raise ValueError(f"grad: the joint partials of {op.name}: {len(needed)} gradients expected, one per "
                         f"argument, {len(parts)} found")
    for i, (part, wanted_here) in enumerate(zip(parts, needed)):
        if wanted_here and part is None:
            raise ValueError(f"grad: the joint partials of {op.name}: a gradient for argument {i} expected, "
                             "None found")
        if part is not None and any(part is other for other in parts[:i]):
            parts[i] = copy(part)       # each gradient has memory of its own
    return parts


def _fitted(part: Any, like: Array, name: str, create_graph: bool) -> Any:
    """The result of a partial, summed to the shape of its argument ``like``; an error if it does not fit."""
    if not isinstance(part, Tensor if create_graph else (xp.ndarray, numpy.generic)):
        expected = "a Tensor, made by operators and ops only," if create_graph else "an array"
        raise TypeError(f"{name}: {expected} expected, a {type(part).__name__} found")
    if part.dtype != like.dtype:
        raise TypeError(f"{name}: {like.dtype} expected, as the argument, {part.dtype} found")
    if part.shape == like.shape:
        return part
    try:
        return sum_to(part, like.shape)
    except ValueError:
        raise ValueError(f"{name}: the shape {like.shape} of the argument expected, "
                         f"{part.shape} found") from None


_by_order = operator.attrgetter("order")


def _path(y: Tensor, targets: set[int]) -> list[tuple[Tensor, list[bool]]]:
    """The recorded Tensors on paths from ``targets`` to ``y``, oldest first.

    Each comes with a bool per argument: whether a path leads through that argument.
    """
    seen = {id(y)}
    stack = [y]
    nodes = []
    while stack:
        node = stack.pop()
        if node.op is not None:
            if node.args is None:
                raise RuntimeError("grad: a part of y's graph was freed by an earlier grad without "
                                   "retain_graph: compute y again")
            nodes.append(node)
            for a in node.args:
                if type(a) is Tensor and id(a) not in seen:
                    seen.add(id(a))
                    stack.append(a)
    nodes.sort(key=_by_order)
    reached = set(targets)
    path = []
    for node in nodes:
        needed = [type(a) is Tensor and id(a) in reached for a in node.args]
        if True in needed:
            for i, a in enumerate(node.args):
                if type(a) is Tensor and a.order > node.order:
                    call = signature(node.op.name, node.raw, node.options)
                    raise RuntimeError(f"grad: argument {i} of {call} was changed after this graph was "
                                       "recorded: compute y again")
            reached.add(id(node))
            path.append((node, needed))
    return path


def column_sums(a: Any) -> Any:
    """The sum of ``a`` (..., columns) over all axes but the last."""
    rows = a.reshape((math.prod(a.shape[:-1]), a.shape[-1]))
    return _ones(xp.ones, len(rows), a.dtype) @ rows    # BLAS sums over rows in half the time of xp.sum


@lru_cache(maxsize=16)
def _ones(make: Callable[..., Array], n: int, dtype: Any) -> Array:
    return make(n, dtype)


_LONG = 1 << 13         # float32 numbers: their sum, one by one, has lost one or two of its seven digits


def reduced(reduction: Callable[..., Array], a: Array, axis: Any, keepdims: bool) -> Array:
    """The ``reduction`` xp.sum or xp.var; along axes so long that float32 would lose digits, in float64.

    NumPy adds in pairs along the last axis only; along others it adds one number after the other. A GPU
    always adds in pairs.
    """
    y = reduction(a, axis=axis, keepdims=keepdims)
    if a.size > _LONG * y.size and a.itemsize < 8 and type(a) is numpy.ndarray and (
            axis is not None or not a.flags.c_contiguous):
        y = reduction(a, axis=axis, keepdims=keepdims, dtype="float64").astype(a.dtype)
    return y


def _averaged(a: Array, axis: Any, keepdims: bool) -> Array:
    # Takes half the time of numpy.mean on the small arrays that losses average. Both give nan for 0 / 0.
    total = reduced(xp.sum, a, axis, keepdims)
    return total * (total.size / a.size if a.size else math.nan)


averaged = either(_averaged, lambda a, axis, keepdims: xp.mean(a, axis=axis, keepdims=keepdims))


def _sum_to(a: Array, shape: tuple[int, ...]) -> Array:
    lead = len(a.shape) - len(shape)
    if lead < 0 or any(n not in (1, m) for n, m in zip(shape, a.shape[lead:])):
        raise ValueError(f"a shape that can be broadcast to {a.shape} expected, {shape} found")
    stretched = tuple(i + lead for i, n in enumerate(shape) if n == 1 and a.shape[i + lead] != 1)
    return reduced(xp.sum, a, tuple(range(lead)) + stretched, False).reshape(shape)


def _broadcast_to(a: Array, shape: tuple[int, ...], scale: float = 1) -> Array:
    # NumPy's view with stride 0 is slow to make and slow to read: filling memory is faster.
    y = xp.empty(shape, a.dtype)
    if scale == 1:
        y[...] = a
        return y
    return xp.multiply(a, scale, out=y)


sum_to = Op("sum_to(a, shape) = a summed over the axes along which `shape` was broadcast to a's shape",
            _sum_to,
            lambda g, y, a, shape: broadcast_to(g, a.shape))

broadcast_to: Op = Op("broadcast_to(a, shape, scale=1) = a times a number, repeated along new axes and along "
                      "axes of length 1",
                      _broadcast_to,
                      lambda g, y, a, shape, scale=1: sum_to(g, a.shape) * scale)

all_mean: Op = Op("all_mean(a) = the mean of a over the ranks",
                  lambda a: backend.to_device(ranks.mean(to_host(a))),
                  lambda g, y, a: all_mean(g))

copy = Op("copy(a) = a, in memory of its own",
          lambda a: a.copy(),
          lambda g, y, a: g)

_filled = Op("filled(a, value) = an array like a, filled with a number",
             lambda a, value: xp.full(a.shape, value, a.dtype),
             None)
