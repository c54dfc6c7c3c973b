"""The spine of an experiment: its trials, tables, figures and summary."""

import argparse
import json
import sys

import numpy
import pytest

from minigen import models, threads, training
from minigen.experiment import Experiment, Variant, spread


@pytest.fixture
def args(tmp_path):
    return argparse.Namespace(iterations=2, batch_size=8, seed=3, seeds=2, set={}, resume=False,
                              overwrite=False, checkpoint_every=None, out=tmp_path)


def test_there_is_a_trial_per_model_and_seed(args):
    trials = Experiment(args).trials({"vae": models.VAE, "gan": models.GAN}, latent=5, d_lr=0.1)
    assert [trial.folder for trial in trials] == ["vae_seed3", "vae_seed4", "gan_seed3", "gan_seed4"]
    assert [trial.settings for trial in trials[1:3]] == [{"latent": 5, "seed": 4}, {"latent": 5, "seed": 3}]
    assert [(trial.group, trial.title, trial.varied) for trial in trials[1:3]] == [
        ("vae", "VAE", {}), ("gan", "GAN", {})]


def test_settings_apply_to_the_models_that_have_them(args):
    args.set, args.seeds = {"d": [2, 4.5], "lr": [0.1], "gan_weight": [1, 3]}, 1
    kinds = {"vaegan": models.VAEGAN, "constrained": models.ConstrainedVAEGAN}
    trials = Experiment(args).trials(kinds, d=9.0, reconstruction_weight=2.0)
    assert [trial.group for trial in trials] == ["vaegan_gan_weight1", "vaegan_gan_weight3", *(
        f"constrained_d{d}_gan_weight{weight}" for d in (2, 4.5) for weight in (1, 3))]
    shared = {"lr": 0.1, "reconstruction_weight": 2.0, "seed": 3}
    assert trials[1].settings == {**shared, "gan_weight": 3}
    assert trials[4].settings == {**shared, "gan_weight": 1, "d": 4.5}
    assert trials[4].varied == {"d": 4.5, "gan_weight": 1}
    assert trials[4].title == "constrained VAE-GAN, d 4.5, gan_weight 1"


def test_variants_have_settings_of_their_own_some_of_which_vary(args):
    args.set, args.seeds = {"lr": [0.1], "d": [5.0]}, 1
    kinds = {"plain": models.ConstrainedVAEGAN,
             "dual": Variant(models.ConstrainedVAEGAN, "solved", {"multiplier": "dual", "d": [3.0, 4.0]}),
             "weights": Variant(models.VAEGAN, "VAE-GAN", {"gan_weight": [1.0, 2.0], "lr": 0.7})}
    trials = Experiment(args).trials(kinds, gan_weight=9.0)
    assert [(trial.folder, trial.title) for trial in trials] == [
        ("plain_seed3", "constrained VAE-GAN"), ("dual_seed3", "solved"),
        ("weights_gan_weight1.0_seed3", "VAE-GAN, gan_weight 1.0"),
        ("weights_gan_weight2.0_seed3", "VAE-GAN, gan_weight 2.0")]
    assert trials[1].settings == {"lr": 0.1, "d": 5.0, "multiplier": "dual", "gan_weight": 9.0, "seed": 3}
    assert trials[2].settings == {"lr": 0.1, "gan_weight": 1.0, "seed": 3}
    args.set = {}
    for unknown in ({"r1": 1.0}, {"architcture": "conv"}, {"seed": 3}):
        with pytest.raises(ValueError, match=f"^Variant x: settings of VAE expected, {next(iter(unknown))}"):
            Experiment(args).trials({"x": Variant(models.VAE, "VAE", unknown)})
    assert [trial.folder for trial in Experiment(args).trials(kinds)][1:3] == ["dual_d3.0_seed3",
                                                                               "dual_d4.0_seed3"]


def test_an_example_without_seeds_names_none(args):
    del args.seeds
    assert [trial.folder for trial in Experiment(args).trials({"gan": models.GAN})] == ["gan"]


@pytest.mark.parametrize("settings, message", [
    ({"rate": [1]}, "^argument --set: 'rate' is no setting of GAN or WGAN: objective, outputs, latent, "),
    ({"seed": [1]}, "^argument --set: 'seed' is no setting of GAN or WGAN, --seed chooses it$"),
    ({"sizes": [1]}, "^argument --set: 'sizes' is no setting of GAN or WGAN: objective, "),   # it has no flag
    ({"lr": [-1.0]}, "^GAN: .* lr "), ({"latent": [2.5]}, "^GAN: .* latent "),
    ({"init": ["x"]}, "^GAN: init ")])
def test_settings_that_cannot_be_are_an_error_that_an_example_reports(args, settings, message):
    args.set = settings
    with pytest.raises(training.ArgumentError, match=message):
        Experiment(args).trials({"gan": models.GAN, "wgan": models.WGAN})


def test_nothing_is_trained_where_one_of_the_folders_has_a_run(args, tmp_path):
    (tmp_path / "gan_seed4").mkdir()
    (tmp_path / "gan_seed4" / "config.json").write_text("{}")
    with pytest.raises(training.RunError, match="gan_seed4 holds a run already"):
        Experiment(args).trials({"gan": models.GAN})
    for flag in ("resume", "overwrite"):
        args.resume = args.overwrite = False
        setattr(args, flag, True)
        assert len(Experiment(args).trials({"gan": models.GAN})) == 2


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


def test_the_results_are_one_file_and_how_they_were_made_is_another(args, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["some example.py", "--seed", "3"])
    lab = Experiment(args)
    lab.figure("x.png", lambda path, content, title: path.write_text(content + title), "content",
               title="title")
    lab.trials({"gan": models.GAN})
    lab.results = {"samples": 100}
    lab.finish(gan={"value": 1.5})
    made = json.loads((tmp_path / "command.json").read_text())
    assert made["command"] == "'some example.py' --seed 3" and made["seconds"] >= 0
    assert made["versions"]["numpy"] == numpy.__version__ and made["machine"] == threads.machine()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary == {"seeds": [3, 4], "samples": 100, "gan": {"value": 1.5}}
    assert (tmp_path / "x.png").read_text() == "contenttitle"
    assert capsys.readouterr().out == (f"\n{tmp_path}: x.png, summary.json, command.json; run directories "
                                       "gan_seed3, gan_seed4\n")


def test_many_run_directories_are_not_all_listed(args, capsys):
    args.seeds = 12
    lab = Experiment(args)
    lab.trials({"gan": models.GAN}, sizes=(4, 3))
    lab.finish()
    assert capsys.readouterr().out.endswith("; run directories gan_seed3, gan_seed4, ..., gan_seed14\n")


def test_spread():
    assert spread([1.0, 2.0, 4.0]) == "2.333 (1.528)" and spread([1.25]) == "1.250"
