"""What an example has left in its folder: its results, and how they were made."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minigen import storage, training


@dataclass(frozen=True)
class Outcome:
    """One example's results: ``summary`` is its summary.json, the others are from its command.json.

    ``flags`` are those that the results depend on: all but --out and --resume.
    """

    folder: Path
    summary: Mapping[str, Any]
    flags: Sequence[str]
    versions: Mapping[str, Any]
    machine: str
    seconds: float


def read(folder: Path) -> Outcome | None:
    """The results in this folder; None if the example has not ended there. ``RunError`` if they are
    damaged."""
    try:
        # The example writes command.json last.
        made = json.loads(storage.read(folder / "command.json"))
        summary = json.loads(storage.read(folder / "summary.json"))
        return Outcome(folder, dict(summary), _flags(made["command"]), dict(made["versions"]),
                       str(made["machine"]), float(made["seconds"]))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (KeyError, TypeError, ValueError) as error:
        raise training.RunError(f"{folder}: summary.json and command.json as an example writes them "
                                f"expected, damaged ones found ({type(error).__name__}: {error}); delete "
                                "command.json to run the example again") from error


def _flags(command: str) -> list[str]:
    _, *flags = shlex.split(command)
    if "--out" in flags:
        place = flags.index("--out")
        del flags[place:place + 2]
    return [flag for flag in flags if flag != "--resume"]
