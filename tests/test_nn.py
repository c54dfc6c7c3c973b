"""Layers, modules, initialisers."""

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


def test_reshape_keeps_the_batch():
    assert nn.Reshape(2, 3)(numpy.zeros((5, 6))).shape == (5, 2, 3)


class Branches(nn.Module):
    def __init__(self, rng):
        self.scale = Tensor(numpy.ones(1, "float32"))
        self.name = "not a parameter"
        self.b = nn.Sequential(nn.Linear(2, 3, rng=rng), nn.ReLU(), nn.Linear(3, 1, rng=rng))
        self.a = nn.Linear(2, 1, rng=rng)

    def forward(self, x):
        return (self.b(x) + self.a(x)) * self.scale


def test_parameters_come_in_definition_order(rng):
    net = Branches(rng)
    names = ["scale", "b.layers.0.weight", "b.layers.0.bias", "b.layers.2.weight", "b.layers.2.bias",
             "a.weight", "a.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert list(net.state()) == names and len(net.parameters()) == 7
    assert all(p is q for p, (_, q) in zip(net.parameters(), net.named_parameters()))


def test_parameters_in_a_tuple_are_found(rng):
    module = nn.Module()
    module.parts = (nn.Linear(1, 1, rng=rng), Tensor(1.0))
    assert [name for name, _ in module.named_parameters()] == ["parts.0.weight", "parts.0.bias", "parts.1"]


def test_state_round_trip_is_a_copy(rng):
    net, other = Branches(rng), Branches(numpy.random.default_rng(9))
    x = rng.normal(size=(3, 2)).astype("float32")
    state = net.state()
    other.load_state(state)
    assert (to_host(net(x)) == to_host(other(x))).all()
    other.scale.data = other.scale.data * 2
    other.a.weight.data = other.a.weight.data * 0
    assert state["scale"] == 1 and state["a.weight"].any()


@pytest.mark.parametrize("change, message", [
    (lambda s: s.pop("scale"), r"missing: \['scale'\]"),
    (lambda s: s.update(x=numpy.ones(1)), r"unknown: \['x'\]"),
    (lambda s: s.update(scale=numpy.ones(2, "float32")), r"scale is float32 \(1,\), found float32 \(2,\)"),
    (lambda s: s.update(scale=numpy.ones(1)), r"found float64 \(1,\)"),
])
def test_a_state_that_does_not_fit_changes_nothing(rng, change, message):
    net = Branches(rng)
    state = Branches(numpy.random.default_rng(3)).state()
    change(state)
    before = net.state()
    with pytest.raises(ValueError, match=message):
        net.load_state(state)
    assert all((net.state()[k] == before[k]).all() for k in before)


def test_loading_makes_recorded_graphs_stale(rng):
    net = Branches(rng)
    loss = ops.sum(net(numpy.ones((1, 2), "float32")))
    net.load_state(net.state())
    with pytest.raises(RuntimeError, match="changed after"):
        grad(loss, net.parameters())


def test_a_network_is_gradient_checked(rng):
    net = nn.Sequential(nn.Linear(4, 6, rng=rng), nn.Tanh(), nn.Linear(6, 3, rng=rng), nn.LeakyReLU(0.2),
                        nn.Reshape(3, 1), nn.Sigmoid())
    x = rng.normal(size=(5, 4))
    check_grad(lambda *_: net(x), net.parameters(), order=2)
    check_grad(lambda x, *_: net(x), [x, *net.parameters()], order=2)


def test_buffers_are_in_the_state_but_no_parameters(rng):
    net, other = (nn.Sequential(nn.Linear(3, 2, rng=rng), nn.Sequential(nn.BatchNorm(2))) for _ in range(2))
    names = ["layers.0.weight", "layers.0.bias", "layers.1.layers.0.weight", "layers.1.layers.0.bias"]
    assert [name for name, _ in net.named_parameters()] == names
    assert list(net.state()) == [*names, "layers.1.layers.0.running_mean", "layers.1.layers.0.running_var"]
    net(rng.normal(size=(8, 3)).astype("float32"))
    state = net.state()
    other.load_state(state)
    for one in (net, other):
        one.eval()
    x = rng.normal(size=(4, 3)).astype("float32")
    assert (to_host(net(x)) == to_host(other(x))).all() and state["layers.1.layers.0.running_mean"].any()
    del state["layers.1.layers.0.running_var"]
    with pytest.raises(ValueError, match=r"missing: \['layers.1.layers.0.running_var'\]"):
        net.load_state(state)


def test_train_and_eval_reach_every_part(rng):
    net = nn.Sequential(nn.Linear(1, 1, rng=rng), nn.Sequential(nn.BatchNorm(1)))
    everything = [module for _, module in net.named_modules()]
    assert len(everything) == 4 and all(module.training for module in everything)
    net.eval()
    assert not any(module.training for module in everything)
    net.train()
    assert all(module.training for module in everything)


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


def test_a_module_without_forward_says_so():
    with pytest.raises(NotImplementedError, match="Module defines no forward"):
        nn.Module()(1)
