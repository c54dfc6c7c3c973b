"""SGD with momentum, RMSProp and Adam, their constants defined as in PyTorch; dual ascent; weight clipping.

``step`` works through a parameter in blocks of rows that fit into the cache, so that all passes of an update
find the parameter, the gradient and the state there. The state changes in place. A parameter gets a new
array, since recorded graphs and views may still hold the old one.

If a gradient has become 0 for good (as for the weights of a dead ReLU), the state only decays. It would get
stuck among the subnormal numbers, with which many processors compute a hundred times more slowly. So from
time to time, values that are far too small to move a weight are set to 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy

from minigen import backend, checks, kernels, ranks, threads
from minigen.backend import Array, to_device, to_host, xp
from minigen.core import Tensor, all_mean, grad
from minigen.tensor import value_of

_ARRAYS = 8         # in an update: parameter, gradient, new value, two states, and some room
_SHORT = 1 << 14    # numbers of a vector; one that is kept keeps those that it was updated with
_TIDY_EVERY = 64    # steps
_EPS = "[1e-12, inf)"   # beside less, what is _NEGLIGIBLE would not be
_NEGLIGIBLE = 1e-30     # after _TIDY_EVERY decays by 0.9, times a small rate, still no subnormal float32


def _leaves(owner: str, parameters: Iterable[Tensor]) -> tuple[Tensor, ...]:
    """The parameters, each once. A set has no order, by which the state could name them."""
    if isinstance(parameters, (Tensor, set, frozenset)) or not isinstance(parameters, Iterable):
        raise TypeError(f"{owner}: a list of Tensors such as net.parameters() expected, "
                        f"{type(parameters).__name__} found")
    leaves = tuple({id(p): p for p in parameters}.values())
    if not leaves:
        raise ValueError(f"{owner}: at least 1 parameter expected, 0 found")
    for i, p in enumerate(leaves):
        if not isinstance(p, Tensor):
            raise TypeError(f"{owner}: parameter {i}: a Tensor expected, {type(p).__name__} found")
        if p.op is not None:
            raise ValueError(f"{owner}: parameter {i} is a result of {p.op.name}: only leaves can be trained")
    return leaves


class _Group:
    """Parameters that are updated as one array: a matrix or kernel alone, vectors end to end, for which the
    calls of an update cost more than its arithmetic. On a GPU, where this holds for all, it is all of them.
    """

    def __init__(self, parameters: Sequence[Tensor], numbers: Sequence[int], slots: Sequence[str],
                 elementwise: bool) -> None:
        self.numbers = numbers      # of its parameters, in the optimiser's order
        self.parameters = [parameters[i] for i in numbers]
        first, self.shapes = self.parameters[0], [p.shape for p in self.parameters]
        sizes = [p.size for p in self.parameters]
        self.shape, self.dtype = first.shape if len(numbers) == 1 else (sum(sizes),), first.dtype
        self.parts = [slice(end - n, end) for n, end in zip(sizes, itertools.accumulate(sizes))]
        self.blocks = threads.row_blocks(self.shape, _ARRAYS) if elementwise else [...]
        self.state = [xp.zeros(self.shape, self.dtype) for _ in slots]

    def joined(self, arrays: list[Array]) -> Array:
        return arrays[0] if len(arrays) == 1 else kernels.concatenate(arrays, axis=None)

    def values(self) -> Array:
        """The parameters' numbers; where they have been split from an array, that array."""
        arrays = [value_of(p) for p in self.parameters]
        row = kernels.whole(arrays) if len(arrays) > 1 else None
        return self.joined(arrays) if row is None else row

    def split(self, array: Array) -> list[Array]:
        """The parameters' parts of an array; they share its memory."""
        return [array] if len(self.parts) == 1 else [
            array[part].reshape(shape) for part, shape in zip(self.parts, self.shapes)]


def _groups(parameters: Sequence[Tensor], slots: Sequence[str], elementwise: bool) -> list[_Group]:
    numbers: dict[Any, list[int]] = {}
    for i, p in enumerate(parameters):
        joined = elementwise and (p.ndim == 1 and p.size <= _SHORT or not backend.on_host())
        numbers.setdefault(p.dtype if joined else i, []).append(i)
    return [_Group(parameters, group, slots, elementwise) for group in numbers.values()]


