"""The examples on small data: what they print and write, wrong flags, Ctrl-C and resume."""

import importlib
import io
import json
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy
import pytest
from conftest import write_idx_folder
from PIL import Image

from minigen import cli, comparison, datasets, models, storage, threads, training

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def example(cache, tmp_path, monkeypatch, capsys):
    """Run an example in an empty folder, as its command does, and return its output and its errors.

    Its runs are not side by side, and it must end with the exit status ``status``.
    """
    monkeypatch.setenv("MINIGEN_CACHE", cache)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)

    def run(name, *arguments, status=0):
        jobs = ["--jobs", "1"] if name.startswith(("mnist", "mode")) else []
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *jobs, *map(str, arguments)])
        monkeypatch.delitem(sys.modules, name, raising=False)       # it may know other SAMPLES
        module = importlib.import_module(name)
        for constant, value in run.changes.items():
            monkeypatch.setattr(f"{name}.{constant}", value)
        with pytest.raises(SystemExit) as stop:
            cli.run(module.main)
        out, err = capsys.readouterr()
        assert stop.value.code == status, err
        return out, without_progress(err)
    run.changes = {}        # of the example's constants
    return run


def without_progress(err):
    """The errors but for the lines that say how far the training is."""
    return "".join(line for line in err.splitlines(keepends=True)
                   if not re.match(r"[\w.]+: iteration [\d,]+ of [\d,]+: |\d+ of \d+ runs done\n", line))


