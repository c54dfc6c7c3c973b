"""SGD with momentum, RMSProp and Adam, their constants defined as in PyTorch, and weight clipping.

``step`` works through a parameter in blocks of rows that fit into the cache, so that all passes of an update
find the parameter, the gradient and the state there. The state changes in place. A parameter gets a new
array, since recorded graphs and views may still hold the old one.

If a gradient has become 0 for good (as for the weights of a dead ReLU), the state only decays. It would get
stuck among the subnormal numbers, with which many processors compute a hundred times more slowly. So from
time to time, values that are far too small to move a weight are set to 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy

from minigen import backend, threads
from minigen.backend import Array, to_device, to_host, xp
from minigen.core import Tensor, grad

_ARRAYS = 8         # in an update: parameter, gradient, new value, two states, and some room
_TIDY_EVERY = 64    # steps
_NEGLIGIBLE = 1e-30     # after _TIDY_EVERY decays by 0.9, times a small rate, still no subnormal float32


class Optimizer:
    """The base of SGD, RMSProp and Adam: it loops over parameters, keeps their state and counts the steps.

    A subclass names the state arrays that it keeps for each parameter (``slots``, zero at first). It defines
    ``_update(p, g, new, *slots)``, which updates the slots and puts the parameter's new value into ``new``.
    """

    slots: tuple[str, ...] = ()

    def __init__(self, parameters: Sequence[Tensor], lr: float) -> None:
        if not (lr > 0 and math.isfinite(lr)):
            raise ValueError(f"{type(self).__name__}: a positive learning rate expected, {lr} found")
        self.parameters = list(parameters)
        self.lr = lr
        self.steps = 0
        self.arrays = {slot: [xp.zeros(p.shape, p.dtype) for p in self.parameters] for slot in self.slots}
        self._blocks = [threads.row_blocks(p.shape, _ARRAYS) for p in self.parameters]

    def minimize(self, loss: Tensor) -> None:
        """Take one step down the gradient of the scalar ``loss`` with respect to the parameters.

        This frees the graph of ``loss``.
        """
        self.step(grad(loss, self.parameters, retain_graph=False))

    def step(self, grads: Sequence[Array]) -> None:
        """Update every parameter from its gradient, given in the order of the parameters."""
        if len(grads) != len(self.parameters):
            raise ValueError(f"{type(self).__name__}.step: {len(self.parameters)} gradients expected, "
                             f"{len(grads)} found")
        self.steps += 1
        tidy = self.steps % _TIDY_EVERY == 0
        for p, blocks, g, *arrays in zip(self.parameters, self._blocks, grads, *self.arrays.values()):
            if g.shape != p.shape:
                raise ValueError(f"{type(self).__name__}.step: a gradient of shape {p.shape} expected, "
                                 f"{g.shape} found")
            before, after = p.data, xp.empty(p.shape, p.dtype)

            def update(rows: Any) -> None:
                state = [a[rows] for a in arrays]
                self._update(before[rows], g[rows], after[rows], *state)
                if tidy:
                    for a in state:
                        a *= abs(a) >= _NEGLIGIBLE
            threads.share(update, blocks)
            p.adopt(after)

    def state(self) -> dict[str, numpy.ndarray]:
        """A copy of the state on the host: the step count, and each slot's arrays by parameter number."""
        arrays = {f"{slot}.{i}": numpy.array(to_host(a))
                  for slot in self.slots for i, a in enumerate(self.arrays[slot])}
        return {"steps": numpy.array(self.steps), **arrays}

    def load_state(self, state: dict[str, numpy.ndarray]) -> None:
        """Continue from a result of ``state()``; ``ValueError`` if names or shapes differ."""
        mine = self.state()
        if {k: v.shape for k, v in mine.items()} != {k: v.shape for k, v in state.items()}:
            raise ValueError(f"{type(self).__name__}.load_state: the state of another optimiser "
                             "or of other parameters found")
        self.steps = int(state["steps"])
        self.arrays = {slot: [to_device(state[f"{slot}.{i}"].copy()) for i in range(len(self.parameters))]
                       for slot in self.slots}


class SGD(Optimizer):
    """b = momentum b + g;  p = p - lr b  (Sutskever et al., 2013, as in PyTorch)."""

    slots = ("b",)

    def __init__(self, parameters: Sequence[Tensor], lr: float, momentum: float = 0.0) -> None:
        super().__init__(parameters, lr)
        self.momentum = momentum

    def _update(self, p: Array, g: Array, new: Array, b: Array) -> None:
        _sgd(p, g, new, b, self.momentum, self.lr)


@backend.fused
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

    slots = ("v",)

    def __init__(self, parameters: Sequence[Tensor], lr: float, alpha: float = 0.99,
                 eps: float = 1e-8) -> None:
        super().__init__(parameters, lr)
        self.alpha = alpha
        self.eps = eps

    def _update(self, p: Array, g: Array, new: Array, v: Array) -> None:
        scale = math.sqrt(1 - self.alpha)
        _adaptive(p, g, new, v, None, self.alpha, 0.0, self.eps / scale, self.lr / scale)


class Adam(Optimizer):
    """m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2;  p = p - lr m' / (sqrt(v') + eps) with
    m' = m / (1 - beta1^t) and v' = v / (1 - beta2^t)  (Kingma and Ba, 2015, algorithm 1).

    The stored states are m / (1 - beta1) and v / (1 - beta2), which saves two passes over the memory; the
    constants below carry the factors.
    """

    def __init__(self, parameters: Sequence[Tensor], lr: float = 1e-3, beta1: float = 0.9,
                 beta2: float = 0.999, eps: float = 1e-8) -> None:
        self.slots = ("v", "m") if beta1 else ("v",)        # for beta1 = 0, m is the gradient
        super().__init__(parameters, lr)
        self.beta1 = beta1
        self.beta2 = beta2
        self.eps = eps

    def _update(self, p: Array, g: Array, new: Array, v: Array, m: Array | None = None) -> None:
        scale = math.sqrt((1 - self.beta2) / (1 - self.beta2 ** self.steps))
        rate = self.lr * (1 - self.beta1) / (1 - self.beta1 ** self.steps)
        _adaptive(p, g, new, v, m, self.beta2, self.beta1, self.eps / scale, rate / scale)


@backend.fused
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


OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {kind.__name__: kind for kind in (SGD, RMSProp, Adam)}


def clip_weights(parameters: Sequence[Tensor], bound: float) -> None:
    """Clip every weight: w = clip(w, -bound, bound).

    This is WGAN's Lipschitz constraint (Arjovsky et al., 2017, algorithm 1).
    """
    for p in parameters:
        p.adopt(xp.clip(p.data, -bound, bound))
