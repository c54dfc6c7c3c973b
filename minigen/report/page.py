"""The page: everything that was found, beside the paper's, in one file that loads nothing."""

from __future__ import annotations

import base64
import errno
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

from minigen import storage
from minigen.report.equations import EQUATIONS
from minigen.report.findings import Finding
from minigen.report.items import QUESTIONS, RESULTS, Figure, Item
from minigen.report.outcome import Outcome

_HERE = Path(__file__).parent
_STILL = {".svg": "image/svg+xml", ".png": "image/png"}     # the first there is is embedded
_FORMATS = {".gif": "image/gif", **_STILL}
_SUBSCRIPT = re.compile(r"\b(\w|min|max|sum)_([\w,]*\w)")
MISSING = Finding("missing", "The example that answers this has not ended.", [])


@dataclass(frozen=True)
class Section:
    """An item with what was found, its figures as (figure, data URI, data URI without motion), and how it was
    made."""

    item: Item
    finding: Finding
    figures: list[tuple[Figure, str, str]]
    outcome: Outcome | None

    @property
    def command(self) -> str:
        """The command that made it, as a reader would type it."""
        assert self.outcome is not None
        return shlex.join(["python", f"examples/{self.item.example}.py", *self.outcome.flags])


def render(outcomes: Mapping[str, Outcome | None], explorer: Mapping[str, Any] | None, quick: bool) -> str:
    """The page as HTML, with a section for each figure, table, equation and open question of the paper.

    ``outcomes`` holds what each example has left, by its name, or None where there is nothing; the page names
    those. ``explorer`` is what ``export`` returns, or None if there are no models to explore. ``quick`` makes
    the page say that its numbers come from short runs.
    """
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(_HERE), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters["prose"] = prose
    found = {name: outcome for name, outcome in outcomes.items() if outcome is not None}
    versions: dict[str, list[str]] = {}
    for name, outcome in found.items():
        text = ", ".join(f"{key} {value}" for key, value in outcome.versions.items())
        versions.setdefault(text, []).append(name)
    return environment.get_template("page.html").render(
        results=[_section(item, outcomes) for item in RESULTS],
        questions=[_section(item, outcomes) for item in QUESTIONS], equations=EQUATIONS, explorer=explorer,
        quick=quick, found=found, missing=[name for name in outcomes if name not in found],
        versions=versions, style=_asset("style.css"), script=_asset("explorer.js"))


def _section(item: Item, outcomes: Mapping[str, Outcome | None]) -> Section:
    if item.example is None:
        return Section(item, item.find({}), [], None)
    outcome = outcomes[item.example]
    if outcome is None:
        return Section(item, MISSING, [], None)
    figures = [(figure, embedded(outcome.folder, figure.stem, _FORMATS),
                embedded(outcome.folder, figure.stem, _STILL)) for figure in item.figures]
    return Section(item, item.find(outcome.summary), figures, outcome)


def embedded(folder: Path, stem: str, formats: Mapping[str, str]) -> str:
    """The figure ``stem`` in the folder as a data URI, in the first of the ``formats`` that is there.

    ``formats`` are media types by suffix. ``FileNotFoundError`` names the figure if there is none.
    """
    for suffix, kind in formats.items():
        path = folder / f"{stem}{suffix}"
        if path.exists():
            return f"data:{kind};base64,{base64.b64encode(storage.read(path)).decode('ascii')}"
    raise FileNotFoundError(errno.ENOENT, f"a figure with suffix {', '.join(formats)} expected, none found",
                            str(folder / stem))


def prose(text: str) -> Markup:
    """Text as HTML: what stands in double backticks becomes code, and elsewhere p_i and P_data get
    subscripts."""
    return Markup("").join(Markup("<code>{}</code>").format(part) if i % 2 else
                           Markup(_SUBSCRIPT.sub(r"\1<sub>\2</sub>", str(escape(part))))
                           for i, part in enumerate(text.split("``")))


def _asset(name: str) -> Markup:
    return Markup((_HERE / name).read_text(encoding="utf-8"))
