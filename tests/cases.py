"""What several test modules share: a case and a loop reference per op, small models, and comparisons of their
steps."""

import itertools
import math
import operator

import numpy
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, mutually_broadcastable_shapes

from minigen import batch_norm, conv, core, dense, losses, models, ops
from minigen.backend import to_device, to_host
from minigen.core import Op, Tensor, grad
from minigen.metrics import classifier, entropy
from minigen.models import vae

OPS = {value for module in (batch_norm, conv, core, dense, losses, ops, vae)
       for value in vars(module).values() if isinstance(value, Op)}


def values(draw, *shapes):
    """float64 arrays whose elements all differ, from each other and from 0, by far more than a finite
    difference's step."""
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
        [((3,), (2, 3)), ((1, 3), (2, 3)), ((), (2, 2)), ((2, 1, 2), (2, 3, 2)), ((2, 3), (2, 3)),
         ((1,), (2, 1))]))
    return values(draw, full), {"shape": to}


@st.composite
def broadcast(draw, empty=False):
    of, to = ((0, 3), (2, 0, 3)) if empty else draw(st.sampled_from(
        [((3,), (2, 3)), ((1, 3), (2, 3)), ((), (2, 2)), ((2, 1, 2), (2, 3, 2)), ((2, 3), (2, 3))]))
    return values(draw, of), {"shape": to, "scale": draw(st.sampled_from([1, 0.5, -3]))}


@st.composite
def reshaped(draw, empty=False):
    of, to = ((0, 3), (3, 0, 2)) if empty else draw(st.sampled_from(
        [((2, 3), (6,)), ((4,), (2, -1)), ((1,), ()), ((), (1, 1))]))
    return values(draw, of), {"shape": to}


@st.composite
def transposed(draw, empty=False):
    shape = shapes(draw, empty)
    order = draw(st.one_of(st.none(), st.permutations(range(-len(shape), 0)).map(tuple)))
    return values(draw, shape), {"axes": order}


