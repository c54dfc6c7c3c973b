"""Batch normalisation beyond its ops' values and gradients, which test_ops.py has: the layer, rounding,
blocks."""

import math

import numpy
import pytest
from cases import by_channel, loop_channel_sums, loop_moments

from minigen import batch_norm, nn, ops, threads
from minigen.core import Tensor, grad, to_host
from minigen.gradcheck import check_grad


def channels(x):
    """The values of each channel, as lists of Python floats."""
    return x.reshape(-1, x.shape[-1]).astype("float64").T.tolist()


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 4, 3)])
def test_batch_norm_is_its_definition(shape, rng):
    layer = nn.BatchNorm(3)
    layer.weight.data, layer.bias.data = (rng.normal(size=3).astype("float32") for _ in range(2))
    running_mean, running_var = [0.0] * 3, [1.0] * 3
    for _ in range(3):
        x = (rng.normal(size=shape) * [1, 2, 3] + [0, 5, -4]).astype("float32")
        y = layer(x)
        for c, values in enumerate(channels(x)):
            mean = math.fsum(values) / len(values)
            var = math.fsum((v - mean) ** 2 for v in values) / len(values)
            expected = [(v - mean) / math.sqrt(var + 1e-5) * layer.weight.data[c] + layer.bias.data[c]
                        for v in values]
            numpy.testing.assert_allclose(to_host(y).reshape(-1, 3)[:, c], expected, rtol=1e-4, atol=1e-5)
            running_mean[c] = 0.9 * running_mean[c] + 0.1 * mean
            running_var[c] = 0.9 * running_var[c] + 0.1 * var * len(values) / (len(values) - 1)
        numpy.testing.assert_allclose(layer.running_mean, running_mean, rtol=1e-5, atol=1e-6)
        numpy.testing.assert_allclose(layer.running_var, running_var, rtol=1e-5)
    layer.eval()
    before = layer.state()
    y = to_host(layer(x[:1]))    # one image, with the running statistics, which stay as they are
    for c, values in enumerate(channels(x[:1])):
        expected = [(v - running_mean[c]) / math.sqrt(running_var[c] + 1e-5) * layer.weight.data[c] +
                    layer.bias.data[c] for v in values]
        numpy.testing.assert_allclose(y.reshape(-1, 3)[:, c], expected, rtol=1e-4, atol=1e-5)
    assert all((layer.state()[key] == before[key]).all() for key in before) and y.dtype == "float32"


def test_batch_norm_far_from_zero_loses_no_more_than_rounding_does(rng):
    """Values and gradients of channels whose mean is 1,000 standard deviations: float32 rounds such values by
    up to 6e-5."""
    x, g = rng.normal(1000, 1, (500, 3)).astype("float32"), rng.normal(size=(500, 3))
    found = []
    for dtype in ("float32", "float64"):
        leaf, layer = Tensor(x.astype(dtype)), nn.BatchNorm(3, dtype=dtype)
        y = layer(leaf)
        found.append([y.data, *grad(ops.sum(y * g.astype(dtype)), [leaf, *layer.parameters()])])
    for one, other, scale in zip(*found, (1, 1, 500 ** 0.5, 500 ** 0.5)):
        numpy.testing.assert_allclose(one, other, rtol=0, atol=2e-4 * scale)


def test_batch_norm_in_training_needs_two_values():
    with pytest.raises(ValueError,
                       match=r"more than 1 value per channel expected in training, shape \(1, 3\) found"):
        nn.BatchNorm(3)(numpy.ones((1, 3), "float32"))
    nn.BatchNorm(3)(numpy.ones((1, 2, 1, 3), "float32"))


@pytest.mark.parametrize("x, weight, bias", [((4, 5), 1, 1), ((4, 5), 5, 1), ((4, 5), 1, 5), ((4, 1), 5, 5),
                                             ((), 1, 1)])
def test_weight_and_bias_are_not_broadcast(x, weight, bias):
    x, weight, bias = (numpy.ones(shape) for shape in (x, weight, bias))
    with pytest.raises(ValueError, match=r"^batch_norm: x \(..., channels\), weight \(channels,\) and bias"):
        ops.batch_norm(x, weight, bias, 0.1)
    with pytest.raises(ValueError, match=r"^batch_norm: x"):
        ops.batch_norm(numpy.ones(()), numpy.ones(()), numpy.ones(()), 0.1)


def test_batch_norm_is_gradient_checked(rng):
    flat = nn.Sequential(nn.Linear(3, 4, rng=rng, bias=False), nn.BatchNorm(4), nn.Tanh())
    deep = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1, bias=False, rng=rng), nn.BatchNorm(3),
                         nn.Tanh(), nn.ConvTranspose2d(3, 2, 4, stride=2, padding=1, rng=rng))
    for net, x in ((flat, rng.normal(size=(5, 3))), (deep, rng.normal(size=(2, 4, 4, 2)))):
        for mode in (net.train, net.eval):
            mode()
            check_grad(lambda x, *_: net(x), [x, *net.parameters()], order=2)
        assert all(array.dtype == "float32" for array in net.state().values())


def test_moments_of_blocks_are_put_together(rng, three_threads, monkeypatch):
    """Blocks of 3, 3, 3 and 1 rows, whose means are far apart."""
    monkeypatch.setattr(batch_norm, "_ROW_NUMBERS", 1)
    monkeypatch.setattr(threads, "row_blocks", lambda shape: [slice(i, i + 3) for i in range(0, shape[0], 3)])
    x = rng.normal(size=(10, 2)) + 100.0 * numpy.arange(10)[:, None] ** 2
    numpy.testing.assert_allclose(ops.moments(x), by_channel(loop_moments)(x), rtol=1e-13)
    g = rng.normal(size=x.shape)
    expected = by_channel(loop_channel_sums)(g, x)
    numpy.testing.assert_allclose(batch_norm._channel_sums(g, x), expected, rtol=1e-11)


def test_statistics_are_raw_moments_in_a_recorded_graph_too(rng):
    x, weight, bias = rng.normal(size=(4, 5, 3)), rng.normal(size=3), rng.normal(size=3)
    expected = by_channel(loop_moments)(x)
    for arguments in ((x, weight, bias), map(Tensor, (x, weight, bias))):
        y, stats = ops.batch_norm(*arguments, 0.1)
        assert isinstance(stats, numpy.ndarray) and y.shape == x.shape
        numpy.testing.assert_allclose(stats, expected, rtol=1e-12)
