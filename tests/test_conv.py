"""Convolution beyond its values and gradients (those are in test_ops.py): blocks, memory, sizes, errors, layers."""

import math
import tracemalloc

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from test_ops import loop_conv2d, loop_conv_transpose2d, loop_conv_weight

from minigen import backend, conv, nn, ops
from minigen.core import Tensor, grad


@given(stride=st.integers(1, 3), padding=st.integers(0, 2), patches=st.integers(1, 300), seed=st.integers(0, 99))
def test_blocks_of_any_size_give_the_same(stride, padding, patches, seed):
    rng = numpy.random.default_rng(seed)
    x, w = rng.normal(size=(5, 7, 6, 2)), rng.normal(size=(3, 4, 2, 3))

    def everything():
        leaves = [Tensor(x), Tensor(w)]
        y = ops.conv2d(*leaves, None, stride, padding)
        return [y.data, *grad(ops.sum(y * y), leaves)]
    whole = everything()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "block_numbers", lambda: patches)
        for one, other in zip(whole, everything()):
            numpy.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)


@pytest.fixture
def ways(monkeypatch):
    """Have convolutions computed one way, whatever it costs."""
    def choose(tile=(1, 1), strips=False, apart=False):
        monkeypatch.setattr(conv._Correlation, "tile", lambda self, channels, out: tile)
        monkeypatch.setattr(conv._Correlation, "by_strips", lambda self, channels, out: strips)
        # More than in proportion to the channels: the phases apart are cheaper. Less: all at once.
        monkeypatch.setattr(conv._Correlation, "cost", lambda self, channels, out, tile: (1 if apart else -1) * 10 ** 9 * out ** 2)
    return choose


@pytest.mark.parametrize("few", [False, True], ids=["all rows at once", "few rows at once"])
@pytest.mark.parametrize("strips", [False, True], ids=["patches", "strips"])
@pytest.mark.parametrize("tile, apart", [((1, 1), True), ((1, 1), False), ((1, 2), False), ((2, 1), False), ((4, 2), False)])
@pytest.mark.parametrize("stride, padding, kernel, channels, out", [
    (1, 2, (5, 5), 3, 1), (1, 2, (4, 4), 2, 9), (2, 2, (5, 5), 2, 3), (3, 1, (4, 2), 2, 2), (1, 0, (2, 3), 1, 4),
    (3, 0, (2, 2), 2, 1), (2, 3, (4, 5), 3, 2), (1, 4, (3, 3), 2, 1)])
def test_every_way_gives_the_same(stride, padding, kernel, channels, out, tile, apart, strips, few, rng, ways, monkeypatch):
    """Output, input gradient and weight gradient, each way that costs could choose, as loops compute them."""
    ways(tile, strips, apart)
    monkeypatch.setattr(backend, "rows_at_once", lambda numbers: 2 * few)
    x, w, bias = rng.normal(size=(3, 7, 9, channels)), rng.normal(size=(*kernel, channels, out)), rng.normal(size=out)
    y = loop_conv2d(x, w, bias, stride=stride, padding=padding)
    numpy.testing.assert_allclose(ops.conv2d(x, w, bias, stride, padding), y, rtol=1e-12, atol=1e-12)
    back, biases = w.transpose(0, 1, 3, 2), rng.normal(size=channels)
    options = {"stride": stride, "padding": padding, "size": x.shape[1:3]}
    numpy.testing.assert_allclose(conv._conv_transpose2d(y, back, biases, **options),
                                  loop_conv_transpose2d(y, back, biases, **options), rtol=1e-12, atol=1e-12)
    weights = conv._conv_weight(x, y, stride=stride, padding=padding, kernel=kernel)
    numpy.testing.assert_allclose(weights, loop_conv_weight(x, y, stride, padding, kernel), rtol=1e-12, atol=1e-12)


def test_what_blocks_share_is_not_taken_for_others(rng, ways):
    """One after the other on images of one shape: in two dtypes, by patches and by strips."""
    x, w = rng.normal(size=(2, 8, 8, 2)), rng.normal(size=(3, 3, 2, 9))
    for strips, dtype, rtol in ((False, "float32", 1e-4), (False, "float64", 1e-12), (True, "float64", 1e-12),
                                (False, "float64", 1e-12)):
        ways(strips=strips)
        y = ops.conv2d(x.astype(dtype), w.astype(dtype), None, 1, 1)
        numpy.testing.assert_allclose(y, loop_conv2d(x, w, stride=1, padding=1), rtol=rtol, atol=rtol)
        assert y.dtype == dtype


