"""A table of runs: each metric's mean, standard deviation and 95 % interval for each group of settings."""

from __future__ import annotations

import csv
import io
import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy

from minigen import checks
from minigen.metrics.intervals import confidence_interval
from minigen.training import ArgumentError, Run, RunError

# What a run has besides its model's settings, under names that no setting can have
_OF_THE_RUN = {"batch_size": "batch size", "data": "trained on", "prepare": "prepared by",
               "iteration": "at iteration"}
_LATEX = str.maketrans({"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
                        **{c: f"\\{c}" for c in "&%$#_{}"}})


@dataclass
class Group:
    """Runs of one model that differ only in their seeds: their settings, and the metrics of each run."""

    model: str
    settings: dict[str, Any]
    runs: list[Run] = field(default_factory=list)
    seeds: list[tuple[int, Any]] = field(default_factory=list)
    records: list[dict[str, Any]] = field(default_factory=list)


def find(paths: Sequence[Path]) -> list[Run]:
    """The runs in these folders, each a run directory or a folder with run directories below it; every run
    once. ``RunError`` names a folder without any."""
    found: dict[Path, Run] = {}
    for path in paths:
        own = Run(path)
        runs = [own] if own.config_path.exists() else [
            Run(below.parent) for below in sorted(path.rglob(own.config_path.name))]
        if not runs:
            raise RunError(f"{path} is no run directory, and there is none below it")
        for run in runs:
            found.setdefault(run.folder.resolve(), run)
    return list(found.values())


def group(runs: Sequence[Run], iteration: int | None = None) -> list[Group]:
    """The runs in groups, with the metrics that each has logged last, or at this iteration.

    Metrics of different iterations are different groups. A run without such metrics is left out with a
    warning, and so is one whose settings and seed another has: an interval is of independent runs.
    ``RunError`` if no run has any.
    """
    groups: dict[str, Group] = {}
    for run in runs:
        records = [record for record in run.metrics() if iteration in (None, record["iteration"])]
        if not records:
            when = "" if iteration is None else f" at iteration {iteration}"
            warnings.warn(f"left out: {run.folder} has no metrics{when}", stacklevel=2)
            continue
        config = {**run.config(), "iteration": records[-1]["iteration"]}
        settings = config["settings"] | {name: config[key] for key, name in _OF_THE_RUN.items()}
        seeds = config["seed"], settings.pop("seed", None)
        key = json.dumps([config["model"], settings], sort_keys=True)
        one = groups.setdefault(key, Group(config["model"], settings))
        if seeds in one.seeds:
            warnings.warn(f"left out: {run.folder} has the same settings and seed as "
                          f"{one.runs[one.seeds.index(seeds)].folder}, and an interval is of independent "
                          "runs", stacklevel=2)
            continue
        one.runs.append(run)
        one.seeds.append(seeds)
        one.records.append({key: value for key, value in records[-1].items() if key != "iteration"})
    if not groups:
        raise RunError("no run has metrics" + ("" if iteration is None else f" at iteration {iteration}"))
    return list(groups.values())


def make(groups: Sequence[Group], metrics: Sequence[str] = (), format: str = "text") -> str:
    """The table as text of a ``format`` in ``FORMATS``: a row for each metric and group.

    Without ``metrics`` it has all; ``ArgumentError`` names one that no run has. Its columns are the metric,
    the model, the settings in which the groups of a model differ, the number of runs, the mean, the standard
    deviation and Student's 95 % interval. A single run has only a mean. CSV has all digits.
    """
    there = list(dict.fromkeys(name for one in groups for record in one.records for name in record))
    for name in metrics:
        if name not in there:
            raise ArgumentError(f"argument --metrics: {', '.join(there)} expected, "
                                f"{checks.shown(name)} found")
    columns = _columns(groups)
    exact = format == "csv"
    rows = [["metric", "model", *columns, "runs", "mean",
             *(["sd", "low", "high"] if exact else ["s.d.", "95 % interval"])]]
    for name in metrics or there:
        for one in groups:
            having = sum(name in record for record in one.records)
            if 0 < having < len(one.records):
                warnings.warn(f"left out: {name} of {one.model}, which {having} of {len(one.records)} runs "
                              "with the same settings have", stacklevel=2)
            elif having:
                cells = [one.model, *(str(one.settings.get(column, "")) for column in columns)]
                values = [record[name] for record in one.records]
                rows.append([name, *cells, str(len(values)), *(_exact if exact else _rounded)(values)])
    return FORMATS[format](rows)


def _columns(groups: Sequence[Group]) -> list[str]:
    """The settings in which groups differ: those of models, groups of the same model."""
    seen: dict[str, dict[str, set[str]]] = {}
    for one in groups:
        for name, value in one.settings.items():
            model = "" if name in _OF_THE_RUN.values() else one.model
            seen.setdefault(name, {}).setdefault(model, set()).add(json.dumps(value))
    return [name for name, of_models in seen.items() if any(len(values) > 1 for values in of_models.values())]


def _statistics(values: Sequence[float]) -> list[float]:
    """The mean and, of several finite values, the standard deviation and the ends of the interval."""
    if len(values) < 2 or not numpy.isfinite(values).all():
        return [float(numpy.mean(values))]
    interval = confidence_interval(values)
    return [interval["mean"], float(numpy.std(values, ddof=1)), interval["low"], interval["high"]]


def _exact(values: Sequence[float]) -> list[str]:
    return ([repr(number) for number in _statistics(values)] + [""] * 3)[:4]


def _rounded(values: Sequence[float]) -> list[str]:
    """Mean, standard deviation and interval, with at least two digits of the standard deviation."""
    mean, *others = _statistics(values)
    if not others or others[0] == 0:
        return [f"{mean:.4g}", *(["0", f"[{mean:.4g}, {mean:.4g}]"] if others else ["", ""])]
    decimals = max(0, 1 - math.floor(math.log10(others[0])))
    text = [f"{number:.{decimals}f}" for number in (mean, *others)]
    return [text[0], text[1], f"[{text[2]}, {text[3]}]"]


def _text(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows)]
    named = len(rows[0]) - 4        # columns of words
    return "".join("  ".join(cell.ljust(width) if i < named else cell.rjust(width)
                             for i, (cell, width) in enumerate(zip(row, widths))).rstrip() + "\n"
                   for row in rows)


def _csv(rows: Sequence[Sequence[str]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows(rows)
    return file.getvalue()


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows]
    return "".join([lines[0], f"|{'---|' * len(rows[0])}\n", *lines[1:]])


def _latex(rows: Sequence[Sequence[str]]) -> str:
    header, *others = [[cell.translate(_LATEX) for cell in row] for row in rows]
    named = len(header) - 4
    others = [row[:named] + [f"${cell}$" if cell else "" for cell in row[named:]] for row in others]
    first, *lines = [f"{' & '.join(row)} \\\\\n" for row in (header, *others)]
    return "".join([f"\\begin{{tabular}}{{{'l' * named}rrrr}}\n\\hline\n", first, "\\hline\n", *lines,
                    "\\hline\n\\end{tabular}\n"])


FORMATS: dict[str, Callable[[Sequence[Sequence[str]]], str]] = {
    "text": _text, "csv": _csv, "markdown": _markdown, "latex": _latex}
