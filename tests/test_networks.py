"""The paper's fully connected networks, those for points, small convolutional ones, and Larsen et al.'s."""

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


def test_points_have_networks_without_a_sigmoid(rng):
    points = networks.Points((2, 128, 128))
    assert sizes_of(points.encoder(6, rng)) == [(2, 128), (128, 128), (128, 6)]
    assert sizes_of(points.discriminator(1, rng)) == [(2, 128), (128, 128), (128, 1)]
    decoder = points.decoder(5, rng)
    assert sizes_of(decoder) == [(5, 128), (128, 128), (128, 2)]
    assert [type(layer) for layer in decoder.layers] == [nn.Linear, nn.ReLU] * 2 + [nn.Linear]
    found = decoder(100 * rng.normal(size=(50, 5)).astype("float32"))
    assert found.shape == (50, 2) and found.data.min() < -1 and found.data.max() > 1
    assert points.discriminator(1, rng)(found).shape == (50, 1)
    assert points.image_shape == (2,) and not points.convolutional
    points.check("f", numpy.full((3, 2), -7.0))
    with pytest.raises(ValueError, match=r"^f: points \(N, 2\) .* expected, float64 \(3, 784\) found"):
        points.check("f", numpy.zeros((3, 784)))


def test_small_convolutional_layers(rng):
    small = networks.Convolutional()
    assert weights(small.encoder(6, rng)) == (
        [(4, 4, 1, 16), (4, 4, 16, 32), (1568, 98), (98, 6)], [True] * 4)
    assert weights(small.decoder(5, rng)) == (
        [(5, 98), (98, 1568), (4, 4, 32, 16), (4, 4, 16, 1)], [True] * 4)
    assert weights(small.discriminator(1, rng))[0] == [(4, 4, 1, 16), (4, 4, 16, 32), (1568, 98), (98, 1)]
    assert weights(networks.Convolutional(3, 0.25).encoder(6, rng))[0] == [
        (4, 4, 3, 4), (4, 4, 4, 8), (392, 24), (24, 6)]
    assert weights(networks.Convolutional(3, 0.001).decoder(6, rng))[0] == [
        (6, 1), (1, 49), (4, 4, 1, 1), (4, 4, 1, 3)]
    for network, activations in ((small.encoder(6, rng), [nn.ReLU] * 3),
                                 (small.decoder(5, rng), [nn.ReLU] * 3 + [nn.Sigmoid])):
        kinds = [type(layer) for layer in network.layers]
        assert [kind for kind in kinds if kind in (nn.ReLU, nn.Sigmoid, nn.BatchNorm)] == activations


@pytest.mark.parametrize("channels", [1, 3])
def test_small_convolutional_networks_take_and_make_rows(channels, rng):
    small = networks.Convolutional(channels, 0.25)
    images = small.decoder(7, rng)(rng.normal(size=(3, 7)).astype("float32"))
    assert images.shape == (3, *small.image_shape) == (3, 784 * channels) and images.dtype == "float32"
    assert 0 < images.data.min() < 0.5 < images.data.max() < 1
    assert small.discriminator(2, rng)(images).shape == (3, 2)
    encoder = small.encoder(8, rng)
    found, sizes = images.data.reshape(3, 28, 28, channels), []     # a row holds an image's channels last
    for layer in encoder.layers[1:]:
        found = layer(found)
        sizes.append(found.shape[1:])
    assert sizes[:4] == [(14, 14, 4)] * 2 + [(7, 7, 8)] * 2 and sizes[-1] == (8,)
    numpy.testing.assert_array_equal(to_host(encoder(images)), to_host(found))
    assert small.convolutional
    small.check("f", images.data)
    with pytest.raises(ValueError, match=rf"^f: images \(N, {784 * channels}\) of floats in .* expected"):
        small.check("f", numpy.zeros((3, 28, 28, channels)))


def test_an_architecture_that_defines_no_networks(rng):
    for make in (networks.Architecture().encoder, networks.Architecture().decoder,
                 networks.Architecture().discriminator):
        with pytest.raises(NotImplementedError):
            make(2, rng)


def test_an_architecture_by_name():
    assert networks.architecture("fully_connected", (9, 5)) == networks.FullyConnected((9, 5))
    assert networks.architecture("points", (9, 5)) == networks.Points((9, 5))
    assert networks.Points((9, 5)) != networks.FullyConnected((9, 5))
    assert networks.architecture("conv", width=0.5) == networks.Convolutional(1, 0.5)
    assert networks.architecture("conv", (2352, *networks.SIZES[1:])) == networks.Convolutional(3)
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
    ({"name": "points", "width": 0.5}, "'points' has sizes, not a width: width 0.5 found"),
    ({"name": "points", "sizes": (0, 5)}, r"an integer sizes\[0\] of at least 1 expected, 0 found"),
    ({"name": "conv", "sizes": (784, 392, 196)}, r"'conv' has a width, not sizes: .*\(784, 392, 196\)"),
    ({"name": "conv", "sizes": (16, *networks.SIZES[1:])},
     "'conv' is for images of 28 x 28 pixels: 784 or 2352 numbers each expected, 16 found"),
    ({"name": "conv", "width": 0.0}, r"^architecture: a number width in \(0, 1000\] expected, 0.0 found"),
    ({"name": "larsen", "sizes": (2352, *networks.SIZES[1:])}, r"'larsen' has a width, not sizes"),
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
    (lambda rng: networks.Points((2, 0)), r"^Points: an integer sizes\[1\] .* 0 found"),
    (lambda rng: networks.Convolutional(0), "^Convolutional: an integer channels of at least 1 .* 0 found"),
    (lambda rng: networks.Convolutional(1, -0.5), r"^Convolutional: a number width in \(0, 1000\] .* -0.5"),
    (lambda rng: networks.Larsen(-0.5), r"^Larsen: a number width in \(0, 1000\] expected, -0.5 found")],
    ids=range(10))
def test_sizes_and_widths_that_cannot_be(make, message, rng):
    with pytest.raises((TypeError, ValueError), match=message):
        make(rng)


@pytest.mark.parametrize("architecture", [
    networks.FullyConnected((9, 5)), networks.Points((2, 5)), networks.Convolutional(3, 1000),
    networks.Larsen(1000)], ids=lambda architecture: type(architecture).__name__)
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
