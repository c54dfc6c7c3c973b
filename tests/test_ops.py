"""Every op, in one harness: value, gradients of order 1 and 2, dtype, broadcast, non-contiguous and empty
inputs."""

import math
import statistics
import warnings

import numpy
import pytest
from cases import CALLED, CASES, OPS, bind, every_op
from hypothesis import given
from hypothesis import strategies as st

from minigen import losses, ops
from minigen.core import Tensor, grad, to_host
from minigen.gradcheck import check_grad, check_subgradient


def test_every_op_has_a_case():
    assert OPS == set(CASES)


@every_op
@given(data=st.data())
def test_value(op, data):
    strategy, reference = CASES[op]
    args, options = data.draw(strategy())
    expected = reference(*args, **options)
    f, floats = bind(op, args, options)
    raw, recorded = f(*floats), f(*map(Tensor, floats))
    assert isinstance(recorded, Tensor) and not isinstance(raw, Tensor)
    for found in (raw, to_host(recorded)):
        assert found.shape == expected.shape
        numpy.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@every_op
@given(data=st.data())
def test_gradients_of_order_1_and_2(op, data):
    args, options = data.draw(CASES[op][0]())
    check_grad(*bind(op, args, options), order=2)


@every_op
@given(data=st.data())
def test_dtype_is_kept(op, data):
    args, options = data.draw(CASES[op][0]())
    full = [a.astype("float32") if a.dtype == "float64" else a for a in args]
    tensors = [Tensor(a) if a.dtype == "float32" else a for a in full]
    leaves = [t for t in tensors if isinstance(t, Tensor)]
    call = CALLED.get(op, op)
    y = call(*tensors, **options)
    assert y.dtype == "float32" and call(*full, **options).dtype == "float32"
    first = grad(ops.sum(y * y), leaves, create_graph=True)
    second = grad(sum(ops.sum(g * g) for g in first), leaves)
    assert [g.dtype for g in first] + [g.dtype for g in second] == ["float32"] * 2 * len(leaves)
    assert [g.dtype for g in grad(ops.sum(y * y), leaves)] == ["float32"] * len(leaves)


@every_op
@given(data=st.data())
def test_non_contiguous_inputs(op, data):
    args, options = data.draw(CASES[op][0]())
    f, floats = bind(op, args, options)

    def strided(a):
        if a.ndim == 0:
            return numpy.repeat(a[..., None], 2, axis=-1)[..., 0]
        return numpy.repeat(a.T, 2, axis=0)[::2].T
    results = []
    for arrays in (floats, [strided(a) for a in floats]):
        leaves = [Tensor(a) for a in arrays]
        for leaf, a in zip(leaves, arrays):
            leaf.adopt(a)
        y = f(*leaves)
        results.append([to_host(y), *grad(ops.sum(y * y), leaves)])
    for contiguous, other in zip(*results):
        assert contiguous.shape == other.shape
        numpy.testing.assert_allclose(other, contiguous, rtol=1e-13, atol=1e-15)


@every_op
@given(data=st.data())
def test_empty_inputs(op, data):
    args, options = data.draw(CASES[op][0](empty=True))
    f, floats = bind(op, args, options)
    assert any(a.size == 0 for a in floats)
    leaves = [Tensor(a) for a in floats]
    y = f(*leaves)
    assert y.shape == CASES[op][1](*args, **options).shape or y.size == 0
    first = grad(ops.sum(y * y), leaves, create_graph=True)
    assert [g.shape for g in first] == [a.shape for a in floats]
    second = grad(sum(ops.sum(g * g) for g in first), leaves)
    assert [g.shape for g in second] == [a.shape for a in floats]


def derivative(f, *at):
    leaves = [Tensor(a, "float64") for a in at]
    return [numpy.asarray(g).tolist() for g in grad(ops.sum(f(*leaves)), leaves)]


