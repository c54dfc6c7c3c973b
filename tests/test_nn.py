"""Layers and initialisers."""

import math

import numpy
import pytest

from minigen import nn, ops
from minigen.core import Tensor, grad, to_host
from minigen.gradcheck import check_grad


def test_linear_is_x_w_plus_b(rng):
    layer = nn.Linear(3, 2, rng=rng)
    layer.bias.data = numpy.array([1.0, -1.0], "float32")
    x = rng.normal(size=(4, 5, 3)).astype("float32")
    w, b = layer.weight.data, layer.bias.data
    expected = [[[sum(x[i, j, k] * w[k, o] for k in range(3)) + b[o] for o in range(2)] for j in range(5)]
                for i in range(4)]
    numpy.testing.assert_allclose(to_host(layer(x)), expected, rtol=1e-5, atol=1e-6)
    assert layer.weight.shape == (3, 2) and layer.weight.dtype == "float32"


@pytest.mark.parametrize("layer, f", [
    (nn.ReLU(), lambda x: max(x, 0)),
    (nn.LeakyReLU(0.3), lambda x: x if x > 0 else 0.3 * x),
    (nn.Tanh(), math.tanh),
    (nn.LeakyReLU(), lambda x: x if x > 0 else 0.01 * x),
    (nn.Sigmoid(), lambda x: 1 / (1 + math.exp(-x))),
])
def test_activations(layer, f):
    x = numpy.array([-2.0, -0.5, 0.7, 3.0])
    numpy.testing.assert_allclose(layer(x), [f(v) for v in x], rtol=1e-12)


@pytest.mark.parametrize("rows", [3, 9000], ids=["small", "in blocks"])
@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Sigmoid(), nn.Tanh()], ids=repr)
def test_a_linear_layer_and_its_activation_are_one_op_with_the_bits_of_two(rng, activation, rows):
    layer = nn.Linear(5, 64, rng=rng)
    layer.bias.data = rng.normal(size=64).astype("float32")
    x = Tensor(rng.normal(size=(rows, 5)).astype("float32"))
    together, apart = nn.Sequential(layer, activation)(x), activation(layer(x))
    assert together.op is ops.linear and apart.op is not ops.linear
    xs, found = [x, *layer.parameters()], []
    for y in (together, apart):
        gradients = grad((y * y).mean(), xs, create_graph=True)
        seconds = grad(sum((g * g).sum() for g in gradients), xs)
        found.append([to_host(part).tobytes() for part in (y, *gradients, *seconds)])
    assert found[0] == found[1]


def test_only_layers_of_these_very_kinds_are_joined(rng):
    class Doubled(nn.ReLU):
        def forward(self, x):
            return 2 * super().forward(x)

    class Shifted(nn.Linear):
        def forward(self, x):
            return super().forward(x) - 1
    x = rng.normal(size=(4, 3)).astype("float32")
    for first, last in ((nn.Linear(3, 2, rng=rng), Doubled()), (Shifted(3, 2, rng=rng), nn.ReLU()),
                        (nn.Linear(3, 2, bias=False, rng=rng), nn.ReLU())):
        one, two = nn.Sequential(first, last)(x), last(first(x))
        numpy.testing.assert_array_equal(to_host(one), to_host(two))


def test_linear_names_the_activations_it_can_join(rng):
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    with pytest.raises(ValueError, match="^linear.*activation relu, sigmoid, tanh or None expected"):
        ops.linear(Tensor(x), w, b, activation=ops.softplus)


def test_reshape_keeps_the_batch():
    assert nn.Reshape(2, 3)(numpy.zeros((5, 6))).shape == (5, 2, 3)


def test_a_network_is_gradient_checked(rng):
    net = nn.Sequential(nn.Linear(4, 6, rng=rng), nn.Tanh(), nn.Linear(6, 3, rng=rng), nn.LeakyReLU(0.2),
                        nn.Reshape(3, 1), nn.Sigmoid())
    x = rng.normal(size=(5, 4))
    check_grad(lambda *_: net(x), net.parameters(), order=2)
    check_grad(lambda x, *_: net(x), [x, *net.parameters()], order=2)


@pytest.mark.parametrize("init, variance, bound", [
    (nn.he_normal, 2 / 600, None), (nn.glorot_uniform, 2 / 1000, math.sqrt(6 / 1000)),
    (nn.fan_in_uniform, 1 / 1800, math.sqrt(1 / 600))])
