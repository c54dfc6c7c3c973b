"""Data sets, as arrays."""

from minigen.datasets.mnist import Dataset, mnist

__all__ = ["Dataset", "mnist"]
