"""Optimisers against loops in Python floats, as PyTorch's documentation defines them."""

import copy
import math
import re
import threading
from contextlib import nullcontext

import numpy
import pytest

from minigen import nn, ops, optim, threads
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
@pytest.mark.parametrize("copied", [False, True])
def test_vectors_updated_together_are_what_each_is_alone(rng, kind, copied):
    shapes = [((4, 3), "float32"), ((3,), "float32"), ((), "float32"), ((5,), "float64"), ((2, 1), "float64"),
              ((7,), "float32"), ((0,), "float32"), ((1,), "float64")]
    start = [rng.normal(size=shape).astype(dtype) for shape, dtype in shapes]
    together = kind([Tensor(a) for a in start], 0.1)
    alone = [kind([Tensor(a)], 0.1) for a in start]
    for _ in range(3):
        if copied:
            together = copy.deepcopy(together)
        grads = [numpy.asarray(rng.normal(size=a.shape), a.dtype) for a in start]
        together.step(grads)
        for optimizer, g in zip(alone, grads):
            optimizer.step([g])
    for i, (p, optimizer) in enumerate(zip(together.parameters, alone)):
        numpy.testing.assert_array_equal(p.data, optimizer.parameters[0].data)
        for slot in together.slots:
            numpy.testing.assert_array_equal(together.state()[f"{slot}.{i}"], optimizer.state()[f"{slot}.0"])
    again = kind([Tensor(a) for a in start], 0.1)
    again.load_state(together.state())
    assert {name: a.tolist() for name, a in again.state().items()} == {
        name: a.tolist() for name, a in together.state().items()}


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
        elementwise = True

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


@pytest.mark.parametrize("kind", [optim.SGD, optim.RMSProp, optim.Adam])
@pytest.mark.parametrize("loss_of", [
    lambda p, other: ops.sum(other * other),
    lambda p, other: ops.sum(Tensor(p.data) * other)], ids=["of another Tensor", "of the value alone"])
def test_a_loss_that_depends_on_no_parameter_is_refused(kind, loss_of):
    p, other = Tensor([1.0, -2.0]), Tensor([3.0, 4.0])
    optimizer = kind([p], lr=0.1)
    optimizer.minimize(ops.sum(p))      # so there is momentum
    before = p.data
    with pytest.raises(ValueError, match=f"^{kind.__name__}.minimize: the loss depends on none of the"):
        optimizer.minimize(loss_of(p, other))
    assert optimizer.steps == 1 and p.data.tolist() == before.tolist()


def test_a_loss_may_be_a_parameter_or_depend_on_some_only():
    loss, p, unused = Tensor(2.0), Tensor(1.0), Tensor(5.0)
    optim.SGD([loss, unused], lr=0.5).minimize(loss)
    optim.SGD([unused, p], lr=0.5).minimize(3 * p)
    assert (loss.item(), p.item(), unused.item()) == (1.5, -0.5, 5.0)


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
    kept = {name: array.copy() for name, array in state.items()}
    for g in gradients[3:]:
        one.step([g])
        three.step([g])
    assert all((array == kept[name]).all() for name, array in state.items())
    assert (straight.data == resumed.data).all() and three.steps == 6


KINDS = [optim.SGD, optim.RMSProp, optim.Adam]
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@pytest.mark.parametrize("parameters, error, message", [
    (lambda w: w, TypeError, "a list of Tensors such as net.parameters\\(\\) expected, Tensor found"),
    (lambda w: nn.ReLU(), TypeError, "ReLU found"), (lambda w: None, TypeError, "NoneType found"),
    (lambda w: {w}, TypeError, "set found"),
    (lambda w: [], ValueError, "at least 1 parameter expected, 0 found"),
    (lambda w: [w, w.data], TypeError, "parameter 1: a Tensor expected, ndarray found"),
    (lambda w: {"w": w}, TypeError, "parameter 0: a Tensor expected, str found"),
    (lambda w: [w, 2 * w], ValueError, "parameter 1 is a result of mul: only leaves can be trained")])
def test_what_cannot_be_trained_is_refused(kind, parameters, error, message):
    with pytest.raises(error, match=f"^{kind.__name__}: .*{message}"):
        kind(parameters(Tensor([1.0, 2.0])), lr=0.1)


