"""grad: what it computes, what it refuses, and whose memory it returns."""

import gc
import math
import weakref

import numpy
import pytest

from minigen import core, ops, optim
from minigen.core import Op, Tensor, grad, no_grad, numbers


def test_gradient_is_pruned_to_what_is_asked_for():
    called = []

    def partial(name, value):
        def rule(g, y, *args):
            called.append(name)
            return g * value
        return rule
    f = Op("f(a, b) = 2 a + 3 b", lambda a, b: 2 * a + 3 * b, partial("a", 2), partial("b", 3))
    a, b = Tensor(1.0), Tensor(1.0)
    side = f(a, a)          # on no way to y's gradient in b
    called.clear()
    assert grad(f(side, b), b) == 3
    assert called == ["b"]


def test_shared_subexpressions_accumulate():
    x = Tensor(3.0)
    y = x * x
    assert grad(y * y + y, x) == 4 * 27 + 6


def test_gradients_are_not_accumulated_in_place():
    x = Tensor([1.0, 2.0])
    a, b = x + 0.0, x + 0.0     # add hands one array to both parents
    y = ops.sum((a + b) * a)
    assert grad(y, [a, b, x])[1].tolist() == [1, 2]
    assert grad(y, x).tolist() == [4, 8]


def test_every_order():
    x = Tensor(2.0, "float64")
    y = x ** 5
    for order in range(1, 6):
        y = grad(y, x, create_graph=True)
        assert y.item() == math.perm(5, order) * 2 ** (5 - order)


def test_gradient_penalty_needs_the_second_order():
    w, x = Tensor([2.0, -3.0], "float64"), Tensor([1.0, 4.0], "float64")
    slope = grad(ops.sum(w * x * x), x, create_graph=True)          # 2 w x
    assert grad(ops.sum(slope * slope), w).tolist() == [8 * 2 * 1, 8 * -3 * 16]


def test_in_no_way_dependent_is_zero_but_unrecorded_is_an_error():
    x, other = Tensor([1.0]), Tensor([[2.0]])
    y = ops.sum(x)
    assert grad(y, other).tolist() == [[0]] and grad(y, [other], create_graph=True)[0].shape == (1, 1)
    with no_grad():
        silent = ops.sum(x)
    for unrecorded in (silent, Tensor(1.0)):
        with pytest.raises(ValueError, match="was not recorded"):
            grad(unrecorded, x)
    assert grad(other.reshape(()), other).tolist() == [[1]]
    scalar = Tensor(1.0)
    assert grad(scalar, scalar) == 1


def test_grad_of_something_else_than_a_scalar_or_a_tensor():
    x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=r"a scalar expected, y has shape \(2,\)"):
        grad(x * 2, x)
    with pytest.raises(TypeError, match="a Tensor expected, ndarray found"):
        grad(ops.sum(x), [x.data])
    with pytest.raises(TypeError, match="a Tensor expected, float found"):
        grad(1.0, x)


def test_one_or_several():
    a, b = Tensor(2.0), Tensor(5.0)
    assert grad(a * b, a) == 5
    assert [float(g) for g in grad(a * b, [b, a, b])] == [2, 5, 2]
    assert isinstance(grad(a * b, a), numpy.ndarray) and isinstance(grad(a * b, a, create_graph=True), Tensor)


def test_gradient_in_an_intermediate_result():
    x = Tensor(3.0)
    y = x * x
    z = y * y
    assert [float(g) for g in grad(z, [y, x])] == [18, 108]


