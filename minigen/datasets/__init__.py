"""Data sets, as arrays."""

from minigen.datasets.faces import faces
from minigen.datasets.mnist import Dataset, mnist

__all__ = ["Dataset", "faces", "mnist"]
