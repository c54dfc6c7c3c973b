"""The examples as a user starts them, on small data."""

import importlib
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy
import pytest
from PIL import Image

from minigen import datasets, storage

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    return {**os.environ, "MINIGEN_CACHE": str(tmp_path_factory.mktemp("cache")), "PYTHONWARNINGS": "error",
            "PYTHONPATH": str(ROOT)}


started = []


@pytest.fixture(autouse=True)
def nothing_is_left_running():
    """Whatever a test started and did not finish is killed with all its own processes, so that it cannot disturb the next."""
    yield
    for process in started:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    started.clear()


def start(example, arguments, environment, folder):
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), *map(str, arguments)]
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               start_new_session=True)
    started.append(process)
    return process


def finish(process, status=0):
    out, err = process.communicate()
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


def test_compare_models(small_mnist, environment, tmp_path):
    flags = ["--data", small_mnist, "--batch-size", 16, "--seeds", 2, "--out", "o"]
    out, err = finish(start("mnist_compare_models", [*flags, "--iterations", 5], environment, tmp_path))
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert summary["samples"] == 10_000 and summary["seeds"] == 2
    assert list(summary["table1"]) == ["gan", "wgan", "vae", "vaegan"] and err == ""
    for row in summary["table1"].values():
        for values in row.values():
            assert len(values) == 2 and all(0 <= value <= 2.3026 for value in values)
            assert f"{sum(values) / 2:.3f} ({abs(values[0] - values[1]) / 2 ** 0.5:.3f})" in out
    for name in ("figure4", "figure5", "reconstructions", "interpolations"):
        assert (tmp_path / "o" / f"{name}.png").stat().st_size > 10_000
    for model in ("gan", "wgan", "vae", "vaegan"):
        for seed in (0, 1):
            assert json.loads((tmp_path / "o" / f"{model}_seed{seed}" / "config.json").read_text())["settings"]["seed"] == seed
    again, _ = finish(start("mnist_compare_models", [*flags, "--iterations", 5, "--resume"], environment, tmp_path))
    assert again == out and json.loads((tmp_path / "o" / "summary.json").read_text()) == summary


def test_constrained_vaegan(small_mnist, environment, tmp_path):
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 5, "--out", "o"]
    chosen = ["--seeds", 2, "--lambda", 5, "--d", 0.7, "--on-mean", "--reconstruction-weight", 0.5]
    out, err = finish(start("mnist_constrained_vaegan", [*flags, *chosen], environment, tmp_path))
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["samples"], summary["seeds"], summary["lambda"], summary["d"]) == (10_000, 2, 5, 0.7) and err == ""
    assert all(0 <= share <= 1 for share in summary["constrained"]["inside"])
    for measure, difference in summary["difference"].items():
        pairs = [c - p for c, p in zip(summary["constrained"][measure], summary["vaegan"][measure])]
        assert difference["mean"] == pytest.approx(sum(pairs) / 2, abs=1e-12)
        assert difference["high"] - difference["low"] == pytest.approx(12.706 * abs(pairs[0] - pairs[1]), rel=1e-3)
        assert f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]" in out
    assert "With the constraint, the mean entropy of an image is " in out
    for name in ("figure7.png", "figure8.png"):
        assert (tmp_path / "o" / name).stat().st_size > 10_000
    plain, constrained = (json.loads((tmp_path / "o" / f"{name}_seed1" / "config.json").read_text())
                          for name in ("vaegan", "constrained"))
    assert (plain["model"], constrained["model"]) == ("VAEGAN", "ConstrainedVAEGAN")
    assert plain["seed"] == 1 and plain["settings"]["gan_weight"] == 5 and plain["settings"]["reconstruction_weight"] == 0.5
    own = {key: constrained["settings"].pop(key) for key in ("d", "per_sample")}
    assert own == {"d": 0.7, "per_sample": False}
    for key in ("settings", "seed", "batch_size", "iterations", "data"):         # only the one function differs
        assert plain[key] == constrained[key], key
    for wrong, message in ((["--lambda", -1], "--lambda: at least 0 expected, -1.0 found"), (["--seeds", 1], "--seeds: at least 2"),
                           (["--d", "nan"], "--d: a finite number expected, 'nan' found"),
                           (["--sweep", "--d", 3], "--sweep: not allowed with --lambda or --d"),
                           (["--seeds", 2, "--resume", "--d", 3], "cannot be resumed: its settings.")):
        err = finish(start("mnist_constrained_vaegan", [*flags, *wrong], environment, tmp_path), 2)[1]
        assert message in err and err.count("\n") == 1


