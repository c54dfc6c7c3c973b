"""Check gradients of any order against finite differences, and subgradients against their definition.

Everything is computed in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy

from minigen import checks, ops
from minigen.backend import to_device
from minigen.core import Tensor, grad, to_host

_FULL = 100         # the most inputs, or outputs, for which the whole Jacobian is compared
_STEP = 1e-5        # of the central differences; their error is then about 1e-10 of a smooth function's size


def check_grad(f: Callable[..., Tensor], args: Sequence[Any], order: int = 1, tolerance: float = 1e-6,
               seed: int = 0) -> None:
    """Compare the derivatives of ``f(*args)`` of order 1 to ``order`` with central finite differences.

    ``f`` maps Tensors to a Tensor of any shape. Each of ``args`` is an array or a Tensor. A Tensor is varied
    in place, so ``check_grad(lambda *_: loss(), model.parameters())`` checks a whole model. Everything is
    computed in float64; afterwards Tensors get their own values and dtype back. f must depend on all of them.

    If inputs and outputs are few, the full Jacobian is compared, entry by entry. Otherwise a random
    combination of the outputs is differentiated along a random direction, argument by argument. Order n + 1
    is order n of the gradient, recorded with ``create_graph``. ``AssertionError`` names the argument and the
    worst entry if a difference is too large. The limit is ``tolerance`` times the norm of the derivatives
    with respect to that argument, plus the rounding of the finite differences, 1e-10 of f's largest value.
    Smaller derivatives cannot be checked.
    """
    order = checks.whole("check_grad", "order", order)
    tolerance = checks.real("check_grad", "tolerance", tolerance, "(0, inf)")
    if not isinstance(args, (list, tuple)) or not args:
        raise TypeError(f"check_grad: a list of 1 or more arguments expected, {checks.shown(args)} found")
    leaves = [_leaf(f"check_grad: argument {i}", a) for i, a in enumerate(args)]
    rng = numpy.random.default_rng(seed)
    with _in_float64(leaves):
        _value("check_grad", f, leaves)
        for n in range(1, order + 1):
            if n > 1:
                f = _gradient_of(f, leaves, rng)
            _check_first_order(f, leaves, n, tolerance, rng)


def check_subgradient(f: Callable[[Tensor], Tensor], x: Any, seed: int = 0) -> None:
    """Check that ``grad`` gives a subgradient g of the convex, scalar ``f`` at ``x``.

    The definition is f(y) >= f(x) + <g, y - x>. It is tested for y near x and far from x, along the axes and
    at random. ``AssertionError`` names the first y that violates it.
    """
    rng = numpy.random.default_rng(seed)
    leaf = Tensor(_leaf("check_subgradient: x", x), "float64")
    x = to_host(leaf)
    value = _value("check_subgradient", f, [leaf])
    g = to_host(grad(value, leaf))
    steps = [row.reshape(x.shape) for row in numpy.eye(x.size)] + list(rng.standard_normal((20, *x.shape)))
    for step in steps:
        for size in (1e-3, -1e-3, 1.0, -1.0, 30.0, -30.0):
            y = x + size * step
            bound = value.item() + math.fsum((g * (y - x)).ravel())
            found = f(Tensor(to_device(y))).item()
            if not found >= bound - 1e-12 * (1 + abs(bound)):
                raise AssertionError(f"check_subgradient: at y = {y.tolist()} f is {found}, below its "
                                     f"supporting line {bound} (gradient {g.tolist()})")


def _leaf(name: str, a: Any) -> Tensor:
    """A Tensor as it is, and anything else as a Tensor of float64."""
    if isinstance(a, Tensor):
        if a.op is not None:
            raise ValueError(f"{name} is a result of {a.op.name}, but a leaf expected")
        return a
    dtype = a.dtype if hasattr(a, "dtype") else numpy.asarray(a).dtype
    if dtype.kind != "f":
        raise TypeError(f"{name}: floats expected, {dtype} found: what is not varied belongs in f")
    return Tensor(a, "float64")


def _value(owner: str, f: Callable[..., Tensor], leaves: list[Tensor]) -> Tensor:
    """f(*leaves), which must be a Tensor of float64 that was computed from all leaves."""
    if not callable(f):
        raise TypeError(f"{owner}: a function f expected, {type(f).__name__} found")
    y = f(*leaves)
    if not isinstance(y, Tensor):
        raise TypeError(f"{owner}: a Tensor expected from f, {type(y).__name__} found")
    if y.dtype != numpy.float64:
        raise AssertionError(f"{owner}: f returns {y.dtype} for float64 arguments")
    seen, stack = {id(y)}, [y]
    while stack:
        node = stack.pop()
        new = [a for a in (node.args if node.op else ()) if isinstance(a, Tensor) and id(a) not in seen]
        seen.update(map(id, new))
        stack += new
    for i, leaf in enumerate(leaves):
        if id(leaf) not in seen:
            raise ValueError(f"{owner}: f does not depend on argument {i}: no op of f takes it")
    return y


@contextmanager
def _in_float64(leaves: list[Tensor]) -> Iterator[None]:
    originals = [leaf.data for leaf in leaves]
    for leaf, original in zip(leaves, originals):
        leaf.adopt(original.astype("float64"))
    try:
        yield
    finally:
        for leaf, original in zip(leaves, originals):
            leaf.adopt(original)


def _combination(f: Callable[..., Tensor], leaves: list[Tensor],
                 rng: numpy.random.Generator) -> Callable[..., Tensor]:
    """The sum of f's outputs with random weights."""
    weights = to_device(rng.standard_normal(f(*leaves).shape))
    return lambda *args: ops.sum(f(*args) * weights)


