"""The ops of convolution beyond their values and gradients, which test_ops.py has: sizes, adjoints, errors,
layers."""

import numpy
import pytest

from minigen import conv, nn, ops
from minigen.core import Tensor


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
    assert (y * v).sum() == pytest.approx((x * back).sum(), rel=1e-12) == pytest.approx(
        (w * weights).sum(), rel=1e-12)
    transposed = ops.conv_transpose2d(v, w.transpose(0, 1, 3, 2), None, 2, 2)
    numpy.testing.assert_allclose(transposed, back[:, :, :7], rtol=1e-12)


@pytest.mark.parametrize("call, message", [
    (lambda x, w: ops.conv2d(x[0], w),
     r"conv2d: x \(N, H, W, in\) and w .* expected, \(4, 4, 2\) and \(3, 3, 2, 1\) found"),
    (lambda x, w: ops.conv2d(x[..., :1], w), r"\(1, 4, 4, 1\) and \(3, 3, 2, 1\) found"),
    (lambda x, w: ops.conv2d(x[:, :2], w),
     r"a kernel of \(3, 3\) is larger than images of \(2, 4\) with padding 0"),
    (lambda x, w: ops.conv2d(x, w[..., :0]),
     r"w .* without empty axes expected, \(1, 4, 4, 2\) and \(3, 3, 2, 0\) found"),
    (lambda x, w: ops.conv2d(x, w, numpy.ones(2)), r"conv2d: a bias of shape \(1,\) expected, \(2,\) found"),
    (lambda x, w: ops.conv2d(x, w, stride=0), "conv2d: an integer stride of at least 1 expected, 0 found"),
    (lambda x, w: ops.conv2d(x, w, padding=-1), "an integer padding of at least 0 expected, -1 found"),
    (lambda x, w: ops.conv_transpose2d(x, w, None, 2, 0, -1),
     "conv_transpose2d: an integer output_padding of at least 0 expected, -1 found"),
    (lambda x, w: ops.conv_transpose2d(x, w, None, 2, 0, 2),
     "an output_padding from 0 to 1 expected, 2 found"),
    (lambda x, w: ops.conv_transpose2d(x, w, None, 1, 3),
     r"images of \(4, 4\) would become images of \(0, 0\)"),
    (lambda x, w: ops.conv_transpose2d(x, w[0]), "conv_transpose2d: x"),
])
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(numpy.ones((1, 4, 4, 2)), numpy.ones((3, 3, 2, 1)))


def test_images_may_have_one_pixel():
    x, w = numpy.full((1, 1, 1, 1), 3.0), numpy.full((1, 1, 1, 1), 2.0)
    assert ops.conv2d(x, w).tolist() == ops.conv_transpose2d(x, w).tolist() == [[[[6.0]]]]


@pytest.mark.parametrize("op", [ops.conv2d, ops.conv_transpose2d])
@pytest.mark.parametrize("change, message", [
    ({"stride": (2, 2)}, r"an integer stride of at least 1 expected, \(2, 2\) found"),
    ({"stride": 1.0}, "stride .* 1.0 found"), ({"padding": "same"}, "padding .* 'same' found"),
    ({"padding": True}, "padding .* True found"),
    ({"x": numpy.ones((1, 4, 4, 2), "uint8")},
     "x, w of one dtype, float32 or float64, expected, uint8, float64 found"),
    ({"x": numpy.ones((1, 4, 4, 2), "uint8"), "w": numpy.ones((3, 3, 2, 1), "uint8")}, "uint8, uint8 found"),
    ({"w": Tensor(numpy.ones((3, 3, 2, 1), "float32"))}, "float64, float32 found"),
    ({"x": [[[[1.0, 1.0]]]]}, "list, float64 found"),
    ({"bias": numpy.ones(1, "float32")}, "x, w, bias of one dtype, .* float64, float64, float32 found")])
def test_what_is_of_another_kind_is_refused(op, change, message):
    with pytest.raises(TypeError, match=f"^{op.__name__}: .*{message}"):
        op(**{"x": numpy.ones((1, 4, 4, 2)), "w": numpy.ones((3, 3, 2, 1)), **change})


def test_strides_may_be_numpys(rng):
    x, w = rng.normal(size=(1, 300, 2, 1)), rng.normal(size=(3, 3, 1, 1))
    two, one = numpy.uint8(2), numpy.uint8(1)
    for op, more in ((ops.conv2d, ()), (ops.conv_transpose2d, (one,))):     # beyond 255 in each
        found, expected = op(x, w, None, two, one, *more), op(x, w, None, 2, 1, *map(int, more))
        assert found.shape == expected.shape and (found == expected).all()


def test_layers(rng):
    x = rng.normal(size=(2, 7, 7, 3)).astype("float32")
    layer = nn.Conv2d(3, 4, 5, stride=2, padding=2, rng=numpy.random.default_rng(0))
    up = nn.ConvTranspose2d(4, 2, 5, stride=2, padding=2, output_padding=1, rng=numpy.random.default_rng(0))
    small = rng.normal(size=(2, 4, 4, 4)).astype("float32")
    for one, input_, op, extra in ((layer, x, ops.conv2d, ()), (up, small, ops.conv_transpose2d, (1,))):
        weight, bias = one.parameters()
        assert [name for name, _ in one.named_parameters()] == ["weight", "bias"] and (bias.data == 0).all()
        bias.data = rng.normal(size=bias.shape).astype("float32")
        expected = op(input_, weight.data, None, 2, 2, *extra) + bias.data
        numpy.testing.assert_allclose(one(input_).data, expected, rtol=1e-6)
        bound = (25 * weight.shape[2]) ** -0.5                # fan_in_uniform
        assert 0.9 * bound < abs(weight.data).max() <= bound and weight.dtype == "float32"
    assert layer(x).shape == (2, 4, 4, 4) and up(layer(x)).shape == (2, 8, 8, 2)
    assert layer.weight.shape == (5, 5, 3, 4) and up.weight.shape == (5, 5, 4, 2)
    doubled = nn.Conv2d(3, 4, 5, rng=numpy.random.default_rng(0), init=nn.he_normal, dtype="float64")
    assert doubled.weight.dtype == "float64" and abs(doubled.weight.data.std() - (2 / 75) ** 0.5) < 0.02
