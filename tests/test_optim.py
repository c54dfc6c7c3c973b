"""Optimisers against loops in Python floats, as PyTorch's documentation defines them."""

import math
import threading
from contextlib import nullcontext

import numpy
import pytest

from minigen import ops, optim, threads
from minigen.core import Tensor, grad


def sgd(p, gradients, lr, momentum=0.0):
    b = None
    for g in gradients:
        b = g if b is None else momentum * b + g
        p = p - lr * b
    return p


def rmsprop(p, gradients, lr, alpha=0.99, eps=1e-8):
    v = 0.0
    for g in gradients:
        v = alpha * v + (1 - alpha) * g * g
        p = p - lr * g / (math.sqrt(v) + eps)
    return p


def adam(p, gradients, lr=1e-3, beta1=0.9, beta2=0.999, eps=1e-8):
    m = v = 0.0
    for t, g in enumerate(gradients, 1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g * g
        p = p - lr * (m / (1 - beta1 ** t)) / (math.sqrt(v / (1 - beta2 ** t)) + eps)
    return p


CASES = [(optim.SGD, sgd, {"lr": 0.1}), (optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
         (optim.RMSProp, rmsprop, {"lr": 0.01}),
         (optim.RMSProp, rmsprop, {"lr": 0.01, "alpha": 0.9, "eps": 0.1}), (optim.Adam, adam, {}),
         (optim.Adam, adam, {"lr": 0.01, "beta1": 0.0}),
         (optim.Adam, adam, {"lr": 0.01, "beta1": 0.5, "beta2": 0.9, "eps": 0.1})]


@pytest.mark.parametrize("kind, reference, settings", CASES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 100_000), (3000, 50)], ids=str)
def test_follows_its_definition(rng, kind, reference, settings, shape):
    start = rng.normal(size=shape)
    gradients = rng.normal(size=(7, *shape))
    p = Tensor(start.copy())
    optimizer = kind([p], **settings)
    for g in gradients:
        optimizer.step([g])
    for place in [(), (0,), (-1,), (0, 0), (-1, -1), (0, -1)]:
        if len(place) == len(shape):
            expected = reference(float(start[place]), [float(g[place]) for g in gradients], **settings)
            assert p.data[place] == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert p.dtype == "float64"


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSProp, optim.Adam])
@pytest.mark.parametrize("context", [threads.large_arrays, nullcontext], ids=["on threads", "on one thread"])
def test_every_element_is_updated_once(kind, context, three_threads):
    p = Tensor(numpy.zeros((1234, 321), "float32"))
    with context():
        kind([p], lr=0.5).step([numpy.ones((1234, 321), "float32")])
    assert len(numpy.unique(p.data)) == 1 and p.data[0, 0] < 0 and p.dtype == "float32"


@pytest.mark.parametrize("context, workers", [(threads.large_arrays, 3), (nullcontext, 1)])
def test_an_update_is_shared_within_large_arrays_only(context, workers, three_threads, monkeypatch):
    monkeypatch.setattr(threads, "row_blocks", lambda shape, arrays: [slice(i, i + 2) for i in (0, 2, 4)])
    calls, shared = [], threads.parallel
    monkeypatch.setattr(threads, "parallel", lambda work, jobs: (calls.append(jobs), shared(work, jobs)))
    meeting, found = threading.Barrier(workers), set()      # passed only if that many threads come

    class Halved(optim.Optimizer):
        def _update(self, p, g, new):
            meeting.wait()
            found.add(threading.current_thread())
            new[...] = p / 2
    p = Tensor(numpy.arange(6.0))
    with context():
        Halved([p], lr=1.0).step([numpy.ones(6)])
    assert len(found) == workers and len(calls) == (workers > 1)
    assert (p.data == numpy.arange(6) / 2).all()


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSProp, optim.Adam])
def test_minimize_is_a_step_down_the_gradient_of_the_loss(rng, kind):
    start = rng.normal(size=3)
    p, twin, other = Tensor(start.copy()), Tensor(start.copy()), Tensor(rng.normal(size=3))
    loss = ops.sum(p * p * other)
    kind([p], lr=0.1).minimize(loss)
    kind([twin], lr=0.1).step([2 * start * other.data])
    numpy.testing.assert_allclose(p.data, twin.data, rtol=1e-12)
    assert (p.data != start).all()
    with pytest.raises(RuntimeError, match="freed by an earlier grad"):
        grad(loss, other)


@pytest.mark.parametrize("kind, decay", [(optim.SGD, {"momentum": 0.9}), (optim.RMSProp, {"alpha": 0.9}),
                                         (optim.Adam, {})])
