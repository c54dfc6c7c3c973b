"""The loop: which images each step gets, what is logged, and what is refused before anything is touched."""

import functools
import io
import json
import re
import sys
import threading
import time
import types

import numpy
import pytest
from short_runs import IMAGES, interrupt_at, newest, record, run

from minigen import Tensor, models, training
from minigen.training import loop


def test_each_step_gets_its_batches(tmp_path, monkeypatch):
    seen = []

    def step(self, images, rng):
        seen.append((images, rng.random()))
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.WGAN, "step", step)
    run(tmp_path, models.WGAN, evaluate=None, iterations=3)
    rehearsal, _, _, *steps = seen
    assert [images.shape for images, _ in steps] == [(40, 16)] * 3
    assert len({number for _, number in steps}) == 3
    assert all(any((row == image).all() for image in IMAGES) for row in steps[0][0])
    assert (rehearsal[0] == steps[0][0]).all() and rehearsal[1] == steps[0][1]


def test_batches_are_prepared_on_another_thread(tmp_path, monkeypatch):
    prepared, taken = [], []

    def prepare(images, rng):
        prepared.append((threading.current_thread().name, images, rng.random()))
        return 1 - images

    def step(self, images, rng):
        taken.append(images)
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.GAN, "step", step)
    run(tmp_path, evaluate=None, iterations=7, prepare=prepare)
    del prepared[:3], taken[:3]         # of the rehearsal
    assert len(prepared) == len(taken) == 7 and len({number for *_, number in prepared}) == 7
    for (name, before, _), after in zip(prepared, taken):
        assert name.startswith("batches") and (after == 1 - before).all()


def test_two_batches_are_prepared_ahead_of_their_use(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr("minigen.training.batches.ThreadPoolExecutor", at_once)
    prepared, at_each_step = [], []

    def prepare(images, rng):
        prepared.append(images)
        return images

    def step(self, images, rng):
        at_each_step.append(len(prepared))
        return {"loss": numpy.zeros(())}
    monkeypatch.setattr(models.GAN, "step", step)
    run(tmp_path, evaluate=None, iterations=7, prepare=prepare)
    assert at_each_step == [3] * 3 + [3 + ready for ready in (3, 4, 5, 6, 7, 7, 7)]     # rehearsed, then 7


def test_a_batch_that_cannot_be_loaded_stops_the_run_with_its_cause(tmp_path):
    failures = []

    def prepare(images, rng):
        failures.append(len(failures) + 1)
        if len(failures) == 3 + 12:     # the first three were in the rehearsal
            raise OSError("the disk is gone")
        return images

    with pytest.raises(training.LoadError,
                       match="the images of iteration 12 could not be loaded: the disk is gone") as found:
        run(tmp_path / "run", prepare=prepare)
    assert isinstance(found.value.__cause__, OSError)
    assert newest(tmp_path / "run") == 10
    assert "batches" not in " ".join(thread.name for thread in threading.enumerate())


def test_metrics_are_looked_at_once():
    """Those that were looked at are let go, or a long run would fill the memory."""
    pending = [(i, {"loss": numpy.array(float(i)), "kl": numpy.array(-1.0)}) for i in (1, 2, 3)]
    assert loop._finite(pending) == {"loss": 3.0, "kl": -1.0} and pending == []
    assert loop._finite(pending) == {}


@pytest.mark.parametrize("value", [numpy.nan, numpy.inf])
def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, monkeypatch, value):
    step, count = models.GAN.step, iter(range(100))

    def poisoned(self, *args):
        losses = step(self, *args)
        return {**losses, "g_loss": losses["g_loss"] + (value if next(count) == 15 else 0)}
    monkeypatch.setattr(models.GAN, "step", poisoned)
    with pytest.raises(training.Diverged, match=f"g_loss is {value} at iteration 13"):
        run(tmp_path)
    assert newest(tmp_path) == 10 and len(training.load(tmp_path).state()) > 0


