"""Data sets, as arrays."""

from minigen.datasets.celeba import celeba
from minigen.datasets.faces import faces
from minigen.datasets.images import flip_and_scale, scale
from minigen.datasets.mnist import Dataset, mnist

__all__ = ["Dataset", "celeba", "faces", "flip_and_scale", "mnist", "scale"]
