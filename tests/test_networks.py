"""The report's fully connected networks."""

import numpy
import pytest

from minigen import networks, nn
from minigen.core import to_host


def sizes(network):
    return [layer.weight.shape for layer in network.layers if isinstance(layer, nn.Linear)]


def test_the_reports_layers(rng):
    assert sizes(networks.discriminator(rng)) == [(784, 392), (392, 196), (196, 98), (98, 100)]
    assert sizes(networks.generator(rng)) == [(100, 98), (98, 196), (196, 392), (392, 784)]
    assert sizes(networks.discriminator(rng, outputs=1))[-1] == (98, 1)
    assert sizes(networks.generator(rng, latent=7, sizes=(9, 5)))[:2] == [(7, 5), (5, 9)]


def test_relu_between_and_what_ends_them(rng):
    d, g = networks.discriminator(rng), networks.generator(rng)
    assert [type(layer) for layer in d.layers[1::2]] == [nn.ReLU] * 3 and type(d.layers[-1]) is nn.Linear
    assert [type(layer) for layer in g.layers[1:-1:2]] == [nn.ReLU] * 3 and type(g.layers[-1]) is nn.Sigmoid
    x = rng.normal(size=(3, 100)).astype("float32")
    images = to_host(g(x))
    assert images.shape == (3, 784) and images.min() > 0 and images.max() < 1
    assert d(images).shape == (3, 100) and d(images).dtype == "float32"


def test_a_seed_is_a_network():
    a, b = (networks.generator(numpy.random.default_rng(4)).state() for _ in range(2))
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_fully_connected_ends_linear(rng, hidden):
    assert type(networks.fully_connected((3, *hidden, 2), rng).layers[-1]) is nn.Linear