INDICES = [
    0, -1, slice(1, None), (slice(None), 1), (..., None, 0), (slice(None, None, -2), slice(0, 2)), [2, 0, 2],
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
    pair = ((0, 3), (3, 2)) if empty else draw(st.sampled_from(
        [((2, 3), (3, 4)), ((3,), (3,)), ((3,), (3, 2)), ((2, 3), (3,)), ((2, 2, 3), (3, 2)),
         ((2, 3), (2, 3, 1)), ((2, 1, 2, 3), (3, 3, 2)), ((3,), (2, 3, 2)), ((2, 2, 3), (3,))]))
    return values(draw, *pair), {}


@st.composite
def affine(draw, empty=False):
    lead = (0,) if empty else draw(st.sampled_from([(2,), (1,), (2, 2), (2, 1, 3)]))
    activation = draw(st.sampled_from(list(SMOOTH)))      # that of ReLU has a kink: test_nn.py has it
    return values(draw, (*lead, 3), (3, 2), (2,)), {"activation": activation}


SMOOTH = {None: lambda a: a, ops.sigmoid: lambda a: 1 / (1 + numpy.exp(-a)), ops.tanh: numpy.tanh}


def loop_affine(x, w, b, activation=None):
    return SMOOTH[activation](numpy.einsum("...i,io->...o", x, w) + b)


@st.composite
def alike(draw, number=2, empty=False, **options):
    shape = (0, 3) if empty else draw(array_shapes(min_dims=2, max_dims=2, max_side=4))
    return values(draw, *[shape] * number), options


@st.composite
def rows(draw, empty=False):
    return values(draw, (0, 3) if empty else draw(array_shapes(min_dims=2, max_dims=2, max_side=4))), {}


@st.composite
def channels(draw, *vectors, empty=False, eps=None):
    """An array (..., channels), and for each of ``vectors`` another of its shape ("x") or a number per
    channel ("c")."""
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


def loop_channel_sums(g, x):
    return math.fsum(g), math.fsum(map(operator.mul, g, x))


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


@st.composite
def convolved(draw, kind, empty=False):
    """The arguments of one of the three maps of a convolution: image, weights and output of shapes that
    belong together."""
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


# op: (strategy for arguments and options, independent value)
CASES = {
    conv._conv2d: (lambda **k: convolved("output", **k), loop_conv2d),
    conv._conv_transpose2d: (lambda **k: convolved("input", **k), loop_conv_transpose2d),
    conv._conv_weight: (lambda **k: convolved("weight", **k), loop_conv_weight),
    core.copy: (unary, numpy.positive), core.all_mean: (unary, numpy.positive),     # of one rank
    core._filled: (lambda **k: unary(value=2.5, **k), lambda a, value: numpy.full(a.shape, value)),
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
    dense._tanh_gradient: (alike, elementwise(lambda g, y: g * (1 - y * y))),
    dense._sigmoid_gradient: (alike, elementwise(lambda g, y: g * y * (1 - y))),
    dense._times_sigmoid: (alike, elementwise(lambda g, a: g / (1 + math.exp(-a)))),
    dense._gate: (alike, elementwise(lambda g, a: g if a != 0 else 0)),
    ops.relu: (unary, elementwise(lambda a: a if a > 0 else 0)),
    ops.leaky_relu: (lambda **k: unary(slope=0.2, **k),
                     lambda a, slope: elementwise(lambda a: a if a > 0 else slope * a)(a)),
    ops.softplus: (unary, elementwise(lambda a: math.log(1 + math.exp(a)))),
    ops.maximum: (binary, elementwise(lambda a, b: a if a > b else b)),
    ops.minimum: (binary, elementwise(lambda a, b: b if a > b else a)),
    ops.clip: (lambda **k: unary(low=-0.7, high=0.9, **k),
               lambda a, low, high: elementwise(lambda a: low if a < low else high if a > high else a)(a)),
    ops.where: (condition, elementwise(lambda c, a, b: a if c else b)),
    ops.sum: (reduction, numpy.sum),
    ops.mean: (reduction, lambda a, axis, keepdims: (
        numpy.sum(a, axis=axis, keepdims=keepdims)
        / numpy.sum(numpy.ones_like(a), axis=axis, keepdims=keepdims))),
    ops.var: (reduction, lambda a, axis, keepdims: (
        numpy.mean(a * a, axis=axis, keepdims=keepdims)
        - numpy.mean(a, axis=axis, keepdims=keepdims) ** 2)),
    ops.max: (reduction, lambda a, axis, keepdims: -numpy.min(-a, axis=axis, keepdims=keepdims)),
    ops.logsumexp: (
        reduction,
        lambda a, axis, keepdims: numpy.log(numpy.sum(numpy.exp(a), axis=axis, keepdims=keepdims))),
    ops.softmax: (lambda **k: reduction(axes=[0, -1], keepdims=False, **k),
                  lambda a, axis: numpy.exp(a) / numpy.sum(numpy.exp(a), axis=axis, keepdims=True)),
    ops.log_softmax: (lambda **k: reduction(axes=[0, -1], keepdims=False, **k),
                      lambda a, axis: a - numpy.log(numpy.sum(numpy.exp(a), axis=axis, keepdims=True))),
    ops.reshape: (reshaped, lambda a, shape: numpy.array(a.ravel().tolist()).reshape(shape)),
    ops.transpose: (transposed, lambda a, axes: (
        a.T if axes is None else numpy.moveaxis(a, axes, range(a.ndim)))),
    core.sum_to: (summed, lambda a, shape: loop_sum(a, shape)),
    core.broadcast_to: (broadcast, lambda a, shape, scale: scale * a + numpy.zeros(shape)),
    ops._getitem: (indexed, lambda a, index: numpy.array(a.tolist())[index]),
    ops._scatter: (lambda **k: indexed(scattered=True, **k), loop_scatter),
    ops._concatenate: (joined, lambda *parts, axis: numpy.hstack(parts) if axis else numpy.vstack(parts)),
    ops.matmul: (product, numpy.matmul),
    ops.linear: (affine, loop_affine),
    ops.moments: (channels, lambda x: by_channel(loop_moments)(x).reshape(2, x.shape[-1])),
    batch_norm._channel_sums: (
        lambda **k: channels("x", **k),
        lambda g, x: by_channel(loop_channel_sums)(g, x).reshape(2, x.shape[-1])),
    batch_norm._batch_norm: (lambda **k: channels("c", "c", eps=0.1, **k), loop_batch_norm),
    losses._squared_error: (
        lambda **k: alike(share=0.3, **k), lambda x, y, share: numpy.array(
            math.fsum(share * (a - b) ** 2 for a, b in zip(x.flat, y.flat)))),
    losses._gaussian_kl: (alike, lambda mu, logvar: numpy.array([
        sum(0.5 * (m * m + math.exp(v) - 1 - v) for m, v in zip(*rows))
        for rows in zip(mu.tolist(), logvar.tolist())])),
    vae._sampled: (lambda **k: alike(number=3, **k),
                   elementwise(lambda mu, logvar, noise: mu + math.exp(logvar / 2) * noise)),
    losses._row_norm: (rows, lambda x: numpy.array([math.hypot(*row) for row in x.tolist()])),
}

# What is called in place of an op that takes what it could compute itself.
CALLED = {batch_norm._batch_norm: lambda *args, eps: ops.batch_norm(*args, eps)[0]}

every_op = pytest.mark.parametrize("op", CASES, ids=lambda op: op.name)


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


# Models

SMALL = {"sizes": (16, 9, 7, 5), "latent": 4, "outputs": 3}
LARSEN = {"architecture": "larsen", "width": 0.05, "latent": 4, "optimizer": "SGD", "lr": 1e-4}
LARSEN_GAN = {**LARSEN, "outputs": 1, "d_lr": 1e-2}
FULLY_CONNECTED = {
    "non-saturating": models.GAN(**SMALL), "minimax": models.GAN(objective="minimax", beta1=0.5, **SMALL),
    "wgan": models.WGAN(**SMALL), "vae": models.VAE(sizes=SMALL["sizes"], latent=SMALL["latent"]),
    "vaegan": models.VAEGAN(**SMALL), "constrained": models.ConstrainedVAEGAN(d=0.7, **SMALL),
    "on-mean": models.ConstrainedVAEGAN(d=0.1, per_sample=False, **SMALL),
    "r1": models.GAN(r1=0.5, **SMALL), "penalty": models.WGAN(lipschitz="penalty", **SMALL),
    "dual": models.ConstrainedVAEGAN(multiplier="dual", d=0.5, eta=0.1, **SMALL),
    "average": models.VAEGAN(average=0.6, **SMALL)}
POINTS = {
    "points": models.WGAN(architecture="points", lipschitz="penalty", sizes=(2, 9, 7), latent=3, outputs=1),
    "points-vae": models.VAE(architecture="points", sizes=(2, 9, 7), latent=3),
    "points-r1": models.GAN(architecture="points", r1=0.5, sizes=(2, 9, 7), latent=3, outputs=1),
    "points-dual": models.ConstrainedVAEGAN(architecture="points", multiplier="dual", d=0.5, sizes=(2, 9, 7),
                                            latent=3, outputs=1)}
SMALL_CONVOLUTIONAL = {
    "conv-penalty": models.WGAN(architecture="conv", lipschitz="penalty", width=0.1, latent=4, outputs=2),
    "conv-vaegan": models.VAEGAN(architecture="conv", width=0.1, latent=4, outputs=2, optimizer="SGD",
                                 sizes=(2352, 392, 196, 98), lr=1e-4, d_lr=1e-2)}
CONVOLUTIONAL = {
    **SMALL_CONVOLUTIONAL,
    "larsen-vae": models.VAE(**LARSEN), "larsen-vaegan": models.VAEGAN(**LARSEN_GAN),
    "larsen-constrained": models.ConstrainedVAEGAN(d=0.5, **LARSEN_GAN),
    "larsen-average": models.VAE(average=0.6, **LARSEN),
    "larsen-similarity": models.VAEGAN(learned_similarity=True, **LARSEN_GAN)}
MODELS = {**FULLY_CONNECTED, **POINTS, **CONVOLUTIONAL}
every_model = pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))


