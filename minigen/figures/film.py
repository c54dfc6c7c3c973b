"""Animated GIFs, of pictures and of figures that change."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from minigen import checks
from minigen.backend import to_host
from minigen.figures.style import DPI, Target

_ROUNDING = 1e-4        # by which images may leave [0, 1]
_PAUSE = 2              # seconds for which the last frame of a training stays


def in_unit_range(owner: str, images: numpy.ndarray) -> numpy.ndarray:
    if images.dtype == numpy.uint8:
        return images / numpy.float32(255)
    if images.dtype.kind != "f":
        raise ValueError(f"{owner}: floats in [0, 1] or uint8 expected, {images.dtype} found")
    low, high = images.min(initial=0), images.max(initial=1)
    if not (low >= -_ROUNDING and high <= 1 + _ROUNDING):       # NaN is neither
        values = "NaN" if math.isnan(low) else f"{low:.4g} to {high:.4g}"
        raise ValueError(f"{owner}: images in [0, 1] expected, {values} found")
    return images


def to_bytes(picture: numpy.ndarray) -> numpy.ndarray:
    return numpy.rint(255 * numpy.clip(picture, 0, 1)).astype("uint8")


class Film:
    """An animated GIF, ``data``, that a notebook shows where it is the value of a cell."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def _repr_html_(self) -> str:
        return f'<img alt="animation" src="data:image/gif;base64,{base64.b64encode(self.data).decode()}">'


def gif(path: Target, frames: Iterable[Any], seconds: float) -> Film:
    """An animated GIF that shows each picture for ``seconds`` and starts again after the last.

    The ``frames`` are all (height, width) or all (height, width, 3), of one size: floats in [0, 1] or uint8,
    such as ``tile`` returns. They share 255 colours, to which others are rounded. GIF counts hundredths of a
    second. ``ValueError`` for other frames, or for less than 0.02 seconds, which browsers do not show.
    """
    seconds = checks.real("gif", "seconds", seconds, "[0.02, 600]")
    pictures = [in_unit_range("gif", to_host(frame)) for frame in frames]
    shapes = {picture.shape for picture in pictures}
    shape = shapes.pop() if len(shapes) == 1 else ()
    if len(shape) not in (2, 3) or shape[2:] not in ((), (3,)):
        raise ValueError("gif: frames of one shape, (height, width) or (height, width, 3), expected, "
                         f"{sorted({picture.shape for picture in pictures})} found")
    film = Image.fromarray(to_bytes(numpy.concatenate(pictures)))
    film = film.quantize(255)       # the 256th marks pixels that are as in the frame before
    height, width = shape[:2]
    first, *others = (film.crop((0, top, width, top + height)) for top in range(0, film.height, height))
    file = io.BytesIO()
    first.save(file, format="GIF", save_all=True, append_images=others, duration=round(100 * seconds) * 10,
               loop=0)
    if path is not None:
        Path(path).write_bytes(file.getvalue())
    return Film(file.getvalue())


def filmed(path: Target, figure: Figure, changes: Iterable[Any], seconds: float) -> Film:
    """An animated GIF of the figure after each of the ``changes``, which are made as they are iterated; the
    last frame stays about two seconds longer."""
    figure.set_dpi(DPI / 2)
    canvas: Any = FigureCanvasAgg(figure)
    pictures = []
    for _ in changes:
        canvas.draw()
        figure.set_layout_engine("none")        # everything stays where it is in the first frame
        pictures.append(numpy.array(canvas.buffer_rgba())[:, :, :3])
    return gif(path, pictures + pictures[-1:] * math.ceil(_PAUSE / seconds), seconds)


def check(owner: str, frames: Mapping[str, Sequence[Any]], seconds: Any) -> float:
    """``seconds`` as a number; ``ValueError`` if a GIF cannot show a frame as long, or unless there is the
    same number of frames, at least one, for each model."""
    numbers = {name: len(pairs) for name, pairs in frames.items()}
    seconds = checks.real(owner, "seconds", seconds, "[0.02, 600]")
    if len(set(numbers.values())) != 1 or 0 in numbers.values():
        raise ValueError(f"{owner}: the same number of frames, at least 1, for each model expected, "
                         f"{numbers} found")
    return seconds
