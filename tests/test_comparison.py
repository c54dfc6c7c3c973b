"""Models compared: the judge, trials on worker processes, and those that fail."""

import argparse
import dataclasses
import pickle

import numpy
import pytest

from minigen import comparison, models, to_host, training, workers
from minigen.comparison import Comparison, Judged
from minigen.datasets import Dataset
from minigen.metrics import entropy, frechet, neighbours


@pytest.fixture
def args(tmp_path, small_mnist):
    return argparse.Namespace(iterations=2, batch_size=8, seed=3, seeds=2, set={}, resume=False,
                              overwrite=False, checkpoint_every=None, jobs=1, threads=None, data=small_mnist,
                              out=tmp_path)


@pytest.fixture
def lab(args, data, tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGEN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(comparison, "SAMPLES", 100)
    return Comparison(args, data)


def test_what_the_judge_is_worth_is_said_and_recorded(args, data, lab, tmp_path, capsys):
    args.seeds = 1
    accuracy = lab.judge.accuracy(data.test_images, data.test_labels)
    for name, paper in (("images", ""), ("MNIST", " (the paper's: 95.4%)")):
        args.overwrite = True
        lab = Comparison(args, dataclasses.replace(data, name=name))
        lab.train_and_judge({"gan": models.GAN})
        assert capsys.readouterr().out == f"classifier: {accuracy:.2%} of the test images right{paper}\n"
        assert lab.results == {"data": name, "samples": 100, "classifier_accuracy": accuracy,
                               "uniform_entropy": entropy.uniform_entropy(100, 10)}
    assert lab.ceiling == "log 10 = 2.303, a uniform generator's 2.257"
    assert lab.paper(1) == {"paper": "1.000"}


def test_wrong_settings_are_refused_before_the_judge_is_trained(lab, monkeypatch):
    monkeypatch.setattr(comparison.classifier, "trained", lambda *args, **options: pytest.fail("trained"))
    lab.args.set = {"lr": [-1]}
    with pytest.raises(training.ArgumentError, match="^GAN: "):
        lab.train_and_judge({"gan": models.GAN})


@pytest.mark.parametrize("labels, found", [(numpy.zeros(9, int), 1), (numpy.zeros(9), None)])
def test_images_without_classes_are_not_judged(args, labels, found):
    images = numpy.zeros((9, 2, 2), "uint8")
    with pytest.raises(training.ArgumentError, match=f"^a: images of at least 2 classes .*, {found} found"):
        Comparison(args, Dataset(images, labels, images, labels, name="a"))


def test_images_too_large_for_a_judge_are_an_error_that_an_example_reports(args, data, monkeypatch):
    monkeypatch.setattr("minigen.backend.free_memory", lambda: 1e6)
    with pytest.raises(training.ArgumentError, match="^images: Classifier: smaller networks expected"):
        Comparison(args, data).judge


def test_a_model_per_seed_is_trained_and_judged(lab, tmp_path):
    groups = lab.train_and_judge({"small": models.VAE}, latent=5)
    first, second = groups["small"]
    assert (first.model.seed, second.model.seed, first.model.latent) == (3, 4, 5)
    assert [path.name for path in sorted(tmp_path.glob("small*"))] == ["small_seed3", "small_seed4"]
    assert first.run.config()["seed"] == 3 and first.run.config()["iterations"] == 2
    samples = first.model.sample(100, rng=0)
    assert (first.images.reshape(-1, 784) == to_host(samples)[:comparison.KEPT]).all()
    probabilities = to_host(lab.judge.predict_proba(samples))
    assert (first.probabilities == probabilities).all()
    assert (first.labels == probabilities.argmax(axis=1)).all()
    assert first.entropies == entropy.measure(probabilities) == lab.entropies(first.model)
    assert first.entropies["image_entropy"] == pytest.approx(first.image_entropies.mean(), rel=1e-6)
    assert isinstance(first, Judged) and first.image_entropies.shape == (100,)


def test_entropies_are_logged_and_samples_drawn_when_asked(lab):
    lab.args.seeds = 1
    [one] = lab.train_and_judge({"gan": models.GAN}, evaluate_at=[1], sample_at=[2])["gan"]
    assert one.run.curve("mode_entropy")[0] == [1] and [i for i, _ in one.run.samples()] == [2]
    assert one.fidelity == {} and one.run.curve("d_loss")[0] == [1, 2]


def test_generated_images_are_compared_with_test_images_when_asked(lab, monkeypatch):
    monkeypatch.setattr(comparison, "COMPARED", 60)
    lab.args.seeds = 1
    [one] = lab.train_and_judge({"gan": models.GAN}, fidelity=True, log_every=1)["gan"]
    real = to_host(lab.judge.features(lab.data.test_images[:60]))
    generated = to_host(lab.judge.features(one.model.sample(100, rng=0)[:60]))
    assert one.fidelity == {**neighbours.measure(real, generated),
                            "frechet": frechet.distance(real, generated)}


def test_too_few_test_images_to_compare_with_are_refused_before_the_training(args, data):
    few = dataclasses.replace(data, test_images=data.test_images[:5], test_labels=data.test_labels[:5])
    with pytest.raises(training.ArgumentError, match="more than 5 test images to compare with expected, 5 f"):
        Comparison(args, few).train_and_judge({"gan": models.GAN}, fidelity=True)
    assert not list(args.out.glob("gan*"))


def test_another_process_loads_the_data_once(args, lab, small_mnist, mnist):
    light = pickle.dumps(lab)
    assert len(light) < 2_000_000           # the judge
    other = pickle.loads(light)
    assert pickle.loads(light) is other and other.args == args
    assert (other.data.train_images == mnist.train_images[:640]).all()
    assert all((other.judge.network.state()[key] == value).all()
               for key, value in lab.judge.network.state().items())


def fail(monkeypatch, seed, error):
    """The run with this seed fails."""
    step = models.GAN.step

    def failing(model, *arguments):
        if model.seed == seed:
            raise error
        return step(model, *arguments)
    monkeypatch.setattr(models.GAN, "step", failing)


def test_one_that_fails_does_not_take_the_others_along(lab, tmp_path, monkeypatch):
    fail(monkeypatch, 3, training.Diverged("d_loss is nan at iteration 1"))
    with pytest.raises(workers.Failed) as failed:
        lab.train_and_judge({"gan": models.GAN})
    assert str(failed.value) == ("1 of 2 runs failed, --resume does the rest:\n"
                                 f"{tmp_path}/gan_seed3: d_loss is nan at iteration 1")
    assert training.load(tmp_path / "gan_seed4").seed == 4
    monkeypatch.undo()
    monkeypatch.setattr(comparison, "SAMPLES", 100)
    lab.args.resume = True
    assert len(lab.train_and_judge({"gan": models.GAN})["gan"]) == 2


@pytest.mark.parametrize("error", [training.RunError("cannot be resumed"), ZeroDivisionError("a fault")])
def test_what_is_about_all_runs_or_a_fault_of_the_program_is_raised_as_it_is(lab, monkeypatch, error):
    def refuse(*arguments, **options):
        raise error
    monkeypatch.setattr(training, "train", refuse)
    with pytest.raises(type(error), match=str(error)):
        lab.train_and_judge({"gan": models.GAN})


def test_a_run_whose_worker_alone_was_stopped_is_one_that_failed(tmp_path):
    stopped = training.Interrupted("stopped at iteration 5 of 9", 15)
    with pytest.raises(workers.Failed, match="1 of 2 runs .*\n.*gan_seed3: stopped at iteration 5"):
        comparison._raise_failures({"gan_seed3": stopped}, 2, tmp_path)
