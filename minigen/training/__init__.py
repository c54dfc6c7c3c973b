"""Training: the loop, and the run directory that holds its whole record."""

from minigen.training.batches import LoadError
from minigen.training.checks import ArgumentError
from minigen.training.loading import load
from minigen.training.loop import Diverged, train
from minigen.training.run import Run, RunError
from minigen.training.signals import Interrupted

__all__ = ["ArgumentError", "Diverged", "Interrupted", "LoadError", "Run", "RunError", "load", "train"]
