"""All pictures: grids of images, and plots. Only this module draws; it uses matplotlib without its global
state, and without the settings that a user may have made there."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy
from matplotlib import colormaps, rc_context, rcParamsDefault
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from minigen import checks
from minigen.backend import to_host

# Okabe and Ito's colours, which colour-blind readers can tell apart: one per model, by its title.
COLOURS = {"GAN": "#D55E00", "WGAN": "#0072B2", "VAE": "#CC79A7", "VAE-GAN": "#009E73",
           "constrained VAE-GAN": "#E69F00"}
_CEILING = "#777777"
_MARKERS = "osD^vPX*"
_ROUNDING = 1e-4        # by which images may leave [0, 1]

# A figure is the same whatever a matplotlibrc says, and needs no LaTeX that it asks for.
_standard = rc_context({name: value for name, value in rcParamsDefault.items() if name != "backend"})

Target = str | os.PathLike[str]                         # the file to write
Curve = tuple[Sequence[int], Sequence[float]]           # iterations and values


def tile(images: Any, columns: int | None = None, shape: Sequence[int] | None = None) -> numpy.ndarray:
    """One picture (height, width[, 3]) of the images in rows, left to right, with a white line between them.

    ``images`` are floats in [0, 1] or uint8: (N, H, W, C) or (N, H, W), in colour (C = 3) or grey, or rows of
    pixels (N, pixels). These have the ``shape`` (H, W, C) or (H, W), as a data set's ``image_shape``; without
    it they are square and grey. Without ``columns`` the grid is about square. ``ValueError`` if the images
    are none of these.
    """
    images = _in_unit_range(_shaped(to_host(images), shape))
    n, height, width, channels = images.shape
    if columns is None:
        columns = max(1, math.ceil(math.sqrt(n)))
    columns = checks.whole("tile", "columns", columns)
    rows = math.ceil(n / columns)
    picture = numpy.ones((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), images.dtype)
    for i, image in enumerate(images):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        picture[top:top + height, left:left + width] = image
    return picture.squeeze(2) if channels == 1 else picture


def _shaped(images: numpy.ndarray, shape: Sequence[int] | None) -> numpy.ndarray:
    """The images as (N, height, width, channels)."""
    if shape is None and images.ndim == 2:
        shape = (math.isqrt(images.shape[1]),) * 2
        if math.prod(shape) != images.shape[1]:
            raise ValueError(f"tile: rows of {images.shape[1]} pixels are no square images: give their shape "
                             "(height, width, channels)")
    if shape is None and images.ndim == 3 and images.shape[2] in (1, 3):
        raise ValueError(f"tile: images (N, height, width, channels) expected, {images.shape} found: give "
                         "one image as images[None], or narrow ones with their shape (height, width)")
    if shape is not None:
        shape = checks.sizes("tile", "shape", shape, fewest=2)
        fits = (images.shape[1:] == (math.prod(shape),) if images.ndim == 2
                else (*images.shape[1:], 1)[:3] == (*shape, 1)[:3])
        if not fits:
            raise ValueError(f"tile: images of shape {shape} expected, {images.shape[1:]} found")
        images = images.reshape(len(images), *shape)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError("tile: images (N, height, width, channels) with 1 or 3 channels expected, "
                         f"{images.shape} found")
    return images


def _in_unit_range(images: numpy.ndarray) -> numpy.ndarray:
    if images.dtype == numpy.uint8:
        return images / numpy.float32(255)
    if images.dtype.kind != "f":
        raise ValueError(f"tile: floats in [0, 1] or uint8 expected, {images.dtype} found")
    low, high = images.min(initial=0), images.max(initial=1)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):       # NaN is neither
        values = "NaN" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
        raise ValueError(f"tile: images in [0, 1] expected, {values} found")
    return images


def save_grid(path: Target, images: Any, columns: int | None = None,
              shape: Sequence[int] | None = None) -> None:
    """Write ``tile(images, columns, shape)`` as a PNG, without scaling."""
    imsave(path, numpy.clip(tile(images, columns, shape), 0, 1), cmap="gray", vmin=0, vmax=1, format="png",
           origin="upper")


@_standard
def sample_grids(path: Target, rows: Mapping[str, Sequence[tuple[int, Path]]], title: str) -> None:
    """The paper's Figure 2: a row of saved sample grids per model, each titled with its iteration."""
    columns = max(map(len, rows.values()))
    figure = _titled(2.6 * columns + 0.5, 2.85 * len(rows) + 0.5, title)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, grids) in zip(axes, rows.items()):
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, (iteration, grid) in zip(row, grids):
            ax.imshow(imread(grid), interpolation="nearest")
            ax.set_title(f"iteration {iteration:,}", fontsize=11)
        row[0].set_ylabel(name, fontsize=14, color=_colour(name, rows), fontweight="bold")
    figure.savefig(path)