@pytest.mark.parametrize("f, at, expected", [
    (ops.relu, ([-1, 0, 1],), ([0, 0, 1],)),
    (lambda a: ops.leaky_relu(a, slope=0.25), ([-1, 0, 1],), ([0.25, 0.25, 1],)),
    (ops.abs, ([-1, 0, 1],), ([-1, 0, 1],)),
    (ops.maximum, ([1, 2, 3], [3, 2, 1]), ([0, 0.5, 1], [1, 0.5, 0])),
    (ops.minimum, ([1, 2, 3], [3, 2, 1]), ([1, 0.5, 0], [0, 0.5, 1])),
    (lambda a: ops.max(a, axis=1), ([[1, 4, 4, 0], [2, 2, 2, 2]],), ([[0, 0.5, 0.5, 0], [0.25] * 4],)),
    (ops.max, ([[1, 4], [4, 4]],), ([[0, 1 / 3], [1 / 3, 1 / 3]],)),
    (losses._row_norm, ([[0, 4], [0, 0], [-2, 0]],), ([[0, 1], [0, 0], [-1, 0]],)),
    (lambda a: ops.clip(a, -1, 1), ([-2, -1, 0, 1, 2],), ([0, 1, 1, 1, 0],)),
    (lambda a: a ** 0, ([0, 2],), ([0, 0],)),
    (lambda a: a ** 1, ([0, 2],), ([1, 1],)),
    (lambda a: a ** 2, ([0, -2],), ([0, -4],)),
    (ops.power, ([0, 0, 2], [0, 2, 0]), ([0, 0, 0], [0, 0, math.log(2)])),
])
def test_subgradients_are_these(f, at, expected):
    assert derivative(f, *at) == [list(e) for e in expected]


@pytest.mark.parametrize("f", [
    lambda a: ops.sum(ops.relu(a)),
    lambda a: ops.sum(ops.leaky_relu(a, slope=0.2)),
    lambda a: ops.sum(ops.abs(a)),
    ops.max,
    lambda a: ops.sum(ops.maximum(a[:2], a[1:])),
    lambda a: -ops.sum(ops.minimum(a[:2], a[1:])),
    lambda a: ops.sum(ops.maximum(a, 0.0)),
    ops.logsumexp,
    lambda a: ops.sum(losses._row_norm(ops.reshape(a, (1, 3))))],
    ids=["relu", "leaky_relu", "abs", "max", "maximum", "minimum", "hinge", "logsumexp", "row_norm"])
@pytest.mark.parametrize("x", [[0.0, 0.0, 0.0], [1.0, 1.0, -1.0], [0.0, -2.0, 0.0]])
def test_subgradients_support_the_function(f, x):
    check_subgradient(f, x)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "float16"])
@pytest.mark.parametrize("create_graph", [False, True])
def test_powers_with_arrays_of_smaller_dtypes(dtype, create_graph):
    x, numbers = Tensor([100.0, 0.5, 3.0]), numpy.array([0, 1, 2], dtype)
    g = grad(ops.sum(x ** numbers), x, create_graph)
    numpy.testing.assert_allclose(to_host(g), [0, 1, 6])
    g = grad(ops.sum(numbers ** x), x, create_graph)
    numpy.testing.assert_allclose(to_host(g), [0, 0, 8 * math.log(2)], rtol=1e-6)


def test_bool_is_an_exponent():
    x = Tensor([100.0, 0.5])
    assert grad(ops.sum(x ** numpy.array([False, True])), x).tolist() == [0, 1]


def test_power_where_base_or_exponent_is_0():
    check_grad(ops.power, [numpy.array([2.0, 0.7]), numpy.array([0.0, 1.0])], order=2)
    base = Tensor([0.0, 2.0], "float64")
    assert grad(ops.sum(base ** numpy.array([0.0, 0.0])), base).tolist() == [0, 0]
    exponents = numpy.array([2, 3], "int16")
    base = Tensor([2.0, 3.0])
    assert grad(ops.sum(base ** exponents), base).tolist() == [4, 27]
    assert grad(ops.sum(base ** exponents), base).dtype == "float32"
    x = Tensor([1.0, 2.0])
    assert numpy.isnan(grad(ops.sum((-2.0) ** x), x)).all()