def _gradient_of(f: Callable[..., Tensor], leaves: list[Tensor],
                 rng: numpy.random.Generator) -> Callable[..., Tensor]:
    """The recorded gradient of a random combination of f's outputs, for all leaves in one vector."""
    scalar = _combination(f, leaves, rng)

    def gradient(*args: Tensor) -> Tensor:
        return ops.concatenate([g.reshape(-1) for g in grad(scalar(*args), args, create_graph=True)])
    return gradient


def _check_first_order(f: Callable[..., Tensor], leaves: list[Tensor], order: int, tolerance: float,
                       rng: numpy.random.Generator) -> None:
    y = f(*leaves)
    full = y.size <= _FULL and math.fsum(leaf.size for leaf in leaves) <= _FULL
    if not full:
        f = _combination(f, leaves, rng)
        y = f(*leaves)
    outputs = y.reshape(-1)
    gradients = [grad(outputs[k], leaves) for k in range(y.size)]
    for i, leaf in enumerate(leaves):
        jacobian = numpy.array([to_host(g[i]).ravel() for g in gradients]).reshape(y.size, leaf.size)
        directions = numpy.eye(leaf.size) if full else rng.choice((-1.0, 1.0), (1, leaf.size))
        error, words = _worst(f, leaves, leaf, jacobian, directions)
        noise = 1e-12 + 1e-10 * numpy.abs(to_host(y)).max(initial=0)     # rounding of the differences
        if not error <= tolerance * numpy.linalg.norm(jacobian) + noise:
            if not full:    # the direction only shows that something is wrong: search entry by entry
                entries = rng.permutation(leaf.size)[:1000]
                _, words = _worst(f, leaves, leaf, jacobian, numpy.eye(leaf.size)[entries])
            raise AssertionError(f"check_grad: order {order}, argument {i} {leaf.shape}, {words}")


def _worst(f: Callable[..., Tensor], leaves: list[Tensor], leaf: Tensor, jacobian: numpy.ndarray,
           directions: numpy.ndarray) -> tuple[float, str]:
    """The largest error of jacobian @ direction against finite differences of f along it, and its place."""
    worst, words = 0.0, ""
    for direction in directions:
        step = direction.reshape(leaf.shape)
        numeric = _difference(f, leaves, leaf, step)
        analytic = jacobian @ direction
        for k, error in enumerate(numpy.nan_to_num(numpy.abs(analytic - numeric), nan=numpy.inf)):
            if error > worst:
                worst = error
                entries = numpy.argwhere(step)
                one = len(entries) == 1
                place = f"entry {tuple(entries[0].tolist())}" if one else "along a random direction"
                words = (f"{place}, output {k}: grad gives {analytic[k]:.9g}, "
                         f"finite differences {numeric[k]:.9g}")
    return worst, words


def _difference(f: Callable[..., Tensor], leaves: list[Tensor], leaf: Tensor,
                direction: numpy.ndarray) -> numpy.ndarray:
    """(f(x + h direction) - f(x - h direction)) / 2h as a vector, where x is the leaf's value."""
    x = leaf.data
    values: list[numpy.ndarray] = []
    for h in (_STEP, -_STEP):
        leaf.data = x + to_device(h * direction)
        values.append(to_host(f(*leaves)).ravel())
    leaf.data = x
    return (values[0] - values[1]) / (2 * _STEP)