@_standard
def entropy_curves(path: Target, curves: Mapping[str, Curve], title: str, *, classes: int) -> None:
    """The paper's Figure 3: the mode entropy, at most log ``classes``, against training iterations, a line
    per model."""
    figure = Figure(figsize=(7.5, 4.2), dpi=110, layout="constrained")
    ax = figure.subplots()
    ceiling = math.log(classes)
    ax.axhline(ceiling, color=_CEILING, linestyle="--", linewidth=1)
    ax.annotate(f"log {classes}: all {classes} classes equally often", (1, ceiling), (-4, 4),
                xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", color=_CEILING)
    for name, (iterations, entropies) in curves.items():
        ax.plot(iterations, entropies, label=name, color=_colour(name, curves), linewidth=1.8, marker="o",
                markersize=3)
    ax.set(title=title, xlabel="training iterations", ylabel="mode entropy (nats)",
           ylim=(-0.025 * ceiling, 1.13 * ceiling), xlim=(0, None))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.legend(loc="best", framealpha=0.9, edgecolor="none")
    figure.savefig(path)


@_standard
def image_rows(path: Target, rows: Mapping[str, Any], labels: Mapping[str, Sequence[Any]] | None = None, *,
               title: str) -> None:
    """The paper's Figure 4: a strip of images per model, ten to a line, with labels under at most ten of
    them."""
    strips = {name: tile(images, columns=10) for name, images in rows.items()}
    heights = [strip.shape[0] for strip in strips.values()]
    width = max(strip.shape[1] for strip in strips.values())
    height = 0.6 + 7 * sum(heights) / width + (0.32 if labels else 0.1) * len(rows)
    figure = _titled(8.4, height, title)
    axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (name, strip) in zip(axes, strips.items()):
        _image(ax, strip)
        ax.set_xlim(-0.5, width - 0.5)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12, fontweight="bold",
                      color=_colour(name, rows))
        side = (strip.shape[1] - 1) / 10
        for i, label in enumerate(labels[name] if labels else ()):
            ax.text((i + 0.5) * side, strip.shape[0], str(label), ha="center", va="top", fontsize=12)
    figure.draw_without_rendering()     # once more: how far names stick out depends on the layout before
    figure.savefig(path)


@_standard
def image_entropies(path: Target, entropies: Mapping[str, Any], title: str, *, classes: int) -> None:
    """The paper's Figure 5: the image entropies of ten images per model, and their distribution over all its
    images, up to log ``classes``."""
    figure = _titled(10, 4.2, title)
    few, all_ = figure.subplots(1, 2)
    for marker, (name, values) in zip(cycle(_MARKERS), entropies.items()):
        colour = _colour(name, entropies)
        few.plot(range(1, 11), values[:10], label=name, color=colour, marker=marker, linewidth=1.2)
        all_.ecdf(values, label=f"{name}: mean {numpy.mean(values):.2f}", color=colour, linewidth=2)
    few.set(title="the ten images of Figure 4", xlabel="image", ylabel="image entropy (nats)",
            xticks=range(1, 11))
    all_.set(title=f"all {len(values):,} images", xlabel="image entropy (nats)", xlim=(0, math.log(classes)),
             ylim=(0, 1.02), ylabel="share of images up to this entropy")
    all_.legend(loc="best", frameon=False)
    for ax in (few, all_):
        _plain(ax)
    figure.savefig(path)


@_standard
def grids(path: Target, panels: Mapping[str, Any], title: str) -> None:
    """The paper's Figure 7: a grid of images per model, side by side."""
    figure = _titled(4 * len(panels), 4.6, title)
    for ax, (name, images) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        _image(ax, tile(images))
        ax.set_title(name, fontsize=13, color=_colour(name, panels), fontweight="bold")
    figure.savefig(path)


