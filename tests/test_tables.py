"""Tables of runs: which runs are a group, which columns there are, and the numbers in them."""

import csv
import io
import json
import math
import statistics

import pytest

from minigen import tables, training
from minigen.training import RunError

CONFIG = {"model": "GAN", "settings": {"lr": 0.1, "sizes": [4, 2], "seed": 0}, "seed": 0, "batch_size": 8,
          "data": "float32", "prepare": None, "iterations": 20, "checkpoint_every": 10, "start": "",
          "environment": {}}


def write(folder, seed=0, records=({"iteration": 20, "loss": 1.0},), settings=None, **config):
    """A run directory with this configuration and these metrics."""
    folder.mkdir(parents=True)
    settings = {**CONFIG["settings"], "seed": seed, **(settings or {})}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "seed": seed, **config, "settings": settings}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def seeds(folder, values, **changes):
    """A run for each of the values of the metric ``loss``."""
    for seed, value in enumerate(values):
        write(folder / f"seed{seed}", seed, ({"iteration": 20, "loss": value},), **changes)


def table(*folders, metrics=(), iteration=None):
    """The table as dicts, from CSV."""
    text = tables.make(tables.group(tables.find(folders), iteration), metrics, "csv")
    return list(csv.DictReader(io.StringIO(text)))


def test_the_numbers_of_a_group(tmp_path):
    values = [1.5, 2.25, 3.75, 2.0]
    seeds(tmp_path, values)
    row, = table(tmp_path)
    assert list(row) == ["metric", "model", "runs", "mean", "sd", "low", "high"]
    assert (row["metric"], row["model"], row["runs"]) == ("loss", "GAN", "4")
    mean, deviation = statistics.mean(values), statistics.stdev(values)
    half = 3.182446305284263 * deviation / 2            # Student's t with 3 degrees of freedom, as tabulated
    assert [float(row[key]) for key in ("mean", "sd", "low", "high")] == pytest.approx(
        [mean, deviation, mean - half, mean + half], rel=1e-6)


def test_columns_name_the_settings_that_vary(tmp_path):
    seeds(tmp_path / "a", [1, 2])
    seeds(tmp_path / "b", [3, 4], settings={"lr": 0.2})
    seeds(tmp_path / "c", [5, 6], settings={"lr": 0.3, "clip": 0.01}, model="WGAN")
    rows = table(tmp_path)
    assert [(row["model"], row["lr"], row["runs"], float(row["mean"])) for row in rows] == [
        ("GAN", "0.1", "2", 1.5), ("GAN", "0.2", "2", 3.5), ("WGAN", "0.3", "2", 5.5)]
    assert "clip" not in rows[0] and "sizes" not in rows[0]
    assert list(table(tmp_path / "a", tmp_path / "c")[0])[2:] == ["runs", "mean", "sd", "low", "high"]


@pytest.mark.parametrize("change, column, values", [
    ({"batch_size": 16}, "batch size", ["8", "16"]),
    ({"data": "float64"}, "trained on", ["float32", "float64"]),
    ({"prepare": "flip"}, "prepared by", ["None", "flip"]),
    ({"records": [{"iteration": 10, "loss": 1.0}]}, "at iteration", ["20", "10"]),
    ({"records": [{"iteration": 10, "loss": 1.0}], "model": "VAE"}, "at iteration", ["20", "10"]),
    ({"settings": {"sizes": [4, 3]}}, "sizes", ["[4, 2]", "[4, 3]"])])
def test_what_separates_groups(tmp_path, change, column, values):
    write(tmp_path / "a")
    write(tmp_path / "b", 1, **change)
    assert [row[column] for row in table(tmp_path)] == values


def test_a_setting_of_a_users_model_that_has_a_runs_name(tmp_path):
    write(tmp_path / "a", settings={"data": "x", "iteration": 1, "model": 3})
    write(tmp_path / "b", settings={"data": "y", "iteration": 1, "model": 3})
    assert [row["data"] for row in table(tmp_path)] == ["x", "y"]


def test_metrics_and_iterations_are_chosen(tmp_path):
    for seed in (0, 1):
        write(tmp_path / str(seed), seed, [{"iteration": 10, "loss": 9.0 + seed, "early": 1.0},
                                           {"iteration": 20, "loss": 1.0, "kl": 2.0 + seed}])
    assert [(row["metric"], float(row["mean"])) for row in table(tmp_path)] == [("loss", 1.0), ("kl", 2.5)]
    assert [row["metric"] for row in table(tmp_path, metrics=["kl", "loss"])] == ["kl", "loss"]
    assert [(row["metric"], float(row["mean"])) for row in table(tmp_path, iteration=10)] == [
        ("loss", 9.5), ("early", 1.0)]
    with pytest.raises(training.ArgumentError, match="--metrics: loss, kl expected, 'early' found"):
        table(tmp_path, metrics=["loss", "early"])


