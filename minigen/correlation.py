"""Compute convolutions: multiply windows of an image by a kernel, one tile of pixels at a time.

A correlation computes each pixel of an output from the pixels of an input that it sees, each through one tap
of the kernel. Neighbours see much the same pixels, so a tile of them shares one window, which is copied once.
Pixels below each other take one product each, with the rows of the window that they see. Pixels side by side
are columns of the same product. For this the kernel is repeated once per pixel, at the place that the pixel
sees, with zeros around it. Tall tiles copy less. Wide tiles copy less too, but multiply by zeros, which pays
off with few channels. A plan says which pixels make up a tile.

Windows are copied block by block, so those of a whole batch are never in memory at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from minigen import backend, kernels, threads
from minigen.backend import Array, xp

Size = tuple[int, int]
Block = tuple[slice, slice]         # some images of a batch, and some rows of tiles

# Costs in multiplications (each with its addition), as timed on two cores with AVX-512:
_COPY = 20          # copying one number
_COLUMNS = 24       # a product with fewer columns costs as much as one with this many
_APART = 8          # extra for a number in a left factor whose rows are not adjacent in memory


class Axis(NamedTuple):
    """One direction of a plan: the output pixels that make up a tile, and the input pixels that they see.

    Tile t, one of ``tiles``, has the output pixels t * period + start + i for i < len(parts). Its window has
    the input pixels t * step + first + u for u < extent. ``parts[i]`` holds two slices: the u that pixel i
    sees, and the taps through which it sees them.
    """

    tiles: int
    period: int
    start: int
    step: int
    first: int
    extent: int
    parts: tuple[tuple[slice, slice], ...]


def _convolution(length: int, kernel: int, stride: int, padding: int, pixels: int) -> Axis:
    """A convolution's output of this length: pixel o sees pixel o stride - padding + k through tap k."""
    parts = tuple((slice(i * stride, i * stride + kernel), slice(None)) for i in range(pixels))
    extent = (pixels - 1) * stride + kernel
    return Axis(-(-length // pixels), pixels, 0, pixels * stride, -padding, extent, parts)


def _adjoint(length: int, kernel: int, stride: int, padding: int, pixels: range, period: int) -> Axis:
    """A convolution's input of this length: pixel o sees output q through tap o + padding - q stride."""
    seen = [(-((kernel - 1 - padding - i) // stride), (i + padding) // stride + 1) for i in pixels]
    first, last = seen[0][0], seen[-1][1]
    taps = [i + padding - start * stride for i, (start, _) in zip(pixels, seen)]        # of the first q seen
    parts = tuple((slice(start - first, stop - first), slice(tap, None, -stride) if tap >= 0 else slice(0))
                  for (start, stop), tap in zip(seen, taps))
    return Axis(-(-length // period), period, pixels.start, period // stride, first, last - first, parts)


class Plan(NamedTuple):
    """The tiles of a correlation, by rows and by columns."""

    rows: Axis
    columns: Axis

    def cost(self, channels: int, out: int) -> int:
        """The cost of an output with ``out`` channels, in multiplications per image."""
        seen = sum(rows.stop - rows.start for rows, _ in self.rows.parts)
        each = max(len(self.columns.parts) * out, _COLUMNS) + (_APART if len(self.rows.parts) > 1 else 0)
        per_tile: int = self.columns.extent * channels * (_COPY * self.rows.extent + seen * each)
        return self.rows.tiles * self.columns.tiles * per_tile

    def kernels(self, w: Array) -> list[Array]:
        """The right factor for each row of a tile: (seen rows * window columns * C, tile columns * out).

        The kernel ``w`` is (height, width, C, out).
        """
        height, _, channels, out = w.shape
        columns = len(self.columns.parts)
        if columns == 1:
            wide = w[:, self.columns.parts[0][1]]
        else:
            wide = xp.zeros((height, self.columns.extent, channels, columns, out), w.dtype)
            for j, (seen, taps) in enumerate(self.columns.parts):
                wide[:, seen, :, j] = w[:, taps]
        return [xp.ascontiguousarray(wide[taps]).reshape(-1, columns * out) for _, taps in self.rows.parts]

    def blocks(self, images: int, channels: int, out: int) -> list[Block]:
        """Cut the rows of tiles of all images into blocks whose windows fit into the cache."""
        window = self.rows.extent * self.columns.extent * channels
        # Blocks are larger for a large kernel, because the products of each block rearrange all of it.
        numbers = max(threads.block_numbers(), 2 * window * len(self.columns.parts) * out)
        per_row = max(1, self.columns.tiles * window)
        fitting = max(1, min(self.rows.tiles, numbers // per_row))
        rows = -(-self.rows.tiles // -(-self.rows.tiles // fitting))        # spread evenly over the blocks
        count = max(1, min(-(-images // threads.count()), numbers // (per_row * rows)))
        return [(slice(i, min(i + count, images)), slice(r, min(r + rows, self.rows.tiles)))
                for i in range(0, images, count) for r in range(0, self.rows.tiles, rows)]

    def windows(self, x: Array, block: Block) -> Iterator[Array]:
        """The left factor for each row of a tile: (tiles of the block, seen rows * window columns * C)."""
        (images, tiles), (rows, columns) = block, self
        count, height = images.stop - images.start, tiles.stop - tiles.start
        shape = (count, height, columns.tiles, rows.extent, columns.extent, x.shape[3])
        windows = threads.workspace("windows", shape, x.dtype)
        _gather(x[images], windows, (rows.step, tiles.start * rows.step + rows.first),
                (columns.step, columns.first))
        windows = windows.reshape(count * height * columns.tiles, rows.extent, columns.extent * x.shape[3])
        for seen, _ in rows.parts:
            yield windows[:, seen].reshape(len(windows), -1)


def _by_padding(x: Array, windows: Array, rows: tuple[int, int], columns: tuple[int, int]) -> None:
    (row_step, top), (column_step, left) = rows, columns
    count, height, width, *extent, channels = windows.shape
    down, across = (height - 1) * row_step + extent[0], (width - 1) * column_step + extent[1]
    padded = threads.workspace("padded", (count, down, across, channels), x.dtype)
    padded[...] = 0
    to_rows, from_rows = _overlap(top, down, x.shape[1])
    to_columns, from_columns = _overlap(left, across, x.shape[2])
    padded[:, to_rows, to_columns] = x[:, from_rows, from_columns]
    image, row, column, channel = padded.strides
    strides = (image, row_step * row, column_step * column, row, column, channel)
    windows[...] = xp.lib.stride_tricks.as_strided(padded, windows.shape, strides)


def _overlap(first: int, length: int, size: int) -> tuple[slice, slice]:
    """Where ``length`` pixels from ``first`` on and an image of ``size`` overlap: a slice of each."""
    start, stop = min(max(0, first), size), max(0, min(size, first + length))
    stop = max(start, stop)
    return slice(start - first, stop - first), slice(start, stop)


_gather = kernels.either(_by_padding, kernels.gather)


def convolution_plans(size: Size, kernel: Size, stride: int, padding: int) -> Iterator[list[Plan]]:
    """The ways to compute a convolution's output of this ``size``, each a list of plans."""
    rows, columns = ([_convolution(n, k, stride, padding, pixels) for pixels in _tile_sizes(stride)]
                     for n, k in zip(size, kernel))
    return ([Plan(*axes)] for axes in itertools.product(rows, columns))


def adjoint_plans(size: Size, kernel: Size, stride: int, padding: int) -> Iterator[list[Plan]]:
    """The ways to compute a convolution's input gradient of this ``size``, each a list of plans.

    Pixels side by side see the same taps if their places agree modulo the stride. Each such set of pixels may
    have its own plan, and so may those below each other.
    """
    periods = [stride * pixels for pixels in _tile_sizes(stride)]
    rows, columns = ([[_adjoint(n, k, stride, padding, range(period), period)] for period in periods]
                     for n, k in zip(size, kernel))

    def apart(axis: int) -> list[Axis]:
        return [_adjoint(size[axis], kernel[axis], stride, padding, range(j, j + 1), stride)
                for j in range(stride)]
    if not backend.on_host():
        rows, columns = [apart(0)], [apart(1)]
    elif stride > 1:
        columns.append(apart(1))
    return ([Plan(*axes) for axes in itertools.product(*ways)] for ways in itertools.product(rows, columns))


def _tile_sizes(stride: int) -> list[int]:
    """The sizes of tiles that span at most 4 pixels of the larger image, or ``stride`` if that is more.

    On a GPU a tile is one pixel: this takes the fewest kernels, and multiplies by no zeros.
    """
    if not backend.on_host():
        return [1]
    return [pixels for pixels in (1, 2, 4) if pixels == 1 or pixels * stride <= 4]


def _cheapest(ways: Iterable[list[Plan]], channels: int, out: int) -> list[Plan]:
    return min(ways, key=lambda plans: sum(plan.cost(channels, out) for plan in plans))


def correlate(x: Array, w: Array, bias: Array | None, plans: list[Plan], size: Size) -> Array:
    """The output ``(N, *size, out)`` of x (N, H, W, C) and w (height, width, C, out), plus ``bias`` (out,).

    Each plan computes its own pixels.
    """
    (rows, columns), out = plans[0], w.shape[3]
    y = xp.empty((len(x), rows.tiles, rows.period, columns.tiles, columns.period * out), x.dtype)
    jobs = []
    for plan in plans:
        start, wide = plan.columns.start * out, len(plan.columns.parts) * out
        target, kernels = y[..., start:start + wide], plan.kernels(w)
        if len(plans) == 1:     # whole rows, so that NumPy's inner loops are long
            target = target.reshape(*target.shape[:3], columns.tiles * wide)
        biases = None if bias is None else xp.tile(bias, target.shape[-1] // out)
        jobs += [(plan, block, kernels, biases, target) for block in plan.blocks(len(x), x.shape[3], out)]

    def work(job: tuple[Plan, Block, list[Array], Array | None, Array]) -> None:
        plan, block, kernels, biases, target = job
        for i, (windows, kernel) in enumerate(zip(plan.windows(x, block), kernels)):
            part = target[block][:, :, plan.rows.start + i]
            product = part if part.flags.c_contiguous else threads.workspace("product", part.shape, x.dtype)
            _multiply(windows, kernel, product.reshape(-1, kernel.shape[1]))
            if biases is not None:
                xp.add(product, biases, out=part)
            elif product is not part:
                part[...] = product
    threads.parallel(work, jobs)
    y = y.reshape(len(x), rows.tiles * rows.period, columns.tiles * columns.period, out)
    return y if y.shape[1:3] == size else xp.ascontiguousarray(y[:, :size[0], :size[1]])


def correlate_weights(x: Array, y: Array, plans: list[Plan], kernel: Size) -> Array:
    """The adjoint of ``correlate`` with respect to w: ``(*kernel, C, out)``.

    ``x`` is (N, H, W, C), ``y`` (N, H', W', out).
    """
    (rows, columns), channels, out = plans[0], x.shape[3], y.shape[3]
    whole = (len(x), rows.tiles * rows.period, columns.tiles * columns.period, out)
    if y.shape != whole:        # pad the last tiles with zeros
        filled = xp.zeros(whole, y.dtype)
        filled[:, :y.shape[1], :y.shape[2]] = y
        y = filled
    y = y.reshape(len(x), rows.tiles, rows.period, columns.tiles, columns.period * out)
    w, shares = xp.zeros((*kernel, channels, out), x.dtype), threads.count()
    for plan in plans:
        start, wide = plan.columns.start * out, len(plan.columns.parts) * out
        blocks, extent = plan.blocks(len(x), channels, out), plan.columns.extent
        sums = xp.zeros((shares, kernel[0], extent * channels, wide), x.dtype)

        def add_up(i: int) -> None:     # fixed blocks per thread, in order: the same sum every time
            for block in blocks[i * len(blocks) // shares:(i + 1) * len(blocks) // shares]:
                for row, ((_, taps), windows) in enumerate(zip(plan.rows.parts, plan.windows(x, block))):
                    part = y[block][:, :, plan.rows.start + row, :, start:start + wide].reshape(-1, wide)
                    total = sums[i, taps]
                    total += _multiply_transposed(windows, part).reshape(total.shape)
        threads.parallel(add_up, range(shares))
        total = xp.sum(sums, axis=0).reshape(kernel[0], extent, channels, len(plan.columns.parts), out)
        for j, (seen, taps) in enumerate(plan.columns.parts):
            w[:, taps] += total[:, seen, :, j]
    return w


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Write a @ b into ``out``; a has far more rows than b."""
    stacks = _stacks(len(a), b.size, at_least=4)
    if stacks > 1:      # CuPy would copy a stack that is not contiguous
        a, out = (c.reshape(stacks, -1, c.shape[1]) for c in (a, out))
    xp.matmul(a, b, out=out)


def _multiply_transposed(a: Array, b: Array) -> Array:
    """a.T @ b, where both factors have far more rows than columns."""
    size = a.shape[1] * b.shape[1]
    stacks = _stacks(len(a), size, at_least=64)
    if stacks == 1 or stacks * size > threads.block_numbers():
        return a.T @ b
    a, b = a.reshape(stacks, -1, a.shape[1]), b.reshape(stacks, -1, b.shape[1])
    return xp.sum(a.swapaxes(1, 2) @ b, axis=0)


def _stacks(rows: int, numbers: int, at_least: int) -> int:
    """How many products to stack for ``rows``; ``numbers`` is the size of the other factor or the result."""
    best = threads.gemm_rows(numbers)
    return rows // best if best >= at_least and rows % best == 0 else 1


def output(x: Array, w: Array, bias: Array | None = None, *, stride: int, padding: int) -> Array:
    """The convolution of x (N, H, W, C) with w (height, width, C, out), plus ``bias``: (N, H', W', out)."""
    size = tuple((n + 2 * padding - k) // stride + 1 for n, k in zip(x.shape[1:3], w.shape[:2]))
    plans = convolution_plans(size, w.shape[:2], stride, padding)
    return correlate(x, w, bias, _cheapest(plans, *w.shape[2:]), size)


def input_gradient(y: Array, w: Array, bias: Array | None = None, *, stride: int, padding: int,
                   size: Size) -> Array:
    """The adjoint of ``output`` with respect to x: ``(N, *size, C)``, plus ``bias``.

    ``y`` is (N, H', W', out), ``w`` (height, width, out, C).
    """
    plans = adjoint_plans(size, w.shape[:2], stride, padding)
    return correlate(y, w, bias, _cheapest(plans, *w.shape[2:]), size)


def weight_gradient(x: Array, y: Array, *, stride: int, padding: int, kernel: Size) -> Array:
    """The adjoint of ``output`` with respect to w: ``(*kernel, C, out)``.

    Windows are copied from whichever image has fewer channels.
    """
    channels, out = x.shape[3], y.shape[3]
    if channels <= out:
        plans = convolution_plans(y.shape[1:3], kernel, stride, padding)
        return correlate_weights(x, y, _cheapest(plans, channels, out), kernel)
    plans = adjoint_plans(x.shape[1:3], kernel, stride, padding)
    w = correlate_weights(y, x, _cheapest(plans, out, channels), kernel)
    return xp.ascontiguousarray(w.transpose((0, 1, 3, 2)))