def read(path):
    return json.loads(Path(path).read_text())


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} - {"interrupts"}))
@pytest.mark.parametrize("ignored", [False, True])
def test_ctrl_c_during_the_imports(tmp_path, name, ignored):
    """It comes as soon as anything of minigen is imported."""
    (tmp_path / "minigen.py").write_text("import os, sys; os.kill(os.getpid(), 2); sys.exit(7)")
    code = "import os, signal, sys; signal.signal(2, signal.{}); os.execv(sys.executable, sys.argv)"
    done = subprocess.run([sys.executable, "-c", code.format("SIG_IGN" if ignored else "SIG_DFL"),
                           str(EXAMPLES / f"{name}.py")], capture_output=True, text=True,
                          env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == ((7, "") if ignored else (130, "\ninterrupted\n"))


def test_the_command_of_the_main_job(small_mnist, cache, tmp_path, example):
    """It runs as a user starts it, in a process of its own, and warnings are errors. Side by side, the models
    become what they are one after the other."""
    flags = ["--data", str(small_mnist), "--batch-size", "16", "--iterations", "2"]
    command = [sys.executable, str(EXAMPLES / "mnist_gan_vs_wgan.py"), "--jobs", "2", *flags]
    environment = {**os.environ, "MINIGEN_CACHE": cache, "PYTHONWARNINGS": "error",
                   "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, without_progress(done.stderr)) == (0, "") and "WGAN" in done.stdout
    assert "gan: iteration 1 of 2: d_loss " in done.stderr and "2 of 2 runs done" in done.stderr
    assert done.stderr.count("\n") == 6
    example("mnist_gan_vs_wgan", *flags, "--out", "alone")
    assert read("alone/summary.json")["samples"] == 10_000
    for name in ("figure2.png", "figure3.png", "summary.json", "gan/metrics.jsonl", "wgan/config.json"):
        found = Path("runs", "mnist_gan_vs_wgan", name).read_bytes()
        assert found == Path("alone", name).read_bytes(), name


def test_gan_vs_wgan(small_mnist, example, coarse, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLES", 500)
    flags = ["--data", small_mnist, "--batch-size", 16, "--seed", 3]
    out, err = example("mnist_gan_vs_wgan", *flags, "--iterations", 10)
    folder = Path("runs") / "mnist_gan_vs_wgan"             # the default, below the current folder
    summary = read(folder / "summary.json")
    assert summary["samples"] == 500 and 0 < summary["classifier_accuracy"] <= 1
    assert summary["seeds"] == [3]
    made = read(folder / "command.json")
    assert made["command"].startswith("mnist_gan_vs_wgan.py --jobs 1 --data") and made["seconds"] > 0
    assert made["versions"]["numpy"] == numpy.__version__ and made["machine"] == threads.machine()
    for name in ("gan", "wgan"):
        assert 0 <= summary[name]["mode_entropy"] <= 2.3026 and 0 <= summary[name]["image_entropy"] <= 2.3026
        last = json.loads((folder / name / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["iteration"] == 10
        assert summary[name] == {key: last[key] for key in ("mode_entropy", "image_entropy")}
        assert f"{summary[name]['mode_entropy']:.3f}" in out
        assert f"{summary[name]['image_entropy']:.3f}" in out
        assert read(folder / name / "config.json")["settings"]["seed"] == 3
        written = sorted(path.name for path in (folder / name).iterdir())
        assert written == ["checkpoints", "config.json", "metrics.jsonl", "samples"]
    assert (folder / "figure2.png").stat().st_size > 10_000
    assert (folder / "figure3.png").stat().st_size > 10_000
    with Image.open(folder / "training.gif") as film:
        assert film.n_frames > 5
    assert "paper" not in out and "GAN" in out and err == ""        # it says nothing about these data
    _, wrong = example("mnist_gan_vs_wgan", *flags, "--iterations", 5, "--resume", status=2)
    assert "already at iteration 10" in wrong and wrong.count("\n") == 1
    example("mnist_gan_vs_wgan", *flags, "--iterations", 12, "--resume")


@pytest.mark.parametrize("name, status", [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_and_resume_give_the_same_results(small_mnist, example, coarse, monkeypatch, name, status):
    monkeypatch.setattr(comparison, "SAMPLES", 500)
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 12]
    example("mnist_gan_vs_wgan", *flags, "--out", "straight")
    with pytest.MonkeyPatch.context() as patch:
        stop_when_logging(patch, signal.Signals[name])
        _, err = example("mnist_gan_vs_wgan", *flags, "--out", "stopped", status=status)
    assert "--resume goes on" in err and "Traceback" not in err
    example("mnist_gan_vs_wgan", *flags, "--out", "stopped", "--resume")
    for name in ("summary.json", "figure2.png", "figure3.png", "gan/metrics.jsonl", "wgan/metrics.jsonl"):
        assert Path("stopped", name).read_bytes() == Path("straight", name).read_bytes(), name


def stop_when_logging(patch, number):
    """From now on, the signal comes whenever metrics are logged, first at iteration 1."""
    log = training.Run.log
    patch.setattr(training.Run, "log",
                  lambda self, record: (log(self, record), signal.raise_signal(number)))


def test_test_images_of_one_class_can_be_compared(example):
    labels = numpy.arange(40) % 2
    write_idx_folder(Path("x"), numpy.arange(40 * 30 * 20).reshape(40, 30, 20) % 251, labels, test=1)
    flags = ["--data", "x", "--batch-size", 8, "--seeds", 1, "--iterations", 1, "--out", "o"]
    assert "log 2 = 0.693" in example("mnist_compare_models", *flags)[0]
    assert Path("o", "interpolations.png").stat().st_size > 10_000


def test_compare_models(small_mnist, example, coarse, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLES", 500)
    flags = ["--data", small_mnist, "--batch-size", 16, "--seeds", 2, "--out", "o", "--iterations", 5]
    out, err = example("mnist_compare_models", *flags)
    summary = read("o/summary.json")
    assert summary["samples"] == 500 and summary["seeds"] == [0, 1]
    assert list(summary["table1"]) == ["gan", "wgan", "vae", "vaegan"] and err == ""
    for row in summary["table1"].values():
        for values in row.values():
            assert len(values) == 2 and all(0 <= value <= 2.3026 for value in values)
            assert f"{sum(values) / 2:.3f} ({abs(values[0] - values[1]) / 2 ** 0.5:.3f})" in out
    for name in ("figure4", "figure5", "reconstructions", "interpolations"):
        assert Path("o", f"{name}.png").stat().st_size > 10_000
    for model in ("gan", "wgan", "vae", "vaegan"):
        for seed in (0, 1):
            assert read(f"o/{model}_seed{seed}/config.json")["settings"]["seed"] == seed
    before = read("o/summary.json")
    again, _ = example("mnist_compare_models", *flags, "--resume")
    assert again == out and read("o/summary.json") == before


def test_constrained_vaegan(small_mnist, example, coarse):
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 5, "--out", "o"]
    chosen = ["gan_weight=5", "d=0.7", "per_sample=False", "reconstruction_weight=0.5"]
    out, err = example("mnist_constrained_vaegan", *flags, "--seeds", 2,
                       *(text for setting in chosen for text in ("--set", setting)))
    summary = read("o/summary.json")
    assert summary["samples"] == 10_000 and summary["seeds"] == [0, 1]
    assert summary["gan_weight"] == 5 and summary["d"] == 0.7
    assert all(0 <= share <= 1 for share in summary["constrained"]["inside"]) and err == ""
    for measure, difference in summary["difference"].items():
        pairs = [c - p for c, p in zip(summary["constrained"][measure], summary["vaegan"][measure])]
        assert difference["mean"] == pytest.approx(sum(pairs) / 2, abs=1e-12)
        width = 12.706 * abs(pairs[0] - pairs[1])
        assert difference["high"] - difference["low"] == pytest.approx(width, rel=1e-3)
        assert f"{difference['mean']:+.3f} [{difference['low']:+.3f}, {difference['high']:+.3f}]" in out
    assert "With the constraint, the mean image entropy is " in out
    for name in ("figure7.png", "figure8.png"):
        assert Path("o", name).stat().st_size > 10_000
    plain, constrained = (read(f"o/{name}_seed1/config.json") for name in ("vaegan", "constrained"))
    assert (plain["model"], constrained["model"]) == ("VAEGAN", "ConstrainedVAEGAN") and plain["seed"] == 1
    assert plain["settings"]["gan_weight"] == 5 and plain["settings"]["reconstruction_weight"] == 0.5
    own = {key: constrained["settings"].pop(key) for key in ("d", "per_sample", "multiplier", "eta")}
    assert own == {"d": 0.7, "per_sample": False, "multiplier": "fixed", "eta": 0.01}
    for key in ("settings", "seed", "batch_size", "iterations", "data"):    # only the one function differs
        assert plain[key] == constrained[key], key


def test_constraint_frontier(small_mnist, example, coarse, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLES", 500)
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 10, "--checkpoint-every", 10,
             "--seeds", 2, "--out", "o"]
    out, err = example("mnist_constraint_frontier", *flags, "--set", "d=0.6,0.7")
    summary = read("o/summary.json")
    assert len(summary["points"]) == 2 * (4 + 3 * 2) and err == ""
    shares_outside = set()
    for point in summary["points"]:
        d = "" if point["d"] is None else f"_d{point['d']}"
        weight = f"_gan_weight{point['lambda']}" if point["model"] == "vaegan" else ""
        folder = Path("o", f"{point['model']}{d}{weight}_seed{point['seed']}")
        metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert point["l_vae"] == metrics[-1]["l_vae"] and point["l_gan"] == metrics[-1]["l_gan"]
        late = {name: sum(record[name] for record in metrics[-2:]) / 2 for name in metrics[0]}
        assert {"mode_entropy", "image_entropy", "precision", "recall", "coverage"} <= point.keys()
        if point["model"] == "vaegan":
            assert point["multiplier"] == point["lambda"] and point["violation"] is None
            continue
        assert point["violation"] == pytest.approx(late["l_gan"] - point["d"])
        if point["model"] == "dual":
            assert (point["lambda"], point["multiplier"]) == (None, late["multiplier"])
            assert point["slackness"] == late["slackness"] and metrics[0]["multiplier"] == 1
        if point["model"] == "hinge":
            assert point["multiplier"] == pytest.approx(1 - late["inside"])
        if point["model"] == "mean_hinge":
            outside = sum(record["l_gan"] > point["d"] for record in metrics[-2:]) / 2
            assert point["multiplier"] == outside
            shares_outside.add(outside)
    assert "solved constraint, d 0.7" in out and "VAE-GAN, lambda 0.25" in out
    assert summary["difference"] == summary["differences"].get("dual")
    assert Path("o/frontier.png").stat().st_size > 10_000
    again, _ = example("mnist_constraint_frontier", *flags, "--set", "d=0.6,0.7", "--resume")
    assert again == out and read("o/summary.json") == summary
    assert shares_outside > {0.0}
    _, err = example("mnist_constraint_frontier", *flags, "--set", "outputs=1,2", status=2)
    assert "argument --set: one value of outputs expected" in err and err.count("\n") == 1
    _, err = example("mnist_constraint_frontier", *flags[:-4], "--seeds", 1, status=2)
    assert "--seeds: at least 2 expected" in err and err.count("\n") == 1


def test_distances_between_frontiers(monkeypatch):
    """The VAE-GAN reaches L_vae = 10 - L_gan; the others lie a known distance from that."""
    monkeypatch.syspath_prepend(EXAMPLES)
    frontier = importlib.import_module("mnist_constraint_frontier")

    def point(model, seed, l_gan, apart):
        return {"model": model, "seed": seed, "l_gan": l_gan, "l_vae": 10 - l_gan + apart}
    points = [point("vaegan", seed, l_gan, 0) for seed in (0, 1) for l_gan in (5.0, 2.0, 3.5)]
    for family, apart in (("hinge", 1.0), ("mean_hinge", 0.0), ("dual", -2.0)):
        points += [point(family, seed, l_gan, apart + seed) for seed in (0, 1) for l_gan in (2.5, 4.0)]
        points += [point(family, seed, 9.0, 100.0) for seed in (0, 1)]      # beyond the VAE-GAN's
    found = frontier.from_the_vaegan(points, (0, 1))
    assert list(found) == ["hinge", "mean_hinge", "dual"]
    for values, expected in zip(found.values(), ([1, 2], [0, 1], [-2, -1])):
        assert values == pytest.approx(expected, abs=1e-12)
    assert "is -2.00 [-2.64, -1.36] nats from the VAE-GAN's: it lies below the lines between" in (
        frontier.verdict("dual", [-1.95, -2.05]))
    assert "is +2.00 [+1.36, +2.64] nats from the VAE-GAN's: it costs more" in (
        frontier.verdict("x", [1.95, 2.05]))
    assert frontier.verdict("x", [-1.0, 3.0]).endswith(
        "it chooses a point of the same frontier, as far as 2 seeds show; with such differences 34 would "
        "decide.")


def test_stronger_models(small_mnist, example, coarse, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLES", 500)
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 2, "--seeds", 2, "--out", "o"]
    chosen = ["--models", "wgan,wgan_penalty,gan,gan_r1,vae_conv,vae"]
    out, err = example("mnist_stronger_models", *flags, *chosen)
    summary = read("o/summary.json")
    assert list(summary["models"]) == chosen[1].split(",") and err == ""
    for row in summary["models"].values():
        assert all(len(values) == 2 for values in row.values())
        assert f"{sum(row['recall']) / 2:.3f}" in out and "frechet" in row
    for difference, one, other in (("wgan_penalty - wgan", "wgan_penalty", "wgan"),
                                   ("gan_r1 - gan", "gan_r1", "gan"), ("vae_conv - vae", "vae_conv", "vae")):
        for measure, found in summary["differences"][difference].items():
            means = [sum(summary["models"][name][measure]) / 2 for name in (one, other)]
            assert found["mean"] == pytest.approx(means[0] - means[1], abs=1e-9)
    assert len(summary["differences"]) == 3 and Path("o/images.png").stat().st_size > 10_000
    assert read("o/gan_r1_seed1/config.json")["settings"]["r1"] == 10
    assert read("o/vae_conv_seed1/config.json")["settings"]["architecture"] == "conv"
    assert read("o/wgan_penalty_seed0/config.json")["settings"]["lipschitz"] == "penalty"
    for wrong in ("wgan,x", "wgan,wgan", ""):
        _, err = example("mnist_stronger_models", *flags, "--models", wrong, status=2)
        assert "different models of gan, gan_r1, wgan, wgan_penalty, vae, vaegan, gan_conv" in err
        assert f"{wrong!r} found" in err and err.count("\n") == 1
    _, err = example("mnist_stronger_models", *flags, "--set", "lr=1,2", status=2)
    assert "argument --set: one value of lr expected" in err and err.count("\n") == 1


@pytest.mark.parametrize("wrong, message", [
    (["--set", "gan_weight=-1"], "VAEGAN: a number gan_weight in [0, inf) expected, -1 found"),
    (["--seeds", 1], "--seeds: at least 2"),
    (["--set", "d=nan"], "ConstrainedVAEGAN: a number d in (-inf, inf) expected, 'nan' found"),
    (["--set", "weight=3"], "argument --set: 'weight' is no setting of VAE-GAN or constrained VAE-GAN: ")])
def test_wrong_flags_of_constrained_vaegan(small_mnist, example, wrong, message):
    _, err = example("mnist_constrained_vaegan", "--data", small_mnist, "--batch-size", 16, *wrong, status=2)
    assert message in err and err.count("\n") == 1


def test_other_settings_are_not_resumed(small_mnist, example, coarse):
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 1, "--seeds", 2]
    example("mnist_constrained_vaegan", *flags)
    _, err = example("mnist_constrained_vaegan", *flags, "--resume", "--set", "gan_weight=3", status=2)
    assert "cannot be resumed: its settings.gan_weight is 1.0, but 3.0" in err and err.count("\n") == 1


@pytest.fixture
def constrained(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("mnist_constrained_vaegan")


def test_sweep_of_the_constraint(small_mnist, example, coarse, monkeypatch):
    monkeypatch.setattr(comparison, "SAMPLES", 100)
    flags = ["--data", small_mnist, "--batch-size", 16, "--iterations", 3, "--seeds", 2, "--out", "o"]
    out, _ = example("mnist_constrained_vaegan", *flags, "--set", "d=0.5,50", "--set", "gan_weight=0.2,3")
    found = read("o/summary.json")
    for weight in (0.2, 3):
        for d, inside in ((0.5, 0), (50, 1)):       # L_GAN starts near log 2
            group = f"d{d}_gan_weight{weight}"
            one = found[f"constrained_{group}"]
            assert (one["d"], one["gan_weight"]) == (d, weight)
            assert one["constrained"]["inside"] == [inside, inside]
            assert len(one["vaegan"]["mode_entropy"]) == 2 and "inside" not in one["vaegan"]
            settings = read(f"o/constrained_{group}_seed1/config.json")["settings"]
            assert (settings["gan_weight"], settings["d"], settings["seed"]) == (weight, d, 1)
            assert f"gan_weight {weight}, d {d}; 2 seeds, " in out
        assert read(f"o/vaegan_gan_weight{weight}_seed1/config.json")["settings"]["gan_weight"] == weight
    assert Path("o/sweep.png").stat().st_size > 10_000


def test_what_a_sweep_shows(constrained, monkeypatch):
    """A line per weight: the plain model, then the constrained ones in the order of d."""
    shown = {}

    def figure(name, draw, panels, places, title):
        shown.update(panels, places=places)
    lab = types.SimpleNamespace(figure=figure)
    monkeypatch.setattr(constrained, "measures", lambda judged: judged[0].found)

    def group(found, **varied):
        trial = types.SimpleNamespace(varied=varied, kind=models.ConstrainedVAEGAN)
        return [types.SimpleNamespace(trial=trial, found={"mode_entropy": [found]})]
    plain = {weight: group(weight, gan_weight=weight) for weight in (1, 5)}
    constrained.show_sweep(lab, [(plain[weight], group(10 * weight + d, d=d, gan_weight=weight))
                                 for d in (2, 4) for weight in (1, 5)])
    assert shown["places"] == ["plain", "d 2", "d 4"]
    assert shown["mode entropy (nats)"] == {"gan_weight 1": [[1], [12], [14]],
                                            "gan_weight 5": [[5], [52], [54]]}


def test_verdicts(constrained):
    assert constrained.verdict([1.21, 2.19], [1.0, 2.0]) == "higher by 0.200 nats"
    assert constrained.verdict([1.0, 2.0], [1.21, 2.19]) == "lower by 0.200 nats"
    assert constrained.verdict([0.0, 5.0], [1.0, 2.0]) == (
        "not shown to change (its interval contains 0; with such differences it would take 34 seeds)")
    assert constrained.verdict([1.0, 2.0], [2.0, 1.0]) == "not shown to change (its interval contains 0)"


def test_two_normal_distributions_in_closed_form(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    apart, curves = importlib.import_module("manifold_distances").two_normal_distributions()
    eq3, eq4, kl, js, wasserstein = curves.values()
    for i in (0, 40, 160):                                  # 0, 2 and 8 standard deviations apart
        assert kl[i] == pytest.approx(apart[i]**2 / 2, abs=1e-6)
        assert wasserstein[i] == pytest.approx(apart[i], abs=1e-9)
        assert eq4[i] == pytest.approx(kl[i] + js[i]) and js[i] == pytest.approx(-eq3[i] - 2 * math.log(2))
    assert eq3[0] == pytest.approx(-2 * math.log(2)) and eq3[160] == pytest.approx(0, abs=1e-3)


def test_manifold_distances(example, coarse):
    out, err = example("manifold_distances", "--iterations", 1000)
    folder = Path("runs") / "manifold_distances"
    summary = read(folder / "summary.json")
    x, y, z = (summary["points"][name] for name in "xyz")
    assert x["l_vae"] < 1e-3 < y["l_vae"] < z["l_vae"]
    assert z["l_gan"] < y["l_gan"] <= summary["d"] + 0.01 < x["l_gan"]
    assert z["vaegan"] < y["vaegan"] and y["constrained"] < z["constrained"]            # the paper's argument
    for row in (x, y, z):
        assert row["vaegan"] == pytest.approx(row["l_vae"] + row["l_gan"])
        assert row["constrained"] == pytest.approx(row["l_vae"] + max(row["l_gan"] - summary["d"], 0))
        assert f"{row['vaegan']:.3f}" in out
    assert (folder / "figure6.png").stat().st_size > 10_000
    assert (folder / "section22.png").stat().st_size > 10_000
    assert err == ""
    out, _ = example("manifold_distances", "--iterations", 1, "--figures", "svg", "--out", "drawn")
    assert sorted(Path("drawn").glob("*.svg")) == [Path("drawn/figure6.svg"), Path("drawn/section22.svg")]
    assert "figure6.svg, section22.svg" in out and not list(Path("drawn").glob("*.png"))
    wrong = example("manifold_distances", "--figures", "gif", status=2)[1]
    assert "--figures: invalid choice: 'gif'" in wrong
    assert "--iterations: at least 1" in example("manifold_distances", "--iterations", 0, status=2)[1]
    Path("file").write_text("")
    assert "--out: cannot write to file" in example("manifold_distances", "--out", "file", status=2)[1]


def test_conditional_gan(example, monkeypatch, mnist, data):
    monkeypatch.setattr(datasets, "mnist", lambda: data)
    out, err = example("conditional_gan", "--iterations", 3)
    folder = Path("runs") / "conditional_gan"
    assert out == f"{folder.absolute() / 'digits.png'}\n" and err == ""
    with Image.open(folder / "digits.png") as picture:
        assert picture.size == (291, 291)
    kind = sys.modules["conditional_gan"].ConditionalGAN
    model = training.load(folder, kind)
    before, G = model.sample(20, rng=1), model.networks["generator"]
    assert before.shape == (20, 784)
    for i in range(20):         # the label of image i is i % 10
        latents = numpy.random.default_rng(1).standard_normal((20, 100), dtype="float32")
        one_hot = numpy.eye(10, dtype="float32")[[i % 10]]
        expected = G(numpy.concatenate([latents[i:i + 1], one_hot], axis=1)).data
        numpy.testing.assert_allclose(before[i:i + 1], expected, atol=1e-6)
    example("conditional_gan", "--iterations", 4)       # it goes on
    assert [record["iteration"] for record in training.Run(folder).metrics()] == [3, 4]


def test_own_images(example, coarse, rng):
    Path("pictures").mkdir()
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype="uint8")).save(f"pictures/{i}.png")
    flags = ["pictures", "--width", 0.02]
    out, err = example("own_images", *flags, "--iterations", 2)
    folder = Path("runs") / "own_images"
    assert err == "" and "samples.png, reconstructions.png, walk.gif" in out
    assert (folder / "samples.png").stat().st_size > 10_000
    with Image.open(folder / "walk.gif") as film:
        assert film.n_frames > 30 and film.size == (64, 64)
    example("own_images", *flags, "--iterations", 3, "--figures", "svg")        # it goes on
    assert [record["iteration"] for record in training.Run(folder / "model").metrics()] == [2, 3]
    assert (folder / "samples.svg").exists()
    assert "nowhere: no such folder" in example("own_images", "nowhere", status=2)[1]
    for folder, pictures, words in (("empty", 0, "pictures"), ("two", 2, "at least 3 pictures")):
        Path(folder).mkdir()
        for i in range(pictures):
            Image.new("RGB", (9, 9), (90 * i, 0, 0)).save(f"{folder}/{i}.png")
        _, wrong = example("own_images", folder, status=2)
        assert re.search(words, wrong) and wrong.count("\n") == 1
    _, wrong = example("own_images", "pictures", "--width", 900, "--iterations", 1, status=2)
    assert "smaller networks expected" in wrong and wrong.count("\n") == 1
    example("own_images", *flags, "--iterations", 1, "--overwrite")
    assert [record["iteration"] for record in training.Run("runs/own_images/model").metrics()] == [1]
    _, wrong = example("own_images", ".", status=2)     # where its figures would be pictures to learn
    assert "argument --out: a folder outside of . expected" in wrong and wrong.count("\n") == 1
    command = shlex.split(out.rpartition("; ")[2])
    assert command[:4] == ["python", "-m", "minigen", "sample"]
    subprocess.run([sys.executable, *command[1:]], env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
                   check=True)
    assert Path("more.png").stat().st_size > 10_000


def test_mode_coverage(example, coarse):
    flags = ["--seeds", 2, "--seed", 1, "--batch-size", 8, "--out", "o"]
    out, err = example("mode_coverage", *flags, "--iterations", 4)
    summary = read("o/summary.json")
    assert list(summary) == ["seeds", "iterations", "ring", "grid"] and err == ""
    assert summary["seeds"] == [1, 2] and summary["iterations"] == 4
    for name, modes in (("ring", 8), ("grid", 25)):
        assert list(summary[name]) == ["gan", "gan_r1", "wgan", "wgan_penalty", "vae", "vaegan",
                                       "constrained"]
        for found in summary[name].values():
            assert len(found["modes"]) == len(found["good"]) == 2
            assert all(0 <= value <= modes for value in found["modes"])
            assert all(0 <= value <= 1 for value in found["good"])
            for values in found.values():
                assert f"{sum(values) / 2:.3f} ({abs(values[0] - values[1]) / 2 ** 0.5:.3f})" in out
        assert f"modes of {modes}" in out and Path("o", f"{name}.png").stat().st_size > 10_000
        with Image.open(f"o/{name}.gif") as film:
            assert film.n_frames >= 4
        settings = read(f"o/{name}_wgan_penalty_seed2/config.json")["settings"]
        assert (settings["seed"], settings["lipschitz"]) == (2, "penalty")
        assert list(Path("o", f"{name}_gan_seed2", "samples").iterdir()) == []      # the first seed's alone
    assert re.search(r"GAN, Lin et al. \(2018\) +6.3 \(0.5\) +0.982", out) and "23.8 (0.7)" in out
    Path("o/grid_vae_seed1/samples/00000002.npz").unlink()
    example("mode_coverage", *flags, "--iterations", 6, "--resume")     # the frames are those that all have
    assert read("o/summary.json")["iterations"] == 6 and read("o/summary.json")["grid"] != summary["grid"]
    with Image.open("o/grid.gif") as film:
        frames = film.n_frames
    with Image.open("o/ring.gif") as film:
        assert film.n_frames == frames + 1


def test_mode_coverage_side_by_side(cache, tmp_path, example, monkeypatch):
    """As a user starts it, but with fewer models; the classes of the program come back from its workers."""
    source = (EXAMPLES / "mode_coverage.py").read_text()
    two = 'KINDS = {name: KINDS[name] for name in ("gan", "vae")}'
    fewer = source.replace("FRAMES = 25", f"{two}\nFRAMES = 25")
    (tmp_path / "mode_coverage.py").write_text(fewer)
    monkeypatch.syspath_prepend(tmp_path)
    flags = ["--seeds", "1", "--iterations", "1", "--batch-size", "4", "--set", "latent=3"]
    environment = {**os.environ, "MINIGEN_CACHE": cache, "PYTHONWARNINGS": "error",
                   "PYTHONPATH": str(EXAMPLES.parent)}
    done = subprocess.run([sys.executable, "mode_coverage.py", "--jobs", "2", *flags],
                          env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, without_progress(done.stderr)) == (0, "")
    example("mode_coverage", *flags, "--out", "alone")
    for name in ("ring.png", "grid.gif", "summary.json", "ring_vae_seed0/metrics.jsonl"):
        assert Path("runs/mode_coverage", name).read_bytes() == Path("alone", name).read_bytes(), name
    assert read("alone/grid_gan_seed0/config.json")["settings"]["latent"] == 3
    assert list(read("alone/summary.json")["ring"]) == ["gan", "vae"]


def test_mode_coverage_of_stacked_digits(small_mnist, example, coarse):
    flags = ["--data", small_mnist, "--seeds", 1, "--batch-size", 4, "--iterations", 2, "--out", "o"]
    example.changes["StackedDigits.samples"] = 1000
    out, err = example("mode_coverage", *flags)
    summary = read("o/summary.json")
    assert list(summary) == ["seeds", "iterations", "data", "classifier_accuracy", "stacked"] and err == ""
    assert summary["data"] == "stacked small" and 0 < summary["classifier_accuracy"] <= 1
    for found in summary["stacked"].values():
        assert 1 <= found["modes"][0] <= 1000 and 0 <= found["kl"][0] <= math.log(1000)
        assert f"{found['kl'][0]:.3f}" in out
    assert re.search(r"DCGAN, Lin et al. \(2018\) +78.9 \(6.5\) +4.50", out) and "modes of 1,000" in out
    assert Path("o/stacked.png").stat().st_size > 10_000
    assert read("o/stacked_gan_seed0/config.json")["prepare"].startswith("StackedDigits.prepare")


@pytest.mark.parametrize("wrong, message", [
    (["--data", "nowhere"], "nowhere"),
    (["--set", "r1=-1"], "GAN: a number r1 in [0, inf) expected, -1 found"),
    (["--set", "sizes=3"], "'sizes' is no setting of GAN or WGAN or VAE"),
    (["--set", "rate=3"], "argument --set: 'rate' is no setting of GAN or WGAN or VAE"),
    (["--batch-size", 20_001], "--batch-size: at most 20000 expected"),
    (["--full"], "unrecognized arguments: --full"),
    (["--iterations", 0], "--iterations: at least 1 expected")])
def test_wrong_flags_of_mode_coverage(example, wrong, message):
    _, err = example("mode_coverage", *wrong, status=2)
    assert message in err and err.count("\n") == 1


@pytest.fixture(scope="module")
def small_celeba(tmp_path_factory):
    """A folder of 60 drawn faces, laid out like CelebA."""
    folder = tmp_path_factory.mktemp("celeba") / "img_align_celeba"
    folder.mkdir()
    for i, face in enumerate(datasets.faces(60, 1, side=178).train_images, 1):
        Image.fromarray(numpy.pad(face, ((20, 20), (0, 0), (0, 0)), "edge")).save(folder / f"{i:06d}.jpg")
    return folder


CELEBA = ["--iterations", 2, "--batch-size", 8, "--width", 0.02, "--jobs", 1]


def test_celeba_vaegan(small_celeba, example, coarse):
    example.changes["HELD_OUT"] = 20
    flags = [*CELEBA, "--data", small_celeba, "--out", "o", "--set", "d=0.6", "--set", "gan_weight=3"]
    out, err = example("celeba_vaegan", *flags)
    summary = read("o/summary.json")
    assert (summary["width"], summary["iterations"], summary["data"]) == (0.02, 2, str(small_celeba))
    assert err == "" and "NOT CelebA" not in out and summary["frechet_training_images"] > 0
    for name, model in (("vaegan", "VAEGAN"), ("constrained", "ConstrainedVAEGAN")):
        config = read(f"o/{name}_seed0/config.json")
        assert config["model"] == model and config["settings"]["gan_weight"] == 3
        assert (config["settings"]["architecture"], config["settings"]["width"]) == ("larsen", 0.02)
        last = json.loads(Path("o", f"{name}_seed0", "metrics.jsonl").read_text().splitlines()[-1])
        assert all(summary[name][key] == [value] for key, value in last.items()) and last["iteration"] == 2
        recall, distance = summary[name]["recall"][0], summary[name]["frechet_samples"][0]
        assert 0 <= recall <= 1 and f"{recall:.3f}" in out and distance > 0 and f"{distance:.3f}" in out
    assert [int(line.split()[-1].replace(",", "")) > 0 for line in out.splitlines()
            if re.match(r"(constrained )?VAE-GAN  ", line)] == [True, True]        # images per second
    assert read("o/constrained_seed0/config.json")["settings"]["d"] == 0.6 and "difference" not in summary
    for figure in ("figure7", "reconstructions", "interpolations", "losses"):
        assert Path("o", f"{figure}.png").stat().st_size > 10_000
    again, _ = example("celeba_vaegan", *flags, "--resume")
    assert read("o/summary.json") == summary and again.count(" -\n") == 2


def test_celeba_vaegan_compares_seed_by_seed(small_celeba, example, coarse):
    example.changes["HELD_OUT"] = 20
    out, _ = example("celeba_vaegan", *CELEBA, "--data", small_celeba, "--seeds", 2, "--set", "d=0.6")
    summary = read("runs/celeba_vaegan/summary.json")
    for name in ("frechet_samples", "frechet_reconstructions", "precision", "recall"):
        mean = numpy.mean(summary["constrained"][name]) - numpy.mean(summary["vaegan"][name])
        assert summary["difference"][name]["mean"] == pytest.approx(mean)
        assert summary["difference"][name]["low"] <= mean <= summary["difference"][name]["high"]
    low = summary["difference"]["frechet_samples"]["low"]
    assert re.search(rf"  samples: [-+.\d]+ \[{re.escape(f'{low:+.3f}')}, [-+.\d]+\]", out)


def test_runs_of_celeba_vaegan_side_by_side_end_as_one_by_one(small_celeba, example, tmp_path, monkeypatch):
    """In a copy with fewer images to measure with, which the workers import too."""
    source = (EXAMPLES / "celeba_vaegan.py").read_text()
    small = source.replace("HELD_OUT, SHOWN = 1000, 6", "HELD_OUT, SHOWN = 20, 6")
    (tmp_path / "celeba_vaegan.py").write_text(small)
    monkeypatch.syspath_prepend(tmp_path)
    flags = ["--iterations", 1, *CELEBA[2:-2], "--data", small_celeba, "--model", "constrained", "--seeds", 2,
             "--threads", 1]
    for jobs in (1, 2):
        example("celeba_vaegan", *flags, "--jobs", jobs, "--out", str(jobs))
    assert Path("1/summary.json").read_bytes() == Path("2/summary.json").read_bytes()
    assert sys.modules["celeba_vaegan"].HELD_OUT == 20


def test_celeba_vaegan_resumes_mid_epoch_bit_for_bit(small_celeba, example, coarse):
    example.changes["HELD_OUT"] = 20
    flags = [*CELEBA, "--data", small_celeba, "--model", "constrained"]     # 48 images: 6 iterations an epoch
    example("celeba_vaegan", *flags, "--out", "straight")
    with pytest.MonkeyPatch.context() as patch:
        stop_when_logging(patch, signal.SIGINT)
        _, err = example("celeba_vaegan", *flags, "--out", "stopped", status=130)
    assert "--resume goes on" in err and "Traceback" not in err
    example("celeba_vaegan", *flags, "--out", "stopped", "--resume")
    for name in ("figure7.png", "reconstructions.png", "constrained_seed0/metrics.jsonl"):
        assert Path("stopped", name).read_bytes() == Path("straight", name).read_bytes(), name
    one, other = (storage.load(Path(out, "constrained_seed0", "checkpoints", "00000002.npz"))
                  for out in ("straight", "stopped"))
    assert one.keys() == other.keys() and all((one[key] == other[key]).all() for key in one)
    assert not Path("stopped", "vaegan_seed0").exists()


def test_celeba_vaegan_without_celeba_says_so_loudly(example, monkeypatch):
    few = datasets.faces(40, 20)
    monkeypatch.setattr(datasets, "faces", lambda: few)
    example.changes["HELD_OUT"] = 20
    flags = ["--iterations", 1, "--width", 0.02, "--batch-size", 8, "--model", "vaegan", "--jobs", 1]
    out, err = example("celeba_vaegan", *flags)
    assert "This is NOT CelebA" in out and "mmlab" in out and "--data img_align_celeba.zip" in out
    assert err == ""
    assert read("runs/celeba_vaegan/summary.json")["data"] == "drawn faces"


@pytest.mark.parametrize("flags, width, batch, iterations", [
    ([], 0.125, 16, 6000), (["--full"], 1.0, 64, 25), (["--full", "--width", "0.5"], 0.5, 64, 25),
    (["--full", "--batch-size", "50", "--iterations", "7"], 1.0, 50, 7)])
def test_the_size_of_celeba_vaegan(example, monkeypatch, flags, width, batch, iterations):
    few = datasets.faces(100, 20)
    monkeypatch.setattr(datasets, "faces", lambda: few)
    monkeypatch.setattr(sys, "argv", ["celeba_vaegan.py", *flags])
    module = importlib.import_module("celeba_vaegan")
    module.load.cache_clear()
    args, _ = module.parse()
    assert (args.width, args.batch_size, args.iterations) == (width, batch, iterations)


def test_a_reader_that_ends_before_it_is_said_is_no_wrong_flag(example, tmp_path, monkeypatch):
    """cli.run ends the program then, as for all that is printed."""
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError
    few = datasets.faces(40, 20)
    monkeypatch.setattr(datasets, "faces", lambda: few)
    monkeypatch.setattr(sys, "argv", ["celeba_vaegan.py", "--batch-size", "8"])
    monkeypatch.setattr(sys, "stdout", Closed())
    with pytest.raises(BrokenPipeError):
        importlib.import_module("celeba_vaegan").parse()


@pytest.mark.parametrize("wrong, message", [
    (["--data", "."], "argument --out: a folder outside of . expected, where its figures would count as "
                      "data, runs/celeba_vaegan found"),
    (["--data", "x", "--out", "y/../x"], "argument --out: a folder outside of x expected"),
    (["--data", "nowhere"], "nowhere: no such file or folder: give img_align_celeba.zip"),
    (["--data", "empty"], "empty: at least 2 pictures"),
    (["--width", 0], "--width: a number above 0"),
    (["--batch-size", 8, "--width", 2000], "a number width in (0, 1000] expected, 2000.0 found"),
    (["--batch-size", 8, "--width", 1000], "VAEGAN: smaller networks expected"),
    (["--model", "gan"], "--model: invalid choice"),
    (["--batch-size", 49], "--batch-size: at most 48 expected"),
    (["--out", ""], "--out: [Errno 2] path: a path expected: ''"),
    (["--data="], "--data: [Errno 2] path: a path expected: ''")])
def test_wrong_flags_of_celeba_vaegan(small_celeba, example, wrong, message):
    Path("empty").mkdir()
    _, err = example("celeba_vaegan", "--data", small_celeba, *wrong, status=2)
    assert message in err and err.count("\n") == 1
