"""What all figures share: colours, sizes, and standard settings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy
from matplotlib import rc_context, rcParamsDefault
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart: one per model, by its title.
COLOURS = {"GAN": "#D55E00", "WGAN": "#0072B2", "VAE": "#CC79A7", "VAE-GAN": "#009E73",
           "constrained VAE-GAN": "#E69F00"}
FAINT = "#777777"
MARKERS = "osD^vPX*"

# A figure is the same whatever a matplotlibrc says, and needs no LaTeX that it asks for.
standard = rc_context({name: value for name, value in rcParamsDefault.items() if name != "backend"})

Target = str | os.PathLike[str]                         # the file to write


def model_colour(name: str, names: Iterable[str]) -> Any:
    """A model's own colour; for its variants among the names, such as "GAN, lr 0.001", shades of it. Black
    for what is no model's."""
    model = name.split(", ")[0]
    variants = [other for other in names if other.split(", ")[0] == model]
    colour = numpy.array(to_rgb(COLOURS.get(model, "black")))
    return tuple(colour + (1 - colour) * 0.7 * variants.index(name) / len(variants))


def titled(width: float, height: float, title: str) -> Figure:
    """An empty figure of this size in inches; a title that is too wide for it is broken into lines."""
    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=14, wrap=True)
    return figure


def legend_below(figure: Figure, ax: Any, columns: int) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
