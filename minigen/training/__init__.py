"""Training: the loop, and the run directory that holds its whole record."""

from minigen.training.batches import LoadError
from minigen.training.loop import Diverged, train
from minigen.training.run import Run, RunError, load

__all__ = ["Diverged", "LoadError", "Run", "RunError", "load", "train"]
