"""examples/reproduce_report.py, with stand-ins for the examples that it runs."""

import importlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest
import synthetic_report

import minigen
from minigen import cli, datasets, models, report, training
from minigen.report.items import EXAMPLES

PROJECT = Path(minigen.__file__).parent.parent
# It leaves made-up results, fails if it is named in the file "fails", and sends its parent a signal if in
# "stops". If the parent passes Ctrl-C on, it sends another one.
STAND_IN = """
import json, os, shlex, shutil, signal, sys
from pathlib import Path
name, out = Path(__file__).stem, Path(sys.argv[sys.argv.index("--out") + 1])
with open("calls", "a") as file:
    print(name, *sys.argv[1:], file=file)
if name in Path("fails").read_text():
    sys.exit(3)
if name in Path("stops").read_text():
    def end(number, frame):
        Path("told").write_text(str(number))
        sys.exit(128 + number)
    def go_on(number, frame):
        Path("told").write_text(str(os.getpid()))
        os.kill(os.getppid(), number)
    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, go_on)
    os.kill(os.getppid(), int(Path("signal").read_text()))
    while True:
        signal.pause()
shutil.copytree(Path(__file__).parent / name, out, dirs_exist_ok=True)
made = json.loads((out / "command.json").read_text())
(out / "command.json").write_text(json.dumps({**made, "command": shlex.join(sys.argv)}))
"""


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(PROJECT / "examples")
    return importlib.import_module("reproduce_report")


@pytest.fixture
def reproduce(example, tmp_path, monkeypatch, capsys):
    """Run the example in an empty folder; return its exit status, the calls of the stand-ins, and its errors.

    The files "fails" and "stops" name the stand-ins that do so.
    """
    for name in EXAMPLES:
        synthetic_report.write(tmp_path / "stand_ins" / name, name)
        (tmp_path / "stand_ins" / f"{name}.py").write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(example, "EXAMPLES", tmp_path / "stand_ins")
    monkeypatch.setattr(example, "explorer", lambda folder, outcomes: None)

    def run(*arguments, fails="", stops="", number=signal.SIGTERM):
        for name, content in (("calls", ""), ("fails", fails), ("stops", stops), ("signal", int(number))):
            Path(name).write_text(str(content))
        monkeypatch.setattr(sys, "argv", ["reproduce_report.py", *arguments])
        with pytest.raises(SystemExit) as stop:
            cli.run(example.main)
        return stop.value.code, Path("calls").read_text().splitlines(), capsys.readouterr().err
    return run


def test_it_runs_everything_once(reproduce):
    status, calls, _ = reproduce()
    assert status == 0 and sorted(call.split()[0] for call in calls) == sorted(EXAMPLES)
    assert "manifold_distances --figures svg --out runs/report/manifold_distances" in calls
    assert "mode_coverage --figures svg --out runs/report/mode_coverage --resume" in calls
    first = Path("runs/report/index.html").read_text()
    assert "Missing" not in first.replace("Missing: the explorer", "") and "quick run" not in first
    status, calls, _ = reproduce("--out", "runs/../runs/report")
    assert (status, calls) == (0, [])
    assert Path("runs/report/index.html").read_text() == first


def test_a_quick_run_is_short_and_apart(reproduce, example):
    status, calls, _ = reproduce("--quick", "--out", "page")
    assert status == 0
    assert [call.split() for call in calls] == [
        [name, *flags, "--figures", "svg", "--out", f"page/quick/{name}",
         *["--resume"] * (name != "manifold_distances")]
        for name, flags in example.QUICK.items()]
    assert "This is a quick run" in Path("page/index.html").read_text()
    status, calls, _ = reproduce("--out", "page")       # nothing of that counts as a full one
    assert len(calls) == len(EXAMPLES) and "quick run" not in Path("page/index.html").read_text()


