"""Signals that ask a program to end: Ctrl-C, and what schedulers and closing terminals send."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


_numbers: list[int] | None = None       # what the active `received` has noted


class Interrupted(KeyboardInterrupt):
    """Training has ended early, after a checkpoint, because ``signal`` asked for it; it can be resumed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)

    def __reduce__(self) -> tuple[Any, ...]:
        return Interrupted, (str(self), int(self.signal))


@contextmanager
def received() -> Iterator[list[int]]:
    """A list that the signals SIGINT, SIGTERM and SIGHUP are appended to instead of ending the program.

    A second SIGINT raises KeyboardInterrupt at once; what then cleans up is not disturbed by a third. Signals
    that are ignored stay so. Only the main thread gets signals: elsewhere the list stays empty. Within this
    context there is no other list.
    """
    global _numbers
    if _numbers is not None or threading.current_thread() is not threading.main_thread():
        yield [] if _numbers is None else _numbers
        return
    numbers: list[int] = []

    def note(number: int, frame: Any) -> None:
        numbers.append(number)
        if number == signal.SIGINT and numbers.count(number) == 2:
            signal.default_int_handler(number, frame)

    before = {number: signal.getsignal(number) for number in _not_ignored()}
    try:
        _numbers = numbers
        for number in before:
            signal.signal(number, note)
        yield numbers
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _numbers = None


@contextmanager
def held_back() -> Iterator[None]:
    """A process that this thread starts in the block gets no signal before its ``receive_for_good``."""
    before = _mask("SIG_BLOCK", _STOPPING)
    try:
        yield
    finally:
        _mask("SIG_SETMASK", before)


def receive_for_good() -> None:
    """Append the signals to a list, as ``received`` does, until the process ends: for a worker process.

    Those that were ``held_back`` come now. A second SIGINT changes nothing either. It reaches the parent as
    well, which then ends the worker.
    """
    global _numbers
    _numbers = []
    for number in _not_ignored():
        signal.signal(number, lambda number, frame: stop(number))
    _mask("SIG_UNBLOCK", _STOPPING)


def _mask(how: str, numbers: Iterable[int]) -> Iterable[int]:
    if not hasattr(signal, "pthread_sigmask"):      # on Windows
        return ()
    return signal.pthread_sigmask(getattr(signal, how), numbers)


def stop(number: int = signal.SIGTERM) -> None:
    """Do as if the signal ``number`` had come; only after ``receive_for_good``."""
    _numbers.append(number)


def _not_ignored() -> list[int]:
    return [number for number in _STOPPING if signal.getsignal(number) not in (signal.SIG_IGN, None)]