@every_kind
def test_parameters_count_once_and_may_come_from_a_generator(kind):
    p, twin, g = Tensor([1.0, 2.0]), Tensor([1.0, 2.0]), numpy.array([3.0, -1.0], "float32")
    doubled, single = kind((p for _ in range(2)), lr=0.1), kind([twin], lr=0.1)
    for _ in range(3):
        doubled.step([g])
        single.step((g,))
    assert len(doubled.parameters) == 1 and p.data.tolist() == twin.data.tolist() != [1, 2]
    assert doubled.state().keys() == single.state().keys()


@every_kind
@pytest.mark.parametrize("change, error, message", [
    (lambda g: g[:1], ValueError, "2 gradients expected, 1 found"),
    (lambda g: iter(g), TypeError, "a list of gradients expected, list_iterator found"),
    (lambda g: numpy.ones((2, 2)), TypeError, "a list of gradients expected, ndarray found"),
    (lambda g: [g[0], Tensor(g[1])], TypeError, "gradient 1: an array expected, Tensor found"),
    (lambda g: [g[0], None], TypeError, "gradient 1: an array expected, NoneType found"),
    (lambda g: [g[0], g[1].tolist()], TypeError, "gradient 1: an array expected, list found"),
    (lambda g: [g[0], g[1][:1]], ValueError,
     r"gradient 1 of float64 \(2,\) expected, float64 \(1,\) found"),
    (lambda g: [g[0], g[1].astype("float32")], ValueError, r".* expected, float32 \(2,\) found"),
    (lambda g: [g[0], g[1].astype(int)], ValueError, r".* expected, int64 \(2,\) found")])
def test_a_refused_step_moves_nothing(kind, change, error, message):
    parameters = [Tensor(numpy.ones(2)), Tensor(numpy.ones(2))]
    optimizer, g = kind(parameters, lr=0.1), [numpy.ones(2), numpy.ones(2)]
    optimizer.step(g)
    before, values = optimizer.state(), [p.data.tolist() for p in parameters]
    with pytest.raises(error, match=f"^{kind.__name__}.step: {message}$"):
        optimizer.step(change(g))
    assert [p.data.tolist() for p in parameters] == values
    assert all((array == before[name]).all() for name, array in optimizer.state().items())


RANGES = [(optim.SGD, "momentum", "[0, 1)", (0, 0.99), (-0.1, 1, math.nan)),
          (optim.RMSProp, "alpha", "[0, 1)", (0, 0.99), (-0.1, 1, math.nan)),
          (optim.RMSProp, "eps", "[1e-12, inf)", (1e-12, 1), (0, 1e-13, -1, math.inf)),
          (optim.Adam, "beta1", "[0, 1)", (0, 0.99), (-0.1, 1, math.nan)),
          (optim.Adam, "beta2", "[0, 1)", (0, 0.99), (-0.1, 1, math.nan)),
          (optim.Adam, "eps", "[1e-12, inf)", (1e-12, 1), (0, 1e-13, -1, math.inf)),
          *[(kind, "lr", "[0, inf)", (1e-300, 1e300), (-1, math.nan, math.inf)) for kind in KINDS]]


def test_parameters_that_came_later_are_not_left_out_silently():
    p, late = Tensor(1.0), Tensor(1.0)
    optimizer = optim.SGD([p], lr=0.5)
    with pytest.raises(AttributeError, match="^SGD: the parameters stay"):
        optimizer.parameters += (late,)


@pytest.mark.parametrize("kind, name, interval, inside, outside", RANGES)
def test_hyperparameters_have_their_range(kind, name, interval, inside, outside):
    p = Tensor(numpy.ones(2))
    for value in inside:
        assert getattr(kind([p], **{"lr": 0.1, name: value}), name) == value
    optimizer = kind([p], lr=0.1)
    words = f"^{kind.__name__}: a number {name} in {re.escape(interval)} expected, "
    for value in (*outside, True, None, "0.5", numpy.ones(1)):
        with pytest.raises((TypeError, ValueError), match=f"^{kind.__name__}: a number {name} in "):
            kind([p], **{"lr": 0.1, name: value})
        before = getattr(optimizer, name)
        with pytest.raises((TypeError, ValueError), match=words):
            setattr(optimizer, name, value)
        assert getattr(optimizer, name) == before