def test_a_batch_of_another_shape_is_refused_before_anything_is_touched(tmp_path):
    with pytest.raises(training.LoadError, match=r"images \(N, 16\) of floats .* float32 \(8, 9\) found"):
        run(tmp_path / "run", prepare=lambda images, rng: images[:, :9])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", [models.VAE, models.VAEGAN, models.ConstrainedVAEGAN])
def test_a_batch_that_is_not_finite_is_refused(tmp_path, kind):
    def prepare(images, rng):
        return images * numpy.float32(numpy.nan if (images == IMAGES[3]).all(axis=1).any() else 1)
    with pytest.raises(training.LoadError, match=r"of iteration 17 .*images in \[0, 1\] expected, NaN"):
        run(tmp_path, kind, prepare=prepare)


def poison(self, *args):
    bias = self.networks["generator"].parameters()[1]
    bias.data = bias.data * numpy.nan
    return {"loss": numpy.zeros(())}


def test_a_parameter_that_is_not_finite_is_never_saved(tmp_path, monkeypatch):
    interrupt_at(monkeypatch, models.GAN, 3, lambda: monkeypatch.setattr(models.GAN, "update", poison))
    with pytest.raises(training.Diverged,
                       match="networks.generator.layers.0.bias is no longer finite at iteration 5"):
        run(tmp_path, evaluate=None, sample_at=())
    assert training.Run(tmp_path).checkpoints() == []


def test_a_model_that_is_not_finite_is_neither_measured_nor_sampled(tmp_path, monkeypatch):
    interrupt_at(monkeypatch, models.GAN, 11, lambda: monkeypatch.setattr(models.GAN, "update", poison))
    with pytest.raises(training.Diverged, match="no longer finite at iteration 12"):
        run(tmp_path, checkpoint_every=100)
    assert [i for i, _ in training.Run(tmp_path).samples()] == [1]


def test_a_step_may_log_what_the_last_did_not(tmp_path, monkeypatch):
    def update(self, images, rng):
        count.append(1)
        rare = len(count) > 3 and len(count) % 4 == 3
        return {"loss": 1.0} | ({"rare": numpy.float32(0.1)} if rare else {})
    count = []
    monkeypatch.setattr(models.GAN, "update", update)
    _, result = run(tmp_path, evaluate=None, sample_at=())  # of the 33 updates, the first three are rehearsed
    assert result.curve("rare") == ([4, 8, 12, 16, 20, 24, 28], [float(numpy.float32(0.1))] * 7)
    assert result.curve("loss")[1] == [1.0] * 11


def test_the_speed_counts_only_the_steps_of_this_call(tmp_path, monkeypatch):
    clock = iter([100.0, 104.0] * 3)
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert run(tmp_path)[1].images_per_second == 30 * 8 / 4
    assert run(tmp_path, iterations=40, resume=True)[1].images_per_second == 10 * 8 / 4
    assert run(tmp_path, iterations=40, resume=True)[1].images_per_second is None


class Once(models.GAN):
    batches_per_step = 0


