"""Every op, in one harness: value, gradients of order 1 and 2, dtype, broadcast, non-contiguous and empty inputs."""

import itertools
import math
import operator
import warnings

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

from minigen import conv, core, losses, ops
from minigen.core import Op, Tensor, grad, to_host
from minigen.gradcheck import check_grad, check_subgradient

OPS = {value for module in (core, conv, ops, losses) for value in vars(module).values() if isinstance(value, Op)}


def values(draw, *shapes):
    """float64 arrays whose elements all differ, from each other and from 0, by far more than a finite difference's step."""
    sizes = [math.prod(shape) for shape in shapes]
    total = sum(sizes)
    grid = (numpy.arange(total) + 0.5) / max(total, 1) * 4 - 2.0003
    grid = numpy.random.default_rng(draw(st.integers(0, 1000))).permutation(grid)
    return [part.reshape(shape) for part, shape in zip(numpy.split(grid, numpy.cumsum(sizes)[:-1]), shapes)]


def shapes(draw, empty=False):
    shape = draw(array_shapes(max_dims=3, max_side=3))
    return (0, *shape[1:]) if empty else shape


@st.composite
def unary(draw, empty=False, positive=False, **options):
    a, = values(draw, shapes(draw, empty))
    return [abs(a) + 0.2 if positive else a], options


@st.composite
def binary(draw, empty=False, positive=()):
    if empty:
        pair = ((0, 3), (1, 3))
    else:
        pair = draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=3, max_side=3)).input_shapes
    return [abs(a) + 0.5 if i in positive else a for i, a in enumerate(values(draw, *pair))], {}


@st.composite
def reduction(draw, empty=False, axes=None, keepdims=True):
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=3))
    if empty:
        shape, choices = (0, 2), [1, (1,)]
    else:
        choices = axes or [None, 0, -1, tuple(range(len(shape)))]
    options = {"axis": draw(st.sampled_from(choices))}
    if keepdims:
        options["keepdims"] = draw(st.booleans())
    return values(draw, shape), options


@st.composite
def condition(draw, empty=False):
    shape = shapes(draw, empty)
    a, b = values(draw, shape, shape[1:])
    return [numpy.random.default_rng(draw(st.integers(0, 9))).random(shape) < 0.5, a, b], {}


@st.composite
def summed(draw, empty=False):
    to, full = ((1, 3), (0, 3)) if empty else draw(st.sampled_from(
        [((3,), (2, 3)), ((1, 3), (2, 3)), ((), (2, 2)), ((2, 1, 2), (2, 3, 2)), ((2, 3), (2, 3)), ((1,), (2, 1))]))
    return values(draw, full), {"shape": to}


@st.composite
def broadcast(draw, empty=False):
    of, to = ((0, 3), (2, 0, 3)) if empty else draw(st.sampled_from(
        [((3,), (2, 3)), ((1, 3), (2, 3)), ((), (2, 2)), ((2, 1, 2), (2, 3, 2)), ((2, 3), (2, 3))]))
    return values(draw, of), {"shape": to}


@st.composite
def reshaped(draw, empty=False):
    of, to = ((0, 3), (3, 0, 2)) if empty else draw(st.sampled_from([((2, 3), (6,)), ((4,), (2, -1)), ((1,), ()), ((), (1, 1))]))
    return values(draw, of), {"shape": to}


@st.composite
def transposed(draw, empty=False):
    shape = shapes(draw, empty)
    order = draw(st.one_of(st.none(), st.permutations(range(-len(shape), 0)).map(tuple)))
    return values(draw, shape), {"axes": order}


INDICES = [0, -1, slice(1, None), (slice(None), 1), (..., None, 0), (slice(None, None, -2), slice(0, 2)), [2, 0, 2],
           numpy.array([[0, 1], [1, 1]]), (numpy.array([0, 2, 0]), numpy.array([1, 1, 1])), (slice(None), [3, 3]),
           numpy.array([True, False, True]), numpy.arange(12).reshape(3, 4) % 2 == 0]


@st.composite
def indexed(draw, empty=False, scattered=False):
    shape = (0, 4) if empty else (3, 4)
    index = slice(None, None, 2) if empty else draw(st.sampled_from(INDICES))
    return values(draw, numpy.empty(shape)[index].shape if scattered else shape), {
        "index": index, **({"shape": shape} if scattered else {})}


