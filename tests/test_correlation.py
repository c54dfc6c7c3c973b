"""Every plan computes the same convolution, in blocks of any size and in bounded memory; the cheapest is
chosen."""

import tracemalloc

import numpy
import pytest
from cases import loop_conv2d, loop_conv_transpose2d, loop_conv_weight
from hypothesis import given
from hypothesis import strategies as st

from minigen import correlation, threads
from minigen.correlation import Axis, Plan, adjoint_plans, convolution_plans, correlate, correlate_weights


def assert_close(found, expected):
    assert found.shape == expected.shape
    numpy.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-11)


def assert_right(plans, adjoint, x, w, bias, stride, padding):
    """A convolution's output, its input gradient and its weight gradient, by these plans, as loops compute
    them."""
    y = loop_conv2d(x, w, bias, stride=stride, padding=padding)
    assert_close(correlate(x, w, bias, plans, y.shape[1:3]), y)
    assert_close(correlate_weights(x, y, plans, w.shape[:2]),
                 loop_conv_weight(x, y, stride, padding, w.shape[:2]))
    back, options = w.transpose(0, 1, 3, 2), {"stride": stride, "padding": padding, "size": x.shape[1:3]}
    for biases in (None, numpy.arange(1.0, w.shape[2] + 1)):
        expected = loop_conv_transpose2d(y, back, 0 if biases is None else biases, **options)
        assert_close(correlate(y, back, biases, adjoint, x.shape[1:3]), expected)
    turned = correlate_weights(y, x, adjoint, w.shape[:2]).transpose(0, 1, 3, 2)
    assert_close(turned, loop_conv_weight(x, y, stride, padding, w.shape[:2]))


@pytest.mark.parametrize("rows", [0, 2, 64], ids=["all rows at once", "two rows at once", "64 rows at once"])
@pytest.mark.parametrize("stride, padding, kernel, channels, out",
                         [(1, 2, (5, 5), 3, 1), (1, 2, (4, 4), 2, 9), (2, 2, (5, 5), 2, 3),
                          (3, 1, (4, 2), 2, 2), (1, 0, (2, 3), 1, 4), (3, 0, (2, 2), 2, 1),
                          (2, 3, (4, 5), 3, 2), (1, 4, (3, 3), 2, 1), (4, 0, (1, 1), 1, 2),
                          (2, 0, (1, 3), 2, 2)])
def test_every_plan_gives_the_same(stride, padding, kernel, channels, out, rows, rng, monkeypatch):
    monkeypatch.setattr(threads, "gemm_rows", lambda numbers: rows)
    x, w = rng.normal(size=(4, 7, 9, channels)), rng.normal(size=(*kernel, channels, out))
    bias = rng.normal(size=out)
    size = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip((7, 9), kernel))
    forward = list(convolution_plans(size, kernel, stride, padding))
    backward = list(adjoint_plans((7, 9), kernel, stride, padding))
    assert len(forward) == {1: 9, 2: 4}.get(stride, 1) and len(backward) == {1: 9, 2: 6}.get(stride, 2)
    for i in range(max(len(forward), len(backward))):
        plans, adjoint = forward[i % len(forward)], backward[i % len(backward)]
        assert_right(plans, adjoint, x, w, bias, stride, padding)