@pytest.mark.parametrize("changes, message", [
    ({"iterations": 0}, "an integer iterations of at least 1 expected, 0 found"),
    ({"iterations": 1e4}, "an integer iterations of at least 1 expected, 10000.0 found"),
    ({"iterations": 10 ** 30, "evaluate_at": (), "sample_at": ()},
     "an integer iterations of at most 1000000000000 expected, 10000+ found"),
    ({"batch_size": 0}, "an integer batch_size of at least 1 expected, 0 found"),
    ({"batch_size": True}, "an integer batch_size of at least 1 expected, True found"),
    ({"log_every": numpy.int64(-4)}, "an integer log_every of at least 1 expected, .*-4.* found"),
    ({"checkpoint_every": "5"}, "an integer checkpoint_every of at least 1 expected, '5' found"),
    ({"samples": 10 ** 5000 * -1}, "an integer samples of at least 1 expected, a huge number found"),
    ({"seed": None}, "an integer seed of at least 0 expected, None found"),
    ({"seed": -1}, "an integer seed of at least 0 expected, -1 found"),
    ({"sample_at": (31,)}, "an integer sample_at of at most 30 expected, 31 found"),
    ({"evaluate_at": (0, 4)}, "an integer evaluate_at of at least 1 expected, 0 found"),
    ({"evaluate_at": 4}, "evaluate_at: a collection of iterations expected, 4 found"),
    ({"evaluate": 4}, "evaluate: a function or None expected, 4 found"),
    ({"prepare": "flip"}, "prepare: a function or None expected, 'flip' found"),
    ({"resume": "no"}, "resume: True or False expected, 'no' found"),
    ({"resume": True, "overwrite": True}, "resume and overwrite: one of them expected, both found"),
    ({"image_shape": 28}, r"image_shape: \(height, width\) or .* expected, 28 found"),
    ({"image_shape": (4, 5)}, r"image_shape: the shape of samples \(16,\) expected, \(4, 5, 1\) found"),
    ({"image_shape": None}, r"image_shape: \(height, width\) expected, to draw samples of shape \(16,\)"),
    ({"image_shape": (2, 4, 2)}, "one step of GAN with images float32 .*failed"),
    ({"model": Once()}, "an integer model.batches_per_step of at least 1 expected, 0 found"),
    ({"model": "GAN"}, "model: a Model expected, 'GAN' found"),
    ({"images": [[0.5] * 16] * 200}, "images: a NumPy array of numbers"),
    ({"images": IMAGES.astype(object)}, "images: a NumPy array of numbers"),
    ({"images": numpy.ma.masked_less(IMAGES, 0.1)}, r"images: .*\(N, ...\) without a mask, .*, masked_"),
    ({"images": (IMAGES, numpy.zeros(199))}, r"images: arrays of equal length expected, \(200, 199\) found"),
    ({"images": numpy.where(IMAGES < 0.01, numpy.nan, IMAGES)}, "images: finite numbers expected, NaN"),
    ({"images": IMAGES[:, :9]}, r"one step of GAN with images float32 \(8, 9\), tried beforehand, failed: "),
    ({"batch_size": 201}, "batch_size: one step takes 201 images, but there are only 200"),
    ({"batch_size": 41, "kind": models.WGAN}, "batch_size: one step takes 205 images")])
def test_impossible_arguments_are_refused_and_nothing_is_touched(tmp_path, changes, message):
    with pytest.raises(training.ArgumentError, match=f"^train: {message}"):
        run(tmp_path / "new", **changes)
    assert not (tmp_path / "new").exists()


def test_the_rehearsal_leaves_the_model_as_it_is(tmp_path):
    model = models.GAN(sizes=(16, 8), latent=3, outputs=2)
    before = model.state()
    with pytest.raises(training.ArgumentError, match="image_shape"):
        run(tmp_path / "new", model=model, image_shape=(9, 9))
    assert all((before[name] == array).all() for name, array in model.state().items())
    run(tmp_path / "new", model=model)
    assert model.optimizers["generator"].steps == 30


@pytest.mark.parametrize("out", [None, b"folder", "a\0b"])
def test_no_path(out):
    message = re.escape(f"train: out: the path of a folder expected, {out!r} found")
    with pytest.raises(training.ArgumentError, match=message):
        run(out)


def failing(images, rng):
    raise KeyError


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_batch_that_cannot_be_prepared_touches_nothing(tmp_path, overwrite):
    _, result = run(tmp_path, iterations=6)
    before = record(result)
    with pytest.raises(training.LoadError, match="the images of iteration 1 could not be loaded: KeyError"):
        run(tmp_path, overwrite=overwrite, resume=not overwrite, prepare=failing)
    assert record(result) == before