def test_a_run_that_has_not_come_so_far_is_a_group_of_its_own(tmp_path):
    write(tmp_path / "a", 0, [{"iteration": 10, "loss": 9.0}, {"iteration": 20, "loss": 1.0}])
    write(tmp_path / "b", 1, [{"iteration": 10, "loss": 9.0}])
    assert [(row["at iteration"], row["mean"]) for row in table(tmp_path)] == [("20", "1.0"), ("10", "9.0")]


def test_a_metric_that_one_run_of_a_group_lacks_is_not_in_the_table(tmp_path):
    write(tmp_path / "a", 0, [{"iteration": 20, "loss": 9.0, "kl": 1.0}])
    write(tmp_path / "b", 1)
    with pytest.warns(UserWarning, match="left out: kl of GAN, which 1 of 2 runs with the same "):
        rows = table(tmp_path)
    assert [row["metric"] for row in rows] == ["loss"]


def test_models_with_the_same_settings_are_two_groups(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", 1, model="VAE")
    assert [(row["model"], row["runs"]) for row in table(tmp_path)] == [("GAN", "1"), ("VAE", "1")]


@pytest.mark.parametrize("other", [
    {"seed": 1, "settings": {"seed": 0}}, {"seed": 0, "settings": {"seed": 1}}])
def test_runs_differ_by_the_seed_of_the_model_or_that_of_its_training(tmp_path, other):
    write(tmp_path / "a")
    write(tmp_path / "b", **other)
    assert table(tmp_path)[0]["runs"] == "2"


def test_what_has_no_interval(tmp_path):
    write(tmp_path / "one")
    row, = table(tmp_path)
    assert [row[key] for key in ("mean", "sd", "low", "high")] == ["1.0", "", "", ""]
    seeds(tmp_path / "two", [1.0, None], model="VAE")           # NaN is null in metrics.jsonl
    row, = table(tmp_path / "two")
    assert math.isnan(float(row["mean"])) and row["sd"] == ""


def test_each_run_counts_once(tmp_path, monkeypatch):
    seeds(tmp_path, [1, 2])
    monkeypatch.chdir(tmp_path)
    row, = table(tmp_path, tmp_path / "seed0", (tmp_path / ".." / tmp_path.name / "seed1"))
    assert row["runs"] == "2"


def test_of_two_runs_with_one_seed_the_first_counts(tmp_path):
    seeds(tmp_path, [1, 2])
    write(tmp_path / "zcopy", 1)
    with pytest.warns(UserWarning, match="left out: .*zcopy has the same settings and seed as .*seed1, "):
        row, = table(tmp_path)
    assert row["runs"] == "2"


def test_runs_without_metrics_are_left_out_with_a_warning(tmp_path):
    write(tmp_path / "a")
    write(tmp_path / "b", 1, [])
    with pytest.warns(UserWarning, match="left out: .*b has no metrics$"):
        assert table(tmp_path)[0]["runs"] == "1"
    with (pytest.warns(UserWarning, match="no metrics at iteration 7$"),
          pytest.raises(RunError, match="no run has metrics at iteration 7$")):
        table(tmp_path, iteration=7)
    with (pytest.warns(UserWarning), pytest.raises(RunError, match="no run has metrics$")):
        table(tmp_path / "b")


def test_a_folder_without_runs_is_named(tmp_path):
    write(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    for missing in ("empty", "nothing"):
        with pytest.raises(RunError, match=f"{missing} is no run directory, and there is none below it"):
            table(tmp_path / "a", tmp_path / missing)


def test_text_markdown_and_latex(tmp_path):
    for seed, value in enumerate((0.5, 0.5125)):
        write(tmp_path / f"a{seed}", seed, [{"iteration": 20, "a_b|c": value, "same": 3.0}])
    write(tmp_path / "b", settings={"lr": 0.25}, records=[{"iteration": 20, "a_b|c": 1234.56}])
    groups = tables.group(tables.find([tmp_path]))
    assert tables.make(groups) == (
        "metric  model  lr    runs    mean    s.d.     95 % interval\n"
        "a_b|c   GAN    0.1      2  0.5062  0.0088  [0.4268, 0.5857]\n"
        "a_b|c   GAN    0.25     1    1235\n"
        "same    GAN    0.1      2       3       0            [3, 3]\n")
    assert tables.make(groups, ["a_b|c"], "markdown") == (
        "| metric | model | lr | runs | mean | s.d. | 95 % interval |\n"
        "|---|---|---|---|---|---|---|\n"
        "| a_b\\|c | GAN | 0.1 | 2 | 0.5062 | 0.0088 | [0.4268, 0.5857] |\n"
        "| a_b\\|c | GAN | 0.25 | 1 | 1235 |  |  |\n")
    assert tables.make(groups, ["a_b|c"], "latex") == (
        "\\begin{tabular}{lllrrrr}\n\\hline\n"
        "metric & model & lr & runs & mean & s.d. & 95 \\% interval \\\\\n\\hline\n"
        "a\\_b|c & GAN & 0.1 & $2$ & $0.5062$ & $0.0088$ & $[0.4268, 0.5857]$ \\\\\n"
        "a\\_b|c & GAN & 0.25 & $1$ & $1235$ &  &  \\\\\n\\hline\n\\end{tabular}\n")
