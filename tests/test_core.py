"""Tensor, Op, grad and no_grad."""

import gc
import math
import threading
import weakref

import numpy
import pytest

from minigen import core, ops, optim
from minigen.core import Op, Tensor, grad, no_grad, to_host


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


def test_raw_arrays_in_raw_array_out_and_no_graph():
    y = ops.mul(numpy.ones(2), numpy.ones(2))
    assert type(y) is numpy.ndarray


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
            values.append(weakref.ref(h.data))
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


def test_an_assigned_result_is_a_leaf():
    x = Tensor(3.0)
    m = ops.exp(x)
    late = m * m
    m.data = 100.0
    assert grad(m * 2, x) == 0 and grad(m * 2, m) == 2
    with pytest.raises(RuntimeError, match="changed after"):
        grad(late, m)


@pytest.mark.parametrize("value, message",
                         [([1.0, 2.0, 3.0], r"a value of shape \(2,\) expected, \(3,\) found"),
                          (1.0, r"\(\) found")])
def test_a_value_of_another_shape_is_refused(value, message):
    p = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match=message):
        p.data = value
    p.data = [5, 6]
    assert p.dtype == "float32" and p.data.tolist() == [5, 6]


@pytest.mark.parametrize("f", [lambda x, t: ops.clip(x, t, 1.0), ops.leaky_relu, lambda x, t: ops.sum(x, t)])
def test_a_tensor_where_an_op_has_no_derivative_is_refused(f):
    with pytest.raises(TypeError):
        f(Tensor([1.0, 2.0]), Tensor(0.5))


def test_tensors_of_two_dtypes_are_refused_in_any_order():
    a, b = Tensor(numpy.ones(2)), Tensor(numpy.ones(2, "float32"))
    for pair in ((a, b), (b, a)):
        with pytest.raises(TypeError, match="mul: Tensors of float.. and of float.. found"):
            ops.mul(*pair)


def test_no_grad_is_of_its_thread_alone():
    x, recorded = Tensor(2.0), []
    with no_grad():
        thread = threading.Thread(target=lambda: recorded.append((x * x).op))
        thread.start()
        thread.join()
        assert (x * x).op is None
    assert recorded == [ops.mul]


def test_no_grad_as_context_and_as_decorator():
    x = Tensor(2.0)

    @no_grad()
    def f():
        return x * x
    assert f().op is None and isinstance(f(), Tensor)
    with pytest.raises(KeyError), no_grad():
        raise KeyError
    assert (x * x).op is ops.mul


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


@pytest.mark.parametrize("data, dtype, expected", [
    ([1, 2], None, "float32"),
    (3, None, "float32"),
    (numpy.arange(3), None, "float32"),
    (numpy.ones(2), None, "float64"),
    (numpy.float64(1), None, "float64"),
    ([True], None, "float32"),
    ([1.5], "float64", "float64"),
    (numpy.ones(2, "float16"), None, "float16"),
    (numpy.ones(2), "float32", "float32"),
])
def test_leaf_dtypes(data, dtype, expected):
    assert Tensor(data, dtype).dtype == expected


def test_a_tensor_of_a_tensor_shares_the_value_but_not_the_history():
    x = Tensor([1.0])
    assert Tensor(x * 2.0).op is None and Tensor(x).data is x.data


@pytest.mark.parametrize("data, dtype", [(numpy.ones(2, complex), None), ("abc", None), ([[1], [2, 3]], None),
                                         ([1], "int64"), (numpy.array(["a"]), None), (None, "object")])
def test_what_is_no_array_of_real_numbers_is_refused(data, dtype):
    with pytest.raises(TypeError, match="^Tensor: "):
        Tensor(data, dtype)


def test_numpy_leaves_tensors_alone():
    x = Tensor([1.0, 2.0])
    assert isinstance(numpy.ones(2, "float32") * x, Tensor)
    with pytest.raises(TypeError):
        numpy.exp(x)
    with pytest.raises(TypeError, match="minigen.ops"):
        numpy.asarray(x)


def test_reads_like_a_number_and_a_sequence():
    x = Tensor([1.0, 2.0, 3.0])
    assert len(x) == 3 and x.size == 3 and x.ndim == 1 and [t.item() for t in x] == [1, 2, 3]
    assert float(x[1]) == 2.0 and bool(x[0]) and len({x, x}) == 1
    assert isinstance(to_host(x), numpy.ndarray) and isinstance(to_host(x.data), numpy.ndarray)
    assert type(ops.sum(x).data) is numpy.ndarray       # where NumPy itself would return a scalar


def test_prints_value_dtype_shape_and_origin():
    x = Tensor([[1.0, 2.0]])
    assert repr(x) == "Tensor([[1., 2.]], float32 (1, 2))"
    assert repr(x * 2) == "Tensor([[2., 4.]], float32 (1, 2), from mul)"
    assert "..." in repr(Tensor(numpy.zeros((100, 100)))) and len(repr(Tensor(numpy.zeros((100, 100))))) < 200
    assert repr(ops.mul) == "<Op mul(a, b) = a b, elementwise>"


def test_joint_partials_are_told_what_is_wanted():
    asked = []

    def joint(wanted, g, y, a, b):
        asked.append(list(wanted))
        return [g * b if wanted[0] else None, g * a if wanted[1] else None]
    f = Op("f(a, b) = a b", lambda a, b: a * b, joint=joint)
    a, b = Tensor(2.0), Tensor(3.0)
    assert grad(f(a, b), b) == 2 and asked == [[False, True]]
    assert [float(g) for g in grad(f(a, b), [a, b])] == [3, 2]


def test_sum_to_and_broadcast_to_are_adjoint(rng):
    a, g = rng.normal(size=(1, 3)), rng.normal(size=(2, 4, 3))
    assert (core.broadcast_to(a, shape=g.shape) * g).sum() == pytest.approx(
        (a * core.sum_to(g, shape=a.shape)).sum())
