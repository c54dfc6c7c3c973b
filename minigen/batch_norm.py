"""Batch normalisation of each channel (the last axis) by its mean and variance over all other axes.

Sums over a large array are computed block by block. A recorded gradient consists of the same few ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from minigen import checks, ranks, threads
from minigen.backend import Array, xp
from minigen.core import Op, Tensor, all_mean, column_sums
from minigen.kernels import concatenate, either, fused
from minigen.tensor import Value

_ROW_NUMBERS = 1 << 12      # this many fit into the first-level cache, with their sums


def _in_row_blocks(work: Callable[..., Array], *arrays: Array) -> Array:
    """The results of ``work`` for blocks of rows of the arrays, stacked: (blocks, ..., channels).

    Each array is (..., channels). ``work`` returns one or several numbers per channel.
    """
    columns, count = arrays[0].shape[-1], math.prod(arrays[0].shape[:-1])
    times = threads.fold_rows(columns, count, _ROW_NUMBERS)
    rows = [a.reshape(count // times, times * columns) for a in arrays]
    blocks = threads.row_blocks(rows[0].shape)
    results: list[Any] = [None] * len(blocks)

    def one(i: int) -> None:
        results[i] = work(*[a[blocks[i]] for a in rows])
    threads.parallel(one, range(len(blocks)))
    found = xp.stack(results)       # (blocks, ..., times * channels)
    found = xp.moveaxis(found.reshape(*found.shape[:-1], times, columns), -2, 1)
    return found.reshape(len(found) * times, *found.shape[2:])


def _block_moments(x: Array) -> Array:
    mean = column_sums(x) / len(x)
    distance = x - mean
    return xp.stack([xp.full_like(mean, len(x)), mean, xp.einsum("ij,ij->j", distance, distance)])


def _mean_and_variance(x: Array) -> Array:
    # Combines the moments of blocks (Chan et al., 1983): two passes over each block while it is in the cache.
    sizes, means, sums = xp.moveaxis(_in_row_blocks(_block_moments, x), 1, 0)
    n = math.prod(x.shape[:-1])
    mean = xp.sum(sizes * means, axis=0) / n
    return xp.stack([mean, (xp.sum(sums, axis=0) + xp.sum(sizes * (means - mean) ** 2, axis=0)) / n])


def _block_sums(g: Array, x: Array) -> Array:
    return xp.stack([column_sums(g), xp.einsum("ij,ij->j", g, x)])


@fused
def _squares(x: Array, mean: Array, share: float) -> Array:
    return xp.sum(xp.square(x - mean) * share, axis=0)


@fused
def _products(g: Array, x: Array) -> Array:
    return xp.sum(g * x, axis=0)


def _both(*arrays: Array) -> Array:
    return concatenate(arrays).reshape(2, -1)


def _moments_by_kernels(x: Array) -> Array:
    rows = x.reshape(-1, x.shape[-1])
    mean = xp.mean(rows, axis=0)
    return _both(mean, _squares(rows, mean, 1 / len(rows)))


def _sums_by_kernels(g: Array, x: Array) -> Array:
    g, x = (a.reshape(-1, a.shape[-1]) for a in (g, x))
    return _both(xp.sum(g, axis=0), _products(g, x))


moments = Op("moments(x) = mean and variance of each channel of x (..., channels), as (2, channels)",
             either(_mean_and_variance, _moments_by_kernels),
             lambda g, y, x: (g[0] + 2 * g[1] * (x - y[0])) / math.prod(x.shape[:-1]))


def _all_moments(x: Any) -> tuple[Any, Any]:
    """Mean and variance of each channel of the whole batch, of which x is this rank's share."""
    mean, var = moments(x)
    if ranks.sharers() == 1:
        return mean, var
    whole = all_mean(mean)
    return whole, all_mean(var + (mean - whole) ** 2)


_channel_sums = Op("channel_sums(g, x) = the sums of g and of g x for each channel, as (2, channels)",
                   either(lambda g, x: xp.sum(_in_row_blocks(_block_sums, g, x), axis=0), _sums_by_kernels),
                   lambda h, y, g, x: h[0] + h[1] * x,
                   lambda h, y, g, x: h[1] * g)


