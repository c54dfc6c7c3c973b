"""The paper's fully connected networks, and Larsen et al.'s."""

import numpy
import pytest

from minigen import networks, nn
from minigen.core import to_host


def sizes_of(network):
    return [layer.weight.shape for layer in network.layers if isinstance(layer, nn.Linear)]


PAPER = networks.FullyConnected()


def test_the_papers_layers(rng):
    assert sizes_of(PAPER.discriminator(100, rng)) == [(784, 392), (392, 196), (196, 98), (98, 100)]
    assert sizes_of(PAPER.encoder(200, rng)) == [(784, 392), (392, 196), (196, 98), (98, 200)]
    assert sizes_of(PAPER.decoder(100, rng)) == [(100, 98), (98, 196), (196, 392), (392, 784)]
    assert sizes_of(networks.FullyConnected((9, 5)).decoder(7, rng)) == [(7, 5), (5, 9)]


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
    ({"name": "resnet"}, "'fully_connected', 'points', 'conv' or 'larsen' expected, 'resnet' found"),
    ({"name": "fully_connected", "width": 0.5}, "'fully_connected' has sizes, not a width: width 0.5 found"),
    ({"name": "larsen", "sizes": (9, 5)}, r"'larsen' has a width, not sizes: sizes \(9, 5\) found"),
    ({"name": "larsen", "width": 0.0}, r"^architecture: a number width in \(0, 1000\] expected, 0.0 found"),
    ({"name": "larsen", "width": float("inf")}, "width in .* inf found"),
    ({"name": "larsen", "width": float("nan")}, "width in .* nan found"),
    ({"name": "larsen", "width": 1e308}, r"width in .* 1e\+308 found"),
    ({"name": "larsen", "width": "x"}, "width in .* 'x' found"),
    ({"name": "fully_connected", "width": True}, "width in .* True found"),
    ({"name": "fully_connected", "sizes": (9, 0)}, r"an integer sizes\[1\] of at least 1 expected, 0 found"),
    ({"name": "fully_connected", "sizes": ()}, r"a sequence sizes of 1 or more integers .* \(\) found"),
    ({"name": "larsen", "sizes": 9}, "a sequence sizes of 1 or more integers expected, 9 found")])
def test_an_architecture_that_cannot_be(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        networks.architecture(**settings)


@pytest.mark.parametrize("make, message", [
    (lambda rng: networks.fully_connected((3, -1), rng), r"^fully_connected: an integer sizes\[1\] .* -1"),
    (lambda rng: networks.fully_connected((3, 2.5, 1), rng), r"an integer sizes\[1\] .* 2.5 found"),
    (lambda rng: networks.fully_connected((3,), rng), r"a sequence sizes of 2 or more .* \(3,\) found"),
    (lambda rng: networks.fully_connected("32", rng), "'32' found"),
    (lambda rng: networks.FullyConnected((9, True)), r"^FullyConnected: an integer sizes\[1\] .* True found"),
    (lambda rng: networks.FullyConnected(784), "a sequence sizes of 1 or more .* 784 found"),
    (lambda rng: networks.Larsen(-0.5), r"^Larsen: a number width in \(0, 1000\] expected, -0.5 found")],
    ids=range(7))
def test_sizes_and_widths_that_cannot_be(make, message, rng):
    with pytest.raises((TypeError, ValueError), match=message):
        make(rng)


@pytest.mark.parametrize("architecture", [networks.FullyConnected((9, 5)), networks.Larsen(1000)])
@pytest.mark.parametrize("role, name", [("encoder", "outputs"), ("decoder", "latent"),
                                        ("discriminator", "outputs")])
@pytest.mark.parametrize("size", [0, -1, 2.0, True, "3", None, 10 ** 20], ids=str)
def test_outputs_and_latents_are_looked_at_before_anything_is_made(architecture, role, name, size, rng):
    with pytest.raises((TypeError, ValueError),
                       match=f"^{type(architecture).__name__}: an integer {name} of .* {size!r} found"):
        getattr(architecture, role)(size, rng)


def test_sizes_may_be_numpys(rng):
    sizes = list(numpy.array([9, 5]))
    assert networks.FullyConnected(sizes) == networks.FullyConnected((9, 5))
    assert [type(size) for size in networks.FullyConnected(sizes).sizes] == [int, int]
    assert sizes_of(networks.fully_connected(sizes, rng)) == [(9, 5)]
