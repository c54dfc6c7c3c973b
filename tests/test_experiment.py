"""The spine of an experiment: seeds, measures, tables and the summary."""

import argparse
import dataclasses
import json
import sys

import numpy
import pytest

from minigen import experiment, models, to_host, training
from minigen.datasets import Dataset
from minigen.experiment import Experiment, Judged, spread
from minigen.metrics import entropy


@pytest.fixture
def data():
    rng = numpy.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    images = (rng.random((10, 784))[labels] + 0.1 * rng.random((200, 784))).astype("float32")
    return Dataset(images.clip(0, 1), labels, images[:50].clip(0, 1), labels[:50], image_shape=(28, 28, 1))


@pytest.fixture
def args(tmp_path):
    return argparse.Namespace(iterations=2, batch_size=8, seed=3, seeds=2, resume=False, overwrite=False,
                              checkpoint_every=None, out=tmp_path)


@pytest.fixture
def lab(args, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(experiment, "SAMPLES", 100)
    return Experiment(args, data, judged=True)


def test_the_judge_is_trained_at_once(args, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    lab = Experiment(args, data, judged=True)
    accuracy = lab.judge.accuracy(data.test_images, data.test_labels)
    line = f"classifier: {accuracy:.2%} of the test images right"
    assert capsys.readouterr().out == line + "\n" and lab.paper("1") == {}
    lab = Experiment(args, dataclasses.replace(data, name="MNIST"), judged=True)
    assert capsys.readouterr().out == line + " (the paper's: 95.4%)\n" and lab.paper("1") == {"paper": "1"}
    assert lab.results["classifier_accuracy"] == accuracy


@pytest.mark.parametrize("labels, found", [(numpy.zeros(9, int), 1), (numpy.zeros(9), None)])
def test_images_without_classes_are_not_judged(args, labels, found):
    images = numpy.zeros((9, 2, 2), "uint8")
    with pytest.raises(training.ArgumentError, match=f"^a: images of at least 2 classes .*, {found} found"):
        Experiment(args, Dataset(images, labels, images, labels, name="a"), judged=True)


def test_images_too_large_for_a_judge_are_an_error_that_an_example_reports(args, data, monkeypatch):
    monkeypatch.setattr("minigen.backend.free_memory", lambda: 1e6)
    with pytest.raises(training.ArgumentError, match="^images: Classifier: smaller networks expected"):
        Experiment(args, data, judged=True)


def test_settings_that_cannot_be_are_an_error_that_an_example_reports(args):
    assert Experiment(args).build(models.GAN, 7, sizes=(4, 3)).settings()["seed"] == 7
    for settings in ({"lr": -1.0}, {"latent": 2.5}):
        with pytest.raises(training.ArgumentError, match=f"^GAN: .* {next(iter(settings))} "):
            Experiment(args).build(models.GAN, 0, **settings)


def test_a_model_per_seed_is_trained_and_judged(lab, tmp_path):
    first, second = lab.train_seeds(models.VAE, "small", latent=5)
    assert (first.model.seed, second.model.seed, first.model.latent) == (3, 4, 5)
    assert [path.name for path in sorted(tmp_path.glob("small*"))] == ["small_seed3", "small_seed4"]
    assert first.run.config()["seed"] == 3 and first.run.config()["iterations"] == 2
    samples = first.model.sample(100, rng=0)
    assert (first.images.reshape(-1, 784) == to_host(samples)[:experiment.KEPT]).all()
    probabilities = to_host(lab.judge.predict_proba(samples))
    assert (first.probabilities == probabilities).all()
    assert (first.labels == probabilities.argmax(axis=1)).all()
    assert first.entropies == entropy.measure(probabilities) == lab.entropies(first.model)
    assert first.entropies["image_entropy"] == pytest.approx(first.image_entropies.mean(), rel=1e-6)
    assert isinstance(first, Judged) and first.image_entropies.shape == (100,)


@pytest.mark.parametrize("iterations, asked, expected", [
    (2, None, 1), (600, None, 30), (6000, None, 300), (10 ** 6, None, 1000), (600, 7, 7)])
def test_checkpoints_are_a_twentieth_of_all_apart(args, data, monkeypatch, iterations, asked, expected):
    def train(*arguments, checkpoint_every, **options):
        return checkpoint_every
    monkeypatch.setattr("minigen.training.train", train)
    args.iterations, args.checkpoint_every = iterations, asked
    assert Experiment(args, data).train(models.GAN(), "gan") == expected


def test_a_picture_that_cannot_be_written_is_named(args, tmp_path):
    def draw(path):
        raise OSError(28, "No space left on device")
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path}/figure2.png'"):
        Experiment(args).figure("figure2.png", draw)


def test_tables_are_aligned(args, capsys):
    rows = {"GAN": {"a": "1.0", "long head": "2"}, "constrained": {"a": "10.25", "long head": "3"}}
    Experiment(args).table("title", rows)
    assert capsys.readouterr().out.splitlines() == [
        "", "title",
        "                  a   long head",
        "GAN             1.0           2",
        "constrained   10.25           3"]


def test_the_summary_has_command_seeds_versions_and_seconds(lab, args, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["some example.py", "--seed", "3"])
    lab.figure("x.png", lambda path, content, title: path.write_text(content + title), "content",
               title="title")
    lab.train(models.GAN(seed=3), "gan")
    lab.finish(gan={"value": 1.5})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["command"] == "'some example.py' --seed 3" and summary["seeds"] == [3, 4]
    assert summary["versions"]["numpy"] == numpy.__version__ and summary["seconds"] >= 0
    assert summary["gan"] == {"value": 1.5}
    assert summary["samples"] == 100 and 0 < summary["classifier_accuracy"] <= 1
    assert (tmp_path / "x.png").read_text() == "contenttitle"
    assert capsys.readouterr().out.endswith(f"{tmp_path}: x.png, summary.json; run directories gan\n")


def test_an_experiment_without_a_judge(args, tmp_path):
    del args.seeds
    Experiment(args).finish("other.json", d=1)
    summary = json.loads((tmp_path / "other.json").read_text())
    assert summary["seeds"] == [3] and summary["d"] == 1 and "samples" not in summary


def test_spread():
    assert spread([1.0, 2.0, 4.0]) == "2.333 (1.528)" and spread([1.25]) == "1.250"