@st.composite
def joined(draw, empty=False):
    axis = draw(st.sampled_from([0, 1, -1]))
    sides = [0, 2] if empty else draw(st.lists(st.integers(0, 3), min_size=1, max_size=3).filter(any))
    return values(draw, *((n, 2) if axis == 0 else (2, n) for n in sides)), {"axis": axis}


@st.composite
def product(draw, empty=False):
    return values(draw, *(((0, 3), (3, 2)) if empty else draw(st.sampled_from(
        [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 2, 3), (3, 2)), ((2, 3), (2, 3, 1)),
         ((2, 1, 2, 3), (3, 3, 2)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,))])))), {}


@st.composite
def affine(draw, empty=False):
    lead = (0,) if empty else draw(st.sampled_from([(2,), (1,), (2, 2), (2, 1, 3)]))
    return values(draw, (*lead, 3), (3, 2), (2,)), {}


@st.composite
def moments(draw, empty=False):
    shape = (0, 3) if empty else draw(array_shapes(min_dims=2, max_dims=2, max_side=4))
    return values(draw, shape, shape), {}


@st.composite
def channels(draw, *vectors, empty=False, eps=None):
    """An array (..., channels), and for each of ``vectors`` another of its shape ("x") or a number per channel ("c")."""
    x = (4, 0) if empty else draw(st.sampled_from([(5, 2), (4, 1), (2, 2, 3), (2, 2, 1, 2)]))
    arrays = values(draw, x, *({"x": x, "c": x[-1:]}[kind] for kind in vectors))
    return arrays, {} if eps is None else {"eps": eps}


def by_channel(function):
    """The reference of a function of the numbers in each channel (lists) and of one number per channel."""
    return lambda *arrays, **options: numpy.array(
        [function(*[a[..., c].ravel().tolist() if a.ndim > 1 else float(a[c]) for a in arrays], **options)
         for c in range(arrays[0].shape[-1])]).T


def loop_moments(x):
    mean = math.fsum(x) / len(x)
    return mean, math.fsum((v - mean) ** 2 for v in x) / len(x)


def loop_batch_norm(x, weight, bias, eps):
    y = numpy.empty(x.shape)
    for c in range(x.shape[-1]):
        mean, var = loop_moments(x[..., c].ravel().tolist())
        y[..., c] = (x[..., c] - mean) / math.sqrt(var + eps) * weight[c] + bias[c]
    return y


def on_axis(function):
    """The reference of a softmax-like function, row by row along its axis."""
    return lambda a, axis=-1: numpy.apply_along_axis(function, axis, a)


def loop_scatter(a, index, shape):
    y = numpy.zeros(shape)
    places = numpy.arange(math.prod(shape)).reshape(shape)[index]
    for place, value in zip(places.ravel(), numpy.asarray(a).ravel()):
        y[numpy.unravel_index(place, shape)] += value
    return y


def loop_sum(a, shape):
    flat = numpy.broadcast_to(numpy.arange(math.prod(shape)).reshape(shape), a.shape)
    return loop_scatter(a, flat, (math.prod(shape),)).reshape(shape)


def elementwise(function):
    return numpy.vectorize(function, otypes=["float64"])