def test_what_fails_is_named_and_run_again(reproduce):
    status, calls, err = reproduce(fails="mnist_gan_vs_wgan mode_coverage")
    assert status == 1 and len(calls) == len(EXAMPLES)
    assert err == ("training stopped: 2 of 8 examples failed, which the page says: mnist_gan_vs_wgan, exit "
                   "status 3; mode_coverage, exit status 3\n")
    text = Path("runs/report/index.html").read_text()
    assert "Missing: <code>examples/mode_coverage.py</code>" in text and "Table 1" in text
    status, calls, _ = reproduce()
    assert status == 0 and {call.split()[0] for call in calls} == {"mnist_gan_vs_wgan", "mode_coverage"}


def test_results_of_other_flags_are_not_reused(reproduce):
    reproduce()
    path = Path("runs/report/mode_coverage/command.json")
    path.write_text(path.read_text().replace("--resume", "--seeds 9"))
    calls = ["mode_coverage --figures svg --out runs/report/mode_coverage --resume"]
    assert reproduce(fails="mode_coverage")[:2] == (1, calls)
    assert "Missing: <code>examples/mode_coverage.py</code>" in Path("runs/report/index.html").read_text()
    assert reproduce()[:2] == (0, calls)


def test_a_signal_is_passed_on(reproduce):
    """The example that runs saves, and the next call goes on with it."""
    status, calls, err = reproduce(stops="mnist_compare_models")
    assert status == 143 and Path("told").read_text() == "15"
    assert err == "mnist_compare_models was stopped: the same command goes on\n\ninterrupted\n"
    assert not Path("runs/report/index.html").exists()
    status, again, _ = reproduce()
    assert status == 0 and len(calls) + len(again) == len(EXAMPLES) + 1


def test_a_second_ctrl_c_ends_it_at_once(reproduce):
    status, calls, err = reproduce(stops="mnist_compare_models", number=signal.SIGINT)
    assert status == 130 and err == "\ninterrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int(Path("told").read_text()), 0)


def test_damaged_results_are_one_line(reproduce):
    reproduce()
    Path("runs/report/mode_coverage/summary.json").write_text("{")
    status, calls, err = reproduce()
    assert (status, calls) == (2, []) and "mode_coverage: summary.json" in err and err.count("\n") == 1


def test_all_examples_of_the_page_are_run(example):
    assert set(example.QUICK) == set(EXAMPLES)


class Accepted(Exception):
    """The flags were."""


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_quick_flags_are_flags_of_the_examples(example, name, monkeypatch):
    parse = cli.Parser.parse_known_args

    def accept(*args):
        parse(*args)
        raise Accepted
    monkeypatch.setattr(cli.Parser, "parse_known_args", accept)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", *example.QUICK[name], "--out", "x"])
    with pytest.raises(Accepted):
        importlib.import_module(name).main()


def test_the_explorer_has_the_models_that_were_trained(example, tmp_path, monkeypatch):
    _, judge, data = synthetic_report.explored()
    monkeypatch.setattr(datasets, "mnist", lambda: data)
    monkeypatch.setattr(example, "trained_judge", lambda data: judge)
    folders = {"mnist_compare_models/vae": models.VAE, "mnist_compare_models/vaegan": models.VAEGAN,
               "mnist_constrained_vaegan/constrained": models.ConstrainedVAEGAN}
    for folder, kind in folders.items():
        out = tmp_path / f"{folder}_seed0"
        training.train(kind(), data.train_images, iterations=1, batch_size=2, out=out)
    outcomes = dict.fromkeys(("mnist_compare_models", "mnist_constrained_vaegan"), True)
    found = example.explorer(tmp_path, outcomes)
    assert [model["title"] for model in found["models"]] == ["VAE", "VAE-GAN", "constrained VAE-GAN"]
    model = training.load(tmp_path / "mnist_compare_models" / "vae_seed0")
    assert found["models"][0] == report.export([model], judge, data)["models"][0]
    found = example.explorer(tmp_path, outcomes | {"mnist_compare_models": None})
    assert [model["title"] for model in found["models"]] == ["constrained VAE-GAN"]
    assert example.explorer(tmp_path, dict.fromkeys(outcomes)) is None
    assert json.dumps(found)
