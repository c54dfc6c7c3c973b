"""What all figures share: colours, sizes, and standard settings."""

from __future__ import annotations

import io
import os
from collections.abc import Collection
from itertools import cycle
from typing import Any

import numpy
from matplotlib import rc_context, rcParamsDefault
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

# Okabe and Ito's colours, which colour-blind readers can tell apart: one per model, by its title.
COLOURS = {"GAN": "#D55E00", "WGAN": "#0072B2", "VAE": "#CC79A7", "VAE-GAN": "#009E73",
           "constrained VAE-GAN": "#E69F00"}
_OTHERS = ("#000000", "#56B4E9", "#8C564B", "#999999")       # of whatever has another name
FAINT = "#777777"
MARKERS = "osD^vPX*"
DPI = 220       # dots per inch: two for each of a screen's

# A figure is the same whatever a matplotlibrc says, and needs no LaTeX that it asks for. Equal figures are
# equal files.
standard = rc_context({**{name: value for name, value in rcParamsDefault.items() if name != "backend"},
                       "svg.hashsalt": "minigen"})
_UNDATED = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}

File = str | os.PathLike[str]       # to write
Target = File | None                # to write, unless it is None


class Drawing(Figure):
    """A figure that a notebook shows where it is the value of a cell."""

    @standard
    def _repr_png_(self) -> tuple[bytes, dict[str, float]]:
        file = io.BytesIO()
        self.savefig(file, format="png")
        width, height = self.get_size_inches()
        return file.getvalue(), {"width": width * 100, "height": height * 100}


def finished(figure: Figure, path: Target) -> Figure:
    """Write the figure to the file, whose suffix tells the format, and return it."""
    if path is not None:
        figure.savefig(path, metadata=_UNDATED.get(os.path.splitext(path)[1]))
    return figure


def model_colour(name: str, names: Collection[str]) -> Any:
    """A model's own colour, by its title; for other titles black, and then three more colours in turn.

    Variants of a model among the names, such as "GAN, lr 0.001", have shades of its colour.
    """
    model = name.split(", ")[0]
    models = [other.split(", ")[0] for other in names]
    others = dict(zip(dict.fromkeys(other for other in models if other not in COLOURS), cycle(_OTHERS)))
    variants = [other for other in names if other.split(", ")[0] == model]
    colour = numpy.array(to_rgb({**others, **COLOURS}[model]))
    return tuple(colour + (1 - colour) * 0.7 * variants.index(name) / len(variants))


def blank(width: float, height: float) -> Figure:
    """An empty figure of this size in inches."""
    return Drawing(figsize=(width, height), dpi=DPI, layout="constrained")


def titled(width: float, height: float, title: str) -> Figure:
    """An empty figure of this size in inches; a title that is too wide for it is broken into lines."""
    figure = blank(width, height)
    figure.suptitle(title, fontsize=14, wrap=True)
    return figure


def legend_below(figure: Figure, ax: Any, columns: int) -> None:
    figure.legend(*ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False)


def plain(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)