# op: (strategy for arguments and options, independent value)
@st.composite
def convolved(draw, kind, empty=False):
    """The arguments of one of the three maps of a convolution: image, weights and output of shapes that belong together."""
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    size = tuple(max(k - 2 * padding, 1) + draw(st.integers(0, 4)) for k in kernel)
    n, c_in, c_out = 0 if empty else draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    small = tuple((length + 2 * padding - k) // stride + 1 for length, k in zip(size, kernel))
    x, w, y = (n, *size, c_in), (*kernel, c_in, c_out), (n, *small, c_out)
    options = {"stride": stride, "padding": padding}
    biased = draw(st.booleans())
    if kind == "output":
        return values(draw, x, w, *[(c_out,)] * biased), options
    if kind == "input":
        return values(draw, y, (*kernel, c_out, c_in), *[(c_in,)] * biased), {**options, "size": size}
    return values(draw, x, y), {**options, "kernel": kernel}


def taps(size, small, kernel, stride, padding):
    """Every pair of a place in the image and a place in the output that a kernel's row and column connect."""
    for h, w, i, j in itertools.product(*map(range, (*small, *kernel))):
        row, column = h * stride + i - padding, w * stride + j - padding
        if 0 <= row < size[0] and 0 <= column < size[1]:
            yield row, column, h, w, i, j


def loop_conv2d(x, w, bias=0, *, stride, padding):
    small = [(length + 2 * padding - k) // stride + 1 for length, k in zip(x.shape[1:3], w.shape)]
    y = numpy.zeros((len(x), *small, w.shape[3])) + bias
    for row, column, h, v, i, j in taps(x.shape[1:3], small, w.shape[:2], stride, padding):
        y[:, h, v] += x[:, row, column] @ w[i, j]
    return y


def loop_conv_transpose2d(x, w, bias=0, *, stride, padding, size):
    y = numpy.zeros((len(x), *size, w.shape[3])) + bias
    for row, column, h, v, i, j in taps(size, x.shape[1:3], w.shape[:2], stride, padding):
        y[:, row, column] += x[:, h, v] @ w[i, j]
    return y


def loop_conv_weight(x, y, stride, padding, kernel):
    w = numpy.zeros((*kernel, x.shape[3], y.shape[3]))
    for row, column, h, v, i, j in taps(x.shape[1:3], y.shape[1:3], kernel, stride, padding):
        w[i, j] += x[:, row, column].T @ y[:, h, v]
    return w


CASES = {
    conv._conv2d: (lambda **k: convolved("output", **k), loop_conv2d),
    conv._conv_transpose2d: (lambda **k: convolved("input", **k), loop_conv_transpose2d),
    conv._conv_weight: (lambda **k: convolved("weight", **k), loop_conv_weight),
    ops.add: (binary, numpy.add),
    ops.sub: (binary, numpy.subtract),
    ops.mul: (binary, numpy.multiply),
    ops.div: (lambda **k: binary(positive=(1,), **k), numpy.divide),
    ops.neg: (unary, numpy.negative),
    ops.power: (lambda **k: binary(positive=(0,), **k), elementwise(math.pow)),
    ops.exp: (unary, elementwise(math.exp)),
    ops.log: (lambda **k: unary(positive=True, **k), elementwise(math.log)),
    ops.sqrt: (lambda **k: unary(positive=True, **k), elementwise(math.sqrt)),
    ops.sign: (unary, elementwise(lambda a: math.copysign(1, a))),
    ops.abs: (unary, elementwise(lambda a: a if a > 0 else -a)),
    ops.tanh: (unary, elementwise(math.tanh)),
    ops.sigmoid: (unary, elementwise(lambda a: 1 / (1 + math.exp(-a)))),
    ops._gate: (moments, elementwise(lambda g, a: g if a > 0 else 0)),
    ops.relu: (unary, elementwise(lambda a: a if a > 0 else 0)),
    ops.leaky_relu: (lambda **k: unary(slope=0.2, **k), lambda a, slope: elementwise(lambda a: a if a > 0 else slope * a)(a)),
    ops.softplus: (unary, elementwise(lambda a: math.log(1 + math.exp(a)))),
    ops.maximum: (binary, elementwise(lambda a, b: a if a > b else b)),
    ops.minimum: (binary, elementwise(lambda a, b: b if a > b else a)),
    ops.clip: (lambda **k: unary(low=-0.7, high=0.9, **k),
               lambda a, low, high: elementwise(lambda a: low if a < low else high if a > high else a)(a)),
    ops.where: (condition, elementwise(lambda c, a, b: a if c else b)),
    ops.sum: (reduction, numpy.sum),
    ops.mean: (reduction, lambda a, axis, keepdims: numpy.sum(a, axis=axis, keepdims=keepdims)
               / (numpy.sum(numpy.ones_like(a), axis=axis, keepdims=keepdims))),
    ops.var: (reduction, lambda a, axis, keepdims: numpy.mean(a * a, axis=axis, keepdims=keepdims)
              - numpy.mean(a, axis=axis, keepdims=keepdims) ** 2),
    ops.max: (reduction, lambda a, axis, keepdims: -numpy.min(-a, axis=axis, keepdims=keepdims)),
    ops.logsumexp: (reduction, lambda a, axis, keepdims: numpy.log(numpy.sum(numpy.exp(a), axis=axis, keepdims=keepdims))),
    ops.softmax: (lambda **k: reduction(axes=[0, -1], keepdims=False, **k),
                  lambda a, axis: numpy.exp(a) / numpy.sum(numpy.exp(a), axis=axis, keepdims=True)),
    ops.log_softmax: (lambda **k: reduction(axes=[0, -1], keepdims=False, **k),
                      lambda a, axis: a - numpy.log(numpy.sum(numpy.exp(a), axis=axis, keepdims=True))),
    ops.reshape: (reshaped, lambda a, shape: numpy.array(a.ravel().tolist()).reshape(shape)),
    ops.transpose: (transposed, lambda a, axes: a.T if axes is None else numpy.moveaxis(a, axes, range(a.ndim))),
    core.sum_to: (summed, lambda a, shape: loop_sum(a, shape)),
    core.broadcast_to: (broadcast, lambda a, shape: a + numpy.zeros(shape)),
    ops._getitem: (indexed, lambda a, index: numpy.array(a.tolist())[index]),
    ops._scatter: (lambda **k: indexed(scattered=True, **k), loop_scatter),
    ops._concatenate: (joined, lambda *parts, axis: numpy.hstack(parts) if axis else numpy.vstack(parts)),
    ops.matmul: (product, numpy.matmul),
    ops.linear: (affine, lambda x, w, b: numpy.einsum("...i,io->...o", x, w) + b),
    ops.moments: (channels, lambda x: by_channel(loop_moments)(x).reshape(2, x.shape[-1])),
    ops._channel_sums: (lambda **k: channels("x", **k), lambda g, x: by_channel(
        lambda g, x: (math.fsum(g), math.fsum(map(operator.mul, g, x))))(g, x).reshape(2, x.shape[-1])),
    ops._batch_norm: (lambda **k: channels("c", "c", eps=0.1, **k), loop_batch_norm),
    losses._squared_error: (moments, lambda x, y: numpy.array(math.fsum((a - b) ** 2 for a, b in zip(x.flat, y.flat)))),
    losses._gaussian_kl: (moments, lambda mu, logvar: numpy.array(
        [sum(0.5 * (m * m + math.exp(v) - 1 - v) for m, v in zip(*rows)) for rows in zip(mu.tolist(), logvar.tolist())])),
}

# What is called in place of an op that takes what it could compute itself.
CALLED = {ops._batch_norm: lambda *args, eps: ops.batch_norm(*args, eps)[0]}

every_op = pytest.mark.parametrize("op", CASES, ids=lambda op: op.name)


def test_every_op_has_a_case():
    assert OPS == set(CASES)


def differentiable(args):
    return [i for i, a in enumerate(args) if a.dtype == "float64"]


def bind(op, args, options):
    """op as a function of its float arguments alone."""
    places = differentiable(args)

    def f(*tensors):
        full = list(args)
        for i, tensor in zip(places, tensors):
            full[i] = tensor
        return CALLED.get(op, op)(*full, **options)
    return f, [args[i] for i in places]


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
        return numpy.repeat(a[..., None], 2, axis=-1)[..., 0] if a.ndim == 0 else numpy.repeat(a.T, 2, axis=0)[::2].T
    results = []
    for arrays in (floats, [strided(a) for a in floats]):
        leaves = [Tensor(a) for a in arrays]
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
    (lambda a: ops.clip(a, -1, 1), ([-2, -1, 0, 1, 2],), ([0, 1, 1, 1, 0],)),
    (lambda a: a ** 0, ([0, 2],), ([0, 0],)),
    (lambda a: a ** 1, ([0, 2],), ([1, 1],)),
    (lambda a: a ** 2, ([0, -2],), ([0, -4],)),
    (ops.power, ([0, 0, 2], [0, 2, 0]), ([0, 0, 0], [0, 0, math.log(2)])),
])
def test_subgradients_are_these(f, at, expected):
    assert derivative(f, *at) == [list(e) for e in expected]


