"""Convolution: three bilinear maps that are each other's partials, so derivatives of any order work.

    output           conv2d(x, w)
                     y[n, h, w', :] = sum over i, j of x[n, h s + i - p, w' s + j - p, :] w[i, j]
    input gradient   conv_transpose2d(y, w)
                     the adjoint of the output with respect to x, and a layer in its own right
    weight gradient  conv_weight(x, y)
                     the adjoint of the output with respect to w

Here s is the stride and p the padding. Images are channels-last, (N, H, W, C), and weights are (kernel
height, kernel width, in, out): this makes a convolution a matrix product. ``correlation`` computes the maps.
"""

from __future__ import annotations

from typing import Any, overload

from minigen import checks, correlation
from minigen.core import Op, Tensor, column_sums


def _turn(w: Any) -> Any:
    """The weights with input and output channels swapped."""
    return w.transpose((0, 1, 3, 2))


_conv2d: Op = Op(
    "conv2d(x, w, bias, stride, padding) = y[n, h, w', :] = bias + sum over i, j of "
    "x[n, h stride + i - padding, w' stride + j - padding, :] w[i, j]",
    correlation.output,
    lambda g, y, x, w, *bias, stride, padding: _conv_transpose2d(
        g, _turn(w), stride=stride, padding=padding, size=x.shape[1:3]),
    lambda g, y, x, w, *bias, stride, padding: _conv_weight(
        x, g, stride=stride, padding=padding, kernel=w.shape[:2]),
    lambda g, *_, stride, padding: column_sums(g))

_conv_transpose2d: Op = Op(
    "conv_transpose2d(x, w, bias, stride, padding, size) = bias + the gradient of a conv2d with respect to "
    "its input, which has this size",
    correlation.input_gradient,
    lambda g, y, x, w, *bias, stride, padding, size: _conv2d(g, _turn(w), stride=stride, padding=padding),
    lambda g, y, x, w, *bias, stride, padding, size: _turn(
        _conv_weight(g, x, stride=stride, padding=padding, kernel=w.shape[:2])),
    lambda g, *_, stride, padding, size: column_sums(g))

_conv_weight: Op = Op(
    "conv_weight(x, y, stride, padding, kernel) = the gradient of a conv2d with respect to its weights, "
    "whose height and width are `kernel`",
    correlation.weight_gradient,
    lambda g, w, x, y, stride, padding, kernel: _conv_transpose2d(
        y, _turn(g), stride=stride, padding=padding, size=x.shape[1:3]),
    lambda g, w, x, y, stride, padding, kernel: _conv2d(x, g, stride=stride, padding=padding))


@overload
def conv2d(x: Tensor, w: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> Tensor:
    ...


@overload
def conv2d(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> Any:
    ...


def conv2d(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> Any:
    """The cross-correlation commonly called convolution, plus ``bias``.

    ``x`` is (N, H, W, in), ``w`` (kernel height, kernel width, in, out), ``bias`` (out,). The output is
    (N, H', W', out), with H' = (H + 2 padding - kernel height) // stride + 1 and W' likewise. It has the
    dtype of ``x``, ``w`` and ``bias``, float32 or float64. ``ValueError`` if the shapes do not fit, or if the
    kernel is larger than the padded image.
    """
    stride, padding = _check("conv2d", x, w, bias, stride, padding)
    if any(length + 2 * padding < kernel for length, kernel in zip(x.shape[1:3], w.shape[:2])):
        raise ValueError(f"conv2d: a kernel of {w.shape[:2]} is larger than images of {x.shape[1:3]} with "
                         f"padding {padding}")
    return _conv2d(x, w, *(() if bias is None else (bias,)), stride=stride, padding=padding)


@overload
def conv_transpose2d(x: Tensor, w: Any, bias: Any = None, stride: int = 1, padding: int = 0,
                     output_padding: int = 0) -> Tensor:
    ...


@overload
def conv_transpose2d(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0,
                     output_padding: int = 0) -> Any:
    ...


def conv_transpose2d(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0,
                     output_padding: int = 0) -> Any:
    """The transposed convolution, the adjoint of ``conv2d``, plus ``bias``.

    ``x`` is (N, H, W, in), ``w`` (kernel height, kernel width, in, out), ``bias`` (out,). The output is
    (N, H', W', out), with H' = (H - 1) stride - 2 padding + kernel height + output_padding and W' likewise.
    A convolution maps ``stride`` different sizes to H; ``output_padding`` chooses one of them. ``ValueError``
    if the shapes do not fit.
    """
    stride, padding = _check("conv_transpose2d", x, w, bias, stride, padding)
    output_padding = checks.whole("conv_transpose2d", "output_padding", output_padding, 0)
    if output_padding >= stride:
        raise ValueError(f"conv_transpose2d: an output_padding from 0 to {stride - 1} expected, "
                         f"{output_padding} found")
    size = tuple((length - 1) * stride - 2 * padding + kernel + output_padding
                 for length, kernel in zip(x.shape[1:3], w.shape[:2]))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: images of {x.shape[1:3]} would become images of {size}")
    biases = () if bias is None else (bias,)
    return _conv_transpose2d(x, w, *biases, stride=stride, padding=padding, size=size)


def _check(name: str, x: Any, w: Any, bias: Any, stride: int, padding: int) -> tuple[int, int]:
    """Stride and padding as ints, if all arguments fit together."""
    checks.floats(name, x=x, w=w, **({} if bias is None else {"bias": bias}))
    if len(x.shape) != 4 or len(w.shape) != 4 or x.shape[3] != w.shape[2] or 0 in w.shape:
        raise ValueError(f"{name}: x (N, H, W, in) and w (kernel height, kernel width, in, out) without "
                         f"empty axes expected, {x.shape} and {w.shape} found")
    if bias is not None and bias.shape != w.shape[3:]:
        raise ValueError(f"{name}: a bias of shape {w.shape[3:]} expected, {bias.shape} found")
    return checks.whole(name, "stride", stride), checks.whole(name, "padding", padding, 0)