@_standard
def training_curves(path: Target, panels: Mapping[str, Mapping[str, Curve]], title: str) -> None:
    """A panel per measure, which shows it during training: a line (iterations, values) per model."""
    figure = _titled(11, 6.2, title)
    axes = figure.subplots(min(2, len(panels)), math.ceil(len(panels) / 2), squeeze=False).ravel()
    for ax, (measure, lines) in zip(axes, panels.items()):
        for name, (iterations, values) in lines.items():
            ax.plot(iterations, values, label=name, color=_colour(name, lines), linewidth=1.6, markersize=4,
                    marker="o" if len(values) < 20 else None)
        ax.set(title=measure, xlabel="training iterations", ylim=(0, None))
        ax.xaxis.set_major_formatter("{x:,.0f}")
        _plain(ax)
    for ax in axes[len(panels):]:
        ax.set_visible(False)
    _legend_below(figure, axes[0], len(COLOURS))
    figure.savefig(path)


@_standard
def entropy_histogram(path: Target, entropies: Mapping[str, Any], title: str, *, classes: int) -> None:
    """The paper's Figure 8: a histogram of image entropies, up to log ``classes``; ``entropies`` has (runs,
    images) per model.

    The line is the mean over the runs; the band reaches from their minimum to their maximum.
    """
    figure = Figure(figsize=(7.5, 4.4), dpi=110, layout="constrained")
    ax = figure.subplots()
    edges = numpy.arange(0, math.log(classes) + 0.05, 0.05)
    for name, runs in entropies.items():
        counts = numpy.array([numpy.histogram(run, edges)[0] for run in runs])
        colour = _colour(name, entropies)
        ax.stairs(counts.max(axis=0), edges, baseline=counts.min(axis=0), fill=True, color=colour, alpha=0.3)
        ax.stairs(counts.mean(axis=0), edges, label=name, color=colour, linewidth=2)
    ax.set(title=title, xlabel="image entropy (nats)", ylabel="images per 0.05 nats", yscale="log",
           xlim=(0, edges[-1]))
    ax.yaxis.set_major_formatter("{x:,g}")
    _plain(ax)
    ax.legend(frameon=False)
    figure.savefig(path)