def build(model, **changed):
    return type(model)(**{**model.settings(), **changed})


def images(model, rng, n=8):
    """A batch of n images, or of points in and around [0, 1], for each of the batches of a step."""
    drawn = rng.random((n * model.batches_per_step, *model.build().image_shape), dtype="float32")
    return 6 * drawn - 3 if model.architecture == "points" else drawn


def batches(model, count):
    rng = numpy.random.default_rng(1)
    return [images(model, rng, 4 if model.architecture == "larsen" else 8) for _ in range(count)]


def moved(options):
    """Options with their arrays, or tuples of arrays, on the device."""
    def move(value):
        return to_device(value) if isinstance(value, numpy.ndarray) else value

    return {key: tuple(map(move, value)) if isinstance(value, tuple) else move(value)
            for key, value in options.items()}


def value_and_gradients(op, args, options, dtype="float64", moved_there=lambda: None):
    """The value, the gradients of orders 1 and 2; ``moved_there`` is called when the arguments are on the
    device."""
    args = [Tensor(to_device(a.astype(dtype))) if a.dtype == "float64" else to_device(a) for a in args]
    leaves = [a for a in args if isinstance(a, Tensor)]
    options = moved(options)
    moved_there()
    y = CALLED.get(op, op)(*args, **options)
    first = grad(ops.sum(y * y), leaves, create_graph=True)
    second = grad(sum(ops.sum(g * g) for g in first), leaves)
    return [y.data, *grad(ops.sum(y * y), leaves), *[g.data for g in first], *second]


