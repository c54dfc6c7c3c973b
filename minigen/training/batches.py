"""The batches of a training run: which images each step takes, and how they are loaded ahead of time."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy

_AHEAD = 2          # batches that are ready before they are needed
_CHUNK = 1 << 24    # bytes, about, of a data set that are looked at together


class LoadError(Exception):
    """A batch could not be loaded or prepared; the message names the iteration and the cause, which is also
    ``__cause__``.

    No RuntimeError: ``contextmanager`` takes one that StopIteration caused for its own and raises the latter.
    """


@contextmanager
def loading(iteration: int) -> Iterator[None]:
    """An error in the block becomes ``LoadError``."""
    try:
        yield
    except Exception as error:
        cause = str(error) or type(error).__name__
        raise LoadError(f"the images of iteration {iteration} could not be loaded: {cause}") from error


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


def prefetch(load: Callable[[int], Any], iterations: range) -> Iterator[Any]:
    """load(i) for each iteration in turn, loaded on another thread while earlier batches are in use."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        waiting = deque()

        def begin(iteration: int) -> None:
            with loading(iteration):        # it may not be allowed another thread
                waiting.append(thread.submit(load, iteration))
        try:
            for i in iterations[:_AHEAD]:
                begin(i)
            for i in iterations:
                if i + _AHEAD in iterations:
                    begin(i + _AHEAD)
                with loading(i):
                    images = waiting.popleft().result()
                yield images
        finally:
            for future in waiting:
                future.cancel()


def fingerprint(images: numpy.ndarray) -> str:
    """Dtype, shape, and a checksum of all images, to tell data sets apart."""
    checksum, rows = 0, max(1, _CHUNK * len(images) // max(1, images.nbytes))
    for i in range(0, len(images), rows):
        checksum = zlib.crc32(numpy.ascontiguousarray(images[i:i + rows]), checksum)
    return f"{images.dtype} {images.shape} crc32 {checksum:08x}"
