"""Convolution: three bilinear maps that are each other's partial derivatives, so that any order of derivative works.

    output          conv2d(x, w)            y[n, h, w', :] = sum over i, j of x[n, h s + i - p, w' s + j - p, :] w[i, j]
    input gradient  conv_transpose2d(y, w)  the adjoint of the first in x, and a layer of its own
    weight gradient conv_weight(x, y)       its adjoint in w

with stride s and padding p. Images are channels-last, (N, H, W, C), weights (kernel height, kernel width, in, out): a
convolution is then a matrix product of patches, of kernel height x kernel width x in numbers each, with the weights. The
patches of a whole batch are never in memory at once. Of several ways to copy and multiply, the one that should cost least is
taken.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Iterator
from functools import cache, reduce
from typing import Any, NamedTuple

from minigen import backend
from minigen.backend import Array, xp
from minigen.core import Op, column_sums

_Block = tuple[slice, slice]        # some images of a batch, and some of their rows
_memory = threading.local()
# What the ways to compute a convolution cost, in multiplications, each with its addition, as timed on two cores with AVX-512:
_COPY = 40      # copying a number
_NARROW = 16    # a number in the left factor of a matrix product, beside those with each column of the right one
_LEAST = 32     # but if the right one is small, only those with each column, and with so many at least
_TILES = [(rows, columns) for rows in (1, 2, 4) for columns in (1, 2, 4)]


def _workspace(name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """Memory of this thread, whatever is in it, until the same name is asked for again."""
    size, key = math.prod(shape), (name, xp.dtype(dtype), backend.name())
    known = _memory.__dict__.setdefault("arrays", {})
    if key not in known or known[key].size < size:
        known[key] = xp.empty(size, dtype)
    return known[key][:size].reshape(shape)


def _stack(a: Array, rows: int) -> Array:
    """(n, columns) as (n / rows, rows, columns)."""
    return a.reshape(-1, rows, a.shape[1])


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Write a b into ``out``; b has far fewer rows than a."""
    rows = _rows_at_once(len(a), b.size)
    if rows < len(a):
        xp.matmul(_stack(a, rows), b, out=_stack(out, rows))
    else:
        xp.matmul(a, b, out=out)        # CuPy would copy a stack that is not contiguous


def _add_product(total: Array, a: Array, b: Array) -> None:
    """Add the transpose of a, times b, to ``total``, which has far fewer rows than both."""
    rows = _rows_at_once(len(a), total.size)
    if rows < len(a) and len(a) // rows * total.size <= backend.block_numbers():
        total += xp.sum(_stack(a, rows).swapaxes(1, 2) @ _stack(b, rows), axis=0)
    else:
        total += a.T @ b


def _rows_at_once(n: int, numbers: int) -> int:
    """As many rows as ``backend.rows_at_once`` says, if n is a multiple of that, else all."""
    best = backend.rows_at_once(numbers)
    return best if best and n % best == 0 else n