def steps(model, count=2):
    """The metrics of ``count`` steps of a new model like this one, and its state after them."""
    model = build(model)
    results = [model.step(to_device(images), numpy.random.default_rng(i))
               for i, images in enumerate(batches(model, count))]
    metrics = {f"{i}.{key}": to_host(value) for i, result in enumerate(results)
               for key, value in result.items()}
    return metrics, model.state()


def assert_close(one, other, tolerance):
    """Equal up to ``tolerance`` of the largest number in either array, or of 0.1: where numbers cancel,
    rounding errors stay."""
    assert type(one) is type(other) and one.shape == other.shape and one.dtype == other.dtype
    scale = max(abs(one).max(initial=0.1), abs(other).max(initial=0.1))
    numpy.testing.assert_allclose(one, other, rtol=0, atol=tolerance * scale)


def assert_same_steps(found, expected, rounded):
    """Two results of ``steps`` are equal or, if sums were ``rounded`` otherwise, close to each other."""
    for one, other in zip(found, expected):
        assert one.keys() == other.keys()
        for key in one:
            # SGD's state is the gradient; a ReLU that rounding turns on or off moves it by a percent.
            assert_close(one[key], other[key],
                         (0.03 if key.startswith("optimizers") else 1e-3) if rounded else 1e-5)


def samples_and_reconstructions(model):
    model, (first, second) = build(model), batches(model, 2)
    latents = numpy.random.default_rng(2).normal(size=(2, 2, model.latent)).astype("float32")
    path = models.Model.interpolate(model, *latents, steps=3, spherical=True)
    found = [model.sample(3, rng=1), model.decode(latents[0]), path]
    if isinstance(model, models.VAE):
        found += [*model.encode(first), model.reconstruct(first),
                  model.interpolate(first[:2], second[:2], steps=3)]
    return found


def judged():
    """What a classifier, trained on images of ten kinds, says of them."""
    rng = numpy.random.default_rng(0)
    labels = rng.integers(0, 10, 300)
    images = 0.2 * (rng.normal(size=(10, 20))[labels] + 0.3 * rng.normal(size=(300, 20))) + 0.5
    images = numpy.clip(images, 0, 1).astype("float32")
    judge = classifier.Classifier(sizes=(20, 16, 10), epochs=3, batch_size=50).fit(images, labels)
    probabilities = judge.predict_proba(images)
    return (judge.accuracy(images, labels), to_host(probabilities), entropy.measure(probabilities),
            to_host(judge.features(images)))


def assert_same_judgement(found, expected):
    assert found[0] == expected[0] and found[2] == pytest.approx(expected[2], rel=1e-5)
    for i in (1, 3):
        numpy.testing.assert_allclose(found[i], expected[i], rtol=1e-4, atol=1e-6)