@_standard
def constraint_sweep(path: Target, panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
                     names: Sequence[str], title: str) -> None:
    """Measures against settings with these names; ``panels[measure][line][i]`` has one value for each run
    with ``names[i]``."""
    figure = _titled(3.7 * len(panels), 3.8, title)
    places = numpy.arange(len(names))
    for ax, (measure, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for i, (marker, (name, values)) in enumerate(zip(cycle(_MARKERS), lines.items())):
            style = {"color": colormaps["viridis"](0.8 * i / max(1, len(lines) - 1)), "marker": marker}
            x = places + 0.12 * (i - (len(lines) - 1) / 2)
            for at, runs in zip(x, values):
                ax.plot([at] * len(runs), runs, markersize=4, linestyle="none", alpha=0.4, **style)
            ax.plot(x, [numpy.mean(runs) for runs in values], markersize=7, label=name, **style)
        ax.set(title=measure, xticks=places, xticklabels=names)
        _plain(ax)
    _legend_below(figure, figure.axes[0], len(lines))
    figure.savefig(path)


@_standard
def manifold(path: Target, xs: Any, ys: Any, l_gan: Any, squared_error: Any, curve: Any,
             points: Mapping[str, tuple[Any, str]], d: float, title: str) -> None:
    """The paper's Figure 6 (b): a discriminator's L_GAN as shades, the squared error to an image as rings,
    and the bound d as a line.

    ``l_gan`` and ``squared_error`` (len(ys), len(xs)) are given on a grid; ``curve`` (N, 2) is the centre of
    the data. ``points`` gives the place and the meaning of three points; the right panel shows their
    surroundings.
    """
    figure = _titled(11, 5.2, title)
    places = numpy.array([place for place, _ in points.values()])
    centre, half = places.mean(axis=0), 1.5 * numpy.ptp(places, axis=0).max()
    whole, near = figure.subplots(1, 2)
    for ax, levels in ((whole, [1, 4, 9, 16, 25]), (near, [0.1, 0.4, 0.9, 1.6, 2.5])):
        shades = ax.contourf(xs, ys, l_gan, levels=numpy.arange(0, 8.5, 0.5), cmap="Blues", extend="max")
        rings = ax.contour(xs, ys, squared_error, levels=levels, colors="#555555", linewidths=0.9,
                           linestyles="dashed")
        ax.clabel(rings, fontsize=8)
        ax.plot(*numpy.asarray(curve).T, color="black", linewidth=2.5, label="centre of the data")
        ax.contour(xs, ys, l_gan, levels=[d], colors=COLOURS["constrained VAE-GAN"], linewidths=2.5)
        ax.plot([], color=COLOURS["constrained VAE-GAN"], linewidth=2.5, label=f"$L_{{GAN}}$ = d = {d:.2f}")
        ax.plot([], color="#555555", linewidth=0.9, linestyle="dashed", label="squared error to x")
        colours = ("black", COLOURS["constrained VAE-GAN"], COLOURS["VAE-GAN"])
        for (name, (place, meaning)), colour in zip(points.items(), colours):
            ax.plot(*place, marker="o", markersize=5 if ax is whole else 10, color=colour,
                    markeredgecolor="white", linestyle="none", label=f"{name}: {meaning}")
            if ax is near:
                ax.annotate(name, place, (9, 5), textcoords="offset points", fontsize=15, fontweight="bold")
        ax.set(xlabel="first pixel", ylabel="second pixel", aspect="equal")
    near.set(xlim=(centre[0] - half, centre[0] + half), ylim=(centre[1] - half, centre[1] + half))
    whole.indicate_inset_zoom(near, edgecolor="black")
    figure.colorbar(shades, ax=[whole, near], label="$L_{GAN}$ (nats)", shrink=0.9)
    _legend_below(figure, whole, 3)
    figure.savefig(path)


@_standard
def moving_apart(path: Target, distances: Any, curves: Mapping[str, Any], title: str) -> None:
    """Section 2.2: divergences between two distributions against their distance, and the slopes of these
    curves."""
    figure = _titled(10, 4.4, title)
    value, slope = figure.subplots(1, 2)
    colours = ("#000000", "#56B4E9", "#777777", "#777777", "#000000")
    for (name, values), colour, style in zip(curves.items(), colours, ("-", "-", "--", ":", "-.")):
        value.plot(distances, values, label=name, color=colour, linestyle=style, linewidth=2)
        slope.plot(distances, numpy.gradient(values, distances), color=colour, linestyle=style, linewidth=2)
    value.set(ylabel="value (nats; Wasserstein: standard deviations)", ylim=(-2, 6))
    slope.set(ylabel="slope (per standard deviation)", ylim=(-1.5, 3))
    for ax in (value, slope):
        ax.set(xlabel="distance between the means (standard deviations)")
        ax.axhline(0, color=_CEILING, linewidth=0.8)
        _plain(ax)
    _legend_below(figure, value, len(curves))
    figure.savefig(path)


@_standard
def scaling(path: Target, measured: Mapping[str, Mapping[int, float]],
            projected: Mapping[str, Mapping[int, float]], title: str) -> None:
    """How many times the steps per second of one rank several take: for each model points that were measured
    and a line that was projected, both given as steps per second by the number of ranks."""
    figure = _titled(7.5, 4.8, title)
    ax = figure.subplots()
    ranks = sorted({count for line in projected.values() for count in line})
    ax.plot(ranks, ranks, color=_CEILING, linestyle=":", label="in proportion to the ranks")
    for marker, (name, line) in zip(cycle(_MARKERS), projected.items()):
        colour, points = _colour(name, projected), measured[name]
        ax.plot(list(line), [rate / line[1] for rate in line.values()], color=colour, linestyle="--",
                linewidth=1.5, label=f"{name}, projected")
        ax.plot(list(points), [rate / points[1] for rate in points.values()], color=colour, marker=marker,
                linestyle="none", markersize=8, label=f"{name}, measured")
    ax.set(xlabel="ranks that share a training step", ylabel="steps per second, relative to one rank")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    _plain(ax)
    ax.legend(loc="upper left", frameon=False)
    figure.savefig(path)


def _colour(name: str, names: Iterable[str]) -> Any:
    """A model's own colour; for its variants among the names, such as "GAN, lr 0.001", shades of it. Black
    for what is no model's."""
    model = name.split(", ")[0]
    variants = [other for other in names if other.split(", ")[0] == model]
    colour = numpy.array(to_rgb(COLOURS.get(model, "black")))
    return tuple(colour + (1 - colour) * 0.7 * variants.index(name) / len(variants))


def _titled(width: float, height: float, title: str) -> Figure:
    """An empty figure of this size in inches; a title that is too wide for it is broken into lines."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=14, wrap=True)
    return figure


def _image(ax: Any, picture: numpy.ndarray) -> None:
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def _legend_below(figure: Figure, ax: Any, columns: int) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def _plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
