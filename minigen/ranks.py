"""The ranks of one training: the processes that MPI starts together, or this one alone.

``mpiexec -n 4 python -m mpi4py script.py`` makes four ranks. They run the same program, each takes its share
of every batch, and all have the same model. Under ``python -m mpi4py.futures`` each process trains for
itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy

_sharers = 1            # ranks that share the present step


class _Alone:
    """One rank, with the part of MPI's interface that is used here."""

    rank, size = 0, 1

    def bcast(self, value: Any) -> Any:
        return value

    def Barrier(self) -> None:
        pass


@cache
def _world() -> Any:
    if "mpi4py.run" not in sys.modules or "mpi4py.futures" in sys.modules:
        return _Alone()
    from mpi4py import MPI
    return MPI.COMM_WORLD


def rank() -> int:
    """The number of this rank; rank 0 writes."""
    return _world().rank


def size() -> int:
    """The number of ranks."""
    return _world().size


@cache
def _machine() -> Any:
    if size() == 1:
        return _world()
    from mpi4py import MPI
    return _world().Split_type(MPI.COMM_TYPE_SHARED)


def per_machine() -> int:
    """The number of ranks on this machine."""
    return _machine().size


def on_machine() -> int:
    """The number of this rank among those on its machine; it tells them apart on a machine's GPUs."""
    return _machine().rank


def broadcast(value: Any) -> Any:
    """The value that rank 0 has."""
    return _world().bcast(value)


def total(array: numpy.ndarray) -> numpy.ndarray:
    """The sum of the arrays of all ranks, with the same bits on each."""
    if size() == 1:
        return array
    from mpi4py import MPI
    result = numpy.array(array, order="C")
    _world().Allreduce(MPI.IN_PLACE, result)
    return result


def mean(array: numpy.ndarray) -> numpy.ndarray:
    """The mean of the arrays of all ranks, with the same bits on each."""
    return array if size() == 1 else total(array) / size()


def barrier() -> None:
    """Wait for all ranks."""
    _world().Barrier()


@contextmanager
def shared_step() -> Iterator[None]:
    """The context of a step that the ranks share: batches are one rank's share, and means those of all."""
    global _sharers
    _sharers = size()
    try:
        yield
    finally:
        _sharers = 1


def sharers() -> int:
    """The number of ranks that share the present step; 1 outside ``shared_step``."""
    return _sharers


def share(rows: Any) -> Any:
    """This rank's share of the rows (N, ...) of the present step: every ``sharers()``-th. So a share of
    several batches, one after the other, consists of a share of each."""
    return rows if _sharers == 1 else numpy.ascontiguousarray(rows[rank()::_sharers])