@pytest.mark.parametrize("call, expected", [
    (lambda x, w: conv._conv_transpose2d(x(8, 128), w(128, 32), stride=2, padding=2, size=(16, 16)), []),
    (lambda x, w: conv._conv_transpose2d(x(32, 32), w(32, 8), stride=2, padding=2, size=(64, 64)), [(2, 2, 1, 1)]),
    (lambda x, w: ops.conv2d(x(64, 8), w(8, 3), None, 1, 2), [(1, 1, 4, 4)]),
    (lambda x, w: ops.conv2d(x(64, 3), w(3, 8), None, 1, 2), [(1, 1, 1, 4)]),
    (lambda x, w: ops.conv2d(x(16, 64), w(64, 128), None, 2, 2), [(1, 1, 1, 1)])])
def test_several_pixels_are_computed_at_once_where_channels_are_few(call, expected, monkeypatch):
    """As timed on layers of Larsen et al.'s networks: which phases, and which tile, are one product, or the phases apart."""
    chosen, correlate = [], conv._correlate

    def recorded(correlation, x, w, *rest):
        chosen.append((*w.shape[3:5], *correlation.tile(w.shape[2], math.prod(w.shape[3:]))))
        return correlate(correlation, x, w, *rest)
    monkeypatch.setattr(conv, "_correlate", recorded)
    call(lambda size, channels: numpy.ones((1, size, size, channels)), lambda *shape: numpy.ones((5, 5, *shape)))
    assert chosen == expected


