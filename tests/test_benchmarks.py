"""The benchmark without PyTorch: its figures, wrong flags."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from minigen import cli

ROOT = Path(__file__).parent.parent


@pytest.fixture
def started():
    """Processes that lead a session each. Those that a test has not finished are killed with all in their
    sessions, so that they cannot disturb the next test."""
    processes = []
    yield processes
    for process in processes:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def benchmark(monkeypatch):
    """The program as a module. It fails as soon as it starts to measure."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    module = importlib.import_module("benchmark")
    monkeypatch.setattr(module, "without_limits", lambda: pytest.fail("the wrong flag was accepted"))
    return module


def test_benchmark_without_torch(started, tmp_path):
    without = "import sys\nsys.modules['torch'] = sys.modules['jax'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(without)
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, str(ROOT / "benchmarks" / "benchmark.py"), "--json", "b.json",
               "--seconds", "0.01", "--warm-up", "1", "--widths", "0.02"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    started.append(process)
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "") and "PyTorch is not installed" in out
    figures = json.loads((tmp_path / "b.json").read_text())
    for name in ("gan", "wgan", "vae", "vaegan", "constrained"):
        row = figures[name]
        assert row["minigen_ms"] > 0 and row["peak_share"] > 0 and row["minigen_busy_ms"] > 0
        assert row["torch_ms"] is row["ratio"] is row["torch_busy_ms"] is None
    assert 0 < figures["op_us"]["forward"] < figures["op_us"]["forward_backward"]
    step, layers = figures["celeba"]["width_0.02"], figures["layers"]["width_0.02"]
    assert step["minigen_ms"] > 0 and step["minigen_mb"] > 0 and step["plain_ratio"] > 0
    assert len(layers) == 15
    for name, layer in layers.items():
        assert layer["minigen_ms"] > 0 and name in out


def test_scaling(started, tmp_path):
    command = [sys.executable, str(ROOT / "benchmarks" / "scaling.py"), "--json", "s.json",
               "--figure", "s.png", "--models", "VAE", "--seconds", "0.05", "--start", "0.05"]
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    environment = {**os.environ, "PYTHONWARNINGS": "error", "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    started.append(process)
    out, err = process.communicate()
    assert process.returncode == 0 and "Traceback" not in err, err
    figures = json.loads((tmp_path / "s.json").read_text())
    for row in figures["runs_per_hour"].values():
        assert all(value > 0 for value in row.values())
    if "no ranks" not in out:
        assert figures["steps_per_second"]["VAE, minigen"]["1"] > 0
        assert len(figures["projected_ms"]["VAE"]) == 7
        assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("wrong, message", [
    (["--seconds", "nan"], "--seconds: a finite number expected, 'nan' found"),
    (["--seconds", "0"], "--seconds: a number above 0 expected, 0.0 found"),
    (["--widths", "0.25", "0"], "--widths: a number above 0 expected, 0.0 found"),
    (["--widths"], "--widths: expected at least one argument"),
    (["--warm-up", "-1"], "--warm-up: at least 0 expected, -1 found"),
    (["--json", "no/such/folder.json"], "--json: cannot write to no/such/folder.json: No such file"),
    (["--json", "."], "--json: cannot write to .: Is a directory"),
    (["--gpu"], "--gpu: the GPU needs CuPy, and importing it failed")])
def test_wrong_flags(benchmark, monkeypatch, capsys, tmp_path, wrong, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "argv", ["benchmark.py", *wrong])
    with pytest.raises(SystemExit) as stop:
        cli.run(benchmark.main)
    error = capsys.readouterr().err
    assert stop.value.code == 2 and message in error and error.count("\n") == 1


def test_steps_on_a_gpu_are_timed_between_two_waits(benchmark, monkeypatch):
    """Each step takes 2 seconds of the device, of which 1.5 pass while the processor waits at the end."""
    processes, now, waits = importlib.import_module("processes"), [0.0], []

    def work():
        now[0] += 0.5
        queued[0] += 1.5

    def wait():
        now[0] += queued[0]
        queued[0] = 0.0
        waits.append(now[0])
    queued = [0.0]
    monkeypatch.setattr(processes.time, "perf_counter", lambda: now[0])
    assert processes._mean(wait, work, 3, 5.0) == [2000.0] and waits == [8.0, 28.0]


def test_reading_the_flags_leaves_files_as_they_are(benchmark, tmp_path):
    before, new = tmp_path / "before.json", tmp_path / "new.json"
    before.write_text("{}\n")
    assert benchmark.parse(["--json", str(before)]).json == before and before.read_text() == "{}\n"
    assert benchmark.parse(["--json", str(new)]).json == new and not new.exists()
