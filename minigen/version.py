"""The version of the package, on its own so that every other module may import it."""

__version__ = "0.1.0"