def test_numpy_numbers_are_numbers(tmp_path):
    n = numpy.int64
    model = models.GAN(sizes=(n(16), n(8)), latent=n(3), outputs=n(2), lr=numpy.float32(0.001))
    _, result = run(tmp_path, model=model, iterations=n(6), batch_size=n(8), seed=n(0), log_every=n(2),
                    evaluate_at=numpy.array([6]), sample_at=[n(3)],
                    evaluate=lambda model: {"a": numpy.float32(0.5), "b": numpy.array(2), "c": 3,
                                            "d": numpy.longdouble(0.25)})
    assert result.metrics()[-1].items() >= {"iteration": 6, "a": 0.5, "b": 2, "c": 3, "d": 0.25}.items()
    config = result.config()
    assert config["seed"] == 0 and config["settings"]["lr"] == float(numpy.float32(0.001))
    assert (training.load(tmp_path).sample(3, rng=0) == model.sample(3, rng=0)).all()


def test_evaluate_is_called_at_the_end_if_nothing_else_is_said(tmp_path):
    _, result = run(tmp_path, evaluate_at=())
    assert result.curve("brightness")[0] == [30]


@pytest.mark.parametrize("found, message", [
    (None, "a dict of numbers expected, None found"), ({"x": "high"}, "a number expected as x, 'high' found"),
    ({"x": [0.5]}, r"a number expected as x, \[0.5\] found"),
    ({"x": numpy.ones(3)}, r"a number expected as x, array\(\[1., 1., 1.\]\) found"),
    ({3: 0.5}, "3 cannot be the name"),
    ({"x": Tensor(numpy.ones((), "float32"))}, "a number expected as x, Tensor.* found"),
    ({"g_loss": 0.5}, "'g_loss' cannot be the name of a metric: that is one already"),
    ({"iteration": 0.5}, "'iteration' cannot be the name of a metric: that is one already")])
def test_what_evaluate_must_not_return(tmp_path, found, message):
    with pytest.raises(training.ArgumentError, match=f"train: evaluate: {message}"):
        run(tmp_path / "new", evaluate=lambda model: found)
    assert not (tmp_path / "new").exists()


def test_networks_are_trained_on_in_the_modes_that_they_had_before_evaluate(tmp_path):
    def evaluate(model):
        for network in model.networks.values():
            network.eval()
        return {"a": 1.0}
    model, _ = run(tmp_path, evaluate=evaluate, iterations=7)
    modes = [module.training for network in model.networks.values() for _, module in network.named_modules()]
    assert len(modes) > 2 and all(modes)


def test_evaluate_is_tried_before_it_could_cost_the_training(tmp_path):
    """It is called at the end only, after the last chance to correct it."""
    with pytest.raises(ZeroDivisionError):
        run(tmp_path / "new", evaluate=lambda model: 1 / 0, evaluate_at=(), checkpoint_every=100)
    assert not (tmp_path / "new").exists()


class Points(models.Model):
    """A user's own model: it learns the mean of the points of each class, by small steps."""

    title, latent = "points", 2

    def __init__(self, classes, rate=0.1):
        self.classes, self.rate = classes, rate
        self.networks = self.optimizers = {}
        self.means = numpy.zeros((classes, 2))

    def settings(self):
        return {"classes": self.classes, "rate": self.rate}

    def step(self, batch, rng):
        points, labels = batch
        for label in range(self.classes):
            self.means[label] += self.rate * (points[labels == label] - self.means[label]).sum(axis=0)
        return {"size": (self.means ** 2).sum()}

    def sample(self, n, rng=None):
        return self.means[numpy.random.default_rng(rng).integers(0, self.classes, n)]

    def state(self):
        return {"means": self.means.copy()}

    def load_state(self, state):
        self.means = state["means"].copy()