@pytest.mark.parametrize("size", [3, 100_000])
def test_state_never_is_subnormal(kind, decay, size):
    """What decays without end: 0.9 times the smallest subnormal number is rounded to that number, and a
    product is slow with it."""
    p = Tensor(numpy.zeros(size, "float32"))
    optimizer = kind([p], lr=0.1, **decay)
    optimizer.step([numpy.ones(size, "float32")])
    for _ in range(1100):
        optimizer.step([numpy.zeros(size, "float32")])
        least = [slot[0].min() for slot in optimizer.arrays.values()]
        assert all(value == 0 or value >= numpy.finfo("float32").tiny for value in least), least
    assert 0 in [slot[0].max() for slot in optimizer.arrays.values()]


@pytest.mark.parametrize("kind, reference, settings", CASES)
def test_what_is_tiny_is_not_missed(rng, kind, reference, settings):
    """Beyond the steps at which it is made 0: gradients of any size, some of which end."""
    gradients = 10.0 ** rng.integers(-25, 1, (5, 1)) * rng.normal(size=(5, 200))
    gradients[3, 50:] = 0
    p = Tensor(numpy.zeros(5, "float32"))
    optimizer = kind([p], **settings)
    for g in gradients.T.astype("float32"):
        optimizer.step([g])
    expected = [reference(0.0, row, **settings) for row in gradients.tolist()]
    numpy.testing.assert_allclose(p.data, expected, rtol=1e-4)


def test_any_memory_layout():
    whole = numpy.zeros((4, 6))
    p = Tensor(whole[:, ::2].T)
    optim.SGD([p], lr=1.0).step([numpy.arange(12.0).reshape(3, 4)])
    assert (p.data == -numpy.arange(12).reshape(3, 4)).all()


def test_a_value_set_from_outside_is_what_is_updated():
    p = Tensor(numpy.zeros(2))
    optimizer = optim.SGD([p], lr=1.0)
    p.data = numpy.array([10.0, 20.0])
    optimizer.step([numpy.ones(2)])
    assert p.data.tolist() == [9, 19]


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSProp, optim.Adam])
def test_a_step_makes_recorded_graphs_stale(kind):
    p, q = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    loss = ops.sum(p * q)
    kind([p], lr=0.1).step([numpy.ones(2, "float32")])
    with pytest.raises(RuntimeError, match="changed after"):
        grad(loss, q)


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSProp, optim.Adam])
def test_state_round_trip_goes_on_bit_for_bit(rng, kind):
    gradients = rng.normal(size=(6, 5)).astype("float32")
    straight, stopped = Tensor(numpy.ones(5, "float32")), Tensor(numpy.ones(5, "float32"))
    one, two = kind([straight], lr=0.1), kind([stopped], lr=0.1)
    for g in gradients[:3]:
        one.step([g])
        two.step([g])
    state = two.state()
    two.step([gradients[0]])        # must not change the copy
    resumed = Tensor(straight.data.copy())
    three = kind([resumed], lr=0.1)
    three.load_state(state)
    for g in gradients[3:]:
        one.step([g])
        three.step([g])
    assert (straight.data == resumed.data).all() and three.steps == 6


def test_mistakes_are_errors():
    p = Tensor(numpy.ones(2))
    with pytest.raises(ValueError, match="SGD.step: 1 gradients expected, 2 found"):
        optim.SGD([p], lr=1.0).step([numpy.ones(2)] * 2)
    with pytest.raises(ValueError, match=r"a gradient of shape \(2,\) expected, \(1,\) found"):
        optim.SGD([p], lr=1.0).step([numpy.ones(1)])
    for lr in (0, -1, math.nan, math.inf):
        with pytest.raises(ValueError, match="Adam: a positive learning rate expected"):
            optim.Adam([p], lr)
    with pytest.raises(ValueError, match="Adam.load_state: the state of another optimiser"):
        optim.Adam([p]).load_state(optim.SGD([p], lr=1.0).state())
    with pytest.raises(ValueError, match="another optimiser or of other parameters"):
        optim.Adam([p]).load_state(optim.Adam([Tensor(numpy.ones(3))]).state())


def test_clip_weights():
    p = Tensor([-5.0, -0.01, 0.0, 0.005, 7.0])
    loss = ops.sum(p * p)
    optim.clip_weights([p], 0.01)
    numpy.testing.assert_allclose(p.data, [-0.01, -0.01, 0, 0.005, 0.01], rtol=1e-6)
    with pytest.raises(RuntimeError, match="changed after"):
        grad(loss, p)
