"""Distances to a data manifold in the plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy
from matplotlib.figure import Figure

from minigen.figures.style import COLOURS, Target, finished, legend_below, standard, titled


@standard
def manifold(path: Target, xs: Any, ys: Any, l_gan: Any, squared_error: Any, curve: Any,
             points: Mapping[str, tuple[Any, str]], d: float, title: str) -> Figure:
    """The paper's Figure 6 (b): a discriminator's L_GAN as shades, the squared error to an image as rings,
    and the bound d as a line.

    ``l_gan`` and ``squared_error`` (len(ys), len(xs)) are given on a grid; ``curve`` (N, 2) is the centre of
    the data. ``points`` gives the place and the meaning of three points; the right panel shows their
    surroundings.
    """
    figure = titled(11, 5.2, title)
    places = numpy.array([place for place, _ in points.values()])
    centre, half = places.mean(axis=0), 1.5 * numpy.ptp(places, axis=0).max()
    whole, near = figure.subplots(1, 2)
    for ax, levels in ((whole, [1, 4, 9, 16, 25]), (near, [0.1, 0.4, 0.9, 1.6, 2.5])):
        shades = ax.contourf(xs, ys, l_gan, levels=numpy.arange(0, 8.5, 0.5), cmap="Blues", extend="max")
        shades.set_rasterized(True)     # as outlines, they take two megabytes
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
    legend_below(figure, whole, 3)
    return finished(figure, path)
