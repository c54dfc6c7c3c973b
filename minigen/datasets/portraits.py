"""How a portrait is drawn: palettes, signed distances, and the parts of a head.

Every part is a signed distance, negative inside, in sixtieths of the picture's side. It gives the coverage of
each pixel, so edges are smooth without drawing at a higher resolution. Pixels need only arithmetic and square
roots, which IEEE 754 fixes, so the same factors give the same bytes everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import numpy


def _palette(*colours: str) -> numpy.ndarray:
    return numpy.array([list(bytes.fromhex(colour)) for colour in colours], numpy.float32) / 255


def _colour(colour: str) -> numpy.ndarray:
    return _palette(colour).reshape(3, 1, 1, 1)


_SKIN = _palette("ffe3d0", "f8cfb0", "e8b48c", "cb9064", "a06a46", "7a4e38", "613f31")
_HAIR = _palette("262024", "38282a", "52382e", "704c36", "8f5634", "b86e40", "dcae6c", "ead4a4", "cfccca")
_EYES = _palette("4a2e20", "7a4a2a", "8a7440", "5c8a5c", "4c86b4", "7c94a6")
_SHIRT = _palette("41567e", "4a8a8c", "e6dcc6", "dfab54", "b85c4c", "7e5074", "41567e")
_BACKGROUND = _palette("ecd9b8", "f2c4a4", "e4aba6", "bdaecb", "a6c4dc", "aacdbd", "ecd9b8")
# Factors that multiply a colour to shade it.
_SHADOW, _BLUSH, _NOSTRIL, _LID = (_colour(c) for c in ("cca8a3", "ffbdb3", "b8807a", "bfbfcc"))
_WHITE, _LASH, _PUPIL, _LIPS, _INSIDE, _FRAME, _BROW = (
    _colour(c) for c in ("fffaf2", "33211f", "1c1416", "b8504e", "5a2228", "3a2a2c", "2a1c18"))
_LIP_TINT, _BEARD_TINT, _HAIR_SHADE = (_colour(c) for c in ("f29e99", "c7b3a3", "a89ea3"))

# Centre and radius of each curl.
_CURLS = ((-15, -1.5, 6), (-15.5, -8, 6), (-12, -14.5, 6.5), (-6, -18, 6.5), (0.5, -19.5, 6.5),
          (7, -17.5, 6.5), (12.5, -14, 6.5), (15.5, -7.5, 6), (15, -1.5, 6))


def _along(palette: numpy.ndarray, position: numpy.ndarray) -> numpy.ndarray:
    """The colours (3, N, 1, 1) at ``position`` (N,), interpolated linearly from 0, the palette's first, to 1,
    its last."""
    scaled = position * (len(palette) - 1)
    index = numpy.minimum(scaled.astype(numpy.int64), len(palette) - 2)
    part = (scaled - index.astype(numpy.float32))[:, None]
    return (palette[index] * (1 - part) + palette[index + 1] * part).T[:, :, None, None]


def _square(x):
    return x * x


def _ramp(x):
    """0 for x up to 0, 1 for x from 1 on, and smooth in between."""
    x = numpy.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _spot(x, y, width, height):
    """A soft spot: 1 in the middle of an ellipse, 0 at its edge and beyond."""
    return _ramp(1 - _square(x / width) - _square(y / height))


def _ellipse(x, y, width, height):
    """The distance to an ellipse with these half-axes, to first order: accurate near the edge, where it
    matters."""
    x, y = x / width, y / height
    return (x * x + y * y - 1) / (2 * numpy.sqrt(_square(x / width) + _square(y / height)) + 1e-6)


def _circle(x, y, radius):
    return numpy.sqrt(x * x + y * y) - radius


def _box(x, y, width, height, radius):
    """The distance to a rectangle with these half-sides and round corners."""
    x, y = abs(x) - (width - radius), abs(y) - (height - radius)
    outside = numpy.sqrt(_square(numpy.maximum(x, 0)) + _square(numpy.maximum(y, 0)))
    return outside + numpy.minimum(numpy.maximum(x, y), 0) - radius


def _union(a, b, blend):
    """The distance to the union of two shapes, which merge smoothly, like clay, where their distances differ
    by less than ``blend``."""
    return numpy.minimum(a, b) - _square(numpy.maximum(blend - abs(a - b), 0)) * (0.25 / blend)


@dataclass
class _View:
    """A part of the pictures: colours (3, N, H, W), and where its pixels are, x and y (N, H, W)."""

    rgb: numpy.ndarray
    x: numpy.ndarray
    y: numpy.ndarray
    pixel: float

    def window(self, left: float, right: float, top: float, bottom: float) -> _View:
        rows = slice(round((top + 30) * self.pixel), round((bottom + 30) * self.pixel))
        columns = slice(round((left + 30) * self.pixel), round((right + 30) * self.pixel))
        rgb, x, y = self.rgb[:, :, rows, columns], self.x[:, rows, columns], self.y[:, rows, columns]
        return _View(rgb, x, y, self.pixel)

    def cover(self, distance: numpy.ndarray) -> numpy.ndarray:
        """The share of each pixel that lies inside."""
        return numpy.clip(0.5 - self.pixel * distance, 0, 1)

    def paint(self, share: numpy.ndarray, colour: numpy.ndarray) -> None:
        for channel, c in zip(self.rgb, colour):
            channel += share * (c - channel)

    def shade(self, share: numpy.ndarray, tint: numpy.ndarray) -> None:
        for channel, c in zip(self.rgb, tint):
            channel *= 1 - share * (1 - c)


class Portraits:
    """Portraits that share a hair style. The head's axes start between the eyes, x to the right and y down,
    and turn with the roll."""

    def __init__(self, factors: numpy.ndarray, style: str, side: int):
        numbers = {name: factors[name].astype(numpy.float32)[:, None, None] for name in factors.dtype.names}
        self.f = f = SimpleNamespace(**numbers)
        self.style = style
        self.skin, self.hair = _along(_SKIN, factors["skin"]), _along(_HAIR, factors["hair_colour"])
        self.iris, self.shirt = _along(_EYES, factors["eye_colour"]), _along(_SHIRT, factors["shirt"])
        self.background = _along(_BACKGROUND, factors["background"])

        rgb = numpy.empty((3, len(factors), side, side), numpy.float32)
        axis = (numpy.arange(side, dtype=numpy.float32) + 0.5) / (side / 60) - 30
        x, y = numpy.broadcast_arrays(axis[None, None, :], axis[None, :, None], rgb[0])[:2]
        self.page = _View(rgb, x, y, side / 60)
        tangent = 0.08 * f.roll         # of half the angle: gives cosine and sine by arithmetic alone
        cos, sin = (1 - tangent * tangent) / (1 + tangent * tangent), 2 * tangent / (1 + tangent * tangent)
        x, y = x - 0.5 * f.yaw, y - 0.5
        x, y = cos * x + sin * y, cos * y - sin * x
        # When the head turns right, the skull moves left and the parts in front of its axis move right, so
        # that the eyes stay about where they are.
        self.turn = 0.3 * f.yaw
        self.narrow = numpy.sqrt(1 - self.turn * self.turn)
        self.head = _View(rgb, x + 1.6 * f.yaw, y, side / 60)
        self.front = _View(rgb, x - 1.4 * f.yaw, y, side / 60)

        self.width = 15.2 + 1.2 * f.head_width
        self.top, self.chin = -19 - 0.8 * f.head_height, 23.6 + 1.3 * f.head_height
        self.eyes = 7.5 + 0.6 * f.eye_distance

    def draw(self) -> numpy.ndarray:
        f, page = self.f, self.page
        glow = 1.02 - 0.1 * (_square(page.x / 32) + _square((page.y + 6) / 32))
        for channel, colour in zip(page.rgb, self.background):
            channel[...] = colour * glow
        self.hair_behind()
        self.body()
        self.ears()
        self.skull()
        self.cheeks()
        if f.beard.any():
            self.beard()
        self.nose()
        self.mouth()
        for side in (-1, 1):
            self.eye(side)
        if f.glasses.any():
            self.glasses()
        if self.style != "bald":
            self.hair_in_front()
        slope = f.light_direction * (page.x / 32) - 0.5 * (page.y / 32)
        light = 1 + (0.04 + 0.16 * f.light_strength) * slope
        return (numpy.clip(page.rgb * light, 0, 1) * 255 + 0.5).astype(numpy.uint8).transpose(1, 2, 3, 0)

    def hair_behind(self) -> None:
        view, x, y = self.head, self.head.x, self.head.y
        if self.style == "bun":
            share = view.cover(_ellipse(x, y - self.top + 1.8, 7, 6))
            view.paint(share, self.hair * 0.95)
            view.shade(share * _ramp((y - self.top + 6) / 6), _HAIR_SHADE)
        elif self.style in ("bob", "long"):
            if self.style == "bob":
                hanging = _box(x, y - 6, self.width + 2.6, 14, 6)
            else:
                hanging = _box(x, y - 18, self.width + 3.2, 20, 6)
            behind = _union(_ellipse(x, y + 2.5, self.width + 2.4, 18.5), hanging, 4)
            view.paint(view.cover(behind), self.hair * 0.62)

    def body(self) -> None:
        view = self.page.window(-30, 30, 12, 30)
        x, y = view.x + self.f.yaw, view.y
        shoulders = view.cover(_ellipse(x, y - 42.5, 30, 18))
        view.paint(shoulders, self.shirt)
        neck = _box(x, y - 18, 6.6 + 0.6 * self.f.head_width, 12.5, 5)
        neck = _union(neck, _ellipse(x, y - 26.5, 9.5, 3.4), 3)
        view.shade(0.7 * shoulders * view.cover(neck - 0.9), _SHADOW)
        share = view.cover(neck)
        view.paint(share, self.skin)
        view.shade(share * _ramp(1 - (y - self.chin + 2) / 9), _SHADOW)         # the chin's shadow

    def ears(self) -> None:
        view = self.head.window(-24, 24, -14, 18)
        for side in (-1, 1):
            ear = _ellipse(view.x - side * (self.width - 0.2) + 1.6 * self.f.yaw, view.y - 3, 2.9, 4.3)
            view.paint(view.cover(ear), self.skin)
            view.shade(view.cover(ear + 1.6), _SHADOW)

    def outline(self, x: numpy.ndarray, y: numpy.ndarray) -> numpy.ndarray:
        """The distance to the head without ears and hair."""
        skull = _ellipse(x, y - self.top - 17, self.width, 17)
        return _union(skull, _ellipse(x, y - self.chin + 13, self.width * (0.77 + 0.07 * self.f.jaw), 13), 7)

    def skull(self) -> None:
        view, x, y = self.head, self.head.x, self.head.y
        self.face = view.cover(self.outline(x, y))
        view.paint(self.face, self.skin)
        across = (x - 4 * self.f.light_direction * self.f.light_strength) / (self.width + 1)
        away = _square(across) + _square((y - 1) / 23)
        view.shade(self.face * _ramp(0.9 * away - 0.25), _SHADOW)
        if self.style == "bald":
            shine = _spot(x - 5 * self.f.light_direction, y - self.top - 5, 7, 3.5)
            view.paint(0.35 * shine, self.skin + 0.4 * (1 - self.skin))

    def cheeks(self) -> None:
        view, head = (v.window(-24, 24, -4, 22) for v in (self.front, self.head))
        both = _spot(view.x + 8.6, view.y - 9.5, 5.2, 4) + _spot(view.x - 8.6, view.y - 9.5, 5.2, 4)
        view.shade(0.45 * both * view.cover(self.outline(head.x, head.y)), _BLUSH)

    def beard(self) -> None:
        view, head = (v.window(-24, 24, -6, 30) for v in (self.front, self.head))
        out = numpy.minimum(_square(head.x / self.width), 1)
        beard = numpy.maximum(self.outline(head.x, head.y) - 0.9, 11 + 22 * out - 32 * out * out - view.y)
        view.paint(0.92 * self.f.beard * _ramp(0.5 - beard / 1.8), self.hair * _BEARD_TINT)

    def nose(self) -> None:
        f, view = self.f, self.front.window(-16, 16, -6, 16)
        x, y = view.x - 6 * self.turn, view.y - 8.6 - f.nose_length
        width = 3 + 0.7 * f.nose_width
        above = view.cover(_ellipse(x, y + 1.5, width + 0.4, 2.4))
        view.shade(0.75 * view.cover(_ellipse(x, y, width, 2.4)) * (1 - above), _NOSTRIL)
        view.shade(0.35 * _spot(x + 1.2 * f.light_direction + f.yaw, y + 4, 2.2, 5.5), _SHADOW)
        view.paint(0.3 * _spot(x, y + 0.8, 0.7 * width, 1.8), self.skin + 0.5 * (1 - self.skin))

    def mouth(self) -> None:
        f, view = self.f, self.front.window(-16, 16, 6, 26)
        width = (5.4 + 0.8 * f.mouth_width) * self.narrow
        x, y = view.x + 4 * self.turn, view.y - 15.6 - 0.5 * f.head_height
        out = _square(x / width)
        thick, ends = 1 - out, abs(x) - width           # lips are thick in the middle and end at the corners
        y = y - (0.9 + 1.2 * f.smile) * (0.6 - out)
        opening = 3.4 * f.mouth_open
        lips = numpy.maximum(-y - (0.25 * opening + 1.2) * thick, y - (0.75 * opening + 1.7) * thick)
        view.paint(0.9 * view.cover(lips), 0.45 * self.skin * _LIP_TINT + 0.55 * _LIPS)
        inside = numpy.maximum(-y - 0.25 * opening * thick, y - 0.75 * opening * thick)
        view.paint(view.cover(numpy.maximum(inside - 0.3, ends)), _INSIDE)
        teeth = numpy.maximum(numpy.maximum(inside + 0.15, y - 0.2 * opening), ends + 1)
        view.paint(view.cover(teeth) * numpy.minimum(2 * f.mouth_open, 1), _WHITE)
        below = view.y - 20.4 - 0.5 * f.head_height - 0.7 * opening
        view.shade(0.4 * _spot(x, below, 0.6 * width, 1.4), _SHADOW)

    def eye(self, side: int) -> None:
        """One eye and its brow: -1 for the picture's left, 1 for its right."""
        left, right = (-20, 4) if side < 0 else (-4, 20)
        f, view = self.f, self.front.window(left, right, -14, 10)
        narrow = self.narrow - 0.45 * side * self.turn
        width, height = (3.7 + 0.45 * f.eye_size) * narrow, 2.3 + 0.45 * f.eye_size
        x, y = view.x - side * self.eyes * self.narrow, view.y
        socket = _square(x / (1.5 * width))
        view.shade(0.35 * _ramp(1.1 - socket - _square((y + 0.6) / (2 * height))), _SHADOW)
        out = side * x / width
        upper = y + height * (1 - out * out) + 0.25 * out
        lower = y - 0.8 * height * (1 - out * out) + 0.25 * out
        share = view.cover(numpy.maximum(-upper, lower))
        view.paint(share, _WHITE)
        view.shade(0.6 * share * _ramp(1 - upper / 1.8), _LID)
        middle = _circle((x - f.gaze) / narrow, y + 0.2, 0)
        radius = 2 + 0.25 * f.eye_size
        view.paint(share * view.cover(middle - radius), self.iris * 0.75)
        view.paint(share * view.cover(middle - radius + 0.6), self.iris)
        view.paint(share * view.cover(middle - 0.95), _PUPIL)
        view.paint(share * view.cover(_circle(x - f.gaze + 0.75, y + 1.05, 0.62)), _WHITE)
        view.paint(view.cover(numpy.maximum(abs(upper) - 0.55, abs(x) - 1.02 * width)), _LASH)
        view.shade(0.5 * view.cover(numpy.maximum(abs(lower) - 0.3, abs(x) - 0.9 * width)), _SHADOW)
        out = side * x / (4.6 * narrow)
        y = y + 5.4 + 0.8 * f.brow_height + 0.9 * (1 - out * out) - 0.8 * f.brow_tilt * out
        thickness = (0.85 + 0.3 * f.brow_thickness) * (1 - 0.35 * out)
        brow = numpy.maximum(abs(y) - thickness, 4.6 * abs(out) - 4.4)
        view.paint(0.9 * view.cover(brow), 0.45 * self.hair + _BROW)

    def glasses(self) -> None:
        view, head = (v.window(-28, 28, -12, 12) for v in (self.front, self.head))
        at = self.eyes * self.narrow
        lenses = []
        for side in (-1, 1):
            half = 5.7 * (self.narrow - 0.45 * side * self.turn)
            lenses.append(_box(view.x - side * at, view.y - 0.6, half, 4.7, 3.4))
        lenses = numpy.minimum(*lenses)
        bridge = numpy.maximum(abs(view.y + 0.6) - 0.5, abs(view.x) - at)
        beyond = numpy.maximum(at - abs(view.x), abs(head.x) - self.width + 1)
        arms = numpy.maximum(abs(view.y + 1.2) - 0.5, beyond)
        frame = numpy.minimum(abs(lenses) - 0.6, numpy.maximum(numpy.minimum(bridge, arms), -lenses))
        view.paint(0.12 * self.f.glasses * view.cover(lenses), _WHITE)
        view.paint(self.f.glasses * view.cover(frame), _FRAME)

    def hair_in_front(self) -> None:
        """The hair on the skull: a shape minus an opening for the face, which turns with the face.

        Except for a bob or long hair, it fades out near the ears.
        """
        f, view, x, y, width, top = self.f, self.head, self.head.x, self.head.y, self.width, self.top
        forward = x - 1.5 * f.yaw
        skull, end = _ellipse(x, y - top - 17, width, 17), 5
        if self.style == "cropped":
            shape = _ellipse(x, y - top - 17, width + 0.5, 17.6)
            opening = _ellipse(forward, y - 6, 0.92 * width, 18)
        elif self.style == "short":
            shape = _ellipse(x, y - top - 15.5, width + 1.3, 18.2)
            opening = numpy.maximum(_ellipse(forward - 1.5 + 0.2 * y, y - 5, 0.95 * width, 17), skull + 0.5)
        elif self.style == "swept":
            quiff = _ellipse(x - 4, y - top - 1.5, 11, 5.5)
            shape = _union(_ellipse(x, y - top - 15.5, width + 1.3, 17.2), quiff, 4)
            opening = numpy.maximum(_ellipse(forward - 0.2 - 0.3 * y, y - 6, 0.95 * width, 18), skull + 0.5)
        elif self.style == "curly":
            shape, opening = numpy.maximum(skull, y), _ellipse(forward, y - 6.5, 0.88 * width, 17.5)
            for across, down, radius in _CURLS:
                curl = _circle(x - across * (width / 15.2), y - down - (top + 19), radius)
                shape = _union(shape, curl, 1.5)
            end = 12
        elif self.style == "bun":
            shape = _ellipse(x, y - top - 16.5, width + 0.8, 17.8)
            opening = _ellipse(forward, y - 6.5, 0.93 * width, 19)
        elif self.style == "bob":
            shape = _ellipse(x, y - top - 16.5, width + 2.8, 19.5)
            shape = _union(shape, _box(x, y - 5.5, width + 3, 13.5, 5), 5)
            opening, end = _box(forward, y - 14.5, 0.84 * width, 22, 4), 60
        else:
            shape = _ellipse(x, y - top - 16.5, width + 2.8, 19.5)
            shape = _union(shape, _box(x, y - 16, width + 3, 24, 5), 5)
            opening, end = _ellipse(forward, y - 12, 0.86 * width, 24), 60
        view.shade(0.7 * self.face * _ramp(1 + opening / 2.5) * _ramp((end - y) / 8), _SHADOW)
        share = view.cover(shape) * (1 - view.cover(opening)) * _ramp((end - y) / 5)
        view.paint((0.88 if self.style == "cropped" else 1) * share, self.hair)
        across = _ramp(1.2 - _square((x - 6 * f.light_direction) / 12))
        shine = _ramp(1 - _square((y - top - 5 - 0.02 * x * x) / 3.2)) * across
        light = self.hair + 0.22 * (1 - self.hair) * self.hair + 0.05
        view.paint(0.55 * share * shine, light)
        if self.style == "curly":
            view.paint(0.35 * share * _ramp(-0.2 * shape - 0.3), light)
        view.shade(share * _ramp((y + 4) / 26), _HAIR_SHADE)
