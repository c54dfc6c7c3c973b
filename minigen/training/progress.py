"""How far a training run is: a bar in terminals and notebooks, a line now and then in logs."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

_LINES = 10             # in a log, for a whole run


class Progress:
    """Shows the iteration and the newest losses of the run ``name`` on stderr."""

    def __init__(self, name: str, total: int, bar: Any) -> None:
        self.name, self.total, self.bar = name, total, bar

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
        elif self.due(iteration) and sys.stderr is not None:
            losses = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            with suppress(OSError, ValueError):     # the log is full or closed: no reason to stop training
                print(f"{self.name}: iteration {iteration:,} of {self.total:,}: {losses}", file=sys.stderr)


@contextmanager
def progress(name: str, done: int, total: int) -> Iterator[Progress]:
    """The Progress of a run of ``total`` iterations, of which ``done`` are done already."""
    if not _shows_bars():
        yield Progress(name, total, None)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")         # it would rather have ipywidgets in a notebook
        from tqdm.auto import tqdm
    with tqdm(desc=name, total=total, initial=done) as bar:
        yield Progress(name, total, bar)


def _shows_bars() -> bool:
    """Whether stderr is a terminal or a notebook's."""
    try:
        return "ipykernel" in sys.modules or sys.stderr.isatty()
    except (AttributeError, ValueError):        # there is no stderr, or it is closed
        return False
