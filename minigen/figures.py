"""Every picture: grids of images and plots. The only module that draws, with matplotlib and without its global state."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave

from minigen.backend import to_host

# Okabe and Ito's colours, which colour-blind readers can tell apart; one per model, the same in every figure.
COLOURS = {"GAN": "#D55E00", "WGAN": "#0072B2"}
_CEILING = "#777777"


def tile(images: Any, columns: int | None = None) -> numpy.ndarray:
    """One picture (height, width[, 3]) of the images in rows, left to right, with a white line between them.

    ``images`` is (N, side * side) or (N, H, W, C), in [0, 1]; ``columns`` defaults to a square's.
    """
    images = to_host(images)
    if images.ndim == 2:
        side = math.isqrt(images.shape[1])
        images = images.reshape(len(images), side, side, 1)
    n, height, width, channels = images.shape
    columns = columns or max(1, math.ceil(math.sqrt(n)))
    rows = math.ceil(n / columns)
    picture = numpy.ones((rows * (height + 1) + 1, columns * (width + 1) + 1, channels), images.dtype)
    for i, image in enumerate(images):
        top, left = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        picture[top:top + height, left:left + width] = image
    return picture.squeeze(2) if channels == 1 else picture


def save_grid(path: str | os.PathLike[str], images: Any, columns: int | None = None) -> None:
    """Write ``tile(images, columns)`` as a PNG, one pixel per pixel."""
    imsave(path, numpy.clip(tile(images, columns), 0, 1), cmap="gray", vmin=0, vmax=1)


def sample_grids(path: str | os.PathLike[str], rows: Mapping[str, Sequence[tuple[int, Path]]], title: str) -> None:
    """The report's Figure 2: a row per model, and in it the saved grids of samples, each with its iteration."""
    columns = max(map(len, rows.values()))
    figure = Figure(figsize=(2.6 * columns + 0.5, 2.85 * len(rows) + 0.5), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=14)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, grids) in zip(axes, rows.items()):
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, (iteration, grid) in zip(row, grids):
            ax.imshow(imread(grid), interpolation="nearest")
            ax.set_title(f"iteration {iteration:,}", fontsize=11)
        row[0].set_ylabel(name, fontsize=14, color=COLOURS[name], fontweight="bold")
    figure.savefig(path)


def entropy_curves(path: str | os.PathLike[str], curves: Mapping[str, tuple[Sequence[int], Sequence[float]]], title: str) -> None:
    """The report's Figure 3: the entropy of the generated classes against training iterations, a line per model."""
    figure = Figure(figsize=(7.5, 4.2), dpi=110, layout="constrained")
    ax = figure.subplots()
    ceiling = math.log(10)
    ax.axhline(ceiling, color=_CEILING, linestyle="--", linewidth=1)
    ax.annotate("log 10: ten digits equally often", (1, ceiling), (-4, 4), xycoords=("axes fraction", "data"),
                textcoords="offset points", ha="right", color=_CEILING)
    for name, (iterations, entropies) in curves.items():
        ax.plot(iterations, entropies, label=name, color=COLOURS[name], linewidth=1.8, marker="o", markersize=3)
    ax.set(title=title, xlabel="training iterations", ylabel="entropy of the generated digits (nats)",
           ylim=(-0.06, 2.6), xlim=(0, None))
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
    ax.legend(loc="center right", frameon=False)
    figure.savefig(path)