def test_a_decay_changed_between_steps_applies_to_the_moments_from_then_on():
    """The state is stored divided by 1 - decay, which must not be seen."""
    p, q = Tensor([1.0, 2.0], "float64"), Tensor([1.0, 2.0], "float64")
    adam, rmsprop = optim.Adam([p], lr=0.1), optim.RMSProp([q], lr=0.1)
    m = v = u = numpy.zeros(2)
    x, y = p.data, q.data
    beta1, beta2, alpha = 0.9, 0.999, 0.99
    for t, g in enumerate(numpy.random.default_rng(0).normal(size=(6, 2)), 1):
        if t == 4:
            adam.beta1 = beta1 = 0.5
            adam.beta2, rmsprop.alpha = beta2, alpha = 0.9, 0.0
        adam.step([g])
        rmsprop.step([g])
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        u = alpha * u + (1 - alpha) * g * g
        x = x - 0.1 * (m / (1 - beta1 ** t)) / (numpy.sqrt(v / (1 - beta2 ** t)) + 1e-8)
        y = y - 0.1 * g / (numpy.sqrt(u) + 1e-8)
    numpy.testing.assert_allclose(p.data, x, rtol=1e-12)
    numpy.testing.assert_allclose(q.data, y, rtol=1e-12)
    restored = optim.Adam([p], beta1=0.1, beta2=0.2)
    restored.load_state(adam.state())
    assert all((restored.state()[name] == array).all() for name, array in adam.state().items())


@every_kind
def test_a_learning_rate_may_end_but_not_begin_at_0(kind):
    p = Tensor(numpy.ones(2))
    with pytest.raises(ValueError, match=rf"^{kind.__name__}: a number lr in \(0, inf\) expected, 0 found"):
        kind([p], lr=0)
    optimizer = kind([p], lr=0.1)
    optimizer.lr = 0
    optimizer.step([numpy.ones(2)])
    assert p.data.tolist() == [1, 1]


def test_a_hyperparameter_of_numpys_does_not_promote():
    p = Tensor(numpy.ones(2, "float32"))
    optim.SGD([p], numpy.float64(0.5), numpy.float64(0.5)).step([numpy.ones(2, "float32")])
    assert p.data.tolist() == [0.5, 0.5] and p.dtype == "float32"


def test_without_a_first_moment_beta1_stays_0():
    optimizer = optim.Adam([Tensor([1.0])], beta1=0)
    with pytest.raises(ValueError, match=r"beta1 in \[0, 0\] expected, 0.5 found"):
        optimizer.beta1 = 0.5
    state = {**optimizer.state(), "beta1": numpy.array(0.5)}
    with pytest.raises(ValueError, match=r"beta1 in \[0, 0\] expected, 0.5 found"):
        optimizer.load_state(state)


@pytest.mark.parametrize("kind, changed", [
    (optim.SGD, {"lr": 0.03, "momentum": 0.4}), (optim.RMSProp, {"lr": 0.03, "alpha": 0.5, "eps": 0.1}),
    (optim.Adam, {"lr": 0.03, "beta1": 0.2, "beta2": 0.3, "eps": 0.1}), (optim.Adam, {"lr": 0.0})])
def test_hyperparameters_changed_by_hand_are_in_the_state(kind, changed):
    parameters = [Tensor(numpy.ones(3)) for _ in range(2)]
    one, two = (kind([p], lr=0.1) for p in parameters)
    one.step([numpy.arange(3.0)])
    for name, value in changed.items():
        setattr(one, name, value)
    parameters[1].data = parameters[0].data
    two.load_state(one.state())
    assert {name: getattr(two, name) for name in changed} == changed
    for optimizer in (one, two):
        optimizer.step([numpy.arange(3.0) - 1])
    assert parameters[0].data.tolist() == parameters[1].data.tolist()