@pytest.mark.parametrize("change", [
    lambda p: setattr(p, "data", numpy.array([5.0, 5.0], "float32")),
    lambda p: p.__setattr__("data", p.data + 1),
], ids=["rebound", "augmented"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_graph_through_a_changed_tensor_is_refused(change, create_graph):
    p, x = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    y = ops.sum(p * x)
    change(p)
    for wanted in (p, x):
        with pytest.raises(RuntimeError, match=r"argument 0 of mul\(.*changed after this graph was recorded"):
            grad(y, wanted, create_graph=create_graph)
    grad(ops.sum(p * x), p)


def test_without_retain_graph_the_memory_goes_on_the_way():
    """What no one else holds is gone by the time that the partials before it are called, and the gradient is
    the same."""
    alive = []

    def chain(**options):
        x = Tensor(numpy.linspace(-1.0, 0.0, 3))
        values, found = [], []

        def seen(g):
            found.append([value() is not None for value in values])
            return g
        see = Op("see(a)", lambda a: a + 0.0, lambda g, y, a: seen(g))
        h = x
        for _ in range(3):
            h = see(ops.exp(h))
            values.append(weakref.ref(h._data))
        y = ops.sum(h)
        del h
        gradient = grad(y, x, **options)
        alive.append(found)
        return y, x, gradient
    y, x, retained = chain()
    y, x, released = chain(retain_graph=False)
    assert (retained == released).all() and float(y) == float(ops.sum(ops.exp(ops.exp(ops.exp(x)))))
    assert alive == [[[True] * 3] * 3, [[True, True, True], [True, True, False], [True, False, False]]]
    for wanted in (x, Tensor(1.0)):
        with pytest.raises(RuntimeError,
                           match="freed by an earlier grad without retain_graph: compute y again"):
            grad(y + 1.0, wanted)
    with pytest.raises(ValueError, match="create_graph needs retain_graph"):
        grad(ops.sum(x), x, create_graph=True, retain_graph=False)


def test_a_change_off_the_way_does_not_matter():
    p, q = Tensor(2.0), Tensor(3.0)
    left, right = p * 2.0, q * 3.0
    y = left + right
    q.data = 7
    assert grad(y, p) == 2


@pytest.mark.parametrize("view", [
    lambda p: p.T, lambda p: p.reshape(-1), lambda p: p[:, :1], lambda p: Tensor(p),
    lambda p: core.broadcast_to(p, shape=(2, 2, 2))], ids=["T", "reshape", "slice", "Tensor", "broadcast"])
def test_an_update_does_not_reach_the_views_in_recorded_graphs(view):
    p = Tensor([[1.0, 2.0], [3.0, 4.0]])
    v = view(p)
    y = ops.sum(v * v)
    expected = 2 * v.data.copy()
    optim.SGD([p], lr=1.0).step([numpy.full((2, 2), 100, "float32")])
    optim.clip_weights([p], 0.5)
    assert (grad(y, v) == expected).all() and p.data.max() < 1


def test_memory_is_freed_without_the_garbage_collector():
    gc.disable()
    try:
        x = Tensor(numpy.ones(10))
        middle = x * 2.0
        loss = ops.sum(middle * middle)
        grad(loss, x, create_graph=True)
        watch = weakref.ref(middle)
        del middle, loss
        assert watch() is None
    finally:
        gc.enable()


def test_a_chain_of_a_hundred_thousand_ops():
    x = Tensor(1.0, "float64")
    y = x
    for _ in range(100_000):
        y = y + 1e-5
    assert grad(y, x) == 1
    del y


def test_sum_to_and_broadcast_to_are_adjoint(rng):
    a, g = rng.normal(size=(1, 3)), rng.normal(size=(2, 4, 3))
    assert (core.broadcast_to(a, shape=g.shape) * g).sum() == pytest.approx(
        (a * core.sum_to(g, shape=a.shape)).sum())


@pytest.mark.parametrize("shape", [(2, 3), (5,), (4, 3), (1, 2, 3, 2), (4, 3, 1, 1)])
def test_a_shape_that_cannot_be_broadcast_is_refused(shape):
    """Their sizes often agree: (4, 3, 2) summed over the first axis has as many elements as (2, 3)."""
    with pytest.raises(ValueError, match=r"sum_to\(float32 \(4, 3, 2\).*a shape that can be broadcast to"):
        core.sum_to(Tensor(numpy.ones((4, 3, 2), "float32")), shape)


def f(kind, *partials, forward=lambda a, b: a * b):
    return Op(f"{kind}(a, b)", forward, *partials)


@pytest.mark.parametrize("create_graph", [False, True])
@pytest.mark.parametrize("function", [
    lambda a, b: a + b, lambda a, b: (a + b) + (a + b), lambda a, b: a.reshape(3, 2).T.T.reshape(2, 3) + b,
    lambda a, b: ops.concatenate([a, b]), lambda a, b: a.T.T - b.T.T,
    f("saved", lambda g, y, a, b: b, lambda g, y, a, b: a), f("result", lambda g, y, a, b: y, None)],
    ids=["sum", "shared", "views", "joined", "T", "saved arrays", "result"])
def test_gradients_have_memory_of_their_own(function, create_graph):
    a, b = Tensor(numpy.ones((2, 3))), Tensor(numpy.full((2, 3), 2.0))
    middle = function(a, b)
    gradients = grad(ops.sum(middle), [a, b, a, middle, b], create_graph=create_graph)
    arrays = [x._data for x in [*gradients, a, b, middle] if isinstance(x, Tensor)]
    arrays += [g for g in gradients if isinstance(g, numpy.ndarray)]
    for i, one in enumerate(arrays):
        assert not any(numpy.shares_memory(one, other) for other in arrays[:i])
    assert len(arrays) == 8


def test_an_array_that_a_partial_keeps_is_not_handed_out():
    kept = numpy.array([2.0, 3.0])
    weighted = Op("weighted(x)", lambda x: x @ kept, lambda g, y, x: kept)
    joint = Op("joint(x)", lambda x: x @ kept, joint=lambda needed, g, y, x: [kept])
    x = Tensor(numpy.ones(2))
    for op in (weighted, joint):
        gx = grad(op(x), x)
        gx += 1
        assert kept.tolist() == [2, 3] and gx.tolist() == [3, 4]


def test_a_gradient_that_is_constant_has_derivative_zero():
    b, c, x = Tensor(2.0), Tensor(3.0), Tensor([1.0, 2.0])
    for y in (b + c, 3 * b, b):
        gb = grad(y, b, create_graph=True)
        assert grad(gb, b) == 0 and grad(gb * b, b) == gb.item()
    gx = grad(b * c, x, create_graph=True)
    assert grad(ops.sum(gx), [x, b])[0].tolist() == [0, 0]


def test_create_graph_records_within_no_grad():
    x = Tensor(3.0)
    y = x * x * x
    with no_grad():
        slope = grad(y, x, create_graph=True)
        assert grad(slope, x) == 18 and (x * x).op is None
    assert (x * x).op is ops.mul


NUMPYS = f("f", lambda g, y, a, b: numpy.exp(a) * g, None)


@pytest.mark.parametrize("create_graph, op, message", [
    (False, f("f", lambda g, y, a, b: (g * b).T, None), r"0 of f: the shape \(2, 3\).*\(3, 2\) found"),
    (False, f("f", lambda g, y, a, b: g[:, :2], None), r"0 of f: the shape \(2, 3\).*\(2, 2\) found"),
    (False, f("f", None, lambda g, y, a, b: 2.0), "1 of f: an array expected, a float found"),
    (False, f("f", lambda g, y, a, b: g.astype("float64"), None), "0 of f: float32 expected.*float64"),
    (False, f("f", lambda g, y, a, b: Tensor(b) * g, None), "0 of f: an array expected, a Tensor found"),
    (False, f("f", lambda g, y, a, b: g @ g, None), r"partial 0 of f: matmul"),
    (True, NUMPYS, "partial 0 of f: "),
    (True, f("f", lambda g, y, a, b: numpy.ones((2, 3), "float32"), None), "0 of f: a Tensor, made by"),
    (False, Op("f(a, b)", lambda a, b: a * b, joint=lambda wanted, g, y, a, b: [g * b]),
     "joint partials of f: 2 gradients expected, one per argument, 1 found"),
    (False, Op("f(a, b)", lambda a, b: a * b, joint=lambda *_: None), "joint partials of f: "),
    (True, Op("f(a, b)", lambda a, b: a * b, joint=lambda wanted, g, y, a, b: [g * b, None]),
     "joint partials of f: a gradient for argument 1 expected, None found"),
], ids=["transposed", "cut", "number", "float64", "Tensor", "inside", "NumPy", "constant", "joint", "None",
        "missing"])
def test_a_partial_that_does_not_fit_is_named(create_graph, op, message):
    a, b = Tensor(numpy.ones((2, 3), "float32")), Tensor(numpy.ones((2, 3), "float32"))
    y = ops.sum(op(a, b))
    with pytest.raises((TypeError, ValueError), match=message):
        grad(y, [a, b], create_graph=create_graph)
    if op is NUMPYS:
        assert grad(y, a).shape == (2, 3)


def test_what_is_no_sequence_of_tensors_is_named():
    x = Tensor([1.0])
    for xs, kind in ((3, "int"), ({x}, "set"), (frozenset([x]), "frozenset")):
        with pytest.raises(TypeError, match=f"xs: a Tensor or a sequence of Tensors expected, {kind} found"):
            grad(ops.sum(x), xs)


@pytest.mark.parametrize("value", [[[1, 2], [3, 4]], numpy.array([[1, 2], [3, 4]], ">i2")], ids=repr)
def test_numbers_of_arrays_and_lists(value):
    found = numbers("f", "x", value, "iu")
    assert type(found) is numpy.ndarray and found.tolist() == [[1, 2], [3, 4]]


def test_numbers_of_a_tensor():
    assert numbers("f", "x", Tensor([0.5, 1.0])).tolist() == [0.5, 1.0]


@pytest.mark.parametrize("value, kinds, message", [
    ([1j], "biuf", r"real numbers expected, complex128 \(1,\) found"),
    (["a"], "biuf", r"real numbers expected, <U1 \(1,\) found"),
    (numpy.array([1, 2.5], object), "biuf", r"real numbers expected, object \(2,\) found"),
    (numpy.ma.masked_array([1, 2], [True, False]), "iu", "integers expected, MaskedArray found"),
    ([1.0], "iu", r"integers expected, float64 \(1,\) found"), ([True], "iu", r"bool \(1,\) found"),
    ([[1, 2], [3]], "iu", "list found"), (None, "biuf", "NoneType found"), ({"a": 1}, "biuf", "dict found"),
    ((n for n in "12"), "iu", "generator found")])
def test_what_are_no_numbers_is_refused(value, kinds, message):
    with pytest.raises(ValueError, match=f"^f: x: an array of .*{message}$"):
        numbers("f", "x", value, kinds)


def test_joint_partials_may_return_one_array_twice():
    def joint(needed, g, y, a, b):
        twice = g * 2
        return [twice, twice]
    op = Op("f(a, b) = 2 (a + b)", lambda a, b: 2 * (a + b), joint=joint)
    a, b = Tensor(numpy.ones(3)), Tensor(numpy.ones(3))
    first, second = grad(op(a, b).sum(), [a, b])
    first *= 0
    assert second.tolist() == [2, 2, 2]
