"""Data sets, as arrays, and batches of their images as networks expect them."""

from minigen.datasets.celeba import celeba
from minigen.datasets.dataset import Dataset, flip_and_scale, scale
from minigen.datasets.faces import faces
from minigen.datasets.folder import folder
from minigen.datasets.mnist import mnist
from minigen.datasets.photographs import photographs
from minigen.datasets.stacked import stacked_mnist
from minigen.datasets.toy import Mixture, grid, ring

__all__ = ["Dataset", "Mixture", "celeba", "faces", "flip_and_scale", "folder", "grid", "mnist",
           "photographs", "ring", "scale", "stacked_mnist"]
