"""Convolution: three bilinear maps that are each other's partial derivatives, so that any order of derivative works.

    output          conv2d(x, w)            y[n, h, w', :] = sum over i, j of x[n, h s + i - p, w' s + j - p, :] w[i, j]
    input gradient  conv_transpose2d(y, w)  the adjoint of the first in x, and a layer of its own
    weight gradient conv_weight(x, y)       its adjoint in w

with stride s and padding p. Images are channels-last, (N, H, W, C), weights (kernel height, kernel width, in, out): a
convolution is then a matrix product of patches, of kernel height x kernel width x in numbers each, with the weights. The
patches of a whole batch are never in memory at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from minigen.backend import Array, xp
from minigen.core import Op

_PATCHES = 1 << 20      # numbers in the patches that are multiplied at once, if a single row of them is not more


def _patches(x: Array, top: int, left: int, size: tuple[int, int], kernel: tuple[int, int],
             stride: int) -> Iterator[tuple[slice, slice, Array]]:
    """The patches of x (N, H, W, C) that make up an output of ``size``, block by block: its images, its rows, the patches.

    ``top`` and ``left`` rows and columns of zeros precede x, or, if negative, so many of x are left out. The patches are
    (images * rows * columns, kernel height * kernel width * C); their memory is used again for the next block.
    """
    n, height, width, channels = x.shape
    (rows, columns), (k_height, k_width) = size, kernel
    per_row = max(1, columns * k_height * k_width * channels)
    block_rows = max(1, min(rows, _PATCHES // per_row))
    block_images = max(1, min(n, _PATCHES // (per_row * block_rows)))
    span = (columns - 1) * stride + k_width
    padded = xp.zeros((block_images, (block_rows - 1) * stride + k_height, span, channels), x.dtype)
    buffer = xp.empty(block_images * block_rows * per_row, x.dtype)
    from_column, to_column = max(left, 0), min(left + width, span)
    for i in range(0, n, block_images):
        images = slice(i, min(i + block_images, n))
        for r in range(0, rows, block_rows):
            block = slice(r, min(r + block_rows, rows))
            count, taken = images.stop - i, block.stop - r
            first = r * stride - top                # the row of x at the block's upper edge
            from_row, to_row = max(-first, 0), min(height - first, (taken - 1) * stride + k_height)
            padded[:, :from_row] = 0
            padded[:, max(to_row, 0):] = 0
            if from_row < to_row and from_column < to_column:
                padded[:count, from_row:to_row, from_column:to_column] = x[
                    images, first + from_row:first + to_row, from_column - left:to_column - left]
            step = padded.strides
            windows = xp.lib.stride_tricks.as_strided(
                padded, (count, taken, columns, k_height, k_width * channels),
                (step[0], stride * step[1], stride * step[2], step[1], step[3]))
            patches = buffer[:windows.size].reshape(windows.shape)
            patches[...] = windows
            yield images, block, patches.reshape(-1, k_height * k_width * channels)


def _correlate(y: Array, x: Array, w: Array, top: int, left: int, stride: int) -> None:
    """Write the correlation of x with w (kernel height, kernel width, in, out) into y (N, rows, columns, out)."""
    flat = w.reshape(-1, w.shape[3])
    for images, rows, patches in _patches(x, top, left, y.shape[1:3], w.shape[:2], stride):
        y[images, rows] = (patches @ flat).reshape(y[images, rows].shape)


def _output(x: Array, w: Array, stride: int, padding: int) -> Array:
    size = [(length + 2 * padding - kernel) // stride + 1 for length, kernel in zip(x.shape[1:3], w.shape[:2])]
    y = xp.empty((x.shape[0], *size, w.shape[3]), x.dtype)
    _correlate(y, x, w, padding, padding, stride)
    return y


def _input_gradient(x: Array, w: Array, stride: int, padding: int, size: tuple[int, int]) -> Array:
    # The output's rows h s + i - p with the same remainder modulo s are reached by every s-th row i of the kernel only:
    # each such phase, in both directions, is a correlation of stride 1 with a part of the kernel, turned round.
    y = xp.zeros((x.shape[0], *size, w.shape[3]), x.dtype)
    for a in range(stride):
        for b in range(stride):
            part = w[a::stride, b::stride][::-1, ::-1]
            first_row, first_column = (a - padding) % stride, (b - padding) % stride
            phase = y[:, first_row::stride, first_column::stride]
            if part.size and phase.size:
                top = part.shape[0] - 1 - (first_row + padding) // stride
                left = part.shape[1] - 1 - (first_column + padding) // stride
                _correlate(phase, x, part, top, left, 1)
    return y


def _weight_gradient(x: Array, y: Array, stride: int, padding: int, kernel: tuple[int, int]) -> Array:
    w = xp.zeros((kernel[0] * kernel[1] * x.shape[3], y.shape[3]), x.dtype)
    for images, rows, patches in _patches(x, padding, padding, y.shape[1:3], kernel, stride):
        w += patches.T @ y[images, rows].reshape(-1, y.shape[3])
    return w.reshape(*kernel, x.shape[3], y.shape[3])


def _turn(w: Any) -> Any:
    """Input and output channels exchanged."""
    return w.transpose((0, 1, 3, 2))


_conv2d = Op(
    "conv2d(x, w, stride, padding) = y[n, h, w', :] = sum over i, j of x[n, h stride + i - padding, ...] w[i, j]",
    _output,
    lambda g, y, x, w, stride, padding: _conv_transpose2d(g, _turn(w), stride=stride, padding=padding, size=x.shape[1:3]),
    lambda g, y, x, w, stride, padding: _conv_weight(x, g, stride=stride, padding=padding, kernel=w.shape[:2]))

_conv_transpose2d = Op(
    "conv_transpose2d(x, w, stride, padding, size) = the gradient in the input, of height and width `size`, of a conv2d",
    _input_gradient,
    lambda g, y, x, w, stride, padding, size: _conv2d(g, _turn(w), stride=stride, padding=padding),
    lambda g, y, x, w, stride, padding, size: _turn(
        _conv_weight(g, x, stride=stride, padding=padding, kernel=w.shape[:2])))

_conv_weight = Op(
    "conv_weight(x, y, stride, padding, kernel) = the gradient in the weights, of height and width `kernel`, of a conv2d",
    _weight_gradient,
    lambda g, w, x, y, stride, padding, kernel: _conv_transpose2d(
        y, _turn(g), stride=stride, padding=padding, size=x.shape[1:3]),
    lambda g, w, x, y, stride, padding, kernel: _conv2d(x, g, stride=stride, padding=padding))


def conv2d(x: Any, w: Any, stride: int = 1, padding: int = 0) -> Any:
    """The cross-correlation that is called convolution: (N, H, W, in) with w (kernel height, kernel width, in, out).

    The output is (N, H', W', out), H' = (H + 2 padding - kernel height) // stride + 1 and W' likewise, of the dtype of x.
    ``ValueError`` if the shapes do not fit, or the kernel is larger than the padded image.
    """
    _check("conv2d", x, w, stride, padding)
    if any(length + 2 * padding < kernel for length, kernel in zip(x.shape[1:3], w.shape[:2])):
        raise ValueError(f"conv2d: a kernel of {w.shape[:2]} is larger than images of {x.shape[1:3]} with padding {padding}")
    return _conv2d(x, w, stride=stride, padding=padding)


def conv_transpose2d(x: Any, w: Any, stride: int = 1, padding: int = 0, output_padding: int = 0) -> Any:
    """The transposed convolution: (N, H, W, in) with w (kernel height, kernel width, in, out), the adjoint of ``conv2d``.

    The output is (N, H', W', out), H' = (H - 1) stride - 2 padding + kernel height + output_padding and W' likewise: of the
    ``stride`` sizes that a convolution takes to H, ``output_padding`` chooses one. ``ValueError`` if the shapes do not fit.
    """
    _check("conv_transpose2d", x, w, stride, padding)
    if not 0 <= output_padding < stride:
        raise ValueError(f"conv_transpose2d: an output_padding from 0 to {stride - 1} expected, {output_padding} found")
    size = tuple((length - 1) * stride - 2 * padding + kernel + output_padding
                 for length, kernel in zip(x.shape[1:3], w.shape[:2]))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: images of {x.shape[1:3]} would become images of {size}")
    return _conv_transpose2d(x, w, stride=stride, padding=padding, size=size)


def _check(name: str, x: Any, w: Any, stride: int, padding: int) -> None:
    if len(x.shape) != 4 or len(w.shape) != 4 or x.shape[3] != w.shape[2]:
        raise ValueError(f"{name}: x (N, H, W, in) and w (kernel height, kernel width, in, out) expected, "
                         f"{x.shape} and {w.shape} found")
    if stride < 1 or padding < 0:
        raise ValueError(f"{name}: a stride of at least 1 and a padding of at least 0 expected, {stride} and {padding} found")