def test_a_model_that_a_user_wrote_with_points_and_labels_as_data(tmp_path):
    labels = numpy.arange(200) % 2
    points = numpy.where(labels[:, None] == 1, [3.0, 1.0], [-2.0, 5.0])
    model, result = run(tmp_path, model=Points(numpy.int64(2)), images=(points, labels), evaluate=None,
                        sample_at=(30,), image_shape=(1, 2))
    assert model.means == pytest.approx(numpy.array([[-2, 5], [3, 1]]), abs=1e-3)
    loaded = training.load(tmp_path, Points)
    assert (loaded.means == model.means).all() and loaded.rate == 0.1
    assert run(tmp_path, model=Points(2), images=(points, labels), evaluate=None, sample_at=(30,),
               image_shape=(1, 2), resume=True)[0].means.tolist() == model.means.tolist()
    with pytest.raises(training.RunError, match=r"unknown model 'Points': .*training.load\(folder, kind\)"):
        training.load(tmp_path)
    with pytest.raises(training.RunError, match="the model is a 'Points', but GAN is asked for"):
        training.load(tmp_path, models.GAN)
    for wrong in (model, int, "Points"):
        with pytest.raises(TypeError, match="load: kind: a class of models expected, .* found"):
            training.load(tmp_path, wrong)


def test_a_users_model_that_has_the_name_of_another(tmp_path):
    kind = type("GAN", (Points,), {})
    data = numpy.zeros((9, 2)), numpy.zeros(9, int)
    run(tmp_path, model=kind(2), images=data, evaluate=None, sample_at=(), iterations=2)
    with pytest.raises(training.RunError, match=r"settings of a GAN: .*: if it is a class of your own,"
                                                r" training.load\(folder, kind\) takes it$"):
        training.load(tmp_path)
    assert type(training.load(tmp_path, kind)) is kind


class Averaged(Points):
    """Its step depends on an average of which its state knows nothing."""

    average = 0.0

    def step(self, batch, rng):
        self.average = 0.9 * self.average + 0.1 * batch[0].mean()
        return super().step((batch[0] - self.average, batch[1]), rng)


class Counting(Points):
    """Its rate falls with the steps, which it counts by itself."""

    count = 0

    def step(self, batch, rng):
        self.count += 1
        self.rate = 0.1 / self.count
        return super().step(batch, rng)


class Noisy(Points):
    """It has random numbers of its own."""

    def step(self, batch, rng):
        found = super().step(batch, rng)
        self.means += self.rng.normal(size=2)
        return found

    def __init__(self, classes):
        super().__init__(classes)
        self.rng = numpy.random.default_rng(0)


class Smooth(Points):
    """Its samples come from an average of which its state knows nothing."""

    average = 0.0

    def step(self, batch, rng):
        found = super().step(batch, rng)
        self.average = 0.9 * self.average + 0.1 * self.means
        return found

    def sample(self, n, rng=None):
        return self.average[numpy.zeros(n, int)]


class Forgetful(Points):
    """It does not load what it saved."""

    def load_state(self, state):
        pass


@pytest.mark.parametrize("kind", [Averaged, Counting, Noisy, Smooth, Forgetful])
def test_a_model_that_could_not_be_resumed_is_refused(tmp_path, kind):
    images = (numpy.random.default_rng(0).normal(size=(90, 2)), numpy.zeros(90))
    with pytest.raises(training.ArgumentError,
                       match=rf"^train: model: a {kind.__name__} that depends on state\(\), images"):
        run(tmp_path / "new", model=kind(2), images=images, evaluate=None, image_shape=(1, 2))
    assert not (tmp_path / "new").exists()


def test_a_state_may_be_the_arrays_that_the_next_step_changes(tmp_path):
    """It is written at once."""
    class Live(Points):
        def state(self):
            return {"means": self.means, "rate": self.rate}

        def load_state(self, state):
            self.means, self.rate = state["means"], float(state["rate"])
    run(tmp_path, model=Live(1), images=(numpy.ones((200, 2)), numpy.zeros(200)), evaluate=None, sample_at=())
    assert newest(tmp_path) == 30


