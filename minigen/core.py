"""Automatic differentiation: ``Tensor``, ``Op``, ``grad`` and ``no_grad``.

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

import itertools
import math
import operator
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from minigen import backend, threads
from minigen.backend import Array, xp

_counter = itertools.count()    # the order in which Tensors are created or get new values


class _Thread(threading.local):
    """State of which each thread has its own copy."""

    recording = True


_thread = _Thread()


class Tensor:
    """An array whose history is recorded.

    ``Tensor(data)`` is a leaf. An array of floats keeps its dtype and its memory; anything else (lists,
    integers) becomes float32. All other Tensors come from ops. Operators, indexing and the methods ``sum mean
    max reshape transpose T`` work as in NumPy; comparisons return raw arrays of bool. Assigning to ``data``
    makes the Tensor a leaf with another value of the same shape. A graph recorded earlier can then no longer
    be differentiated through it: ``grad`` raises an error.
    """

    __slots__ = ("_data", "order", "op", "args", "raw", "options", "__weakref__")
    # With these, NumPy and CuPy leave `array + tensor` to Tensor.__radd__, and likewise other operators.
    __array_ufunc__ = None
    __array_priority__ = 1000.0

    def __init__(self, data: Any, dtype: Any = None) -> None:
        if isinstance(data, Tensor):
            data = data._data
        found = getattr(data, "dtype", None)
        if found is not None and found.kind not in "fiub":
            raise TypeError(f"Tensor: real numbers expected, an array of {found} found")
        if dtype is None and (found is None or found.kind != "f"):
            dtype = xp.float32
        try:
            self._data = xp.asarray(data, dtype=dtype)
        except (TypeError, ValueError) as error:
            raise TypeError(f"Tensor: real numbers in a regular array expected: {error}") from None
        if self._data.dtype.kind != "f":
            raise TypeError(f"Tensor: a floating dtype expected, {self._data.dtype} found")
        self.order = next(_counter)
        self.op = None

    @property
    def data(self) -> Array:
        """The value, a raw array. Assign to ``data``; never change it in place: graphs and views share it."""
        return xp.asarray(self._data)

    @data.setter
    def data(self, value: Array) -> None:
        value = xp.asarray(value)
        if value.shape != self.shape:
            raise ValueError(f"Tensor.data: a value of shape {self.shape} expected, {value.shape} found")
        self._data = value if value.dtype.kind == "f" else value.astype(self.dtype)
        self.order = next(_counter)
        self.op = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape

    @property
    def dtype(self) -> Any:
        return self._data.dtype

    @property
    def ndim(self) -> int:
        return self._data.ndim

    @property
    def size(self) -> int:
        return self._data.size

    def item(self) -> float:
        """The number in a Tensor of size 1. On a GPU this waits for the device."""
        return self._data.item()

    def __float__(self) -> float:
        return float(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def __len__(self) -> int:
        return len(self._data)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __array__(self, *args: Any, **options: Any) -> Any:
        raise TypeError("a Tensor is not an array: use minigen.ops to compute with it, "
                        "minigen.to_host to read it")

    def __repr__(self) -> str:
        origin = f", from {self.op.name}" if self.op else ""
        values = xp.array2string(self.data, separator=", ", threshold=100, edgeitems=2, prefix="Tensor(")
        return f"Tensor({values}, {self.dtype} {self.shape}{origin})"


class Op:
    """A differentiable function: a forward function and its vector-Jacobian products, the partials.

    ``doc`` is ``"name(arguments) = formula"``. ``forward(*arrays, **options)`` works on raw arrays. There is
    one partial per argument, called as ``partial(g, y, *args, **options)`` with the gradient ``g`` with
    respect to the output ``y``. It returns the gradient with respect to its argument, and the engine sums
    this over broadcast axes. ``None`` stands for a derivative that is zero everywhere. One function replaces
    partials that share work: ``joint(needed, g, y, *args, **options)``. Its ``needed`` has a bool per
    argument. It returns a gradient per argument, or ``None`` where no gradient is needed.

    With ``elementwise`` the output has the shape of the first argument, and ``forward`` puts it into the
    array ``out`` if it is given one. The op then processes large arrays block by block, and is one kernel on
    a GPU.

    The output of an op has the dtype of its Tensors. Promotion, say from float32 to float64, raises
    ``TypeError``.
    """

    def __init__(self, doc: str, forward: Callable[..., Array], *partials: Callable[..., Any] | None,
                 joint: Callable[..., Sequence[Any]] | None = None, elementwise: bool = False) -> None:
        self.name = doc.split("(")[0]
        self.__doc__ = doc
        if elementwise:
            forward.__name__ = self.name
            forward = threads.elementwise(forward)
        self.forward = forward
        self.partials = partials
        self.joint = joint

    def __repr__(self) -> str:
        return f"<Op {self.__doc__}>"

    def __call__(self, *args: Any, **options: Any) -> Any:
        leader = None
        raw = []
        for a in args:
            if type(a) is Tensor:
                a = a._data
                if leader is None:
                    leader = a
                elif a.dtype != leader.dtype:
                    raise TypeError(f"{self.name}: Tensors of {leader.dtype} and of {a.dtype} found, "
                                    "one dtype expected")
            raw.append(a)
        try:
            y = self.forward(*raw, **options)
        except (ValueError, TypeError, IndexError) as error:
            kind = next(k for k in (ValueError, IndexError, TypeError) if isinstance(error, k))
            raise kind(f"{_signature(self.name, raw, options)}: {error}") from error
        if leader is None:
            return y
        if y.dtype is not leader.dtype and y.dtype != leader.dtype:
            raise TypeError(f"{_signature(self.name, raw, options)}: the result is {y.dtype}, "
                            "but an op keeps the dtype of its Tensors: give all arguments one dtype")
        tensor = Tensor.__new__(Tensor)
        tensor._data = y
        tensor.order = next(_counter)
        if _thread.recording:
            if len(args) > len(self.partials) and self.joint is None:
                self._refuse_tensors(args[len(self.partials):])
            tensor.op = self
            tensor.args = args
            tensor.raw = raw
            tensor.options = options
        else:
            tensor.op = None
        return tensor

    def _refuse_tensors(self, args: Sequence[Any]) -> None:
        for a in args:
            if type(a) is Tensor:
                raise TypeError(f"{self.__doc__}: a Tensor found where only a number or an array is allowed: "
                                "the op has no derivative there")


def _signature(name: str, raw: list[Any], options: dict[str, Any]) -> str:
    words = [f"{a.dtype} {a.shape}" if hasattr(a, "shape") else repr(a) for a in raw]
    words += [f"{key}={value!r}" for key, value in options.items()]
    return f"{name}({' '.join(', '.join(words).split())})"


@contextmanager
def no_grad() -> Iterator[None]:
    """Within this context (or in a function decorated with it) the ops of this thread record no graph."""
    before, _thread.recording = _thread.recording, False
    try:
        yield
    finally:
        _thread.recording = before


def to_host(x: Tensor | Array) -> Any:
    """The value of a Tensor or a backend array as a NumPy array. On a GPU this waits, and copies."""
    return backend.to_host(x.data if isinstance(x, Tensor) else x)


def grad(y: Tensor, xs: Tensor | Sequence[Tensor], create_graph: bool = False,
         retain_graph: bool = True) -> Any:
    """The gradient of the scalar ``y`` with respect to each of ``xs``: dy/dx, with the shape and dtype of x.

    One Tensor ``xs`` gives one gradient, a sequence gives a list. Only the paths from ``xs`` to ``y`` are
    differentiated. The gradient is zero for an x on which ``y`` does not depend. The gradients are raw arrays
    or, with ``create_graph``, recorded Tensors. Without ``retain_graph`` the graph is freed on the way, and
    cannot be differentiated again. Raises ``ValueError`` if ``y`` is not a scalar or was not recorded. Raises
    ``RuntimeError`` if a Tensor on a path was changed after its use, or if the graph was freed.
    """
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
    path = _path(y, targets)
    one = xp.ones((), y.dtype)
    found = {id(y): Tensor(one) if create_graph else one}
    while path:
        node, needed = path.pop()
        g = found.get(id(node)) if id(node) in targets else found.pop(id(node), None)
        op, tensors, raw = node.op, node.args, node.raw
        value, args = (node, tensors) if create_graph else (node._data, raw)
        if not retain_graph:
            node.args = node.raw = None
        if g is None:       # every path from here to y has derivative zero
            continue
        parts = op.joint(needed, g, value, *args, **node.options) if op.joint else op.partials
        for i, (part, wanted_here) in enumerate(zip(parts, needed)):
            if part is None or not wanted_here:
                continue
            if op.joint is None:
                part = part(g, value, *args, **node.options)
            if part.shape != raw[i].shape:
                part = sum_to(part, raw[i].shape)
            key = id(tensors[i])
            before = found.get(key)
            found[key] = part if before is None else before + part
    gradients = []
    for x in wanted:
        g = found.get(id(x))
        if g is None:
            g = xp.zeros(x.shape, x.dtype)
            gradients.append(Tensor(g) if create_graph else g)
        else:
            gradients.append(g if create_graph else xp.asarray(g))
    return gradients[0] if isinstance(xs, Tensor) else gradients


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
                    call = _signature(node.op.name, node.raw, node.options)
                    raise RuntimeError(f"grad: argument {i} of {call} was changed after this graph was "
                                       "recorded: compute y again")
            reached.add(id(node))
            path.append((node, needed))
    return path


def column_sums(a: Any) -> Any:
    """The sum of ``a`` (..., columns) over all axes but the last."""
    rows = a.reshape((math.prod(a.shape[:-1]), a.shape[-1]))
    return xp.ones(len(rows), a.dtype) @ rows       # BLAS sums over rows in half the time of xp.sum


def _sum_to(a: Array, shape: tuple[int, ...]) -> Array:
    lead = len(a.shape) - len(shape)
    stretched = tuple(i + lead for i, n in enumerate(shape) if n == 1 and a.shape[i + lead] != 1)
    return xp.sum(a, axis=tuple(range(lead)) + stretched).reshape(shape)


def _broadcast_to(a: Array, shape: tuple[int, ...]) -> Array:
    # NumPy's view with stride 0 is slow to make and slow to read: filling memory is faster.
    y = xp.empty(shape, a.dtype)
    y[...] = a
    return y


sum_to = Op("sum_to(a, shape) = a summed over the axes along which `shape` was broadcast to a's shape",
            _sum_to,
            lambda g, y, a, shape: broadcast_to(g, a.shape))

broadcast_to = Op("broadcast_to(a, shape) = a repeated along new axes and along axes of length 1",
                  _broadcast_to,
                  lambda g, y, a, shape: sum_to(g, a.shape))