@pytest.mark.parametrize("change, error, message", [
    ({"v.0": numpy.zeros(2)}, ValueError, r"v.0 of float32 \(2,\) expected, float64 \(2,\) found"),
    ({"v.0": numpy.zeros(3, "float32")}, ValueError, r"float32 \(3,\) found"),
    ({"m.0": numpy.array([0, math.nan], "float32")}, ValueError, "m.0 is not finite"),
    ({"steps": numpy.array(-1)}, ValueError, "steps of at least 0 expected, -1 found"),
    ({"steps": numpy.array(2.5)}, ValueError, r"steps of int64 \(\) expected, float64 \(\) found"),
    ({"steps": numpy.array([3])}, ValueError, r"int64 \(1,\) found"), ({"steps": 3}, TypeError, "but int"),
    ({"lr": numpy.array(-0.1)}, ValueError, r"a number lr in \[0, inf\) expected, -0.1 found"),
    ({"lr": numpy.array(math.inf)}, ValueError, "lr is not finite"),
    ({"beta2": numpy.array(1.0)}, ValueError, r"beta2 in \[0, 1\) expected, 1.0 found"),
    ({"v.1": numpy.zeros(2, "float32")}, ValueError, r"missing: \[\], unknown: \['v.1'\]")])
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    optimizer = optim.Adam([Tensor([1.0, 2.0])], lr=0.1)
    optimizer.step([numpy.ones(2, "float32")])
    before = optimizer.state()
    other = optim.Adam([Tensor([1.0, 2.0])], lr=0.2).state()
    for load in (optimizer.check_state, optimizer.load_state):
        with pytest.raises(error, match=f"^Adam.load_state: .*{message}"):
            load({**other, **change})
    assert all((array == before[name]).all() for name, array in optimizer.state().items())


def test_the_state_of_another_optimiser_is_refused():
    p = Tensor(numpy.ones(2))
    with pytest.raises(ValueError, match=r"^Adam.load_state: .*: \['beta1', .*: \['b.0', 'mom"):
        optim.Adam([p]).load_state(optim.SGD([p], lr=1.0).state())
    with pytest.raises(ValueError, match=r"m.0', 'm.1"):
        optim.Adam([p, Tensor([1.0])]).load_state(optim.Adam([p, Tensor([1.0])], beta1=0).state())


def test_an_optimiser_shows_itself():
    optimizer = optim.Adam([Tensor(numpy.ones((30, 40))), Tensor([1.0])], lr=0.01)
    assert repr(optimizer) == "Adam(lr=0.01, beta1=0.9, beta2=0.999, eps=1e-08), 1,201 parameters, step 0"
    assert repr(optim.SGD([Tensor([1.0])], 1)) == "SGD(lr=1.0, momentum=0.0), 1 parameter, step 0"


def test_clip_weights():
    p = Tensor([-5.0, -0.01, 0.0, 0.005, 7.0])
    loss = ops.sum(p * p)
    optim.clip_weights([p], 0.01)
    numpy.testing.assert_allclose(p.data, [-0.01, -0.01, 0, 0.005, 0.01], rtol=1e-6)
    optim.clip_weights([p], numpy.float64(0.005))
    assert p.dtype == "float32" and p.data.max() == numpy.float32(0.005)
    with pytest.raises(RuntimeError, match="changed after"):
        grad(loss, p)


@pytest.mark.parametrize("parameters, bound, message", [
    (lambda w: [w], 0, r"a number bound in \(0, inf\) expected, 0 found"),
    (lambda w: [w], -0.1, "-0.1 found"),
    (lambda w: [w], math.nan, "nan found"), (lambda w: [w], math.inf, "inf found"),
    (lambda w: [w], True, "True found"), (lambda w: [w], "1", "'1' found"),
    (lambda w: w, 0.1, "a list of Tensors such as net.parameters.* expected, Tensor found"),
    (lambda w: [w, w.data], 0.1, "parameter 1: a Tensor expected, ndarray found"),
    (lambda w: [w, w * 2], 0.1, "parameter 1 is a result of mul")])
def test_what_cannot_be_clipped_is_refused(parameters, bound, message):
    w = Tensor([-5.0, 5.0])
    with pytest.raises((TypeError, ValueError), match=f"^clip_weights: .*{message}"):
        optim.clip_weights(parameters(w), bound)
    assert w.data.tolist() == [-5, 5]


def test_an_update_that_is_not_elementwise_sees_whole_parameters():
    class Normed(optim.Optimizer):
        def _update(self, p, g, new):
            new[...] = p - self.lr * g / numpy.sqrt((g * g).sum())
    a, b, c = (Tensor(numpy.zeros(shape)) for shape in (1, 2, (700, 1000)))
    Normed([a, b, c], lr=1.0).step([numpy.ones(1), numpy.array([3.0, 4.0]), numpy.ones((700, 1000))])
    assert a.data.tolist() == [-1] and b.data.tolist() == [-0.6, -0.8]
    assert numpy.linalg.norm(c.data) == pytest.approx(1)


