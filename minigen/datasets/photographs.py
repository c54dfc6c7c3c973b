"""Photographs to train on, whatever they are: CelebA, or your own."""

from __future__ import annotations

import os

from minigen import checks, storage
from minigen.datasets import pictures
from minigen.datasets.celeba import celeba, recognised
from minigen.datasets.dataset import Dataset
from minigen.datasets.folder import folder


def photographs(path: str | os.PathLike[str], side: int = 64) -> Dataset:
    """``celeba`` of numbered images of CelebA's size, 178 x 218 pixels, in a folder or an archive; ``folder``
    of anything else. Images (N, side, side, 3) uint8."""
    side = checks.whole("photographs", "side", side, most=pictures.LARGEST)
    return celeba(path, side) if recognised(storage.expand("photographs", path)) else folder(path, side)
