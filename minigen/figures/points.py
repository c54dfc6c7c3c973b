"""Points in the plane around known centres: as they are, and as they move during training."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from minigen.backend import to_host
from minigen.figures.film import Film, check, filmed
from minigen.figures.style import FAINT, Target, finished, model_colour, standard, titled

_MARGIN = 0.2       # around the centres, as a share of their extent
_SIDE = 1.6         # of a point: a square of whole pixels, which takes half the bytes of a smooth circle
_MOVING = 1000      # points in a frame and panel: 30 frames of five panels take less than 1 MB
_COLUMNS = 5        # panels side by side, at most


@standard
def point_clouds(path: Target, panels: Mapping[str, Any], centres: Any, title: str, *,
                 radius: float) -> Figure:
    """The points (N, 2) of each model, side by side, with a ring of this ``radius`` around each of the
    ``centres`` (modes, 2). More than five panels are in rows of equal length.

    All panels show the surroundings of the centres; points farther out are cut off.
    """
    figure, lines = _panels(panels, centres, radius, title, 2.35)
    for line, points in zip(lines, panels.values()):
        line.set_data(*to_host(points).T)
    return finished(figure, path)


@standard
def moving_points(path: Target, frames: Mapping[str, Sequence[tuple[int, Any]]], centres: Any, title: str, *,
                  radius: float, seconds: float = 0.2) -> Film:
    """An animated GIF of ``point_clouds`` during training, with a frame every ``seconds``, as by ``gif``.

    ``frames`` has the same number of pairs (iteration, points) for each model; ``ValueError`` otherwise. The
    first 1,000 points of each are drawn. The last frame stays two seconds longer, then the first follows.
    """
    seconds = check("moving_points", frames, seconds)
    figure, lines = _panels(frames, centres, radius, title, 2.55)

    def moved() -> Iterator[None]:
        for pairs in zip(*frames.values()):
            for line, (iteration, points) in zip(lines, pairs):
                line.set_data(*to_host(points)[:_MOVING].T)
                line.axes.set_xlabel(f"iteration {iteration:,}")
            yield
    return filmed(path, figure, moved(), seconds)


def _panels(names: Collection[str], centres: Any, radius: float, title: str,
            height: float) -> tuple[Figure, list[Any]]:
    """A figure with a panel of this height for each of the names, and a line of points, still empty, in
    each."""
    rows = max(1, math.ceil(len(names) / _COLUMNS))
    columns = math.ceil(len(names) / rows)
    figure = titled(2.2 * columns + 0.4, height * rows + 0.55, title)
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    for ax in axes[len(names):]:
        ax.set_visible(False)
    for ax in axes[max(0, len(names) - columns):len(names)]:        # the lowest in its column
        ax.tick_params(labelbottom=True)
    centres = to_host(centres)
    low, high = centres.min(axis=0), centres.max(axis=0)
    margin = _MARGIN * (high - low).max() + 2 * radius
    lines = []
    for ax, name in zip(axes, names):
        line, = ax.plot([], [], color=model_colour(name, names), marker="s", markersize=_SIDE,
                        markeredgewidth=0, linestyle="none", rasterized=True)
        ax.add_collection(PatchCollection([Circle(centre, radius) for centre in centres], facecolor="none",
                                          edgecolor=FAINT, linewidth=0.7))
        ax.set_title(name, fontsize=12, color=line.get_color(), fontweight="bold")
        ax.set(aspect="equal", xlim=(low[0] - margin, high[0] + margin),
               ylim=(low[1] - margin, high[1] + margin))
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        ax.tick_params(labelsize=8)
        lines.append(line)
    return figure, lines
