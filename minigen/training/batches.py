"""The batches of a training run: which images each step takes, and how they are loaded ahead of time."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy

_AHEAD = 2          # batches that are ready before they are needed


class LoadError(RuntimeError):
    """A batch could not be loaded or prepared; the message names the iteration and the cause, which is also
    ``__cause__``."""


class Batches:
    """Selects each step's images among ``n``: every epoch, a new random order is cut into batches.

    An incomplete last batch is left out. The order depends only on ``seed``, a sequence of integers, and on
    the epoch, so that a resumed run takes the same images.
    """

    def __init__(self, n: int, batch: int, seed: tuple[int, ...]) -> None:
        self.n, self.batch, self.seed = n, batch, seed
        self.epoch = -1

    def indices(self, iteration: int) -> numpy.ndarray:
        """The indices (batch,) of this iteration's images; the first iteration is 1."""
        epoch, position = divmod(iteration - 1, self.n // self.batch)
        if epoch != self.epoch:
            self.epoch = epoch
            self.order = numpy.random.default_rng((*self.seed, epoch)).permutation(self.n)
        return self.order[position * self.batch:(position + 1) * self.batch]


def prefetch(load: Callable[[int], numpy.ndarray], iterations: range) -> Iterator[numpy.ndarray]:
    """load(i) for each iteration in turn, loaded on another thread while earlier batches are in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting = deque(thread.submit(load, i) for i in iterations[:_AHEAD])
        try:
            for i in iterations:
                if i + _AHEAD in iterations:
                    waiting.append(thread.submit(load, i + _AHEAD))
                try:
                    images = waiting.popleft().result()
                except Exception as error:
                    raise LoadError(f"the images of iteration {i} could not be loaded: {error}") from error
                yield images
        finally:
            for future in waiting:
                future.cancel()


def fingerprint(images: numpy.ndarray) -> str:
    """Dtype, shape, and a checksum of a thousand or more images from all parts, to tell data sets apart."""
    rows = numpy.ascontiguousarray(images[::max(1, len(images) // 1000)])
    return f"{images.dtype} {images.shape} crc32 {zlib.crc32(rows):08x}"
