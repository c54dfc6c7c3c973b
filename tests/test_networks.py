"""The paper's fully connected networks, and Larsen et al.'s."""

import numpy
import pytest

from minigen import networks, nn
from minigen.core import to_host


def sizes(network):
    return [layer.weight.shape for layer in network.layers if isinstance(layer, nn.Linear)]


PAPER = networks.FullyConnected()


def test_the_papers_layers(rng):
    assert sizes(PAPER.discriminator(100, rng)) == [(784, 392), (392, 196), (196, 98), (98, 100)]
    assert sizes(PAPER.encoder(200, rng)) == [(784, 392), (392, 196), (196, 98), (98, 200)]
    assert sizes(PAPER.decoder(100, rng)) == [(100, 98), (98, 196), (196, 392), (392, 784)]
    assert sizes(networks.FullyConnected((9, 5)).decoder(7, rng)) == [(7, 5), (5, 9)]


def test_relu_between_and_what_ends_them(rng):
    d, g = PAPER.discriminator(100, rng), PAPER.decoder(100, rng)
    assert [type(layer) for layer in d.layers[1::2]] == [nn.ReLU] * 3 and type(d.layers[-1]) is nn.Linear
    assert [type(layer) for layer in g.layers[1:-1:2]] == [nn.ReLU] * 3 and type(g.layers[-1]) is nn.Sigmoid
    x = rng.normal(size=(3, 100)).astype("float32")
    images = to_host(g(x))
    assert images.shape == (3, 784) and images.min() > 0 and images.max() < 1
    assert d(images).shape == (3, 100) and d(images).dtype == "float32"


def test_a_seed_is_a_network():
    a, b = (PAPER.decoder(100, numpy.random.default_rng(4)).state() for _ in range(2))
    assert all((a[name] == b[name]).all() for name in a)


@pytest.mark.parametrize("hidden", [(), (5,)])
def test_fully_connected_ends_linear(rng, hidden):
    assert type(networks.fully_connected((3, *hidden, 2), rng).layers[-1]) is nn.Linear


def weights(network):
    """The shapes of the weights of every layer but BatchNorm, and which of these layers have a bias."""
    layers = [module for _, module in network.named_modules()
              if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    return [layer.weight.shape for layer in layers], [layer.bias is not None for layer in layers]


def test_larsens_layers(rng):
    larsen = networks.Larsen()
    assert weights(larsen.encoder(256, rng)) == (
        [(5, 5, 3, 64), (5, 5, 64, 128), (5, 5, 128, 256), (8 * 8 * 256, 1024), (1024, 256)],
        [False] * 4 + [True])
    assert weights(larsen.decoder(128, rng)) == (
        [(128, 8 * 8 * 256), (5, 5, 256, 256), (5, 5, 256, 128), (5, 5, 128, 32), (5, 5, 32, 3)],
        [False] * 4 + [True])
    assert weights(larsen.discriminator(1, rng)) == (
        [(5, 5, 3, 32), (5, 5, 32, 128), (5, 5, 128, 256), (5, 5, 256, 256), (8 * 8 * 256, 512), (512, 1)],
        [True, False, False, False, False, True])
    shapes, _ = weights(networks.Larsen(0.02).encoder(6, rng))
    assert shapes == [(5, 5, 3, 1), (5, 5, 1, 3), (5, 5, 3, 5), (8 * 8 * 5, 20), (20, 6)]


def test_larsens_networks_take_and_make_images(rng):
    larsen = networks.Larsen(0.05)
    images = larsen.decoder(7, rng)(rng.normal(size=(3, 7)).astype("float32"))
    assert images.shape == (3, 64, 64, 3) and images.dtype == "float32"
    assert -1 < images.data.min() < 0 < images.data.max() < 1
    assert larsen.encoder(8, rng)(images).shape == (3, 8)
    D = larsen.discriminator(2, rng)
    features = D.features(images)
    assert features.shape == (3, 8, 8, 13) and D(images).shape == (3, 2)
    numpy.testing.assert_array_equal(to_host(D(images)), to_host(D.head(features)))
    for network in (larsen.encoder(8, rng), larsen.decoder(7, rng), D):
        kinds = [type(module) for _, module in network.named_modules()]
        assert kinds.count(nn.BatchNorm) == kinds.count(nn.ReLU) - (network is D) == 4


def test_an_architecture_by_name():
    assert networks.architecture("fully_connected", (9, 5)) == networks.FullyConnected((9, 5))
    assert networks.architecture("larsen", width=0.5) == networks.Larsen(0.5)


@pytest.mark.parametrize("settings, message", [
    ({"name": "resnet"}, "architecture 'fully_connected' or 'larsen' expected, 'resnet' found"),
    ({"name": "fully_connected", "width": 0.5}, "'fully_connected' has sizes, not a width: width 0.5 found"),
    ({"name": "larsen", "sizes": (9, 5)}, r"'larsen' has a width, not sizes: sizes \(9, 5\) found"),
    ({"name": "larsen", "width": 0.0}, "a positive, finite width expected, 0.0 found"),
    ({"name": "larsen", "width": float("inf")}, "a positive, finite width expected, inf found")])
def test_an_architecture_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        networks.architecture(**settings)