class Optimizer:
    """The base of the optimisers: it loops over parameters, keeps their state and counts the steps.

    ``parameters`` are leaves; one that is given twice counts once. A subclass names its hyperparameters, each
    with the interval it must lie in, and the state arrays that it keeps for each parameter (``slots``, zero
    at first). It defines ``_update(p, g, new, *slots)``, which updates the slots and puts the parameter's new
    value into ``new``; with ``elementwise`` this treats each number alone, so that long parameters may be cut
    and short ones joined. Hyperparameters may be changed between steps, and are part of the state.
    """

    slots: tuple[str, ...] = ()
    elementwise = False
    hyperparameters: dict[str, str] = {"lr": "[0, inf)"}
    decays: dict[str, str] = {}     # the slots that are stored divided by 1 - a hyperparameter, by its name
    lr: float
    _update: Callable[..., None]

    def __init__(self, parameters: Iterable[Tensor], lr: float, **others: float) -> None:
        owner = type(self).__name__
        self.parameters = _leaves(owner, parameters)
        checks.real(owner, "lr", lr, "(0, inf)")        # only a schedule may end at 0
        for name, value in {"lr": lr, **others}.items():
            setattr(self, name, value)
        self.steps = 0
        self._kinds = [(p.shape, p.dtype) for p in self.parameters]
        self._groups = _groups(self.parameters, self.slots, self.elementwise)

    @property
    def arrays(self) -> Mapping[str, tuple[Array, ...]]:
        """Each slot's arrays, one per parameter; an update changes them in place."""
        parts = {(k, i): part for group in self._groups for k, array in enumerate(group.state)
                 for i, part in zip(group.numbers, group.split(array))}
        return MappingProxyType({slot: tuple(parts[k, i] for i in range(len(self.parameters)))
                                 for k, slot in enumerate(self.slots)})

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "parameters" and "parameters" in vars(self):
            raise AttributeError(f"{type(self).__name__}: the parameters stay: build another "
                                 "optimiser for others")
        if name in self.hyperparameters:
            value = checks.real(type(self).__name__, name, value, self.hyperparameters[name])
            before = vars(self).get(name, value)
            if name in self.decays and value != before:     # the moments stay, so their stored form changes
                for a in self.arrays.get(self.decays[name], ()):
                    a *= (1 - before) / (1 - value)
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={getattr(self, name)}" for name in self.hyperparameters)
        count = sum(p.size for p in self.parameters)
        return (f"{type(self).__name__}({settings}), {count:,} parameter{'s' * (count != 1)}, "
                f"step {self.steps:,}")

    def minimize(self, loss: Tensor) -> None:
        """Take one step down the gradient of the scalar ``loss`` with respect to the parameters.

        This frees the graph of ``loss``. ``ValueError`` if ``loss`` depends on none of the parameters.
        """
        gradients = grad(loss, self.parameters, retain_graph=False)
        if ranks.sharers() > 1:
            gradients = _all_mean(gradients)
        if loss.op is not None and loss.args is not None:       # not freed: no path leads to it
            raise ValueError(f"{type(self).__name__}.minimize: the loss depends on none of the parameters: "
                             "was it computed with others, from their data, or within no_grad?")
        self.step(gradients)

    def step(self, grads: Sequence[Array]) -> None:
        """Update every parameter from its gradient, given in the order of the parameters.

        ``TypeError`` or ``ValueError`` if the gradients do not fit; nothing moves then.
        """
        self._check_gradients(grads)
        self.steps += 1
        tidy = self.steps % _TIDY_EVERY == 0
        for group in self._groups:
            before = group.values()
            g = group.joined([grads[i] for i in group.numbers])
            after = xp.empty(group.shape, group.dtype)

            def update(rows: Any) -> None:
                state = [a[rows] for a in group.state]
                self._update(before[rows], g[rows], after[rows], *state)
                if tidy:
                    for a in state:
                        a *= abs(a) >= _NEGLIGIBLE
            if len(group.blocks) == 1:
                update(group.blocks[0])
            else:
                threads.share(update, group.blocks)
            for p, new in zip(group.parameters, group.split(after)):
                p.adopt(new)

    def _check_gradients(self, grads: Sequence[Array]) -> None:
        who, arrays = f"{type(self).__name__}.step", (xp.ndarray, numpy.generic)
        if not isinstance(grads, (list, tuple)):
            raise TypeError(f"{who}: a list of gradients expected, {type(grads).__name__} found")
        if len(grads) != len(self._kinds):
            raise ValueError(f"{who}: {len(self._kinds)} gradients expected, {len(grads)} found")
        for i, (kind, g) in enumerate(zip(self._kinds, grads)):
            if not isinstance(g, arrays):
                raise TypeError(f"{who}: gradient {i}: an array expected, {type(g).__name__} found")
            if (g.shape, g.dtype) != kind:
                raise ValueError(f"{who}: gradient {i} of {kind[1]} {kind[0]} expected, "
                                 f"{g.dtype} {g.shape} found")

    def _named_arrays(self) -> dict[str, Array]:
        """The step count, the hyperparameters, and each slot's arrays by parameter number."""
        numbers = {name: getattr(self, name) for name in ("steps", *self.hyperparameters)}
        return {**{name: numpy.array(number) for name, number in numbers.items()},
                **{f"{slot}.{i}": a for slot in self.slots for i, a in enumerate(self.arrays[slot])}}

    def state(self) -> dict[str, numpy.ndarray]:
        """A copy of the state on the host: the step count, the hyperparameters, and each slot's arrays by
        parameter number."""
        return {name: numpy.array(to_host(a)) for name, a in self._named_arrays().items()}

    def check_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        """``TypeError`` or ``ValueError`` if ``load_state`` would refuse ``state``; nothing changes."""
        who = f"{type(self).__name__}.load_state"
        checks.state(who, self._named_arrays(), state)
        if state["steps"] < 0:
            raise ValueError(f"{who}: steps of at least 0 expected, {state['steps']} found")
        for name, interval in self.hyperparameters.items():
            checks.real(who, name, state[name].item(), interval)

    def load_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        """Continue from a result of ``state()``, with its hyperparameters.

        If it belongs to another optimiser or other parameters, or if a number is not finite or out of range,
        an error names the difference, and nothing changes.
        """
        self.check_state(state)
        self.steps = int(state["steps"])
        for name in self.hyperparameters:
            setattr(self, name, state[name].item())
        new = {name: array.copy() for name, array in state.items()}     # it may hold the arrays here
        for slot, arrays in self.arrays.items():
            for i, a in enumerate(arrays):
                a[...] = to_device(new[f"{slot}.{i}"])


