"""Toy data in the plane: mixtures of normal distributions, whose modes are known."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy

from minigen import checks

_LARGEST = 1e9      # of lengths: the points are float32


@dataclass(frozen=True, eq=False)
class Mixture:
    """Points drawn from normal distributions in the plane, and those distributions.

    ``points`` are (n, 2) float32; ``labels`` (n,) int64 say which component drew each. The components are
    equally likely. They have the means ``centres`` (modes, 2) float64 and the same standard deviation
    ``sigma`` in both directions. ``name`` is for titles.
    """

    points: numpy.ndarray
    labels: numpy.ndarray
    centres: numpy.ndarray
    sigma: float
    name: str

    def __repr__(self) -> str:
        return (f"<Mixture {self.name}: {len(self.points):,} points, {len(self.centres)} modes, sigma "
                f"{self.sigma:g}>")


def ring(n: int = 100_000, seed: int = 0, *, modes: int = 8, radius: float = 1.0,
         sigma: float = 0.01) -> Mixture:
    """``n`` points from ``modes`` normal distributions, evenly spaced on a circle around the origin.

    Component i is at the angle 2 pi i / modes. The defaults are those of PacGAN (Lin et al., 2018). A point
    depends on ``seed`` and on its position, but not on the number of points. ``ValueError`` for fewer than 1
    point or mode, and for a ``radius`` or ``sigma`` that is not positive.
    """
    modes = checks.whole("ring", "modes", modes)
    radius = checks.real("ring", "radius", radius, f"(0, {_LARGEST:g}]")
    angles = numpy.arange(modes) * (2 * math.pi / modes)
    return _mixture("ring", n, seed, radius * numpy.stack([numpy.cos(angles), numpy.sin(angles)], axis=1),
                    sigma)


def grid(n: int = 100_000, seed: int = 0, *, side: int = 5, spacing: float = 2.0,
         sigma: float = 0.05) -> Mixture:
    """``n`` points from ``side`` x ``side`` normal distributions on a square grid around the origin.

    Components are counted from the lowest row up, each row from the left; neighbours are ``spacing`` apart.
    The defaults are those of PacGAN (Lin et al., 2018). A point depends on ``seed`` and on its position, but
    not on the number of points. ``ValueError`` for fewer than 1 point or mode, and for a ``spacing`` or
    ``sigma`` that is not positive.
    """
    side = checks.whole("grid", "side", side, most=10_000)
    spacing = checks.real("grid", "spacing", spacing, f"(0, {_LARGEST:g}]")
    places = spacing * (numpy.arange(side) - (side - 1) / 2)
    y, x = numpy.meshgrid(places, places, indexing="ij")
    return _mixture("grid", n, seed, numpy.stack([x.ravel(), y.ravel()], axis=1), sigma)


def _mixture(name: str, n: int, seed: int, centres: numpy.ndarray, sigma: float) -> Mixture:
    n, seed = checks.whole(name, "n", n), checks.seed(name, seed)
    sigma = checks.real(name, "sigma", sigma, f"(0, {_LARGEST:g}]")
    labels = numpy.random.default_rng((seed, 0)).integers(0, len(centres), n)
    noise = numpy.random.default_rng((seed, 1)).standard_normal((n, 2))
    return Mixture((centres[labels] + sigma * noise).astype("float32"), labels, centres, sigma, name)
