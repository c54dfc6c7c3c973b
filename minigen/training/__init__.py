"""Training: the loop, and the run directory that is its whole record."""

from minigen.training.loop import Diverged, LoadError, train
from minigen.training.run import Run, RunError, load

__all__ = ["Diverged", "LoadError", "Run", "RunError", "load", "train"]