def _all_mean(gradients: Sequence[Array]) -> list[Array]:
    """The means over the ranks, by way of one vector of all numbers."""
    return _split(all_mean(kernels.concatenate(gradients, axis=None)), gradients)


def _split(row: Array, like: Sequence[Array]) -> list[Array]:
    """The parts of a row of numbers, in the shapes of these arrays; they share its memory."""
    ends = itertools.accumulate(a.size for a in like)
    return [row[end - a.size:end].reshape(a.shape) for a, end in zip(like, ends)]


class SGD(Optimizer):
    """b = momentum b + g;  p = p - lr b  (Sutskever et al., 2013, as in PyTorch)."""

    elementwise = True
    slots = ("b",)
    hyperparameters = {**Optimizer.hyperparameters, "momentum": "[0, 1)"}
    momentum: float

    def __init__(self, parameters: Iterable[Tensor], lr: float, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr, momentum=momentum)

    def _update(self, p: Array, g: Array, new: Array, b: Array) -> None:
        _sgd(p, g, new, b, self.momentum, self.lr)


@kernels.fused
def _sgd(p: Array, g: Array, new: Array, b: Array, momentum: float, lr: float) -> None:
    b *= momentum
    b += g
    xp.multiply(b, lr, out=new)
    xp.subtract(p, new, out=new)


