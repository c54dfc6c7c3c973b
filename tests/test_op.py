"""Op: what it does with its arguments; and no_grad."""

import copy
import inspect
import pickle
import threading

import numpy
import pytest

from minigen import ops, threads
from minigen.core import Op, Tensor, grad, no_grad, to_host


def test_raw_arrays_in_raw_array_out_and_no_graph():
    y = ops.mul(numpy.ones(2), numpy.ones(2))
    assert type(y) is numpy.ndarray


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


def test_an_op_has_a_name():
    for doc in (None, lambda a: a):
        with pytest.raises(TypeError, match=r"^Op: doc, a string such as 'mul\(a, b\) = a b', expected, "):
            Op(doc, lambda a: a)


def test_joint_partials_are_told_what_is_wanted():
    asked = []

    def joint(wanted, g, y, a, b):
        asked.append(list(wanted))
        return [g * b if wanted[0] else None, g * a if wanted[1] else None]
    f = Op("f(a, b) = a b", lambda a, b: a * b, joint=joint)
    a, b = Tensor(2.0), Tensor(3.0)
    assert grad(f(a, b), b) == 2 and asked == [[False, True]]
    assert [float(g) for g in grad(f(a, b), [a, b])] == [3, 2]


@pytest.mark.parametrize("function, expected", [
    (lambda x: x * numpy.sqrt(4.0), [2, 2]),
    (lambda x: numpy.float64(2) * x, [2, 2]),
    (lambda x: x ** numpy.int64(2), [2, 4]),
    (lambda x: ops.leaky_relu(x, slope=numpy.float64(0.1)), [1, 1]),
    (lambda x: ops.clip(x, numpy.float64(0), numpy.float64(9)), [1, 1]),
    (lambda x: x * [1, 2], [1, 2]),
    (lambda x: (1.0, 2.0) * x, [1, 2]),
    (lambda x: x ** [2.0, 3.0], [2, 12]),
    (lambda x: x @ [1.0, 2.0], [1, 2]),
    (lambda x: [[1.0, 2.0]] @ x, [1, 2]),
    (lambda x: ops.where([True, False], x, [5, 5]), [1, 0]),
    (lambda x: ops.maximum(x, [1.5, 1.5]), [0, 1]),
    (lambda x: x * numpy.array([1, 2]).astype("int16").astype("object").tolist(), [1, 2]),
    (lambda x: x * numpy.ones(2, "float32").view(numpy.matrix)[0].A1, [1, 1]),
    (lambda x: ops.clip(x, 1.5, None), [0, 1]),
    (lambda x: ops.clip(x, None, 1.5), [1, 0]),
    (lambda x: ops.clip(x, None, None), [1, 1]),
    (lambda x: ops.concatenate([x.reshape(2, 1), [[3.0], [4.0]]], axis=None), [1, 1]),
])
def test_numbers_of_numpy_and_lists_count_like_those_of_python(function, expected):
    x = Tensor([1.0, 2.0])
    y = function(x)
    assert y.dtype == "float32"
    assert grad(ops.sum(y), x).tolist() == expected
    assert to_host(grad(ops.sum(y), x, create_graph=True)).tolist() == expected


@pytest.mark.parametrize("function, expected", [
    (lambda: ops.add([1, 2], [3, 4]), [4, 6]), (lambda: ops.mul([1, 2], 2), [2, 4]),
    (lambda: ops.add((1,), (2,)), [3]), (lambda: ops.sigmoid([0.0, 0.0]), [0.5, 0.5]),
    (lambda: ops.mean([1.0, 2.0]), 1.5), (lambda: ops.reshape([1, 2], (2, 1)), [[1], [2]]),
    (lambda: ops.where([True, False], [1, 2], [3, 4]), [1, 4]), (lambda: ops.getitem([1, 2], [1]), [2])])
def test_lists_without_tensors_are_arrays(function, expected):
    assert to_host(function()).tolist() == expected


def test_numbers_of_numpy_without_tensors_keep_their_dtype():
    assert ops.exp(numpy.float32(0)).dtype == "float32"


def test_a_number_that_is_too_large_is_refused_by_name():
    with pytest.raises(OverflowError, match=r"^mul\(float32 \(\), 1000+\.\.\.0+\): int too large"):
        Tensor(1.0) * 10 ** 400


@pytest.mark.parametrize("array", [numpy.ones(2), numpy.array(1.0), numpy.arange(2)])
def test_arrays_of_a_larger_dtype_are_refused_with_the_remedy(array):
    for f in (lambda x: x * array, lambda x: array * x, lambda x: ops.maximum(x, array)):
        with pytest.raises(TypeError, match=r"the result is float64.*arrays with astype\('float32'\)"):
            f(Tensor([1.0, 2.0]))


def test_masked_arrays_are_refused():
    with pytest.raises(TypeError, match="mul: a masked array found: fill it first"):
        Tensor([1.0, 2.0]) * numpy.ma.masked_array(numpy.ones(2, "float32"), [True, False])
    with pytest.raises(TypeError, match="mean: a masked array found: fill it first"):
        ops.mean(numpy.ma.masked_array([1.0, 2.0], [True, False]))      # would be 1, not 2


@pytest.mark.parametrize("f", [ops.mean, ops.sum, ops.exp, ops.logsumexp, ops.softmax, ops.var])
def test_float16_is_refused(f):
    with pytest.raises(TypeError, match=f"{f.name}.*float16.*convert arrays with astype"):
        f(numpy.ones(5000, "float16"))


