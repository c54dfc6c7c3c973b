"""How far training is: bars in terminals and notebooks, a line now and then in logs."""

from __future__ import annotations

import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

_LINES = 10             # in a log, for a whole run

_canvas: dict[str, Any] | None = None       # in a worker process, where tqdm draws its bars


class Progress:
    """Shows the iteration and the newest losses of the run ``name`` on stderr."""

    def __init__(self, name: str, total: int, bar: Any, shown: bool = True) -> None:
        self.name, self.total, self.bar, self.shown = name, total, bar, shown

    def due(self, iteration: int) -> bool:
        """Whether the losses of this iteration are shown: at every tenth of the run."""
        return iteration * _LINES // self.total > (iteration - 1) * _LINES // self.total

    def step(self) -> None:
        """One more iteration is done."""
        if self.bar is not None:
            self.bar.update()

    def show(self, iteration: int, metrics: Mapping[str, float]) -> None:
        """Show the metrics of this iteration, in a log only if they are due."""
        if self.bar is not None:
            self.bar.set_postfix(metrics, refresh=False)
        elif self.shown and self.due(iteration):
            losses = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            _log(f"{self.name}: iteration {iteration:,} of {self.total:,}: {losses}")


@contextmanager
def progress(name: str, done: int, total: int, shown: bool) -> Iterator[Progress]:
    """The Progress of a run of ``total`` iterations, of which ``done`` are done already; ``shown`` or not."""
    if not shown or _canvas is None and not _shows_bars():
        yield Progress(name, total, None, shown)
        return
    with _tqdm()(desc=name, total=total, initial=done, **(_canvas or {})) as bar:
        yield Progress(name, total, bar)


class Overview:
    """Shows how many of ``total`` runs are done, and the bars of worker processes."""

    def __init__(self, total: int, whole: Any, bars: list[Any]) -> None:
        self.total, self.whole, self.bars = total, whole, bars
        self.done, self.lock = 0, threading.Lock()

    @property
    def columns(self) -> int | None:
        """The width of a worker's bar; None if it is to write lines to the log instead."""
        return self.whole.ncols or shutil.get_terminal_size().columns if self.bars else None

    def show(self, place: int, text: str) -> None:
        """Show ``text``, the bar of the worker at this place."""
        self.bars[place].set_description_str(text)

    def one_done(self) -> None:
        """One more run is done; any thread may say so."""
        with self.lock:
            self.done += 1
            if self.whole is not None:
                self.whole.update()
            elif self.total > 1:
                _log(f"{self.done} of {self.total} runs done")


@contextmanager
def overview(total: int, workers: int) -> Iterator[Overview]:
    """The Overview of ``total`` runs, with a line for each of several workers."""
    if not _shows_bars() or total == 1:
        yield Overview(total, None, [])
        return
    with ExitStack() as stack:
        def line(place: int, **options: Any) -> Any:
            return stack.enter_context(_tqdm()(position=place, leave=False, **options))
        whole = line(0, desc="runs", total=total, unit="run")
        places = range(1, workers + 1) if workers > 1 else ()
        yield Overview(total, whole, [line(place, bar_format="{desc}") for place in places])


class _Sender:
    """A file for tqdm, which sends what is on its line."""

    encoding = "utf-8"

    def __init__(self, send: Callable[[str], None]) -> None:
        self.send, self.lock = send, threading.Lock()

    def write(self, text: str) -> None:
        with self.lock, suppress(OSError):      # tqdm also writes on a thread of its own
            self.send(text.strip())

    def flush(self) -> None:
        pass


def draw_through(send: Callable[[str], None], columns: int) -> None:
    """From now on, draw bars by giving their line, ``columns`` wide, to ``send``: for a worker process."""
    global _canvas
    _canvas = {"file": _Sender(send), "ncols": columns, "leave": False}


def _tqdm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # it would rather have ipywidgets in a notebook
        from tqdm.auto import tqdm
    return tqdm


def _log(line: str) -> None:
    with suppress(OSError, ValueError):         # the log is full or closed: no reason to stop training
        if sys.stderr is not None:
            print(f"{line}\n", end="", file=sys.stderr)     # in one piece, between those of other workers


def _shows_bars() -> bool:
    """Whether stderr is a terminal or a notebook's."""
    try:
        return type(sys.stderr).__module__.startswith("ipykernel.") or sys.stderr.isatty()
    except (AttributeError, ValueError):        # there is no stderr, or it is closed
        return False