def test_initialisers_have_their_variance_and_bound(init, variance, bound):
    w = init(numpy.random.default_rng(0), (600, 400))
    assert w.mean() == pytest.approx(0, abs=4 * math.sqrt(variance / w.size))
    assert w.var() == pytest.approx(variance, rel=0.02)
    if bound:
        assert 0.999 * bound < abs(w).max() <= bound
    window = init(numpy.random.default_rng(0), (3, 3, 600 // 9, 400 // 9))
    assert window.var() == pytest.approx(variance, rel=0.1)


def test_same_seed_same_network():
    a, b, c = (nn.Linear(5, 5, rng=numpy.random.default_rng(s)).weight.data for s in (1, 1, 2))
    assert (a == b).all() and (a != c).any()


@pytest.mark.parametrize("kind, sizes", [(nn.Linear, (3, 2)), (nn.Conv2d, (3, 2, 5)),
                                         (nn.ConvTranspose2d, (3, 2, 5)), (nn.BatchNorm, (3,))])
def test_all_but_the_sizes_is_given_by_name(kind, sizes, rng):
    with pytest.raises(TypeError, match="positional argument"):
        kind(*sizes, rng)


def test_sequential_is_a_sequence(rng):
    a, b, c = nn.Linear(2, 2, rng=rng), nn.ReLU(), nn.Tanh()
    net = nn.Sequential(a, b, c)
    assert len(net) == 3 and list(net) == [a, b, c] and net[0] is a and net[-1] is c
    assert type(net[1:]) is nn.Sequential and list(net[1:]) == [b, c]
    with pytest.raises(IndexError):
        net[3]


@pytest.mark.parametrize("layers, found", [(([nn.ReLU()],), r"\[ReLU\(\)\]"), ((nn.ReLU,), "class"),
                                           ((nn.ReLU(), None), "None"), ((3,), "3")])
def test_sequential_refuses_what_cannot_be_called(layers, found):
    with pytest.raises(TypeError, match=f"^Sequential: modules or functions expected, one by one, .*{found}"):
        nn.Sequential(*layers)


RNG = numpy.random.default_rng(0)


@pytest.mark.parametrize("make, kind, message", [
    (lambda: nn.Linear(0, 2, rng=RNG), ValueError, "^Linear: an integer n_in of at least 1 expected, 0"),
    (lambda: nn.Linear(2, -1, rng=RNG), ValueError, "integer n_out of at least 1 expected, -1 found"),
    (lambda: nn.Linear(2.0, 1, rng=RNG), TypeError, "n_in of at least 1 expected, 2.0 found"),
    (lambda: nn.Linear(True, 1, rng=RNG), TypeError, "True found"),
    (lambda: nn.Linear(2, 10 ** 20, rng=RNG), ValueError, "n_out of at most"),
    (lambda: nn.Conv2d(3, 0, 5, rng=RNG), ValueError, "^Conv2d: an integer n_out"),
    (lambda: nn.Conv2d(3, 4, (3, 0), rng=RNG), ValueError, "an integer kernel of at least 1 expected, 0"),
    (lambda: nn.Conv2d(3, 4, (3, 3, 3), rng=RNG), TypeError, r"kernel .* \(3, 3, 3\) found"),
    (lambda: nn.Conv2d(3, 4, 5, stride=(2, 2), rng=RNG), TypeError, r"integer stride of .* \(2, 2\) found"),
    (lambda: nn.Conv2d(3, 4, 5, stride=0, rng=RNG), ValueError, "stride of at least 1 expected, 0 found"),
    (lambda: nn.Conv2d(3, 4, 5, padding="same", rng=RNG), TypeError, "integer padding of .* 'same' found"),
    (lambda: nn.ConvTranspose2d(3, 4, 5, stride=2.0, rng=RNG), TypeError, "ConvTranspose2d: an integer st"),
    (lambda: nn.ConvTranspose2d(3, 4, 5, padding=-1, rng=RNG), ValueError, "integer padding of .* -1 found"),
    (lambda: nn.ConvTranspose2d(3, 4, 5, output_padding=-1, rng=RNG), ValueError,
     "^ConvTranspose2d: an integer output_padding of at least 0 expected, -1 found"),
    (lambda: nn.BatchNorm(0), ValueError, "^BatchNorm: an integer n of at least 1 expected, 0 found"),
    (lambda: nn.BatchNorm(2, eps=0), ValueError, r"a number eps in \[1e-30, inf\) expected, 0 found"),
    (lambda: nn.BatchNorm(2, momentum=1.5), ValueError, r"momentum in \[0, 1\] expected, 1.5 found"),
    (lambda: nn.BatchNorm(2, momentum=None), TypeError, "None found"),
    (lambda: nn.BatchNorm(2, dtype="int32"), TypeError, "dtype float32 or float64 expected, int32 found"),
    (lambda: nn.Linear(2, 2, rng=RNG, dtype=numpy.float16), TypeError, "^Linear: dtype .* float16 found"),
    (lambda: nn.Linear(2, 2, rng=RNG, dtype=None), TypeError, "None found"),
    (lambda: nn.Linear(2, 2, rng=0), TypeError, "^Linear: rng, a random generator .* expected, 0 found"),
    (lambda: nn.Linear(2, 2, rng=RNG, init="he_normal"), TypeError,
     "^Linear: init, a function such as nn.he_normal, expected, 'he_normal' found"),
    (lambda: nn.Linear(2, 3, rng=RNG, init=lambda rng, shape: numpy.zeros((3, 2))), ValueError,
     r"^Linear: an array \(2, 3\) of numbers expected from init, \(3, 2\) found"),
    (lambda: nn.Linear(2, 3, rng=RNG, init=lambda rng, shape: 0.0), ValueError, "init, float found"),
    (lambda: nn.LeakyReLU(math.nan), ValueError, "^LeakyReLU: a number slope in .* nan found"),
    (lambda: nn.LeakyReLU("0.1"), TypeError, "'0.1' found"),
    (lambda: nn.Reshape(2, 0), ValueError, "^Reshape: an integer size of at least 1 expected, 0 found"),
    (lambda: nn.Reshape(-1, -1), ValueError, "-1 found"),
    (lambda: nn.Reshape((2, 3)), TypeError, r"\(2, 3\)"),
    (lambda: nn.Reshape(1)([[1.0]]), TypeError,
     r"^Reshape: an array or Tensor \(N, ...\) expected, \[\[1.0\]\] found"),
    (lambda: nn.Reshape(1)(numpy.array(1.0)), TypeError, r"expected, array\(1.\) found"),
    (lambda: nn.he_normal(RNG, (5,)), TypeError,
     r"^he_normal: a sequence shape of 2 or more integers expected, \(5,\) found"),
    (lambda: nn.glorot_uniform(RNG, (0, 5)), ValueError, r"^glorot_uniform: an integer shape\[0\] of"),
    (lambda: nn.fan_in_uniform(0, (2, 5)), TypeError, "^fan_in_uniform: rng, a random generator")])
def test_what_cannot_be_built_is_refused_by_name(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


@pytest.mark.parametrize("dtype", ["float64", numpy.float64, numpy.dtype("float64")], ids=repr)
def test_sizes_and_settings_may_be_numpys(dtype):
    one, three = numpy.int64(1), numpy.uint8(3)
    layers = [nn.Linear(one, three, rng=RNG, dtype=dtype), nn.BatchNorm(three, dtype=dtype),
              nn.LeakyReLU(numpy.float32(0.5)), nn.Reshape(one, one, three),
              nn.Conv2d(three, one, (one, three), padding=one, rng=RNG, dtype=dtype)]
    y = nn.Sequential(*layers)(Tensor(numpy.ones((2, 1))))
    assert y.shape == (2, 3, 1, 1) and y.dtype == "float64" and layers[2].slope == 0.5
    assert all(type(size) is int for size in (layers[4].padding, *layers[3].shape))


def test_a_kernel_may_be_higher_than_wide(rng):
    x = rng.normal(size=(1, 4, 6, 1)).astype("float32")
    layer, up = (kind(1, 1, (3, 5), bias=False, rng=rng) for kind in (nn.Conv2d, nn.ConvTranspose2d))
    w = layer.weight.data[..., 0, 0].astype("float64")
    expected = [[sum(x[0, i + k, j + m, 0] * w[k, m] for k in range(3) for m in range(5)) for j in range(2)]
                for i in range(2)]
    assert layer.weight.shape == (3, 5, 1, 1)
    numpy.testing.assert_allclose(layer(x).data[0, ..., 0], expected, rtol=1e-5, atol=1e-6)
    assert up(layer(x)).shape == x.shape


def test_batch_norm_takes_its_number_of_channels_only():
    x = numpy.arange(15, dtype="float32").reshape(3, 5)
    for layer in (nn.BatchNorm(1), nn.BatchNorm(1).eval(), nn.BatchNorm(15)):
        with pytest.raises(ValueError, match=r"^BatchNorm: x \(..., channels\), weight .* expected, "
                                             r"\(3, 5\), \((1|15),\) and \((1|15),\) found$"):
            layer(x)
        assert layer.running_mean.shape == layer.weight.shape


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "bool", "float16", "float64"])
def test_batch_norm_takes_its_own_dtype_only(mode, dtype):
    layer = nn.BatchNorm(2).train(mode)
    with pytest.raises(TypeError, match="^BatchNorm: x, weight, bias of one dtype, .* expected, "
                                        f"{dtype}, float32, float32 found: convert arrays with astype$"):
        layer(numpy.ones((4, 2), dtype))