def test_a_step_may_write_into_its_batch(tmp_path):
    class Centred(Points):
        def step(self, batch, rng):
            numpy.subtract(batch[0], 1, out=batch[0])
            return super().step(batch, rng)
    images = numpy.zeros((200, 2))
    model, _ = run(tmp_path, model=Centred(1), images=(images, numpy.zeros(200)), evaluate=None, sample_at=())
    assert model.means == pytest.approx(-1, abs=1e-3) and not images.any()


def test_a_metric_may_be_a_time(tmp_path):
    class Timed(Points):
        def step(self, batch, rng):
            return {**super().step(batch, rng), "seconds": time.perf_counter()}
    points = (numpy.ones((200, 2)), numpy.zeros(200))
    run(tmp_path, model=Timed(1), images=points, evaluate=None, sample_at=())
    assert newest(tmp_path) == 30


@pytest.mark.parametrize("batch", [None, 1.0, [[0.5] * 16] * 8, numpy.array(None), numpy.float32(1),
                                   numpy.ma.masked_less(IMAGES[:8], 0.5), (IMAGES[:8], None)], ids=range(7))
def test_what_prepare_must_not_return(tmp_path, batch):
    with pytest.raises(training.LoadError,
                       match="could not be loaded: train: prepare: an array of numbers"):
        run(tmp_path / "new", prepare=lambda images, rng: batch)
    assert not (tmp_path / "new").exists()


def test_a_prepare_that_draws_numbers_of_its_own_is_refused(tmp_path):
    own = numpy.random.default_rng(0)

    def noisy(images, rng):
        return images * own.random(dtype="float32")
    with pytest.raises(training.ArgumentError,
                       match="^train: prepare: a function of the images and rng .* but .*noisy made two"):
        run(tmp_path / "new", prepare=noisy)
    assert not (tmp_path / "new").exists()


def scaled(images, rng, factor):
    return images * numpy.float32(factor)


@pytest.mark.parametrize("one, other", [
    (functools.partial(scaled, factor=1), functools.partial(scaled, factor=0.5)),
    (lambda images, rng: images, lambda images, rng: 1 - images)])
def test_another_prepare_of_the_same_name_does_not_resume(tmp_path, one, other):
    run(tmp_path, iterations=6, prepare=one)
    with pytest.raises(training.RunError, match="resumed: its prepare is .*first batch .* is asked for"):
        run(tmp_path, resume=True, prepare=other)
    run(tmp_path, resume=True, prepare=one)


@pytest.mark.parametrize("metrics, message", [
    ({"iteration": 1.0}, "'iteration' cannot be the name of a metric"),
    ({"loss": "low"}, "a number expected as loss, 'low' found"),
    (None, "a dict of numbers expected, None found")])
def test_what_a_later_step_must_not_return(tmp_path, monkeypatch, metrics, message):
    interrupt_at(monkeypatch, models.GAN, 7,
                 lambda: monkeypatch.setattr(models.GAN, "update", lambda *_: metrics))
    with pytest.raises(training.ArgumentError, match=f"^train: GAN.step: {message}"):
        run(tmp_path)
    assert newest(tmp_path) == 5


def test_what_is_not_finite_is_null_in_the_file(tmp_path):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")
    found = {"a": numpy.nan, "b": -numpy.inf, "c": numpy.float32(numpy.inf), "d": True}
    _, result = run(tmp_path, evaluate=lambda model: found)
    lines = result.metrics_path.read_text().splitlines()
    records = [json.loads(line, parse_constant=refuse) for line in lines]
    assert records[-1]["a"] is records[-1]["b"] is records[-1]["c"] is None and records[-1]["d"] is True
    assert numpy.isnan(result.curve("b")[1]).all() and len(result.curve("b")[1]) == 4