def test_tensors_by_keyword_are_arguments_like_others():
    x, w, b = Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]]), Tensor([0.5])
    for y in (ops.matmul(x, b=w), ops.matmul(a=x, b=w)):
        assert y.item() == 11 and grad(ops.sum(y), w).tolist() == [[1], [2]]
    y = ops.linear(x, w=w, b=b)
    assert type(y.data) is numpy.ndarray and y.item() == 11.5
    assert [g.tolist() for g in grad(ops.sum(y), [w, b])] == [[[1], [2]], [1]]
    assert grad(ops.sum(ops.where(x > 1, b=x, a=0.0)), x).tolist() == [[1, 0]]
    assert grad(ops.sum(ops.clip(x, high=1.5, low=0.0)), x).tolist() == [[1, 0]]


@pytest.mark.parametrize("f", [
    lambda x: ops.sum(x, axis=x), lambda x: x[x], lambda x: ops.clip(x, 0.0, high=x),
    lambda x: ops.leaky_relu(x, slope=x), lambda x: Op("f(a, t)", lambda a, t: a * t, None)(x, t=x)])
def test_a_tensor_that_cannot_be_differentiated_is_refused(f):
    with pytest.raises(TypeError, match="the op has no derivative there"):
        f(Tensor([1.0]))


@pytest.mark.parametrize("forward, message", [
    (lambda a: 2.0, "f.*has no attribute 'dtype'"),
    (lambda a: Tensor(a), "f.*the result is a Tensor"),
    (lambda a: a.astype("float64"), r"f\(float32 \(1,\)\): the result is float64"),
])
def test_a_forward_function_that_returns_no_array_is_named(forward, message):
    with pytest.raises(TypeError, match=message):
        Op("f(a)", forward, lambda g, y, a: g)(Tensor([1.0]))


def test_an_elementwise_function_that_ignores_out_is_refused():
    """Large arrays would get memory of arbitrary content."""
    double = Op("double(a) = 2 a", lambda a, out=None: a * 2, lambda g, y, a: g * 2, elementwise=True)
    assert double(numpy.ones(3)).tolist() == [2, 2, 2]
    with pytest.raises(TypeError, match=r"^double\(float32 \(1024, 1024\)\): an elementwise function must "):
        double(Tensor(numpy.ones((1024, 1024), "float32")))


@pytest.mark.parametrize("name", [name for name in ops.__all__ if isinstance(getattr(ops, name), Op)])
def test_ops_are_copied_and_pickled_by_name(name):
    op = getattr(ops, name)
    assert pickle.loads(pickle.dumps(op)) is copy.copy(op) is copy.deepcopy(op) is op


def test_an_op_that_no_module_holds_is_not_pickled():
    with pytest.raises(pickle.PicklingError, match="local"):
        pickle.dumps(Op("local(a) = a", lambda a: a, lambda g, y, a: g))


def test_signatures_are_those_of_the_forward_functions():
    assert list(inspect.signature(ops.linear).parameters) == ["x", "w", "b", "activation"]
    assert str(inspect.signature(ops.leaky_relu)) == "(a, slope=0.01)"


def test_a_decorator_refuses_what_runs_later():
    def generator():
        yield

    async def coroutine():
        pass

    class Class:
        pass
    for late in (generator, coroutine, Class):
        for name, context in [("no_grad", no_grad()), ("limited_blas", threads.limited_blas())]:
            with pytest.raises(TypeError, match=f"{name}: a plain function expected"):
                context(late)


def test_no_grad_ends_in_any_order():
    """A generator that stops in the middle of its own no_grad does not end that of its caller."""
    def generator():
        with no_grad():
            yield
    x, inner = Tensor(2.0), generator()
    next(inner)
    with no_grad():
        inner.close()
        assert (x * x).op is None
    assert (x * x).op is ops.mul


def test_nan_does_not_disappear_in_a_gradient():
    """As in PyTorch: a gradient of 0 would hide the error."""
    x = Tensor([numpy.nan, 1.0])
    for f in (ops.relu, lambda a: ops.maximum(a, 0.5), lambda a: ops.minimum(0.5, a), ops.leaky_relu,
              lambda a: ops.clip(a, 0, 2), ops.softplus):
        assert grad(ops.sum(f(x)), x)[0] != 0
    assert grad(ops.max(x), x).tolist() == [1, 0]


INF = numpy.inf


@pytest.mark.parametrize("a, value, weights", [
    ([0.0, -INF], 0.0, [1, 0]), ([-INF, -INF], -INF, [0.5, 0.5]), ([INF, 0.0], INF, [1, 0]),
    ([INF, INF], INF, [0.5, 0.5])])
def test_infinite_logits(a, value, weights):
    x = Tensor(a)
    assert ops.logsumexp(x).item() == value and ops.softmax(x).data.tolist() == weights
    assert grad(ops.logsumexp(x), x).tolist() == weights
    expected = [numpy.log(w) if w else -INF for w in weights]
    assert ops.log_softmax(x).data.tolist() == pytest.approx(expected)


def test_an_option_of_an_op_with_joint_partials_stays_one_when_it_has_a_default():
    scaled = Op("scaled(a, b, rate=1.0) = rate a b", lambda a, b, rate=1.0: rate * a * b,
                joint=lambda needed, g, y, a, b, rate=1.0: [g * rate * b, g * rate * a])
    a, b = Tensor(2.0), Tensor(3.0)
    assert [float(g) for g in grad(scaled(a, b, rate=5.0), [a, b])] == [15.0, 10.0]
