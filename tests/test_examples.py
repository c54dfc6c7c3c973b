"""The examples as a user starts them, on small data."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "MINIGEN_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONWARNINGS": "error",
            "PYTHONPATH": str(ROOT)}


def start(example, arguments, environment, folder):
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process, status=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, err
    return out, err


def test_gan_vs_wgan(small_mnist, environment, tmp_path):
    flags = ["--data", small_mnist, "--batch-size", 16]
    out, err = finish(start("mnist_gan_vs_wgan", [*flags, "--iterations", 10, "--seed", 3], environment, tmp_path))
    folder = tmp_path / "runs" / "mnist_gan_vs_wgan"        # by default, below the current folder
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["samples"] == 10_000 and 0 < summary["classifier_accuracy"] <= 1
    for name in ("gan", "wgan"):
        assert 0 <= summary[name]["mode_entropy"] <= 2.3026 and 0 <= summary[name]["image_entropy"] <= 2.3026
        last = json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["iteration"] == 10 and summary[name] == {key: last[key] for key in ("mode_entropy", "image_entropy")}
        assert f"{summary[name]['mode_entropy']:.3f}" in out and f"{summary[name]['image_entropy']:.3f}" in out
        assert json.loads((folder / name / "config.json").read_text())["settings"]["seed"] == 3
        assert sorted(p.name for p in (folder / name).iterdir()) == ["checkpoints", "config.json", "metrics.jsonl", "samples"]
    assert (folder / "figure2.png").stat().st_size > 10_000 and (folder / "figure3.png").stat().st_size > 10_000
    assert "report" in out and "GAN" in out and err == ""
    wrong = finish(start("mnist_gan_vs_wgan", [*flags, "--iterations", 5, "--seed", 3, "--resume"], environment, tmp_path), 2)[1]
    assert "already at iteration 10" in wrong and wrong.count("\n") == 1
    finish(start("mnist_gan_vs_wgan", [*flags, "--iterations", 12, "--seed", 3, "--resume"], environment, tmp_path))


def test_ctrl_c_and_resume_give_the_same_results(small_mnist, environment, tmp_path):
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 12]
    finish(start("mnist_gan_vs_wgan", [*flags, "--out", "straight"], environment, tmp_path))
    process = start("mnist_gan_vs_wgan", [*flags, "--out", "stopped"], environment, tmp_path)
    metrics = tmp_path / "stopped" / "gan" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = finish(process, 130)
    assert "--resume goes on" in err and "Traceback" not in err
    finish(start("mnist_gan_vs_wgan", [*flags, "--out", "stopped", "--resume"], environment, tmp_path))
    for name in ("summary.json", "figure2.png", "figure3.png", "gan/metrics.jsonl", "wgan/metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name


def test_benchmark_without_torch(environment, tmp_path):
    (tmp_path / "torch.py").write_text("raise ImportError('not here')\n")
    environment = {**environment, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    out, err = finish(start("benchmark", ["--json", "b.json", "--seconds", 0.1], environment, tmp_path))
    figures = json.loads((tmp_path / "b.json").read_text())
    for name in ("gan", "wgan"):
        assert figures[name]["minigen_ms"] > 0 and figures[name]["torch_ms"] is figures[name]["ratio"] is None
    assert 0 < figures["op_us"]["forward"] < figures["op_us"]["forward_backward"]
    assert "PyTorch is not installed" in out and err == ""