def test_axes_as_numpy_integers_and_of_scalars():
    x = Tensor(numpy.ones((2, 3)))
    assert grad(ops.sum(ops.sum(x, axis=numpy.int64(1)) ** 2), x).tolist() == [[6] * 3] * 2
    scalar = Tensor(2.0)
    assert grad(scalar.sum() * 3.0, scalar) == 3


@pytest.mark.parametrize("a", [-1e4, -50.0, 0.0, 50.0, 1e4])
def test_saturating_functions_neither_overflow_nor_lose_their_tails(a):
    for dtype, rtol in (("float32", 1e-5), ("float64", 1e-12)):
        x = Tensor(numpy.array(a, dtype))
        for op, value, slope in (
                (ops.sigmoid, 1 / (1 + math.exp(min(-a, 700))), 1 / (2 + 2 * math.cosh(min(abs(a), 700)))),
                (ops.softplus, max(a, 0) + math.log1p(math.exp(-abs(a))), 1 / (1 + math.exp(min(-a, 700)))),
                (ops.tanh, math.tanh(a), 1 - math.tanh(a) ** 2)):
            y = op(x)
            assert y.item() == pytest.approx(value, rel=rtol, abs=1e-37)
            assert grad(y, x) == pytest.approx(slope, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize("op", [ops.relu, ops.sigmoid, ops.softplus])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_rows_are_what_single_numbers_are(op, dtype):
    a = numpy.array([0.0, -0.0, numpy.inf, -numpy.inf, numpy.nan, 1e-40, -1e4, 1e4] * 5, dtype) * [[1], [0.3]]
    a = a.astype(dtype)
    with numpy.errstate(invalid="ignore"):
        alone = [[op(a[i, j:j + 1])[0] for j in range(a.shape[1])] for i in range(2)]
        numpy.testing.assert_allclose(op(a), alone, rtol=1e-6)


def test_softmax_family_at_large_logits():
    a = Tensor(numpy.array([[1e4, 0, -1e4]], "float32"))
    assert to_host(ops.softmax(a)).tolist() == [[1, 0, 0]]
    assert to_host(ops.log_softmax(a)).tolist() == [[0, -1e4, -2e4]]
    assert ops.logsumexp(a).item() == 1e4
    assert grad(ops.logsumexp(a), a).tolist() == [[1, 0, 0]]


def test_operators_and_methods_are_the_ops(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)) + 3
    s, t = Tensor(a), Tensor(b)
    for found, expected in [(s + t, a + b), (s - t, a - b), (s * t, a * b), (s / t, a / b), (-s, -a),
                            (t ** 2, b ** 2), (t ** s, b ** a), (abs(s), abs(a)), (s @ t.T, a @ b.T),
                            (a @ t.T, a @ b.T), (a + t, a + b), (a - t, a - b),
                            (a * t, a * b), (a / t, a / b), (2 ** s, 2 ** a), (2 - s, 2 - a), (2 / t, 2 / b),
                            (2 + s, 2 + a), (2 * s, 2 * a), (s[1], a[1]), (s.sum(axis=0), a.sum(axis=0)),
                            (s.mean(), a.mean()), (s.max(axis=1), a.max(axis=1)),
                            (s.reshape(3, 2), a.reshape(3, 2)), (s.reshape((6,)), a.reshape(6)),
                            (s.transpose(), a.T), (s.transpose(1, 0), a.T), (s.transpose((1, 0)), a.T)]:
        assert isinstance(found, Tensor)
        numpy.testing.assert_allclose(to_host(found), expected, rtol=1e-15)
    for found, expected in [(s < t, a < b), (s <= 0, a <= 0), (s > b, a > b), (t >= s, b >= a),
                            (s == s, a == a), (s != t, a != b)]:
        assert isinstance(found, numpy.ndarray) and found.dtype == bool and (found == expected).all()