def test_parameters_and_arrays_of_an_optimiser_stay():
    p = Tensor(numpy.ones(2))
    optimizer = optim.SGD([p], 0.1)
    with pytest.raises(AttributeError, match="^SGD: the parameters stay: build another optimiser for others"):
        optimizer.parameters = (Tensor(numpy.ones(2)),)
    with pytest.raises(TypeError):
        optimizer.arrays["b"] = [numpy.zeros(2)]
    with pytest.raises(TypeError):
        optimizer.arrays["b"][0] = numpy.zeros(2)


def test_a_state_may_hold_the_optimisers_own_arrays():
    optimizer = optim.SGD([Tensor(numpy.ones(2)), Tensor(numpy.ones(2))], 0.1)
    optimizer.step([numpy.ones(2), numpy.full(2, 5.0)])
    first, second = optimizer.arrays["b"]
    optimizer.load_state({**optimizer.state(), "b.0": second, "b.1": first})
    assert first.tolist() == [5, 5] and second.tolist() == [1, 1]


# f and g of a list of numbers; the solution of min f s.t. g <= 0 and its multiplier, by the KKT conditions.
PROBLEMS = {
    "active": (lambda x: (x - 2) ** 2, lambda x: x - 1, [1], 2),
    "inactive": (lambda x: (x - 2) ** 2, lambda x: x - 3, [2], 0),
    "touching": (lambda x: (x - 2) ** 2, lambda x: 3 * (x - 2), [2], 0),
    "plane": (lambda x, y: x * x + 2 * y * y, lambda x, y: 1 - x - y, [2 / 3, 1 / 3], 4 / 3),
    "disc": (lambda x, y: x + y, lambda x, y: x * x + y * y - 2, [-1, -1], 1 / 2)}


@pytest.mark.parametrize("start", [0.0, 1.0])
@pytest.mark.parametrize("f, g, solution, multiplier", PROBLEMS.values(), ids=list(PROBLEMS))
def test_dual_ascent_finds_the_kkt_point(f, g, solution, multiplier, start):
    numbers = [Tensor(0.5) for _ in solution]
    sgd, dual = optim.SGD(numbers, lr=0.05), optim.DualAscent(0.05, start=start)
    for _ in range(2000):
        violation = g(*numbers)
        sgd.minimize(f(*numbers) + dual.multiplier * violation)
        dual.ascend(violation)
    assert [x.item() for x in numbers] == pytest.approx(solution, abs=1e-3)
    assert dual.multiplier.item() == pytest.approx(multiplier, abs=1e-3)
    assert dual.multiplier.item() * g(*numbers).item() == pytest.approx(0, abs=1e-3)


def test_the_multiplier_stays_between_0_and_most():
    dual = optim.DualAscent(0.5, start=1.0, most=2.0)
    for violation, expected in ((1.0, 1.5), (4.0, 2.0), (-1.0, 1.5), (-9.0, 0.0), (-1.0, 0.0), (0.0, 0.0),
                                (0.5, 0.25)):
        before = dual.multiplier.data
        dual.ascend(violation)
        assert dual.multiplier.item() == expected and before is not dual.multiplier.data
    assert dual.steps == 7 and dual.parameters == (dual.multiplier,)
    dual.lr, dual.most = 1.0, 0.125
    dual.ascend(-0.03125)
    assert dual.multiplier.item() == 0.125


@pytest.mark.parametrize("violation", [
    0.5, numpy.float64(0.5), numpy.float32(0.5), numpy.array(0.5), numpy.array(0.5, "float32"), Tensor(0.5),
    Tensor(0.5, "float64"), Tensor([0.25, 0.25], "float64").sum()], ids=str)
def test_a_violation_may_be_a_number_an_array_or_a_tensor(violation):
    dual = optim.DualAscent(0.5)
    dual.ascend(violation)
    assert dual.multiplier.item() == 0.25 and dual.multiplier.op is None
    assert dual.multiplier.dtype == dual.multiplier.data.dtype == "float32" and dual.multiplier.shape == ()
    dual.ascend(1)
    assert dual.multiplier.item() == 0.75


@pytest.mark.parametrize("violation, found", [
    (numpy.ones(1), r"\(1,\)"), (numpy.ones((2, 1)), r"\(2, 1\)"), (Tensor([1.0]), r"\(1,\)"),
    ([0.5], r"\[0.5\]"), (None, "None"), ("0.5", "'0.5'"), (True, "True"), (numpy.array(1j), r"\(\)"),
    (numpy.array("a"), r"\(\)")], ids=str)