class _Correlation(NamedTuple):
    """How images (N, H, W, C) and weights (kernel height, kernel width, C, out) make an output with so many rows and columns.

    ``top`` and ``left`` rows and columns of zeros precede an image, or, if negative, so many of its own are left out. ``stride``
    is that between rows, and that between columns.

    There are two ways. Patches: for each output pixel all that the kernel sees is copied and multiplied at once. Strips: for
    each row of the image only what a row of the kernel sees is copied, and multiplied with each row of the kernel that sees
    it, product after product. Strips copy less, but there are more products to add up.

    In either way a tile of several output pixels can be computed at once, as so many times the channels. What they see overlaps,
    and is copied once for all of them; but the kernel, which is then as large as what they see, is filled up with zeros.
    """

    kernel: tuple[int, int]
    rows: int
    columns: int
    top: int
    left: int
    stride: tuple[int, int]

    def by_tiles(self, tile: tuple[int, int]) -> _Correlation:
        """What computes so many rows and columns of pixels at once."""
        (height, width), (down, across), (a, b) = self.kernel, self.stride, tile
        return _Correlation((height + (a - 1) * down, width + (b - 1) * across), -(-self.rows // a), -(-self.columns // b),
                            self.top, self.left, (a * down, b * across))

    def places(self, tile: tuple[int, int]) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """For each pixel i, j of a tile, the place of what it sees in what the tile sees."""
        (height, width), (down, across) = self.kernel, self.stride
        for i in range(tile[0]):
            for j in range(tile[1]):
                yield i, j, (slice(i * down, i * down + height), slice(j * across, j * across + width))

    def tile(self, channels: int, out: int) -> tuple[int, int]:
        """The tile that should cost least."""
        return _cheapest(self, channels, out, backend.name())

    def by_strips(self, channels: int, out: int) -> bool:
        return self._per_pixel(channels, out, True) < self._per_pixel(channels, out, False)

    def _per_pixel(self, channels: int, out: int, strips: bool) -> int:
        height, width = self.kernel
        seen = width * channels if strips else height * width * channels
        # What strips add up is read and written again.
        copied = self.stride[0] * seen + 2 * (height - 1) * out if strips else seen
        each = max(out, _LEAST) if backend.rows_at_once(seen * out) else out + _NARROW
        return _COPY * copied + height * width * channels * each

    def cost(self, channels: int, out: int, tile: tuple[int, int]) -> int:
        """What the output for one image costs, in multiplications."""
        tiles, together = self.by_tiles(tile), math.prod(tile) * out
        cheaper = min(tiles._per_pixel(channels, together, strips) for strips in (False, True))
        return tiles.rows * tiles.columns * (cheaper + (_COPY * together if tile[0] > 1 else 0))

    def blocks(self, n: int, channels: int, out: int) -> list[_Block]:
        """The rows of n images in blocks for which the workspace is enough."""
        height, width = self.kernel
        copies = self.stride[0] * width * channels + 2 * out if self.by_strips(channels, out) else height * width * channels
        # For large weights more than the cache holds: each block's matrix product has to arrange all of them anew.
        numbers = max(backend.block_numbers(), 2 * height * width * channels * out)
        per_row = self.columns * copies
        rows = -(-self.rows // -(-self.rows // max(1, min(self.rows, numbers // per_row))))       # about as many in each block
        images = max(1, min(-(-n // backend.threads()), numbers // (per_row * rows)))
        return [(slice(i, min(i + images, n)), slice(r, min(r + rows, self.rows)))
                for i in range(0, n, images) for r in range(0, self.rows, rows)]

    def write(self, part: Array, block: _Block, x: Array, w: Array, bias: Array | None) -> None:
        """Write a block of the output into ``part`` (images, rows, columns, out)."""
        channels, out = w.shape[2:]
        if self.by_strips(channels, out):
            count, rows, columns, _ = part.shape
            total, product = (_workspace(name, (rows * count * columns, out), x.dtype) for name in ("total", "product"))
            for i, strips in enumerate(self.strips(x, block)):
                _multiply(strips, w[i].reshape(-1, out), product if i else total)
                if i:
                    total += product
            part[...] = total.reshape(rows, count, columns, out).transpose((1, 0, 2, 3))
        else:
            patches, flat = self.patches(x, block), w.reshape(-1, out)
            if part.flags.c_contiguous:
                _multiply(patches, flat, part.reshape(-1, out))
            else:
                product = _workspace("product", (len(patches), out), x.dtype)
                _multiply(patches, flat, product)
                part[...] = product.reshape(part.shape)
        if bias is not None:
            part += bias

    def add_weights(self, w: Array, x: Array, part: Array, block: _Block) -> None:
        """Add to the gradient w in the weights what comes of ``part``, a block of that in the output, (images, rows, ...)."""
        channels, out = w.shape[2:]
        if self.by_strips(channels, out):
            part = part.swapaxes(0, 1).reshape(-1, out)
            for i, strips in enumerate(self.strips(x, block)):
                _add_product(w[i].reshape(-1, out), strips, part)
        else:
            _add_product(w.reshape(-1, out), self.patches(x, block), part.reshape(-1, out))

    def patches(self, x: Array, block: _Block) -> Array:
        """(images * rows * columns, kernel height * kernel width * C), in the workspace.

        They are copied in the longest runs there are: along a row of the kernel, or, if C is small, along a row of the image.
        """
        (height, width), channels = self.kernel, x.shape[3]
        if width * channels < self.columns:
            return self._copied(x, block, "along rows").reshape(height * width * channels, -1).T
        return self._copied(x, block, "along kernels").reshape(-1, height * width * channels)

    def strips(self, x: Array, block: _Block) -> Iterator[Array]:
        """For each row of the kernel what it sees: (rows * images * columns, kernel width * C), in the workspace."""
        strips, rows, s = self._copied(x, block, "strips"), block[1].stop - block[1].start, self.stride[0]
        for i in range(self.kernel[0]):
            yield strips[i % s, i // s:i // s + rows].reshape(-1, self.kernel[1] * x.shape[3])

    def _copied(self, x: Array, block: _Block, way: str) -> Array:
        """What a block of the output sees of x, copied in one of the ways above, in the workspace."""
        images, rows = block
        sort = (self, way, x.shape[1:], x.dtype, images.stop - images.start, rows.start, rows.stop, backend.name())
        known = _memory.__dict__.get("known")
        if known is None or known[0] != sort:       # blocks alike follow one another: what they share is made once
            known = _memory.known = sort, self._views(x, block, way)
        seen, inside, windows, copies = known[1]
        inside[...] = x[images, seen[0], seen[1]]
        copies[...] = windows
        return copies

    def _views(self, x: Array, block: _Block, way: str) -> tuple[tuple[slice, slice], Array, Array, Array]:
        """The rows and columns of x that a block of the output sees; their place in the workspace, amid zeros; windows
        on it, one for each output pixel or strip; the place for the copies."""
        images, rows = block
        (height, width), channels, (s, t) = self.kernel, x.shape[3], self.stride
        count, per_image = images.stop - images.start, rows.stop - rows.start
        down, across = (per_image - 1) * s + height, (self.columns - 1) * t + width
        down += -down % s
        if way == "along rows":
            padded = _workspace("padded", (channels, count, down, across), x.dtype).transpose((1, 2, 3, 0))
        else:
            padded = _workspace("padded", (count, down, across, channels), x.dtype)
        padded[...] = 0
        top, left = self.top - rows.start * s, self.left
        vertical, horizontal = _inside(top, x.shape[1], down), _inside(left, x.shape[2], across)
        seen = (slice(vertical.start - top, vertical.stop - top), slice(horizontal.start - left, horizontal.stop - left))
        image, row, column, channel = padded.strides
        if way == "strips":
            shape = (s, down // s, count, self.columns, width, channels)
            windows = xp.lib.stride_tricks.as_strided(padded, shape, (row, s * row, image, t * column, column, channel))
        else:
            shape = (count, per_image, self.columns, height, width, channels)
            windows = xp.lib.stride_tricks.as_strided(padded, shape, (image, s * row, t * column, row, column, channel))
        if way == "along rows":
            windows = windows.transpose((3, 4, 5, 0, 1, 2))
        return seen, padded[:, vertical, horizontal], windows, _workspace("copies", windows.shape, x.dtype)


@cache
def _cheapest(correlation: _Correlation, channels: int, out: int, backend_name: str) -> tuple[int, int]:
    """The backend's name is there for the cache: what a product costs depends on it."""
    return min(_TILES, key=lambda tile: correlation.cost(channels, out, tile))


def _inside(before: int, length: int, span: int) -> slice:
    """Which of ``span`` places are taken by an axis of so much ``length`` that begins at place ``before``."""
    start = min(max(before, 0), span)
    return slice(start, max(min(before + length, span), start))


def _output(x: Array, w: Array, bias: Array | None = None, *, stride: int, padding: int) -> Array:
    size = tuple((length + 2 * padding - k) // stride + 1 for length, k in zip(x.shape[1:3], w.shape[:2]))
    correlation = _Correlation(w.shape[:2], *size, padding, padding, (stride, stride))
    return _correlate(correlation, x, w[:, :, :, None, None], bias, size)


def _correlate(correlation: _Correlation, x: Array, w: Array, bias: Array | None, size: tuple[int, int]) -> Array:
    """The output (N, *size, out) of weights (kernel height, kernel width, C, p, q, out), which make p x q pixels of one place."""
    n, (channels, p, q, out) = len(x), w.shape[2:]
    tile = correlation.tile(channels, p * q * out)
    tiles, a, b = correlation.by_tiles(tile), tile[0] * p, tile[1] * q
    if tile == (1, 1):
        parts = xp.ascontiguousarray(w)
    else:
        parts = xp.zeros((*tiles.kernel, channels, a, b, out), x.dtype)
        for i, j, place in correlation.places(tile):
            parts[place][..., i * p:(i + 1) * p, j * q:(j + 1) * q, :] = w
    parts, biases = parts.reshape(*tiles.kernel, channels, a * b * out), None if bias is None else xp.tile(bias, a * b)
    y = xp.empty((n, tiles.rows, a, tiles.columns, b * out), x.dtype)

    def write(block: _Block) -> None:
        part = y[block]
        if a == 1:
            tiles.write(part[:, :, 0], block, x, parts, biases)
        else:
            squares = _workspace("squares", (*part.shape[:2], tiles.columns, a * b * out), x.dtype)
            tiles.write(squares, block, x, parts, biases)
            part[...] = squares.reshape(*part.shape[:2], tiles.columns, a, b * out).transpose((0, 1, 3, 2, 4))
    backend.parallel(write, tiles.blocks(n, channels, a * b * out))
    y = y.reshape(n, tiles.rows * a, tiles.columns * b, out)
    return y if y.shape[1:3] == size else xp.ascontiguousarray(y[:, :size[0], :size[1]])


def _input_gradient(x: Array, w: Array, bias: Array | None = None, *, stride: int, padding: int, size: tuple[int, int]) -> Array:
    height, width, channels, out = w.shape
    if stride == 1 and height == width > padding:
        return _output(x, w[::-1, ::-1], bias, stride=1, padding=height - 1 - padding)
    # The output's rows h s + i - p with the same remainder modulo s are reached by every s-th row i of the kernel only:
    # each such phase, in both directions, is a correlation of stride 1 with a part of the kernel, turned round.
    phases = []
    for a in range(stride):
        for b in range(stride):
            part, first = w[a::stride, b::stride][::-1, ::-1], ((a - padding) % stride, (b - padding) % stride)
            rows, columns = (-(-(length - start) // stride) for length, start in zip(size, first))
            top, left = (k - 1 - (start + padding) // stride for k, start in zip(part.shape, first))
            phases.append((first, part, _Correlation(part.shape[:2], rows, columns, top, left, (1, 1))))
    # All phases at once are one correlation with s x s times the channels: fewer patches, but parts are filled up with zeros.
    top, left = max(c.top for *_, c in phases), max(c.left for *_, c in phases)
    height, width = max(top - c.top + k.shape[0] for _, k, c in phases), max(left - c.left + k.shape[1] for _, k, c in phases)
    apart = sum(c.cost(channels, out, (1, 1)) for _, part, c in phases if part.size)
    together = stride ** 2 * out
    whole = _Correlation((height, width), -(-size[0] // stride), -(-size[1] // stride), top, left, (1, 1))
    if whole.cost(channels, together, whole.tile(channels, together)) + _COPY * math.prod(size) * out < apart:
        parts = xp.zeros((height, width, channels, stride, stride, out), x.dtype)
        for (a, b), part, c in phases:
            row, column = top - c.top, left - c.left
            parts[row:row + part.shape[0], column:column + part.shape[1], :, a, b] = part
        return _correlate(whole, x, parts, bias, size)
    y, jobs = xp.empty((len(x), *size, out), x.dtype), []
    for (a, b), part, correlation in phases:
        phase = y[:, a::stride, b::stride]
        if not part.size:
            phase[...] = 0 if bias is None else bias
        elif phase.size:
            part = xp.ascontiguousarray(part)
            jobs += [(correlation, phase, block, part) for block in correlation.blocks(len(x), channels, out)]
    backend.parallel(lambda job: job[0].write(job[1][job[2]], job[2], x, job[3], bias), jobs)
    return y


def _weight_gradient(x: Array, y: Array, stride: int, padding: int, kernel: tuple[int, int]) -> Array:
    (n, rows, columns, out), channels, (height, width) = y.shape, x.shape[3], kernel
    if stride == 1 and out < channels and height == width > padding:
        # In place of the patches of x, the smaller ones of y: their product with x is the gradient, turned round.
        w = _weight_gradient(y, x, 1, height - 1 - padding, kernel)
        return xp.ascontiguousarray(_turn(w[::-1, ::-1]))
    correlation = _Correlation(kernel, rows, columns, padding, padding, (stride, stride))
    a, b = tile = correlation.tile(channels, out)
    tiles = correlation.by_tiles(tile)
    if (tiles.rows * a, tiles.columns * b) != (rows, columns):      # zeros fill the last tiles up
        whole = xp.zeros((n, tiles.rows * a, tiles.columns * b, out), y.dtype)
        whole[:, :rows, :columns] = y
        y = whole
    y = y.reshape(n, tiles.rows, a, tiles.columns, b * out).transpose((0, 1, 3, 2, 4))
    blocks = tiles.blocks(n, channels, a * b * out)
    shares = backend.threads()          # each adds up its own blocks in their order: the same sum every time
    sums = xp.zeros((shares, *tiles.kernel, channels, a * b * out), x.dtype)

    def add_up(i: int) -> None:
        for block in blocks[i * len(blocks) // shares:(i + 1) * len(blocks) // shares]:
            tiles.add_weights(sums[i], x, y[block], block)
    backend.parallel(add_up, range(shares))
    parts = xp.sum(sums, axis=0).reshape(*tiles.kernel, channels, a, b, out)
    return reduce(operator.add, (parts[place][..., i, j, :] for i, j, place in correlation.places(tile)))


def _turn(w: Any) -> Any:
    """Input and output channels exchanged."""
    return w.transpose((0, 1, 3, 2))


_conv2d = Op(
    "conv2d(x, w, bias, stride, padding) = y[n, h, w', :] = bias + sum over i, j of x[n, h stride + i - padding, ...] w[i, j]",
    _output,
    lambda g, y, x, w, *bias, stride, padding: _conv_transpose2d(g, _turn(w), stride=stride, padding=padding, size=x.shape[1:3]),
    lambda g, y, x, w, *bias, stride, padding: _conv_weight(x, g, stride=stride, padding=padding, kernel=w.shape[:2]),
    lambda g, *_, stride, padding: column_sums(g))

_conv_transpose2d = Op(
    "conv_transpose2d(x, w, bias, stride, padding, size) = bias + the gradient in the input, of this size, of a conv2d",
    _input_gradient,
    lambda g, y, x, w, *bias, stride, padding, size: _conv2d(g, _turn(w), stride=stride, padding=padding),
    lambda g, y, x, w, *bias, stride, padding, size: _turn(
        _conv_weight(g, x, stride=stride, padding=padding, kernel=w.shape[:2])),
    lambda g, *_, stride, padding, size: column_sums(g))

_conv_weight = Op(
    "conv_weight(x, y, stride, padding, kernel) = the gradient in the weights, of height and width `kernel`, of a conv2d",
    _weight_gradient,
    lambda g, w, x, y, stride, padding, kernel: _conv_transpose2d(
        y, _turn(g), stride=stride, padding=padding, size=x.shape[1:3]),
    lambda g, w, x, y, stride, padding, kernel: _conv2d(x, g, stride=stride, padding=padding))


def conv2d(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0) -> Any:
    """The cross-correlation that is called convolution: x (N, H, W, in), w (kernel height, kernel width, in, out), bias (out,).

    The output is (N, H', W', out), H' = (H + 2 padding - kernel height) // stride + 1 and W' likewise, of the dtype of x.
    ``ValueError`` if the shapes do not fit, or the kernel is larger than the padded image.
    """
    _check("conv2d", x, w, bias, stride, padding)
    if any(length + 2 * padding < kernel for length, kernel in zip(x.shape[1:3], w.shape[:2])):
        raise ValueError(f"conv2d: a kernel of {w.shape[:2]} is larger than images of {x.shape[1:3]} with padding {padding}")
    return _conv2d(x, w, *(() if bias is None else (bias,)), stride=stride, padding=padding)


def conv_transpose2d(x: Any, w: Any, bias: Any = None, stride: int = 1, padding: int = 0, output_padding: int = 0) -> Any:
    """The transposed convolution: (N, H, W, in) with w (kernel height, kernel width, in, out), plus bias (out,).

    Without the bias it is the adjoint of ``conv2d``. The output is (N, H', W', out), H' = (H - 1) stride - 2 padding + kernel
    height + output_padding and W' likewise: of the ``stride`` sizes that a convolution takes to H, ``output_padding`` chooses
    one. ``ValueError`` if the shapes do not fit.
    """
    _check("conv_transpose2d", x, w, bias, stride, padding)
    if not 0 <= output_padding < stride:
        raise ValueError(f"conv_transpose2d: an output_padding from 0 to {stride - 1} expected, {output_padding} found")
    size = tuple((length - 1) * stride - 2 * padding + kernel + output_padding
                 for length, kernel in zip(x.shape[1:3], w.shape[:2]))
    if min(size) < 1:
        raise ValueError(f"conv_transpose2d: images of {x.shape[1:3]} would become images of {size}")
    return _conv_transpose2d(x, w, *(() if bias is None else (bias,)), stride=stride, padding=padding, size=size)


def _check(name: str, x: Any, w: Any, bias: Any, stride: int, padding: int) -> None:
    if len(x.shape) != 4 or len(w.shape) != 4 or x.shape[3] != w.shape[2] or 0 in w.shape:
        raise ValueError(f"{name}: x (N, H, W, in) and w (kernel height, kernel width, in, out), without a 0, expected, "
                         f"{x.shape} and {w.shape} found")
    if bias is not None and bias.shape != w.shape[3:]:
        raise ValueError(f"{name}: a bias of shape {w.shape[3:]} expected, {bias.shape} found")
    if stride < 1 or padding < 0:
        raise ValueError(f"{name}: a stride of at least 1 and a padding of at least 0 expected, {stride} and {padding} found")