@threads.elementwise
def _affine(x: Any, scale: Any, shift: Any, out: Any = None) -> Any:
    y = xp.multiply(x, scale, out=out)
    y += shift
    return y


@threads.elementwise
def _centred(x: Any, mean: Any, out: Any = None) -> Any:
    return x - mean if out is None else xp.subtract(x, mean, out=out)


@threads.elementwise
def _corrected(distance: Any, g: Any, slope: Any, shift: Any, scale: Any, out: Any = None) -> Any:
    y = distance * slope if out is None else xp.multiply(distance, slope, out=out)
    y += shift
    y += g
    y *= scale
    return y


def _by_vectors(distance: Any, g: Any, sums: Any, weight: Any, var: Any, eps: float, n: int) -> Any:
    rate, means = (var + eps) ** -0.5, sums / n
    return _corrected(distance, g, -rate * rate * means[1], -means[0], weight * rate, overwrite=True)


@fused
def _in_one_kernel(distance: Any, g: Any, total: Any, product: Any, weight: Any, var: Any, eps: float,
                   n: int) -> Any:
    return (g - total / n - distance * (product / n / (var + eps))) * (weight * (var + eps) ** -0.5)


_input_gradient = either(_by_vectors, lambda distance, g, sums, *others: _in_one_kernel(
    distance, g, sums[0], sums[1], *others))


@fused
def _weight_gradient(product: Any, var: Any, eps: float) -> Any:
    return product * (var + eps) ** -0.5


def _batch_norm_gradients(wanted: Sequence[bool], g: Any, y: Any, x: Any, weight: Any, bias: Any,
                          stats: Array, eps: float) -> list[Any]:
    mean, var = _all_moments(x) if type(x) is Tensor else stats     # in a recorded gradient they depend on x
    distance = _centred(x, mean)
    sums = _channel_sums(g, distance)
    dx = None
    if wanted[0]:
        of_all = sums if ranks.sharers() == 1 else all_mean(sums)
        dx = _input_gradient(distance, g, of_all, weight, var, eps, math.prod(x.shape[:-1]))
    return [dx, _weight_gradient(sums[1], var, eps), sums[0], None]


def _by_scale(x: Array, weight: Array, bias: Array, stats: Array, eps: float) -> Array:
    # Not centring x first saves a pass. The error, about |x| times machine epsilon, is as large as that from
    # rounding x.
    scale = weight / xp.sqrt(stats[1] + eps)
    return _affine(x, scale, bias - stats[0] * scale)


@fused
def _scaled(x: Array, mean: Array, var: Array, weight: Array, bias: Array, eps: float) -> Array:
    return (x - mean) * (weight / xp.sqrt(var + eps)) + bias


_normalised = either(_by_scale, lambda x, weight, bias, stats, eps: _scaled(
    x, stats[0], stats[1], weight, bias, eps))

_batch_norm = Op("batch_norm(x, weight, bias, stats, eps) = weight (x - mean) / sqrt(variance + eps) + bias, "
                 "with moments(x) as stats",
                 _normalised,
                 joint=_batch_norm_gradients)


def check_channels(owner: str, x: Any, weight: Any, bias: Any) -> None:
    """``x`` must be (..., channels), and ``weight`` and ``bias`` (channels,), all of one dtype."""
    checks.floats(owner, x=x, weight=weight, bias=bias)
    if not x.shape[-1:] == weight.shape == bias.shape != ():
        raise ValueError(f"{owner}: x (..., channels), weight (channels,) and bias (channels,) expected, "
                         f"{x.shape}, {weight.shape} and {bias.shape} found")


def batch_norm(x: Value, weight: Any, bias: Any, eps: float) -> tuple[Value, Array]:
    """Normalise each channel of x (..., channels): weight (x - mean) / sqrt(variance + eps) + bias.

    ``weight`` and ``bias`` are (channels,). The raw ``moments`` of x are returned as well. ``ValueError`` if
    the shapes do not fit.
    """
    check_channels("batch_norm", x, weight, bias)
    raw = x.data if type(x) is Tensor else x
    stats = moments(raw) if ranks.sharers() == 1 else xp.stack(_all_moments(raw))
    return _batch_norm(x, weight, bias, stats, eps=eps), stats