@pytest.mark.parametrize("f", [
    lambda a: ops.sum(ops.relu(a)), lambda a: ops.sum(ops.leaky_relu(a, slope=0.2)), lambda a: ops.sum(ops.abs(a)),
    ops.max, lambda a: ops.sum(ops.maximum(a[:2], a[1:])), lambda a: -ops.sum(ops.minimum(a[:2], a[1:])),
    lambda a: ops.sum(ops.maximum(a, 0.0)), ops.logsumexp,
], ids=["relu", "leaky_relu", "abs", "max", "maximum", "minimum", "hinge", "logsumexp"])
@pytest.mark.parametrize("x", [[0.0, 0.0, 0.0], [1.0, 1.0, -1.0], [0.0, -2.0, 0.0]])
def test_subgradients_support_the_function(f, x):
    check_subgradient(f, x)


def test_power_where_base_or_exponent_is_0():
    check_grad(ops.power, [numpy.array([2.0, 0.7]), numpy.array([0.0, 1.0])], order=2)
    base = Tensor([0.0, 2.0], "float64")
    assert grad(ops.sum(base ** numpy.array([0.0, 0.0])), base).tolist() == [0, 0]
    exponents = numpy.array([2, 3], "int16")
    base = Tensor([2.0, 3.0])
    assert grad(ops.sum(base ** exponents), base).tolist() == [4, 27] and grad(ops.sum(base ** exponents), base).dtype == "float32"
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


