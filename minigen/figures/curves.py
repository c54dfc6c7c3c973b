"""Curves, histograms and points against an axis."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy
from matplotlib import colormaps
from matplotlib.figure import Figure

from minigen.figures.style import (COLOURS, FAINT, MARKERS, Target, blank, finished, legend_below,
                                   model_colour, plain, standard, titled)

# For each family of models: its colour, and the offset of its labels in typographic points.
_APART = tuple((COLOURS[name], offset) for name, offset in (
    ("VAE-GAN", (-7, -10)), ("GAN", (6, 5)), ("WGAN", (7, 6)), ("VAE", (7, -12))))
Curve = tuple[Sequence[int], Sequence[float]]           # iterations and values


@standard
def entropy_curves(path: Target, curves: Mapping[str, Curve], title: str, *, classes: int) -> Figure:
    """The paper's Figure 3: the mode entropy, at most log ``classes``, against training iterations, a line
    per model."""
    figure = blank(7.5, 4.2)
    ax = figure.subplots()
    ceiling = math.log(classes)
    ax.axhline(ceiling, color=FAINT, linestyle="--", linewidth=1)
    ax.annotate(f"log {classes}: all {classes} classes equally often", (1, ceiling), (-4, 4),
                xycoords=("axes fraction", "data"), textcoords="offset points", ha="right", color=FAINT)
    for name, (iterations, entropies) in curves.items():
        ax.plot(iterations, entropies, label=name, color=model_colour(name, curves), linewidth=1.8,
                marker="o", markersize=3)
    ax.set(title=title, xlabel="training iterations", ylabel="mode entropy (nats)",
           ylim=(-0.025 * ceiling, 1.13 * ceiling), xlim=(0, None))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.legend(loc="best", framealpha=0.9, edgecolor="none")
    return finished(figure, path)


@standard
def image_entropies(path: Target, entropies: Mapping[str, Any], title: str, *, classes: int) -> Figure:
    """The paper's Figure 5: the image entropies of ten images per model, and their distribution over all its
    images, up to log ``classes``."""
    figure = titled(10, 4.2, title)
    few, all_ = figure.subplots(1, 2)
    for marker, (name, values) in zip(cycle(MARKERS), entropies.items()):
        colour = model_colour(name, entropies)
        few.plot(range(1, 11), values[:10], label=name, color=colour, marker=marker, linewidth=1.2)
        all_.ecdf(values, label=f"{name}: mean {numpy.mean(values):.2f}", color=colour, linewidth=2)
    few.set(title="the ten images of Figure 4", xlabel="image", ylabel="image entropy (nats)",
            xticks=range(1, 11))
    all_.set(title=f"all {len(values):,} images", xlabel="image entropy (nats)", xlim=(0, math.log(classes)),
             ylim=(0, 1.02), ylabel="share of images up to this entropy")
    all_.legend(loc="best", frameon=False)
    for ax in (few, all_):
        plain(ax)
    return finished(figure, path)


@standard
def training_curves(path: Target, panels: Mapping[str, Mapping[str, Curve]], title: str) -> Figure:
    """A panel per measure, which shows it during training: a line (iterations, values) per model."""
    figure = titled(11, 6.2, title)
    axes = figure.subplots(min(2, len(panels)), math.ceil(len(panels) / 2), squeeze=False).ravel()
    for ax, (measure, lines) in zip(axes, panels.items()):
        for name, (iterations, values) in lines.items():
            ax.plot(iterations, values, label=name, color=model_colour(name, lines), linewidth=1.6,
                    markersize=4, marker="o" if len(values) < 20 else None)
        ax.set(title=measure, xlabel="training iterations", ylim=(0, None))
        ax.xaxis.set_major_formatter("{x:,.0f}")
        plain(ax)
    for ax in axes[len(panels):]:
        ax.set_visible(False)
    legend_below(figure, axes[0], len(COLOURS))
    return finished(figure, path)


@standard
def entropy_histogram(path: Target, entropies: Mapping[str, Any], title: str, *, classes: int) -> Figure:
    """The paper's Figure 8: a histogram of image entropies, up to log ``classes``; ``entropies`` has (runs,
    images) per model.

    The line is the mean over the runs; the band reaches from their minimum to their maximum.
    """
    figure = blank(7.5, 4.4)
    ax = figure.subplots()
    edges = numpy.arange(0, math.log(classes) + 0.05, 0.05)
    for name, runs in entropies.items():
        counts = numpy.array([numpy.histogram(run, edges)[0] for run in runs])
        colour = model_colour(name, entropies)
        ax.stairs(counts.max(axis=0), edges, baseline=counts.min(axis=0), fill=True, color=colour, alpha=0.3)
        ax.stairs(counts.mean(axis=0), edges, label=name, color=colour, linewidth=2)
    ax.set(title=title, xlabel="image entropy (nats)", ylabel="images per 0.05 nats", yscale="log",
           xlim=(0, edges[-1]))
    ax.yaxis.set_major_formatter("{x:,g}")
    plain(ax)
    ax.legend(frameon=False)
    return finished(figure, path)


@standard
def constraint_sweep(path: Target, panels: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
                     names: Sequence[str], title: str) -> Figure:
    """Measures against settings with these names; ``panels[measure][line][i]`` has one value for each run
    with ``names[i]``."""
    figure = titled(3.7 * len(panels), 3.8, title)
    places = numpy.arange(len(names))
    for ax, (measure, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        for i, (marker, (name, values)) in enumerate(zip(cycle(MARKERS), lines.items())):
            style = {"color": colormaps["viridis"](0.8 * i / max(1, len(lines) - 1)), "marker": marker}
            x = places + 0.12 * (i - (len(lines) - 1) / 2)
            for at, runs in zip(x, values):
                ax.plot([at] * len(runs), runs, markersize=4, linestyle="none", alpha=0.4, **style)
            ax.plot(x, [numpy.mean(runs) for runs in values], markersize=7, label=name, **style)
        ax.set(title=measure, xticks=places, xticklabels=names)
        plain(ax)
    legend_below(figure, figure.axes[0], len(lines))
    return finished(figure, path)


@standard
def moving_apart(path: Target, distances: Any, curves: Mapping[str, Any], title: str) -> Figure:
    """Section 2.2: divergences between two distributions against their distance, and the slopes of these
    curves."""
    figure = titled(10, 4.4, title)
    value, slope = figure.subplots(1, 2)
    colours = ("#000000", "#56B4E9", "#777777", "#777777", "#000000")
    for (name, values), colour, style in zip(curves.items(), colours, ("-", "-", "--", ":", "-.")):
        value.plot(distances, values, label=name, color=colour, linestyle=style, linewidth=2)
        slope.plot(distances, numpy.gradient(values, distances), color=colour, linestyle=style, linewidth=2)
    value.set(ylabel="value (nats; Wasserstein: standard deviations)", ylim=(-2, 6))
    slope.set(ylabel="slope (per standard deviation)", ylim=(-1.5, 3))
    for ax in (value, slope):
        ax.set(xlabel="distance between the means (standard deviations)")
        ax.axhline(0, color=FAINT, linewidth=0.8)
        plain(ax)
    legend_below(figure, value, len(curves))
    return finished(figure, path)


@standard
def scaling(path: Target, measured: Mapping[str, Mapping[int, float]],
            projected: Mapping[str, Mapping[int, float]], title: str) -> Figure:
    """How many times the steps per second of one rank several take: for each model points that were measured
    and a line that was projected, both given as steps per second by the number of ranks."""
    figure = titled(7.5, 4.8, title)
    ax = figure.subplots()
    ranks = sorted({count for line in projected.values() for count in line})
    ax.plot(ranks, ranks, color=FAINT, linestyle=":", label="in proportion to the ranks")
    for marker, (name, line) in zip(cycle(MARKERS), projected.items()):
        colour, points = model_colour(name, projected), measured[name]
        ax.plot(list(line), [rate / line[1] for rate in line.values()], color=colour, linestyle="--",
                linewidth=1.5, label=f"{name}, projected")
        ax.plot(list(points), [rate / points[1] for rate in points.values()], color=colour, marker=marker,
                linestyle="none", markersize=8, label=f"{name}, measured")
    ax.set(xlabel="ranks that share a training step", ylabel="steps per second, relative to one rank")
    ax.set_xscale("log", base=2)
    ax.set_yscale("log", base=2)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter("{x:g}")
    plain(ax)
    ax.legend(loc="upper left", frameon=False)
    return finished(figure, path)


@standard
def frontiers(path: Target, families: Mapping[str, Mapping[str, Mapping[str, Sequence[float]]]],
              panels: Mapping[str, tuple[str, str]], titles: Mapping[str, str], title: str) -> Figure:
    """What models reach in two measures at once; a line for each of the ``families``, along its settings.

    ``families[family][setting][measure]`` has a value for each run: the faint points. The line joins their
    means, which the first panel labels with the setting. ``panels`` names the measures across and up;
    ``titles`` is what readers see for a measure.
    """
    figure = titled(4.6 * len(panels), 4.9, title)
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, (panel, (across, up)) in zip(axes, panels.items()):
        for (colour, offset), marker, (family, settings) in zip(cycle(_APART), cycle(MARKERS),
                                                                families.items()):
            x, y = ([values[measure] for values in settings.values()] for measure in (across, up))
            means = numpy.mean(x, axis=1), numpy.mean(y, axis=1)
            ax.plot(numpy.ravel(x), numpy.ravel(y), color=colour, marker=marker, markersize=4, alpha=0.3,
                    linestyle="none", markeredgewidth=0)
            ax.plot(*means, color=colour, marker=marker, markersize=8, linewidth=1.6, label=family,
                    markeredgecolor="white")
            for name, *place in zip(settings, *means) if ax is axes[0] else ():
                ax.annotate(name, place, offset, textcoords="offset points", fontsize=8, color=colour,
                            ha="right" if offset[0] < 0 else "left")
        ax.set(title=panel, xlabel=titles[across], ylabel=titles[up])
        plain(ax)
    legend_below(figure, axes[0], len(families))
    return finished(figure, path)