def test_small_products_take_some_rows_at_once(rng):
    """As many as a million multiplications are enough for, if the right factor is small and the number of rows fits."""
    assert [backend.rows_at_once(numbers) for numbers in (100, 96 * 32, 3 << 12, (3 << 12) + 1)] == [8192, 256, 64, 0]
    for rows, stacks in ((512, 2), (768, 3), (500, 1)):
        assert -(-rows // conv._rows_at_once(rows, 96 * 32)) == stacks


@pytest.mark.parametrize("out, per_row, least", [(8, 8 * 18, [(1, 2)] * 20), (1, 8 * (6 + 2), [(1, 1)] * 40)],
                         ids=["patches", "strips"])
def test_blocks_are_of_images_and_of_rows(out, per_row, least, monkeypatch):
    monkeypatch.setattr(backend, "threads", lambda: 2)
    correlation = conv._Correlation((3, 3), 8, 8, 1, 1, (1, 1))
    assert correlation.by_strips(2, out) == (out == 1)
    for numbers, expected in ((10 ** 6, [(3, 8), (2, 8)]), (2 * 8 * per_row, [(2, 8), (2, 8), (1, 8)]),
                              (7 * per_row, [(1, 4), (1, 4)] * 5), (1, least)):      # least: twice the weights
        monkeypatch.setattr(backend, "block_numbers", lambda: numbers)
        blocks = correlation.blocks(5, 2, out)
        assert [(images.stop - images.start, rows.stop - rows.start) for images, rows in blocks] == expected


def test_stacks_of_weight_gradients_are_no_larger_than_the_workspace():
    x, y = numpy.ones((4, 128, 128, 12), "float32"), numpy.ones((4, 128, 128, 1024), "float32")
    tracemalloc.start()
    w = conv._conv_weight(x, y, stride=1, padding=0, kernel=(1, 1))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (w == 4 * 128 * 128).all() and peak < 16e6       # 57 MB with all at once


def test_the_patches_of_a_batch_are_never_in_memory_at_once():
    x, w = numpy.zeros((64, 32, 32, 16), "float32"), numpy.zeros((5, 5, 16, 8), "float32")
    y = ops.conv2d(x, w, None, 1, 2)
    whole = y[..., 0].size * 25 * 16 * 4            # 105 MB
    for call, kept in ((lambda: conv._conv2d(x, w, stride=1, padding=2), y.nbytes),
                       (lambda: conv._conv_transpose2d(y, w.transpose(0, 1, 3, 2), stride=1, padding=2, size=(32, 32)), x.nbytes),
                       (lambda: conv._conv_weight(x, y, stride=1, padding=2, kernel=(5, 5)), w.nbytes)):
        tracemalloc.start()
        call()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak - kept < 16e6 < whole


@pytest.mark.parametrize("stride, padding, kernel", [(1, 0, 3), (2, 2, 5), (3, 1, 4), (4, 0, 2)])
def test_transposed_sizes_are_those_a_convolution_takes_to_the_input(stride, padding, kernel):
    w = numpy.ones((kernel, kernel, 1, 1))
    for output_padding in range(stride):
        x = numpy.ones((1, 4, 5, 1))
        y = ops.conv_transpose2d(x, w, None, stride, padding, output_padding)
        more = kernel - 2 * padding + output_padding
        assert y.shape == (1, 3 * stride + more, 4 * stride + more, 1)
        assert ops.conv2d(y, w, None, stride, padding).shape == x.shape


def test_the_three_maps_are_adjoint(rng):
    x, w = rng.normal(size=(2, 9, 8, 3)), rng.normal(size=(5, 5, 3, 4))
    y = ops.conv2d(x, w, None, 2, 2)
    v = rng.normal(size=y.shape)
    back = conv._conv_transpose2d(v, w.transpose(0, 1, 3, 2), stride=2, padding=2, size=(9, 8))
    weights = conv._conv_weight(x, v, stride=2, padding=2, kernel=(5, 5))
    assert (y * v).sum() == pytest.approx((x * back).sum(), rel=1e-12) == pytest.approx((w * weights).sum(), rel=1e-12)
    numpy.testing.assert_allclose(ops.conv_transpose2d(v, w.transpose(0, 1, 3, 2), None, 2, 2), back[:, :, :7], rtol=1e-12)


@pytest.mark.parametrize("call, message", [
    (lambda x, w: ops.conv2d(x[0], w), r"conv2d: x \(N, H, W, in\) and w .* expected, \(4, 4, 2\) and \(3, 3, 2, 1\) found"),
    (lambda x, w: ops.conv2d(x[..., :1], w), r"\(1, 4, 4, 1\) and \(3, 3, 2, 1\) found"),
    (lambda x, w: ops.conv2d(x[:, :2], w), r"a kernel of \(3, 3\) is larger than images of \(2, 4\) with padding 0"),
    (lambda x, w: ops.conv2d(x, w[..., :0]), r"w .* without a 0, expected, \(1, 4, 4, 2\) and \(3, 3, 2, 0\) found"),
    (lambda x, w: ops.conv2d(x, w, stride=0), "a stride of at least 1 and a padding of at least 0 expected, 0 and 0 found"),
    (lambda x, w: ops.conv2d(x, w, padding=-1), "1 and -1 found"),
    (lambda x, w: ops.conv_transpose2d(x, w, None, 2, 0, 2), "an output_padding from 0 to 1 expected, 2 found"),
    (lambda x, w: ops.conv_transpose2d(x, w, None, 1, 3), r"images of \(4, 4\) would become images of \(0, 0\)"),
    (lambda x, w: ops.conv_transpose2d(x, w[0]), "conv_transpose2d: x"),
])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(numpy.ones((1, 4, 4, 2)), numpy.ones((3, 3, 2, 1)))


def test_layers(rng):
    x = rng.normal(size=(2, 7, 7, 3)).astype("float32")
    layer = nn.Conv2d(3, 4, 5, numpy.random.default_rng(0), stride=2, padding=2)
    up = nn.ConvTranspose2d(4, 2, 5, numpy.random.default_rng(0), stride=2, padding=2, output_padding=1)
    small = rng.normal(size=(2, 4, 4, 4)).astype("float32")
    for one, input_, op, extra in ((layer, x, ops.conv2d, ()), (up, small, ops.conv_transpose2d, (1,))):
        weight, bias = one.parameters()
        assert [name for name, _ in one.named_parameters()] == ["weight", "bias"] and (bias.data == 0).all()
        bias.data = rng.normal(size=bias.shape).astype("float32")
        numpy.testing.assert_allclose(one(input_).data, op(input_, weight.data, None, 2, 2, *extra) + bias.data, rtol=1e-6)
        bound = (25 * weight.shape[2]) ** -0.5                # fan_in_uniform
        assert 0.9 * bound < abs(weight.data).max() <= bound and weight.dtype == "float32"
    assert layer(x).shape == (2, 4, 4, 4) and up(layer(x)).shape == (2, 8, 8, 2)
    assert layer.weight.shape == (5, 5, 3, 4) and up.weight.shape == (5, 5, 4, 2)
    doubled = nn.Conv2d(3, 4, 5, numpy.random.default_rng(0), init=nn.he_normal, dtype="float64")
    assert doubled.weight.dtype == "float64" and abs(doubled.weight.data.std() - (2 / 75) ** 0.5) < 0.02