@given(stride=st.integers(1, 3), padding=st.integers(0, 2), numbers=st.integers(1, 300), data=st.data())
def test_blocks_of_any_size_give_the_same(stride, padding, numbers, data):
    rng = numpy.random.default_rng(data.draw(st.integers(0, 99)))
    x, w, bias = rng.normal(size=(5, 7, 6, 2)), rng.normal(size=(3, 4, 2, 3)), rng.normal(size=3)
    size = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip((7, 6), (3, 4)))
    plans = data.draw(st.sampled_from(list(convolution_plans(size, (3, 4), stride, padding))))
    adjoint = data.draw(st.sampled_from(list(adjoint_plans((7, 6), (3, 4), stride, padding))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threads, "block_numbers", lambda: numbers)
        assert_right(plans, adjoint, x, w, bias, stride, padding)


@pytest.mark.parametrize("images, numbers", [(5, 100), (1, 10 ** 6)],
                         ids=["more blocks than threads", "fewer blocks than threads"])
@pytest.mark.parametrize("stride, kernel", [(1, (3, 4)), (2, (5, 5))])
def test_several_threads_give_the_same(stride, kernel, images, numbers, rng, three_threads, monkeypatch):
    monkeypatch.setattr(threads, "block_numbers", lambda: numbers)
    x, w, bias = rng.normal(size=(images, 7, 9, 2)), rng.normal(size=(*kernel, 2, 3)), rng.normal(size=3)
    size = tuple((n + 4 - k) // stride + 1 for n, k in zip((7, 9), kernel))
    for plans in convolution_plans(size, kernel, stride, 2):
        for adjoint in adjoint_plans((7, 9), kernel, stride, 2):
            assert_right(plans, adjoint, x, w, bias, stride, 2)


def test_long_products_are_stacks_of_short_ones():
    """Of 256 rows each for a factor of 96 x 32 numbers, if they are all the rows and not too few at once."""
    for rows, at_least, stacks in ((512, 4, 2), (768, 4, 3), (500, 4, 1), (512, 256, 2), (512, 257, 1)):
        assert correlation._stacks(rows, 96 * 32, at_least) == stacks


def plan(tiles, height=3, width=3):
    """Tiles of one pixel of an 8 x 8 output of kernels 3 x 3."""
    return Plan(Axis(tiles, 1, 0, 1, -1, height, ((slice(0, height), slice(None)),)),
                Axis(8, 1, 0, 1, -1, width, ((slice(0, width), slice(None)),)))


def test_blocks_are_of_images_and_of_rows(monkeypatch):
    monkeypatch.setattr(threads, "count", lambda: 2)
    per_row = 8 * 18                                    # windows of 3 x 3 x 2 numbers
    cases = {10 ** 6: [(3, 8), (2, 8)], 2 * 8 * per_row: [(2, 8), (2, 8), (1, 8)],
             7 * per_row: [(1, 4), (1, 4)] * 5, 1: [(1, 2)] * 20}        # at least twice the kernel
    for numbers, expected in cases.items():
        monkeypatch.setattr(threads, "block_numbers", lambda: numbers)
        blocks = plan(8).blocks(5, 2, 8)
        assert [(images.stop - images.start, rows.stop - rows.start) for images, rows in blocks] == expected


def tiles(plans):
    """Rows and columns of the tiles of each plan."""
    return [(len(plan.rows.parts), len(plan.columns.parts)) for plan in plans]


@pytest.mark.parametrize("ways, size, stride, channels, out, expected", [
    (convolution_plans, 64, 1, 8, 3, [(4, 4)]), (convolution_plans, 64, 1, 3, 32, [(4, 1)]),
    (convolution_plans, 32, 2, 3, 8, [(1, 2)]), (convolution_plans, 16, 2, 64, 128, [(1, 1)]),
    (adjoint_plans, 64, 2, 32, 8, [(4, 4)]), (adjoint_plans, 64, 2, 128, 32, [(4, 2)]),
    (adjoint_plans, 32, 2, 256, 128, [(4, 1), (4, 1)])])
def test_tiles_are_wide_where_channels_are_few(ways, size, stride, channels, out, expected):
    """As timed on layers of Larsen et al.'s networks: strided input gradients of many channels have two
    plans."""
    plans = correlation._cheapest(ways((size, size), (5, 5), stride, 2), channels, out)
    assert tiles(plans) == expected


def test_the_dtype_is_the_images(rng):
    x, w = rng.normal(size=(2, 8, 8, 2)), rng.normal(size=(3, 3, 2, 9))
    expected = loop_conv2d(x, w, stride=1, padding=1)
    tolerances = {"float32": 1e-4, "float64": 1e-12}
    for dtype in ("float32", "float64", "float32"):     # one after the other
        tolerance = tolerances[dtype]
        y = correlation.output(x.astype(dtype), w.astype(dtype), stride=1, padding=1)
        numpy.testing.assert_allclose(y, expected, rtol=tolerance, atol=tolerance)
        assert y.dtype == dtype


def traced_peak(call):
    tracemalloc.start()
    result = call()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return result, peak


def test_stacks_of_weight_gradients_are_no_larger_than_the_workspace():
    x, y = numpy.ones((4, 128, 128, 12), "float32"), numpy.ones((4, 128, 128, 1024), "float32")
    w, peak = traced_peak(lambda: correlation.weight_gradient(x, y, stride=1, padding=0, kernel=(1, 1)))
    assert (w == 4 * 128 * 128).all() and peak < 16e6       # 57 MB with all at once


def test_the_windows_of_a_batch_are_never_in_memory_at_once():
    x, w = numpy.zeros((64, 32, 32, 16), "float32"), numpy.zeros((5, 5, 16, 8), "float32")
    y = correlation.output(x, w, stride=1, padding=2)
    whole = y[..., 0].size * 25 * 16 * 4            # 105 MB
    back = w.transpose(0, 1, 3, 2)
    for call in (lambda: correlation.output(x, w, stride=1, padding=2),
                 lambda: correlation.input_gradient(y, back, stride=1, padding=2, size=(32, 32)),
                 lambda: correlation.weight_gradient(x, y, stride=1, padding=2, kernel=(5, 5))):
        result, peak = traced_peak(call)
        assert peak - result.nbytes < 16e6 < whole