@pytest.mark.parametrize("found, message", [
    (None, "a dict of arrays expected, None found"), ({3: numpy.ones(2)}, "3 cannot be the name of an array"),
    ({"file": numpy.ones(2)}, "'file' cannot be the name"), ({"minigen.run": 1.0}, "'minigen.run' cannot be"),
    ({"w": None}, "an array of numbers expected as w, None found"),
    ({"w": "text"}, "an array of numbers expected as w, 'text' found")])
def test_states_that_cannot_be_saved_are_refused(tmp_path, found, message):
    model = Points(2)
    model.state = lambda: found
    with pytest.raises(training.ArgumentError, match=f"train: Points.state: {message}"):
        run(tmp_path / "new", model=model, images=(numpy.zeros((9, 2)), numpy.zeros(9)), evaluate=None)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("settings, message", [
    (None, "settings that JSON can hold expected: 'NoneType' object is not iterable"),
    ({"classes": lambda: 2}, "settings that JSON can hold expected: Object of type function"),
    ({"rates": {2: {1: 0.5}}}, "settings that come back from JSON as they were .*2: {1.* then .*'2': {'1'.*"),
    ({"rates": {"a": [{None: 0.5}]}}, "settings that come back from JSON as they were expected"),
    ({"classes": numpy.inf}, "settings that JSON can hold expected: Out of range")])
def test_settings_that_cannot_be_recorded_are_refused(tmp_path, settings, message):
    model = Points(2)
    model.settings = lambda: settings
    with pytest.raises(training.ArgumentError, match=f"train: model: {message}"):
        run(tmp_path / "new", model=model, images=(numpy.zeros((9, 2)), numpy.zeros(9)))
    assert not (tmp_path / "new").exists()


def test_settings_of_tuples_and_numpys_numbers_are_recorded_as_lists(tmp_path):
    model = Points(2)
    model.settings = lambda: {"rates": {"a": (numpy.float32(0.5), [numpy.arange(2)])}}
    _, result = run(tmp_path, model=model, images=(numpy.zeros((9, 2)), numpy.zeros(9)), evaluate=None,
                    sample_at=())
    assert result.config()["settings"] == {"rates": {"a": [0.5, [[0, 1]]]}}


def test_training_outside_the_main_thread(tmp_path):
    thread = threading.Thread(target=run, args=(tmp_path,))
    thread.start()
    thread.join()
    assert newest(tmp_path) == 30


def test_a_log_gets_a_line_for_every_tenth_of_the_run(tmp_path, capfd):
    run(tmp_path / "gan", iterations=40, evaluate=None)
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in lines] == [f" iteration {i} of 40" for i in range(4, 41, 4)]
    metrics = training.Run(tmp_path / "gan").metrics()[-1]
    assert lines[-1] == (f"gan: iteration 40 of 40: d_loss {metrics['d_loss']:.4g}, "
                         f"g_loss {metrics['g_loss']:.4g}")
    run(tmp_path / "gan", iterations=42, evaluate=None, resume=True)
    assert capfd.readouterr().err.startswith("gan: iteration 42 of 42: d_loss ")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_with_the_losses(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(tmp_path / "gan", evaluate=None)
    shown = sys.stderr.getvalue()
    assert "gan: " in shown and "30/30" in shown and "g_loss=" in shown and "iteration" not in shown


def test_a_notebook_gets_a_bar(tmp_path, monkeypatch):
    notebook = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    monkeypatch.setattr(sys, "stderr", notebook())
    run(tmp_path / "gan", evaluate=None)
    assert "30/30" in sys.stderr.getvalue()


def test_a_program_that_runs_notebooks_is_none(tmp_path, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    run(tmp_path / "gan", evaluate=None)
    assert "30/30" not in capfd.readouterr().err


class Full(io.StringIO):
    def write(self, text):
        raise OSError(28, "No space left on device")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [lambda: None, closed, Full], ids=["none", "closed", "full"])
def test_training_does_not_need_a_stderr(tmp_path, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    run(tmp_path)
    assert newest(tmp_path) == 30
