"""Signals that ask a program to end: Ctrl-C, and what schedulers and closing terminals send."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupted(KeyboardInterrupt):
    """Training has ended early, after a checkpoint, because ``signal`` asked for it; it can be resumed."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.signal = signal.Signals(number)


@contextmanager
def received() -> Iterator[list[int]]:
    """A list that the signals SIGINT, SIGTERM and SIGHUP are appended to instead of ending the program.

    A second SIGINT raises KeyboardInterrupt at once. Signals that are ignored stay so. Only the main thread
    gets signals: elsewhere the list stays empty.
    """
    numbers: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield numbers
        return

    def note(number: int, frame: Any) -> None:
        if number == signal.SIGINT and number in numbers:
            signal.default_int_handler(number, frame)
        numbers.append(number)

    before = {number: signal.getsignal(number) for number in _STOPPING}
    noted = [number for number in _STOPPING if before[number] not in (signal.SIG_IGN, None)]
    try:
        for number in noted:
            signal.signal(number, note)
        yield numbers
    finally:
        for number in noted:
            signal.signal(number, before[number])
