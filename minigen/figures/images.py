"""Images: grids of them, in rows, beside each other and one after the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib.figure import Figure
from matplotlib.image import imread
from PIL import Image

from minigen import checks
from minigen.backend import to_host
from minigen.figures.film import Film, check, filmed, in_unit_range, to_bytes
from minigen.figures.style import Target, finished, model_colour, standard, titled


def tile(images: Any, columns: int | None = None, shape: Sequence[int] | None = None) -> numpy.ndarray:
    """One picture (height, width[, 3]) of the images in rows, left to right, with a white line between them.

    ``images`` are floats in [0, 1] or uint8: (N, H, W, C) or (N, H, W), in colour (C = 3) or grey, or rows of
    pixels (N, pixels). These have the ``shape`` (H, W, C) or (H, W), as a data set's ``image_shape``; without
    it they are square and grey. Without ``columns`` the grid is about square. ``ValueError`` if the images
    are none of these.
    """
    images = in_unit_range("tile", _shaped(to_host(images), shape))
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


def save_grid(path: Target, images: Any, columns: int | None = None,
              shape: Sequence[int] | None = None) -> Image.Image:
    """``tile(images, columns, shape)`` as a picture of Pillow, which notebooks show; written as a PNG."""
    picture = Image.fromarray(to_bytes(tile(images, columns, shape)))
    if path is not None:
        picture.save(path, format="PNG")
    return picture


@standard
def sample_grids(path: Target, rows: Mapping[str, Sequence[tuple[int, Path]]], title: str) -> Figure:
    """The paper's Figure 2: a row of saved sample grids per model, each titled with its iteration."""
    columns = max(map(len, rows.values()))
    figure = titled(2.6 * columns + 0.5, 2.85 * len(rows) + 0.5, title)
    axes = figure.subplots(len(rows), columns, squeeze=False)
    for row, (name, grids) in zip(axes, rows.items()):
        for ax in row:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, (iteration, grid) in zip(row, grids):
            ax.imshow(imread(grid), cmap="gray", vmin=0, vmax=1, interpolation="none")
            ax.set_title(f"iteration {iteration:,}", fontsize=11)
        row[0].set_ylabel(name, fontsize=14, color=model_colour(name, rows), fontweight="bold")
    return finished(figure, path)


@standard
def moving_grids(path: Target, frames: Mapping[str, Sequence[tuple[int, Path]]], title: str, *,
                 seconds: float = 0.2) -> Film:
    """An animated GIF of saved sample grids during training, the models side by side, with a frame every
    ``seconds``.

    ``frames`` has the same number of pairs (iteration, file) for each model; ``ValueError`` otherwise. The
    last frame stays two seconds longer, then the first follows.
    """
    seconds = check("moving_grids", frames, seconds)
    figure = titled(3 * len(frames), 3.7, title)
    shown = []
    for ax, (name, [(_, grid), *_]) in zip(figure.subplots(1, len(frames), squeeze=False)[0], frames.items()):
        _image(ax, imread(grid))
        ax.set_title(name, fontsize=13, color=model_colour(name, frames), fontweight="bold")
        shown.append(ax.images[0])

    def moved() -> Iterator[None]:
        for pairs in zip(*frames.values()):
            for image, (iteration, grid) in zip(shown, pairs):
                image.set_data(imread(grid))
                image.axes.set_xlabel(f"iteration {iteration:,}")
            yield
    return filmed(path, figure, moved(), seconds)


@standard
def image_rows(path: Target, rows: Mapping[str, Any], labels: Mapping[str, Sequence[Any]] | None = None, *,
               title: str) -> Figure:
    """The paper's Figure 4: a strip of images per model, ten to a line, with labels under at most ten of
    them."""
    strips = {name: tile(images, columns=10) for name, images in rows.items()}
    heights = [strip.shape[0] for strip in strips.values()]
    width = max(strip.shape[1] for strip in strips.values())
    height = 0.6 + 7 * sum(heights) / width + (0.32 if labels else 0.1) * len(rows)
    figure = titled(8.4, height, title)
    axes = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (name, strip) in zip(axes, strips.items()):
        _image(ax, strip)
        ax.set_xlim(-0.5, width - 0.5)
        ax.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=12, fontweight="bold",
                      color=model_colour(name, rows))
        side = (strip.shape[1] - 1) / 10
        for i, label in enumerate(labels[name] if labels else ()):
            ax.text((i + 0.5) * side, strip.shape[0], str(label), ha="center", va="top", fontsize=12)
    figure.draw_without_rendering()     # once more: how far names stick out depends on the layout before
    return finished(figure, path)


@standard
def grids(path: Target, panels: Mapping[str, Any], title: str) -> Figure:
    """The paper's Figure 7: a grid of images per model, side by side."""
    figure = titled(4 * len(panels), 4.6, title)
    for ax, (name, images) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items()):
        _image(ax, tile(images))
        ax.set_title(name, fontsize=13, color=model_colour(name, panels), fontweight="bold")
    return finished(figure, path)


def _image(ax: Any, picture: numpy.ndarray) -> None:
    ax.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="none")
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