def test_a_python_scalar_does_not_promote():
    a = Tensor(numpy.ones(3, "float32"))
    for y in (a * 2.5, 1.5 / a, a ** 0.5, 2.0 ** a, ops.maximum(a, 0.1), ops.where(a > 0, a, 0.1),
              ops.clip(a, 0.1, 0.7)):
        assert y.dtype == "float32" and grad(ops.sum(y), a).dtype == "float32"


@pytest.mark.parametrize("f, kind, message", [
    (lambda a: a @ a, ValueError, r"matmul\(float32 \(2, 3\), float32 \(2, 3\)\): "),
    (lambda a: a + numpy.ones((4,), "float32"), ValueError, r"add\(float32 \(2, 3\), float32 \(4,\)\): "),
    (lambda a: a * numpy.ones(3), TypeError,
     r"mul\(float32 \(2, 3\), float64 \(3,\)\): the result is float64"),
    (lambda a: a.reshape(4), ValueError, r"reshape\(float32 \(2, 3\), 4\): "),
    (lambda a: a.sum(axis=2), ValueError, r"sum\(float32 \(2, 3\), axis=2, keepdims=False\): "),
    (lambda a: a.transpose(0), ValueError, r"transpose\(float32 \(2, 3\), \(0,\)\): "),
    (lambda a: a[numpy.arange(99).reshape(3, 33)], IndexError,
     r"getitem\(float32 \(2, 3\), index=array\(\[\[[^\n]*: "),
    (lambda a: a[5], IndexError, r"getitem\(float32 \(2, 3\), index=5\): "),
    (lambda a: ops.concatenate([a, a.T]), ValueError,
     r"concatenate\(float32 \(2, 3\), float32 \(3, 2\), axis=0\): "),
])
def test_mistakes_name_the_op_and_the_shapes(f, kind, message):
    with pytest.raises(kind, match=message):
        f(Tensor(numpy.ones((2, 3), "float32")))


def test_warnings_are_errors():
    with pytest.raises(RuntimeWarning):
        warnings.warn("numpy's", RuntimeWarning)


@pytest.mark.parametrize("f, expected", [
    (lambda a: ops.sum(a, axis=0)[0], lambda values: math.fsum(values)),
    (lambda a: ops.sum(a[:, :2]) / 2, lambda values: math.fsum(values)),
    (lambda a: ops.mean(a, axis=(0,))[0], lambda values: math.fsum(values) / len(values)),
    (lambda a: ops.var(a, axis=0)[0], statistics.pvariance),
    (lambda a: ops.logsumexp(a, axis=0)[0], lambda values: math.log(math.fsum(map(math.exp, values)))),
    (lambda a: ops.softmax(a, axis=0)[0, 0],
     lambda values: math.exp(values[0]) / math.fsum(map(math.exp, values))),
    (lambda a: ops.log_softmax(a, axis=0)[0, 0],
     lambda values: values[0] - math.log(math.fsum(map(math.exp, values)))),
    (lambda a: ops.sum_to(a, (3,))[0], lambda values: math.fsum(values))])
def test_half_a_million_rows_are_summed_to_the_last_digit(f, expected, rng):
    a = numpy.repeat((0.1 + 1e-3 * rng.random((500_000, 1))).astype("float32"), 3, axis=1)
    found = f(a)
    assert found.dtype == "float32" and found == pytest.approx(expected(a[:, 0].tolist()), rel=3e-7)


@pytest.mark.parametrize("f, plain", [(ops.sum, numpy.sum), (ops.var, numpy.var)])
def test_batches_are_summed_as_numpy_does(f, plain, rng):
    for a, axis in ((rng.random((8192, 3), "float32"), 0), (rng.random((1000, 784), "float32"), 1),
                    (rng.random((64, 64, 64), "float32"), None)):
        assert (f(a, axis=axis) == plain(a, axis=axis)).all()