def test_a_violation_that_is_no_scalar_moves_nothing(violation, found):
    dual = optim.DualAscent(0.5, start=1.0)
    with pytest.raises(TypeError, match=rf"^DualAscent.ascend: a number or an array .*, {found} found$"):
        dual.ascend(violation)
    assert dual.multiplier.item() == 1 and dual.steps == 0


def test_the_multiplier_is_part_of_the_state_and_goes_on_bit_for_bit(rng):
    violations = rng.normal(size=20)
    straight, stopped = optim.DualAscent(0.1, start=0.3), optim.DualAscent(0.1, start=0.3)
    for violation in violations[:10]:
        straight.ascend(violation)
        stopped.ascend(violation)
    state = stopped.state()
    kept = {name: array.copy() for name, array in state.items()}
    resumed = optim.DualAscent(0.7, start=2.0, most=50.0)
    multiplier = resumed.multiplier
    resumed.load_state(state)
    stopped.ascend(1.0)             # must not change the copy
    for violation in violations[10:]:
        straight.ascend(violation)
        resumed.ascend(violation)
        assert straight.multiplier.item() == resumed.multiplier.item()
    assert resumed.multiplier is multiplier and (resumed.steps, resumed.lr, resumed.most) == (20, 0.1, 1e4)
    assert state.keys() == {"steps", "lr", "most", "multiplier"}
    assert all((array == kept[name]).all() for name, array in state.items())
    least = optim.DualAscent(0.1, start=0.1, most=0.1)      # which float32 rounds up
    least.load_state(least.state())


@pytest.mark.parametrize("change, error, message", [
    ({"multiplier": numpy.array(1.0)}, ValueError, r"multiplier of float32 .* expected, float64 \(\) found"),
    ({"multiplier": numpy.ones(1, "float32")}, ValueError, r"float32 \(1,\) found"),
    ({"multiplier": numpy.array(math.nan, "float32")}, ValueError, "multiplier is not finite"),
    ({"multiplier": numpy.array(-1, "float32")}, ValueError, r"multiplier in \[0, 5.0\] expected, -1.0"),
    ({"multiplier": numpy.array(6, "float32")}, ValueError, r"multiplier in \[0, 5.0\] expected, 6.0 found"),
    ({"multiplier": 1.0}, TypeError, "multiplier is no NumPy array, but float"),
    ({"most": numpy.array(0.0)}, ValueError, r"a number most in \(0, 1e38\] expected, 0.0 found"),
    ({"lr": numpy.array(-1.0)}, ValueError, r"a number lr in \[0, inf\) expected, -1.0 found"),
    ({"steps": numpy.array(-1)}, ValueError, "steps of at least 0 expected, -1 found"),
    ({"b.0": numpy.array(1.0)}, ValueError, r"unknown: \['b.0'\]")])
def test_a_state_that_does_not_fit_changes_no_multiplier(change, error, message):
    dual = optim.DualAscent(0.5, start=1.0)
    dual.ascend(1.0)
    before, other = dual.state(), optim.DualAscent(0.25, start=2.0, most=5.0).state()
    for load in (dual.check_state, dual.load_state):
        with pytest.raises(error, match=f"^DualAscent.load_state: .*{message}"):
            load({**other, **change})
    assert all((array == before[name]).all() for name, array in dual.state().items())


@pytest.mark.parametrize("name, interval, inside, outside", [
    ("lr", "(0, inf)", (1e-300, 1e30), (0, -1, math.nan, math.inf)),
    ("start", "[0, 7.0]", (0, 7), (-0.1, 7.1, math.nan)),
    ("most", "(0, 1e38]", (1e-30, 1e38), (0, -1, 1e39, math.nan, math.inf))])
def test_dual_ascents_numbers_have_their_range(name, interval, inside, outside):
    for value in inside:
        optim.DualAscent(**{"lr": 0.1, "most": 7.0, name: value}).ascend(0.5)
    for value in (*outside, True, None, "0.5", numpy.ones(1)):
        with pytest.raises((TypeError, ValueError),
                           match=f"^DualAscent: a number {name} in {re.escape(interval)} expected, "):
            optim.DualAscent(**{"lr": 0.1, "most": 7.0, name: value})


def test_dual_ascent_shows_itself():
    dual = optim.DualAscent(0.5, start=1.0)
    dual.ascend(1.0)
    assert repr(dual) == "DualAscent(lr=0.5, most=10000.0), 1 parameter, step 1"