def test_softmax_family_at_large_logits():
    a = Tensor(numpy.array([[1e4, 0, -1e4]], "float32"))
    assert to_host(ops.softmax(a)).tolist() == [[1, 0, 0]]
    assert to_host(ops.log_softmax(a)).tolist() == [[0, -1e4, -2e4]]
    assert ops.logsumexp(a).item() == 1e4
    assert grad(ops.logsumexp(a), a).tolist() == [[1, 0, 0]]


def test_operators_and_methods_are_the_ops(rng):
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)) + 3
    s, t = Tensor(a), Tensor(b)
    for found, expected in [
            (s + t, a + b), (s - t, a - b), (s * t, a * b), (s / t, a / b), (-s, -a), (t ** 2, b ** 2), (t ** s, b ** a),
            (abs(s), abs(a)), (s @ t.T, a @ b.T), (a @ t.T, a @ b.T), (a + t, a + b), (a - t, a - b), (a * t, a * b),
            (a / t, a / b), (2 ** s, 2 ** a), (2 - s, 2 - a), (2 / t, 2 / b), (2 + s, 2 + a), (2 * s, 2 * a), (s[1], a[1]),
            (s.sum(axis=0), a.sum(axis=0)), (s.mean(), a.mean()), (s.max(axis=1), a.max(axis=1)),
            (s.reshape(3, 2), a.reshape(3, 2)), (s.reshape((6,)), a.reshape(6)),
            (s.transpose(), a.T), (s.transpose(1, 0), a.T), (s.transpose((1, 0)), a.T)]:
        assert isinstance(found, Tensor)
        numpy.testing.assert_allclose(to_host(found), expected, rtol=1e-15)
    for found, expected in [(s < t, a < b), (s <= 0, a <= 0), (s > b, a > b), (t >= s, b >= a), (s == s, a == a), (s != t, a != b)]:
        assert isinstance(found, numpy.ndarray) and found.dtype == bool and (found == expected).all()


def test_a_python_scalar_does_not_promote():
    a = Tensor(numpy.ones(3, "float32"))
    for y in (a * 2.5, 1.5 / a, a ** 0.5, 2.0 ** a, ops.maximum(a, 0.1), ops.where(a > 0, a, 0.1), ops.clip(a, 0.1, 0.7)):
        assert y.dtype == "float32" and grad(ops.sum(y), a).dtype == "float32"


@pytest.mark.parametrize("f, kind, message", [
    (lambda a: a @ a, ValueError, r"matmul\(float32 \(2, 3\), float32 \(2, 3\)\): "),
    (lambda a: a + numpy.ones((4,), "float32"), ValueError, r"add\(float32 \(2, 3\), float32 \(4,\)\): "),
    (lambda a: a * numpy.ones(3), TypeError, r"mul\(float32 \(2, 3\), float64 \(3,\)\): the result is float64"),
    (lambda a: numpy.float64(2) * a, TypeError, r"mul\(float64 \(\), float32 \(2, 3\)\): the result is float64"),
    (lambda a: a.reshape(4), ValueError, r"reshape\(float32 \(2, 3\), 4\): "),
    (lambda a: a.sum(axis=2), ValueError, r"sum\(float32 \(2, 3\), axis=2, keepdims=False\): "),
    (lambda a: a.transpose(0), ValueError, r"transpose\(float32 \(2, 3\), \(0,\)\): "),
    (lambda a: a[numpy.arange(99).reshape(3, 33)], IndexError, r"getitem\(float32 \(2, 3\), index=array\(\[\[[^\n]*: "),
    (lambda a: a[5], IndexError, r"getitem\(float32 \(2, 3\), index=5\): "),
    (lambda a: ops.concatenate([a, a.T]), ValueError, r"concatenate\(float32 \(2, 3\), float32 \(3, 2\), axis=0\): "),
])
def test_mistakes_name_the_op_and_the_shapes(f, kind, message):
    with pytest.raises(kind, match=message):
        f(Tensor(numpy.ones((2, 3), "float32")))


def test_warnings_are_errors():
    with pytest.raises(RuntimeWarning):
        warnings.warn("numpy's", RuntimeWarning)