@pytest.fixture
def constrained(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module("mnist_constrained_vaegan")


def test_two_normal_distributions_in_closed_form(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    apart, curves = importlib.import_module("manifold_distances").two_normal_distributions()
    eq3, eq4, kl, js, wasserstein = curves.values()
    for i in (0, 40, 160):                                  # 0, 2 and 8 standard deviations apart
        assert kl[i] == pytest.approx(apart[i] ** 2 / 2, abs=1e-6) and wasserstein[i] == pytest.approx(apart[i], abs=1e-9)
        assert eq4[i] == pytest.approx(kl[i] + js[i]) and js[i] == pytest.approx(-eq3[i] - 2 * math.log(2))
    assert eq3[0] == pytest.approx(-2 * math.log(2)) and eq3[160] == pytest.approx(0, abs=1e-3)


def test_sweep_of_the_constraint(constrained, small_mnist, environment, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIGEN_CACHE", environment["MINIGEN_CACHE"])
    for name, value in (("SAMPLES", 100), ("SWEEP_LAMBDAS", (0.2, 3.0)), ("SWEEP_DS", (0.5, 50.0))):
        monkeypatch.setattr(constrained, name, value)
    monkeypatch.setattr(sys, "argv", ["x", "--data", str(small_mnist), "--batch-size", "16", "--iterations", "3", "--seeds", "2",
                                      "--out", str(tmp_path), "--sweep"])
    constrained.main()
    table = json.loads((tmp_path / "sweep.json").read_text())
    for lam in (0.2, 3.0):
        row = table[f"lambda = {lam:g}"]
        assert list(row) == ["plain", "0.5", "50"] and "inside" not in row["plain"]
        assert row["0.5"]["inside"] == [0, 0] and row["50"]["inside"] == [1, 1]       # at first, L_GAN is near log 2
        assert len(row["plain"]["mode_entropy"]) == 2
        settings = json.loads((tmp_path / f"lambda{lam:g}_d50_seed1" / "config.json").read_text())["settings"]
        assert (settings["gan_weight"], settings["d"], settings["seed"]) == (lam, 50, 1)
    assert (tmp_path / "sweep.png").stat().st_size > 10_000 and "lambda = 3: means over 2 seeds" in capsys.readouterr().out


@pytest.mark.parametrize("n, t", [(2, 12.7062), (3, 4.3027), (5, 2.7764), (20, 2.0930)])
def test_intervals_are_students(constrained, n, t):
    differences = [(-1) ** i * i for i in range(n)]
    mean = sum(differences) / n
    half = t * (sum((v - mean) ** 2 for v in differences) / (n - 1) / n) ** 0.5
    found = constrained.interval(differences)
    assert found["mean"] == pytest.approx(mean)
    assert (found["low"], found["high"]) == (pytest.approx(mean - half, rel=1e-3), pytest.approx(mean + half, rel=1e-3))


def test_verdicts(constrained):
    assert constrained.verdict({"mean": 0.2, "low": 0.1, "high": 0.3}) == "higher by 0.200 nats"
    assert constrained.verdict({"mean": -0.2, "low": -0.3, "high": -0.1}) == "lower by 0.200 nats"
    assert "not shown" in constrained.verdict({"mean": 0.2, "low": -0.1, "high": 0.5})


def test_manifold_distances(environment, tmp_path):
    out, err = finish(start("manifold_distances", ["--iterations", 1000], environment, tmp_path))
    folder = tmp_path / "runs" / "manifold_distances"
    summary = json.loads((folder / "summary.json").read_text())
    x, y, z = (summary["points"][name] for name in "xyz")
    assert x["l_vae"] < 1e-3 < y["l_vae"] < z["l_vae"] and z["l_gan"] < y["l_gan"] <= summary["d"] + 0.01 < x["l_gan"]
    assert z["vaegan"] < y["vaegan"] and y["constrained"] < z["constrained"]            # the report's argument
    for row in (x, y, z):
        assert row["vaegan"] == pytest.approx(row["l_vae"] + row["l_gan"])
        assert row["constrained"] == pytest.approx(row["l_vae"] + max(row["l_gan"] - summary["d"], 0))
        assert f"{row['vaegan']:.3f}" in out
    assert (folder / "figure6.png").stat().st_size > 10_000 and (folder / "section22.png").stat().st_size > 10_000 and err == ""
    assert "--iterations: at least 1" in finish(start("manifold_distances", ["--iterations", 0], environment, tmp_path), 2)[1]


@pytest.fixture(scope="module")
def small_celeba(tmp_path_factory):
    """A folder of 60 drawn faces, laid out like CelebA."""
    folder = tmp_path_factory.mktemp("celeba") / "img_align_celeba"
    folder.mkdir()
    for i, face in enumerate(datasets.faces(60, 1, side=178).train_images, 1):
        Image.fromarray(numpy.pad(face, ((20, 20), (0, 0), (0, 0)), "edge")).save(folder / f"{i:06d}.jpg")
    return folder


CELEBA = ["--iterations", 4, "--batch-size", 8, "--width", 0.02]


def test_celeba_vaegan(small_celeba, environment, tmp_path):
    flags = [*CELEBA, "--data", small_celeba, "--out", "o", "--d", 0.6, "--lambda", 3]
    out, err = finish(start("celeba_vaegan", flags, environment, tmp_path))
    summary = json.loads((tmp_path / "o" / "summary.json").read_text())
    assert (summary["width"], summary["iterations"], summary["data"]) == (0.02, 4, str(small_celeba)) and err == ""
    assert "NOT CelebA" not in out and summary["frechet_training_images"] > 0
    for name, model in (("vaegan", "VAEGAN"), ("constrained", "ConstrainedVAEGAN")):
        config = json.loads((tmp_path / "o" / name / "config.json").read_text())
        assert config["model"] == model and config["settings"]["width"] == 0.02 and config["settings"]["gan_weight"] == 3
        last = json.loads((tmp_path / "o" / name / "metrics.jsonl").read_text().splitlines()[-1])
        assert all(summary[name][key] == value for key, value in last.items()) and last["iteration"] == 4
        assert summary[name]["images_per_second"] > 0 and summary[name]["frechet_samples"] > 0
        assert f"{summary[name]['frechet_samples']:.4f}" in out and f"{summary[name]['images_per_second']:,.0f}" in out
    assert json.loads((tmp_path / "o" / "constrained" / "config.json").read_text())["settings"]["d"] == 0.6
    for figure in ("figure7", "reconstructions", "interpolations", "losses"):
        assert (tmp_path / "o" / f"{figure}.png").stat().st_size > 10_000
    again, _ = finish(start("celeba_vaegan", [*flags, "--resume"], environment, tmp_path))
    assert json.loads((tmp_path / "o" / "summary.json").read_text())["vaegan"]["images_per_second"] is None and " -" in again


def test_celeba_vaegan_resumes_mid_epoch_bit_for_bit(small_celeba, environment, tmp_path):
    flags = [*CELEBA, "--data", small_celeba, "--model", "constrained"]         # 48 images: an epoch has 6 iterations
    finish(start("celeba_vaegan", [*flags, "--out", "straight"], environment, tmp_path))
    process = start("celeba_vaegan", [*flags, "--out", "stopped"], environment, tmp_path)
    metrics = tmp_path / "stopped" / "constrained" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not (metrics.exists() and metrics.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = finish(process, 130)
    assert "--resume goes on" in err and "Traceback" not in err
    finish(start("celeba_vaegan", [*flags, "--out", "stopped", "--resume"], environment, tmp_path))
    for name in ("figure7.png", "reconstructions.png", "constrained/metrics.jsonl"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "straight" / name).read_bytes(), name
    one, other = (storage.load(tmp_path / out / "constrained" / "checkpoints" / "00000004.npz") for out in ("straight", "stopped"))
    assert one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)
    assert not (tmp_path / "stopped" / "vaegan").exists()


def test_celeba_vaegan_without_celeba_says_so_loudly(environment, tmp_path):
    flags = ["--iterations", 1, "--width", 0.02, "--batch-size", 8, "--model", "vaegan"]
    out, err = finish(start("celeba_vaegan", flags, environment, tmp_path))
    assert "This is NOT CelebA" in out and "mmlab" in out and "--data img_align_celeba.zip" in out and err == ""
    assert json.loads((tmp_path / "runs" / "celeba_vaegan" / "summary.json").read_text())["data"] == "drawn faces"


def test_what_celeba_vaegan_cannot_do(small_celeba, environment, tmp_path):
    (tmp_path / "empty").mkdir()
    for wrong, message in ((["--data", "nowhere"], "nowhere: no such file or folder: give img_align_celeba.zip"),
                           (["--data", "empty"], "empty: no CelebA in this folder"), (["--width", 0], "--width: a number above 0"),
                           (["--model", "gan"], "--model: invalid choice"),
                           (["--data", small_celeba, "--batch-size", 49], "--batch-size: at most 48 expected")):
        err = finish(start("celeba_vaegan", wrong, environment, tmp_path), 2)[1]
        assert message in err and err.count("\n") == 1


def test_benchmark_without_torch(environment, tmp_path):
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    environment = {**environment, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    flags = ["--json", "b.json", "--seconds", 0.01, "--warm-up", 1, "--widths", 0.02]
    out, err = finish(start("benchmark", flags, environment, tmp_path))
    figures = json.loads((tmp_path / "b.json").read_text())
    for name in ("gan", "wgan", "vae", "vaegan", "constrained"):
        assert figures[name]["minigen_ms"] > 0 and figures[name]["torch_ms"] is figures[name]["ratio"] is None
    assert 0 < figures["op_us"]["forward"] < figures["op_us"]["forward_backward"]
    assert "PyTorch is not installed" in out and err == ""