class RMSProp(Optimizer):
    """v = alpha v + (1 - alpha) g^2;  p = p - lr g / (sqrt(v) + eps)  (Hinton's lecture 6e, as in PyTorch).

    The stored state is v / (1 - alpha), which saves a pass over the memory; the constants below carry the
    factor.
    """

    elementwise = True
    slots = ("v",)
    hyperparameters = {**Optimizer.hyperparameters, "alpha": "[0, 1)", "eps": _EPS}
    decays = {"alpha": "v"}
    alpha: float
    eps: float

    def __init__(self, parameters: Iterable[Tensor], lr: float, alpha: float = 0.99,
                 eps: float = 1e-8) -> None:
        super().__init__(parameters, lr, alpha=alpha, eps=eps)

    def _update(self, p: Array, g: Array, new: Array, v: Array) -> None:
        scale = math.sqrt(1 - self.alpha)
        _adaptive(p, g, new, v, None, self.alpha, 0.0, self.eps / scale, self.lr / scale)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p = p - lr m' / (sqrt(v') + eps) with
    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t)  (Kingma and Ba, 2015, algorithm 1).

    The stored states are m / (1 - beta1) and v / (1 - beta2), which saves two passes over the memory; the
    constants below carry the factors.
    """

    elementwise = True
    hyperparameters = {**Optimizer.hyperparameters, "beta1": "[0, 1)", "beta2": "[0, 1)", "eps": _EPS}
    decays = {"beta1": "m", "beta2": "v"}
    beta1: float
    beta2: float
    eps: float
    _constants: tuple[float, float, float, float]

    def __init__(self, parameters: Iterable[Tensor], lr: float = 1e-3, beta1: float = 0.9,
                 beta2: float = 0.999, eps: float = 1e-8) -> None:
        if checks.real("Adam", "beta1", beta1, "[0, 1)"):
            self.slots = ("v", "m")
        else:       # m is the gradient: it is not kept, so beta1 stays 0
            self.slots = ("v",)
            self.hyperparameters = {**self.hyperparameters, "beta1": "[0, 0]"}
        super().__init__(parameters, lr, beta1=beta1, beta2=beta2, eps=eps)

    def step(self, grads: Sequence[Array]) -> None:
        t = self.steps + 1
        scale = math.sqrt((1 - self.beta2) / (1 - self.beta2 ** t))
        rate = self.lr * (1 - self.beta1) / (1 - self.beta1 ** t)
        self._constants = self.beta2, self.beta1, self.eps / scale, rate / scale     # for all parameters
        super().step(grads)

    def _update(self, p: Array, g: Array, new: Array, v: Array, m: Array | None = None) -> None:
        _adaptive(p, g, new, v, m, *self._constants)


@kernels.fused
def _adaptive(p: Array, g: Array, new: Array, v: Array, m: Array | None, decay: float, m_decay: float,
              eps: float, rate: float) -> None:
    """v = decay v + g^2;  m = m_decay m + g, or g if no m is kept;  new = p - rate m / (sqrt(v) + eps)."""
    xp.multiply(g, g, out=new)
    v *= decay
    v += new
    xp.sqrt(v, out=new)
    new += eps
    if m is None:
        m = g
    else:
        m *= m_decay
        m += g
    xp.divide(m, new, out=new)
    new *= rate
    xp.subtract(p, new, out=new)


class DualAscent(Optimizer):
    """The multiplier lambda of min f s.t. g <= 0, by projected gradient ascent on f + lambda g.

    ``ascend`` takes the violation, g at the moment: lambda = min(max(lambda + lr g, 0), most). Between its
    calls, another optimiser goes down the Lagrangian f + lambda g (Arrow, Hurwicz and Uzawa, 1958).
    ``multiplier`` is lambda as a Tensor of float32, which begins at ``start``. It belongs to no network, so
    it is part of the state.
    """

    hyperparameters = {**Optimizer.hyperparameters, "most": "(0, 1e38]"}     # of float32, as lambda
    most: float

    def __init__(self, lr: float, start: float = 0.0, most: float = 1e4) -> None:
        most = checks.real("DualAscent", "most", most, self.hyperparameters["most"])
        start = checks.real("DualAscent", "start", start, f"[0, {most}]")
        self.multiplier = Tensor(xp.full((), start, "float32"))
        super().__init__([self.multiplier], lr, most=most)

    def ascend(self, violation: Any) -> None:
        """Move lambda by ``violation``, a number or an array or Tensor (); the ranks' mean counts."""
        if type(violation) in (int, float):
            violation = checks.real("DualAscent.ascend", "violation", violation)
        elif getattr(violation, "shape", None) != () or violation.dtype.kind not in "iuf":
            raise TypeError("DualAscent.ascend: a number or an array () expected, "
                            f"{getattr(violation, 'shape', checks.shown(violation))} found")
        violation = xp.asarray(value_of(violation), "float32")
        self.step([-(all_mean(violation) if ranks.sharers() > 1 else violation)])

    def _update(self, p: Array, g: Array, new: Array) -> None:
        xp.clip(p - self.lr * g, 0, self.most, out=new)

    def _named_arrays(self) -> dict[str, Array]:
        return {**super()._named_arrays(), "multiplier": value_of(self.multiplier)}

    def check_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        super().check_state(state)
        most = float(numpy.float32(state["most"]))      # as the multiplier is
        checks.real("DualAscent.load_state", "multiplier", state["multiplier"].item(), f"[0, {most}]")

    def load_state(self, state: Mapping[str, numpy.ndarray]) -> None:
        super().load_state(state)
        self.multiplier.adopt(to_device(state["multiplier"].copy()))


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {kind.__name__: kind for kind in (SGD, RMSProp, Adam)}


def clip_weights(parameters: Iterable[Tensor], bound: float) -> None:
    """Clip every weight: w = clip(w, -bound, bound).

    This is WGAN's Lipschitz constraint (Arjovsky et al., 2017, algorithm 1).
    """
    bound = checks.real("clip_weights", "bound", bound, "(0, inf)")
    leaves = _leaves("clip_weights", parameters)
    arrays = [value_of(p) for p in leaves]
    row = kernels.whole(arrays)
    clipped = [xp.clip(a, -bound, bound) for a in (arrays if row is None else [row])]
    for p, new in zip(leaves, clipped if row is None else _split(clipped[0], arrays)):
        p.adopt(new)
